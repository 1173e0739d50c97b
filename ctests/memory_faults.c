/* What the owner of the memory can do to it while others use it: truncate the file, punch holes
 * into it, or try to change a sealed one. The missing part faults or reads as zero; a call returns
 * a code, ends, and does not affect other processes. */
/* not under memcheck: it waits for several readers, and valgrind lacks futex_waitv */
/* not under aarch64: the emulator lacks futex_waitv */
#include "faults.h"

#include <poll.h>
#include <sys/mman.h>

#define PAGE 4096

static char directory[128];

/* ---- cutting ---- */

/* One page per slot, after the control part. */
static shmslot_options options_of_pages(uint32_t slots)
{
    shmslot_options options = options_of(slots, PAGE);
    options.payload_align = PAGE;
    return options;
}

static void refuse(const char *path, int code)
{
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_options adopt = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    look.flags = SHMSLOT_FLAG_OBSERVER;
    adopt.if_orphaned = SHMSLOT_ORPHANED_ADOPT; /* to replace it would be all right */
    memset(&detail, 0, sizeof detail);
    check_failure(shmslot_segment_attach(path, NULL, &segment, &detail), segment, &detail, code, 0);
    check_failure(shmslot_segment_attach(path, &look, &segment, &detail), segment, &detail, code,
                  0);
    check_failure(shmslot_segment_create(path, &adopt, &segment, &detail), segment, &detail, code,
                  0);
    check_failure(shmslot_segment_open(path, &adopt, &segment, &detail), segment, &detail, code, 0);
}

static void check_cut_before_attach(void)
{
    char path[256];
    shmslot_options options = options_of_pages(8);
    off_t total, at;
    own_path(path, sizeof path, directory, "cut");
    {
        shmslot_segment *segment = make_named(path, &options);
        total = (off_t)info_of(segment).total_size;
        shmslot_segment_close(segment);
    }
    CHECK(truncate(path, total + 1) == 0);
    refuse(path, SHMSLOT_E_CORRUPT);
    CHECK(truncate(path, total - 1) == 0);
    refuse(path, SHMSLOT_E_TRUNCATED);
    for (at = total - PAGE; at > 0; at -= PAGE) {
        CHECK(truncate(path, at) == 0);
        refuse(path, SHMSLOT_E_TRUNCATED);
    }
    CHECK(truncate(path, 511) == 0);
    refuse(path, SHMSLOT_E_TRUNCATED);
    CHECK(truncate(path, 8) == 0);
    refuse(path, SHMSLOT_E_TRUNCATED);
    /* still known as a segment, so it can be removed */
    CHECK_OK(shmslot_segment_unlink(path, NULL));

    shmslot_segment_close(make_named(path, &options));
    CHECK(truncate(path, 0) == 0);
    refuse(path, SHMSLOT_E_EMPTY);
    CHECK_CODE(shmslot_segment_unlink(path, NULL), SHMSLOT_E_EMPTY);
    CHECK(truncate(path, total) == 0); /* grown again, but nothing is in it */
    refuse(path, SHMSLOT_E_NOT_A_SEGMENT);
    CHECK(unlink(path) == 0);
}

/* Holds samples 1 and 2, in slots 1 and 2, when everything from slot 2 on is cut off. */
static int touch_what_is_gone(int link, void *path)
{
    shmslot_segment *segment = attach(path);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample first, second;
    say(link);
    hear(link);
    first = hold(reader);
    second = hold(reader);
    CHECK_U64(value_of(&second), 2);
    say(link);
    hear(link);
    CHECK_U64(value_of(&first), 1);
    say(link);
    CHECK_U64(value_of(&second), 2);
    say(link); /* never */
    return 0;
}

/* Does this without touching the payload bytes that are cut off. */
static int use_the_rest(int link, void *path)
{
    shmslot_segment *segment = attach(path);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample first, second, sample;
    uint64_t total = info_of(segment).total_size, i;
    say(link);
    hear(link);
    first = hold(reader);
    second = hold(reader);
    say(link);
    hear(link);
    CHECK_U64(value_of(&first), 1);
    CHECK_U64(second.len, sizeof(uint64_t));
    CHECK_OK(shmslot_slot_mark(reader, &first));
    CHECK_OK(shmslot_slot_mark(reader, &second));
    for (i = 3; i <= 22; i++) {
        say(link);
        CHECK_OK(shmslot_wait(reader, FOR_EVER));
        sample = hold(reader);
        CHECK_U64(sample.sequence, i);
        CHECK_U64(sample.len, 0);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    CHECK_U64(lost(reader), 0);
    /* what it was made of; nobody looks at the file again */
    CHECK_U64(info_of(segment).total_size, total);
    refuse(path, SHMSLOT_E_TRUNCATED);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_cut_after_attach(void)
{
    char path[256];
    shmslot_options options = options_of_pages(8);
    shmslot_segment *segment;
    shmslot_writer *writer;
    child victim, bystander;
    int i;
    options.policy = SHMSLOT_POLICY_DROP_OLDEST; /* nobody waits for the victim once it is dead */
    segment = make_named(own_path(path, sizeof path, directory, "in-use"), &options);
    writer = open_writer(segment);
    victim = start_child(touch_what_is_gone, path);
    bystander = start_child(use_the_rest, path);
    hear(victim.link);
    hear(bystander.link);
    CHECK_U64(put(writer, 1), 1);
    CHECK_U64(put(writer, 2), 2);
    say(victim.link);
    say(bystander.link);
    hear(victim.link);
    hear(bystander.link);

    CHECK(truncate(path, (off_t)info_of(segment).total_size - 6 * PAGE) == 0);
    say(victim.link);
    hear(victim.link);
    CHECK_U64((uint64_t)end_child(victim), 128 + SIGBUS);
    say(bystander.link);
    for (i = 0; i < 20; i++) {
        hear(bystander.link);
        CHECK_OK(shmslot_slot_write(writer, NULL, 0, AT_ONCE, NULL));
    }
    CHECK_CHILD(bystander);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* When nothing is left of the file, every call that accesses the segment faults, closing
 * included. */
typedef struct cut_call {
    const char *path;
    enum { INFO, READ, RESERVE, CLOSE_WRITER, LEAVE, CLOSE, CALLS } call;
} cut_call;

static int call_on_nothing(int link, void *argument)
{
    const cut_call *what = argument;
    shmslot_segment *segment = attach(what->path);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_info info;
    shmslot_sample sample;
    shmslot_loan loan;
    uint64_t number;
    size_t length;
    char path[256];
    say(link);
    hear(link);
    /* What was decided at creation is private, so these calls still know it. */
    CHECK_OK(shmslot_segment_slot_count(segment, &number));
    CHECK_U64(number, 8);
    CHECK_OK(shmslot_segment_slot_capacity(segment, &number));
    CHECK_U64(number, PAGE);
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK(strcmp(path, what->path) == 0);
    CHECK_OK(shmslot_segment_fd(segment));
    say(link);
    switch (what->call) {
    case INFO: (void)shmslot_segment_info(segment, &info, sizeof info); break;
    case READ: (void)shmslot_slot_read(reader, &sample); break;
    case RESERVE: (void)shmslot_slot_reserve(writer, 1, AT_ONCE, &loan); break;
    case CLOSE_WRITER: shmslot_writer_close(writer); break;
    case LEAVE: shmslot_reader_leave(reader); break;
    default: break;
    }
    return 0;
}

/* The segment is freed with its last handle, so this one has no other. */
static int close_nothing(int link, void *argument)
{
    shmslot_segment *segment = attach(((const cut_call *)argument)->path);
    say(link);
    hear(link);
    say(link);
    shmslot_segment_close(segment);
    return 0;
}

static void check_cut_to_nothing(void)
{
    char path[256];
    shmslot_options options = options_of_pages(8);
    cut_call what;
    int call;
    what.path = own_path(path, sizeof path, directory, "nothing");
    for (call = 0; call < CALLS; call++) {
        shmslot_segment *creator = make_named(path, &options);
        child user;
        int result;
        what.call = call;
        user = start_child(what.call == CLOSE ? close_nothing : call_on_nothing, &what);
        hear(user.link);
        shmslot_segment_close(creator);
        CHECK(truncate(path, 0) == 0);
        say(user.link);
        hear(user.link);
        result = end_child(user);
        if (result != 128 + SIGBUS) fprintf(stderr, "call %d on a file that was emptied\n", call);
        CHECK_U64((uint64_t)result, 128 + SIGBUS);
        CHECK(unlink(path) == 0);
    }
}

/* ---- seals ---- */

static void check_size_stays(int fd, off_t total)
{
    static const int seals[] = {F_SEAL_SEAL,  F_SEAL_SHRINK,       F_SEAL_GROW,
                                F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, 0};
    struct stat status;
    size_t i;
    CHECK(ftruncate(fd, 0) != 0 && errno == EPERM);
    CHECK(ftruncate(fd, total - 1) != 0 && errno == EPERM);
    CHECK(ftruncate(fd, total + 1) != 0 && errno == EPERM);
    CHECK(fallocate(fd, 0, 0, total + 1) != 0 && errno == EPERM);
    CHECK(pwrite(fd, "x", 1, total) != 1 && errno == EPERM);
    for (i = 0; i < sizeof seals / sizeof seals[0]; i++) {
        CHECK(fcntl(fd, F_ADD_SEALS, seals[i]) != 0 && errno == EPERM);
    }
    CHECK((fcntl(fd, F_GET_SEALS) & (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)) ==
          (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW));
    CHECK(fstat(fd, &status) == 0);
    CHECK_U64((uint64_t)status.st_size, (uint64_t)total);
}

static void check_sealed_segment(void)
{
    shmslot_options options = options_of_pages(8);
    shmslot_segment *segment = make_anonymous(&options), *other = NULL;
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader;
    off_t total = (off_t)info_of(segment).total_size;
    char path[64];
    int again;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), NULL, &other, NULL));
    reader = join(other, 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", shmslot_segment_fd(segment));
    again = open(path, O_RDWR | O_CLOEXEC);
    CHECK(again >= 0);
    check_size_stays(shmslot_segment_fd(segment), total);
    check_size_stays(shmslot_segment_fd(other), total);
    check_size_stays(again, total);
    CHECK(truncate(path, 0) != 0 && errno == EPERM);
    CHECK(close(again) == 0);
    (void)put(writer, 5);
    CHECK_U64(take(reader), 5);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
}

/* The bytes of a segment in a memory file whose size may still change are refused; the kernel
 * refuses those that nobody may write. */
static void check_foreign_memory_files(void)
{
    static const struct {
        int seals, code, os_errno;
    } files[] = {
        {0, SHMSLOT_E_NOT_SEALED, 0},
        {F_SEAL_SHRINK | F_SEAL_GROW, SHMSLOT_E_NOT_SEALED, 0},
        {F_SEAL_SHRINK | F_SEAL_SEAL, SHMSLOT_E_NOT_SEALED, 0},
        {F_SEAL_GROW | F_SEAL_SEAL, SHMSLOT_E_NOT_SEALED, 0},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, SHMSLOT_OK, 0},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE, SHMSLOT_E_SYS, EPERM},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE, SHMSLOT_E_SYS, EPERM},
    };
    shmslot_options options = options_of_pages(2);
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *healthy = make_anonymous(&options);
    size_t size = (size_t)info_of(healthy).total_size, i;
    char *bytes = malloc(size);
    unsigned descriptors;
    look.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK(bytes != NULL);
    {
        int fd = dup(shmslot_segment_fd(healthy));
        shmslot_segment_close(healthy); /* its row is free in what is read now */
        CHECK(pread(fd, bytes, size, 0) == (ssize_t)size);
        CHECK(close(fd) == 0);
    }
    descriptors = open_descriptors();
    for (i = 0; i < sizeof files / sizeof files[0]; i++) {
        shmslot_segment *segment = NULL, *looking = NULL;
        shmslot_error detail;
        int fd = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING), result;
        CHECK(fd >= 0);
        CHECK(fchmod(fd, 0600) == 0);
        CHECK(write(fd, bytes, size) == (ssize_t)size);
        CHECK(fcntl(fd, F_ADD_SEALS, files[i].seals) == 0);
        memset(&detail, 0, sizeof detail);
        result = shmslot_segment_attach_fd(fd, NULL, &segment, &detail);
        if (files[i].code == SHMSLOT_OK) {
            CHECK_OK(result);
        } else {
            check_failure(result, segment, &detail, files[i].code, files[i].os_errno);
        }
        result = shmslot_segment_attach_fd(fd, &look, &looking, NULL);
        CHECK_CODE(result,
                   files[i].code == SHMSLOT_E_NOT_SEALED ? SHMSLOT_E_NOT_SEALED : SHMSLOT_OK);
        if (looking != NULL) CHECK_U64(info_of(looking).slot_count, 2);
        shmslot_segment_close(looking);
        shmslot_segment_close(segment);
        CHECK(close(fd) == 0);
        CHECK_U64(open_descriptors(), descriptors);
    }
    free(bytes);
}

/* ---- holes ---- */

static void punch(int fd, off_t page)
{
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page * PAGE, PAGE) == 0);
}

/* A hole in the payload makes the samples there read as zeros, and nothing else. Sealing the size
 * does not forbid it. */
static void check_holes_in_payload(int is_sealed)
{
    enum { SLOTS = 8 };
    char path[256];
    shmslot_options options = options_of_pages(SLOTS);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    off_t payload;
    uint64_t slot, i, sequence = 0;
    own_path(path, sizeof path, directory, "payload");
    segment = is_sealed ? make_anonymous(&options) : make_named(path, &options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    payload = (off_t)info_of(segment).total_size / PAGE - SLOTS;
    for (slot = 0; slot < SLOTS; slot++) {
        shmslot_sample samples[SLOTS];
        for (i = 0; i < SLOTS; i++) CHECK_U64(put(writer, 1000 + i), ++sequence);
        for (i = 0; i < SLOTS; i++) samples[i] = hold(reader);
        punch(shmslot_segment_fd(segment), payload + (off_t)slot);
        for (i = 0; i < SLOTS; i++) {
            CHECK_U64(value_of(&samples[i]), samples[i].slot == slot ? 0 : 1000 + i);
            CHECK_OK(shmslot_slot_mark(reader, &samples[i]));
        }
        check_nothing_to_read(reader);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    if (!is_sealed) CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* A code that any call may return on a corrupt segment. */
static int fine(int result)
{
    switch (result) {
    case SHMSLOT_E_CORRUPT:
    case SHMSLOT_E_AGAIN:
    case SHMSLOT_E_TIMEOUT:
    case SHMSLOT_E_INTERRUPTED:
    case SHMSLOT_E_NO_FREE_SLOT:
    case SHMSLOT_E_STALE:
    case SHMSLOT_E_HELD:
    case SHMSLOT_E_BAD_LENGTH: /* the reserved length stands in the claim */
    case SHMSLOT_E_NO_READER_SLOT: return 0;
    default:
        if (result < 0)
            check_fail_code(__FILE__, __LINE__, "the call", result, "success or a code of spoil");
        return 1;
    }
}
#define FINE(call) CHECK_HERE(fine(call))

/* A segment in which each table has its own pages: header, hot words and reader rows 0 and 1,
 * participants up to 3, lines 4 to 11, claims 12 and 13, the vacancy map 14, user headers 15 to 22,
 * payloads 23 to 30. */
#define HOLED_PAGES 32
#define HOLED_SLOTS 512
#define HOLED_CONTROL_PAGES 15

typedef struct holed {
    const char *path;
    uint32_t policy, flags, history;
    off_t page;
} holed;

static shmslot_options options_of_holed(const holed *what)
{
    shmslot_options options = options_of(HOLED_SLOTS, 64);
    options.user_header_size = 64;
    options.max_readers = 63;
    options.max_participants = 160;
    options.policy = what->policy;
    options.flags = what->flags;
    options.history = what->history;
    return options;
}

/* Every byte of it is readable. */
static void look_at(const shmslot_sample *sample)
{
    unsigned sum = 0;
    size_t at;
    CHECK(sample->len <= 64);
    CHECK(sample->slot < HOLED_SLOTS);
    for (at = 0; at < sample->len; at++) sum += ((const unsigned char *)sample->data)[at];
    for (at = 0; at < 64; at++) sum += ((const unsigned char *)sample->user_header)[at];
    CHECK(sum <= 128 * 255);
}

/* Reads and marks up to `count` samples, one of four by its pointer alone. */
static void read_some(shmslot_reader *reader, int count)
{
    shmslot_sample sample;
    while (count-- > 0 && FINE(shmslot_slot_read(reader, &sample))) {
        look_at(&sample);
        if (count % 4 != 0) {
            (void)FINE(shmslot_slot_mark(reader, &sample));
        } else {
            const void *data = sample.data;
            if (FINE(shmslot_sample_from_ptr(reader, data, &sample))) look_at(&sample);
            (void)FINE(shmslot_slot_mark_ptr(reader, data));
        }
    }
}

static void write_some(shmslot_writer *writer, int count)
{
    shmslot_loan loan;
    while (count-- > 0 &&
           FINE(shmslot_slot_reserve(writer, 64, count % 2 ? AT_ONCE : MILLISECOND, &loan))) {
        memset(loan.data, count, 64);
        memset(loan.user_header, count, 64);
        switch (count % 4) {
        case 0: (void)FINE(shmslot_slot_discard(writer, &loan)); break;
        case 1: (void)FINE(shmslot_slot_commit_ptr(writer, loan.data, 64, NULL)); break;
        default: (void)FINE(shmslot_slot_commit(writer, &loan, 64, NULL));
        }
    }
}

static void use_reference_calls(shmslot_segment *segment)
{
    shmslot_ref reference;
    shmslot_ref_header header;
    char buffer[64];
    const void *seen;
    void *data;
    size_t len;
    if (FINE(shmslot_ref_reserve(segment, 3, &reference))) {
        if (FINE(shmslot_ref_data_ptr(segment, &reference, &data, &len))) memset(data, 1, len);
        (void)FINE(shmslot_ref_commit_in_place(segment, &reference, 64, NULL));
    }
    if (FINE(shmslot_ref_reserve(segment, 3, &reference)))
        (void)FINE(shmslot_ref_discard(segment, &reference));
    if (FINE(shmslot_ref_reserve(segment, 3, &reference))) {
        (void)FINE(shmslot_ref_commit_copy(segment, &reference, "copied", 6, NULL));
    }
    if (FINE(shmslot_ref_next_unread(segment, 0, &reference))) {
        (void)FINE(shmslot_ref_read_ptr(segment, &reference, &seen, &len));
        (void)FINE(
            shmslot_ref_read_copy(segment, &reference, &header, buffer, sizeof buffer, &len));
        (void)FINE(shmslot_ref_mark_read(segment, &reference, 0));
    }
    (void)FINE(shmslot_ref_mark_reader_disconnected(segment, 1));
}

/* A process with loans, holds and readers loses one page, and then tries every call. */
static int use_with_a_hole(int link, void *argument)
{
    const holed *what = argument;
    int is_single = (what->flags & SHMSLOT_FLAG_SINGLE_WRITER) != 0;
    shmslot_segment *segment = attach(what->path), *other = NULL;
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_options same = options_of_holed(what);
    shmslot_writer *writer = NULL;
    shmslot_reader *reader = join(segment, 0), *slow = join(segment, 0), *late = NULL;
    shmslot_sample held[3], peeked;
    shmslot_loan loans[4];
    uint32_t generation;
    uint64_t mask;
    size_t which;
    int i, round, has_peeked;
    (void)link;
    look.flags = SHMSLOT_FLAG_OBSERVER;
    if (is_single) writer = open_writer(segment);
    /* A segment has one writer of its own for the reference calls; in a single-writer segment that
     * place is taken. */
    if (!is_single && what->policy != SHMSLOT_POLICY_DROP_OLDEST) use_reference_calls(segment);
    if (!is_single) writer = open_writer(segment);
    for (i = 0; i < 300; i++) (void)put(writer, (uint64_t)i);
    for (i = 0; i < 3; i++) held[i] = hold(reader);
    read_some(reader, 250);
    for (i = 0; i < 4; i++) CHECK_OK(shmslot_slot_reserve(writer, 64, AT_ONCE, &loans[i]));
    has_peeked = FINE(shmslot_slot_peek_latest(reader, &peeked));
    CHECK_OK(shmslot_segment_generation(segment, &generation));

    punch(shmslot_segment_fd(segment), what->page);

    for (i = 0; i < 3; i++) look_at(&held[i]);
    if (FINE(shmslot_loan_from_ptr(writer, loans[0].data, &loans[0]))) memset(loans[0].data, 1, 64);
    (void)FINE(shmslot_slot_commit(writer, &loans[0], 64, NULL));
    (void)FINE(shmslot_slot_discard(writer, &loans[1]));
    (void)FINE(shmslot_slot_commit_ptr(writer, loans[2].data, 64, NULL));
    (void)FINE(shmslot_slot_discard_ptr(writer, loans[3].data));
    (void)FINE(shmslot_slot_mark(reader, &held[2]));
    (void)FINE(shmslot_slot_mark_ptr(reader, held[1].data));
    if (has_peeked) {
        look_at(&peeked);
        (void)FINE(shmslot_slot_mark(reader, &peeked));
    }
    for (round = 0; round < 3; round++) {
        shmslot_reader *both[2];
        both[0] = reader;
        both[1] = slow;
        (void)info_of(segment);
        (void)FINE(shmslot_segment_wait_for_change(segment, generation, MILLISECOND, &generation));
        (void)FINE(shmslot_segment_generation(segment, &generation));
        (void)FINE(shmslot_writer_blockers(writer, &mask));
        (void)FINE(shmslot_wait_space(writer, AT_ONCE));
        (void)FINE(shmslot_wait_space(writer, MILLISECOND));
        write_some(writer, 700);
        (void)FINE(shmslot_wait(reader, AT_ONCE));
        (void)FINE(shmslot_wait(reader, MILLISECOND));
        (void)FINE(shmslot_wait_any(both, 2, MILLISECOND, &which));
        if (FINE(shmslot_slot_peek_latest(reader, &peeked))) {
            look_at(&peeked);
            (void)FINE(shmslot_slot_mark(reader, &peeked));
        }
        read_some(reader, 1500);
        if (round > 0) read_some(slow, 1500);
        (void)lost(reader);
        if (FINE(shmslot_reader_join(segment, what->history, &late, NULL))) {
            (void)FINE(shmslot_reader_index(late));
            read_some(late, 1500);
            write_some(writer, 10);
            read_some(late, 20);
            shmslot_reader_leave(late);
        }
        if (!is_single && what->policy != SHMSLOT_POLICY_DROP_OLDEST) use_reference_calls(segment);
        (void)FINE(shmslot_reader_interrupt(reader));
        (void)FINE(shmslot_writer_interrupt(writer));
    }
    (void)FINE(shmslot_slot_mark(reader, &held[0]));

    /* New processes: the first page has the header, too. */
    if (what->page == 0) {
        refuse(what->path, SHMSLOT_E_NOT_A_SEGMENT);
    } else {
        CHECK_OK(shmslot_segment_attach(what->path, NULL, &other, NULL));
        if (FINE(shmslot_reader_join(other, what->history, &late, NULL))) {
            read_some(late, 20);
            write_some(writer, 10);
            read_some(late, 20);
            shmslot_reader_leave(late);
        }
        shmslot_segment_close(other);
        other = NULL;
        CHECK_OK(shmslot_segment_attach(what->path, &look, &other, NULL));
        (void)info_of(other);
        shmslot_segment_close(other);
        other = NULL;
        CHECK_CODE(shmslot_segment_create(what->path, &same, &other, NULL), SHMSLOT_E_EXISTS);
        CHECK_CODE(shmslot_segment_open(what->path, &same, &other, NULL), 0);
        shmslot_segment_close(other);
    }
    shmslot_reader_leave(slow);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static const struct {
    uint32_t policy, flags, history;
} kinds[] = {
    {SHMSLOT_POLICY_FAIL, 0, 0},
    {SHMSLOT_POLICY_BLOCK, SHMSLOT_FLAG_TIMESTAMPS, 20},
    {SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER, 0},
    {SHMSLOT_POLICY_DROP_OLDEST, 0, 20},
    {SHMSLOT_POLICY_DROP_OLDEST, SHMSLOT_FLAG_SINGLE_WRITER, 0},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static holed holed_of(size_t kind, const char *path)
{
    holed what;
    what.path = path;
    what.policy = kinds[kind].policy;
    what.flags = kinds[kind].flags;
    what.history = kinds[kind].history;
    what.page = 0;
    return what;
}

static void check_holes_everywhere(void)
{
    char path[256];
    size_t kind;
    own_path(path, sizeof path, directory, "holes");
    for (kind = 0; kind < KINDS; kind++) {
        holed what = holed_of(kind, path);
        for (what.page = 0; what.page < HOLED_PAGES; what.page++) {
            shmslot_options options = options_of_holed(&what);
            shmslot_segment *creator = make_named(path, &options);
            int result;
            CHECK_U64(info_of(creator).total_size, HOLED_PAGES * PAGE);
            result = run_child(use_with_a_hole, &what);
            if (result != 0) fprintf(stderr, "kind %zu, page %ld\n", kind, (long)what.page);
            CHECK_U64((uint64_t)result, 0);
            shmslot_segment_close(creator);
            CHECK(unlink(path) == 0); /* the library would not: the header may be gone */
        }
    }
}

static int is_told(int link)
{
    struct pollfd ready;
    ready.fd = link;
    ready.events = POLLIN;
    ready.revents = 0;
    return poll(&ready, 1, 0) > 0;
}

static int keep_writing(int link, void *path)
{
    shmslot_segment *segment = attach(path);
    shmslot_writer *writer = open_writer(segment);
    say(link);
    while (!is_told(link)) write_some(writer, 50);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static int keep_reading(int link, void *path)
{
    shmslot_segment *segment = attach(path);
    shmslot_reader *reader = join(segment, 0);
    say(link);
    while (!is_told(link)) {
        shmslot_reader *late = NULL;
        (void)FINE(shmslot_wait(reader, MILLISECOND));
        read_some(reader, 50);
        if (FINE(shmslot_reader_join(segment, 0, &late, NULL))) shmslot_reader_leave(late);
    }
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

/* At any moment: holes appear while two processes are inside their calls. */
static void check_holes_under_a_stream(void)
{
    char path[256];
    unsigned seed = 7;
    size_t kind;
    own_path(path, sizeof path, directory, "stream");
    for (kind = 0; kind < KINDS; kind++) {
        holed what = holed_of(kind, path);
        shmslot_options options = options_of_holed(&what);
        shmslot_segment *segment = make_named(path, &options);
        child writing = start_child(keep_writing, path), reading = start_child(keep_reading, path);
        int i;
        hear(writing.link);
        hear(reading.link);
        for (i = 0; i < 500; i++) {
            seed = seed * 1103515245u + 12345u;
            punch(shmslot_segment_fd(segment), (seed >> 16) % HOLED_CONTROL_PAGES);
            (void)sched_yield();
        }
        say(writing.link);
        say(reading.link);
        CHECK_CHILD(writing);
        CHECK_CHILD(reading);
        shmslot_segment_close(segment);
        CHECK(unlink(path) == 0);
    }
}

CHECK_MAIN()
{
    no_core_files();
    own_directory(directory, sizeof directory);
    RUN(check_cut_before_attach());
    RUN(check_cut_after_attach());
    RUN(check_cut_to_nothing());
    RUN(check_sealed_segment());
    RUN(check_foreign_memory_files());
    RUN(check_holes_in_payload(0));
    RUN(check_holes_in_payload(1));
    RUN(check_holes_everywhere());
    RUN(check_holes_under_a_stream());
}
