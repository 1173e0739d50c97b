/* Holds and loans in any order, from any thread, and after their owners are gone. */
#include "samples.h"

#define SLOTS 8

static shmslot_segment *segment_of_eight(void)
{
    shmslot_options options = options_of(SLOTS, 64);
    return make_anonymous(&options);
}

static void check_marks_in_any_order(void)
{
    static const int order[SLOTS] = {3, 7, 0, 5, 1, 6, 2, 4};
    shmslot_segment *segment = segment_of_eight();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    int lap, i;
    for (lap = 0; lap < 5; lap++) {
        shmslot_sample samples[SLOTS];
        for (i = 0; i < SLOTS; i++) (void)put(writer, (uint64_t)(100 * lap + i));
        for (i = 0; i < SLOTS; i++) samples[i] = hold(reader);
        check_nothing_to_read(reader);
        for (i = 0; i < SLOTS; i++) {
            shmslot_loan loan;
            CHECK_U64(value_of(&samples[order[i]]), (uint64_t)(100 * lap + order[i]));
            CHECK_OK(shmslot_slot_mark(reader, &samples[order[i]]));
            /* that very slot is free now */
            CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
            CHECK_OK(shmslot_slot_discard(writer, &loan));
        }
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

struct to_mark {
    shmslot_reader *reader;
    shmslot_sample sample;
    int by_pointer;
};

static void *mark_one(void *argument)
{
    const struct to_mark *job = argument;
    if (job->by_pointer) {
        CHECK_OK(shmslot_slot_mark_ptr(job->reader, job->sample.data));
    } else {
        CHECK_OK(shmslot_slot_mark(job->reader, &job->sample));
    }
    return NULL;
}

static void check_marks_from_other_threads(void)
{
    shmslot_segment *segment = segment_of_eight();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    int lap, i;
    for (lap = 0; lap < 20; lap++) {
        struct to_mark jobs[SLOTS];
        pthread_t threads[SLOTS];
        for (i = 0; i < SLOTS; i++) (void)put(writer, (uint64_t)i);
        for (i = 0; i < SLOTS; i++) {
            jobs[i].reader = reader;
            jobs[i].sample = hold(reader);
            jobs[i].by_pointer = i % 2;
            threads[i] = start_thread(mark_one, &jobs[i]);
        }
        for (i = 0; i < SLOTS; i++) end_thread(threads[i]);
        for (i = 0; i < SLOTS; i++)
            CHECK_CODE(shmslot_slot_mark(reader, &jobs[i].sample), SHMSLOT_E_STALE);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Held samples outlive their reader: the bytes stay, and the pointer still marks them. */
static void check_marks_after_leave(void)
{
    shmslot_segment *segment = segment_of_eight();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0), *next;
    shmslot_sample first, second;
    uint64_t i, free_slots = 0;
    shmslot_loan loan, loans[SLOTS];

    for (i = 1; i <= SLOTS; i++) (void)put(writer, i);
    first = hold(reader);
    second = hold(reader);
    shmslot_reader_leave(reader); /* gives back the six that it had not read */
    while (shmslot_slot_reserve(writer, 8, AT_ONCE, &loan) == SHMSLOT_OK) {
        CHECK(loan.data != first.data && loan.data != second.data);
        CHECK(free_slots < SLOTS);
        loans[free_slots++] = loan;
    }
    CHECK_U64(free_slots, SLOTS - 2);
    for (i = 0; i < free_slots; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    CHECK_U64(value_of(&first), 1);
    CHECK_U64(value_of(&second), 2);
    next = join(segment, 0);
    CHECK_OK(shmslot_slot_mark(reader, &second));
    CHECK_U64(value_of(&first), 1);
    CHECK_OK(shmslot_slot_mark(reader, &first)); /* the last one: now the handle is gone */
    for (i = 1; i <= SLOTS; i++) (void)put(writer, 10 + i); /* all eight are free again */
    for (i = 1; i <= SLOTS; i++) CHECK_U64(take(next), 10 + i);
    shmslot_reader_leave(next);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* The mapping is counted: a held sample keeps it when segment, writer and reader handles are
 * closed. */
static void check_marks_after_everything_is_closed(void)
{
    shmslot_segment *segment = segment_of_eight();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    (void)put(writer, 42);
    sample = hold(reader);
    shmslot_segment_close(segment);
    CHECK_U64(value_of(&sample), 42);
    shmslot_writer_close(writer);
    CHECK_U64(value_of(&sample), 42);
    shmslot_reader_leave(reader);
    CHECK_U64(value_of(&sample), 42);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
}

/* A sample outlives the writer that committed it. */
static void check_writer_close_keeps_samples(void)
{
    shmslot_segment *segment = segment_of_eight();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    (void)put(writer, 1);
    (void)put(writer, 2);
    shmslot_writer_close(writer);
    CHECK_U64(take(reader), 1);
    writer = open_writer(segment);
    CHECK_U64(put(writer, 3), 3);
    CHECK_U64(take(reader), 2);
    CHECK_U64(take(reader), 3);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* The order is decided at commit, not at reserve; a discard leaves no hole. */
static void check_loans_in_any_order(void)
{
    static const int order[] = {2, 0, 3, 1};
    shmslot_segment *segment = segment_of_eight();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    uint64_t sequence, next = 1;
    int lap, i;
    for (lap = 0; lap < 10; lap++) {
        shmslot_loan loans[5];
        for (i = 0; i < 5; i++) {
            uint64_t value = (uint64_t)i;
            CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
            memcpy(loans[i].data, &value, sizeof value);
        }
        check_nothing_to_read(reader);
        for (i = 0; i < 4; i++) {
            CHECK_OK(shmslot_slot_commit(writer, &loans[order[i]], 8, &sequence));
            CHECK_U64(sequence, next++);
            if (i == 1) CHECK_OK(shmslot_slot_discard(writer, &loans[4]));
        }
        for (i = 0; i < 4; i++) {
            shmslot_sample sample = hold(reader);
            CHECK_U64(sample.sequence, next - 4 + (uint64_t)i);
            CHECK_U64(value_of(&sample), (uint64_t)order[i]);
            CHECK_OK(shmslot_slot_mark(reader, &sample));
        }
        check_nothing_to_read(reader);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Each reader must mark; one that does not keeps the slot in use. */
static void check_each_reader_counts(void)
{
    shmslot_options options = options_of(1, 8);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *first = join(segment, 0), *second = join(segment, 0);
    shmslot_sample in_hand;
    shmslot_loan loan;
    (void)put(writer, 1);
    CHECK_U64(take(first), 1);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    in_hand = hold(second);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(shmslot_slot_mark(second, &in_hand));
    CHECK_U64(put(writer, 2), 2);
    CHECK_U64(take(second), 2);
    CHECK_U64(take(first), 2);
    shmslot_reader_leave(second);
    shmslot_reader_leave(first);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_max_readers(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment;
    shmslot_reader *readers[63], *one_more = NULL;
    shmslot_writer *writer;
    int i, k;
    options.max_readers = 63;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 0; i < 63; i++) {
        readers[i] = join(segment, 0);
        CHECK(shmslot_reader_index(readers[i]) >= 0 && shmslot_reader_index(readers[i]) < 63);
        for (k = 0; k < i; k++)
            CHECK(shmslot_reader_index(readers[k]) != shmslot_reader_index(readers[i]));
    }
    CHECK_CODE(shmslot_reader_join(segment, 0, &one_more, NULL), SHMSLOT_E_NO_READER_SLOT);
    CHECK(one_more == NULL);
    for (i = 0; i < 5; i++) {
        (void)put(writer, (uint64_t)i);
        for (k = 0; k < 63; k++) CHECK_U64(take(readers[k]), (uint64_t)i);
    }
    shmslot_reader_leave(readers[31]);
    CHECK_OK(shmslot_reader_join(segment, 0, &one_more, NULL));
    readers[31] = one_more;
    (void)put(writer, 99);
    for (k = 0; k < 63; k++) CHECK_U64(take(readers[k]), 99);
    for (k = 0; k < 63; k++) shmslot_reader_leave(readers[k]);
    CHECK_U64(info_of(segment).readers, 0);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A reader that holds max_held samples gets no more until it marks one, from whatever thread;
 * others are not concerned. */
static void check_max_held(uint32_t policy, uint32_t history)
{
    enum { MOST = 3 };
    shmslot_options options = options_of(8, 8);
    shmslot_segment *segment;
    shmslot_reader *reader, *other;
    shmslot_writer *writer;
    shmslot_sample samples[MOST], more;
    uint64_t i;

    options.max_held = MOST;
    options.policy = policy;
    options.history = history;
    segment = make_anonymous(&options);
    CHECK_U64(info_of(segment).max_held, MOST);
    reader = join(segment, 0);
    other = join(segment, 0);
    writer = open_writer(segment);
    for (i = 1; i <= MOST + 3; i++) (void)put(writer, i);
    for (i = 0; i < MOST; i++) samples[i] = hold(reader);
    CHECK_CODE(shmslot_slot_read(reader, &more), SHMSLOT_E_HELD_LIMIT);
    CHECK_CODE(shmslot_slot_peek_latest(reader, &more), SHMSLOT_E_HELD_LIMIT);
    CHECK_OK(shmslot_wait(reader, AT_ONCE)); /* there is a sample all the same */
    CHECK_U64(take(other), 1);

    CHECK_OK(shmslot_slot_mark(reader, &samples[1]));
    CHECK_CODE(shmslot_slot_mark(reader, &samples[1]), SHMSLOT_E_STALE); /* which counts nothing */
    samples[1] = hold(reader);
    CHECK_U64(samples[1].sequence, MOST + 1);
    CHECK_CODE(shmslot_slot_read(reader, &more), SHMSLOT_E_HELD_LIMIT);
    CHECK_OK(shmslot_slot_mark(reader, &samples[0]));
    CHECK_OK(shmslot_slot_peek_latest(reader, &samples[0])); /* a peek holds as well */
    CHECK_CODE(shmslot_slot_read(reader, &more), SHMSLOT_E_HELD_LIMIT);
    for (i = 0; i < MOST; i++) CHECK_OK(shmslot_slot_mark(reader, &samples[i]));
    CHECK_U64(take(reader), MOST + 2);
    CHECK_U64(take(reader), MOST + 3);
    check_nothing_to_read(reader);
    shmslot_reader_leave(reader);
    shmslot_reader_leave(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_marks_in_any_order());
    RUN(check_marks_from_other_threads());
    RUN(check_marks_after_leave());
    RUN(check_marks_after_everything_is_closed());
    RUN(check_writer_close_keeps_samples());
    RUN(check_loans_in_any_order());
    RUN(check_each_reader_counts());
    RUN(check_max_readers());
    RUN(check_max_held(SHMSLOT_POLICY_FAIL, 0));
    RUN(check_max_held(SHMSLOT_POLICY_FAIL, 2));
    RUN(check_max_held(SHMSLOT_POLICY_DROP_OLDEST, 0));
}
