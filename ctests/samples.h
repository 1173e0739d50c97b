/* Segments, writers and readers with one line each, and samples that carry one 64-bit value. */
#ifndef SHMSLOT_CTESTS_SAMPLES_H
#define SHMSLOT_CTESTS_SAMPLES_H

#include "check.h"

#define FOR_EVER INT64_C(-1)
#define AT_ONCE INT64_C(0)
#define MILLISECOND INT64_C(1000000)

static inline shmslot_options options_of(uint32_t slot_count, uint64_t slot_capacity)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    options.slot_count = slot_count;
    options.slot_capacity = slot_capacity;
    return options;
}

static inline shmslot_segment *make_anonymous_(const shmslot_options *options)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_create_anonymous(options, &segment, NULL));
    return segment;
}

static inline shmslot_segment *make_named_(const char *name, const shmslot_options *options)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_create(name, options, &segment, NULL));
    return segment;
}

static inline shmslot_segment *attach_(const char *name)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach(name, NULL, &segment, NULL));
    return segment;
}

static inline shmslot_writer *open_writer_(shmslot_segment *segment)
{
    shmslot_writer *writer = NULL;
    CHECK_OK(shmslot_writer_open(segment, &writer, NULL));
    return writer;
}

static inline shmslot_reader *join_(shmslot_segment *segment, uint32_t history)
{
    shmslot_reader *reader = NULL;
    CHECK_OK(shmslot_reader_join(segment, history, &reader, NULL));
    return reader;
}

/* Writes the value and returns the sequence that it got. */
static inline uint64_t put_wait_(shmslot_writer *writer, uint64_t value, int64_t timeout_ns)
{
    uint64_t sequence = 0;
    CHECK_OK(shmslot_slot_write(writer, &value, sizeof value, timeout_ns, &sequence));
    return sequence;
}

static inline uint64_t value_of(const shmslot_sample *sample)
{
    uint64_t value;
    CHECK_U64(sample->len, sizeof value);
    memcpy(&value, sample->data, sizeof value);
    return value;
}

/* Reads the next sample, which must be there, and keeps it held. */
static inline shmslot_sample hold_(shmslot_reader *reader)
{
    shmslot_sample sample;
    CHECK_OK(shmslot_slot_read(reader, &sample));
    return sample;
}

/* Reads the next sample, which must be there, marks it and returns its value. */
static inline uint64_t take_(shmslot_reader *reader)
{
    shmslot_sample sample = hold_(reader);
    uint64_t value = value_of(&sample);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    return value;
}

static inline uint64_t take_wait_(shmslot_reader *reader)
{
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    return take_(reader);
}

static inline void check_nothing_to_read_(shmslot_reader *reader)
{
    shmslot_sample sample;
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_AGAIN);
}

static inline uint64_t lost_(const shmslot_reader *reader)
{
    uint64_t count = UINT64_MAX;
    CHECK_OK(shmslot_reader_lost(reader, &count));
    return count;
}

static inline shmslot_info info_of_(const shmslot_segment *segment)
{
    shmslot_info info;
    memset(&info, 0xA5, sizeof info);
    CHECK_OK(shmslot_segment_info(segment, &info, sizeof info));
    return info;
}

/* By these names, so that a failure inside tells the line of the test. */
#define make_anonymous(options) CHECK_HERE(make_anonymous_(options))
#define make_named(name, options) CHECK_HERE(make_named_(name, options))
#define attach(name) CHECK_HERE(attach_(name))
#define open_writer(segment) CHECK_HERE(open_writer_(segment))
#define join(segment, history) CHECK_HERE(join_(segment, history))
#define put_wait(writer, value, timeout_ns) CHECK_HERE(put_wait_(writer, value, timeout_ns))
#define put(writer, value) CHECK_HERE(put_wait_(writer, value, AT_ONCE))
#define hold(reader) CHECK_HERE(hold_(reader))
#define take(reader) CHECK_HERE(take_(reader))
#define take_wait(reader) CHECK_HERE(take_wait_(reader))
#define check_nothing_to_read(reader) CHECK_HERE(check_nothing_to_read_(reader))
#define lost(reader) CHECK_HERE(lost_(reader))
#define info_of(segment) CHECK_HERE(info_of_(segment))

#endif
