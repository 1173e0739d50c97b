/* What a writer does when nothing is free: FAIL, BLOCK, DROP_OLDEST. */
#include "samples.h"

#define SLOTS 4

static shmslot_segment *segment_with(uint32_t policy)
{
    shmslot_options options = options_of(SLOTS, 64);
    options.policy = policy;
    return make_anonymous(&options);
}

static uint64_t blockers(shmslot_writer *writer)
{
    uint64_t mask = UINT64_MAX;
    CHECK_OK(shmslot_writer_blockers(writer, &mask));
    return mask;
}

static uint64_t bit_of(const shmslot_reader *reader)
{
    return UINT64_C(1) << shmslot_reader_index(reader);
}

static void check_fail_policy(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *slow, *quick;
    shmslot_loan loan;
    uint64_t i;

    /* nobody reads: nothing is kept */
    for (i = 1; i <= 10 * SLOTS; i++) CHECK_U64(put(writer, i), i);
    CHECK_U64(blockers(writer), 0);

    slow = join(segment, 0);
    quick = join(segment, 0);
    for (i = 1; i <= SLOTS; i++) {
        (void)put(writer, i);
        CHECK_U64(take(quick), i);
    }
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    /* it never waits */
    CHECK_CODE(shmslot_slot_reserve(writer, 8, FOR_EVER, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_CODE(shmslot_slot_write(writer, "x", 1, FOR_EVER, NULL), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_U64(blockers(writer), bit_of(slow));

    CHECK_U64(take(slow), 1);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan)); /* exactly one came free */
    CHECK_CODE(shmslot_slot_write(writer, "x", 1, AT_ONCE, NULL), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    for (i = 2; i <= SLOTS; i++) CHECK_U64(take(slow), i); /* the failures took nothing away */
    check_nothing_to_read(slow);
    CHECK_U64(lost(slow), 0);
    CHECK_U64(lost(quick), 0);
    CHECK_U64(blockers(writer), 0);

    shmslot_reader_leave(slow);
    shmslot_reader_leave(quick);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A reader that leaves gives back all that it was owed. */
static void check_leaving_frees(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    uint64_t i;
    for (i = 1; i <= SLOTS; i++) (void)put(writer, i);
    CHECK_CODE(shmslot_slot_write(writer, "x", 1, AT_ONCE, NULL), SHMSLOT_E_NO_FREE_SLOT);
    shmslot_reader_leave(reader);
    CHECK_U64(blockers(writer), 0);
    for (i = 1; i <= 3 * SLOTS; i++) (void)put(writer, i);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

struct blocked {
    shmslot_writer *writer;
    int link;
};

static void *write_one_for_ever(void *argument)
{
    const struct blocked *blocked = argument;
    pid_t id = thread_id();
    send_bytes(blocked->link, &id, sizeof id);
    CHECK_U64(put_wait(blocked->writer, 1000, FOR_EVER), SLOTS + 1);
    return NULL;
}

/* The sleeping writer goes on when `to_free` slots come free. */
static void check_block_policy(uint64_t to_free)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_BLOCK);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan;
    struct blocked blocked;
    pthread_t thread;
    uint64_t i;
    pid_t id;
    int ends[2];

    for (i = 1; i <= SLOTS; i++) (void)put(writer, i);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, 2 * MILLISECOND, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_U64(blockers(writer), bit_of(reader));

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    blocked.writer = writer;
    blocked.link = ends[1];
    thread = start_thread(write_one_for_ever, &blocked);
    receive_bytes(ends[0], &id, sizeof id);
    until_asleep(id);
    CHECK_U64(info_of(segment).next_sequence, SLOTS + 1);
    for (i = 1; i <= to_free; i++) CHECK_U64(take(reader), i);
    end_thread(thread);
    for (; i <= SLOTS; i++) CHECK_U64(take(reader), i);
    CHECK_U64(take(reader), 1000);
    CHECK_U64(lost(reader), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* The sleeping writer also goes on when the reader in its way leaves. */
static void check_block_ends_when_the_reader_leaves(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_BLOCK);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct blocked blocked;
    pthread_t thread;
    uint64_t i;
    pid_t id;
    int ends[2];
    for (i = 1; i <= SLOTS; i++) (void)put(writer, i);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    blocked.writer = writer;
    blocked.link = ends[1];
    thread = start_thread(write_one_for_ever, &blocked);
    receive_bytes(ends[0], &id, sizeof id);
    until_asleep(id);
    shmslot_reader_leave(reader);
    end_thread(thread);
    (void)close(ends[0]);
    (void)close(ends[1]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Writes 1..count to readers that do not read; then what is left and what was lost is known
 * exactly. */
static void check_drop_oldest_counts(uint64_t count)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *idle = join(segment, 0), *attentive = join(segment, 0), *late;
    uint64_t i, left = count < SLOTS ? count : SLOTS;

    for (i = 1; i <= count; i++) {
        CHECK_U64(put(writer, i), i);
        CHECK_U64(take(attentive), i);
    }
    late = join(segment, 0); /* owed nothing of this, so it loses nothing of this */
    for (i = count - left + 1; i <= count; i++) CHECK_U64(take(idle), i);
    check_nothing_to_read(idle);
    check_nothing_to_read(attentive);
    check_nothing_to_read(late);
    CHECK_U64(lost(idle), count - left);
    CHECK_U64(lost(attentive), 0);
    CHECK_U64(lost(late), 0);

    (void)put(writer, 5000); /* and it goes on as if nothing had happened */
    CHECK_U64(take(idle), 5000);
    CHECK_U64(take(attentive), 5000);
    CHECK_U64(take(late), 5000);
    CHECK_U64(lost(idle), count - left);
    shmslot_reader_leave(late);
    shmslot_reader_leave(attentive);
    shmslot_reader_leave(idle);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A held sample is never touched: its bytes stay, its slot is not reused, the others are. */
static void check_drop_oldest_never_touches_a_held_one(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample held, other;
    uint64_t i;

    for (i = 1; i <= SLOTS; i++) (void)put(writer, i);
    held = hold(reader);
    CHECK_U64(held.sequence, 1);
    for (i = SLOTS + 1; i <= 100; i++) {
        shmslot_loan loan;
        CHECK_OK(shmslot_slot_reserve(writer, 64, AT_ONCE, &loan));
        CHECK(loan.data != held.data);
        memset(loan.data, 0xEE, 64);
        memcpy(loan.data, &i, sizeof i);
        CHECK_OK(shmslot_slot_commit(writer, &loan, sizeof i, NULL));
        CHECK_U64(value_of(&held), 1);
    }
    for (i = 100 - (SLOTS - 1) + 1; i <= 100; i++) {
        other = hold(reader);
        CHECK_U64(other.sequence, i);
        CHECK_U64(value_of(&other), i);
        CHECK_OK(shmslot_slot_mark(reader, &other));
    }
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 100 - 1 - (SLOTS - 1));
    CHECK_U64(value_of(&held), 1);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_drop_oldest_with_everything_held(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample held[SLOTS];
    shmslot_loan loan;
    uint64_t i;

    for (i = 0; i < SLOTS; i++) {
        (void)put(writer, i);
        held[i] = hold(reader);
    }
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, 2 * MILLISECOND, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_U64(blockers(writer), bit_of(reader));
    for (i = 0; i < SLOTS; i++) CHECK_U64(value_of(&held[i]), i);
    CHECK_OK(shmslot_slot_mark(reader, &held[2]));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK(loan.data == held[2].data);
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    CHECK_OK(shmslot_slot_mark(reader, &held[0]));
    CHECK_OK(shmslot_slot_mark(reader, &held[1]));
    CHECK_OK(shmslot_slot_mark(reader, &held[3]));
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Loans are not taken away either. */
static void check_drop_oldest_with_everything_loaned(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_writer *writer = open_writer(segment), *other = open_writer(segment);
    shmslot_loan loans[SLOTS], none;
    int i;
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(other, 8, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_U64(blockers(other), 0); /* no reader is in the way */
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    shmslot_writer_close(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_fail_policy());
    RUN(check_leaving_frees());
    RUN(check_block_policy(1));
    RUN(check_block_policy(SLOTS));
    RUN(check_block_ends_when_the_reader_leaves());
    RUN(check_drop_oldest_counts(1));
    RUN(check_drop_oldest_counts(SLOTS));
    RUN(check_drop_oldest_counts(SLOTS + 1));
    RUN(check_drop_oldest_counts(10));
    RUN(check_drop_oldest_counts(1003));
    RUN(check_drop_oldest_never_touches_a_held_one());
    RUN(check_drop_oldest_with_everything_held());
    RUN(check_drop_oldest_with_everything_loaned());
}
