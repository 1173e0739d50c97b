/* A process that dies, at whatever moment, blocks nobody, and what it had comes back. */
/* not under memcheck: its filter kills a process for calls of the tool */
/* not under aarch64: the emulator has no filters of system calls */
#include "samples.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static int die_with(int link, int (*prepare)(shmslot_segment *segment), const char *name)
{
    CHECK_U64((uint64_t)prepare(attach(name)), 0);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static int take_everything(shmslot_segment *segment)
{
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    shmslot_loan loan;
    int i;
    for (i = 0; i < 3; i++) (void)put(writer, 1);
    (void)hold(reader);
    while (shmslot_slot_reserve(writer, 8, AT_ONCE, &loan) == SHMSLOT_OK) continue;
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    return 0;
}

static int open_the_only_writer(shmslot_segment *segment)
{
    CHECK_U64(put(open_writer(segment), 1), 1);
    return 0;
}

static int only_attach(shmslot_segment *segment)
{
    return segment == NULL;
}

static int body_take_everything(int link, void *name)
{
    return die_with(link, take_everything, name);
}

static int body_open_the_only_writer(int link, void *name)
{
    return die_with(link, open_the_only_writer, name);
}

static int body_only_attach(int link, void *name)
{
    return die_with(link, only_attach, name);
}

static void run_and_kill(int (*body)(int, void *), char *name)
{
    child other = start_child(body, name);
    hear(other.link);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
}

static void check_slots_and_readers(uint32_t policy)
{
    char name[64];
    shmslot_options options = options_of(8, 64);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loans[8], none;
    uint64_t i;
    options.policy = policy;
    segment = make_named(unique_name(name, sizeof name, "recovery"), &options);
    writer = open_writer(segment);
    run_and_kill(body_take_everything, name);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (i = 0; i < 8; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_U64(info_of(segment).readers, 0);
    CHECK_U64(info_of(segment).participants, 1);
    for (i = 0; i < 8; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    reader = join(segment, 0);
    CHECK_U64(put(writer, 7), 4); /* its three samples stay in the count: no hole, no double */
    CHECK_U64(take(reader), 7);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_the_only_writer(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    options.flags = SHMSLOT_FLAG_SINGLE_WRITER;
    segment = make_named(unique_name(name, sizeof name, "recovery"), &options);
    reader = join(segment, 0);
    run_and_kill(body_open_the_only_writer, name);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    writer = open_writer(segment); /* the place is free again */
    CHECK_U64(put(writer, 2), 2);
    CHECK_U64(take(reader), 1);
    CHECK_U64(take(reader), 2);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_participants(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment, *other;
    int i;
    options.max_participants = 3;
    segment = make_named(unique_name(name, sizeof name, "recovery"), &options);
    for (i = 0; i < 20; i++) run_and_kill(body_only_attach, name);
    other = attach(name);
    CHECK_U64(info_of(segment).participants, 2);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
}

/* ---- a waker that dies between publishing and waking ---- */

static void allow_nothing(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
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

static int commit_and_die_at_the_wake(int link, void *name)
{
    shmslot_writer *writer = open_writer(attach(name));
    (void)link;
    allow_nothing();
    (void)put(writer, 1);
    return 0;
}

static int sleep_until_there_is_one(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, 0);
    say(link);
    CHECK_U64(take_wait(reader), 1);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_lost_wake(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "recovery"), &options);
    child sleeper = start_child(sleep_until_there_is_one, name);
    hear(sleeper.link);
    until_asleep(sleeper.pid);
    CHECK_U64((uint64_t)run_child(commit_and_die_at_the_wake, name), 128 + SIGSYS);
    CHECK_CHILD(sleeper); /* wakes by itself: its wait looks for the dead from time to time */
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

/* Waits that are always shorter than the time between two looks for the dead look all the same. */
static void check_short_waits(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "recovery"), &options);
    shmslot_reader *reader = join(segment, 0);
    int result;
    run_and_kill(body_only_attach, name);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    while ((result = shmslot_wait(reader, 10 * MILLISECOND)) == SHMSLOT_E_TIMEOUT) continue;
    CHECK_CODE(result, SHMSLOT_E_PEER_DEAD);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* ---- who died ---- */

#define DEATHS 8

static size_t deaths_of(const shmslot_segment *segment, shmslot_death *deaths)
{
    size_t count = 0;
    CHECK_OK(shmslot_segment_deaths(segment, deaths, sizeof deaths[0], DEATHS, &count));
    CHECK(count <= DEATHS);
    return count;
}

static int have_readers_and_a_writer(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    uint64_t readers = UINT64_C(1) << shmslot_reader_index(join(segment, 0));
    readers |= UINT64_C(1) << shmslot_reader_index(join(segment, 0));
    (void)open_writer(segment);
    send_bytes(link, &readers, sizeof readers);
    for (;;) (void)pause();
    return 0;
}

/* Tells which readers it had. */
static uint64_t kill_after_it_has_joined(child victim)
{
    uint64_t readers;
    receive_bytes(victim.link, &readers, sizeof readers);
    CHECK(kill(victim.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(victim), 128 + SIGKILL);
    return readers;
}

static void check_who_died(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "recovery"), &options),
                    *observer = NULL;
    shmslot_reader *reader = join(segment, 0);
    shmslot_death deaths[DEATHS], observed[DEATHS];
    child first = start_child(have_readers_and_a_writer, name), second;
    uint64_t had;

    CHECK_U64(deaths_of(segment, deaths), 0);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    had = kill_after_it_has_joined(first);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_PEER_DEAD);
    CHECK_U64(deaths_of(segment, deaths), 1);
    CHECK_U64(deaths[0].pid, (uint64_t)first.pid);
    CHECK_U64(deaths[0].participant, 1);
    CHECK_U64(deaths[0].writers, 1);
    CHECK_U64(deaths[0].readers, had);
    CHECK(deaths[0].noticed_ns > 0);
    CHECK_U64(info_of(segment).participants, 1);

    /* The next one gets the same row, and both are remembered until it has died as well. */
    second = start_child(have_readers_and_a_writer, name);
    receive_bytes(second.link, &had, sizeof had);
    CHECK_U64(deaths_of(segment, deaths), 1);
    CHECK_U64(deaths[0].pid, (uint64_t)first.pid);
    run_and_kill(body_only_attach, name);
    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 1);
    CHECK_U64(deaths_of(segment, deaths), 2);
    CHECK_U64(deaths[0].participant, 2); /* the latest first */
    CHECK_U64(deaths[0].writers, 0);
    CHECK_U64(deaths[0].readers, 0);
    CHECK_U64(deaths[1].pid, (uint64_t)first.pid);
    CHECK(kill(second.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(second), 128 + SIGKILL);
    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 1);
    CHECK_U64(deaths_of(segment, deaths), 2);
    CHECK_U64(deaths[0].pid, (uint64_t)second.pid);
    CHECK_U64(deaths[0].readers, had);
    CHECK(deaths[0].noticed_ns > deaths[1].noticed_ns);

    look.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(name, &look, &observer, NULL));
    CHECK_U64(deaths_of(observer, observed), 2);
    CHECK(memcmp(observed, deaths, 2 * sizeof deaths[0]) == 0);
    shmslot_segment_close(observer);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_slots_and_readers(SHMSLOT_POLICY_FAIL));
    RUN(check_slots_and_readers(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_the_only_writer());
    RUN(check_participants());
    RUN(check_lost_wake());
    RUN(check_short_waits());
    RUN(check_who_died());
}
