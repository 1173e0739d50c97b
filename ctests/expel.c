/* A reader that lives is expelled: what it has not read is released, what it holds stays, it is told,
 * and nobody else loses anything. */
#include "sandbox.h"
#include "sleeper.h"

#define SLOTS 8

static shmslot_segment *make(uint32_t policy, uint32_t history)
{
    shmslot_options options = options_of(SLOTS, 8);
    options.policy = policy;
    options.history = history;
    return make_anonymous(&options);
}

/* What the segment shows of the reader with this index; its kind is 0 if it shows none. */
static shmslot_reader_counters counters_of(const shmslot_segment *segment, int index)
{
    shmslot_reader_counters all[63], none;
    size_t i, count = 0;
    memset(&none, 0, sizeof none);
    CHECK_OK(shmslot_segment_readers(segment, all, sizeof all[0], 63, &count));
    for (i = 0; i < count; i++) {
        if (all[i].index == (uint32_t)index) return all[i];
    }
    return none;
}

static int expel(shmslot_segment *segment, int index)
{
    const shmslot_reader_counters reader = counters_of(segment, index);
    return shmslot_segment_expel(segment, reader.index, reader.generation, NULL);
}

static uint32_t fill(shmslot_writer *writer, uint64_t value)
{
    uint32_t written = 0;
    while (shmslot_slot_write(writer, &value, sizeof value, AT_ONCE, NULL) == SHMSLOT_OK) {
        written++;
        value++;
    }
    return written;
}

static uint32_t free_slots(shmslot_writer *writer)
{
    shmslot_loan loans[SLOTS + 1];
    uint32_t i, count = 0;
    while (shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[count]) == SHMSLOT_OK) count++;
    for (i = 0; i < count; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    return count;
}

/* It reads nothing more, by any call, and its row is free when it has left. */
static void check_expelled(shmslot_segment *segment, shmslot_reader *reader)
{
    shmslot_sample sample;
    const int index = shmslot_reader_index(reader);
    size_t which = 0;
    CHECK_U64(counters_of(segment, index).kind, SHMSLOT_READER_EXPELLED);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_EXPELLED);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_EXPELLED);
    CHECK_CODE(shmslot_slot_peek_latest(reader, &sample), SHMSLOT_E_EXPELLED);
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_EXPELLED);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_EXPELLED);
    CHECK_CODE(shmslot_wait_any(&reader, 1, FOR_EVER, &which), SHMSLOT_E_EXPELLED);
    shmslot_reader_leave(reader);
    CHECK_U64(counters_of(segment, index).kind, 0);
}

static void check_policy(uint32_t policy)
{
    shmslot_segment *segment = make(policy, 0);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *stuck = join(segment, 0), *other = join(segment, 0);
    const int index = shmslot_reader_index(stuck);
    shmslot_sample held;
    shmslot_counters counters;
    uint64_t value;
    for (value = 1; value <= SLOTS; value++) CHECK_U64(put(writer, value), value);
    held = hold(stuck);
    for (value = 1; value <= SLOTS; value++) CHECK_U64(take(other), value);

    CHECK_U64(counters_of(segment, index).unread, SLOTS - 1);
    CHECK_OK(expel(segment, index));
    CHECK_U64(counters_of(segment, index).kind, SHMSLOT_READER_EXPELLED);
    CHECK_U64(counters_of(segment, index).unread, 0);
    CHECK_U64(counters_of(segment, index).held, 1);
    CHECK_U64(info_of(segment).readers, UINT64_C(1) << shmslot_reader_index(other));
    CHECK_OK(shmslot_segment_counters(segment, &counters, sizeof counters));
    CHECK_U64(counters.free, SLOTS - 1);
    CHECK_U64(counters.readers, 1);
    CHECK_OK(expel(segment, index)); /* again */

    /* All slots but one go round, several laps, and the held one keeps its bytes. */
    for (value = 100; value < 100 + 5 * SLOTS; value++) {
        (void)put(writer, value);
        CHECK_U64(take(other), value);
    }
    CHECK_U64(value_of(&held), 1);
    CHECK_OK(shmslot_slot_mark(stuck, &held));
    CHECK_CODE(shmslot_slot_mark(stuck, &held), SHMSLOT_E_STALE);
    check_expelled(segment, stuck);

    /* The next reader in the row begins anew. */
    stuck = join(segment, 0);
    CHECK_U64((uint64_t)shmslot_reader_index(stuck), (uint64_t)index);
    (void)put(writer, 7);
    CHECK_U64(take(stuck), 7);
    CHECK_U64(take(other), 7);
    shmslot_reader_leave(stuck);
    shmslot_reader_leave(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_policies(void)
{
    check_policy(SHMSLOT_POLICY_BLOCK);
    check_policy(SHMSLOT_POLICY_FAIL);
    check_policy(SHMSLOT_POLICY_DROP_OLDEST);
}

/* It leaves while it still holds samples: its row stays taken until they are marked. */
static void check_leave_with_samples_held(void)
{
    shmslot_segment *segment = make(SHMSLOT_POLICY_BLOCK, 2);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    const int index = shmslot_reader_index(reader);
    shmslot_sample read, peeked;
    (void)fill(writer, 1);
    read = hold(reader);
    CHECK_OK(shmslot_slot_peek_latest(reader, &peeked));
    CHECK_OK(expel(segment, index));
    CHECK_U64(counters_of(segment, index).held, 2);
    CHECK_U64(value_of(&read), 1);
    CHECK_U64(value_of(&peeked), SLOTS);
    shmslot_reader_leave(reader);
    CHECK_U64(counters_of(segment, index).kind, SHMSLOT_READER_LEFT);
    CHECK_U64(counters_of(segment, index).held, 2);
    CHECK_CODE(expel(segment, index), SHMSLOT_E_NOT_FOUND);
    CHECK_OK(shmslot_slot_mark(reader, &peeked));
    CHECK_U64(free_slots(writer), SLOTS - 3); /* history keeps two */
    CHECK_OK(shmslot_slot_mark(reader, &read));
    CHECK_U64(counters_of(segment, index).kind, 0);
    CHECK_U64(free_slots(writer), SLOTS - 2);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Calls of an expelled reader change nothing: they take no retained sample, count no loss, and say
 * EXPELLED whatever else they could say. */
static void check_calls_afterwards(uint32_t policy)
{
    shmslot_options options = options_of(SLOTS, 8);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_sample held, none;
    uint64_t value, lost_before = 0, lost_after = 0;
    uint32_t i;
    options.policy = policy;
    options.history = 2;
    options.max_held = 1;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 2);
    (void)put(writer, 1);
    CHECK_OK(shmslot_slot_peek_latest(reader, &held));
    CHECK_CODE(shmslot_slot_read(reader, &none), SHMSLOT_E_HELD_LIMIT);
    CHECK_OK(expel(segment, shmslot_reader_index(reader)));
    CHECK_OK(shmslot_reader_lost(reader, &lost_before));
    for (i = 0; i < 3; i++) {
        for (value = 0; value < 5 * SLOTS; value++) (void)put(writer, value);
        CHECK_CODE(shmslot_slot_read(reader, &none), SHMSLOT_E_EXPELLED);
        CHECK_CODE(shmslot_slot_peek_latest(reader, &none), SHMSLOT_E_EXPELLED);
        CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_EXPELLED);
    }
    CHECK_OK(shmslot_reader_lost(reader, &lost_after));
    CHECK_U64(lost_after, lost_before);
    CHECK_U64(value_of(&held), 1);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    CHECK_U64(counters_of(segment, shmslot_reader_index(reader)).unread, 0);
    CHECK_U64(free_slots(writer), policy == SHMSLOT_POLICY_DROP_OLDEST ? SLOTS : SLOTS - 2);
    check_expelled(segment, reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A reader in a process that stands still blocks the writers until it is expelled; when the process
 * goes on, it finds what it held, and is told. */
struct meeting {
    shmslot_segment *segment;
    uint32_t held;
};

static int stand_still(int link, void *argument)
{
    const struct meeting *meeting = argument;
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    shmslot_sample samples[SLOTS], none;
    uint32_t i;
    int index;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(meeting->segment), NULL, &segment, NULL));
    reader = join(segment, 0);
    index = shmslot_reader_index(reader);
    send_bytes(link, &index, sizeof index);
    hear(link);
    for (i = 0; i < meeting->held; i++) samples[i] = hold(reader);
    say(link);
    hear(link); /* much later */
    for (i = 0; i < meeting->held; i++) CHECK_U64(value_of(&samples[i]), i + 1);
    CHECK_CODE(shmslot_slot_read(reader, &none), SHMSLOT_E_EXPELLED);
    for (i = 0; i < meeting->held; i++) CHECK_OK(shmslot_slot_mark(reader, &samples[i]));
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_stopped_process(void)
{
    struct meeting meeting;
    uint32_t held;
    for (held = 0; held <= 3; held += 3) {
        shmslot_writer *writer;
        shmslot_loan loan;
        child stuck;
        int index = -1;
        meeting.segment = make(SHMSLOT_POLICY_BLOCK, 0);
        meeting.held = held;
        writer = open_writer(meeting.segment);
        stuck = start_child(stand_still, &meeting);
        receive_bytes(stuck.link, &index, sizeof index);
        CHECK_U64(fill(writer, 1), SLOTS);
        say(stuck.link);
        hear(stuck.link);
        CHECK(kill(stuck.pid, SIGSTOP) == 0);
        CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
        CHECK_OK(expel(meeting.segment, index));
        CHECK_U64(free_slots(writer), SLOTS - held);
        CHECK_U64(put(writer, 1000), SLOTS + 1); /* nobody is to read it */
        CHECK_U64(free_slots(writer), SLOTS - held);
        CHECK_U64(counters_of(meeting.segment, index).held, held);
        CHECK(kill(stuck.pid, SIGCONT) == 0);
        say(stuck.link);
        CHECK_CHILD(stuck);
        CHECK_U64(counters_of(meeting.segment, index).kind, 0);
        shmslot_writer_close(writer);
        shmslot_segment_close(meeting.segment);
    }
}

/* The process of an expelled reader is killed: recovery releases what it held. */
static int hold_for_ever(int link, void *argument)
{
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    int index;
    CHECK_OK(shmslot_segment_attach_fd(*(int *)argument, NULL, &segment, NULL));
    reader = join(segment, 0);
    index = shmslot_reader_index(reader);
    send_bytes(link, &index, sizeof index);
    hear(link);
    (void)hold(reader);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static void check_killed_process(void)
{
    shmslot_segment *segment = make(SHMSLOT_POLICY_BLOCK, 0);
    shmslot_writer *writer = open_writer(segment);
    int index = -1, fd = shmslot_segment_fd(segment);
    child stuck = start_child(hold_for_ever, &fd);
    receive_bytes(stuck.link, &index, sizeof index);
    (void)put(writer, 1);
    say(stuck.link);
    hear(stuck.link);
    CHECK_OK(expel(segment, index));
    CHECK(kill(stuck.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(stuck), 128 + SIGKILL);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    CHECK_U64(counters_of(segment, index).kind, 0);
    CHECK_U64(free_slots(writer), SLOTS);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Sleepers look again at once: the reader itself, and a writer that waits for its slots. */
static void check_sleepers(void)
{
    shmslot_segment *segment = make(SHMSLOT_POLICY_BLOCK, 0);
    struct waiting reading = {0}, writing = {0};
    reading.reader = join(segment, 0);
    start(&reading, call_wait);
    CHECK_OK(expel(segment, shmslot_reader_index(reading.reader)));
    CHECK_CODE(finish(&reading), SHMSLOT_E_EXPELLED);
    shmslot_reader_leave(reading.reader);

    reading.reader = join(segment, 0);
    writing.writer = open_writer(segment);
    (void)fill(writing.writer, 1);
    start(&writing, call_reserve);
    CHECK_OK(expel(segment, shmslot_reader_index(reading.reader)));
    CHECK_CODE(finish(&writing), SHMSLOT_OK);
    shmslot_reader_leave(reading.reader);
    shmslot_writer_close(writing.writer);
    shmslot_segment_close(segment);
}

/* Not a later reader in the row, not one that has left, and not by an observer. */
static void check_targets(void)
{
    shmslot_segment *segment = make(SHMSLOT_POLICY_BLOCK, 0), *observer = NULL;
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_reader *reader = join(segment, 0);
    const int index = shmslot_reader_index(reader);
    const shmslot_reader_counters first = counters_of(segment, index);
    shmslot_reader_leave(reader);
    CHECK_CODE(shmslot_segment_expel(segment, first.index, first.generation, NULL),
               SHMSLOT_E_NOT_FOUND);
    reader = join(segment, 0);
    CHECK_U64((uint64_t)shmslot_reader_index(reader), (uint64_t)index);
    CHECK_CODE(shmslot_segment_expel(segment, first.index, first.generation, NULL),
               SHMSLOT_E_NOT_FOUND);
    CHECK_U64(counters_of(segment, index).kind, SHMSLOT_READER_JOINED);
    CHECK_U64(counters_of(segment, index).generation, first.generation + 1);
    CHECK_CODE(shmslot_segment_expel(segment, 63, 1, NULL), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(shmslot_segment_expel(segment, UINT32_MAX, 1, NULL), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(shmslot_segment_expel(NULL, 0, 1, NULL), SHMSLOT_E_INVALID);
    options.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), &options, &observer, NULL));
    CHECK_CODE(expel(observer, index), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_U64(counters_of(segment, index).kind, SHMSLOT_READER_JOINED);
    shmslot_segment_close(observer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* Without membarrier nobody can know what a lossless reader holds: it is stopped and gets nothing
 * new, and what it was owed stays until it leaves. Where samples can be taken away it is not
 * needed. */
static int expel_without_membarrier(int link, void *argument)
{
    const uint32_t policy = *(const uint32_t *)argument;
    const int lossless = policy != SHMSLOT_POLICY_DROP_OLDEST;
    char wanted[256];
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_error error;
    int index, i;
    (void)link;
    if (!refuse_membarrier()) return 0;
    segment = make(policy, 0);
    writer = open_writer(segment);
    reader = join(segment, 0);
    index = shmslot_reader_index(reader);
    for (i = 0; i < SLOTS; i++) (void)put(writer, 1);
    for (i = 0; i < 2; i++) { /* again makes no difference */
        int result = shmslot_segment_expel(segment, (uint32_t)index, 1, &error);
        CHECK_CODE(result, lossless ? SHMSLOT_E_NOT_SUPPORTED : SHMSLOT_OK);
        if (!lossless) continue;
        snprintf(wanted, sizeof wanted,
                 "reader %d reads nothing more, but its unread samples stay: this system refuses "
                 "membarrier, which shows what a reader holds; end the process of the reader",
                 index);
        CHECK(strcmp(error.text, wanted) == 0);
    }
    CHECK_U64(counters_of(segment, index).kind, SHMSLOT_READER_EXPELLED);
    CHECK_U64(counters_of(segment, index).unread, lossless ? SLOTS : 0);
    CHECK_U64(info_of(segment).readers, 0);
    check_expelled(segment, reader);
    CHECK_U64(free_slots(writer), SLOTS);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void check_without_membarrier(void)
{
    uint32_t policy;
    for (policy = SHMSLOT_POLICY_FAIL; policy <= SHMSLOT_POLICY_DROP_OLDEST; policy++)
        CHECK_U64((uint64_t)run_child(expel_without_membarrier, &policy), 0);
}

/* A number that callers of the reference operations use is none of a reader. */
static void check_named_number(void)
{
    shmslot_segment *segment = make(SHMSLOT_POLICY_BLOCK, 0);
    shmslot_ref ref;
    CHECK_OK(shmslot_ref_reserve(segment, 1, &ref));
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, "x", 1, NULL));
    CHECK_U64(counters_of(segment, 0).kind, SHMSLOT_READER_NAMED);
    CHECK_CODE(expel(segment, 0), SHMSLOT_E_NOT_FOUND);
    CHECK_OK(shmslot_ref_next_unread(segment, 0, &ref));
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 0));
    shmslot_segment_close(segment);
}

/* Readers that read and mark as fast as they can are expelled and join anew, while a writer fills
 * each slot with one byte: no reader ever sees two values in a sample. */
#define WIDE 4096

struct race {
    shmslot_segment *segment;
    int stop, rounds;
};

static void *write_and_write(void *argument)
{
    struct race *race = argument;
    shmslot_writer *writer = open_writer(race->segment);
    shmslot_loan loan;
    unsigned char value = 0;
    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        if (shmslot_slot_reserve(writer, WIDE, AT_ONCE, &loan) != SHMSLOT_OK) continue;
        memset(loan.data, ++value, WIDE);
        CHECK_OK(shmslot_slot_commit(writer, &loan, WIDE, NULL));
    }
    shmslot_writer_close(writer);
    return NULL;
}

static void check_bytes(const shmslot_sample *sample)
{
    const unsigned char *bytes = sample->data;
    size_t i;
    for (i = 1; i < WIDE; i++) CHECK(bytes[i] == bytes[0]);
}

static void *read_until_expelled(void *argument)
{
    struct race *race = argument;
    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        shmslot_reader *reader = NULL;
        shmslot_sample sample;
        int result = shmslot_reader_join(race->segment, 0, &reader, NULL);
        if (result == SHMSLOT_E_EXPELLED) continue; /* before it had joined */
        CHECK_OK(result);
        while (result != SHMSLOT_E_EXPELLED && !__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
            result = shmslot_slot_read(reader, &sample);
            if (result != SHMSLOT_OK) continue;
            check_bytes(&sample);
            CHECK_OK(shmslot_slot_mark(reader, &sample));
        }
        shmslot_reader_leave(reader);
    }
    return NULL;
}

static void check_races(void)
{
    shmslot_options options = options_of(2, WIDE);
    struct race race = {0};
    pthread_t writing, reading;
    shmslot_counters counters;
    int expelled = 0;
    race.segment = make_anonymous(&options);
    writing = start_thread(write_and_write, &race);
    reading = start_thread(read_until_expelled, &race);
    while (expelled < 50) {
        shmslot_reader_counters reader;
        size_t count = 0;
        CHECK_OK(shmslot_segment_readers(race.segment, &reader, sizeof reader, 1, &count));
        if (count != 0 && reader.kind == SHMSLOT_READER_JOINED) {
            int result = shmslot_segment_expel(race.segment, reader.index, reader.generation, NULL);
            if (result != SHMSLOT_E_NOT_FOUND) {
                CHECK_OK(result);
                expelled++;
            }
        }
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
    end_thread(writing);
    end_thread(reading);
    CHECK_OK(shmslot_segment_counters(race.segment, &counters, sizeof counters));
    CHECK_U64(counters.free, 2);
    shmslot_segment_close(race.segment);
}

CHECK_MAIN()
{
    RUN(check_policies());
    RUN(check_leave_with_samples_held());
    RUN(check_calls_afterwards(SHMSLOT_POLICY_BLOCK));
    RUN(check_calls_afterwards(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_stopped_process());
    RUN(check_killed_process());
    RUN(check_sleepers());
    RUN(check_targets());
    RUN(check_without_membarrier());
    RUN(check_named_number());
    RUN(check_races());
}
