/* The use of a segment, counted from outside: exact at rest, equal for an observer, and always
 * consistent. */
#include "samples.h"

#include <stdatomic.h>

#define SLOTS 16
#define ALL_READERS 63

/* ---- looking ---- */

struct picture {
    shmslot_counters counters;
    shmslot_reader_counters readers[ALL_READERS];
    shmslot_writer_counters writers[ALL_READERS];
    size_t reader_count, writer_count;
};

static uint32_t sum_of(const shmslot_counters *counters)
{
    return counters->free + counters->loaned + counters->unread + counters->held +
           counters->retained;
}

static struct picture picture_of(const shmslot_segment *segment)
{
    struct picture seen;
    memset(&seen, 0, sizeof seen);
    CHECK_OK(shmslot_segment_counters(segment, &seen.counters, sizeof seen.counters));
    CHECK_OK(shmslot_segment_readers(segment, seen.readers, sizeof seen.readers[0], ALL_READERS,
                                     &seen.reader_count));
    CHECK_OK(shmslot_segment_writers(segment, seen.writers, sizeof seen.writers[0], ALL_READERS,
                                     &seen.writer_count));
    CHECK(seen.reader_count <= ALL_READERS && seen.writer_count <= ALL_READERS);
    CHECK_U64(sum_of(&seen.counters), info_of(segment).slot_count);
    return seen;
}

/* The counts of a segment at rest. An observer that attaches for this sees equal ones. */
static struct picture look(const shmslot_segment *segment)
{
    struct picture seen = picture_of(segment), observed;
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *observer = NULL;
    char path[256];
    size_t length;
    options.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK_OK(length > 0 ? shmslot_segment_attach(path, &options, &observer, NULL)
                        : shmslot_segment_attach_fd(shmslot_segment_fd(segment), &options,
                                                    &observer, NULL));
    observed = picture_of(observer);
    CHECK(memcmp(&seen, &observed, sizeof seen) == 0);
    shmslot_segment_close(observer);
    return seen;
}

static void check_slots(const shmslot_segment *segment, uint32_t loaned, uint32_t unread,
                        uint32_t held, uint32_t retained)
{
    struct picture seen = look(segment);
    CHECK_U64(seen.counters.loaned, loaned);
    CHECK_U64(seen.counters.unread, unread);
    CHECK_U64(seen.counters.held, held);
    CHECK_U64(seen.counters.retained, retained);
}

static shmslot_reader_counters of_reader(const shmslot_segment *segment,
                                         const shmslot_reader *reader)
{
    struct picture seen = look(segment);
    size_t i;
    for (i = 0; i < seen.reader_count; i++) {
        if (seen.readers[i].index == (uint32_t)shmslot_reader_index(reader)) return seen.readers[i];
    }
    CHECK(!"the reader is listed");
    return seen.readers[0];
}

static shmslot_segment *segment_with(uint32_t policy, uint32_t flags)
{
    shmslot_options options = options_of(SLOTS, 64);
    options.policy = policy;
    options.flags = flags;
    return make_anonymous(&options);
}

/* ---- states ---- */

/* Of 7 samples the quick reader marks 2 of 4, the slow one reads 1; 3 slots are on loan. */
static void check_known_state(uint32_t policy)
{
    shmslot_segment *segment = segment_with(policy, 0);
    shmslot_reader *quick = join(segment, 0), *slow = join(segment, 0);
    shmslot_writer *writer = open_writer(segment), *other = open_writer(segment);
    shmslot_reader_counters counted;
    shmslot_sample samples[5];
    shmslot_loan loans[3];
    struct picture seen;
    uint64_t i;

    check_slots(segment, 0, 0, 0, 0);
    for (i = 1; i <= 7; i++) (void)put(writer, i);
    check_slots(segment, 0, 7, 0, 0);
    for (i = 0; i < 4; i++) samples[i] = hold(quick);
    samples[4] = hold(slow);
    CHECK_OK(shmslot_slot_mark(quick, &samples[0]));
    CHECK_OK(shmslot_slot_mark(quick, &samples[1]));
    for (i = 0; i < 2; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    CHECK_OK(shmslot_slot_reserve(other, 8, AT_ONCE, &loans[2]));

    check_slots(segment, 3, 4, 3, 0); /* held: 1 by the slow one, 3 and 4 by the quick one */
    seen = look(segment);
    CHECK_U64(seen.counters.free, SLOTS - 10);
    CHECK_U64(seen.counters.next_sequence, 8);
    CHECK_U64(seen.counters.writers, 2);
    CHECK_U64(seen.counters.readers, 2);
    CHECK_U64(seen.counters.participants, 1);
    CHECK_U64(seen.counters.dead, 0);
    CHECK_U64(seen.counters.recovered, 0);
    CHECK_U64(seen.counters.retired, 0);
    CHECK_U64(seen.reader_count, 2);
    CHECK_U64(seen.writer_count, 2);
    CHECK_U64(seen.writers[0].loans, 2);
    CHECK_U64(seen.writers[1].loans, 1);
    CHECK_U64(seen.writers[0].writer_id, samples[0].writer_id);
    CHECK_U64(seen.writers[0].pid, (uint64_t)getpid());
    CHECK_U64(seen.writers[0].alive, 1);

    counted = of_reader(segment, quick);
    CHECK_U64(counted.kind, SHMSLOT_READER_JOINED);
    CHECK_U64(counted.pid, (uint64_t)getpid());
    CHECK_U64(counted.alive, 1);
    CHECK_U64(counted.unread, 3);
    CHECK_U64(counted.held, 2);
    CHECK_U64(counted.next_sequence, 5);
    CHECK_U64(counted.lag, 3);
    CHECK_U64(counted.lost, 0);
    CHECK_U64(counted.oldest_held, 3);
    CHECK_U64(counted.oldest_held_ns, 0);
    counted = of_reader(segment, slow);
    CHECK_U64(counted.unread, 6);
    CHECK_U64(counted.held, 1);
    CHECK_U64(counted.lag, 6);
    CHECK_U64(counted.oldest_held, 1);

    /* A held sample stays with a reader that leaves, until it is marked. */
    shmslot_reader_leave(quick);
    counted = of_reader(segment, quick);
    CHECK_U64(counted.kind, SHMSLOT_READER_LEFT);
    CHECK_U64(counted.unread, 0);
    CHECK_U64(counted.held, 2);
    CHECK_U64(counted.lag, 0);
    CHECK_U64(look(segment).counters.readers, 1);
    CHECK_OK(shmslot_slot_mark(quick, &samples[2]));
    CHECK_OK(shmslot_slot_mark(quick, &samples[3]));
    CHECK_U64(look(segment).reader_count, 1);
    check_slots(segment, 3, 6, 1, 0);

    for (i = 0; i < 2; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    CHECK_OK(shmslot_slot_commit(other, &loans[2], 8, NULL));
    check_slots(segment, 0, 7, 1, 0);
    CHECK_OK(shmslot_slot_mark(slow, &samples[4]));
    shmslot_reader_leave(slow);
    check_slots(segment, 0, 0, 0, 0);
    shmslot_writer_close(writer);
    CHECK_U64(look(segment).counters.writers, 1);
    shmslot_writer_close(other);
    shmslot_segment_close(segment);
}

/* A reader learns at its next read what was taken from it; until then that is in lag and not in
 * unread. */
static void check_losses(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_DROP_OLDEST, SHMSLOT_FLAG_TIMESTAMPS);
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader_counters counted;
    shmslot_sample sample;
    uint64_t i;

    for (i = 1; i <= SLOTS + 5; i++) (void)put(writer, i);
    counted = of_reader(segment, reader);
    CHECK_U64(counted.unread, SLOTS);
    CHECK_U64(counted.lag, SLOTS + 5);
    CHECK_U64(counted.lost, 0);
    sample = hold(reader);
    counted = of_reader(segment, reader);
    CHECK_U64(counted.unread, SLOTS - 1);
    CHECK_U64(counted.lag, SLOTS - 1);
    CHECK_U64(counted.lost, 5);
    CHECK_U64(counted.oldest_held, 6);
    CHECK_U64(counted.oldest_held_ns, sample.timestamp_ns);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    shmslot_reader_leave(reader);

    reader = join(segment, 0); /* the next one in the row begins anew */
    counted = of_reader(segment, reader);
    CHECK_U64(counted.lost, 0);
    CHECK_U64(counted.next_sequence, SLOTS + 6);
    CHECK_U64(counted.lag, 0);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* History keeps samples that nobody else needs. A peek holds without reading. */
static void check_history_and_peeks(uint32_t policy)
{
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    shmslot_reader_counters counted;
    shmslot_sample peeked;
    uint64_t i;

    options.history = 4;
    options.policy = policy;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 1; i <= 9; i++) (void)put(writer, i);
    check_slots(segment, 0, 0, 0, 4);
    reader = join(segment, 2);
    check_slots(segment, 0, 2, 0, 2);
    CHECK_OK(shmslot_slot_peek_latest(reader, &peeked));
    check_slots(segment, 0, 1, 1, 2);
    counted = of_reader(segment, reader);
    CHECK_U64(counted.unread, 2);
    CHECK_U64(counted.held, 1);
    CHECK_U64(counted.lag, 2);
    CHECK_U64(counted.oldest_held, 9);
    CHECK_OK(shmslot_slot_mark(reader, &peeked));
    CHECK_U64(take(reader), 8);
    CHECK_U64(take(reader), 9);
    check_slots(segment, 0, 0, 0, 4);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_many_readers(void)
{
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_reader *readers[ALL_READERS];
    shmslot_sample samples[ALL_READERS];
    shmslot_segment *segment;
    shmslot_writer *writer;
    struct picture seen;
    uint64_t i;

    options.max_readers = ALL_READERS;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 0; i < ALL_READERS; i++) readers[i] = join(segment, 0);
    for (i = 1; i <= 3; i++) (void)put(writer, i);
    for (i = 0; i < ALL_READERS; i += 2) samples[i] = hold(readers[i]);
    seen = look(segment);
    CHECK_U64(seen.counters.readers, ALL_READERS);
    CHECK_U64(seen.reader_count, ALL_READERS);
    for (i = 0; i < ALL_READERS; i++) {
        shmslot_reader_counters counted = of_reader(segment, readers[i]);
        CHECK_U64(counted.unread, i % 2 == 0 ? 2 : 3);
        CHECK_U64(counted.held, i % 2 == 0 ? 1 : 0);
    }
    check_slots(segment, 0, 2, 1, 0);
    for (i = 0; i < ALL_READERS; i += 2) CHECK_OK(shmslot_slot_mark(readers[i], &samples[i]));
    for (i = 0; i < ALL_READERS; i++) shmslot_reader_leave(readers[i]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_regions(void)
{
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    shmslot_loan loans[2];
    struct picture seen;

    options.max_payload = 1 << 20;
    options.region_count = 4;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    CHECK_OK(shmslot_slot_reserve(writer, 100000, AT_ONCE, &loans[0]));
    CHECK_OK(shmslot_slot_reserve(writer, 100000, AT_ONCE, &loans[1]));
    CHECK_OK(shmslot_slot_commit(writer, &loans[0], 100000, NULL));
    seen = look(segment);
    CHECK_U64(seen.counters.regions, 2);
    CHECK_U64(seen.counters.region_bytes, info_of(segment).region_bytes);
    CHECK(seen.counters.region_bytes >= 200000);
    CHECK_OK(shmslot_slot_discard(writer, &loans[1]));
    shmslot_reader_leave(reader);
    seen = look(segment);
    CHECK_U64(seen.counters.regions, 0);
    CHECK(seen.counters.region_bytes >= 200000); /* they keep it for the next */
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Numbers of the reference operations belong to no participant, and what they have not marked is
 * unread. */
static void check_named_readers(void)
{
    shmslot_segment *segment = segment_with(SHMSLOT_POLICY_FAIL, 0);
    struct picture seen;
    shmslot_ref ref;

    CHECK_OK(shmslot_ref_reserve(segment, 5, &ref));
    check_slots(segment, 1, 0, 0, 0);
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, "x", 1, NULL));
    CHECK_OK(shmslot_ref_next_unread(segment, 2, &ref));
    check_slots(segment, 0, 1, 0, 0);
    seen = look(segment);
    CHECK_U64(seen.counters.readers, 0);
    CHECK_U64(seen.reader_count, 2);
    CHECK_U64(seen.readers[0].index, 0);
    CHECK_U64(seen.readers[1].index, 2);
    CHECK_U64(seen.readers[1].kind, SHMSLOT_READER_NAMED);
    CHECK_U64(seen.readers[1].pid, 0);
    CHECK_U64(seen.readers[1].alive, 1);
    CHECK_U64(seen.readers[1].unread, 1);
    CHECK_U64(seen.readers[1].lag, 0);
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, 2));
    CHECK_U64(look(segment).readers[1].unread, 0);
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 0));
    check_slots(segment, 0, 0, 0, 0);
    shmslot_segment_close(segment);
}

/* ---- the dead ---- */

static int die_with_things(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan;
    uint64_t i;
    for (i = 1; i <= 3; i++) (void)put(writer, i);
    (void)hold(reader);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    say(link);
    for (;;) (void)pause();
    return 0;
}

static void check_the_dead(void)
{
    char name[64];
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment;
    struct picture seen;
    child victim;

    (void)unique_name(name, sizeof name, "counters");
    segment = make_named(name, &options);
    victim = start_child(die_with_things, name);
    hear(victim.link);
    seen = look(segment);
    CHECK_U64(seen.counters.participants, 2);
    CHECK_U64(seen.counters.dead, 0);
    CHECK(kill(victim.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(victim), 128 + SIGKILL);

    seen = look(segment);
    CHECK_U64(seen.counters.participants, 2);
    CHECK_U64(seen.counters.dead, 1);
    CHECK_U64(seen.counters.recovered, 0);
    CHECK_U64(seen.counters.writers, 1);
    CHECK_U64(seen.reader_count, 1);
    CHECK_U64(seen.readers[0].pid, (uint64_t)victim.pid);
    CHECK_U64(seen.readers[0].alive, 0);
    CHECK_U64(seen.readers[0].unread, 2);
    CHECK_U64(seen.readers[0].held, 1);
    CHECK_U64(seen.writer_count, 1);
    CHECK_U64(seen.writers[0].pid, (uint64_t)victim.pid);
    CHECK_U64(seen.writers[0].alive, 0);
    CHECK_U64(seen.writers[0].loans, 1);

    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 1);
    check_slots(segment, 0, 0, 0, 0);
    seen = look(segment);
    CHECK_U64(seen.counters.participants, 1);
    CHECK_U64(seen.counters.dead, 0);
    CHECK_U64(seen.counters.recovered, 1);
    CHECK_U64(seen.counters.writers, 0);
    CHECK_U64(seen.reader_count + seen.writer_count, 0);
    shmslot_segment_close(segment);
}

/* ---- under load ---- */

static atomic_int at_run;

static void *read_on(void *segment)
{
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    while (atomic_load(&at_run) != 0) {
        if (shmslot_slot_read(reader, &sample) == SHMSLOT_OK)
            CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    shmslot_reader_leave(reader);
    return NULL;
}

static void *write_on(void *segment)
{
    shmslot_writer *writer = open_writer(segment);
    uint64_t value = 0;
    while (atomic_load(&at_run) != 0) {
        (void)shmslot_slot_write(writer, &value, sizeof value, MILLISECOND, NULL);
        value++;
    }
    shmslot_writer_close(writer);
    return NULL;
}

/* Each slot is counted once, however it changes meanwhile; picture_of checks the sum. */
static void check_at_run(uint32_t policy)
{
    shmslot_segment *segment = segment_with(policy, 0);
    pthread_t threads[4];
    uint64_t last = 0;
    int i;

    atomic_store(&at_run, 1);
    for (i = 0; i < 2; i++) threads[i] = start_thread(read_on, segment);
    for (; i < 4; i++) threads[i] = start_thread(write_on, segment);
    for (i = 0; i < 2000; i++) {
        struct picture seen = picture_of(segment);
        size_t j;
        CHECK(seen.counters.next_sequence >= last);
        last = seen.counters.next_sequence;
        CHECK(seen.reader_count <= 2 && seen.counters.readers <= 2 && seen.counters.writers <= 2);
        for (j = 0; j < seen.reader_count; j++) {
            CHECK(seen.readers[j].unread <= SLOTS && seen.readers[j].held <= SLOTS);
        }
        for (j = 0; j < seen.writer_count; j++) CHECK(seen.writers[j].loans <= SLOTS);
    }
    atomic_store(&at_run, 0);
    for (i = 0; i < 4; i++) end_thread(threads[i]);
    check_slots(segment, 0, 0, 0, 0);
    shmslot_segment_close(segment);
}

/* Blockers are reported wherever their samples are: behind loans, and behind free slots. */
static void check_blockers_far_away(void)
{
    enum { MANY = 256 };
    shmslot_options options = options_of(MANY, 64);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    shmslot_loan loan;
    uint64_t mask, i;

    options.policy = SHMSLOT_POLICY_FAIL;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    for (i = 0; i < 100; i++) (void)put(writer, i);
    CHECK_OK(shmslot_writer_blockers(writer, &mask));
    CHECK_U64(mask, UINT64_C(1) << shmslot_reader_index(reader));
    for (i = 100; i < MANY; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(shmslot_writer_blockers(writer, &mask));
    CHECK_U64(mask, UINT64_C(1) << shmslot_reader_index(reader));
    check_slots(segment, MANY - 100, 100, 0, 0);
    shmslot_reader_leave(reader);
    CHECK_OK(shmslot_writer_blockers(writer, &mask));
    CHECK_U64(mask, 0);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_known_state(SHMSLOT_POLICY_BLOCK));
    RUN(check_known_state(SHMSLOT_POLICY_FAIL));
    RUN(check_known_state(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_losses());
    RUN(check_history_and_peeks(SHMSLOT_POLICY_FAIL));
    RUN(check_history_and_peeks(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_many_readers());
    RUN(check_regions());
    RUN(check_named_readers());
    RUN(check_the_dead());
    RUN(check_at_run(SHMSLOT_POLICY_BLOCK));
    RUN(check_at_run(SHMSLOT_POLICY_DROP_OLDEST));
    RUN(check_blockers_far_away());
}
