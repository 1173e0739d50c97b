/* Runs each group of calls in a process of its own, under a tracer that records the system calls of
 * the traced thread. It prints one line per group: its name, and the system calls. Calls before and
 * after, and those of other threads, do not count. */
#include "../../ctests/samples.h"
#include "../../ctests/single_steps.h"

/* A timeout that ends in a sleep: it is not over before the caller sleeps, however slowly a tracer on
 * a busy machine lets it come there. */
#define A_SLEEP (INT64_C(300) * MILLISECOND)

/* Those that a line of docs/deployment.md may name. Another one is printed as a number, and the
 * test fails. */
static const struct {
    long number;
    const char *name;
} known[] = {
#define CALL(name) {SYS_##name, #name}
    CALL(accept4),
    CALL(bind),
    CALL(clock_nanosleep),
    CALL(close),
    CALL(connect),
    CALL(fallocate),
    CALL(fchmod),
    CALL(fcntl),
    CALL(fstat),
    CALL(fstatfs),
    CALL(ftruncate),
    CALL(futex),
    CALL(futex_waitv),
    CALL(geteuid),
    CALL(getdents64),
    CALL(getpid),
    CALL(getrandom),
    CALL(getsockname),
    CALL(getsockopt),
    CALL(inotify_add_watch),
    CALL(inotify_init1),
    CALL(inotify_rm_watch),
    CALL(linkat),
    CALL(listen),
    CALL(lseek),
    CALL(madvise),
    CALL(membarrier),
    CALL(memfd_create),
    CALL(mmap),
    CALL(mprotect),
    CALL(munlock),
    CALL(munmap),
    CALL(newfstatat),
    CALL(openat),
    CALL(pidfd_open),
    CALL(pipe2),
    CALL(ppoll),
    CALL(pread64),
    CALL(prlimit64),
    CALL(pwrite64),
    CALL(read),
    CALL(recvmsg),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(sched_getaffinity),
    CALL(sched_yield),
    CALL(sendmsg),
    CALL(setsockopt),
    CALL(shutdown),
    CALL(socket),
    CALL(socketpair),
    CALL(statx),
    CALL(sysinfo),
    CALL(unlinkat),
    CALL(write),
#ifdef __x86_64__
    CALL(poll),
    CALL(unlink),
    CALL(chmod),
#endif
#undef CALL
};

static char name[64], directory[128], path[256];
static shmslot_segment *segment, *other;
static shmslot_writer *writer;
static shmslot_reader *reader;
static shmslot_channel *near, *far;

static void nothing(void *unused) { (void)unused; }

/* ---- segments ---- */

/* What a process finds out about itself and keeps. A local segment needs no descriptor. */
static void first_use(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    CHECK_OK(shmslot_segment_create_local(&options, &segment, NULL));
    shmslot_segment_close(segment);
}

static void prepare_dead(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    shmslot_segment_close(make_named(name, &options));
}

static void named(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    options.mode = 0640;        /* other than the default */
    options.max_payload = 4096; /* the file is longer than what is allocated */
    CHECK_OK(shmslot_segment_create(name, &options, &segment, NULL)); /* over a dead one */
    CHECK_OK(shmslot_segment_attach(name, NULL, &other, NULL));
    shmslot_segment_close(other);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_open(name, &options, &segment, NULL)); /* nothing there */
    CHECK(shmslot_segment_fd(segment) >= 0);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

static void prepare_dead_in_directory(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    shmslot_segment_close(make_named(path, &options));
}

static void of_a_directory(void *unused)
{
    size_t count = 0;
    (void)unused;
    CHECK_OK(shmslot_segment_list(directory, NULL, 0, 0, &count, NULL));
    CHECK(count >= 1);
    CHECK_OK(shmslot_segment_unlink_dead(directory, NULL, NULL));
}

static void attach_wait(void *unused)
{
    (void)unused;
    CHECK_CODE(shmslot_segment_attach_wait(path, NULL, A_SLEEP, &segment, NULL), SHMSLOT_E_TIMEOUT);
    CHECK_OK(shmslot_segment_attach_wait(name, NULL, FOR_EVER, &segment, NULL));
    shmslot_segment_close(segment);
}

/* As a process that was stopped in the middle of replacing the segment. */
static void prepare_busy(void *unused)
{
    struct flock lock;
    char file[128];
    int fd;
    prepare_dead(unused);
    snprintf(file, sizeof file, CHECK_SHM_DIR "/shmslot.%s", name);
    fd = open(file, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_start = INT64_C(1) << 60; /* of a process that is unknown */
    lock.l_len = 1;
    CHECK(fcntl(fd, F_OFD_SETLK, &lock) == 0);
}

static void busy(void *unused)
{
    (void)unused;
    CHECK_CODE(shmslot_segment_unlink(name, NULL), SHMSLOT_E_NAME_BUSY);
}

static void anonymous(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    CHECK_OK(shmslot_segment_create_anonymous(&options, &segment, NULL));
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), NULL, &other, NULL));
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
}

/* ---- samples ---- */

static void make_both(void)
{
    shmslot_options options = options_of(4, 64);
    options.max_payload = 1 << 20;
    options.policy = SHMSLOT_POLICY_BLOCK;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    writer = open_writer(segment);
}

static void prepare_segment(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    segment = make_anonymous(&options);
}

static void open_and_join(void *unused)
{
    (void)unused;
    reader = join(segment, 0);
    writer = open_writer(segment);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
}

static void prepare_both(void *unused)
{
    (void)unused;
    make_both();
}

static void samples(void *unused)
{
    shmslot_loan loan;
    (void)unused;
    CHECK_U64(put(writer, 1), 1);
    CHECK_U64(take(reader), 1);
    CHECK_OK(shmslot_slot_reserve(writer, 8, FOR_EVER, &loan));
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    check_nothing_to_read(reader);
}

static pid_t sleeper;

static void *sleep_in_wait(void *unused)
{
    (void)unused;
    __atomic_store_n(&sleeper, thread_id(), __ATOMIC_SEQ_CST);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    return NULL;
}

static void prepare_sleeper(void *unused)
{
    (void)unused;
    make_both();
    (void)start_thread(sleep_in_wait, NULL);
    while (__atomic_load_n(&sleeper, __ATOMIC_SEQ_CST) == 0) (void)sched_yield();
    until_asleep(sleeper);
}

static void wake(void *unused)
{
    (void)unused;
    CHECK_U64(put(writer, 1), 1);
}

static void sleep_on_one(void *unused)
{
    (void)unused;
    CHECK_CODE(shmslot_wait(reader, A_SLEEP), SHMSLOT_E_TIMEOUT);
    CHECK_CODE(shmslot_wait_readers(writer, 2, A_SLEEP, NULL), SHMSLOT_E_TIMEOUT);
}

static void expel(void *unused)
{
    (void)unused;
    CHECK_OK(shmslot_segment_expel(segment, (uint32_t)shmslot_reader_index(reader), 1, NULL));
}

static shmslot_reader *readers[2];

static void prepare_two_readers(void *unused)
{
    (void)unused;
    make_both();
    readers[0] = reader;
    readers[1] = join(segment, 0);
}

static void sleep_on_several(void *unused)
{
    size_t index;
    (void)unused;
    CHECK_CODE(shmslot_wait_any(readers, 2, A_SLEEP, &index), SHMSLOT_E_TIMEOUT);
}

static void in_a_loop(void *unused)
{
    shmslot_sample sample;
    int fd;
    (void)unused;
    CHECK_OK(shmslot_reader_fd(reader, 0, &fd, NULL));
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_AGAIN);
    (void)put(writer, 1);
    CHECK_U64(take(reader), 1);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_AGAIN);
    shmslot_reader_leave(reader);
}

static void in_a_set(void *unused)
{
    shmslot_set *set = NULL;
    shmslot_trigger *trigger = NULL;
    shmslot_event event;
    (void)unused;
    CHECK_OK(shmslot_set_create(0, &set, NULL));
    CHECK_OK(shmslot_set_add_reader(set, reader, 1, NULL));
    CHECK_OK(shmslot_set_add_trigger(set, 2, &trigger, NULL));
    check_nothing_to_read(reader);
    CHECK_CODE(shmslot_set_wait(set, A_SLEEP, &event, 1), 0);
    (void)put(writer, 1);
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, &event, 1), 1);
    CHECK_OK(shmslot_trigger_fire(trigger));
    CHECK_OK(shmslot_set_remove(set, 1));
    shmslot_set_close(set);
    shmslot_trigger_close(trigger);
}

static int join_and_die(int link, void *unused)
{
    (void)link;
    (void)unused;
    (void)join(attach(name), 0);
    return 0;
}

static int join_and_stay(int link, void *unused)
{
    char end;
    (void)unused;
    (void)join(attach(name), 0);
    say(link);
    return recv(link, &end, 1, 0) == 0 ? 0 : 1;
}

/* One participant is dead, and another one lives, in another process. */
static void prepare_death(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    segment = make_named(name, &options);
    hear(start_child(join_and_stay, NULL).link);
    CHECK_U64((uint64_t)run_child(join_and_die, NULL), 0);
}

static void recover(void *unused)
{
    (void)unused;
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
}

static void large(void *unused)
{
    shmslot_loan loan;
    (void)unused;
    make_both();
    CHECK_OK(shmslot_slot_reserve(writer, 1 << 20, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    CHECK_OK(shmslot_segment_trim(segment, NULL));
}

static void prepare_larger(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    options.max_payload = 8 << 20;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
}

/* A size that is first compared with the memory limits. */
static void larger(void *unused)
{
    shmslot_options options = options_of(4, 2 << 20);
    shmslot_loan loan;
    (void)unused;
    CHECK_OK(shmslot_slot_reserve(writer, 8 << 20, AT_ONCE, &loan));
    CHECK_OK(shmslot_segment_create_anonymous(&options, &other, NULL));
    shmslot_segment_close(other);
}

/* ---- channels and regions ---- */

static void sockets(void *unused)
{
    shmslot_channel *channel = NULL;
    shmslot_channel *listener = NULL;
    (void)unused;
    CHECK_OK(shmslot_channel_listen(path, 0, &listener, NULL));
    CHECK_OK(shmslot_channel_connect(path, 0, FOR_EVER, &near, NULL));
    CHECK_OK(shmslot_channel_accept(listener, FOR_EVER, &far, NULL));
    CHECK_CODE(shmslot_channel_accept(listener, A_SLEEP, &channel, NULL), SHMSLOT_E_TIMEOUT);
    shmslot_channel_close(near);
    shmslot_channel_close(far);
    shmslot_channel_close(listener);
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
    shmslot_channel_close(near);
    shmslot_channel_close(far);
}

static void prepare_channel(void *unused)
{
    shmslot_options options = options_of(4, 64);
    (void)unused;
    segment = make_anonymous(&options);
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
}

static void over_channels(void *unused)
{
    shmslot_registry *registry;
    shmslot_attachments *attachments;
    shmslot_lease lease;
    shmslot_mapped mapped;
    (void)unused;
    CHECK_OK(shmslot_channel_send_segment(near, segment, FOR_EVER, NULL));
    CHECK_OK(shmslot_channel_recv_segment(far, NULL, FOR_EVER, &other, NULL));
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    CHECK_OK(shmslot_registry_add(registry, near, FOR_EVER, NULL));
    CHECK_OK(shmslot_region_alloc(registry, 100, FOR_EVER, &lease, NULL));
    CHECK_OK(shmslot_attachments_create(far, 0, &attachments, NULL));
    CHECK_OK(shmslot_attachments_resolve_wait(attachments, lease.map_id, lease.generation,
                                              lease.offset, lease.len, FOR_EVER, &mapped, NULL));
    CHECK_OK(shmslot_attachments_release(attachments, &mapped));
    CHECK_CODE(shmslot_attachments_resolve_wait(attachments, lease.map_id, lease.generation + 1, 0,
                                                1, A_SLEEP, &mapped, NULL),
               SHMSLOT_E_TIMEOUT);
    CHECK_OK(shmslot_region_release(registry, &lease));
    shmslot_attachments_close(attachments);
    shmslot_registry_close(registry);
    shmslot_segment_close(other);
}

static const struct {
    const char *name;
    void (*prepare)(void *unused);
    void (*body)(void *unused);
} groups[] = {
    {"the first segment of a process", nothing, first_use},
    {"named segments", prepare_dead, named},
    {"segments of a directory", prepare_dead_in_directory, of_a_directory},
    {"an attach that waits", prepare_dead, attach_wait},
    {"a name that is busy", prepare_busy, busy},
    {"anonymous segments", nothing, anonymous},
    {"writers and readers", prepare_segment, open_and_join},
    {"samples, nobody asleep", prepare_both, samples},
    {"waking sleepers", prepare_sleeper, wake},
    {"a wait", prepare_both, sleep_on_one},
    {"a wait for several", prepare_two_readers, sleep_on_several},
    {"event loops", prepare_both, in_a_loop},
    {"sets", prepare_both, in_a_set},
    {"recovery", prepare_death, recover},
    {"expelling a reader", prepare_both, expel},
    {"large payloads", nothing, large},
    {"memory of 4 MiB or more at once", prepare_larger, larger},
    {"channels", nothing, sockets},
    {"regions and segments over channels", prepare_channel, over_channels},
};

static long system_call_of(pid_t pid)
{
    struct user_regs_struct registers;
    struct iovec area;
    area.iov_base = &registers;
    area.iov_len = sizeof registers;
    CHECK(ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &area) == 0);
#if defined(__x86_64__)
    return (long)registers.orig_rax;
#else
    return (long)registers.regs[8];
#endif
}

int main(void)
{
    size_t group, i;
    check_begin();
    steps_begin();
    unique_name(name, sizeof name, "system-calls");
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "socket");
    free(strdup(name)); /* the first allocation of a process asks the system for memory */
    for (group = 0; group < sizeof groups / sizeof groups[0]; group++) {
        unsigned char seen[1024] = {0};
        pid_t pid = steps_start(groups[group].prepare, groups[group].body, NULL, NULL);
        while (steps_go(pid, PTRACE_SYSCALL)) {
            long number = system_call_of(pid);
            CHECK(number >= 0 && number < (long)sizeof seen);
            if (!steps_go(pid, PTRACE_SYSCALL)) break;
            seen[number] = 1;
        }
        steps_kill(pid);
        printf("%s:", groups[group].name);
        for (i = 0; i < sizeof known / sizeof known[0]; i++) {
            if (seen[known[i].number]) printf(" %s", known[i].name);
            seen[known[i].number] = 0;
        }
        for (i = 0; i < sizeof seen; i++) {
            if (seen[i]) printf(" %zu", i);
        }
        printf("\n");
        (void)fflush(stdout);
        (void)unlink(path);
        (void)shmslot_segment_unlink(name, NULL);
    }
    return 0;
}
