/* Defects of other shared-memory libraries that show in the number of system calls or machine
 * instructions, and must not exist here: one check per defect, in the situation that shows it
 * there. docs/known-defects.md lists them all. */
/* not under address, thread, memcheck: its filter kills a process for calls of the tool */
/* not under aarch64: the emulator has no filters of system calls */
#include "samples.h"
#include "single_steps.h"

#include <linux/seccomp.h>

/* From here on this process may read, write and end; the kernel kills it for any other system
 * call. */
static void allow_no_calls(void)
{
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
}

/* exit_group, which the C library uses, is not allowed. */
static void leave_without_calls(void)
{
    (void)syscall(SYS_exit, 0);
}

static shmslot_options small_options(void)
{
    shmslot_options options = options_of(4, 64);
    options.spin_ns = SHMSLOT_SPIN_NONE;
    return options;
}

/* ---- wakes ---- */

static int sleep_for_a_change(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    uint32_t generation = 0;
    CHECK_OK(shmslot_segment_generation(segment, &generation));
    say(link);
    CHECK_OK(shmslot_segment_wait_for_change(segment, generation, FOR_EVER, NULL));
    return 0;
}

static int change_without_calls(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_writer *writer = open_writer(segment);
    shmslot_loan loan;
    int i;
    (void)link;
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(writer, &loan)); /* this one may look for whoever slept there */
    allow_no_calls();
    for (i = 0; i < 1000; i++) {
        CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
        CHECK_OK(shmslot_slot_discard(writer, &loan));
    }
    leave_without_calls();
    return 1;
}

/* There a waiter that was killed stayed in the count of waiters, and every later change made a
 * system call. */
static void flat_waiter_count_leak(void)
{
    char name[64];
    shmslot_options options = small_options();
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "leak"), &options);
    int i;
    for (i = 0; i < 3; i++) {
        child waiter = start_child(sleep_for_a_change, name);
        hear(waiter.link);
        until_asleep(waiter.pid);
        CHECK(kill(waiter.pid, SIGKILL) == 0);
        CHECK_U64((uint64_t)end_child(waiter), 128 + SIGKILL);
    }
    CHECK_U64((uint64_t)run_child(change_without_calls, name), 0);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

static int sleep_for_a_sample(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, 0);
    say(link);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    return 0;
}

/* Marks and discards while a reader sleeps for a sample; on request it writes one, which wakes the
 * reader by a system call. */
static int make_noise(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample samples[3];
    shmslot_loan loan;
    char order;
    int i;
    for (i = 0; i < 3; i++) (void)put(writer, (uint64_t)i);
    for (i = 0; i < 3; i++) samples[i] = hold(reader);
    say(link); /* now the sleeper may come */
    receive_bytes(link, &order, 1);
    allow_no_calls();
    for (i = 0; i < 1000; i++) {
        CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
        CHECK_OK(shmslot_slot_discard(writer, &loan));
    }
    for (i = 0; i < 3; i++) CHECK_OK(shmslot_slot_mark(reader, &samples[i]));
    if (order == 'w') (void)put(writer, 3);
    leave_without_calls();
    return 1;
}

/* There one word woke all waiters at every change: readers woke at each mark and each discard. */
static void flat_notify_herd(void)
{
    /* noise only, and a write as the control that a wake would be seen */
    static const char orders[] = "nw";
    int i;
    for (i = 0; i < 2; i++) {
        char name[64];
        shmslot_options options = small_options();
        shmslot_segment *segment = make_named(unique_name(name, sizeof name, "herd"), &options);
        child noisy = start_child(make_noise, name), sleeper;
        hear(noisy.link);
        sleeper = start_child(sleep_for_a_sample, name);
        hear(sleeper.link);
        until_asleep(sleeper.pid);
        send_bytes(noisy.link, &orders[i], 1);
        CHECK_U64((uint64_t)end_child(noisy), orders[i] == 'n' ? 0 : 128 + SIGKILL);
        CHECK(kill(sleeper.pid, SIGKILL) == 0);
        CHECK(end_child(sleeper) == 128 + SIGKILL || orders[i] == 'w');
        CHECK_OK(shmslot_segment_unlink(name, NULL));
        shmslot_segment_close(segment);
    }
}

/* ---- instructions ---- */

struct crowd {
    uint32_t regions;
    shmslot_channel *near, *far;
    shmslot_registry *registry;
    shmslot_attachments *attachments;
    shmslot_lease lease;
};

/* So many regions, each with a lease of all its bytes; the other end knows them all. */
static void make_crowd(void *argument)
{
    struct crowd *crowd = argument;
    shmslot_registry_options options = SHMSLOT_REGISTRY_OPTIONS_INIT;
    uint32_t i;
    options.region_size = 4096;
    CHECK_OK(shmslot_channel_pair(0, &crowd->near, &crowd->far, NULL));
    CHECK_OK(shmslot_registry_create(&options, &crowd->registry, NULL));
    CHECK_OK(shmslot_registry_add(crowd->registry, crowd->near, AT_ONCE, NULL));
    CHECK_OK(shmslot_attachments_create(crowd->far, 0, &crowd->attachments, NULL));
    for (i = 0; i < crowd->regions; i++) {
        CHECK_CODE(shmslot_region_alloc(crowd->registry, 4096, AT_ONCE, &crowd->lease, NULL), 0);
        CHECK_CODE(shmslot_attachments_drain(crowd->attachments, NULL), 1);
    }
}

static void alloc_one(void *argument)
{
    struct crowd *crowd = argument;
    CHECK_CODE(shmslot_region_alloc(crowd->registry, 4096, AT_ONCE, &crowd->lease, NULL), 0);
}

static void close_crowd(void *argument)
{
    struct crowd *crowd = argument;
    shmslot_registry_close(crowd->registry);
}

/* How many instructions an operation takes among so many regions: the least of three attempts with
 * one more region each, because now and then a table has to grow. */
static uint64_t instructions(uint32_t regions, void (*operation)(void *argument))
{
    uint64_t least = UINT64_MAX;
    int attempt;
    for (attempt = 0; attempt < 3; attempt++) {
        struct crowd crowd;
        uint64_t count = 0;
        pid_t pid;
        memset(&crowd, 0, sizeof crowd);
        crowd.regions = regions + (uint32_t)attempt;
        pid = steps_start(make_crowd, operation, NULL, &crowd);
        while (steps_go(pid, PTRACE_SINGLESTEP)) count++;
        steps_kill(pid);
        if (count < least) least = count;
    }
    return least;
}

/* There an allocation visited every region that ever existed. Here each further region adds less
 * than one instruction. Closing the registry, which does visit all, shows that the measurement can
 * see the difference. */
static void vox_linear_alloc(void)
{
    enum { FEW = 100, MANY = 900 };
    uint64_t few = instructions(FEW, alloc_one), many = instructions(MANY, alloc_one);
    if (many >= few + (MANY - FEW)) {
        fprintf(stderr, "%" PRIu64 " instructions among few regions, %" PRIu64 " among many\n", few,
                many);
        check_leave();
    }
    CHECK(instructions(MANY, close_crowd) >= instructions(FEW, close_crowd) + (MANY - FEW));
}

CHECK_MAIN()
{
    RUN(flat_waiter_count_leak());
    RUN(flat_notify_herd());
    steps_begin();
    RUN(vox_linear_alloc());
}
