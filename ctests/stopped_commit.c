/* A writer is stopped inside its commit, after its sample is published; meanwhile another is killed
 * at an awkward instruction and recovered. When the stopped one continues, nothing may be
 * missing. */
/* not under memcheck: it would single-step through the tool, too */
/* not under aarch64: the emulator has no single steps */
#include "words.h"

#include <sys/ptrace.h>

struct writing {
    int fd;
    int commits; /* or only reserves */
};

/* Reserves, stops, and continues by single steps, or freely until it stops again. */
static int reserve_and_stop(int link, void *argument)
{
    const struct writing *writing = argument;
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    shmslot_loan loan;
    CHECK_OK(shmslot_segment_attach_fd(writing->fd, NULL, &segment, NULL));
    writer = open_writer(segment);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) return 77;
    if (writing->commits) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK(raise(SIGSTOP) == 0);
    if (writing->commits) {
        CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    } else {
        (void)shmslot_slot_reserve(writer, 8, AT_ONCE, &loan);
    }
    CHECK(raise(SIGSTOP) == 0);
    hear(link); /* never comes */
    return 0;
}

static void await_stop(pid_t pid)
{
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        SKIP("this process may not trace its children");
    CHECK(WIFSTOPPED(status));
}

static child start_writer(shmslot_segment *segment, int commits)
{
    struct writing writing;
    child started;
    writing.fd = shmslot_segment_fd(segment);
    writing.commits = commits;
    started = start_child(reserve_and_stop, &writing);
    await_stop(started.pid);
    return started;
}

static void step(pid_t pid)
{
    CHECK(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
    await_stop(pid);
}

static void step_until_published(const struct words *words, child writer, uint64_t sequence,
                                 uint64_t *ret_slot)
{
    while (!find_sample(words, sequence, ret_slot)) step(writer.pid);
    CHECK_U64(phase_of(words, *ret_slot), PHASE_PUBLISHING);
}

static void finish(child writer)
{
    CHECK(ptrace(PTRACE_CONT, writer.pid, NULL, NULL) == 0);
    await_stop(writer.pid);
}

static void kill_writer(child writer)
{
    CHECK(kill(writer.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(writer), 128 + SIGKILL);
}

/* The killed one had pushed the sample of the stopped one out of history, and not ended its
 * retention. */
static void check_retention(void)
{
    enum { SLOTS = 128, HISTORY = 1 };
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment;
    shmslot_writer *mine;
    shmslot_loan loan;
    struct words words;
    child stopped, killed;
    uint64_t first, slot, next_slot, i;
    options.history = HISTORY;
    segment = make_anonymous(&options);
    words = map_words(segment);
    mine = open_writer(segment);
    for (i = 0; i < 2 * SLOTS; i++) (void)put(mine, i);
    first = info_of(segment).next_sequence;
    stopped = start_writer(segment, 1);
    killed = start_writer(segment, 1);
    step_until_published(&words, stopped, first, &slot);
    step_until_published(&words, killed, first + 1, &next_slot);
    while (phase_of(&words, next_slot) != PHASE_PUBLISHED) step(killed.pid);
    kill_writer(killed);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    finish(stopped);
    for (i = 0; i < 2 * SLOTS; i++) (void)put(mine, i);
    for (i = 0; shmslot_slot_reserve(mine, 8, AT_ONCE, &loan) == SHMSLOT_OK; i++) continue;
    CHECK_U64(i, SLOTS - HISTORY);
    kill_writer(stopped);
    unmap_words(&words);
    shmslot_writer_close(mine);
    shmslot_segment_close(segment);
}

/* The killed one had overwritten the entry of the stopped one's sample, two laps later, and not
 * cleared what is owed of it. */
static void check_unreachable(void)
{
    enum { SLOTS = 8 };
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment;
    shmslot_writer *mine;
    shmslot_reader *reader;
    shmslot_loan loan;
    struct words words;
    child stopped, killed;
    uint64_t first, slot, next_slot, i;
    options.policy = SHMSLOT_POLICY_DROP_OLDEST;
    segment = make_anonymous(&options);
    words = map_words(segment);
    mine = open_writer(segment);
    reader = join(segment, 0); /* reads nothing */
    for (i = 0; i < 2 * SLOTS; i++) (void)put(mine, i);
    first = info_of(segment).next_sequence;
    stopped = start_writer(segment, 1);
    step_until_published(&words, stopped, first, &slot);
    for (i = 1; i < 2 * SLOTS; i++) (void)put(mine, i);
    killed = start_writer(segment, 1);
    step_until_published(&words, killed, first + 2 * SLOTS, &next_slot);
    while (phase_of(&words, next_slot) != PHASE_PUBLISHED) step(killed.pid);
    kill_writer(killed);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    finish(stopped);
    for (i = 0; i < 4 * SLOTS; i++) (void)put(mine, i);
    for (i = 0; shmslot_slot_reserve(mine, 8, AT_ONCE, &loan) == SHMSLOT_OK; i++) continue;
    CHECK_U64(i, SLOTS);
    kill_writer(stopped);
    unmap_words(&words);
    shmslot_reader_leave(reader);
    shmslot_writer_close(mine);
    shmslot_segment_close(segment);
}

/* The killed one had withdrawn the hint of a slot that was a loan at that moment, and not offered
 * it again. If this is 0, counts the steps to that point; else stops before so many. */
static uint64_t hint_round(uint64_t steps_to_withdraw)
{
    enum { SLOTS = 8 };
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment = make_anonymous(&options);
    struct words words = map_words(segment);
    shmslot_writer *mine = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan;
    child stopped, killed;
    shmslot_sample held[SLOTS];
    uint64_t steps = 0, slot, i;
    for (i = 1; i < SLOTS; i++) (void)put(mine, i); /* unread: only slot 0 is left */
    stopped = start_writer(segment, 1);
    killed = start_writer(segment, 0);
    if (steps_to_withdraw == 0) {
        for (; is_offered(&words, 0); steps++) step(killed.pid);
    } else {
        while (++steps < steps_to_withdraw) step(killed.pid);
        CHECK(is_offered(&words, 0));
        step_until_published(&words, stopped, SLOTS, &slot);
        CHECK_U64(slot, 0);
        for (i = 1; i < SLOTS; i++) held[i] = hold(reader);
        (void)take(reader); /* so slot 0 is free when its commit is over */
        step(killed.pid);
        CHECK(!is_offered(&words, 0));
    }
    kill_writer(killed);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    if (steps_to_withdraw != 0) {
        finish(stopped);
        CHECK_OK(shmslot_wait_space(mine, AT_ONCE));
        CHECK_OK(shmslot_slot_reserve(mine, 8, AT_ONCE, &loan));
        for (i = 1; i < SLOTS; i++) CHECK_OK(shmslot_slot_mark(reader, &held[i]));
    }
    kill_writer(stopped);
    unmap_words(&words);
    shmslot_reader_leave(reader);
    shmslot_writer_close(mine);
    shmslot_segment_close(segment);
    return steps;
}

static void check_hint(void)
{
    (void)hint_round(hint_round(0));
}

CHECK_MAIN()
{
#ifndef __x86_64__
    SKIP("elsewhere a single step may break an exclusive access, which then never succeeds");
#endif
    RUN(check_retention());
    RUN(check_unreachable());
    RUN(check_hint());
}
