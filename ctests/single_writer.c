/* Single-writer segments: one writer at a time, in any process; everything else is unchanged. */
#include "stream.h"

static shmslot_segment *named_single(const char *name, uint32_t slots, uint32_t policy)
{
    shmslot_options options = options_of(slots, STREAM_MAX_LENGTH);
    options.flags = SHMSLOT_FLAG_SINGLE_WRITER;
    options.policy = policy;
    return make_named(name, &options);
}

static int write_when_it_may(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_writer *writer = NULL;
    shmslot_error detail;
    CHECK_U64(info_of(segment).flags & SHMSLOT_FLAG_SINGLE_WRITER, SHMSLOT_FLAG_SINGLE_WRITER);
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_writer_open(segment, &writer, &detail), SHMSLOT_E_WRITER_EXISTS);
    CHECK(detail.code == SHMSLOT_E_WRITER_EXISTS);
    CHECK(writer == NULL);
    say(link);
    hear(link); /* now the other one is closed */
    writer = open_writer(segment);
    CHECK_U64(put(writer, 2), 2);
    say(link);
    hear(link);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void check_one_at_a_time(void)
{
    char name[64];
    shmslot_segment *segment =
        named_single(unique_name(name, sizeof name, "single"), 4, SHMSLOT_POLICY_FAIL);
    shmslot_writer *writer = open_writer(segment), *second = NULL;
    shmslot_reader *reader = join(segment, 0);
    child other;

    CHECK_CODE(shmslot_writer_open(segment, &second, NULL), SHMSLOT_E_WRITER_EXISTS);
    other = start_child(write_when_it_may, name);
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_U64(put(writer, 1), 1); /* the refused ones have changed nothing */
    shmslot_writer_close(writer);
    say(other.link);
    hear(other.link);
    CHECK_CODE(shmslot_writer_open(segment, &second, NULL), SHMSLOT_E_WRITER_EXISTS);
    CHECK(second == NULL);
    say(other.link);
    CHECK_CHILD(other);

    writer = open_writer(segment);
    CHECK_U64(put(writer, 3), 3);
    CHECK_CODE(shmslot_writer_open(segment, &second, NULL), SHMSLOT_E_WRITER_EXISTS);
    CHECK_U64(take(reader), 1);
    CHECK_U64(take(reader), 2);
    CHECK_U64(take(reader), 3);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Loans in any order, discards, pointers, empty samples and errors work as with many writers. */
static void check_loans(uint32_t policy)
{
    static const int order[] = {2, 0, 1};
    char name[64];
    shmslot_segment *segment = named_single(unique_name(name, sizeof name, "single"), 6, policy);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *first = join(segment, 0), *second = join(segment, 0);
    uint64_t sequence, next = 1, value;
    int lap, i;
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (lap = 0; lap < 100; lap++) {
        shmslot_loan loans[4];
        for (i = 0; i < 4; i++) {
            value = (uint64_t)(10 * lap + i);
            CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
            memcpy(loans[i].data, &value, sizeof value);
        }
        CHECK_OK(shmslot_slot_discard(writer, &loans[3]));
        CHECK_CODE(shmslot_slot_commit(writer, &loans[3], 8, NULL), SHMSLOT_E_STALE);
        for (i = 0; i < 3; i++) {
            if (i == 1) {
                CHECK_OK(shmslot_slot_commit_ptr(writer, loans[order[i]].data, 8, &sequence));
            } else {
                CHECK_OK(shmslot_slot_commit(writer, &loans[order[i]], 8, &sequence));
            }
            CHECK_U64(sequence, next++);
            CHECK_CODE(shmslot_slot_commit(writer, &loans[order[i]], 8, NULL), SHMSLOT_E_STALE);
        }
        for (i = 0; i < 3; i++) {
            CHECK_U64(take(first), (uint64_t)(10 * lap + order[i]));
            CHECK_U64(take(second), (uint64_t)(10 * lap + order[i]));
        }
        check_nothing_to_read(first);
    }
    CHECK_U64(lost(first), 0);
    CHECK_U64(lost(second), 0);
    shmslot_reader_leave(second);
    shmslot_reader_leave(first);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_drop_oldest(void)
{
    char name[64];
    shmslot_segment *segment =
        named_single(unique_name(name, sizeof name, "single"), 4, SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample held;
    uint64_t i;
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (i = 1; i <= 4; i++) (void)put(writer, i);
    held = hold(reader);
    for (; i <= 50; i++) (void)put(writer, i);
    CHECK_U64(value_of(&held), 1);
    for (i = 48; i <= 50; i++) CHECK_U64(take(reader), i);
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 46);
    CHECK_OK(shmslot_slot_mark(reader, &held));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

#define COUNT UINT64_C(100000)

static int read_the_stream(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, 0);
    struct stream seen;
    say(link);
    stream_start(&seen);
    stream_read(&seen, reader, COUNT);
    check_nothing_to_read(reader);
    CHECK_U64(seen.last[3], COUNT);
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_stream(void)
{
    char name[64];
    shmslot_segment *segment =
        named_single(unique_name(name, sizeof name, "single"), 64, SHMSLOT_POLICY_BLOCK);
    shmslot_writer *writer = open_writer(segment);
    child readers[2];
    uint64_t number;
    int i;
    for (i = 0; i < 2; i++) {
        readers[i] = start_child(read_the_stream, name);
        hear(readers[i].link);
    }
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (number = 1; number <= COUNT; number++) send_message(writer, 3, number);
    for (i = 0; i < 2; i++) CHECK_CHILD(readers[i]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_one_at_a_time());
    RUN(check_loans(SHMSLOT_POLICY_FAIL));
    RUN(check_loans(SHMSLOT_POLICY_BLOCK));
    RUN(check_loans(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_drop_oldest());
    RUN(check_stream());
}
