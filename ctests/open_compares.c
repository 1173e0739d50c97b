/* What open compares with an existing segment: each field alone, fields that are not compared, the
 * flag that turns it off, dead segments, and two that open at once with different options. */
#include "samples.h"

#include <stddef.h>

#define ROUNDS 200

/* What exists: no number is the default. */
static shmslot_options made_so(void)
{
    shmslot_options options = options_of(16, 1024);
    options.payload_align = 256;
    options.user_header_size = 16;
    options.max_readers = 7;
    options.max_participants = 9;
    options.history = 3;
    options.policy = SHMSLOT_POLICY_FAIL; /* not the default */
    options.max_payload = 1 << 20;
    options.region_count = 6;
    options.max_held = 5;
    options.flags = SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS;
    memset(options.type_hash, 7, sizeof options.type_hash);
    options.type_name = "there";
    return options;
}

#define NONE UINT64_MAX /* no such value */

/* A field, a value of it that passes, one that does not, and what exists instead. */
static const struct {
    const char *name;
    size_t offset, size;
    uint64_t passes[3], fails, found;
} fields[] = {
#define FIELD(field) #field, offsetof(shmslot_options, field), sizeof(((shmslot_options *)0)->field)
    {FIELD(slot_count), {16, 4, 0}, 17, 16},
    {FIELD(slot_capacity), {1024, 1, 0}, 1025, 1024},
    {FIELD(payload_align), {256, 64, 0}, 512, 256},
    {FIELD(max_readers), {7, 1, 0}, 8, 7},
    {FIELD(max_participants), {9, 1, 0}, 10, 9},
    {FIELD(history), {3, 1, 0}, 4, 3},
    {FIELD(max_payload), {1 << 20, 5000, 0}, (1 << 20) + 1, 1 << 20},
    {FIELD(user_header_size), {16, 0, NONE}, 8, 16},
    {FIELD(user_header_size), {16, 0, NONE}, 17, 16},
    {FIELD(max_held), {5, 0, NONE}, 4, 5},
    {FIELD(max_held), {5, 0, NONE}, 6, 5},
    {FIELD(policy),
     {SHMSLOT_POLICY_FAIL, 0, NONE},
     SHMSLOT_POLICY_DROP_OLDEST,
     SHMSLOT_POLICY_FAIL},
    {FIELD(policy), {SHMSLOT_POLICY_FAIL, 0, NONE}, SHMSLOT_POLICY_BLOCK, SHMSLOT_POLICY_FAIL},
#undef FIELD
};

/* The opener's field becomes this value, whatever its width is. */
static void set(shmslot_options *options, size_t field, uint64_t value)
{
    uint32_t narrow = (uint32_t)value;
    memcpy((char *)options + fields[field].offset,
           fields[field].size == 4 ? (void *)&narrow : (void *)&value, fields[field].size);
}

static void open_passes(const char *name, const shmslot_options *options)
{
    shmslot_segment *segment = NULL;
    CHECK_CODE(shmslot_segment_open(name, options, &segment, NULL), 0);
    shmslot_segment_close(segment);
}

/* `detail` says which field, what was wanted, what was found, and what to do. */
static void check_detail(const shmslot_error *detail, const char *field, uint64_t wanted,
                         uint64_t found)
{
    char about[96];
    snprintf(about, sizeof about, "%s: %" PRIu64 " wanted, %" PRIu64 " found; ", field, wanted,
             found);
    CHECK_U64((uint64_t)-detail->code, -SHMSLOT_E_OPTIONS_MISMATCH);
    CHECK(strstr(detail->text, about) != NULL);
    CHECK(strstr(detail->text, "SHMSLOT_FLAG_ANY_GEOMETRY") != NULL);
    CHECK_U64(detail->numbers[0], wanted);
    CHECK_U64(detail->numbers[1], found);
    CHECK_U64(detail->numbers[2], 0);
}

static void open_fails(const char *name, const shmslot_options *options, const char *field,
                       uint64_t wanted, uint64_t found)
{
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_segment_open(name, options, &segment, &detail), SHMSLOT_E_OPTIONS_MISMATCH);
    CHECK(segment == NULL);
    check_detail(&detail, field, wanted, found);
}

/* It fails, leaves nothing attached, and passes with the flag. */
static void only_any_geometry_takes_it(shmslot_segment *there, const char *name,
                                       shmslot_options asked, const char *field, uint64_t wanted,
                                       uint64_t found)
{
    open_fails(name, &asked, field, wanted, found);
    CHECK_U64(info_of(there).participants, 1);
    asked.flags |= SHMSLOT_FLAG_ANY_GEOMETRY;
    open_passes(name, &asked);
    asked.flags &= ~(uint32_t)SHMSLOT_FLAG_ANY_GEOMETRY;
    {
        shmslot_segment *attached = NULL;
        /* attach asks for no geometry */
        CHECK_OK(shmslot_segment_attach(name, NULL, &attached, NULL));
        shmslot_segment_close(attached);
    }
    CHECK_U64(info_of(there).participants, 1);
}

static void check_each_field(void)
{
    char name[64];
    shmslot_options made = made_so(), asked = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *there = make_named(unique_name(name, sizeof name, "open"), &made);
    size_t i, k;

    open_passes(name, NULL);
    open_passes(name, &asked);
    open_passes(name, &made);
    for (i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        check_note("%s", fields[i].name);
        asked = options_of(0, 0);
        for (k = 0; k < 3 && fields[i].passes[k] != NONE; k++) {
            set(&asked, i, fields[i].passes[k]);
            open_passes(name, &asked);
        }
        set(&asked, i, fields[i].fails);
        only_any_geometry_takes_it(there, name, asked, fields[i].name, fields[i].fails,
                                   fields[i].found);
    }

    check_note("region_count");
    asked = options_of(0, 0);
    asked.max_payload = 5000; /* more than a slot has by default */
    asked.region_count = 6;
    open_passes(name, &asked);
    asked.region_count = 7;
    only_any_geometry_takes_it(there, name, asked, "region_count", 7, 6);
    asked.max_payload = 0; /* then it is not looked at, as when a segment is made */
    open_passes(name, &asked);
    check_note("all");

    asked = made;
    asked.flags |= SHMSLOT_FLAG_PREFAULT | SHMSLOT_FLAG_STREAM_COPIES;
    asked.mode = 0640; /* of the file, not of what is in it */
    asked.spin_ns = SHMSLOT_SPIN_NONE;
    asked.max_loans = 1;
    open_passes(name, &asked);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(there);
}

/* A default that was set explicitly is compared; a field that was left at 0 is not. */
static void check_defaults(void)
{
    char name[64];
    shmslot_options made = options_of(1, 1), asked = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *there;
    made.max_readers = 1;
    made.max_participants = 2;
    made.policy = SHMSLOT_POLICY_DROP_OLDEST;
    there = make_named(unique_name(name, sizeof name, "open"), &made);
    open_passes(name, NULL);
    open_passes(name, &asked);
    asked.slot_count = 64;
    only_any_geometry_takes_it(there, name, asked, "slot_count", 64, 1);
    asked = options_of(0, 4096);
    only_any_geometry_takes_it(there, name, asked, "slot_capacity", 4096, 1);
    asked = options_of(0, 0);
    asked.max_readers = 15;
    only_any_geometry_takes_it(there, name, asked, "max_readers", 15, 1);
    asked = options_of(0, 0);
    asked.max_participants = 64;
    only_any_geometry_takes_it(there, name, asked, "max_participants", 64, 2);
    asked = options_of(0, 0);
    asked.max_payload = 1 << 20; /* there are no regions: the slots are what the largest fits */
    only_any_geometry_takes_it(there, name, asked, "max_payload", 1 << 20, 1);
    asked = options_of(0, 0);
    asked.user_header_size = 8;
    only_any_geometry_takes_it(there, name, asked, "user_header_size", 8, 0);
    asked = options_of(0, 0);
    asked.flags = SHMSLOT_FLAG_SINGLE_WRITER;
    only_any_geometry_takes_it(there, name, asked, "single_writer", 1, 0);
    asked.flags = SHMSLOT_FLAG_TIMESTAMPS;
    only_any_geometry_takes_it(there, name, asked, "timestamps", 1, 0);
    asked.flags = SHMSLOT_FLAG_EPHEMERAL;
    only_any_geometry_takes_it(there, name, asked, "ephemeral", 1, 0);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(there);
}

static void check_the_type(void)
{
    char name[64];
    shmslot_options made = made_so(), asked = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *there = make_named(unique_name(name, sizeof name, "open"), &made),
                    *segment = NULL;
    shmslot_error detail;

    asked.type_name = "there";
    open_passes(name, &asked);
    asked.type_name = "the"; /* neither a part of it */
    CHECK_CODE(shmslot_segment_open(name, &asked, &segment, &detail), SHMSLOT_E_TYPE_MISMATCH);
    CHECK(strstr(detail.text, "its type is ") != NULL);
    asked.type_name = "there too";
    CHECK_CODE(shmslot_segment_open(name, &asked, &segment, NULL), SHMSLOT_E_TYPE_MISMATCH);
    asked.flags = SHMSLOT_FLAG_ANY_GEOMETRY; /* of any geometry, and not of any type */
    CHECK_CODE(shmslot_segment_open(name, &asked, &segment, NULL), SHMSLOT_E_TYPE_MISMATCH);
    CHECK(segment == NULL);
    asked.type_name = NULL;
    open_passes(name, &asked);
    asked.type_hash[0] = 1;
    CHECK_CODE(shmslot_segment_open(name, &asked, &segment, NULL), SHMSLOT_E_TYPE_MISMATCH);
    CHECK_U64(info_of(there).participants, 1);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(there);
}

/* Dead segments: replacing one compares nothing, adopting one does. */
static void check_if_dead(void)
{
    char name[64];
    shmslot_options made = options_of(4, 8), asked = options_of(5, 8);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "open"), &made);
    shmslot_error detail;
    uint64_t id = info_of(segment).segment_id;
    shmslot_segment_close(segment);
    segment = NULL;

    asked.if_orphaned = SHMSLOT_ORPHANED_REFUSE;
    open_fails(name, &asked, "slot_count", 5, 4);
    asked.if_orphaned = SHMSLOT_ORPHANED_ADOPT;
    open_fails(name, &asked, "slot_count", 5, 4);
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_segment_create(name, &asked, &segment, &detail), SHMSLOT_E_OPTIONS_MISMATCH);
    CHECK(segment == NULL);
    check_detail(&detail, "slot_count", 5, 4);
    asked.flags = SHMSLOT_FLAG_ANY_GEOMETRY;
    CHECK_OK(shmslot_segment_create(name, &asked, &segment, NULL));
    CHECK_U64(info_of(segment).segment_id, id);
    CHECK_U64(info_of(segment).participants, 1);
    shmslot_segment_close(segment);
    asked = options_of(3, 8);
    asked.if_orphaned = SHMSLOT_ORPHANED_ADOPT;
    CHECK_OK(shmslot_segment_create(name, &asked, &segment, NULL));
    CHECK_U64(info_of(segment).segment_id, id);
    CHECK_U64(info_of(segment).slot_count, 4); /* as it is */
    shmslot_segment_close(segment);

    asked = options_of(5, 8);
    CHECK_CODE(shmslot_segment_open(name, &asked, &segment, NULL), 1);
    CHECK(info_of(segment).segment_id != id);
    CHECK_U64(info_of(segment).slot_count, 5);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

/* Two that open at once. */
struct racer {
    const char *name;
    shmslot_options asked;
    shmslot_segment *segment;
    shmslot_error detail;
    int result;
};

static pthread_barrier_t start, both_have_tried;

static void *race(void *argument)
{
    struct racer *racer = argument;
    unsigned round;
    for (round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&start);
        racer->segment = NULL;
        racer->result =
            shmslot_segment_open(racer->name, &racer->asked, &racer->segment, &racer->detail);
        (void)pthread_barrier_wait(&both_have_tried);
    }
    return NULL;
}

/* Neither gives what the other wants: one makes it, the other learns what is missing. */
static void check_two_at_once(void)
{
    char name[64];
    static struct racer racers[2];
    static const char *const lacks[2] = {"slot_count", "slot_capacity"};
    static const uint64_t wanted[2] = {6, 500}, found[2] = {2, 40};
    pthread_t threads[2];
    unsigned round;
    int i;

    unique_name(name, sizeof name, "open");
    CHECK(pthread_barrier_init(&start, NULL, 3) == 0 &&
          pthread_barrier_init(&both_have_tried, NULL, 3) == 0);
    racers[0].asked = options_of(6, 40);
    racers[1].asked = options_of(2, 500);
    for (i = 0; i < 2; i++) {
        racers[i].name = name;
        threads[i] = start_thread(race, &racers[i]);
    }
    for (round = 0; round < ROUNDS; round++) {
        struct racer *winner, *loser;
        (void)pthread_barrier_wait(&start);
        (void)pthread_barrier_wait(&both_have_tried);
        winner = &racers[racers[0].result == 1 ? 0 : 1];
        loser = &racers[winner == racers];
        CHECK_CODE(winner->result, 1);
        CHECK_U64(info_of(winner->segment).slot_count, winner->asked.slot_count);
        CHECK_U64(info_of(winner->segment).participants, 1);
        CHECK_CODE(loser->result, SHMSLOT_E_OPTIONS_MISMATCH);
        CHECK(loser->segment == NULL);
        check_detail(&loser->detail, lacks[loser - racers], wanted[loser - racers],
                     found[loser - racers]);
        CHECK_OK(shmslot_segment_unlink(name, NULL));
        shmslot_segment_close(winner->segment);
    }
    for (i = 0; i < 2; i++) end_thread(threads[i]);
    CHECK(pthread_barrier_destroy(&start) == 0 && pthread_barrier_destroy(&both_have_tried) == 0);
}

int main(void)
{
    check_begin();
    check_each_field();
    check_defaults();
    check_the_type();
    check_if_dead();
    check_two_at_once();
    return 0;
}
