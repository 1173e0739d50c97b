/* Messages of many writers, each numbered by its writer and checkable byte by byte. A reader must
 * find sequences without a gap, each writer's numbers in order, bytes as written, and the order
 * that all readers see. */
#ifndef SHMSLOT_CTESTS_STREAM_H
#define SHMSLOT_CTESTS_STREAM_H

#include "samples.h"

#define STREAM_MAX_WRITERS 8
#define STREAM_MAX_LENGTH 200

struct message {
    uint64_t writer;
    uint64_t number; /* 1, 2, 3, … for each writer */
    unsigned char filling[STREAM_MAX_LENGTH - 16];
};

/* Lengths and bytes that only this writer and number have. */
static inline size_t message_length(uint64_t writer, uint64_t number)
{
    return 16 + (size_t)((number * 7 + writer * 13) % (STREAM_MAX_LENGTH - 16));
}

static inline unsigned char message_byte(uint64_t writer, uint64_t number, size_t at)
{
    return (unsigned char)((number ^ number >> 8) + writer * 31 + at * 3);
}

/* Reserves, fills in place and commits. Waits while there is no room. */
static inline void send_message(shmslot_writer *writer, uint64_t id, uint64_t number)
{
    size_t length = message_length(id, number), at;
    shmslot_loan loan;
    struct message *message;
    CHECK_OK(shmslot_slot_reserve(writer, length, FOR_EVER, &loan));
    message = loan.data;
    message->writer = id;
    message->number = number;
    for (at = 0; at < length - 16; at++) message->filling[at] = message_byte(id, number, at);
    CHECK_OK(shmslot_slot_commit(writer, &loan, length, NULL));
}

/* What one reader has seen so far. */
struct stream {
    uint64_t next_sequence;
    uint64_t last[STREAM_MAX_WRITERS];
    uint64_t hash; /* of the order: equal in two readers when they saw the same */
};

static inline void stream_start(struct stream *stream)
{
    memset(stream, 0, sizeof *stream);
    stream->next_sequence = 1;
    stream->hash = UINT64_C(0xcbf29ce484222325);
}

static inline void stream_check(struct stream *stream, const shmslot_sample *sample)
{
    const struct message *message = sample->data;
    size_t at;
    CHECK_U64(sample->sequence, stream->next_sequence);
    stream->next_sequence++;
    CHECK(sample->len >= 16);
    CHECK(message->writer < STREAM_MAX_WRITERS);
    CHECK_U64(message->number, stream->last[message->writer] + 1);
    stream->last[message->writer] = message->number;
    CHECK_U64(sample->len, message_length(message->writer, message->number));
    for (at = 0; at < sample->len - 16; at++) {
        CHECK(message->filling[at] == message_byte(message->writer, message->number, at));
    }
    stream->hash =
        (stream->hash ^ (sample->sequence << 8 ^ message->writer)) * UINT64_C(0x100000001b3);
}

/* Reads, checks and marks `count` samples, asleep while there are none. */
static inline void stream_read(struct stream *stream, shmslot_reader *reader, uint64_t count)
{
    while (count > 0) {
        shmslot_sample sample;
        int result = shmslot_slot_read(reader, &sample);
        if (result == SHMSLOT_E_AGAIN) {
            CHECK_OK(shmslot_wait(reader, FOR_EVER));
            continue;
        }
        CHECK_OK(result);
        stream_check(stream, &sample);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
        count--;
    }
}

#endif
