/* Processes are killed at each step while a loop sleeps behind a descriptor. Nobody else is alive
 * who could wake it, and it sleeps without limit: the kernel closes the files of the dead, and that
 * must wake it. */
/* not under address, thread, memcheck: single steps of a tool take hours */
/* not under aarch64: the emulator does not run a process step by step */
#include "event_loop.h"
#include "single_steps.h"

#define SLOTS 4
#define VALUE 77

struct victim {
    int fd;
    uint32_t flags;
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loan;
};

static void have_a_loan(void *argument)
{
    struct victim *victim = argument;
    uint64_t value = VALUE;
    CHECK_OK(shmslot_segment_attach_fd(victim->fd, NULL, &victim->segment, NULL));
    victim->writer = open_writer(victim->segment);
    CHECK_OK(shmslot_slot_reserve(victim->writer, sizeof value, AT_ONCE, &victim->loan));
    memcpy(victim->loan.data, &value, sizeof value);
}

static void commit_it(void *argument)
{
    struct victim *victim = argument;
    CHECK_OK(shmslot_slot_commit(victim->writer, &victim->loan, sizeof(uint64_t), NULL));
}

static void have_a_descriptor(void *argument)
{
    struct victim *victim = argument;
    CHECK_OK(shmslot_segment_attach_fd(victim->fd, NULL, &victim->segment, NULL));
    victim->reader = join(victim->segment, 0);
    (void)reader_fd(victim->reader, 0);
}

static void arm_it(void *argument)
{
    check_nothing_to_read(((struct victim *)argument)->reader);
}

static void *map_control(shmslot_segment *segment, size_t *size)
{
    uint64_t control = 0;
    void *map;
    int fd = shmslot_segment_fd(segment);
    CHECK(pread(fd, &control, sizeof control, 104) == sizeof control); /* docs/segment-layout.md */
    *size = (size_t)control;
    map = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    return map;
}

/* Runs the victim to its n-th point and kills it there; false if its operation was over before. */
static int kill_at(shmslot_segment *segment, pid_t pid, int n)
{
    size_t size;
    void *shared = map_control(segment, &size), *before = malloc(size);
    int point, more = 1;
    CHECK(before != NULL);
    for (point = 0; more && point < n; point++) {
        memcpy(before, shared, size);
        more = steps_next(pid, shared, before, size);
    }
    steps_kill(pid);
    free(before);
    CHECK(munmap(shared, size) == 0);
    return more;
}

static shmslot_segment *make(uint32_t flags)
{
    shmslot_options options = options_of(SLOTS, 8);
    options.flags = flags;
    options.spin_ns = SHMSLOT_SPIN_NONE;
    return make_anonymous(&options);
}

/* The victim dies in a commit. The loop gets the sample if there is one, and then the death. */
static int committing_writer_dies(int n, uint32_t flags)
{
    struct victim victim;
    shmslot_segment *segment = make(flags);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    unsigned seen = 0;
    int loop, more, got = SHMSLOT_E_AGAIN;
    pid_t pid;
    memset(&victim, 0, sizeof victim);
    victim.fd = shmslot_segment_fd(segment);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    loop = loop_of(reader_fd(reader, 0), n % 2 == 0 ? EPOLLET : 0);
    pid = steps_start(have_a_loan, commit_it, NULL, &victim);
    check_nothing_to_read(reader);
    more = kill_at(segment, pid, n);
    while (got != SHMSLOT_E_PEER_DEAD) {
        (void)turn(loop);
        while ((got = shmslot_slot_read(reader, &sample)) == SHMSLOT_OK) {
            CHECK_U64(value_of(&sample), VALUE);
            CHECK_OK(shmslot_slot_mark(reader, &sample));
            seen++;
        }
        CHECK(got == SHMSLOT_E_AGAIN || got == SHMSLOT_E_PEER_DEAD);
    }
    CHECK(more ? seen <= 1 : seen == 1);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return more;
}

/* The victim dies while it arms its own descriptor. Others are woken as ever. */
static int arming_reader_dies(int n, uint32_t flags)
{
    struct victim victim;
    shmslot_segment *segment = make(flags);
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    shmslot_sample sample;
    int loop, more, got;
    pid_t pid;
    memset(&victim, 0, sizeof victim);
    victim.fd = shmslot_segment_fd(segment);
    loop = loop_of(reader_fd(reader, 0), n % 2 == 0 ? EPOLLET : 0);
    pid = steps_start(have_a_descriptor, arm_it, NULL, &victim);
    check_nothing_to_read(reader);
    more = kill_at(segment, pid, n);
    (void)put(writer, VALUE);
    do {
        (void)turn(loop);
        got = shmslot_slot_read(reader, &sample);
    } while (got == SHMSLOT_E_AGAIN);
    CHECK_OK(got);
    CHECK_U64(value_of(&sample), VALUE);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    /* The recovery rings for everybody, so there may be one turn more than there are samples. */
    do check_nothing_to_read(reader);
    while (has_event(loop));
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return more;
}

static void at_each_step(const char *what, int (*one)(int n, uint32_t flags), uint32_t flags)
{
    int n = 1;
    do {
        alarm(CHECK_WATCHDOG_S);
        check_note("%s, flags %u, point %d", what, flags, n);
    } while (one(n++, flags));
    CHECK(n > 2); /* or the steps were not seen */
    printf("%s, flags %u: %d kills\n", what, flags, n - 1);
}

CHECK_MAIN()
{
    steps_begin();
    RUN(at_each_step("commit", committing_writer_dies, 0));
    RUN(at_each_step("commit", committing_writer_dies, SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(at_each_step("arm", arming_reader_dies, 0));
    RUN(at_each_step("arm", arming_reader_dies, SHMSLOT_FLAG_SINGLE_WRITER));
}
