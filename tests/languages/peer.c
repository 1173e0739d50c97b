/* The C peer of tests/languages.rs, which has the jobs and ways: peer JOB WAY COUNT [NAME]. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include <inttypes.h>
#include <shmslot_pool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(holds) \
    do { \
        if (!(holds)) { \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #holds); \
            exit(1); \
        } \
    } while (0)

/* Longer than anything takes, so that a hanging program ends. */
#define PATIENT_S 100
#define PATIENT (INT64_C(1000000000) * PATIENT_S)

#define CAPACITY 64
#define LARGEST (UINT64_C(3) << 20)

static void say(const char *line)
{
    printf("> %s\n", line);
    fflush(stdout);
}

static void hear(const char *expected)
{
    char line[64];
    CHECK(fgets(line, sizeof line, stdin) != NULL);
    line[strcspn(line, "\n")] = 0;
    CHECK(strcmp(line, expected) == 0);
}

/* ---- payloads ---- */

static uint64_t large_len(uint64_t i)
{
    uint64_t step = i * 7 % 20;
    return 100 + (LARGEST - 100) * step * step / (19 * 19);
}

static uint64_t sample_len(uint64_t i)
{
    return i % 100 == 0 ? large_len(i / 100) : i * 16 % 80;
}

static unsigned char byte_of(uint64_t i, uint64_t at)
{
    return (unsigned char)(i * 31 + at + (at >> 12));
}

static void fill(void *data, uint64_t len, uint64_t i)
{
    unsigned char *bytes = data;
    uint64_t at;
    for (at = 0; at < len; at++) bytes[at] = byte_of(i, at);
}

static void check_bytes(const void *data, uint64_t len, uint64_t i)
{
    const unsigned char *bytes = data;
    uint64_t at;
    for (at = 0; at < len && bytes[at] == byte_of(i, at); at++) continue;
    if (at < len)
        fprintf(stderr, "payload %" PRIu64 " of %" PRIu64 " bytes is wrong at %" PRIu64 "\n", i,
                len, at);
    CHECK(at == len);
}

/* ---- segments ---- */

static shmslot_options options_of_samples(void)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    options.slot_count = 7;
    options.slot_capacity = CAPACITY;
    options.user_header_size = 8;
    options.policy = SHMSLOT_POLICY_BLOCK;
    options.max_payload = LARGEST;
    options.region_count = 3;
    return options;
}

static shmslot_channel *inherited(void)
{
    shmslot_channel *channel;
    CHECK(shmslot_channel_from_fd(STDIN_FILENO, 0, &channel, NULL) == 0);
    return channel;
}

/* Makes a segment, or attaches to that of the other side. */
static shmslot_segment *segment_by(const char *way, const char *name)
{
    shmslot_options options = options_of_samples();
    shmslot_segment *segment;
    shmslot_info info;

    if (strcmp(way, "create") == 0) {
        CHECK(shmslot_segment_create(name, &options, &segment, NULL) == 0);
    } else if (strcmp(way, "attach") == 0) {
        CHECK(shmslot_segment_attach(name, NULL, &segment, NULL) == 0);
    } else if (strcmp(way, "send") == 0) {
        CHECK(shmslot_segment_create_anonymous(&options, &segment, NULL) == 0);
    } else {
        shmslot_channel *channel = inherited();
        CHECK(shmslot_channel_recv_segment(channel, NULL, PATIENT, &segment, NULL) == 0);
        shmslot_channel_close(channel);
    }
    CHECK(shmslot_segment_info(segment, &info, sizeof info) == 0);
    CHECK(info.slot_capacity == CAPACITY && info.max_payload == LARGEST);
    return segment;
}

static void read_all(const char *way, uint64_t count, const char *name)
{
    shmslot_segment *segment = segment_by(way, name);
    shmslot_reader *reader;
    shmslot_sample sample;
    uint64_t i, number;

    CHECK(shmslot_reader_join(segment, 0, &reader, NULL) == 0);
    CHECK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD) == 0);
    if (strcmp(way, "send") == 0) {
        shmslot_channel *channel = inherited();
        CHECK(shmslot_channel_send_segment(channel, segment, PATIENT, NULL) == 0);
        shmslot_channel_close(channel);
    }
    say("ready");
    for (i = 1; i <= count; i++) {
        CHECK(shmslot_wait(reader, PATIENT) == 0);
        CHECK(shmslot_slot_read(reader, &sample) == 0);
        CHECK(sample.sequence == i);
        CHECK(sample.len == sample_len(i));
        check_bytes(sample.data, sample.len, i);
        memcpy(&number, sample.user_header, sizeof number);
        CHECK(number == i);
        CHECK(shmslot_slot_mark(reader, &sample) == 0);
    }
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void write_all(const char *way, uint64_t count, const char *name)
{
    shmslot_segment *segment = segment_by(way, name);
    shmslot_writer *writer;
    shmslot_loan loan;
    uint64_t i, sequence;

    CHECK(shmslot_writer_open(segment, &writer, NULL) == 0);
    /* otherwise the reader has joined before it sent the segment */
    if (strcmp(way, "receive") != 0) {
        say("ready");
        hear("go");
    }
    for (i = 1; i <= count; i++) {
        CHECK(shmslot_slot_reserve(writer, sample_len(i), PATIENT, &loan) == 0);
        fill(loan.data, loan.len, i);
        memcpy(loan.user_header, &i, sizeof i);
        CHECK(shmslot_slot_commit(writer, &loan, loan.len, &sequence) == 0);
        CHECK(sequence == i);
    }
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- regions ---- */

static void lease_all(uint64_t count, const char *name)
{
    shmslot_channel *channel, *listener;
    shmslot_registry *registry;
    shmslot_pool_info state;
    shmslot_lease out[2];
    uint64_t i;

    CHECK(shmslot_channel_listen(name, 0, &listener, NULL) == 0);
    say("listening");
    CHECK(shmslot_channel_accept(listener, PATIENT, &channel, NULL) == 0);
    shmslot_channel_close(listener);
    CHECK(shmslot_registry_create(NULL, &registry, NULL) == 0);
    CHECK(shmslot_registry_add(registry, channel, PATIENT, NULL) == 0);
    shmslot_channel_close(channel);
    /* One lease is written while the other side reads the previous one. */
    for (i = 1; i <= count + 1; i++) {
        if (i <= count) {
            char line[100];
            shmslot_lease *lease = &out[i % 2];
            CHECK(shmslot_region_alloc(registry, large_len(i), PATIENT, lease, NULL) == 0);
            fill(lease->data, lease->len, i);
            snprintf(line, sizeof line, "%" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64,
                     lease->map_id, lease->generation, lease->offset, lease->len);
            say(line);
        }
        if (i > 1) {
            hear("done");
            CHECK(shmslot_region_release(registry, &out[(i - 1) % 2]) == 0);
        }
    }
    CHECK(shmslot_registry_info(registry, &state, sizeof state) == 0);
    CHECK(state.leases == 0);
    shmslot_registry_close(registry);
}

static void map_all(uint64_t count, const char *name)
{
    shmslot_channel *channel;
    shmslot_attachments *attachments;
    shmslot_mapped mapped;
    uint32_t map_id, generation;
    uint64_t i, offset, len;
    char line[100];

    CHECK(shmslot_channel_connect(name, 0, PATIENT, &channel, NULL) == 0);
    CHECK(shmslot_attachments_create(channel, 0, &attachments, NULL) == 0);
    shmslot_channel_close(channel);
    for (i = 1; i <= count; i++) {
        CHECK(fgets(line, sizeof line, stdin) != NULL);
        CHECK(sscanf(line, "%" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64, &map_id, &generation,
                     &offset, &len) == 4);
        CHECK(len == large_len(i));
        CHECK(shmslot_attachments_resolve_wait(attachments, map_id, generation, offset, len,
                                               PATIENT, &mapped, NULL) == 0);
        CHECK(mapped.len == len);
        check_bytes(mapped.data, len, i);
        CHECK(shmslot_attachments_release(attachments, &mapped) == 0);
        say("done");
    }
    shmslot_attachments_close(attachments);
}

/* ---- failures ---- */

/* The identity of a type, as bindings/README.md has it. */
static void identify(uint8_t type_hash[16], const char *name, uint64_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    int at;
    for (; *name != '\0'; name++) hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    for (at = 0; at < 8; at++) {
        type_hash[at] = (uint8_t)(hash >> (8 * at));
        type_hash[8 + at] = (uint8_t)(size >> (8 * at));
    }
}

static void occupy(const char *name)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;

    options.flags = SHMSLOT_FLAG_SINGLE_WRITER;
    options.slot_count = 2;
    options.max_readers = 1;
    options.max_participants = 2;
    identify(options.type_hash, "languages.Probe", 8);
    CHECK(shmslot_segment_create(name, &options, &segment, NULL) == 0);
    CHECK(shmslot_writer_open(segment, &writer, NULL) == 0);
    CHECK(shmslot_reader_join(segment, 0, &reader, NULL) == 0);
    say("ready");
    hear("go");
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void tell(const char *what, int code)
{
    char line[100];
    snprintf(line, sizeof line, "%s %d", what, code);
    say(line);
}

static void fail_all(const char *name)
{
    shmslot_attach_options wanted = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_options options;
    shmslot_segment *segment, *own, *none;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_channel *one, *other;
    shmslot_attachments *attachments;
    shmslot_mapped mapped;
    shmslot_sample sample;
    shmslot_loan loans[2];
    char missing[100];

    snprintf(missing, sizeof missing, "%s-missing", name);
    tell("missing", shmslot_segment_attach(missing, NULL, &none, NULL));
    tell("name", shmslot_segment_attach("a/b", NULL, &none, NULL));
    tell("exists", shmslot_segment_create(name, NULL, &none, NULL));
    identify(wanted.type_hash, "languages.Probe", 16);
    tell("size", shmslot_segment_attach(name, &wanted, &none, NULL));
    identify(wanted.type_hash, "languages.Other", 8);
    tell("type", shmslot_segment_attach(name, &wanted, &none, NULL));
    identify(wanted.type_hash, "languages.Probe", 8);
    CHECK(shmslot_segment_attach(name, &wanted, &segment, NULL) == 0);
    tell("crowded", shmslot_segment_attach(name, &wanted, &none, NULL));
    tell("writer", shmslot_writer_open(segment, &writer, NULL));
    tell("reader", shmslot_reader_join(segment, 0, &reader, NULL));
    tell("history", shmslot_reader_join(segment, 1, &reader, NULL));
    shmslot_segment_close(segment);
    wanted.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK(shmslot_segment_attach(name, &wanted, &segment, NULL) == 0);
    tell("look", shmslot_writer_open(segment, &writer, NULL));
    shmslot_segment_close(segment);
    tell("unlink", shmslot_segment_unlink(missing, NULL));

    options = options_of_samples();
    options.policy = SHMSLOT_POLICY_FAIL;
    options.slot_count = 2;
    CHECK(shmslot_segment_create_local(&options, &own, NULL) == 0);
    CHECK(shmslot_writer_open(own, &writer, NULL) == 0);
    CHECK(shmslot_reader_join(own, 0, &reader, NULL) == 0);
    tell("empty", shmslot_slot_read(reader, &sample));
    tell("wait", shmslot_wait(reader, 0));
    tell("large", shmslot_slot_reserve(writer, LARGEST + 1, 0, &loans[0]));
    CHECK(shmslot_slot_reserve(writer, 1, 0, &loans[0]) == 0);
    CHECK(shmslot_slot_reserve(writer, 1, 0, &loans[1]) == 0);
    tell("full", shmslot_slot_reserve(writer, 1, 0, &loans[1]));
    tell("long", shmslot_slot_commit(writer, &loans[0], 2, NULL));
    CHECK(shmslot_reader_interrupt(reader) == 0);
    tell("interrupt", shmslot_wait(reader, -1));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(own);

    CHECK(shmslot_channel_pair(0, &one, &other, NULL) == 0);
    CHECK(shmslot_attachments_create(one, 0, &attachments, NULL) == 0);
    tell("unknown", shmslot_attachments_resolve(attachments, 1, 1, 0, 1, &mapped, NULL));
    shmslot_channel_close(other);
    tell("broken", shmslot_attachments_resolve(attachments, 1, 1, 0, 1, &mapped, NULL));
    shmslot_attachments_close(attachments);
    shmslot_channel_close(one);
}

int main(int argc, char **argv)
{
    const char *job, *way, *name;
    uint64_t count;

    alarm(PATIENT_S);
    CHECK(argc == 5);
    job = argv[1];
    way = argv[2];
    count = (uint64_t)strtoull(argv[3], NULL, 10);
    name = argv[4];

    if (strcmp(job, "read") == 0) {
        read_all(way, count, name);
    } else if (strcmp(job, "write") == 0) {
        write_all(way, count, name);
    } else if (strcmp(job, "lease") == 0) {
        lease_all(count, name);
    } else if (strcmp(job, "map") == 0) {
        map_all(count, name);
    } else if (strcmp(job, "occupy") == 0) {
        occupy(name);
    } else {
        CHECK(strcmp(job, "fail") == 0);
        fail_all(name);
    }
    return 0;
}
