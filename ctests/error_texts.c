/* Each error text says what was wanted, what was found and what to do, with names and numbers.
 * Whole texts are compared, so that a change of one shows here. */
#include "samples.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <sys/un.h>

static shmslot_error error;

__attribute__((format(printf, 1, 2))) static void says(const char *format, ...)
{
    char wanted[sizeof error.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wanted, sizeof wanted, format, arguments);
    va_end(arguments);
    if (strcmp(error.text, wanted) != 0)
        check_failed("text:   %s\nwanted: %s\n", error.text, wanted);
    memset(&error, 0, sizeof error);
}

static void explain(shmslot_writer *writer, int code, size_t len, const shmslot_loan *loan)
{
    CHECK_OK(shmslot_writer_explain(writer, code, len, loan, &error));
    CHECK(error.code == code && error.os_errno == 0);
}

static void explain_to(shmslot_reader *reader, int code, const shmslot_sample *sample)
{
    CHECK_OK(shmslot_reader_explain(reader, code, sample, &error));
    CHECK(error.code == code && error.os_errno == 0);
}

/* ---- why a writer gets no slot ---- */

static void check_no_free_slot(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_writer *writer, *other;
    shmslot_reader *first, *second;
    shmslot_loan loans[4], one;
    shmslot_sample sample;
    int i, low, high;

    options.policy = SHMSLOT_POLICY_FAIL;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 0; i < 4; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, FOR_EVER, &one), SHMSLOT_E_NO_FREE_SLOT);
    explain(writer, SHMSLOT_E_NO_FREE_SLOT, 8, NULL);
    CHECK(error.numbers[0] == 4 && error.numbers[1] == 4 && error.numbers[2] == 0);
    says("4 of 4 slots are in use: 4 loaned by this writer, 0 by others, 0 unread, 0 held, 0 kept "
         "as history; the policy "
         "is FAIL, which never waits; commit or discard a loan first");

    first = join(segment, 0);
    second = join(segment, 0);
    low = shmslot_reader_index(first) < shmslot_reader_index(second) ? shmslot_reader_index(first)
                                                                     : shmslot_reader_index(second);
    high = shmslot_reader_index(first) + shmslot_reader_index(second) - low;
    for (i = 0; i < 2; i++) CHECK_OK(shmslot_slot_commit(writer, &loans[i], 8, NULL));
    CHECK_OK(shmslot_slot_read(first, &sample));
    other = open_writer(segment);
    CHECK_CODE(shmslot_slot_reserve(other, 8, AT_ONCE, &one), SHMSLOT_E_NO_FREE_SLOT);
    explain(other, SHMSLOT_E_NO_FREE_SLOT, 8, NULL);
    says("4 of 4 slots are in use: 0 loaned by this writer, 2 by others, 1 unread, 1 held, 0 kept "
         "as history; readers %d "
         "and %d have not read or marked theirs; the policy is FAIL, which never waits; mark "
         "samples sooner, add slots, or "
         "choose another policy",
         low, high);
    shmslot_reader_leave(second);
    explain(other, SHMSLOT_E_NO_FREE_SLOT, 8, NULL);
    says("4 of 4 slots are in use: 0 loaned by this writer, 2 by others, 1 unread, 1 held, 0 kept "
         "as history; reader %d "
         "has not read or marked its samples; the policy is FAIL, which never waits; mark samples "
         "sooner, add slots, or "
         "choose another policy",
         shmslot_reader_index(first));
    shmslot_reader_leave(first);
    CHECK_OK(shmslot_slot_mark(first, &sample));
    shmslot_writer_close(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_limits_of_a_writer(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_loan loan, one;
    char bytes[9] = {0};
    options.max_loans = 1;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    CHECK_CODE(shmslot_slot_write(writer, bytes, sizeof bytes, AT_ONCE, NULL), SHMSLOT_E_TOO_LARGE);
    explain(writer, SHMSLOT_E_TOO_LARGE, sizeof bytes, NULL);
    CHECK(error.numbers[0] == 9 && error.numbers[1] == 8);
    says("the payload has 9 bytes, and the segment takes at most 8; split it, or create the "
         "segment with a larger "
         "max_payload");
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &one), SHMSLOT_E_LOAN_LIMIT);
    explain(writer, SHMSLOT_E_LOAN_LIMIT, 8, NULL);
    CHECK(error.numbers[0] == 1 && error.numbers[1] == 1);
    says("this writer has 1 loans, and max_loans is 1; commit or discard one first");
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_stale(void)
{
    static const char way_out[] = "use each loan once, with the writer that gave it out";
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = make_anonymous(&options), *elsewhere = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment), *other = open_writer(segment),
                   *far = open_writer(elsewhere);
    shmslot_loan loan, never;
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_commit(other, &loan, 8, NULL), SHMSLOT_E_STALE);
    explain(other, SHMSLOT_E_STALE, 0, &loan);
    says("another writer has this loan; %s", way_out);
    CHECK_CODE(shmslot_slot_commit(far, &loan, 8, NULL), SHMSLOT_E_STALE);
    explain(far, SHMSLOT_E_STALE, 0, &loan);
    says("the loan is of another segment, or was never given out; %s", way_out);
    never = loan;
    never.token += UINT64_C(1) << 24;
    CHECK_CODE(shmslot_slot_commit(writer, &never, 8, NULL), SHMSLOT_E_STALE);
    explain(writer, SHMSLOT_E_STALE, 0, &never);
    says("this loan was never given out; %s", way_out);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, NULL), SHMSLOT_E_STALE);
    explain(writer, SHMSLOT_E_STALE, 0, &loan);
    says("this loan has ended: it was committed or discarded; %s", way_out);
    shmslot_writer_close(writer);
    shmslot_writer_close(other);
    shmslot_writer_close(far);
    shmslot_segment_close(segment);
    shmslot_segment_close(elsewhere);
}

/* ---- names, and what stands there ---- */

static char name[64], path[128];

static int attach_error(const char *where, const shmslot_attach_options *options)
{
    shmslot_segment *segment = NULL;
    return shmslot_segment_attach(where, options, &segment, &error);
}

static int create_error(const shmslot_options *options)
{
    shmslot_segment *segment = NULL;
    return shmslot_segment_create(name, options, &segment, &error);
}

static void check_names(void)
{
    shmslot_segment *segment = NULL;
    shmslot_channel *channel = NULL;
    int fd;
    CHECK_CODE(attach_error(name, NULL), SHMSLOT_E_NOT_FOUND);
    says("\"%s\": nothing has this name (errno 2: No such file or directory); create it first, or "
         "check the name and its "
         "directory",
         path);
    CHECK_CODE(shmslot_segment_unlink(name, &error), SHMSLOT_E_NOT_FOUND);
    says("\"%s\": nothing has this name (errno 2: No such file or directory); create it first, or "
         "check the name and its "
         "directory",
         path);
    CHECK_CODE(shmslot_segment_attach_wait(name, NULL, AT_ONCE, &segment, &error), SHMSLOT_E_AGAIN);
    says("\"%s\": no segment has this name yet; wait with a timeout, or try again later", path);
    CHECK_CODE(shmslot_segment_attach_wait(name, NULL, MILLISECOND, &segment, &error),
               SHMSLOT_E_TIMEOUT);
    says("\"%s\": no segment has this name yet; wait longer, or find out what the other side is "
         "doing",
         path);
    CHECK_CODE(attach_error("a/b", NULL), SHMSLOT_E_BAD_NAME);
    says("a relative name contains '/'; use 1 to 200 bytes of UTF-8 without '/' and NUL, or an "
         "absolute path");

    CHECK_CODE(attach_error(CHECK_SHM_DIR, NULL), SHMSLOT_E_NOT_A_FILE);
    says("\"%s\": it is a directory, not a regular file (errno 21: Is a directory); check the path",
         CHECK_SHM_DIR);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_CODE(attach_error(name, NULL), SHMSLOT_E_NOT_A_FILE);
    says("\"%s\": it is a pipe or FIFO, not a regular file; check the path", path);
    CHECK(unlink(path) == 0);
    CHECK_CODE(attach_error("/dev/null", NULL), SHMSLOT_E_NOT_A_FILE);
    says("\"/dev/null\": it is a device, not a regular file; check the path");
    {
        struct sockaddr_un address;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        memset(&address, 0, sizeof address);
        address.sun_family = AF_UNIX;
        CHECK(strlen(path) < sizeof address.sun_path);
        memcpy(address.sun_path, path, strlen(path));
        CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
              close(fd) == 0);
    }
    CHECK_CODE(attach_error(name, NULL), SHMSLOT_E_NOT_A_FILE);
    says("\"%s\": it is a socket, not a regular file (errno 6: No such device or address); check "
         "the path",
         path);
    CHECK_CODE(shmslot_channel_connect(path, 0, AT_ONCE, &channel, &error), SHMSLOT_E_NOT_FOUND);
    says("nobody listens at \"%s\"; start the listener first, or check the name", path);
    CHECK(unlink(path) == 0);
    CHECK_CODE(shmslot_channel_connect(path, 0, AT_ONCE, &channel, &error), SHMSLOT_E_NOT_FOUND);
    says("nobody listens at \"%s\"; start the listener first, or check the name", path);
    CHECK_CODE(shmslot_channel_connect("name", 0, AT_ONCE, &channel, &error), SHMSLOT_E_BAD_NAME);
    says("\"name\", of 4 bytes, cannot name a channel; use an absolute path, or '@' and more, of "
         "at most 107 bytes");
    CHECK_CODE(shmslot_channel_pair(1U << 30, &channel, &channel, &error), SHMSLOT_E_BAD_OPTIONS);
    CHECK(error.numbers[0] == 1U << 30);
    says("flags has the unknown bits 0x40000000; use the SHMSLOT_FLAG_ constants that the comment "
         "of the call names");

    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "text", 4) == 4 && close(fd) == 0);
    CHECK_CODE(attach_error(name, NULL), SHMSLOT_E_NOT_A_SEGMENT);
    says("\"%s\": the file is not a shmslot segment; choose another name, or remove the file",
         path);
    CHECK_CODE(create_error(NULL), SHMSLOT_E_NOT_A_SEGMENT);
    says("\"%s\": the file is not a shmslot segment; choose another name, or remove the file",
         path);
    CHECK(truncate(path, 0) == 0);
    CHECK_CODE(attach_error(name, NULL), SHMSLOT_E_EMPTY);
    says("\"%s\": the file is empty: its segment was truncated, or never made; remove the file, "
         "then create the segment",
         path);
    CHECK(unlink(path) == 0);

}

static void check_what_a_segment_is(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_attach_options attaching = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL, *other = NULL;
    uint32_t version = 7;
    int fd;
    options.type_name = "sensor::Pose";
    options.type_hash[15] = 1;
    CHECK_OK(shmslot_segment_create(name, &options, &segment, NULL));
    CHECK_CODE(create_error(NULL), SHMSLOT_E_EXISTS);
    says("\"%s\": a live segment or a listener has this name; attach to it, use open, or choose "
         "another name",
         path);
    attaching.type_name = "sensor::Scan";
    attaching.type_hash[15] = 2;
    CHECK_CODE(attach_error(name, &attaching), SHMSLOT_E_TYPE_MISMATCH);
    says("\"%s\": its type is \"sensor::Pose\", hash 00000000000000000000000000000001, and not "
         "\"sensor::Scan\", hash "
         "00000000000000000000000000000002; build both sides from one type definition, or attach "
         "without a type to inspect "
         "the segment",
         path);
    options.slot_count = 9;
    CHECK_CODE(shmslot_segment_open(name, &options, &other, &error), SHMSLOT_E_OPTIONS_MISMATCH);
    says("\"%s\": slot_count: 9 wanted, 4 found; ask for what it has or leave the field at 0, "
         "unlink it and create it "
         "anew, or use SHMSLOT_FLAG_ANY_GEOMETRY",
         path);

    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, &version, sizeof version, 8) == sizeof version && close(fd) == 0);
    CHECK_CODE(attach_error(name, NULL), SHMSLOT_E_LAYOUT_VERSION);
    CHECK(error.numbers[0] == 2 && error.numbers[1] == 7);
    says("\"%s\": this library has layout version 2, the segment version 7; use one version of "
         "shmslot on both sides; to "
         "replace the segment, end its users, then create it with SHMSLOT_ORPHANED_REPLACE or "
         "unlink it",
         path);
    shmslot_segment_close(segment);
    CHECK(unlink(path) == 0);
}

static void check_options(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_attach_options attaching = SHMSLOT_ATTACH_OPTIONS_INIT;
    options.slot_count = (1U << 24) + 1;
    CHECK_CODE(create_error(&options), SHMSLOT_E_BAD_OPTIONS);
    says("slot_count is 16777217, and not from 1 to 16777216; start from SHMSLOT_OPTIONS_INIT, and "
         "change only what you "
         "need");
    options.slot_count = 4;
    options.struct_size = 4;
    CHECK_CODE(create_error(&options), SHMSLOT_E_BAD_OPTIONS);
    CHECK(error.numbers[0] == 4 && error.numbers[1] == sizeof options);
    says("struct_size is 4, and this library knows %zu bytes; start from SHMSLOT_OPTIONS_INIT, and "
         "change only what you "
         "need",
         sizeof options);
    attaching.flags = 1U << 31;
    CHECK_CODE(attach_error(name, &attaching), SHMSLOT_E_BAD_OPTIONS);
    says("flags has the unknown bits 0x80000000; use the SHMSLOT_FLAG_ constants that the comment "
         "of the call names");
}

static void check_memory(void)
{
    shmslot_options options = options_of(1U << 24, UINT64_C(1) << 32);
    shmslot_segment *segment = NULL;
    char wanted[64];
    CHECK_CODE(shmslot_segment_create_anonymous(&options, &segment, &error), SHMSLOT_E_NO_MEMORY);
    snprintf(wanted, sizeof wanted,
             "%" PRIu64 " bytes are needed, and the machine has %" PRIu64 ";", error.numbers[0],
             error.numbers[1]);
    CHECK(error.numbers[0] > options.slot_capacity &&
          strncmp(error.text, wanted, strlen(wanted)) == 0);
    CHECK_CODE(create_error(&options), SHMSLOT_E_NO_MEMORY);
    says("\"%s\": %" PRIu64 " bytes are needed, and the file system has %" PRIu64
         " free (errno 28: No space left on "
         "device); free some, ask for fewer or smaller slots, or make it larger (a container's "
         "/dev/shm often has 64 MB)",
         path, error.numbers[0], error.numbers[1]);
}

static void check_readers_to_wait_for(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    CHECK_CODE(shmslot_wait_readers(writer, 2, MILLISECOND, &error), SHMSLOT_E_TIMEOUT);
    says("0 of 2 readers have joined; wait longer, or find out what the other side is doing");
    CHECK_CODE(shmslot_wait_readers(writer, 16, MILLISECOND, &error), SHMSLOT_E_INVALID);
    says("16 readers can never join: max_readers is 15; wait for fewer, or create the segment with "
         "a larger max_readers");
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* What a mark refuses. */
static void check_stale_samples(void)
{
    static const char way_out[] = "mark each sample once, with the reader that gave it out";
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = make_anonymous(&options), *elsewhere = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0), *other = join(segment, 0),
                   *far = join(elsewhere, 0);
    shmslot_sample first, second, never;
    (void)put(writer, 1);
    (void)put(writer, 2);
    first = hold(reader);
    CHECK_CODE(shmslot_slot_mark(far, &first), SHMSLOT_E_STALE);
    explain_to(far, SHMSLOT_E_STALE, &first);
    says("the sample is of another segment, or was never given out; %s", way_out);
    CHECK_CODE(shmslot_slot_mark(other, &first), SHMSLOT_E_STALE);
    explain_to(other, SHMSLOT_E_STALE, &first);
    CHECK(error.numbers[0] == 1 && error.numbers[1] == 1);
    says("this reader has not read sample 1 yet; %s", way_out);
    CHECK_OK(shmslot_slot_mark(reader, &first));
    CHECK_CODE(shmslot_slot_mark(reader, &first), SHMSLOT_E_STALE);
    explain_to(reader, SHMSLOT_E_STALE, &first);
    CHECK(error.numbers[0] == 1 && error.numbers[1] == 2);
    says("this reader does not hold sample 1: it has marked it, or another reader got it; %s",
         way_out);
    second = hold(reader);
    CHECK_CODE(shmslot_slot_mark(other, &second), SHMSLOT_E_STALE);
    never = second;
    never.sequence = 3;
    CHECK_CODE(shmslot_slot_mark(reader, &never), SHMSLOT_E_STALE);
    explain_to(reader, SHMSLOT_E_STALE, &never);
    says("no sample 3 was committed yet; %s", way_out);
    CHECK_OK(shmslot_slot_mark(reader, &second));
    shmslot_reader_leave(far);
    shmslot_reader_leave(other);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(elsewhere);
    shmslot_segment_close(segment);
}

static void check_limit_of_a_reader(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_sample sample;
    options.max_held = 1;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    (void)put(writer, 1);
    (void)put(writer, 2);
    sample = hold(reader);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_HELD_LIMIT);
    explain_to(reader, SHMSLOT_E_HELD_LIMIT, NULL);
    CHECK(error.numbers[0] == 1 && error.numbers[1] == 1);
    says("this reader holds 1 samples, and max_held is 1; mark one first");
    explain_to(reader, SHMSLOT_E_AGAIN, NULL);
    CHECK_CODE(shmslot_reader_explain(reader, 7, NULL, &error), SHMSLOT_E_INVALID);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_expelled(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_attach_options looking = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = make_anonymous(&options), *observer = NULL;
    shmslot_reader *reader = join(segment, 0);
    const uint32_t index = (uint32_t)shmslot_reader_index(reader);
    CHECK_CODE(shmslot_segment_expel(segment, index, 2, &error), SHMSLOT_E_NOT_FOUND);
    CHECK(error.numbers[0] == index && error.numbers[1] == 2);
    says("reader %u of generation 2 is not joined: it has left, or its process died; list the "
         "readers again",
         index);
    CHECK_CODE(shmslot_segment_expel(segment, 15, 1, &error), SHMSLOT_E_BAD_INDEX);
    says("there is no reader 15: max_readers is 15; use an index that shmslot_segment_readers "
         "lists");
    looking.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), &looking, &observer, NULL));
    CHECK_CODE(shmslot_segment_expel(observer, index, 1, &error), SHMSLOT_E_NOT_SUPPORTED);
    says("an observer can change nothing; attach without SHMSLOT_FLAG_OBSERVER");
    shmslot_segment_close(observer);
    CHECK_OK(shmslot_segment_expel(segment, index, 1, &error));
    CHECK(strcmp(shmslot_strerror(SHMSLOT_E_EXPELLED),
                 "this reader was expelled: another process ended its membership; mark what it "
                 "holds, leave, and join anew if it should read on") == 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* Of a long path the end is shown, so that there is room for the rest. */
static void check_long_names(void)
{
    char longest[4000];
    size_t length = strlen(CHECK_SHM_DIR), i;
    memcpy(longest, CHECK_SHM_DIR, length);
    for (i = length; i + 1 < sizeof longest; i++) longest[i] = (i - length) % 201 == 0 ? '/' : 'x';
    longest[i - 1] = 'y';
    longest[i] = '\0';
    CHECK_CODE(attach_error(longest, NULL), SHMSLOT_E_NOT_FOUND);
    says("\"...%s\": nothing has this name (errno 2: No such file or directory); create it first, "
         "or check the name and "
         "its directory",
         longest + strlen(longest) - 200);
}

CHECK_MAIN()
{
    snprintf(name, sizeof name, "ctest-texts-%d", (int)getpid());
    snprintf(path, sizeof path, "%s/shmslot.%s", CHECK_SHM_DIR, name);
    cleanup_path(path);
    RUN(check_names());
    RUN(check_what_a_segment_is());
    RUN(check_options());
    RUN(check_memory());
    RUN(check_readers_to_wait_for());
    RUN(check_stale_samples());
    RUN(check_limit_of_a_reader());
    RUN(check_expelled());
    RUN(check_long_names());
    RUN(check_no_free_slot());
    RUN(check_limits_of_a_writer());
    RUN(check_stale());
}
