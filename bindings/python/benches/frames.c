/* The C figure beside which bench.py puts that of numpy: frames written by memcpy in one process,
 * and read by memcpy in another. frames write|read NAME COUNT BYTES; the reader prints the
 * nanoseconds from its first to its last frame. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <shmslot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #holds); \
            exit(1); \
        } \
    } while (0)

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void write_all(shmslot_segment *segment, long count, size_t bytes)
{
    shmslot_writer *writer;
    shmslot_loan loan;
    unsigned char *frame = malloc(bytes);

    CHECK(frame != NULL);
    memset(frame, 7, bytes);
    CHECK(shmslot_writer_open(segment, &writer, NULL) == 0);
    CHECK(shmslot_wait_readers(writer, 1, -1, NULL) == 0);
    for (long i = 0; i < count; i++) {
        frame[0] = (unsigned char)i;
        CHECK(shmslot_slot_reserve(writer, bytes, -1, &loan) == 0);
        memcpy(loan.data, frame, bytes);
        CHECK(shmslot_slot_commit(writer, &loan, bytes, NULL) == 0);
    }
    shmslot_writer_close(writer);
    free(frame);
}

static void read_all(shmslot_segment *segment, long count, size_t bytes)
{
    shmslot_reader *reader;
    shmslot_sample sample;
    unsigned char *frame = malloc(bytes);
    int64_t start = 0;

    CHECK(frame != NULL);
    CHECK(shmslot_reader_join(segment, 0, &reader, NULL) == 0);
    for (long i = 0; i < count; i++) {
        CHECK(shmslot_wait(reader, -1) == 0);
        if (i == 0)
            start = now_ns();
        CHECK(shmslot_slot_read(reader, &sample) == 0);
        memcpy(frame, sample.data, sample.len);
        CHECK(shmslot_slot_mark(reader, &sample) == 0);
        CHECK(frame[0] == (unsigned char)i);
    }
    printf("%" PRId64 "\n", now_ns() - start);
    shmslot_reader_leave(reader);
    free(frame);
}

int main(int argc, char **argv)
{
    shmslot_segment *segment;
    long count;
    size_t bytes;

    CHECK(argc == 5);
    count = atol(argv[3]);
    bytes = (size_t)atol(argv[4]);
    CHECK(shmslot_segment_attach(argv[2], NULL, &segment, NULL) == 0);
    if (strcmp(argv[1], "write") == 0)
        write_all(segment, count, bytes);
    else
        read_all(segment, count, bytes);
    shmslot_segment_close(segment);
    return 0;
}
