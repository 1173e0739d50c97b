/* The C side of tests/languages.rs: peer JOB COUNT WAY [NAME].
 *
 *   read, write              texts through a segment
 *   read-large, write-large  payloads of all sizes through a segment
 *   map, lease               payloads in mapped regions; references and thanks go over the standard streams
 *
 * WAY is how to come to the segment or the channel: `named` attaches to a name. `connect` and `inherit` (as standard
 * input) open a channel and receive the segment there. `listen` waits for the other side, makes the segment and sends it. */
#define _POSIX_C_SOURCE 200809L /* alarm */
#include <inttypes.h>
#include <shmslot.h>
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

/* Longer than anything takes; what would hang ends. */
#define PATIENT_S 100
#define PATIENT (INT64_C(1000000000) * PATIENT_S)

#define CAPACITY 64
#define LARGEST (UINT64_C(3) << 20)

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
}

static void await(const char *expected)
{
    char line[64];
    CHECK(fgets(line, sizeof line, stdin) != NULL);
    line[strcspn(line, "\n")] = 0;
    CHECK(strcmp(line, expected) == 0);
}

/* ---- payloads: tests/languages.rs has the same three functions ---- */

/* Twenty lengths from 100 bytes to LARGEST, up and down. */
static uint64_t large_len(uint64_t i)
{
    uint64_t step = i * 7 % 20;
    return 100 + (LARGEST - 100) * step * step / (19 * 19);
}

/* Every other one fits a slot, from empty to full. */
static uint64_t mixed_len(uint64_t i)
{
    return i % 2 == 0 ? i * 16 % 80 : large_len(i);
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
    if (at < len) fprintf(stderr, "payload %" PRIu64 " of %" PRIu64 " bytes is wrong at %" PRIu64 "\n", i, len, at);
    CHECK(at == len);
}

/* ---- segments ---- */

/* Sample i carries the text "LANGUAGE i" of its sender, and i as 64-bit number in the user header. */
static void read_texts(shmslot_segment *segment, uint64_t count)
{
    shmslot_reader *reader;
    shmslot_sample sample;
    uint64_t i, number;
    char text[64];

    CHECK(shmslot_reader_join(segment, 0, &reader, NULL) == 0);
    say("ready");
    for (i = 1; i <= count; i++) {
        CHECK(shmslot_wait(reader, PATIENT) == 0);
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

static void write_texts(shmslot_segment *segment, uint64_t count)
{
    shmslot_writer *writer;
    shmslot_loan loan;
    uint64_t i, sequence;

    CHECK(shmslot_writer_open(segment, &writer, NULL) == 0);
    for (i = 1; i <= count; i++) {
        int len;
        CHECK(shmslot_slot_reserve(writer, 64, PATIENT, &loan) == 0);
        len = snprintf(loan.data, 64, "C %" PRIu64, i);
        memcpy(loan.user_header, &i, sizeof i);
        CHECK(shmslot_slot_commit(writer, &loan, (size_t)len, &sequence) == 0);
        CHECK(sequence == i);
    }
    shmslot_writer_close(writer);
}

static void read_large(shmslot_segment *segment, uint64_t count)
{
    shmslot_reader *reader;
    shmslot_sample sample;
    shmslot_info info;
    uint64_t i, number;

    CHECK(shmslot_segment_info(segment, &info, sizeof info) == 0);
    CHECK(info.slot_capacity == CAPACITY && info.max_payload == LARGEST);
    CHECK(shmslot_reader_join(segment, 0, &reader, NULL) == 0);
    say("ready");
    for (i = 1; i <= count; i++) {
        CHECK(shmslot_wait(reader, PATIENT) == 0);
        CHECK(shmslot_slot_read(reader, &sample) == 0);
        CHECK(sample.sequence == i);
        CHECK(sample.len == mixed_len(i));
        check_bytes(sample.data, sample.len, i);
        memcpy(&number, sample.user_header, sizeof number);
        CHECK(number == i);
        CHECK(shmslot_slot_mark(reader, &sample) == 0);
    }
    shmslot_reader_leave(reader);
}

static void write_large(shmslot_segment *segment, uint64_t count)
{
    shmslot_writer *writer;
    shmslot_loan loan;
    uint64_t i, sequence;

    CHECK(shmslot_writer_open(segment, &writer, NULL) == 0);
    for (i = 1; i <= count; i++) {
        CHECK(shmslot_slot_reserve(writer, mixed_len(i), PATIENT, &loan) == 0);
        fill(loan.data, loan.len, i);
        memcpy(loan.user_header, &i, sizeof i);
        CHECK(shmslot_slot_commit(writer, &loan, loan.len, &sequence) == 0);
        CHECK(sequence == i);
    }
    shmslot_writer_close(writer);
}

/* ---- regions ---- */

static void lease_all(shmslot_channel *channel, uint64_t count)
{
    shmslot_registry *registry;
    shmslot_registry_state state;
    shmslot_lease out[2];
    uint64_t i;

    CHECK(shmslot_registry_create(NULL, &registry, NULL) == 0);
    CHECK(shmslot_registry_add(registry, channel, PATIENT, NULL) == 0);
    /* One lease is written while the other side looks at the one before it. */
    for (i = 1; i <= count + 1; i++) {
        if (i <= count) {
            shmslot_lease *lease = &out[i % 2];
            CHECK(shmslot_region_alloc(registry, large_len(i), PATIENT, lease, NULL) == 0);
            fill(lease->data, lease->len, i);
            printf("%" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", lease->map_id, lease->generation, lease->offset,
                   lease->len);
            fflush(stdout);
        }
        if (i > 1) {
            await("done");
            CHECK(shmslot_region_release(registry, &out[(i - 1) % 2]) == 0);
        }
    }
    CHECK(shmslot_registry_info(registry, &state, sizeof state) == 0);
    CHECK(state.leases == 0);
    shmslot_registry_close(registry);
}

static void map_all(shmslot_channel *channel, uint64_t count)
{
    shmslot_attachments *attachments;
    shmslot_mapped mapped;
    uint32_t map_id, generation;
    uint64_t i, offset, len;
    char line[100];

    CHECK(shmslot_attachments_create(channel, 0, &attachments, NULL) == 0);
    for (i = 1; i <= count; i++) {
        CHECK(fgets(line, sizeof line, stdin) != NULL);
        CHECK(sscanf(line, "%" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64, &map_id, &generation, &offset, &len) == 4);
        CHECK(len == large_len(i));
        CHECK(shmslot_attachments_resolve_wait(attachments, map_id, generation, offset, len, PATIENT, &mapped, NULL) == 0);
        CHECK(mapped.len == len);
        check_bytes(mapped.data, len, i);
        CHECK(shmslot_attachments_release(attachments, &mapped) == 0);
        say("done");
    }
    shmslot_attachments_close(attachments);
}

/* ---- ways ---- */

static shmslot_channel *open_channel(const char *way, const char *name)
{
    shmslot_channel *channel, *listener;

    if (strcmp(way, "inherit") == 0) {
        CHECK(shmslot_channel_from_fd(STDIN_FILENO, 0, &channel, NULL) == 0);
    } else if (strcmp(way, "connect") == 0) {
        CHECK(shmslot_channel_connect(name, 0, PATIENT, &channel, NULL) == 0);
    } else {
        CHECK(shmslot_channel_listen(name, 0, &listener, NULL) == 0);
        say("listening");
        CHECK(shmslot_channel_accept(listener, PATIENT, &channel, NULL) == 0);
        shmslot_channel_close(listener);
    }
    return channel;
}

static shmslot_segment *make_and_send(shmslot_channel *channel)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *segment;

    options.slot_count = 7;
    options.slot_capacity = CAPACITY;
    options.user_header_size = 8;
    options.policy = SHMSLOT_BLOCK;
    options.max_payload = LARGEST;
    options.region_count = 3;
    CHECK(shmslot_segment_create_anonymous(&options, &segment, NULL) == 0);
    CHECK(shmslot_channel_send_segment(channel, segment, PATIENT, NULL) == 0);
    return segment;
}

int main(int argc, char **argv)
{
    const char *job, *way, *name;
    uint64_t count;
    shmslot_channel *channel = NULL;
    shmslot_segment *segment = NULL;

    alarm(PATIENT_S);
    CHECK(argc == 4 || argc == 5);
    job = argv[1];
    count = (uint64_t)strtoull(argv[2], NULL, 10);
    way = argv[3];
    name = argv[4];

    if (strcmp(way, "named") != 0) channel = open_channel(way, name);
    if (strcmp(job, "map") == 0) {
        map_all(channel, count);
    } else if (strcmp(job, "lease") == 0) {
        lease_all(channel, count);
    } else {
        int sends = strcmp(way, "listen") == 0;
        if (channel == NULL)
            CHECK(shmslot_segment_attach(name, NULL, &segment, NULL) == 0);
        else if (sends)
            segment = make_and_send(channel);
        else
            CHECK(shmslot_channel_recv_segment(channel, NULL, PATIENT, &segment, NULL) == 0);

        if (strcmp(job, "read") == 0) {
            read_texts(segment, count);
        } else if (strcmp(job, "write") == 0) {
            write_texts(segment, count);
        } else if (strcmp(job, "read-large") == 0) {
            read_large(segment, count);
        } else {
            if (sends) await("ready"); /* else its maker has joined before */
            write_large(segment, count);
        }
        shmslot_segment_close(segment);
    }
    shmslot_channel_close(channel);
    return 0;
}
