/* What programs that kill a process at each step of an operation have in common: the victim's
 * steps; the survivors, who have a sample in hand and read all others; and what must be true
 * afterwards. */
#ifndef SHMSLOT_CTESTS_CRASH_STAGE_H
#define SHMSLOT_CTESTS_CRASH_STAGE_H

#include "samples.h"
#include "single_steps.h"

/* More than are tried without hints; and a power of two, so that a segment without history can be
 * calm. */
#define SLOTS 16
#define PARTICIPANTS 4
#define VICTIMS_VALUE 77
#define MOST_SAMPLES 128
#define LARGE 100000 /* more than a slot takes */
#define MOST_REGIONS 6
#define AT_CONTROL_SIZE 104 /* docs/segment-layout.md */

/* ---- the victim ---- */

struct victim {
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loan;
    shmslot_sample sample;
    shmslot_ref ref;
    uint32_t history; /* that it joins with */
    int64_t patience;
};

typedef void (*step)(struct victim *victim);

static inline void nothing(struct victim *victim)
{
    (void)victim;
}

static inline void open_it(struct victim *victim)
{
    victim->writer = open_writer(victim->segment);
}

static inline void reserve_so_many(struct victim *victim, size_t len)
{
    uint64_t value = VICTIMS_VALUE;
    CHECK_OK(shmslot_slot_reserve(victim->writer, len, victim->patience, &victim->loan));
    memcpy(victim->loan.data, &value, sizeof value);
}

static inline void reserve_one(struct victim *victim)
{
    reserve_so_many(victim, sizeof(uint64_t));
}

static inline void have_a_loan(struct victim *victim)
{
    open_it(victim);
    reserve_one(victim);
}

/* The same in a region. */
static inline void reserve_large(struct victim *victim)
{
    reserve_so_many(victim, LARGE);
}

static inline void have_a_large_loan(struct victim *victim)
{
    open_it(victim);
    reserve_large(victim);
}

static inline void commit_it(struct victim *victim)
{
    CHECK_OK(shmslot_slot_commit(victim->writer, &victim->loan, sizeof(uint64_t), NULL));
}

static inline void discard_it(struct victim *victim)
{
    CHECK_OK(shmslot_slot_discard(victim->writer, &victim->loan));
}

static inline void join_with_history(struct victim *victim)
{
    victim->reader = join(victim->segment, victim->history);
}

static inline void read_one(struct victim *victim)
{
    victim->sample = hold(victim->reader);
}

static inline void mark_it(struct victim *victim)
{
    CHECK_OK(shmslot_slot_mark(victim->reader, &victim->sample));
}

static inline void leave_it(struct victim *victim)
{
    shmslot_reader_leave(victim->reader);
}

static inline void reserve_by_mask(struct victim *victim)
{
    CHECK_OK(shmslot_ref_reserve(victim->segment, 1, &victim->ref));
}

static inline void have_a_ref(struct victim *victim)
{
    uint64_t value = VICTIMS_VALUE;
    void *data = NULL;
    size_t room = 0;
    reserve_by_mask(victim);
    CHECK_OK(shmslot_ref_data_ptr(victim->segment, &victim->ref, &data, &room));
    memcpy(data, &value, sizeof value);
}

static inline void commit_ref(struct victim *victim)
{
    CHECK_OK(shmslot_ref_commit_in_place(victim->segment, &victim->ref, sizeof(uint64_t), NULL));
}

/* ---- the survivors ---- */

struct stage {
    shmslot_options options;
    shmslot_segment *segment;
    shmslot_writer *writer; /* NULL while the victim is the only one */
    shmslot_reader *reader, *leaver;
    uint64_t leaver_since; /* the last sequence before it joined */
    shmslot_sample held;
    uint64_t values[MOST_SAMPLES]; /* by sequence: what the survivors wrote; 0 is the victim's */
    uint64_t received, last, blocks;
    int victims_samples;
};

static inline int drops_oldest(const struct stage *stage)
{
    return stage->options.policy == SHMSLOT_POLICY_DROP_OLDEST;
}

static inline uint64_t blocks_of(shmslot_segment *segment)
{
    struct stat facts;
    CHECK(fstat(shmslot_segment_fd(segment), &facts) == 0);
    return (uint64_t)facts.st_blocks;
}

/* A segment with a reader and a writer. */
static inline void open_stage(struct stage *stage, uint32_t policy, uint32_t flags,
                              uint32_t history, uint32_t max_readers, uint32_t regions)
{
    memset(stage, 0, sizeof *stage);
    stage->options = options_of(SLOTS, 8);
    stage->options.policy = policy;
    stage->options.flags = flags;
    stage->options.history = history;
    stage->options.max_readers = max_readers;
    stage->options.max_participants = PARTICIPANTS;
    stage->options.max_payload = LARGE;
    stage->options.region_count = regions;
    stage->segment = make_anonymous(&stage->options);
    stage->blocks = blocks_of(stage->segment);
    stage->reader = join(stage->segment, 0);
    stage->writer = open_writer(stage->segment);
}

static inline void close_stage(struct stage *stage)
{
    shmslot_reader_leave(stage->reader);
    shmslot_writer_close(stage->writer);
    shmslot_segment_close(stage->segment);
}

static inline shmslot_segment *attach_to(const struct stage *stage)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(stage->segment), NULL, &segment, NULL));
    return segment;
}

static inline void note_value(struct stage *stage, uint64_t sequence, uint64_t value)
{
    CHECK(sequence < MOST_SAMPLES);
    stage->values[sequence] = value;
}

static inline void put_one(struct stage *stage, uint64_t value)
{
    note_value(stage, put(stage->writer, value), value);
}

static inline void put_large(struct stage *stage, uint64_t value)
{
    shmslot_loan loan;
    uint64_t sequence = 0;
    CHECK_OK(shmslot_slot_reserve(stage->writer, LARGE, AT_ONCE, &loan));
    memcpy(loan.data, &value, sizeof value);
    CHECK_OK(shmslot_slot_commit(stage->writer, &loan, sizeof value, &sequence));
    note_value(stage, sequence, value);
}

/* Whether a sample is what was committed; and whether that was by the victim. */
static inline int is_victims(const struct stage *stage, const shmslot_sample *sample)
{
    uint64_t value;
    CHECK(sample->sequence < MOST_SAMPLES);
    value = stage->values[sample->sequence];
    CHECK_U64(value_of(sample), value == 0 ? VICTIMS_VALUE : value);
    return value == 0;
}

/* Reads whatever there is, and checks each sample. */
static inline void drain(struct stage *stage)
{
    shmslot_sample sample;
    int result;
    while ((result = shmslot_slot_read(stage->reader, &sample)) == SHMSLOT_OK) {
        CHECK(sample.sequence > stage->last);
        stage->last = sample.sequence;
        stage->received++;
        stage->victims_samples += is_victims(stage, &sample);
        CHECK_OK(shmslot_slot_mark(stage->reader, &sample));
    }
    CHECK_CODE(result, SHMSLOT_E_AGAIN);
}

/* ---- what must be true afterwards ---- */

/* Whoever was killed is cleaned up after, once. */
static inline void check_recovered(struct stage *stage)
{
    size_t all = 0;
    /* if that has not happened by itself */
    CHECK_OK(shmslot_segment_recover(stage->segment, NULL));
    CHECK_CODE(shmslot_segment_recover(stage->segment, NULL), 0);
    CHECK_OK(shmslot_segment_participants(stage->segment, NULL, 0, 0, &all));
    CHECK_U64(all, 1);
}

/* One that did not leave yet: it has or has lost all samples. */
static inline void check_leaver(struct stage *stage)
{
    shmslot_sample sample;
    uint64_t received = 0;
    for (; shmslot_slot_read(stage->leaver, &sample) == SHMSLOT_OK; received++) {
        (void)is_victims(stage, &sample);
        CHECK_OK(shmslot_slot_mark(stage->leaver, &sample));
    }
    CHECK_U64(received + lost(stage->leaver), stage->last - stage->leaver_since);
}

static inline void let_it_leave(struct stage *stage)
{
    shmslot_reader_leave(stage->leaver);
    stage->leaver = NULL;
}

static inline void check_history(struct stage *stage)
{
    uint32_t i, history = stage->options.history;
    shmslot_reader *late = join(stage->segment, history);
    shmslot_sample sample;
    for (i = 0; i < history; i++) {
        CHECK_OK(shmslot_slot_read(late, &sample));
        CHECK_U64(sample.sequence, stage->last - history + 1 + i);
        (void)is_victims(stage, &sample);
        CHECK_OK(shmslot_slot_mark(late, &sample));
    }
    CHECK_CODE(shmslot_slot_read(late, &sample), SHMSLOT_E_AGAIN);
    shmslot_reader_leave(late);
}

static inline void check_slots(struct stage *stage)
{
    shmslot_loan loans[SLOTS], none;
    uint32_t i, room = SLOTS;
    if (!drops_oldest(stage)) room -= stage->options.history;
    for (i = 0; i < room; i++) CHECK_OK(shmslot_slot_reserve(stage->writer, 8, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(stage->writer, 8, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < room; i++) CHECK_OK(shmslot_slot_discard(stage->writer, &loans[i]));
}

/* Nothing is in hand, and all samples are read by all. Slots before anybody joins or leaves, who
 * would clear what is left in its row. But where unread samples are taken back, this takes those of
 * history. */
static inline void check_all_slots(struct stage *stage)
{
    if (drops_oldest(stage)) check_history(stage);
    check_slots(stage);
    if (!drops_oldest(stage)) check_history(stage);
}

static inline void check_rows(struct stage *stage)
{
    shmslot_reader *readers[63];
    shmslot_segment *segments[PARTICIPANTS];
    uint32_t i, max_readers = stage->options.max_readers;
    CHECK_U64(info_of(stage->segment).readers, UINT64_C(1) << shmslot_reader_index(stage->reader));
    for (i = 1; i < max_readers; i++) readers[i] = join(stage->segment, 0);
    for (i = 1; i < max_readers; i++) shmslot_reader_leave(readers[i]);
    for (i = 1; i < PARTICIPANTS; i++) segments[i] = attach_to(stage);
    for (i = 1; i < PARTICIPANTS; i++) shmslot_segment_close(segments[i]);
}

/* What history retains is in slots. */
static inline void check_regions(struct stage *stage)
{
    shmslot_loan loans[MOST_REGIONS], none;
    uint32_t i, room = stage->options.region_count;
    for (i = 0; i < room; i++)
        CHECK_OK(shmslot_slot_reserve(stage->writer, LARGE, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(stage->writer, LARGE, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < room; i++) CHECK_OK(shmslot_slot_discard(stage->writer, &loans[i]));
    CHECK_OK(shmslot_segment_trim(stage->segment, NULL));
    CHECK_U64(blocks_of(stage->segment), stage->blocks); /* no memory is left behind in a region */
}

/* ---- up to a point ---- */

/* What of a segment is watched: everything before the payloads. */
struct watched {
    unsigned char before[1 << 16];
    void *shared;
    size_t size;
};

static inline void watch(struct watched *watched, shmslot_segment *segment)
{
    uint64_t size = 0;
    int fd = shmslot_segment_fd(segment);
    CHECK(pread(fd, &size, sizeof size, AT_CONTROL_SIZE) == sizeof size &&
          size <= sizeof watched->before);
    watched->size = (size_t)size;
    watched->shared = mmap(NULL, watched->size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(watched->shared != MAP_FAILED);
}

static inline int watch_to_next_point(struct watched *watched, pid_t pid)
{
    memcpy(watched->before, watched->shared, watched->size);
    return steps_next(pid, watched->shared, watched->before, watched->size);
}

static inline void unwatch(struct watched *watched)
{
    CHECK(munmap(watched->shared, watched->size) == 0);
}

#endif
