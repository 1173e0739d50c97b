/* Payloads larger than a slot: equal calls, equal rules, with a region behind the slot. */
/* not under aarch64: it needs what the emulator lacks */
#include "samples.h"

#include <sys/mman.h>

#define CAPACITY UINT64_C(64)
#define LARGEST (UINT64_C(3) << 20)
#define REGIONS 4
#define MEBIBYTE (UINT64_C(1) << 20)

static shmslot_options options_for(uint32_t policy)
{
    shmslot_options options = options_of(8, CAPACITY);
    options.policy = policy;
    options.max_payload = LARGEST;
    options.region_count = REGIONS;
    options.user_header_size = 16;
    return options;
}

/* Bytes that differ between samples and between places: each block begins elsewhere in a ramp. */
#define BLOCK UINT64_C(4096)

static const unsigned char *block_of(uint64_t value, uint64_t at)
{
    static unsigned char ramp[BLOCK + 256];
    size_t i;
    if (ramp[1] == 0) {
        for (i = 0; i < sizeof ramp; i++) ramp[i] = (unsigned char)i;
    }
    return ramp + (value * 31 + at / BLOCK) % 256;
}

static uint64_t at_most_a_block(uint64_t len)
{
    return len < BLOCK ? len : BLOCK;
}

static void fill_bytes(unsigned char *bytes, uint64_t value, uint64_t len)
{
    uint64_t at;
    for (at = 0; at < len; at += BLOCK)
        memcpy(bytes + at, block_of(value, at), at_most_a_block(len - at));
}

static void fill(shmslot_loan *loan, uint64_t value)
{
    fill_bytes(loan->data, value, loan->len);
    if (loan->user_header != NULL) memcpy(loan->user_header, &value, sizeof value);
}

static void check_bytes(const shmslot_sample *sample, uint64_t value, uint64_t len)
{
    const unsigned char *bytes = sample->data;
    uint64_t at, header = 0;
    CHECK_U64(sample->len, len);
    for (at = 0; at < len; at += BLOCK) {
        if (memcmp(bytes + at, block_of(value, at), at_most_a_block(len - at)) != 0) {
            CHECK_U64(at, UINT64_MAX); /* tells where */
        }
    }
    if (sample->user_header != NULL) {
        memcpy(&header, sample->user_header, sizeof header);
        CHECK_U64(header, value);
    }
}

static void put_large(shmslot_writer *writer, uint64_t value, uint64_t len)
{
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, len, AT_ONCE, &loan));
    CHECK_U64(loan.len, len);
    CHECK((uintptr_t)loan.data % 64 == 0);
    fill(&loan, value);
    CHECK_OK(shmslot_slot_commit(writer, &loan, len, NULL));
}

static void take_large(shmslot_reader *reader, uint64_t value, uint64_t len)
{
    shmslot_sample sample = hold(reader);
    check_bytes(&sample, value, len);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
}

/* How many large loans are possible at once; all are given back. */
static uint32_t free_regions(shmslot_writer *writer)
{
    shmslot_loan loans[64];
    uint32_t count = 0, i;
    int result;
    while ((result = shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loans[count])) == SHMSLOT_OK)
        count++;
    CHECK_CODE(result, SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < count; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    return count;
}

static void check_sizes(shmslot_segment *segment)
{
    static const uint64_t sizes[] = {
        0,     1,     CAPACITY - 1, CAPACITY,     CAPACITY + 1, 4095,        4096,
        65535, 65536, 65537,        MEBIBYTE - 1, MEBIBYTE,     LARGEST - 1, LARGEST};
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *first = join(segment, 0), *second = join(segment, 0);
    shmslot_loan loan;
    size_t i;
    CHECK_U64(info_of(segment).max_payload, LARGEST);
    CHECK_U64(info_of(segment).region_count, REGIONS);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_large(writer, i, sizes[i]);
        take_large(first, i, sizes[i]);
        take_large(second, i, sizes[i]);
    }
    CHECK_CODE(shmslot_slot_reserve(writer, LARGEST + 1, AT_ONCE, &loan), SHMSLOT_E_TOO_LARGE);
    /* Reserved large, committed small, and not more than was reserved. */
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loan));
    fill(&loan, 7);
    CHECK_CODE(shmslot_slot_commit(writer, &loan, LARGEST + 1, NULL), SHMSLOT_E_BAD_LENGTH);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 3, NULL));
    take_large(first, 7, 3);
    take_large(second, 7, 3);
    CHECK_U64(free_regions(writer), REGIONS);
    shmslot_reader_leave(second);
    shmslot_reader_leave(first);
    shmslot_writer_close(writer);
}

/* Middleware that keeps only payload pointers. */
static void check_pointers(shmslot_segment *segment)
{
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan, found;
    shmslot_sample sample, seen;
    char *inside;
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loan));
    fill(&loan, 5);
    CHECK_OK(shmslot_loan_from_ptr(writer, loan.data, &found));
    CHECK(found.data == loan.data && found.token == loan.token);
    CHECK_U64(found.len, LARGEST);
    inside = (char *)loan.data + 64;
    CHECK_CODE(shmslot_loan_from_ptr(writer, inside, &found), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_commit_ptr(writer, loan.data, LARGEST, NULL));
    CHECK_CODE(shmslot_slot_commit_ptr(writer, loan.data, LARGEST, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_mark_ptr(reader, loan.data), SHMSLOT_E_STALE); /* not read yet */
    sample = hold(reader);
    check_bytes(&sample, 5, LARGEST);
    CHECK_OK(shmslot_sample_from_ptr(reader, sample.data, &seen));
    CHECK(seen.data == sample.data && seen.sequence == sample.sequence);
    CHECK_OK(shmslot_slot_mark_ptr(reader, sample.data));
    CHECK_CODE(shmslot_slot_mark_ptr(reader, sample.data), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard_ptr(writer, loan.data));
    CHECK_U64(free_regions(writer), REGIONS);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
}

/* Held out of order, marked from another thread, also after the reader has left; small ones in
 * between are not affected. */
static void check_holds(shmslot_segment *segment)
{
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample held[REGIONS];
    shmslot_loan none;
    uint64_t i;
    for (i = 0; i < REGIONS; i++) put_large(writer, i, LARGEST - i);
    if (info_of(segment).policy != SHMSLOT_POLICY_DROP_OLDEST) {
        CHECK_CODE(shmslot_slot_reserve(writer, CAPACITY + 1, AT_ONCE, &none),
                   SHMSLOT_E_NO_FREE_SLOT);
    }
    put_large(writer, 9, CAPACITY); /* slots are not what is missing */
    for (i = 0; i < REGIONS; i++) held[i] = hold(reader);
    CHECK_CODE(shmslot_slot_reserve(writer, CAPACITY + 1, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
    take_large(reader, 9, CAPACITY);
    CHECK_OK(shmslot_slot_mark(reader, &held[2]));
    CHECK_U64(free_regions(writer), 1);
    shmslot_reader_leave(reader);
    put_large(writer, 10, LARGEST);
    for (i = 0; i < REGIONS; i++) {
        if (i == 2) continue;
        check_bytes(&held[i], i, LARGEST - i);
        CHECK_OK(shmslot_slot_mark(reader, &held[i]));
    }
    CHECK_U64(free_regions(writer), REGIONS);
    shmslot_writer_close(writer);
}

/* Nobody reads: the oldest large samples are taken away, and small ones stay while there are
 * slots. */
static void check_drop_oldest(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    uint64_t i;
    put_large(writer, 100, CAPACITY);
    for (i = 0; i < 3 * REGIONS; i++) put_large(writer, i, LARGEST);
    CHECK_U64(lost(reader), 0); /* nobody has looked */
    take_large(reader, 100, CAPACITY);
    for (i = 2 * REGIONS; i < 3 * REGIONS; i++) take_large(reader, i, LARGEST);
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 2 * REGIONS);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void *put_many(void *segment)
{
    shmslot_writer *writer = open_writer(segment);
    uint64_t i;
    for (i = 0; i < 20000; i++) {
        shmslot_loan loan;
        CHECK_OK(shmslot_slot_reserve(writer, CAPACITY + 1, AT_ONCE, &loan));
        CHECK_OK(shmslot_slot_commit(writer, &loan, 1, NULL));
    }
    shmslot_writer_close(writer);
    return NULL;
}

/* While nothing is held there is always one to take, however many writers want it. */
static void check_drop_oldest_by_many(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_DROP_OLDEST);
    shmslot_segment *segment;
    shmslot_reader *reader;
    pthread_t threads[3];
    int i;
    options.slot_count = 64;
    options.region_count = 8;
    segment = make_anonymous(&options);
    reader = join(segment, 0); /* reads nothing */
    for (i = 0; i < 3; i++) threads[i] = start_thread(put_many, segment);
    for (i = 0; i < 3; i++) end_thread(threads[i]);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_history(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_FAIL);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *late;
    uint64_t i;
    options.history = REGIONS - 1;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 0; i < 5 * REGIONS; i++) put_large(writer, i, LARGEST);
    late = join(segment, REGIONS - 1);
    for (i = 5 * REGIONS - (REGIONS - 1); i < 5 * REGIONS; i++) take_large(late, i, LARGEST);
    check_nothing_to_read(late);
    shmslot_reader_leave(late);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A steady load uses one region: memory, descriptors and mappings stay as they are. */
static void check_steady_load(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_FAIL);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct stat before, after;
    uint64_t i, bytes = 0;
    put_large(writer, 0, LARGEST);
    take_large(reader, 0, LARGEST);
    CHECK(fstat(shmslot_segment_fd(segment), &before) == 0);
    for (i = 0; i < 100000; i++) {
        uint64_t len = CAPACITY + 1 + i * 7919 % (LARGEST - CAPACITY), sequence;
        shmslot_sample sample;
        shmslot_loan loan;
        CHECK_OK(shmslot_slot_reserve(writer, len, AT_ONCE, &loan));
        memcpy(loan.data, &i, sizeof i);
        CHECK_OK(shmslot_slot_commit(writer, &loan, len, &sequence));
        sample = hold(reader);
        CHECK_U64(sample.len, len);
        CHECK(memcmp(sample.data, &i, sizeof i) == 0);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    CHECK(fstat(shmslot_segment_fd(segment), &after) == 0);
    CHECK_U64((uint64_t)after.st_blocks, (uint64_t)before.st_blocks);
    CHECK_U64(info_of(segment).region_bytes, LARGEST);
    CHECK_OK(shmslot_segment_trim(segment, &bytes));
    CHECK_U64(bytes, LARGEST);
    CHECK_U64(info_of(segment).region_bytes, 0);
    CHECK(fstat(shmslot_segment_fd(segment), &after) == 0);
    CHECK_U64((uint64_t)(before.st_blocks - after.st_blocks) * 512, LARGEST);
    put_large(writer, 1, LARGEST);
    take_large(reader, 1, LARGEST);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* What is in use is not trimmed. */
static void check_trim(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_FAIL);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    shmslot_loan loan;
    uint64_t bytes = 1;
    put_large(writer, 1, LARGEST);     /* in hand */
    put_large(writer, 2, MEBIBYTE);    /* unread */
    CHECK_OK(shmslot_slot_reserve(writer, MEBIBYTE, AT_ONCE, &loan)); /* loaned */
    fill(&loan, 3);
    sample = hold(reader);
    CHECK_OK(shmslot_segment_trim(segment, &bytes));
    CHECK_U64(bytes, 0);
    check_bytes(&sample, 1, LARGEST);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_OK(shmslot_slot_commit(writer, &loan, MEBIBYTE, NULL));
    CHECK_OK(shmslot_segment_trim(segment, &bytes));
    CHECK_U64(bytes, LARGEST);
    take_large(reader, 2, MEBIBYTE);
    take_large(reader, 3, MEBIBYTE);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Copies that bypass the caches: from any address, of any length, with equal bytes. */
static void check_stream_copies(void)
{
    static const uint64_t lengths[] = {65535, 65536, 65537, 65551, 65552, 100003, LARGEST - 64};
    shmslot_options options = options_for(SHMSLOT_POLICY_FAIL);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    unsigned char *bytes = malloc(LARGEST);
    uint64_t from;
    size_t l;
    CHECK(bytes != NULL);
    fill_bytes(bytes, 9, LARGEST);
    options.user_header_size = 0;
    options.flags = SHMSLOT_FLAG_STREAM_COPIES;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    for (l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        for (from = 0; from < 20; from += 3) {
            shmslot_sample sample;
            CHECK_OK(shmslot_slot_write(writer, bytes + from, lengths[l], AT_ONCE, NULL));
            sample = hold(reader);
            CHECK_U64(sample.len, lengths[l]);
            CHECK(memcmp(sample.data, bytes + from, lengths[l]) == 0);
            CHECK_OK(shmslot_slot_mark(reader, &sample));
        }
    }
    free(bytes);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- other processes ---- */

static int send_and_die(int link, void *fd)
{
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    shmslot_loan loan;
    CHECK_OK(shmslot_segment_attach_fd(*(int *)fd, NULL, &segment, NULL));
    writer = open_writer(segment);
    put_large(writer, 1, LARGEST);
    put_large(writer, 2, LARGEST);
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loan));
    say(link);
    hear(link); /* never comes */
    return 0;
}

/* A writer dies: what it had sent can still be read, and what it was filling is free. */
static void check_death(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_FAIL);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    int fd = shmslot_segment_fd(segment);
    child sender = start_child(send_and_die, &fd);
    hear(sender.link);
    CHECK(kill(sender.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(sender), 128 + SIGKILL);
    put_large(writer, 3, LARGEST);
    put_large(writer, 4, LARGEST); /* the fourth region was the dead one's loan */
    take_large(reader, 1, LARGEST);
    take_large(reader, 2, LARGEST);
    take_large(reader, 3, LARGEST);
    take_large(reader, 4, LARGEST);
    CHECK_U64(free_regions(writer), REGIONS);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static int send_many(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_writer *writer = open_writer(segment);
    uint64_t i;
    (void)link;
    for (i = 0; i < 60; i++) {
        uint64_t len = i % 3 == 0 ? CAPACITY : LARGEST - i;
        shmslot_loan loan;
        CHECK_OK(shmslot_slot_reserve(writer, len, FOR_EVER, &loan)); /* sleeps for a region, too */
        fill(&loan, i);
        CHECK_OK(shmslot_slot_commit(writer, &loan, len, NULL));
    }
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void check_blocking(void)
{
    char name[64];
    shmslot_options options = options_for(SHMSLOT_POLICY_BLOCK);
    shmslot_segment *segment;
    shmslot_reader *reader;
    child sender;
    uint64_t i;
    options.region_count = 2;
    segment = make_named(unique_name(name, sizeof name, "large"), &options);
    reader = join(segment, 0);
    sender = start_child(send_many, name);
    until_asleep(sender.pid);
    for (i = 0; i < 60; i++) {
        CHECK_OK(shmslot_wait(reader, FOR_EVER));
        take_large(reader, i, i % 3 == 0 ? CAPACITY : LARGEST - i);
    }
    CHECK_CHILD(sender);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* A reader's process cannot write there. */
static int write_to_a_sample(int link, void *fd)
{
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    shmslot_sample sample;
    CHECK_OK(shmslot_segment_attach_fd(*(int *)fd, NULL, &segment, NULL));
    reader = join(segment, 0);
    say(link);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    sample = hold(reader);
    *(volatile char *)(uintptr_t)sample.data = 1;
    return 0;
}

static void check_read_only(void)
{
    shmslot_options options = options_for(SHMSLOT_POLICY_FAIL);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    int fd = shmslot_segment_fd(segment);
    child reader = start_child(write_to_a_sample, &fd);
    hear(reader.link);
    put_large(writer, 1, LARGEST);
    CHECK_U64((uint64_t)end_child(reader), 128 + SIGSEGV);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* One gibibyte through slots of 4 KiB. */
static void check_a_gibibyte(void)
{
    const uint64_t len = UINT64_C(1) << 30, step = 4096 - 8;
    shmslot_options options = options_of(4, 4096);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loan;
    shmslot_sample sample;
    uint64_t i, value;
    options.max_payload = UINT64_C(4) << 30;
    options.region_count = 1; /* valgrind keeps books on all that is mapped */
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    CHECK_OK(shmslot_slot_reserve(writer, len, AT_ONCE, &loan));
    for (i = 0; i + sizeof i <= len; i += step) memcpy((char *)loan.data + i, &i, sizeof i);
    CHECK_OK(shmslot_slot_commit(writer, &loan, len, NULL));
    sample = hold(reader);
    CHECK_U64(sample.len, len);
    for (i = 0; i + sizeof i <= len; i += step) {
        memcpy(&value, (const char *)sample.data + i, sizeof value);
        CHECK_U64(value, i);
    }
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

int main(void)
{
    static const uint32_t policies[] = {SHMSLOT_POLICY_FAIL, SHMSLOT_POLICY_BLOCK,
                                        SHMSLOT_POLICY_DROP_OLDEST};
    size_t i;
    check_begin();
    for (i = 0; i < 3; i++) {
        shmslot_options options = options_for(policies[i]);
        shmslot_segment *segment = make_anonymous(&options), *local = NULL;
        CHECK_OK(shmslot_segment_create_local(&options, &local, NULL));
        check_sizes(segment);
        check_sizes(local);
        check_pointers(segment);
        check_holds(segment);
        shmslot_segment_close(local);
        shmslot_segment_close(segment);
    }
    check_drop_oldest();
    check_drop_oldest_by_many();
    check_history();
    check_steady_load();
    check_trim();
    check_stream_copies();
    check_death();
    check_blocking();
    check_read_only();
    check_a_gibibyte();
    return 0;
}
