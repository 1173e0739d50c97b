/* The C side of tests/languages.rs: peer read|write NAME COUNT.
 * Sample i carries the text "LANGUAGE i" of its sender, and i as 64-bit number in the user header. */
#include <inttypes.h>
#include <shmslot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #holds); \
            exit(1); \
        } \
    } while (0)

static void read_all(shmslot_segment *segment, uint64_t count)
{
    shmslot_reader *reader;
    shmslot_sample sample;
    uint64_t i, number;
    char text[64];

    CHECK(shmslot_reader_join(segment, 0, &reader, NULL) == 0);
    puts("ready");
    fflush(stdout);
    for (i = 1; i <= count; i++) {
        CHECK(shmslot_wait(reader, -1) == 0);
        CHECK(shmslot_slot_read(reader, &sample) == 0);
        CHECK(sample.sequence == i);
        snprintf(text, sizeof text, "Rust %" PRIu64, i);
        CHECK(sample.len == strlen(text) && memcmp(sample.data, text, strlen(text)) == 0);
        memcpy(&number, sample.user_header, sizeof number);
        CHECK(number == i);
        CHECK(shmslot_slot_mark(reader, &sample) == 0);
    }
    shmslot_reader_leave(reader);
}

static void write_all(shmslot_segment *segment, uint64_t count)
{
    shmslot_writer *writer;
    shmslot_loan loan;
    uint64_t i, sequence;

    CHECK(shmslot_writer_open(segment, &writer, NULL) == 0);
    for (i = 1; i <= count; i++) {
        int len;
        CHECK(shmslot_slot_reserve(writer, 64, -1, &loan) == 0);
        len = snprintf(loan.data, 64, "C %" PRIu64, i);
        memcpy(loan.user_header, &i, sizeof i);
        CHECK(shmslot_slot_commit(writer, &loan, (size_t)len, &sequence) == 0);
        CHECK(sequence == i);
    }
    shmslot_writer_close(writer);
}

int main(int argc, char **argv)
{
    shmslot_segment *segment;
    uint64_t count;

    CHECK(argc == 4);
    count = (uint64_t)strtoull(argv[3], NULL, 10);
    CHECK(shmslot_segment_attach(argv[2], NULL, &segment, NULL) == 0);
    if (strcmp(argv[1], "read") == 0)
        read_all(segment, count);
    else
        write_all(segment, count);
    shmslot_segment_close(segment);
    return 0;
}
