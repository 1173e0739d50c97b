/* Reference operations on payloads larger than a slot, and on user headers: between processes, and
 * together with writers and readers of the other calls. */
#include "samples.h"

#define SLOTS 4
#define CAPACITY 64
#define LARGEST (UINT64_C(1) << 18)
#define REGIONS 2
#define HEADER 24

static shmslot_options large_options(void)
{
    shmslot_options options = options_of(SLOTS, CAPACITY);
    options.max_payload = LARGEST;
    options.region_count = REGIONS;
    options.user_header_size = HEADER;
    return options;
}

/* Differs from number to number, and from place to place within 251 bytes. */
static unsigned char byte_of(uint64_t number, uint64_t at)
{
    return (unsigned char)(number * 31 + at % 251);
}

static void fill(unsigned char *bytes, uint64_t number, uint64_t len)
{
    uint64_t at;
    for (at = 0; at < len; at++) bytes[at] = byte_of(number, at);
}

static void check_bytes(const unsigned char *bytes, uint64_t number, uint64_t len)
{
    uint64_t at = 0;
    while (at < len && bytes[at] == byte_of(number, at)) at++;
    CHECK_U64(at, len);
}

/* ---- one side or the other of a sample ---- */

static shmslot_ref reserve(shmslot_segment *segment, uint64_t active_readers, size_t len)
{
    shmslot_ref ref;
    CHECK_OK(shmslot_ref_reserve_large(segment, active_readers, len, &ref, NULL));
    return ref;
}

static void fill_header(shmslot_segment *segment, const shmslot_ref *ref, uint64_t number)
{
    void *header = NULL;
    size_t size = 0;
    CHECK_OK(shmslot_ref_data_user_header(segment, ref, &header, &size));
    CHECK_U64(size, HEADER);
    fill(header, number + 1, HEADER);
}

static shmslot_ref write_in_place(shmslot_segment *segment, uint64_t active_readers,
                                  uint64_t number, size_t len)
{
    shmslot_ref ref = reserve(segment, active_readers, len);
    void *data = NULL;
    size_t room = 0;
    CHECK_OK(shmslot_ref_data_ptr(segment, &ref, &data, &room));
    CHECK_U64(room, len > CAPACITY ? len : CAPACITY);
    CHECK((uintptr_t)data % 64 == 0);
    fill(data, number, len);
    fill_header(segment, &ref, number);
    CHECK_OK(shmslot_ref_commit_in_place(segment, &ref, len, NULL));
    return ref;
}

static shmslot_ref write_copy(shmslot_segment *segment, uint64_t active_readers, uint64_t number,
                              size_t len)
{
    static unsigned char bytes[LARGEST];
    shmslot_ref ref = reserve(segment, active_readers, len);
    fill(bytes, number, len);
    fill_header(segment, &ref, number);
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, bytes, len, NULL));
    return ref;
}

static void check_sample(shmslot_segment *segment, const shmslot_ref *ref, uint64_t number,
                         uint64_t len)
{
    static unsigned char bytes[LARGEST];
    const void *data = NULL, *header = NULL;
    shmslot_ref_header known;
    size_t size = 0;
    CHECK_OK(shmslot_ref_read_ptr(segment, ref, &data, &size));
    CHECK_U64(size, len);
    check_bytes(data, number, len);
    CHECK_OK(shmslot_ref_read_user_header(segment, ref, &header, &size));
    CHECK_U64(size, HEADER);
    check_bytes(header, number + 1, HEADER);
    if (len > 0)
        CHECK_CODE(shmslot_ref_read_copy(segment, ref, NULL, bytes, len - 1, NULL),
                   SHMSLOT_E_TOO_LARGE);
    CHECK_OK(shmslot_ref_read_copy(segment, ref, &known, bytes, sizeof bytes, &size));
    CHECK_U64(size, len);
    CHECK_U64(known.len, len);
    check_bytes(bytes, number, len);
}

static shmslot_ref next_of(shmslot_segment *segment, uint32_t reader)
{
    shmslot_ref ref;
    CHECK_OK(shmslot_ref_next_unread(segment, reader, &ref));
    return ref;
}

/* How many large reservations can be had at once, by whoever waits for all readers; all are given
 * back. */
static uint32_t free_regions(shmslot_segment *segment)
{
    shmslot_ref refs[REGIONS + 1];
    uint32_t count = 0, i;
    int result;
    while ((result = shmslot_ref_reserve_large(segment, 7, LARGEST, &refs[count], NULL)) ==
           SHMSLOT_OK) {
        count++;
        CHECK(count <= REGIONS);
    }
    CHECK_CODE(result, SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < count; i++) CHECK_OK(shmslot_ref_discard(segment, &refs[i]));
    return count;
}

/* ---- from process to process ---- */

static const size_t sizes[] = {0,    1,     CAPACITY - 1, CAPACITY,    CAPACITY + 1,
                               4095, 65536, 65537,        LARGEST - 1, LARGEST};
#define SIZES (sizeof sizes / sizeof sizes[0])

/* Reads what the parent has written, and answers with as much. */
static int read_and_answer(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    size_t i;
    say(link);
    for (i = 0; i < 2 * SIZES; i++) {
        shmslot_ref ref;
        hear(link);
        ref = next_of(segment, 0);
        check_sample(segment, &ref, i, sizes[i % SIZES]);
        CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
        (void)write_in_place(segment, 2, i + 100, sizes[i % SIZES]);
        say(link);
    }
    shmslot_segment_close(segment);
    return 0;
}

static void check_between_processes(void)
{
    shmslot_options options = large_options();
    char name[64];
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "refs"), &options);
    child other = start_child(read_and_answer, name);
    size_t i;
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    for (i = 0; i < 2 * SIZES; i++) {
        shmslot_ref ref;
        (void)(i < SIZES ? write_in_place : write_copy)(segment, 1, i, sizes[i % SIZES]);
        say(other.link);
        hear(other.link);
        ref = next_of(segment, 1);
        check_sample(segment, &ref, i + 100, sizes[i % SIZES]);
        CHECK_OK(shmslot_ref_mark_read(segment, &ref, 1));
    }
    CHECK_CHILD(other);
    CHECK_U64(free_regions(segment), REGIONS);
    shmslot_segment_close(segment);
}

/* ---- with writers and readers of the other calls ---- */

static void check_with_writer_and_reader(shmslot_segment *segment)
{
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan;
    size_t i;
    for (i = 0; i < SIZES; i++) {
        shmslot_sample sample;
        shmslot_ref ref;
        uint32_t slot = 0;
        (void)write_in_place(segment, 0, i, sizes[i]);
        sample = hold(reader);
        CHECK_U64(sample.len, sizes[i]);
        check_bytes(sample.data, i, sample.len);
        check_bytes(sample.user_header, i + 1, HEADER);
        CHECK_OK(shmslot_slot_mark(reader, &sample));

        CHECK_OK(shmslot_slot_reserve(writer, sizes[i], AT_ONCE, &loan));
        fill(loan.data, i + 50, loan.len);
        fill(loan.user_header, i + 51, HEADER);
        CHECK_OK(shmslot_slot_commit(writer, &loan, loan.len, NULL));
        sample = hold(reader);
        slot = sample.slot;
        CHECK_OK(shmslot_ref_published(segment, slot, &ref));
        check_sample(segment, &ref, i + 50, sizes[i]);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    CHECK_U64(free_regions(segment), REGIONS);
    /* What is unread here is in use there, and the other way round. */
    (void)write_in_place(segment, 1, 7, LARGEST);
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loan));
    {
        shmslot_ref ref, none;
        shmslot_loan more;
        shmslot_sample sample = hold(reader);
        CHECK_CODE(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &more), SHMSLOT_E_NO_FREE_SLOT);
        CHECK_CODE(shmslot_ref_reserve_large(segment, 1, LARGEST, &none, NULL),
                   SHMSLOT_E_NO_FREE_SLOT);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
        CHECK_CODE(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &more), SHMSLOT_E_NO_FREE_SLOT);
        ref = next_of(segment, 0);
        check_sample(segment, &ref, 7, LARGEST);
        CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
        CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &more));
        CHECK_OK(shmslot_slot_discard(writer, &more));
    }
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
}

/* ---- who has a region, and for how long ---- */

static void check_refused(shmslot_segment *segment, uint64_t active_readers, size_t len, int code,
                          const char *text, uint64_t first, uint64_t second, uint64_t third)
{
    shmslot_error detail;
    shmslot_ref ref;
    CHECK_CODE(shmslot_ref_reserve_large(segment, active_readers, len, &ref, &detail), code);
    CHECK_U64((uint64_t)-detail.code, (uint64_t)-code);
    if (strncmp(detail.text, text, strlen(text)) != 0) check_fail(__FILE__, __LINE__, detail.text);
    CHECK_U64(detail.numbers[0], first);
    CHECK_U64(detail.numbers[1], second);
    CHECK_U64(detail.numbers[2], third);
}

static void check_last_mark(shmslot_segment *segment)
{
    shmslot_ref refs[REGIONS], small, again;
    int i;
    for (i = 0; i < REGIONS; i++) refs[i] = write_in_place(segment, 3, (uint64_t)i, LARGEST);
    check_refused(segment, 1, LARGEST, SHMSLOT_E_NO_FREE_SLOT,
                  "2 of 4 slots are in use: 0 loaned by this writer, ", REGIONS, 0, 3);
    small = reserve(segment, 3, CAPACITY); /* slots are free */
    CHECK_OK(shmslot_ref_discard(segment, &small));
    CHECK_OK(shmslot_ref_mark_read(segment, &refs[0], 0));
    CHECK_CODE(shmslot_ref_reserve_large(segment, 3, LARGEST, &again, NULL),
               SHMSLOT_E_NO_FREE_SLOT);
    check_sample(segment, &refs[0], 0, LARGEST);
    CHECK_OK(shmslot_ref_mark_read(segment, &refs[0], 1)); /* the last */
    again = write_in_place(segment, 3, 10, LARGEST);
    check_sample(segment, &again, 10, LARGEST);
    check_sample(segment, &refs[1], 1, LARGEST); /* the other region is as it was */
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 0));
    CHECK_CODE(shmslot_ref_reserve_large(segment, 2, LARGEST, &small, NULL),
               SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 1));
    CHECK_U64(free_regions(segment), REGIONS);
}

/* A reserve does not wait for readers that it leaves out: it takes the region of a sample that only
 * they have unread. */
static void check_left_out(shmslot_segment *segment)
{
    shmslot_ref old = write_in_place(segment, 2, 1, LARGEST),
                kept = write_in_place(segment, 3, 2, LARGEST), taken;
    shmslot_ref_header header;
    CHECK_CODE(shmslot_ref_reserve_large(segment, 3, LARGEST, &taken, NULL),
               SHMSLOT_E_NO_FREE_SLOT);
    taken = write_in_place(segment, 1, 3, LARGEST);
    CHECK_CODE(shmslot_ref_read_header(segment, &old, &header), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_mark_read(segment, &old, 1), SHMSLOT_E_STALE);
    check_sample(segment, &kept, 2, LARGEST);
    check_sample(segment, &taken, 3, LARGEST);
    CHECK_OK(shmslot_ref_mark_read(segment, &kept, 0));
    CHECK_OK(shmslot_ref_mark_read(segment, &kept, 1));
    CHECK_OK(shmslot_ref_mark_read(segment, &taken, 0));
    CHECK_U64(free_regions(segment), REGIONS);
}

/* The slot of a sample is as it was, and another has its region. */
static void check_gone(shmslot_segment *segment, const shmslot_ref *ref)
{
    static unsigned char bytes[LARGEST];
    shmslot_ref_header header;
    shmslot_ref found;
    const void *data;
    size_t size;
    CHECK_OK(shmslot_ref_read_header(segment, ref, &header));
    CHECK_OK(shmslot_ref_published(segment, (uint32_t)(ref->token & 0xffffff), &found));
    CHECK_U64(found.token, ref->token);
    CHECK_CODE(shmslot_ref_read_ptr(segment, ref, &data, &size), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_read_copy(segment, ref, NULL, bytes, sizeof bytes, NULL),
               SHMSLOT_E_STALE);
}

/* What nobody has unread is there until a region is wanted, or memory; and never as the bytes of
 * another. */
static void check_nobodys(void)
{
    shmslot_options options = large_options();
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_ref nobodys = write_in_place(segment, 0, 1, LARGEST), marked, loan;
    uint64_t freed = 0;
    check_sample(segment, &nobodys, 1, LARGEST);
    marked = write_in_place(segment, 1, 2, LARGEST);
    check_gone(segment, &nobodys);
    CHECK_OK(shmslot_ref_mark_read(segment, &marked, 0));
    check_sample(segment, &marked, 2, LARGEST);
    loan = reserve(segment, 1, LARGEST); /* and nothing written yet */
    check_gone(segment, &marked);
    CHECK_OK(shmslot_ref_discard(segment, &loan));
    nobodys = write_in_place(segment, 0, 3, LARGEST);
    check_sample(segment, &nobodys, 3, LARGEST);
    CHECK_OK(shmslot_segment_trim(segment, &freed));
    CHECK_U64(freed, LARGEST);
    check_gone(segment, &nobodys);
    shmslot_segment_close(segment);
}

static void check_tokens(shmslot_segment *segment)
{
    static unsigned char bytes[LARGEST];
    shmslot_ref ref = reserve(segment, 1, 5000), forged = ref;
    const void *seen;
    void *data;
    size_t size;
    unsigned bit;
    /* not published yet */
    CHECK_CODE(shmslot_ref_read_user_header(segment, &ref, &seen, &size), SHMSLOT_E_STALE);
    for (bit = 0; bit < 64; bit++) {
        forged.token = ref.token ^ UINT64_C(1) << bit;
        CHECK_CODE(shmslot_ref_data_ptr(segment, &forged, &data, &size), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_ref_data_user_header(segment, &forged, &data, &size), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_ref_commit_copy(segment, &forged, bytes, 5000, NULL), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_ref_read_user_header(segment, &forged, &seen, &size), SHMSLOT_E_STALE);
    }
    /* What was reserved is the limit, and not what the region could take. */
    CHECK_CODE(shmslot_ref_commit_in_place(segment, &ref, 5001, NULL), SHMSLOT_E_BAD_LENGTH);
    CHECK_CODE(shmslot_ref_commit_copy(segment, &ref, bytes, 5001, NULL), SHMSLOT_E_TOO_LARGE);
    CHECK_CODE(shmslot_ref_commit_copy(segment, &ref, bytes, LARGEST, NULL), SHMSLOT_E_TOO_LARGE);
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, bytes, 5000, NULL));
    CHECK_CODE(shmslot_ref_data_ptr(segment, &ref, &data, &size), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_data_user_header(segment, &ref, &data, &size), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
    forged = reserve(segment, 1, LARGEST); /* its region is given back with it */
    CHECK_OK(shmslot_ref_discard(segment, &forged));
    CHECK_CODE(shmslot_ref_discard(segment, &forged), SHMSLOT_E_STALE);
    CHECK_U64(free_regions(segment), REGIONS);
    check_refused(segment, 1, LARGEST + 1, SHMSLOT_E_TOO_LARGE,
                  "the payload has 262145 bytes, and the segment takes at most 262144; ",
                  LARGEST + 1, LARGEST, 0);
    CHECK_CODE(shmslot_ref_reserve_large(segment, UINT64_C(1) << 63, LARGEST, &ref, NULL),
               SHMSLOT_E_BAD_INDEX);
}

static void check_without_regions(void)
{
    shmslot_options options = options_of(SLOTS, CAPACITY);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_ref ref;
    const void *seen = &options;
    void *data = &options;
    size_t size = 1;
    check_refused(segment, 1, CAPACITY + 1, SHMSLOT_E_TOO_LARGE,
                  "the payload has 65 bytes, and the segment takes at most 64; ", CAPACITY + 1,
                  CAPACITY, 0);
    ref = reserve(segment, 1, CAPACITY);
    CHECK_OK(shmslot_ref_data_user_header(segment, &ref, &data, &size));
    CHECK(data == NULL && size == 0);
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, "small", 5, NULL));
    CHECK_OK(shmslot_ref_read_user_header(segment, &ref, &seen, &size));
    CHECK(seen == NULL && size == 0);
    shmslot_segment_close(segment);

    options.max_payload = LARGEST;
    options.policy = SHMSLOT_POLICY_DROP_OLDEST;
    segment = make_anonymous(&options);
    CHECK_CODE(shmslot_ref_reserve_large(segment, 1, LARGEST, &ref, NULL), SHMSLOT_E_NOT_SUPPORTED);
    shmslot_segment_close(segment);

    options.policy = SHMSLOT_POLICY_FAIL;
    options.max_loans = 1;
    segment = make_anonymous(&options);
    ref = reserve(segment, 1, LARGEST);
    CHECK_CODE(shmslot_ref_reserve_large(segment, 1, LARGEST, &ref, NULL), SHMSLOT_E_LOAN_LIMIT);
    CHECK_OK(shmslot_ref_discard(segment, &ref));
    ref = reserve(segment, 1, LARGEST);
    CHECK_OK(shmslot_ref_commit_in_place(segment, &ref, LARGEST, NULL));
    shmslot_segment_close(segment);
}

/* ---- a writer is killed ---- */

static int hold_regions(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    (void)write_in_place(segment, 1, 1, LARGEST);
    (void)reserve(segment, 1, LARGEST);
    say(link);
    hear(link); /* it is killed here */
    return 0;
}

static void check_killed(void)
{
    shmslot_options options = large_options();
    char name[64];
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "refk"), &options);
    child other = start_child(hold_regions, name);
    uint64_t freed = 0;
    shmslot_ref ref;
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_CODE(shmslot_ref_reserve_large(segment, 1, LARGEST, &ref, NULL), SHMSLOT_E_NO_FREE_SLOT);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK(end_child(other) != 0);
    CHECK(shmslot_segment_recover(segment, NULL) == 1);
    CHECK_U64(free_regions(segment), REGIONS - 1);
    CHECK_U64(info_of(segment).region_bytes, REGIONS * LARGEST);
    CHECK_OK(shmslot_segment_trim(segment, &freed));
    CHECK_U64(freed, LARGEST); /* that of the reservation, and not that of the sample */
    ref = next_of(segment, 0);
    check_sample(segment, &ref, 1, LARGEST);
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
    CHECK_OK(shmslot_segment_trim(segment, &freed));
    CHECK_U64(freed, LARGEST);
    CHECK_U64(info_of(segment).region_bytes, 0);
    CHECK_U64(free_regions(segment), REGIONS);
    shmslot_segment_close(segment);
}

int main(void)
{
    shmslot_options options = large_options();
    shmslot_segment *segment;
    int i;
    check_begin();
    check_between_processes();
    for (i = 0; i < 3; i++) {
        options.flags = i == 1 ? SHMSLOT_FLAG_SINGLE_WRITER : 0;
        options.policy = i == 0 ? SHMSLOT_POLICY_FAIL : SHMSLOT_POLICY_BLOCK;
        segment = NULL;
        CHECK_OK((i == 2 ? shmslot_segment_create_local
                         : shmslot_segment_create_anonymous)(&options, &segment, NULL));
        if (i != 1) check_with_writer_and_reader(segment);
        check_last_mark(segment);
        check_left_out(segment);
        check_tokens(segment);
        shmslot_segment_close(segment);
    }
    check_nobodys();
    check_without_regions();
    check_killed();
    return 0;
}
