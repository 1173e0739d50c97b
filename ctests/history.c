/* A reader that joins late gets exactly the last n samples that the segment keeps, and then every
 * new one. */
#include "samples.h"

#define SLOTS 8
#define DEPTH 5

static shmslot_segment *segment;
static shmslot_writer *writer;

static void set_up(uint32_t policy, uint32_t flags)
{
    shmslot_options options = options_of(SLOTS, 64);
    options.history = DEPTH;
    options.policy = policy;
    options.flags = flags;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
}

static void tear_down(void)
{
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* After `written` samples a reader that asks for `asked` gets the last min(written, asked) of them,
 * in order. */
static void check_join(uint64_t written, uint32_t asked)
{
    shmslot_reader *reader = join(segment, asked);
    uint64_t expected = written < asked ? written : asked, i;
    for (i = written - expected + 1; i <= written; i++) {
        shmslot_sample sample = hold(reader);
        CHECK_U64(sample.sequence, i);
        CHECK_U64(value_of(&sample), i);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
}

static void check_every_depth(uint32_t policy, uint32_t flags)
{
    uint64_t written;
    uint32_t asked;
    set_up(policy, flags);
    for (written = 0; written <= 4 * SLOTS; written++) {
        if (written > 0) CHECK_U64(put(writer, written), written);
        for (asked = 0; asked <= DEPTH; asked++) check_join(written, asked);
    }
    tear_down();
}

/* History costs as many slots as it is deep, and not one more. */
static void check_what_it_costs(uint32_t flags)
{
    shmslot_loan loans[SLOTS - DEPTH], none;
    uint64_t i;
    set_up(SHMSLOT_POLICY_FAIL, flags);
    for (i = 1; i <= 3 * SLOTS; i++) (void)put(writer, i);
    for (i = 0; i < SLOTS - DEPTH; i++)
        CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < SLOTS - DEPTH; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    tear_down();
}

static void check_too_deep(void)
{
    shmslot_reader *reader = NULL;
    shmslot_error detail;
    set_up(SHMSLOT_POLICY_FAIL, 0);
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_reader_join(segment, DEPTH + 1, &reader, &detail), SHMSLOT_E_BAD_OPTIONS);
    CHECK(detail.code == SHMSLOT_E_BAD_OPTIONS);
    CHECK_CODE(shmslot_reader_join(segment, UINT32_MAX, &reader, NULL), SHMSLOT_E_BAD_OPTIONS);
    CHECK(reader == NULL);
    tear_down();
}

/* History and the new samples join without a gap and without a duplicate. */
static void check_history_then_now(void)
{
    shmslot_reader *early, *late;
    uint64_t i;
    set_up(SHMSLOT_POLICY_FAIL, 0);
    for (i = 1; i <= 20; i++) (void)put(writer, i);
    early = join(segment, 0);
    late = join(segment, 3);
    for (i = 21; i <= 23; i++) (void)put(writer, i);
    for (i = 18; i <= 23; i++) CHECK_U64(take(late), i);
    check_nothing_to_read(late);
    for (i = 21; i <= 23; i++) CHECK_U64(take(early), i);
    check_nothing_to_read(early);
    shmslot_reader_leave(late);
    shmslot_reader_leave(early);
    tear_down();
}

/* A held sample that leaves the history is unchanged until it is marked. */
static void check_held_past_the_window(void)
{
    shmslot_reader *reader;
    shmslot_sample held;
    uint64_t i;
    set_up(SHMSLOT_POLICY_DROP_OLDEST, 0);
    for (i = 1; i <= DEPTH; i++) (void)put(writer, i);
    reader = join(segment, DEPTH);
    held = hold(reader);
    for (; i <= 100; i++) (void)put(writer, i);
    CHECK_U64(value_of(&held), 1);
    CHECK_U64(held.sequence, 1);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    shmslot_reader_leave(reader);
    tear_down();
}

static void check_peek_latest(void)
{
    shmslot_reader *reader, *other;
    shmslot_sample newest, again;
    uint64_t i;

    set_up(SHMSLOT_POLICY_FAIL, 0);
    reader = join(segment, 0);
    other = join(segment, 0);
    CHECK_CODE(shmslot_slot_peek_latest(reader, &newest), SHMSLOT_E_AGAIN);
    for (i = 1; i <= 3; i++) (void)put(writer, i);
    CHECK_OK(shmslot_slot_peek_latest(reader, &newest));
    CHECK_U64(newest.sequence, 3);
    CHECK_U64(value_of(&newest), 3);
    CHECK_CODE(shmslot_slot_peek_latest(reader, &again), SHMSLOT_E_HELD);
    /* only the reader that holds it must mark it */
    CHECK_OK(shmslot_slot_peek_latest(other, &again));
    CHECK_OK(shmslot_slot_mark(other, &again));
    CHECK_OK(shmslot_slot_mark(reader, &newest));
    CHECK_CODE(shmslot_slot_mark(reader, &newest), SHMSLOT_E_STALE);

    for (i = 1; i <= 3; i++) CHECK_U64(take(reader), i); /* peeking does not move the reader */
    check_nothing_to_read(reader);
    CHECK_OK(shmslot_slot_peek_latest(reader, &newest)); /* read long ago, kept by history */
    CHECK_U64(newest.sequence, 3);
    (void)put(writer, 4);
    CHECK_U64(value_of(&newest), 3);
    CHECK_OK(shmslot_slot_peek_latest(reader, &again)); /* a newer one, not the held one */
    CHECK_U64(again.sequence, 4);
    CHECK_OK(shmslot_slot_mark(reader, &newest));
    CHECK_OK(shmslot_slot_mark(reader, &again));
    for (i = 1; i <= 4; i++) CHECK_U64(take(other), i);
    CHECK_U64(take(reader), 4);
    shmslot_reader_leave(other);
    shmslot_reader_leave(reader);
    tear_down();
}

/* A sample that was read and peeked is held twice and marked twice; where samples may be dropped it
 * is held once. */
static void check_read_what_was_peeked(uint32_t policy)
{
    shmslot_reader *reader;
    shmslot_sample peeked, read;
    set_up(policy, 0);
    reader = join(segment, 0);
    (void)put(writer, 1);
    CHECK_OK(shmslot_slot_peek_latest(reader, &peeked));
    if (policy == SHMSLOT_POLICY_DROP_OLDEST) {
        CHECK_CODE(shmslot_slot_read(reader, &read), SHMSLOT_E_HELD);
        CHECK_CODE(shmslot_slot_read(reader, &read), SHMSLOT_E_HELD);
        CHECK_OK(shmslot_slot_mark(reader, &peeked));
        CHECK_U64(take(reader), 1);
    } else {
        read = hold(reader);
        CHECK(read.data == peeked.data);
        CHECK_OK(shmslot_slot_mark(reader, &read));
        CHECK_CODE(shmslot_slot_mark(reader, &read), SHMSLOT_E_STALE);
        CHECK_U64(value_of(&peeked), 1);
        CHECK_OK(shmslot_slot_mark(reader, &peeked));
        CHECK_CODE(shmslot_slot_mark(reader, &peeked), SHMSLOT_E_STALE);
    }
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
    tear_down();
}

/* Without history a peek finds the newest sample again and again until it was read and marked. */
static void check_peek_without_history(uint32_t policy)
{
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_reader *reader;
    shmslot_sample newest;
    int times;
    options.policy = policy;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    (void)put(writer, 1);
    (void)put(writer, 2);
    for (times = 0; times < 3; times++) {
        CHECK_OK(shmslot_slot_peek_latest(reader, &newest));
        CHECK_U64(value_of(&newest), 2);
        CHECK_OK(shmslot_slot_mark(reader, &newest));
    }
    CHECK_U64(take(reader), 1);
    CHECK_U64(take(reader), 2);
    CHECK_CODE(shmslot_slot_peek_latest(reader, &newest), SHMSLOT_E_AGAIN);
    shmslot_reader_leave(reader);
    tear_down();
}

/* A held sample of a peek keeps its bytes while the writer continues for laps. */
static void check_peeked_is_held(void)
{
    shmslot_reader *reader;
    shmslot_sample newest;
    uint64_t i;
    set_up(SHMSLOT_POLICY_DROP_OLDEST, 0);
    reader = join(segment, 0);
    (void)put(writer, 1);
    CHECK_OK(shmslot_slot_peek_latest(reader, &newest));
    for (i = 2; i <= 100; i++) (void)put(writer, i);
    CHECK_U64(value_of(&newest), 1);
    CHECK_OK(shmslot_slot_mark(reader, &newest));
    shmslot_reader_leave(reader);
    tear_down();
}

CHECK_MAIN()
{
    RUN(check_every_depth(SHMSLOT_POLICY_FAIL, 0));
    RUN(check_every_depth(SHMSLOT_POLICY_BLOCK, 0));
    RUN(check_every_depth(SHMSLOT_POLICY_DROP_OLDEST, 0));
    RUN(check_every_depth(SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_every_depth(SHMSLOT_POLICY_DROP_OLDEST, SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_what_it_costs(0));
    RUN(check_what_it_costs(SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_too_deep());
    RUN(check_history_then_now());
    RUN(check_held_past_the_window());
    RUN(check_peek_latest());
    RUN(check_peek_without_history(SHMSLOT_POLICY_FAIL));
    RUN(check_peek_without_history(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_peeked_is_held());
    RUN(check_read_what_was_peeked(SHMSLOT_POLICY_FAIL));
    RUN(check_read_what_was_peeked(SHMSLOT_POLICY_DROP_OLDEST));
}
