/* Four writer processes and two reader processes: one order for all, 1, 2, 3, … without a gap. */
#include "stream.h"

#define WRITERS 4
#define READERS 2
#define EACH UINT64_C(50000)

struct job {
    const char *name;
    uint64_t id;
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
    uint64_t w;
    say(link);
    stream_start(&seen);
    stream_read(&seen, reader, WRITERS * EACH);
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 0);
    for (w = 0; w < WRITERS; w++) CHECK_U64(seen.last[w], EACH);
    send_bytes(link, &seen.hash, sizeof seen.hash);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

int main(void)
{
    char name[64];
    shmslot_options options = options_of(64, STREAM_MAX_LENGTH);
    shmslot_segment *segment;
    child writers[WRITERS], readers[READERS];
    uint64_t i, hashes[READERS];

    check_begin();
    options.policy = SHMSLOT_POLICY_BLOCK;
    segment = make_named(unique_name(name, sizeof name, "order4"), &options);
    for (i = 0; i < READERS; i++) {
        struct job job = {name, i};
        readers[i] = start_child(read_all, &job);
        hear(readers[i].link);
    }
    for (i = 0; i < WRITERS; i++) {
        struct job job = {name, i};
        writers[i] = start_child(write_all, &job);
        hear(writers[i].link);
    }
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (i = 0; i < WRITERS; i++) say(writers[i].link);
    for (i = 0; i < READERS; i++) {
        receive_bytes(readers[i].link, &hashes[i], sizeof hashes[i]);
        CHECK_U64(hashes[i], hashes[0]);
    }
    for (i = 0; i < WRITERS; i++) CHECK_CHILD(writers[i]);
    for (i = 0; i < READERS; i++) CHECK_CHILD(readers[i]);
    CHECK_U64(info_of(segment).next_sequence, WRITERS * EACH + 1);
    CHECK_U64(info_of(segment).readers, 0);
    CHECK_U64(info_of(segment).participants, 1);
    shmslot_segment_close(segment);
    return 0;
}
