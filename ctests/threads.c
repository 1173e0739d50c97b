/* Four threads write through one handle, three read with readers of their own, in one process. */
#include "stream.h"

#define WRITERS 4
#define READERS 3
#define EACH UINT64_C(20000)

struct writing {
    shmslot_writer *writer;
    uint64_t id;
};

struct reading {
    shmslot_reader *reader;
    struct stream seen;
};

static void *write_all(void *argument)
{
    const struct writing *writing = argument;
    uint64_t number;
    for (number = 1; number <= EACH; number++) send_message(writing->writer, writing->id, number);
    return NULL;
}

static void *read_all(void *argument)
{
    struct reading *reading = argument;
    stream_start(&reading->seen);
    stream_read(&reading->seen, reading->reader, WRITERS * EACH);
    return NULL;
}

int main(void)
{
    shmslot_options options = options_of(32, STREAM_MAX_LENGTH);
    struct writing writing[WRITERS];
    struct reading reading[READERS];
    pthread_t writers[WRITERS], readers[READERS];
    shmslot_segment *segment;
    shmslot_writer *writer;
    uint64_t i, w;

    check_begin();
    options.policy = SHMSLOT_POLICY_BLOCK;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 0; i < READERS; i++) reading[i].reader = join(segment, 0);
    for (i = 0; i < READERS; i++) readers[i] = start_thread(read_all, &reading[i]);
    for (i = 0; i < WRITERS; i++) {
        writing[i].writer = writer;
        writing[i].id = i;
        writers[i] = start_thread(write_all, &writing[i]);
    }
    for (i = 0; i < WRITERS; i++) end_thread(writers[i]);
    for (i = 0; i < READERS; i++) {
        end_thread(readers[i]);
        check_nothing_to_read(reading[i].reader);
        CHECK_U64(lost(reading[i].reader), 0);
        for (w = 0; w < WRITERS; w++) CHECK_U64(reading[i].seen.last[w], EACH);
        CHECK_U64(reading[i].seen.hash, reading[0].seen.hash);
        shmslot_reader_leave(reading[i].reader);
    }
    CHECK_U64(info_of(segment).next_sequence, WRITERS * EACH + 1);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}
