/* The options struct: its size rule, the range of every field, the defaults. */
/* not under aarch64: it needs what the emulator lacks */
#include "samples.h"

#include <stddef.h>

static void refuse(const shmslot_options *options)
{
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_segment_create_anonymous(options, &segment, &detail), SHMSLOT_E_BAD_OPTIONS);
    CHECK(detail.code == SHMSLOT_E_BAD_OPTIONS);
    CHECK(detail.text[0] != '\0');
    CHECK_CODE(shmslot_segment_create_local(options, &segment, NULL), SHMSLOT_E_BAD_OPTIONS);
    CHECK(segment == NULL);
}

static void allow(const shmslot_options *options)
{
    shmslot_segment *segment = make_anonymous(options);
    shmslot_segment_close(segment);
}

static void check_defaults_of(const shmslot_options *options)
{
    shmslot_segment *segment = make_anonymous(options);
    shmslot_info info = info_of(segment);
    CHECK_U64(info.slot_count, 64);
    CHECK_U64(info.slot_capacity, 4096);
    CHECK_U64(info.payload_align, 64);
    CHECK_U64(info.user_header_size, 0);
    CHECK_U64(info.max_readers, 15);
    CHECK_U64(info.max_participants, 64);
    CHECK_U64(info.history, 0);
    CHECK_U64(info.policy, SHMSLOT_POLICY_BLOCK);
    CHECK_U64(info.flags &
                  (SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS | SHMSLOT_FLAG_HUGE_PAGES),
              0);
    CHECK(info.type_name[0] == '\0');
    shmslot_segment_close(segment);
}

static void check_struct_size(void)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    struct {
        shmslot_options known;
        unsigned char tail[32];
    } larger;
    size_t i;

    CHECK_U64(options.struct_size, sizeof options);
    options.struct_size = 0;
    refuse(&options);
    options.struct_size = 3;
    refuse(&options);
    /* no released version was shorter */
    options.struct_size = offsetof(shmslot_options, type_name);
    refuse(&options);
    options.struct_size = UINT32_MAX;
    refuse(&options);

    memset(&larger, 0, sizeof larger);
    larger.known.slot_count = 3;
    larger.known.struct_size = sizeof larger;
    allow(&larger.known);
    for (i = 0; i < sizeof larger.tail; i++) {
        larger.tail[i] = 1;
        refuse(&larger.known);
        larger.tail[i] = 0;
    }
}

/* Sets one field to a value and says whether create takes it. */
#define FIELD(field, value, verdict)                                                               \
    do {                                                                                           \
        shmslot_options options_ = SHMSLOT_OPTIONS_INIT;                                           \
        options_.field = (value);                                                                  \
        verdict(&options_);                                                                        \
    } while (0)

static void check_ranges(void)
{
    shmslot_options options, largest = SHMSLOT_OPTIONS_INIT;
    char type_name[65];

    FIELD(slot_count, 1, allow);
    FIELD(slot_count, (UINT32_C(1) << 24) + 1, refuse);
    FIELD(slot_count, UINT32_MAX, refuse);
    FIELD(slot_capacity, 1, allow);
    FIELD(slot_capacity, (UINT64_C(4) << 30) + 1, refuse);
    FIELD(slot_capacity, UINT64_MAX, refuse);
    FIELD(payload_align, 64, allow);
    FIELD(payload_align, 4096, allow);
    FIELD(payload_align, 32, refuse);
    FIELD(payload_align, 96, refuse);
    FIELD(payload_align, 8192, refuse);
    FIELD(payload_align, UINT32_MAX, refuse);
    FIELD(user_header_size, 256, allow);
    FIELD(user_header_size, 257, refuse);
    FIELD(user_header_size, UINT32_MAX, refuse);
    FIELD(max_readers, 1, allow);
    FIELD(max_readers, 63, allow);
    FIELD(max_readers, 64, refuse);
    FIELD(max_readers, UINT32_MAX, refuse);
    FIELD(max_participants, 1, allow);
    FIELD(max_participants, 4095, allow);
    FIELD(max_participants, 4096, refuse);
    FIELD(max_participants, UINT32_MAX, refuse);
    FIELD(history, 63, allow);
    FIELD(history, 64, refuse);
    FIELD(history, UINT32_MAX, refuse);
    FIELD(policy, SHMSLOT_POLICY_FAIL, allow);
    FIELD(policy, SHMSLOT_POLICY_BLOCK, allow);
    FIELD(policy, SHMSLOT_POLICY_DROP_OLDEST, allow);
    FIELD(policy, 4, refuse);
    FIELD(policy, UINT32_MAX, refuse);
    FIELD(mode, 0660, allow);
    FIELD(mode, 010000, refuse);
    FIELD(mode, UINT32_MAX, refuse);
    FIELD(if_orphaned, SHMSLOT_ORPHANED_REFUSE, allow);
    FIELD(if_orphaned, 3, refuse);
    FIELD(flags, SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS | SHMSLOT_FLAG_PREFAULT,
          allow);
    FIELD(flags, SHMSLOT_FLAG_HUGE_PAGES, allow); /* a wish: info says what was obtained */
    FIELD(flags, UINT32_C(1) << 31, refuse);
    FIELD(flags, UINT32_MAX, refuse);
    FIELD(spin_ns, 1, allow);
    FIELD(max_loans, 1, allow);
    FIELD(max_held, 1, allow);
    FIELD(max_held, UINT32_MAX, allow);
    FIELD(reserved, 1, refuse);
    FIELD(max_payload, 1, allow); /* it fits a slot: no regions */
    largest.max_payload = UINT64_C(1) << 32;
    largest.region_count = 1; /* valgrind goes through its address space byte by byte */
    allow(&largest);
    FIELD(max_payload, (UINT64_C(1) << 32) + 1, refuse);
    FIELD(max_payload, UINT64_MAX, refuse);
    FIELD(region_count, 63, allow);

    memset(type_name, 't', sizeof type_name);
    type_name[63] = '\0';
    FIELD(type_name, type_name, allow);
    type_name[63] = 't';
    type_name[64] = '\0';
    FIELD(type_name, type_name, refuse);
    FIELD(type_name, "\xff", refuse);

    /* Fields that are valid alone and impossible together. */
    options = options_of(4, 8);
    options.history = 4;
    refuse(&options);
    options.history = 3;
    allow(&options);
    options.max_payload = 1 << 20;
    allow(&options);
    options.region_count = 3; /* three retained ones would leave none */
    refuse(&options);
    options.region_count = 4;
    allow(&options);
    options.region_count = 64;
    refuse(&options);
}

/* 64 PiB: each field in range, and more than any file system of memory has. */
static void check_impossible_size(void)
{
    char name[64];
    shmslot_options options = options_of(UINT32_C(1) << 24, UINT64_C(4) << 30);
    shmslot_segment *segment = NULL;
    CHECK_CODE(
        shmslot_segment_create(unique_name(name, sizeof name, "options"), &options, &segment, NULL),
        SHMSLOT_E_NO_MEMORY);
    CHECK(segment == NULL);
    CHECK_CODE(shmslot_segment_unlink(name, NULL), SHMSLOT_E_NOT_FOUND);
}

static void check_attach_options(void)
{
    static const uint32_t of_create[] = {SHMSLOT_FLAG_SINGLE_WRITER, SHMSLOT_FLAG_TIMESTAMPS,
                                         SHMSLOT_FLAG_EPHEMERAL, SHMSLOT_FLAG_ANY_GEOMETRY};
    char name[64];
    shmslot_options made = options_of(4, 8);
    shmslot_attach_options asked = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *creator, *other = NULL;
    shmslot_error detail;
    size_t i;
    made.type_name = "made";
    creator = make_named(unique_name(name, sizeof name, "options"), &made);
    CHECK_OK(shmslot_segment_attach(name, &asked, &other, NULL));
    shmslot_segment_close(other);
    other = NULL;
    asked.struct_size = 2;
    CHECK_CODE(shmslot_segment_attach(name, &asked, &other, NULL), SHMSLOT_E_BAD_OPTIONS);
    asked.struct_size = sizeof asked;
    asked.flags = UINT32_C(1) << 30;
    CHECK_CODE(shmslot_segment_attach(name, &asked, &other, NULL), SHMSLOT_E_BAD_OPTIONS);
    for (i = 0; i < sizeof of_create / sizeof of_create[0]; i++) {
        asked.flags = of_create[i];
        CHECK_CODE(shmslot_segment_attach(name, &asked, &other, &detail), SHMSLOT_E_BAD_OPTIONS);
        CHECK(strstr(detail.text, "SHMSLOT_FLAG_") != NULL);
    }
    asked.flags = 0;
    asked.type_name = "mad"; /* not even a part of it */
    CHECK_CODE(shmslot_segment_attach(name, &asked, &other, NULL), SHMSLOT_E_TYPE_MISMATCH);
    CHECK(other == NULL);
    asked.type_name = "made";
    CHECK_OK(shmslot_segment_attach(name, &asked, &other, NULL));
    shmslot_segment_close(other);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(creator);
}

/* Flags that a call has no use for are named, not ignored. */
static void check_flags_of_others(void)
{
    static const uint32_t of_names[] = {SHMSLOT_FLAG_EPHEMERAL, SHMSLOT_FLAG_ANY_OWNER,
                                        SHMSLOT_FLAG_ANY_GEOMETRY};
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    char name[64];
    size_t i;
    for (i = 0; i < sizeof of_names / sizeof of_names[0]; i++) {
        options.flags = of_names[i];
        refuse(&options);
    }
    options.flags = SHMSLOT_FLAG_OBSERVER;
    refuse(&options);
    CHECK_CODE(shmslot_segment_open(unique_name(name, sizeof name, "options"), &options, &segment,
                                    &detail),
               SHMSLOT_E_BAD_OPTIONS);
    CHECK(strstr(detail.text, "SHMSLOT_FLAG_OBSERVER") != NULL);
    CHECK(segment == NULL);
}

/* A number out of its range: the error has the field, the value, and both ends of the range. */
static void check_range_is_told(void)
{
    static const struct {
        size_t offset;
        const char *name;
        uint64_t value, lowest, highest;
    } fields[] = {
#define FIELD_AT(field, value, lowest, highest)                                                    \
    {offsetof(shmslot_options, field), #field, value, lowest, highest}
        FIELD_AT(slot_count, (1 << 24) + 1, 1, 1 << 24),
        FIELD_AT(payload_align, 8192, 64, 4096),
        FIELD_AT(user_header_size, 257, 0, 256),
        FIELD_AT(max_readers, 64, 1, 63),
        FIELD_AT(max_participants, 4096, 1, 4095),
        FIELD_AT(history, 64, 0, 63),
        FIELD_AT(region_count, 64, 1, 63),
        FIELD_AT(policy, 4, 1, 3),
        FIELD_AT(if_orphaned, 3, 0, 2),
#undef FIELD_AT
    };
    size_t i;
    for (i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        shmslot_options options = SHMSLOT_OPTIONS_INIT;
        shmslot_segment *segment = NULL;
        shmslot_error detail;
        uint32_t value = (uint32_t)fields[i].value;
        memset(&detail, 0, sizeof detail);
        options.max_payload = 8192; /* so that regions count */
        memcpy((char *)&options + fields[i].offset, &value, sizeof value);
        CHECK_CODE(shmslot_segment_create_local(&options, &segment, &detail),
                   SHMSLOT_E_BAD_OPTIONS);
        check_note("%s: %s", fields[i].name, detail.text);
        CHECK(strstr(detail.text, fields[i].name) != NULL);
        CHECK_U64(detail.numbers[0], fields[i].value);
        CHECK_U64(detail.numbers[1], fields[i].lowest);
        CHECK_U64(detail.numbers[2], fields[i].highest);
    }
}

static void check_max_loans(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_writer *writer, *other;
    shmslot_loan first, second, third;
    options.max_loans = 2;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    other = open_writer(segment);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &first));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &second));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &third), SHMSLOT_E_LOAN_LIMIT);
    CHECK_OK(shmslot_slot_reserve(other, 8, AT_ONCE, &third)); /* the limit is each writer's own */
    CHECK_OK(shmslot_slot_commit(writer, &first, 8, NULL));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &first));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &third), SHMSLOT_E_LOAN_LIMIT);
    CHECK_OK(shmslot_slot_discard(writer, &first));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &first));
    shmslot_writer_close(writer);
    shmslot_writer_close(other);
    shmslot_segment_close(segment);
}

static void check_max_participants(void)
{
    char name[64];
    shmslot_options options = options_of(4, 8);
    shmslot_segment *creator, *second = NULL, *third = NULL;
    options.max_participants = 2;
    creator = make_named(unique_name(name, sizeof name, "options"), &options);
    CHECK_OK(shmslot_segment_attach(name, NULL, &second, NULL));
    CHECK_CODE(shmslot_segment_attach(name, NULL, &third, NULL), SHMSLOT_E_NO_PARTICIPANT_SLOT);
    CHECK_U64(info_of(creator).participants, 2);
    shmslot_segment_close(second);
    CHECK_OK(shmslot_segment_attach(name, NULL, &third, NULL));
    shmslot_segment_close(third);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(creator);
}

static void check_timestamps(void)
{
    uint32_t with;
    for (with = 0; with < 2; with++) {
        shmslot_options options = options_of(4, 8);
        shmslot_segment *segment;
        shmslot_writer *writer;
        shmslot_reader *reader;
        shmslot_sample first, second;
        options.flags = with ? SHMSLOT_FLAG_TIMESTAMPS : 0;
        segment = make_anonymous(&options);
        writer = open_writer(segment);
        reader = join(segment, 0);
        (void)put(writer, 1);
        (void)put(writer, 2);
        first = hold(reader);
        second = hold(reader);
        if (with) {
            CHECK(first.timestamp_ns > 0);
            CHECK(second.timestamp_ns >= first.timestamp_ns);
        } else {
            CHECK_U64(first.timestamp_ns, 0);
        }
        CHECK_OK(shmslot_slot_mark(reader, &first));
        CHECK_OK(shmslot_slot_mark(reader, &second));
        shmslot_reader_leave(reader);
        shmslot_writer_close(writer);
        shmslot_segment_close(segment);
    }
}

/* The published vector of FNV-1a for "foobar", and a size. */
static void check_type_hash(void)
{
    static const uint8_t known[16] = {0xe8, 0x67, 0x39, 0xf7, 0x71, 0x41, 0x94, 0x85,
                                      8,    7,    6,    5,    4,    3,    2,    1};
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    shmslot_attach_options other = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment, *attached = NULL;
    char name[65];

    CHECK_OK(shmslot_type_hash("foobar", UINT64_C(0x0102030405060708), &options.type_hash));
    CHECK(memcmp(options.type_hash, known, sizeof known) == 0);
    segment = make_anonymous(&options);
    memcpy(other.type_hash, options.type_hash, sizeof other.type_hash);
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), &other, &attached, NULL));
    shmslot_segment_close(attached);
    CHECK_OK(shmslot_type_hash("foobar", 24, &other.type_hash)); /* another size is another type */
    CHECK_CODE(shmslot_segment_attach_fd(shmslot_segment_fd(segment), &other, &attached, NULL),
               SHMSLOT_E_TYPE_MISMATCH);
    shmslot_segment_close(segment);

    memset(name, 'n', sizeof name);
    name[64] = '\0';
    CHECK_CODE(shmslot_type_hash(name, 1, &options.type_hash), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_type_hash("", 1, &options.type_hash), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_type_hash("\xff", 1, &options.type_hash), SHMSLOT_E_INVALID);
    CHECK(memcmp(options.type_hash, known, sizeof known) == 0); /* written on success only */
    name[63] = '\0';
    CHECK_OK(shmslot_type_hash(name, 1, &options.type_hash));
}

CHECK_MAIN()
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    RUN(check_defaults_of(NULL));
    RUN(check_defaults_of(&options));
    RUN(check_struct_size());
    RUN(check_ranges());
    RUN(check_impossible_size());
    RUN(check_attach_options());
    RUN(check_flags_of_others());
    RUN(check_range_is_told());
    RUN(check_max_loans());
    RUN(check_type_hash());
    RUN(check_max_participants());
    RUN(check_timestamps());
}
