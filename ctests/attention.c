/* A segment is calm while nobody sleeps, is made alert by who does, and becomes calm again by itself.
 * Where membarrier is refused it is alert for good, and everything works as ever. */
#include "sandbox.h"
#include "sleeper.h"
#include "words.h"

#define SLOTS 8
#define MANY 5000 /* commits: more than a writer makes before it tries to make a segment calm */

/* The states of docs/segment-layout.md. */
enum { CALM, RAISED, ALERT, SETTLING, PINNED, PINNING };

static unsigned state_of(const shmslot_segment *segment)
{
    struct words words = map_words(segment);
    unsigned state = (unsigned)(word_at(&words, 0x480) & 7);
    unmap_words(&words);
    return state;
}

static shmslot_options options_with(uint32_t flags)
{
    shmslot_options options = options_of(SLOTS, 8);
    options.policy = SHMSLOT_POLICY_BLOCK;
    options.flags = flags;
    options.spin_ns = SHMSLOT_SPIN_NONE;
    return options;
}

static void pass_samples(shmslot_writer *writer, shmslot_reader *reader, uint64_t count)
{
    uint64_t i;
    for (i = 0; i < count; i++) {
        (void)put(writer, i);
        CHECK_U64(take(reader), i);
    }
}

/* A reader that sleeps, a writer that sleeps, and a process that waits for any change. */
static void check_sleepers(uint32_t flags)
{
    shmslot_options options = options_with(flags);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct waiting reading, writing;
    uint64_t i;
    memset(&reading, 0, sizeof reading);
    memset(&writing, 0, sizeof writing);
    pass_samples(writer, reader, 100);
    CHECK_U64(state_of(segment), CALM);

    reading.reader = reader;
    start(&reading, call_wait);
    CHECK_U64(state_of(segment), ALERT);
    (void)put(writer, 7);
    CHECK_OK(finish(&reading));
    CHECK_U64(take(reader), 7);
    pass_samples(writer, reader, MANY);
    CHECK_U64(state_of(segment), CALM);

    for (i = 0; i < SLOTS; i++) (void)put(writer, i);
    writing.writer = writer;
    start(&writing, call_wait_space);
    CHECK_U64(state_of(segment), ALERT);
    CHECK_U64(take(reader), 0);
    CHECK_OK(finish(&writing));
    for (i = 1; i < SLOTS; i++) CHECK_U64(take(reader), i);
    pass_samples(writer, reader, MANY);
    CHECK_U64(state_of(segment), CALM);

    /* Who asks for the generation will compare it, and must find the next change counted. */
    {
        uint32_t before = 0, after = 0;
        CHECK_OK(shmslot_segment_generation(segment, &before));
        CHECK_U64(state_of(segment), ALERT);
        (void)put(writer, 9);
        CHECK_OK(shmslot_segment_wait_for_change(segment, before, AT_ONCE, &after));
        CHECK(after != before);
        CHECK_U64(take(reader), 9);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Samples that are freed out of order, and the slots that a writer then finds. */
static void check_out_of_order(void)
{
    shmslot_options options = options_with(0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample held[SLOTS];
    uint64_t i, round;
    for (i = 0; i < SLOTS; i++) {
        (void)put(writer, i);
        held[i] = hold(reader);
    }
    for (round = 0; round < 1000; round++) {
        /* Another one each time, and never the one whose turn it is. */
        uint64_t which = (round * 5 + 3) % SLOTS;
        shmslot_loan loan;
        CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
        CHECK_OK(shmslot_slot_mark(reader, &held[which]));
        (void)put(writer, round);
        held[which] = hold(reader);
        CHECK_U64(value_of(&held[which]), round);
    }
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_mark(reader, &held[i]));
    for (i = 0; i < SLOTS; i++) CHECK_CODE(shmslot_slot_mark(reader, &held[i]), SHMSLOT_E_STALE);
    CHECK_U64(state_of(segment), CALM);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

struct mark {
    shmslot_reader *reader;
    shmslot_sample sample;
    pthread_barrier_t *barrier;
    int result;
};

static void *mark_it(void *argument)
{
    struct mark *mark = argument;
    (void)pthread_barrier_wait(mark->barrier);
    mark->result = shmslot_slot_mark(mark->reader, &mark->sample);
    return NULL;
}

/* Of two marks of one sample at one moment, one is stale; and no later sample is marked by it. */
static void check_marks_of_one_sample(void)
{
    shmslot_options options = options_with(0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    pthread_barrier_t barrier;
    uint64_t round;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    for (round = 0; round < 500; round++) {
        struct mark marks[2];
        pthread_t other;
        (void)put(writer, round);
        marks[0].reader = reader;
        marks[0].sample = hold(reader);
        marks[0].barrier = &barrier;
        marks[1] = marks[0];
        other = start_thread(mark_it, &marks[1]);
        (void)mark_it(&marks[0]);
        end_thread(other);
        CHECK((marks[0].result == SHMSLOT_OK) + (marks[1].result == SHMSLOT_OK) == 1);
        CHECK(marks[0].result == SHMSLOT_E_STALE || marks[1].result == SHMSLOT_E_STALE);
    }
    pass_samples(writer, reader, 3 * SLOTS);
    CHECK(pthread_barrier_destroy(&barrier) == 0);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Passes samples both ways with the process at the other end of the link, which does not begin if
 * this one does. Each waits for the other's sample, and joins and leaves once more before it sends
 * its own. */
static void talk(int link, shmslot_segment *to, shmslot_segment *from, int begins)
{
    shmslot_writer *writer = open_writer(to);
    shmslot_reader *reader = join(from, 0);
    uint64_t i;
    say(link);
    hear(link);
    for (i = 0; i < 200; i++) {
        shmslot_reader *passing;
        if (!begins) CHECK_U64(take_wait(reader), i);
        passing = join(from, 0);
        (void)put_wait(writer, i, FOR_EVER);
        if (begins) CHECK_U64(take_wait(reader), i);
        shmslot_reader_leave(passing);
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
}

struct pair {
    shmslot_segment *there, *back;
    int before; /* whether membarrier is refused before the attach, or after it */
};

static int talk_without_membarrier(int link, void *argument)
{
    struct pair *pair = argument;
    shmslot_segment *there = NULL, *back = NULL;
    if (pair->before && !refuse_membarrier()) return 2;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(pair->there), NULL, &there, NULL));
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(pair->back), NULL, &back, NULL));
    CHECK_U64(state_of(there), pair->before ? PINNED : CALM);
    if (!pair->before && !refuse_membarrier()) return 2;
    talk(link, there, back, 1);
    CHECK_U64(state_of(back), PINNED); /* where it has joined and slept */
    shmslot_segment_close(there);
    shmslot_segment_close(back);
    return 0;
}

/* A participant without membarrier among others that have it. */
static void check_late_participant(int before)
{
    shmslot_options options = options_with(0);
    struct pair pair;
    child other;
    pair.there = make_anonymous(&options);
    pair.back = make_anonymous(&options);
    pair.before = before;
    CHECK_U64(state_of(pair.there), CALM);
    other = start_child(talk_without_membarrier, &pair);
    talk(other.link, pair.back, pair.there, 0);
    CHECK_U64((uint64_t)end_child(other), 0);
    shmslot_segment_close(pair.there);
    shmslot_segment_close(pair.back);
}

static int create_without_membarrier(int link, void *argument)
{
    shmslot_options options = options_with(0);
    shmslot_segment *segment;
    (void)link;
    (void)argument;
    if (!refuse_membarrier()) return 0;
    segment = make_anonymous(&options);
    CHECK_U64(state_of(segment), PINNED);
    shmslot_segment_close(segment);
    return 0;
}

/* Only segments whose readers use receipts are ever calm. */
static void check_kinds(void)
{
    shmslot_options options = options_with(0);
    shmslot_segment *segment;
    struct {
        uint32_t slots, readers, history, policy, flags;
    } others[] = {
        {7, 0, 0, SHMSLOT_POLICY_BLOCK, 0},
        {8, 16, 0, SHMSLOT_POLICY_BLOCK, 0},
        {8, 0, 1, SHMSLOT_POLICY_BLOCK, 0},
        {8, 0, 0, SHMSLOT_POLICY_DROP_OLDEST, 0},
        {8, 0, 0, SHMSLOT_POLICY_BLOCK, SHMSLOT_FLAG_TIMESTAMPS},
    };
    size_t i;
    for (i = 0; i < sizeof others / sizeof others[0]; i++) {
        options.slot_count = others[i].slots;
        options.max_readers = others[i].readers;
        options.history = others[i].history;
        options.policy = others[i].policy;
        options.flags = others[i].flags;
        segment = make_anonymous(&options);
        CHECK_U64(state_of(segment), PINNED);
        shmslot_segment_close(segment);
    }
}

CHECK_MAIN()
{
    RUN(check_sleepers(0));
    RUN(check_sleepers(SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_out_of_order());
    RUN(check_marks_of_one_sample());
    RUN(check_late_participant(1));
    RUN(check_late_participant(0));
    CHECK_U64((uint64_t)run_child(create_without_membarrier, NULL), 0);
    RUN(check_kinds());
}
