/* DROP_OLDEST under pressure: readers that hold several samples see none of their bytes change, and
 * what each of them has seen and lost adds up to all, at every sample. */
#include "stream.h"

#define SLOTS 8
#define IN_HAND 3
#define EACH UINT64_C(400000)

struct job {
    const char *name;
    uint64_t id;
    uint64_t total;
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

static void check_bytes(const shmslot_sample *sample)
{
    const struct message *message = sample->data;
    size_t at;
    CHECK(message->writer < STREAM_MAX_WRITERS);
    CHECK_U64(sample->len, message_length(message->writer, message->number));
    for (at = 0; at < sample->len - 16; at++) {
        CHECK(message->filling[at] == message_byte(message->writer, message->number, at));
    }
}

static int read_all(int link, void *argument)
{
    const struct job *job = argument;
    shmslot_segment *segment = attach(job->name);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample held[IN_HAND];
    uint64_t numbers[IN_HAND], last[STREAM_MAX_WRITERS] = {0}, last_sequence = 0, seen = 0;
    size_t place;
    say(link);
    while (last_sequence < job->total) { /* nobody can take the last one away */
        const struct message *message;
        shmslot_sample *sample = &held[seen % IN_HAND];
        int result;
        if (seen >= IN_HAND) {
            check_bytes(sample); /* as good as when it was read */
            CHECK_U64(((const struct message *)sample->data)->number, numbers[seen % IN_HAND]);
            CHECK_OK(shmslot_slot_mark(reader, sample));
        }
        while ((result = shmslot_slot_read(reader, sample)) == SHMSLOT_E_AGAIN)
            CHECK_OK(shmslot_wait(reader, FOR_EVER));
        CHECK_OK(result);
        check_bytes(sample);
        message = sample->data;
        numbers[seen % IN_HAND] = message->number;
        CHECK(sample->sequence > last_sequence);
        CHECK(message->number > last[message->writer]);
        last_sequence = sample->sequence;
        last[message->writer] = message->number;
        seen++;
        CHECK_U64(lost(reader), last_sequence - seen);
    }
    check_nothing_to_read(reader);
    CHECK_U64(seen + lost(reader), job->total);
    for (place = 0; place < IN_HAND && place < seen; place++) {
        check_bytes(&held[place]);
        CHECK_OK(shmslot_slot_mark(reader, &held[place]));
    }
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_pressure(uint64_t writer_count, uint32_t flags, uint32_t history)
{
    char name[64];
    shmslot_options options = options_of(SLOTS, STREAM_MAX_LENGTH);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_loan loan;
    child writers[2], readers[2];
    struct job job;
    uint64_t i;

    options.policy = SHMSLOT_POLICY_DROP_OLDEST;
    options.flags = flags;
    options.history = history;
    segment = make_named(unique_name(name, sizeof name, "drop"), &options);
    job.name = name;
    job.total = writer_count * EACH;
    for (i = 0; i < 2; i++) {
        readers[i] = start_child(read_all, &job);
        hear(readers[i].link);
    }
    for (i = 0; i < writer_count; i++) {
        job.id = i;
        writers[i] = start_child(write_all, &job);
        hear(writers[i].link);
    }
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (i = 0; i < writer_count; i++) say(writers[i].link);
    for (i = 0; i < writer_count; i++) CHECK_CHILD(writers[i]);
    for (i = 0; i < 2; i++) CHECK_CHILD(readers[i]);

    CHECK_U64(info_of(segment).next_sequence, job.total + 1);
    writer = open_writer(segment); /* every slot can be had: nothing leaked */
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_pressure(2, 0, 0));
    RUN(check_pressure(2, 0, 2));
    RUN(check_pressure(1, SHMSLOT_FLAG_SINGLE_WRITER, 0));
    RUN(check_pressure(1, SHMSLOT_FLAG_SINGLE_WRITER, 2));
}
