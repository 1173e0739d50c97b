/* Readers join and leave while others write and read: no reader misses a sample whose commit began
 * after it joined, and nothing stays owed to one that has left. */
#include "stream.h"

#include <poll.h>

#define SLOTS 16
#define WRITERS 2
#define EACH UINT64_C(30000)
#define DEPTH 3

struct job {
    const char *name;
    uint64_t id;
    uint32_t history;
};

static int write_all(int link, void *argument)
{
    const struct job *job = argument;
    shmslot_segment *segment = attach(job->name);
    shmslot_writer *writer = open_writer(segment);
    uint64_t number;
    say(link);
    hear(link);
    for (number = 1; number <= EACH; number++) send_message(writer, job->id, number);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static int read_all(int link, void *argument)
{
    const struct job *job = argument;
    shmslot_segment *segment = attach(job->name);
    shmslot_reader *reader = join(segment, 0);
    struct stream seen;
    say(link);
    stream_start(&seen);
    stream_read(&seen, reader, WRITERS * EACH);
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

/* Joins, reads some, holds one beyond the leave, and repeats this until told to stop. */
static int come_and_go(int link, void *argument)
{
    const struct job *job = argument;
    shmslot_segment *segment = attach(job->name);
    uint64_t round;
    say(link);
    for (round = 0;; round++) {
        struct pollfd told = {link, POLLIN, 0};
        uint32_t asked = (uint32_t)(round % (job->history + 1));
        uint64_t before = info_of(segment).next_sequence, next, missed = 0, seen = 0, i;
        shmslot_reader *reader = join(segment, asked);
        shmslot_sample held;
        int holds = 0;
        next = info_of(segment).next_sequence;
        for (i = 0; i < round % 6; i++) {
            shmslot_sample sample;
            int result = shmslot_slot_read(reader, &sample);
            if (result == SHMSLOT_E_AGAIN) continue;
            CHECK_OK(result);
            if (seen++ == 0) {
                CHECK(sample.sequence + asked >= before);
                if (sample.sequence < next) next = sample.sequence;
            }
            CHECK(sample.sequence >= next);
            missed += sample.sequence - next;
            CHECK(missed <= WRITERS); /* only samples that were being committed while it joined */
            next = sample.sequence + 1;
            if (!holds && round % 3 == 0) {
                held = sample;
                holds = 1;
            } else {
                CHECK_OK(shmslot_slot_mark(reader, &sample));
            }
        }
        CHECK_U64(lost(reader), 0);
        shmslot_reader_leave(reader);
        if (holds) CHECK_OK(shmslot_slot_mark(reader, &held));
        if (poll(&told, 1, 0) == 1) break;
    }
    CHECK(round > 10);
    shmslot_segment_close(segment);
    return 0;
}

static void check_churn(uint32_t history)
{
    char name[64];
    shmslot_options options = options_of(SLOTS, STREAM_MAX_LENGTH);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_loan loan;
    child writers[WRITERS], churners[2], reading;
    struct job job;
    uint64_t i;

    options.policy = SHMSLOT_POLICY_BLOCK;
    options.history = history;
    options.max_readers = 20; /* more than one word of marks has bits for */
    segment = make_named(unique_name(name, sizeof name, "joining"), &options);
    job.name = name;
    job.history = history;
    reading = start_child(read_all, &job);
    hear(reading.link);
    for (i = 0; i < 2; i++) {
        churners[i] = start_child(come_and_go, &job);
        hear(churners[i].link);
    }
    for (i = 0; i < WRITERS; i++) {
        job.id = i;
        writers[i] = start_child(write_all, &job);
        hear(writers[i].link);
    }
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (i = 0; i < WRITERS; i++) say(writers[i].link);
    for (i = 0; i < WRITERS; i++) CHECK_CHILD(writers[i]);
    CHECK_CHILD(reading);
    for (i = 0; i < 2; i++) {
        say(churners[i].link);
        CHECK_CHILD(churners[i]);
    }
    CHECK_U64(info_of(segment).readers, 0);
    CHECK_U64(info_of(segment).next_sequence, WRITERS * EACH + 1);
    writer = open_writer(segment);
    for (i = 0; i < SLOTS - history; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- a reader that leaves as soon as it has joined, in the middle of commits ---- */

#define VISITS 300

struct visit {
    shmslot_segment *segment;
    int over;
};

static void *join_and_leave(void *argument)
{
    struct visit *visit = argument;
    shmslot_reader_leave(join(visit->segment, 0));
    /* relaxed: it adds no order of its own to the visit */
    __atomic_store_n(&visit->over, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* After each visit every slot can be reserved: none stays owed to the reader. */
static void check_short_visits(uint32_t policy, uint32_t flags)
{
    shmslot_options options = options_of(SLOTS, 64);
    shmslot_segment *segment;
    shmslot_writer *writer;
    int round, i;
    options.policy = policy;
    options.flags = flags;
    options.max_readers = 20;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (round = 0; round < VISITS; round++) {
        shmslot_loan loans[SLOTS];
        struct visit visit;
        pthread_t visitor;
        visit.segment = segment;
        visit.over = 0;
        visitor = start_thread(join_and_leave, &visit);
        while (!__atomic_load_n(&visit.over, __ATOMIC_RELAXED)) (void)put_wait(writer, 1, FOR_EVER);
        end_thread(visitor);
        for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
        for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    }
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_short_visits(SHMSLOT_POLICY_BLOCK, 0));
    RUN(check_short_visits(SHMSLOT_POLICY_BLOCK, SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_short_visits(SHMSLOT_POLICY_DROP_OLDEST, 0));
    RUN(check_short_visits(SHMSLOT_POLICY_DROP_OLDEST, SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_churn(0));
    RUN(check_churn(DEPTH));
}
