/* Payloads are aligned as requested, user headers travel beside them, and a process that only reads
 * can write neither. */
#include "samples.h"

#include <setjmp.h>

#define SLOTS 5
#define CAPACITY 100

static char name[64];

static unsigned char byte_of(uint64_t sequence, size_t at)
{
    return (unsigned char)(sequence * 37 + at);
}

static void check_sample(const shmslot_sample *sample, uint32_t align, uint32_t user_header)
{
    size_t at;
    CHECK_U64((uintptr_t)sample->data % align, 0);
    CHECK_U64(sample->len, CAPACITY);
    for (at = 0; at < CAPACITY; at++) {
        CHECK(((const unsigned char *)sample->data)[at] == byte_of(sample->sequence, at));
    }
    for (at = 0; at < user_header; at++) {
        CHECK(((const unsigned char *)sample->user_header)[at] ==
              byte_of(sample->sequence, at + 1000));
    }
}

static void write_sample(shmslot_writer *writer, uint64_t sequence, uint32_t align,
                         uint32_t user_header)
{
    shmslot_loan loan;
    uint64_t got = 0;
    size_t at;
    CHECK_OK(shmslot_slot_reserve(writer, CAPACITY, AT_ONCE, &loan));
    CHECK_U64((uintptr_t)loan.data % align, 0);
    for (at = 0; at < CAPACITY; at++) ((unsigned char *)loan.data)[at] = byte_of(sequence, at);
    if (user_header > 0) CHECK(loan.user_header != NULL);
    for (at = 0; at < user_header; at++)
        ((unsigned char *)loan.user_header)[at] = byte_of(sequence, at + 1000);
    CHECK_OK(shmslot_slot_commit(writer, &loan, CAPACITY, &got));
    CHECK_U64(got, sequence);
}

struct shape {
    uint32_t align;
    uint32_t user_header;
};

static int read_in_another_process(int link, void *argument)
{
    const struct shape *shape = argument;
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, SLOTS - 1);
    uint64_t expected;
    CHECK_U64(info_of(segment).payload_align, shape->align);
    CHECK_U64(info_of(segment).user_header_size, shape->user_header);
    say(link);
    for (expected = 2; expected <= 3 * SLOTS; expected++) {
        shmslot_sample sample;
        CHECK_OK(shmslot_wait(reader, FOR_EVER));
        sample = hold(reader);
        CHECK_U64(sample.sequence, expected);
        check_sample(&sample, shape->align, shape->user_header);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_shape(uint32_t align, uint32_t user_header)
{
    shmslot_options options = options_of(SLOTS, CAPACITY);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    struct shape shape;
    uint64_t sequence;
    child other;

    shape.align = align;
    shape.user_header = user_header;
    options.payload_align = align;
    options.user_header_size = user_header;
    options.history = SLOTS - 1;
    options.policy = SHMSLOT_POLICY_BLOCK;
    segment = make_named(unique_name(name, sizeof name, "align"), &options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    for (sequence = 1; sequence <= SLOTS; sequence++)
        write_sample(writer, sequence, align, user_header);
    other = start_child(read_in_another_process, &shape);
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (sequence = 1; sequence <= 3 * SLOTS; sequence++) {
        shmslot_sample sample;
        if (sequence > SLOTS) {
            CHECK_OK(shmslot_wait_space(writer, FOR_EVER));
            write_sample(writer, sequence, align, user_header);
        }
        sample = hold(reader);
        check_sample(&sample, align, user_header);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    CHECK_CHILD(other);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- a process that only reads ---- */

static sigjmp_buf after_the_fault;

static void on_fault(int signal_number)
{
    (void)signal_number;
    siglongjmp(after_the_fault, 1);
}

static int faults_when_written(const void *address)
{
    if (sigsetjmp(after_the_fault, 1) != 0) return 1;
    *(volatile unsigned char *)(uintptr_t)address = 0xEE;
    return 0;
}

static int try_to_write(int link, void *argument)
{
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, 1);
    shmslot_sample sample = hold(reader);
    size_t at;
    (void)link;
    (void)argument;
    check_sample(&sample, 64, 256);
    CHECK(signal(SIGSEGV, on_fault) != SIG_ERR);
    for (at = 0; at < CAPACITY; at++) CHECK(faults_when_written((const char *)sample.data + at));
    for (at = 0; at < 256; at++) CHECK(faults_when_written((const char *)sample.user_header + at));
    check_sample(&sample, 64, 256);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_readers_cannot_write(void)
{
    shmslot_options options = options_of(64, CAPACITY) /* user headers on pages of their own */;
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_sample sample;
    options.user_header_size = 256;
    options.history = 1;
    segment = make_named(unique_name(name, sizeof name, "align"), &options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    write_sample(writer, 1, 64, 256);
    CHECK_U64((uint64_t)run_child(try_to_write, NULL), 0);
    sample = hold(reader);
    check_sample(&sample, 64, 256);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

int main(void)
{
    uint32_t align;
    check_begin();
    for (align = 64; align <= 4096; align *= 2) {
        check_shape(align, 0);
        check_shape(align, 1);
        check_shape(align, 24);
        check_shape(align, 256);
    }
    check_readers_cannot_write();
    return 0;
}
