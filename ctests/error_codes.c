/* One table of all error codes: each is provoked once, or says why no test can provoke it. Each has
 * its own text. */
/* not under memcheck: it takes every descriptor away from a child, also the tool's */
/* not under aarch64: the emulator limits no memory, and loses no descriptors on the way */
#include "samples.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

static char directory[128];

/* ---- one function a code: the call that must return it ---- */

static int get_invalid(void)
{
    return shmslot_segment_attach(NULL, NULL, NULL, NULL);
}

static int get_exists(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "codes"), &options),
                    *other = NULL;
    int result = shmslot_segment_create(name, &options, &other, NULL);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    return result;
}

static int get_not_found(void)
{
    return shmslot_segment_unlink("ctest-nobody-made-this-one", NULL);
}

static void write_file(const char *path, const void *bytes, size_t size, mode_t mode)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    CHECK(close(fd) == 0);
}

/* Attach to a segment of which one byte was changed or some were cut off. */
static int attach_to_changed(long at, unsigned char change, mode_t mode)
{
    char path[256];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment =
        make_named(own_path(path, sizeof path, directory, "changed"), &options);
    int fd = open(path, O_RDWR | O_CLOEXEC), result;
    unsigned char byte;
    shmslot_segment_close(segment);
    segment = NULL;
    CHECK(fd >= 0);
    if (at < 0) {
        CHECK(ftruncate(fd, -at) == 0);
    } else {
        CHECK(pread(fd, &byte, 1, at) == 1);
        byte = byte ^ change;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
    }
    CHECK(fchmod(fd, mode) == 0);
    result = shmslot_segment_attach(path, NULL, &segment, NULL);
    CHECK(segment == NULL);
    CHECK(close(fd) == 0);
    CHECK(unlink(path) == 0);
    return result;
}

static int get_permission(void)
{
    return attach_to_changed(0, 0, 0666);
}

static int get_not_a_segment(void)
{
    return attach_to_changed(0, 0xFF, 0600);
}

static int get_layout_version(void)
{
    return attach_to_changed(8, 0x40, 0600);
}

static int get_corrupt(void)
{
    return attach_to_changed(64, 0x40, 0600); /* slot_count */
}

static int get_truncated(void)
{
    return attach_to_changed(-4096, 0, 0600);
}

static int get_empty(void)
{
    char path[256];
    shmslot_segment *segment = NULL;
    int result;
    write_file(own_path(path, sizeof path, directory, "empty"), "", 0, 0600);
    result = shmslot_segment_attach(path, NULL, &segment, NULL);
    CHECK(unlink(path) == 0);
    return result;
}

static int get_not_a_file(void)
{
    shmslot_segment *segment = NULL;
    return shmslot_segment_attach(directory, NULL, &segment, NULL);
}

static int get_not_sealed(void)
{
    shmslot_segment *segment = NULL;
    unsigned char bytes[4096] = {0};
    int fd = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING), result;
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes);
    result = shmslot_segment_attach_fd(fd, NULL, &segment, NULL);
    CHECK(close(fd) == 0);
    return result;
}

static int get_bad_name(void)
{
    return shmslot_segment_unlink("a/b", NULL);
}

static int get_bad_options(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = NULL;
    options.region_count = 64;
    options.max_payload = 1 << 20;
    return shmslot_segment_create_anonymous(&options, &segment, NULL);
}

static int get_type_mismatch(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_attach_options wanted = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment, *other = NULL;
    int result;
    options.type_hash[0] = 1;
    wanted.type_hash[0] = 2;
    segment = make_named(unique_name(name, sizeof name, "codes"), &options);
    result = shmslot_segment_attach(name, &wanted, &other, NULL);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    return result;
}

static int get_no_participant_slot(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment, *other = NULL;
    int result;
    options.max_participants = 1;
    segment = make_named(unique_name(name, sizeof name, "codes"), &options);
    result = shmslot_segment_attach(name, NULL, &other, NULL);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    return result;
}

static int get_descriptor_lost(void)
{
    shmslot_segment *segment = make_anonymous(NULL);
    int result;
    CHECK(close(shmslot_segment_fd(segment)) == 0);
    result = shmslot_segment_fd(segment);
    shmslot_segment_close(segment);
    return result;
}

static int in_child_with_few_descriptors(int link, void *argument)
{
    struct rlimit none;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    int result;
    (void)link;
    (void)argument;
    none.rlim_cur = none.rlim_max = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    memset(&detail, 0, sizeof detail);
    result = shmslot_segment_create_anonymous(NULL, &segment, &detail);
    CHECK(detail.code == result);
    CHECK(detail.os_errno == EMFILE);
    return -result;
}

static int get_sys(void)
{
    return -run_child(in_child_with_few_descriptors, NULL);
}

static int in_child_with_little_memory(int link, void *argument)
{
    struct rlimit little;
    shmslot_options options = options_of(64, UINT64_C(1) << 20);
    shmslot_segment *segment = NULL;
    unsigned long pages = 0;
    FILE *usage = fopen("/proc/self/statm", "re");
    (void)link;
    (void)argument;
    CHECK(usage != NULL);
    CHECK(fscanf(usage, "%lu", &pages) == 1);
    CHECK(fclose(usage) == 0);
    little.rlim_cur = little.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (16u << 20);
    CHECK(setrlimit(RLIMIT_AS, &little) == 0);
    return -shmslot_segment_create_anonymous(&options, &segment, NULL);
}

static int get_no_memory(void)
{
    return -run_child(in_child_with_little_memory, NULL);
}

/* Calls on a small segment with a writer and a reader. */
struct parts {
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
};

static int with_parts(int (*call)(struct parts *parts), uint32_t flags)
{
    shmslot_options options = options_of(2, 8);
    struct parts parts;
    int result;
    options.max_readers = 1;
    options.max_loans = 1;
    options.flags = flags;
    parts.segment = make_anonymous(&options);
    parts.writer = open_writer(parts.segment);
    parts.reader = join(parts.segment, 0);
    result = call(&parts);
    shmslot_reader_leave(parts.reader);
    shmslot_writer_close(parts.writer);
    shmslot_segment_close(parts.segment);
    return result;
}

static int call_again(struct parts *parts)
{
    shmslot_sample sample;
    return shmslot_slot_read(parts->reader, &sample);
}

static int call_timeout(struct parts *parts)
{
    return shmslot_wait(parts->reader, MILLISECOND);
}

static int call_interrupted(struct parts *parts)
{
    CHECK_OK(shmslot_reader_interrupt(parts->reader));
    return shmslot_wait(parts->reader, FOR_EVER);
}

static int call_no_free_slot(struct parts *parts)
{
    (void)put(parts->writer, 1);
    (void)put(parts->writer, 2);
    return shmslot_slot_write(parts->writer, "x", 1, AT_ONCE, NULL);
}

static int call_too_large(struct parts *parts)
{
    return shmslot_slot_write(parts->writer, "123456789", 9, AT_ONCE, NULL);
}

static int call_stale(struct parts *parts)
{
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(parts->writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(parts->writer, &loan));
    return shmslot_slot_commit(parts->writer, &loan, 8, NULL);
}

static int call_no_reader_slot(struct parts *parts)
{
    shmslot_reader *second = NULL;
    return shmslot_reader_join(parts->segment, 0, &second, NULL);
}

static int call_bad_timeout(struct parts *parts)
{
    return shmslot_wait(parts->reader, -2);
}

static int call_bad_index(struct parts *parts)
{
    return shmslot_ref_mark_reader_disconnected(parts->segment, 63);
}

static int call_bad_length(struct parts *parts)
{
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(parts->writer, 4, AT_ONCE, &loan));
    return shmslot_slot_commit(parts->writer, &loan, 5, NULL);
}

static int call_writer_exists(struct parts *parts)
{
    shmslot_writer *second = NULL;
    return shmslot_writer_open(parts->segment, &second, NULL);
}

static int call_held(struct parts *parts)
{
    shmslot_sample sample;
    int result;
    (void)put(parts->writer, 1);
    CHECK_OK(shmslot_slot_peek_latest(parts->reader, &sample));
    CHECK_CODE(shmslot_slot_peek_latest(parts->reader, &sample), SHMSLOT_E_HELD);
    CHECK_OK(shmslot_slot_mark(parts->reader, &sample));
    CHECK_OK(shmslot_slot_peek_latest(parts->reader, &sample));
    result = shmslot_slot_peek_latest(parts->reader, &sample);
    /* held, it would keep the reader's memory after its leave */
    CHECK_OK(shmslot_slot_mark(parts->reader, &sample));
    return result;
}

static int call_loan_limit(struct parts *parts)
{
    shmslot_loan first, second;
    CHECK_OK(shmslot_slot_reserve(parts->writer, 4, AT_ONCE, &first));
    return shmslot_slot_reserve(parts->writer, 4, AT_ONCE, &second);
}

static int get_held_limit(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    shmslot_sample first, second;
    int result;
    options.max_held = 1;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    (void)put(writer, 1);
    (void)put(writer, 2);
    first = hold(reader);
    result = shmslot_slot_read(reader, &second);
    CHECK_OK(shmslot_slot_mark(reader, &first));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return result;
}

#define PART(name) \
    static int get_##name(void) { return with_parts(call_##name, 0); }
PART(again)
PART(timeout)
PART(interrupted)
PART(no_free_slot)
PART(too_large)
PART(stale)
PART(no_reader_slot)
PART(bad_timeout)
PART(bad_index)
PART(bad_length)
PART(held)
PART(loan_limit)

static int ask_for_info(int link, void *segment)
{
    shmslot_info info;
    (void)link;
    return -shmslot_segment_info(segment, &info, sizeof info);
}

static int get_forked(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_anonymous(&options);
    int result = -run_child(ask_for_info, segment);
    shmslot_segment_close(segment);
    return result;
}

static int attach_and_say(int link, void *name)
{
    (void)attach(name);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static int get_peer_dead(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "codes"), &options);
    shmslot_reader *reader = join(segment, 0);
    child other = start_child(attach_and_say, name);
    int result;
    hear(other.link);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_AGAIN);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
    result = shmslot_wait(reader, FOR_EVER);
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_AGAIN); /* it is reported once */
    shmslot_reader_leave(reader);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    return result;
}

static int get_retired(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "codes"), &options);
    shmslot_reader *reader = join(segment, 0);
    int result;
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_RETIRED));
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    result = shmslot_wait(reader, AT_ONCE);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return result;
}

static int get_expelled(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    int result;
    CHECK_OK(shmslot_segment_expel(segment, (uint32_t)shmslot_reader_index(reader), 1, NULL));
    result = shmslot_slot_read(reader, &sample);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return result;
}

static int call_no_writers(struct parts *parts)
{
    CHECK_OK(shmslot_reader_end_waits(parts->reader, SHMSLOT_END_NO_WRITERS));
    CHECK_CODE(shmslot_wait(parts->reader, AT_ONCE), SHMSLOT_E_AGAIN);
    (void)put(parts->writer, 1);
    shmslot_writer_close(parts->writer);
    parts->writer = NULL;
    CHECK_OK(shmslot_wait(parts->reader, FOR_EVER)); /* existing samples come first */
    CHECK_U64(take(parts->reader), 1);
    return shmslot_wait(parts->reader, FOR_EVER);
}

static int get_no_writers(void)
{
    return with_parts(call_no_writers, 0);
}

static int get_writer_exists(void)
{
    return with_parts(call_writer_exists, SHMSLOT_FLAG_SINGLE_WRITER);
}

static int get_not_supported(void)
{
    shmslot_segment *segment = NULL;
    int result;
    CHECK_OK(shmslot_segment_create_local(NULL, &segment, NULL));
    result = shmslot_segment_fd(segment);
    shmslot_segment_close(segment);
    return result;
}

/* Both ends of a channel, a lease at one and attachments at the other. */
static int with_region(uint32_t wrong_id, uint64_t offset, uint64_t len, int broken)
{
    shmslot_channel *near = NULL, *far = NULL;
    shmslot_registry *registry = NULL;
    shmslot_attachments *attachments = NULL;
    shmslot_lease lease;
    shmslot_mapped mapped;
    int result;
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    CHECK_OK(shmslot_registry_add(registry, near, AT_ONCE, NULL));
    CHECK_OK(shmslot_attachments_create(far, 0, &attachments, NULL));
    CHECK_OK(shmslot_region_alloc(registry, 8, AT_ONCE, &lease, NULL));
    CHECK_OK(shmslot_attachments_resolve(attachments, lease.map_id, lease.generation, 0, 8, &mapped,
                                         NULL));
    CHECK_OK(shmslot_attachments_release(attachments, &mapped));
    if (broken) {
        CHECK_OK(shmslot_region_release(registry, &lease));
        shmslot_registry_close(registry);
        shmslot_channel_close(near);
        registry = NULL;
        near = NULL;
    }
    result = shmslot_attachments_resolve(attachments, lease.map_id + wrong_id, lease.generation,
                                         offset, len, &mapped, NULL);
    if (!broken) CHECK_OK(shmslot_region_release(registry, &lease));
    shmslot_attachments_close(attachments);
    shmslot_registry_close(registry);
    shmslot_channel_close(near);
    shmslot_channel_close(far);
    return result;
}

static int wait_for_many(struct parts *parts)
{
    shmslot_reader *readers[1025];
    size_t i, index;
    for (i = 0; i < 1025; i++) readers[i] = parts->reader;
    return shmslot_wait_any(readers, 1025, AT_ONCE, &index);
}

static int get_too_many(void)
{
    return with_parts(wait_for_many, 0);
}

static int get_unknown_mapping(void)
{
    return with_region(1, 0, 8, 0);
}

static int get_out_of_bounds(void)
{
    return with_region(0, UINT64_C(1) << 20, 1, 0);
}

static int get_overflow(void)
{
    return with_region(0, UINT64_MAX, 1, 0);
}

static int get_channel_broken(void)
{
    return with_region(1, 0, 8, 1);
}

/* As a process that was stopped in the middle of replacing the segment. */
static int get_name_busy(void)
{
    char name[64], path[256];
    shmslot_options options = options_of(2, 8);
    struct flock lock;
    int fd, result;
    shmslot_segment_close(make_named(unique_name(name, sizeof name, "codes"), &options));
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_start = INT64_C(1) << 60; /* of a process that is unknown */
    lock.l_len = 1;
    CHECK(fcntl(fd, F_OFD_SETLK, &lock) == 0);
    result = shmslot_segment_unlink(name, NULL);
    CHECK(close(fd) == 0);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    return result;
}

static int get_options_mismatch(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment, *other = NULL;
    int result;
    segment = make_named(unique_name(name, sizeof name, "codes"), &options);
    options.slot_count = 3;
    result = shmslot_segment_open(name, &options, &other, NULL);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    return result;
}

static const struct {
    int code;
    const char *name;
    int (*provoke)(void);
    const char *reason; /* why it cannot be provoked */
} table[] = {
    {SHMSLOT_E_INVALID, "INVALID", get_invalid, NULL},
    {SHMSLOT_E_NO_MEMORY, "NO_MEMORY", get_no_memory, NULL},
    {SHMSLOT_E_SYS, "SYS", get_sys, NULL},
    {SHMSLOT_E_EXISTS, "EXISTS", get_exists, NULL},
    {SHMSLOT_E_NOT_FOUND, "NOT_FOUND", get_not_found, NULL},
    {SHMSLOT_E_PERMISSION, "PERMISSION", get_permission, NULL},
    {SHMSLOT_E_NOT_A_SEGMENT, "NOT_A_SEGMENT", get_not_a_segment, NULL},
    {SHMSLOT_E_LAYOUT_VERSION, "LAYOUT_VERSION", get_layout_version, NULL},
    {SHMSLOT_E_TYPE_MISMATCH, "TYPE_MISMATCH", get_type_mismatch, NULL},
    {SHMSLOT_E_CORRUPT, "CORRUPT", get_corrupt, NULL},
    {SHMSLOT_E_AGAIN, "AGAIN", get_again, NULL},
    {SHMSLOT_E_TIMEOUT, "TIMEOUT", get_timeout, NULL},
    {SHMSLOT_E_INTERRUPTED, "INTERRUPTED", get_interrupted, NULL},
    {SHMSLOT_E_NO_FREE_SLOT, "NO_FREE_SLOT", get_no_free_slot, NULL},
    {SHMSLOT_E_TOO_LARGE, "TOO_LARGE", get_too_large, NULL},
    {SHMSLOT_E_STALE, "STALE", get_stale, NULL},
    {SHMSLOT_E_NO_READER_SLOT, "NO_READER_SLOT", get_no_reader_slot, NULL},
    {SHMSLOT_E_NOT_SUPPORTED, "NOT_SUPPORTED", get_not_supported, NULL},
    {SHMSLOT_E_PANIC, "PANIC", NULL, "it takes a defect inside the library"},
    {SHMSLOT_E_BAD_NAME, "BAD_NAME", get_bad_name, NULL},
    {SHMSLOT_E_BAD_TIMEOUT, "BAD_TIMEOUT", get_bad_timeout, NULL},
    {SHMSLOT_E_BAD_OPTIONS, "BAD_OPTIONS", get_bad_options, NULL},
    {SHMSLOT_E_BAD_INDEX, "BAD_INDEX", get_bad_index, NULL},
    {SHMSLOT_E_BAD_LENGTH, "BAD_LENGTH", get_bad_length, NULL},
    {SHMSLOT_E_NOT_A_FILE, "NOT_A_FILE", get_not_a_file, NULL},
    {SHMSLOT_E_TRUNCATED, "TRUNCATED", get_truncated, NULL},
    {SHMSLOT_E_NOT_SEALED, "NOT_SEALED", get_not_sealed, NULL},
    {SHMSLOT_E_WRITER_EXISTS, "WRITER_EXISTS", get_writer_exists, NULL},
    {SHMSLOT_E_NO_PARTICIPANT_SLOT, "NO_PARTICIPANT_SLOT", get_no_participant_slot, NULL},
    {SHMSLOT_E_HELD, "HELD", get_held, NULL},
    {SHMSLOT_E_EMPTY, "EMPTY", get_empty, NULL},
    {SHMSLOT_E_LOAN_LIMIT, "LOAN_LIMIT", get_loan_limit, NULL},
    {SHMSLOT_E_FORKED, "FORKED", get_forked, NULL},
    {SHMSLOT_E_PEER_DEAD, "PEER_DEAD", get_peer_dead, NULL},
    {SHMSLOT_E_NO_WRITERS, "NO_WRITERS", get_no_writers, NULL},
    {SHMSLOT_E_UNKNOWN_MAPPING, "UNKNOWN_MAPPING", get_unknown_mapping, NULL},
    {SHMSLOT_E_OUT_OF_BOUNDS, "OUT_OF_BOUNDS", get_out_of_bounds, NULL},
    {SHMSLOT_E_OVERFLOW, "OVERFLOW", get_overflow, NULL},
    {SHMSLOT_E_CHANNEL_BROKEN, "CHANNEL_BROKEN", get_channel_broken, NULL},
    {SHMSLOT_E_NAME_BUSY, "NAME_BUSY", get_name_busy, NULL},
    {SHMSLOT_E_DESCRIPTOR_LOST, "DESCRIPTOR_LOST", get_descriptor_lost, NULL},
    {SHMSLOT_E_OPTIONS_MISMATCH, "OPTIONS_MISMATCH", get_options_mismatch, NULL},
    {SHMSLOT_E_RETIRED, "RETIRED", get_retired, NULL},
    {SHMSLOT_E_HELD_LIMIT, "HELD_LIMIT", get_held_limit, NULL},
    {SHMSLOT_E_TOO_MANY, "TOO_MANY", get_too_many, NULL},
    {SHMSLOT_E_EXPELLED, "EXPELLED", get_expelled, NULL},
};
#define ENTRIES (sizeof table / sizeof table[0])

static void check_each_is_provoked(void)
{
    size_t i;
    for (i = 0; i < ENTRIES; i++) {
        if (table[i].provoke == NULL) {
            fprintf(stderr, "not provoked: %s, %s\n", table[i].name, table[i].reason);
            continue;
        }
        fprintf(stderr, "%s\n", table[i].name);
        CHECK_CODE(table[i].provoke(), table[i].code);
    }
}

/* The numbers have no gap, so a code that the table lacks would show as another text after the
 * last. */
static void check_texts(void)
{
    const char *unknown = shmslot_strerror(INT32_MIN);
    size_t i, k;
    CHECK(unknown != NULL && unknown[0] != '\0');
    CHECK(shmslot_strerror(SHMSLOT_OK) != NULL && shmslot_strerror(SHMSLOT_OK)[0] != '\0');
    CHECK(strcmp(shmslot_strerror(SHMSLOT_OK), unknown) != 0);
    /* every positive result is success */
    CHECK(strcmp(shmslot_strerror(1), shmslot_strerror(SHMSLOT_OK)) == 0);
    CHECK(strcmp(shmslot_strerror(INT32_MAX), shmslot_strerror(SHMSLOT_OK)) == 0);
    CHECK(strcmp(shmslot_strerror(-12345), unknown) == 0);
    for (i = 0; i < ENTRIES; i++) {
        const char *text = shmslot_strerror(table[i].code);
        CHECK_U64((uint64_t)-table[i].code, i + 1);
        CHECK(text != NULL && text[0] != '\0');
        CHECK(strcmp(text, unknown) != 0);
        CHECK(shmslot_strerror(table[i].code) == text); /* static: the same pointer every time */
        for (k = 0; k < i; k++) CHECK(strcmp(text, shmslot_strerror(table[k].code)) != 0);
    }
    CHECK(strcmp(shmslot_strerror(-(int)ENTRIES - 1), unknown) == 0);
}

/* A full file system gives a code, leaves nothing behind, and never causes a signal later. */
static int create_on_a_full_file_system(int link, void *argument)
{
    char path[256];
    shmslot_options options = options_of(64, 4096);
    shmslot_segment *segment = NULL;
    (void)link;
    (void)argument;
    if (unshare(CLONE_NEWNS) != 0) return 77; /* only this child sees the mount below */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 77;
    if (mount("tmpfs", directory, "tmpfs", 0, "size=65536") != 0) return 77;
    snprintf(path, sizeof path, "%s/full", directory);
    CHECK_CODE(shmslot_segment_create(path, &options, &segment, NULL), SHMSLOT_E_NO_MEMORY);
    CHECK(segment == NULL);
    CHECK(access(path, F_OK) != 0);
    options = options_of(2, 64);
    /* all of the space came back */
    CHECK_OK(shmslot_segment_create(path, &options, &segment, NULL));
    CHECK_U64(put(open_writer(segment), 1), 1);
    return 0;
}

static void check_full_file_system(void)
{
    int result = run_child(create_on_a_full_file_system, NULL);
    if (result == 77) {
        fprintf(stderr, "left out: a full file system (this user may not mount one)\n");
    } else {
        CHECK_U64((uint64_t)result, 0);
    }
}

CHECK_MAIN()
{
    own_directory(directory, sizeof directory);
    RUN(check_each_is_provoked());
    RUN(check_texts());
    RUN(check_full_file_system());
}
