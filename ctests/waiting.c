/* Sleeping and being woken: by a sample, by space, by an interrupt, by a deadline. */
#include "sleeper.h"

#include <time.h>

static int64_t now(void)
{
    struct timespec time;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
    return (int64_t)time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static shmslot_segment *segment_with(uint32_t policy, uint32_t slots)
{
    shmslot_options options = options_of(slots, 64);
    options.policy = policy;
    return make_anonymous(&options);
}

static void check_wait(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL, 4);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct waiting waiting;
    int64_t before;

    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_AGAIN);
    before = now();
    CHECK_CODE(shmslot_wait(reader, 3 * MILLISECOND), SHMSLOT_E_TIMEOUT);
    CHECK(now() - before >= 3 * MILLISECOND);

    memset(&waiting, 0, sizeof waiting);
    waiting.reader = reader;
    start(&waiting, call_wait);
    (void)put(writer, 8);
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    /* still there: waiting does not consume */
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_OK);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_OK);
    CHECK_U64(take(reader), 8);
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_AGAIN);
    CHECK_CODE(shmslot_wait(reader, INT64_MIN), SHMSLOT_E_BAD_TIMEOUT);
    (void)put(writer, 9);
    CHECK_CODE(shmslot_wait(reader, INT64_MAX), SHMSLOT_OK); /* the longest time is no overflow */
    CHECK_CODE(shmslot_wait(reader, -2), SHMSLOT_E_BAD_TIMEOUT);

    /* A discard is nothing to read. */
    CHECK_U64(take(reader), 9);
    {
        shmslot_loan loan;
        CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
        CHECK_OK(shmslot_slot_discard(writer, &loan));
        CHECK_CODE(shmslot_wait(reader, MILLISECOND), SHMSLOT_E_TIMEOUT);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static int commit_when_told(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_writer *writer = open_writer(segment);
    say(link);
    hear(link);
    (void)put(writer, 31);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void check_wait_wakes_across_processes(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "wait"), &options);
    child other = start_child(commit_when_told, name);
    struct waiting waiting;
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    memset(&waiting, 0, sizeof waiting);
    waiting.reader = join(segment, 0);
    start(&waiting, call_wait);
    say(other.link);
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    CHECK_U64(take(waiting.reader), 31);
    CHECK_CHILD(other);
    shmslot_reader_leave(waiting.reader);
    shmslot_segment_close(segment);
}

static void check_interrupt(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_BLOCK, 2);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0), *bystander = join(segment, 0);
    struct waiting waiting, other;

    memset(&waiting, 0, sizeof waiting);
    memset(&other, 0, sizeof other);
    waiting.reader = reader;
    other.reader = bystander;
    start(&waiting, call_wait);
    start(&other, call_wait);
    CHECK_OK(shmslot_reader_interrupt(reader));
    CHECK_CODE(finish(&waiting), SHMSLOT_E_INTERRUPTED);
    /* it ends one wait, not two */
    CHECK_CODE(shmslot_wait(reader, MILLISECOND), SHMSLOT_E_TIMEOUT);
    (void)put(writer, 1);
    CHECK_CODE(finish(&other), SHMSLOT_OK); /* the bystander slept on */

    CHECK_U64(take(reader), 1);
    CHECK_OK(shmslot_reader_interrupt(reader)); /* nobody waits now: the next wait ends */
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_INTERRUPTED);
    CHECK_CODE(shmslot_wait(reader, MILLISECOND), SHMSLOT_E_TIMEOUT);

    (void)put(writer, 2); /* both slots are unread now: the writer has no space */
    waiting.writer = writer;
    start(&waiting, call_wait_space);
    CHECK_OK(shmslot_writer_interrupt(writer));
    CHECK_CODE(finish(&waiting), SHMSLOT_E_INTERRUPTED);
    start(&waiting, call_reserve);
    CHECK_OK(shmslot_writer_interrupt(writer));
    CHECK_CODE(finish(&waiting), SHMSLOT_E_INTERRUPTED);
    CHECK_OK(shmslot_writer_interrupt(writer));
    CHECK_CODE(shmslot_wait_space(writer, FOR_EVER), SHMSLOT_E_INTERRUPTED);
    CHECK_CODE(shmslot_wait_space(writer, MILLISECOND), SHMSLOT_E_TIMEOUT);

    shmslot_reader_leave(bystander);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_wait_any(void)
{
    shmslot_segment *segments[2];
    shmslot_writer *writers[2];
    shmslot_reader *readers[2];
    struct waiting waiting;
    size_t i, index = 77;
    int result;

    for (i = 0; i < 2; i++) {
        segments[i] = segment_with(SHMSLOT_POLICY_FAIL, 4);
        writers[i] = open_writer(segments[i]);
        readers[i] = join(segments[i], 0);
    }
    CHECK_CODE(shmslot_wait_any(readers, 2, AT_ONCE, &index), SHMSLOT_E_AGAIN);
    result = shmslot_wait_any(readers, 2, MILLISECOND, &index);
    if (result == SHMSLOT_E_NOT_SUPPORTED) {
        fprintf(stderr, "left out: sleeping for several readers (this kernel cannot)\n");
        goto done;
    }
    CHECK_CODE(result, SHMSLOT_E_TIMEOUT);
    CHECK_U64(index, 77);
    CHECK_CODE(shmslot_wait_any(readers, 2, -2, &index), SHMSLOT_E_BAD_TIMEOUT);
    for (i = 0; i < 2; i++) {
        memset(&waiting, 0, sizeof waiting);
        waiting.readers = readers;
        start(&waiting, call_wait_any);
        (void)put(writers[i], 50 + i);
        CHECK_CODE(finish(&waiting), SHMSLOT_OK);
        CHECK_U64(waiting.index, i);
        CHECK_U64(take(readers[i]), 50 + i);
    }
    for (i = 0; i < 2; i++) {
        (void)put(writers[i], 60);
        CHECK_CODE(shmslot_wait_any(readers, 2, AT_ONCE, &index), SHMSLOT_OK);
        CHECK_U64(index, i);
        CHECK_CODE(shmslot_wait_any(&readers[i], 1, AT_ONCE, &index), SHMSLOT_OK);
        CHECK_U64(index, 0);
        CHECK_U64(take(readers[i]), 60);
    }
    memset(&waiting, 0, sizeof waiting);
    waiting.readers = readers;
    start(&waiting, call_wait_any);
    CHECK_OK(shmslot_reader_interrupt(readers[1]));
    CHECK_CODE(finish(&waiting), SHMSLOT_E_INTERRUPTED);
    CHECK_CODE(shmslot_wait_any(readers, 2, MILLISECOND, &index), SHMSLOT_E_TIMEOUT);
done:
    for (i = 0; i < 2; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_writer_close(writers[i]);
        shmslot_segment_close(segments[i]);
    }
}

static void check_wait_space(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_BLOCK, 2);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct waiting waiting;
    shmslot_sample held;
    int64_t before;

    CHECK_CODE(shmslot_wait_space(writer, AT_ONCE), SHMSLOT_OK);
    (void)put(writer, 1);
    (void)put(writer, 2);
    CHECK_CODE(shmslot_wait_space(writer, AT_ONCE), SHMSLOT_E_AGAIN);
    before = now();
    CHECK_CODE(shmslot_wait_space(writer, 3 * MILLISECOND), SHMSLOT_E_TIMEOUT);
    CHECK(now() - before >= 3 * MILLISECOND);
    held = hold(reader);
    /* reading alone frees nothing */
    CHECK_CODE(shmslot_wait_space(writer, AT_ONCE), SHMSLOT_E_AGAIN);
    memset(&waiting, 0, sizeof waiting);
    waiting.writer = writer;
    start(&waiting, call_wait_space);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    CHECK_CODE(shmslot_wait_space(writer, AT_ONCE), SHMSLOT_OK);
    (void)put(writer, 3);

    held = hold(reader); /* by pointer it wakes as well */
    start(&waiting, call_reserve);
    CHECK_OK(shmslot_slot_mark_ptr(reader, held.data));
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A discard gives space too. */
static void check_discard_wakes_a_writer(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_BLOCK, 1);
    shmslot_writer *writer = open_writer(segment), *other = open_writer(segment);
    struct waiting waiting;
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memset(&waiting, 0, sizeof waiting);
    waiting.writer = other;
    start(&waiting, call_reserve);
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    shmslot_writer_close(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* So does a commit: of a sample that nobody is owed, and under DROP_OLDEST of any sample. */
static void check_commit_wakes_a_writer(uint32_t policy)
{
    shmslot_segment *segment = segment_with(policy, 1);
    shmslot_writer *writer = open_writer(segment), *other = open_writer(segment);
    shmslot_reader *reader = policy == SHMSLOT_POLICY_DROP_OLDEST ? join(segment, 0) : NULL;
    struct waiting waiting;
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memset(&waiting, 0, sizeof waiting);
    waiting.writer = other;
    start(&waiting, call_reserve);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    if (reader != NULL) {
        check_nothing_to_read(reader);
        (void)put(writer, 2);
        CHECK_U64(take(reader), 2);
        CHECK_U64(lost(reader), 1);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static uint32_t generation_of(const shmslot_segment *segment)
{
    uint32_t generation = 0;
    CHECK_OK(shmslot_segment_generation(segment, &generation));
    return generation;
}

static void check_generation(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL, 4);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct waiting waiting;
    shmslot_sample held;
    shmslot_loan loan;
    uint32_t last = generation_of(segment), next = last;
    unsigned round = 0;

    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, AT_ONCE, &next), SHMSLOT_E_AGAIN);
    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, MILLISECOND, &next),
               SHMSLOT_E_TIMEOUT);
    CHECK_U64(next, last);
    CHECK_U64(generation_of(segment), last);

    (void)put(writer, 1); /* commit */
    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, FOR_EVER, &next), SHMSLOT_OK);
    CHECK(next != last);
    last = generation_of(segment);
    held = hold(reader);
    CHECK_OK(shmslot_slot_mark(reader, &held)); /* mark */
    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, FOR_EVER, NULL), SHMSLOT_OK);
    last = generation_of(segment);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(writer, &loan)); /* discard */
    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, FOR_EVER, &next), SHMSLOT_OK);
    CHECK(next != last);
    /* What a wait returns can be given to the next one, and no change in between is missed. */
    for (last = next; round < 3; round++) {
        (void)put(writer, 10 + round);
        CHECK_CODE(shmslot_segment_wait_for_change(segment, last, FOR_EVER, &next), SHMSLOT_OK);
        CHECK(next != last);
        last = next;
        held = hold(reader);
        CHECK_OK(shmslot_slot_mark(reader, &held));
        CHECK_CODE(shmslot_segment_wait_for_change(segment, last, FOR_EVER, &next), SHMSLOT_OK);
        CHECK(next != last);
        last = next;
    }

    memset(&waiting, 0, sizeof waiting);
    waiting.segment = segment;
    waiting.generation = last = generation_of(segment);
    start(&waiting, call_wait_for_change);
    (void)put(writer, 2);
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    CHECK(waiting.generation != last);
    last = waiting.generation; /* after a sleep, too */
    held = hold(reader);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, FOR_EVER, NULL), SHMSLOT_OK);
    (void)put(writer, 3);

    waiting.generation = generation_of(segment);
    held = hold(reader);
    start(&waiting, call_wait_for_change);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    CHECK_CODE(shmslot_segment_wait_for_change(segment, last, -2, NULL), SHMSLOT_E_BAD_TIMEOUT);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Signals do not end a wait: the library handles EINTR. */
static void ignore(int signal_number)
{
    (void)signal_number;
}

static void check_signals_do_not_end_a_wait(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL, 4);
    shmslot_writer *writer = open_writer(segment);
    struct waiting waiting;
    struct sigaction action;
    int i;
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore; /* without SA_RESTART */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    memset(&waiting, 0, sizeof waiting);
    waiting.reader = join(segment, 0);
    start(&waiting, call_wait);
    for (i = 0; i < 20; i++) {
        CHECK(pthread_kill(waiting.thread, SIGUSR1) == 0);
        (void)sched_yield();
    }
    (void)put(writer, 1);
    CHECK_CODE(finish(&waiting), SHMSLOT_OK);
    CHECK_U64(take(waiting.reader), 1);
    shmslot_reader_leave(waiting.reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- a bell that is rung all the time, but never for this reader, does not delay its deadline
 * ---- */

struct ringing {
    shmslot_reader *reader;
    int over;
};

static void *ring_all_the_time(void *argument)
{
    struct ringing *ringing = argument;
    while (!__atomic_load_n(&ringing->over, __ATOMIC_RELAXED))
        CHECK_OK(shmslot_reader_interrupt(ringing->reader));
    return NULL;
}

static void check_deadline_while_it_rings(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL, 4);
    shmslot_reader *reader = join(segment, 0);
    struct ringing ringing;
    pthread_t thread;
    int i;
    ringing.reader = join(segment, 0);
    ringing.over = 0;
    thread = start_thread(ring_all_the_time, &ringing);
    for (i = 0; i < 50; i++) CHECK_CODE(shmslot_wait(reader, MILLISECOND), SHMSLOT_E_TIMEOUT);
    __atomic_store_n(&ringing.over, 1, __ATOMIC_RELAXED);
    end_thread(thread);
    shmslot_reader_leave(ringing.reader);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* ---- so many sleeps that the watchdog would end the test if one ended only by the look for the dead, after 200 ms
 * ---- */

#define SLEEPS 3000

static shmslot_segment *without_spinning(uint32_t slots)
{
    shmslot_options options = options_of(slots, 64);
    options.policy = SHMSLOT_POLICY_BLOCK;
    options.spin_ns = SHMSLOT_SPIN_NONE;
    return make_anonymous(&options);
}

struct echo {
    shmslot_reader *reader;
    shmslot_writer *writer;
};

static void *send_back(void *argument)
{
    struct echo *echo = argument;
    uint64_t i;
    for (i = 0; i < SLEEPS; i++) (void)put_wait(echo->writer, take_wait(echo->reader), FOR_EVER);
    return NULL;
}

static void check_every_sample_wakes(void)
{
    shmslot_segment *there = without_spinning(4), *back = without_spinning(4);
    struct echo mine, other;
    pthread_t thread;
    uint64_t i;
    mine.reader = join(back, 0);
    mine.writer = open_writer(there);
    other.reader = join(there, 0);
    other.writer = open_writer(back);
    thread = start_thread(send_back, &other);
    for (i = 0; i < SLEEPS; i++) {
        (void)put(mine.writer, i);
        CHECK_U64(take_wait(mine.reader), i);
    }
    end_thread(thread);
    shmslot_reader_leave(other.reader);
    shmslot_reader_leave(mine.reader);
    shmslot_writer_close(other.writer);
    shmslot_writer_close(mine.writer);
    shmslot_segment_close(back);
    shmslot_segment_close(there);
}

static void *write_all(void *writer)
{
    uint64_t i;
    for (i = 0; i < SLEEPS; i++) (void)put_wait(writer, i, FOR_EVER);
    return NULL;
}

static void check_every_mark_wakes(void)
{
    shmslot_segment *segment = without_spinning(1);
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    pthread_t thread = start_thread(write_all, writer);
    uint64_t i;
    for (i = 0; i < SLEEPS; i++) CHECK_U64(take_wait(reader), i);
    end_thread(thread);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_wait());
    RUN(check_wait_wakes_across_processes());
    RUN(check_interrupt());
    RUN(check_wait_any());
    RUN(check_wait_space());
    RUN(check_discard_wakes_a_writer());
    RUN(check_commit_wakes_a_writer(SHMSLOT_POLICY_BLOCK));
    RUN(check_commit_wakes_a_writer(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_generation());
    RUN(check_signals_do_not_end_a_wait());
    RUN(check_deadline_while_it_rings());
    RUN(check_every_sample_wakes());
    RUN(check_every_mark_wakes());
}
