/* While nobody waits, reserve, commit, read and mark make no system call. A kernel filter lets a
 * process write to its error stream and exit, and kills it for anything else. Each round is made in
 * a child. */
/* not under address, thread, memcheck: its filter kills a process for calls of the tool */
/* not under aarch64: the emulator has no filters of system calls */
#include "samples.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#define ROUNDS 100000
#define SLOTS 8

static void allow_nothing(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0), /* what CHECK says when it fails */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program;
    program.len = sizeof rules / sizeof rules[0];
    program.filter = rules;
    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

struct setting {
    uint32_t policy;
    uint32_t flags;
    uint32_t history;
    const char *name; /* of a segment that exists, or NULL */
};

/* One lap through every call of the data path. */
static void one_round(shmslot_writer *writer, shmslot_reader *first, shmslot_reader *second,
                      uint64_t i)
{
    shmslot_loan loan, found, loans[2];
    shmslot_sample sample, seen, samples[2];
    uint64_t mask;
    memset(&loan, 0, sizeof loan);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memcpy(loan.data, &i, sizeof i);
    CHECK_OK(shmslot_loan_from_ptr(writer, loan.data, &found));
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    CHECK_OK(shmslot_slot_write(writer, &i, sizeof i, AT_ONCE, NULL));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memcpy(loan.data, &i, sizeof i);
    CHECK_OK(shmslot_slot_commit_ptr(writer, loan.data, 8, NULL));
    CHECK_OK(shmslot_writer_blockers(writer, &mask));

    CHECK_OK(shmslot_slot_peek_latest(second, &sample));
    CHECK_OK(shmslot_slot_mark(second, &sample));
    CHECK_U64(take(first), i);
    CHECK_U64(take(second), i);
    sample = hold(first);
    CHECK_OK(shmslot_sample_from_ptr(first, sample.data, &seen));
    CHECK_U64(take(second), i);
    CHECK_U64(take(second), i);
    CHECK_OK(shmslot_slot_mark_ptr(first, sample.data));
    CHECK_OK(shmslot_wait(first, AT_ONCE)); /* there is one: no reason to sleep */
    CHECK_OK(shmslot_wait(first, FOR_EVER));
    CHECK_U64(take(first), i);
    check_nothing_to_read(first);
    check_nothing_to_read(second);
    CHECK_CODE(shmslot_wait(first, AT_ONCE), SHMSLOT_E_AGAIN);
    CHECK_OK(shmslot_wait_space(writer, FOR_EVER));

    CHECK_U64((uint64_t)shmslot_slot_reserve_many(writer, 8, AT_ONCE, loans, 2), 2);
    memcpy(loans[0].data, &i, sizeof i);
    memcpy(loans[1].data, &i, sizeof i);
    CHECK_U64((uint64_t)shmslot_slot_commit_many(writer, loans, NULL, 2, NULL), 2);
    CHECK_U64((uint64_t)shmslot_slot_read_many(first, samples, 2), 2);
    CHECK_U64((uint64_t)shmslot_slot_mark_many(first, samples, 2), 2);
    CHECK_U64(take(second), i);
    CHECK_U64(take(second), i);
}

static int many_rounds(int link, void *argument)
{
    const struct setting *setting = argument;
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *first, *second;
    uint64_t i;
    (void)link;
    if (setting->name != NULL) {
        segment = attach(setting->name);
    } else {
        shmslot_options options = options_of(SLOTS, 64);
        options.policy = setting->policy;
        options.flags = setting->flags;
        options.history = setting->history;
        segment = make_anonymous(&options);
    }
    writer = open_writer(segment);
    first = join(segment, 0);
    second = join(segment, 0);
    allow_nothing();
    for (i = 1; i <= ROUNDS; i++) one_round(writer, first, second, i);
    if (setting->policy == SHMSLOT_POLICY_DROP_OLDEST) {
        /* nobody reads: the oldest are taken away */
        for (i = 1; i <= ROUNDS; i++) (void)put(writer, i);
        CHECK_U64(take(first), ROUNDS - SLOTS + 1);
    }
    return 0;
}

static void check_every_setting(void)
{
    static const uint32_t policies[] = {SHMSLOT_POLICY_FAIL, SHMSLOT_POLICY_BLOCK,
                                        SHMSLOT_POLICY_DROP_OLDEST};
    static const uint32_t flags[] = {0, SHMSLOT_FLAG_SINGLE_WRITER};
    size_t p, f;
    for (p = 0; p < 3; p++) {
        for (f = 0; f < 2; f++) {
            struct setting setting = {0, 0, 0, NULL};
            setting.policy = policies[p];
            setting.flags = flags[f];
            CHECK_U64((uint64_t)run_child(many_rounds, &setting), 0);
            setting.history = 3;
            CHECK_U64((uint64_t)run_child(many_rounds, &setting), 0);
        }
    }
}

/* ---- must-fail controls: the same filter does catch a system call, and a sleeper does cost one ---- */

static int forbidden(int link, void *argument)
{
    (void)link;
    (void)argument;
    allow_nothing();
    (void)syscall(SYS_getppid);
    return 0;
}

static int sleep_until_there_is_one(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, 0);
    say(link);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    return 0;
}

static void check_a_sleeper_is_woken_by_a_call(uint32_t flags)
{
    char name[64];
    shmslot_options options = options_of(SLOTS, 64);
    struct setting setting = {SHMSLOT_POLICY_FAIL, 0, 0, NULL};
    shmslot_segment *segment;
    child sleeper;
    options.flags = flags;
    segment = make_named(unique_name(name, sizeof name, "calls"), &options);
    sleeper = start_child(sleep_until_there_is_one, name);
    hear(sleeper.link);
    until_asleep(sleeper.pid);
    setting.name = name;
    CHECK_U64((uint64_t)run_child(many_rounds, &setting), 128 + SIGSYS);
    CHECK(kill(sleeper.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(sleeper), 128 + SIGKILL);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

int main(void)
{
    check_begin();
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0) SKIP("this kernel has no system call filter");
    CHECK_U64((uint64_t)run_child(forbidden, NULL), 128 + SIGSYS);
    check_every_setting();
    check_a_sleeper_is_woken_by_a_call(0);
    check_a_sleeper_is_woken_by_a_call(SHMSLOT_FLAG_SINGLE_WRITER);
    return 0;
}
