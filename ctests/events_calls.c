/* A commit for readers in event loops makes one call, however many they are, and none if there is
 * none: a kernel filter counts. */
/* not under address, thread, memcheck: its filter kills a process for calls of the tool */
/* not under aarch64: the emulator filters no system calls */
#include "event_loop.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static volatile sig_atomic_t calls_of_pread;

static void on_call(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    /* not made: it is counted, and it wakes nobody */
    if (info->si_syscall == SYS_pread64) calls_of_pread = calls_of_pread + 1;
}

/* From now on pread is counted, and other calls but those of a test that ends are fatal. */
static void count_preads(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0), /* what CHECK says when it fails */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sigaction action;
    struct sock_fprog program;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_call;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    program.len = sizeof rules / sizeof rules[0];
    program.filter = rules;
    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

struct counted {
    int fd;
    unsigned armed;
};

static int write_one_counted(int link, void *argument)
{
    const struct counted *counted = argument;
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    uint64_t i;
    CHECK_OK(shmslot_segment_attach_fd(counted->fd, NULL, &segment, NULL));
    writer = open_writer(segment);
    say(link);
    hear(link); /* the others are armed */
    count_preads();
    (void)put(writer, 0);
    CHECK_U64((uint64_t)calls_of_pread, counted->armed > 0 ? 1 : 0);
    /* The ring has disarmed all of them, and nobody has come back. */
    for (i = 1; i < LOOP_SLOTS; i++) (void)put(writer, i);
    CHECK_U64((uint64_t)calls_of_pread, counted->armed > 0 ? 1 : 0);
    return 0;
}

static void check_one_call_for_all(unsigned armed, uint32_t flags)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, flags);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *readers[8], *unarmed = join(segment, 0);
    struct counted counted = {-1, 0};
    child writing;
    unsigned i;
    counted.fd = shmslot_segment_fd(segment);
    counted.armed = armed;
    CHECK(armed <= 8);
    (void)reader_fd(unarmed, 0);
    for (i = 0; i < armed; i++) {
        readers[i] = join(segment, 0);
        (void)reader_fd(readers[i], 0);
    }
    writing = start_child(write_one_counted, &counted);
    hear(writing.link);
    for (i = 0; i < armed; i++) check_nothing_to_read(readers[i]);
    say(writing.link);
    CHECK_CHILD(writing);
    for (i = 0; i < armed; i++) {
        CHECK_U64(take(readers[i]), 0);
        shmslot_reader_leave(readers[i]);
    }
    shmslot_reader_leave(unarmed);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_one_call_for_all(0, 0));
    RUN(check_one_call_for_all(1, 0));
    RUN(check_one_call_for_all(8, 0));
    RUN(check_one_call_for_all(8, SHMSLOT_FLAG_SINGLE_WRITER));
}
