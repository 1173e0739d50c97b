/* The reference operations: middleware that keeps its own books. The same scenario runs on a named
 * segment, where the reader sits in another process, and on the local backend, where it sits in the
 * same one. */
#include "samples.h"

#define SLOTS 4
#define CAPACITY 64
#define READERS 8

/* ---- the reader's side: direct calls, or the same calls made by a child on request ---- */

enum operation {
    NEXT_UNREAD,
    PUBLISHED,
    READ_PTR,
    READ_HEADER,
    READ_COPY,
    MARK_READ,
    DISCONNECT,
    STOP
};

struct request {
    enum operation operation;
    uint32_t reader; /* or slot */
    shmslot_ref ref;
    size_t room;
};

struct answer {
    int result;
    shmslot_ref ref;
    shmslot_ref_header header;
    size_t length;
    unsigned char bytes[CAPACITY];
};

struct side {
    shmslot_segment *segment; /* direct, or NULL */
    int link;                 /* to the child */
};

static struct answer perform(shmslot_segment *segment, const struct request *request)
{
    struct answer answer;
    memset(&answer, 0, sizeof answer);
    switch (request->operation) {
    case NEXT_UNREAD:
        answer.result = shmslot_ref_next_unread(segment, request->reader, &answer.ref);
        break;
    case READ_PTR: {
        const void *data = NULL;
        answer.result = shmslot_ref_read_ptr(segment, &request->ref, &data, &answer.length);
        if (answer.result == SHMSLOT_OK) {
            CHECK(answer.length <= CAPACITY);
            if (answer.length > 0) memcpy(answer.bytes, data, answer.length);
        }
        break;
    }
    case PUBLISHED:
        answer.result = shmslot_ref_published(segment, request->reader, &answer.ref);
        break;
    case READ_HEADER:
        answer.result = shmslot_ref_read_header(segment, &request->ref, &answer.header);
        break;
    case READ_COPY:
        CHECK(request->room <= CAPACITY);
        answer.result = shmslot_ref_read_copy(segment, &request->ref, &answer.header, answer.bytes,
                                              request->room, &answer.length);
        break;
    case MARK_READ:
        answer.result = shmslot_ref_mark_read(segment, &request->ref, request->reader);
        break;
    case DISCONNECT:
        answer.result = shmslot_ref_mark_reader_disconnected(segment, request->reader);
        break;
    case STOP:
        break;
    }
    return answer;
}

static struct answer ask(const struct side *side, const struct request *request)
{
    struct answer answer;
    if (side->segment != NULL) return perform(side->segment, request);
    send_bytes(side->link, request, sizeof *request);
    receive_bytes(side->link, &answer, sizeof answer);
    return answer;
}

static int serve(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    struct request request;
    say(link);
    do {
        struct answer answer;
        receive_bytes(link, &request, sizeof request);
        answer = perform(segment, &request);
        send_bytes(link, &answer, sizeof answer);
    } while (request.operation != STOP);
    shmslot_segment_close(segment);
    return 0;
}

static struct request request_of(enum operation operation, uint32_t reader, const shmslot_ref *ref)
{
    struct request request;
    memset(&request, 0, sizeof request);
    request.operation = operation;
    request.reader = reader;
    request.room = CAPACITY;
    if (ref != NULL) request.ref = *ref;
    return request;
}

static int next_unread(const struct side *side, uint32_t reader, shmslot_ref *ret_ref)
{
    struct request request = request_of(NEXT_UNREAD, reader, NULL);
    struct answer answer = ask(side, &request);
    *ret_ref = answer.ref;
    return answer.result;
}

static int published(const struct side *side, uint32_t slot, shmslot_ref *ret_ref)
{
    struct request request = request_of(PUBLISHED, slot, NULL);
    struct answer answer = ask(side, &request);
    *ret_ref = answer.ref;
    return answer.result;
}

static struct answer read_header(const struct side *side, const shmslot_ref *ref)
{
    struct request request = request_of(READ_HEADER, 0, ref);
    return ask(side, &request);
}

static int mark_read(const struct side *side, const shmslot_ref *ref, uint32_t reader)
{
    struct request request = request_of(MARK_READ, reader, ref);
    return ask(side, &request).result;
}

static int disconnect(const struct side *side, uint32_t reader)
{
    struct request request = request_of(DISCONNECT, reader, NULL);
    return ask(side, &request).result;
}

static struct answer read_ptr(const struct side *side, const shmslot_ref *ref)
{
    struct request request = request_of(READ_PTR, 0, ref);
    return ask(side, &request);
}

static struct answer read_copy(const struct side *side, const shmslot_ref *ref, size_t room)
{
    struct request request = request_of(READ_COPY, 0, ref);
    request.room = room;
    return ask(side, &request);
}

/* ---- the writer's side ---- */

static shmslot_ref reserve(shmslot_segment *segment, uint64_t active_readers)
{
    shmslot_ref ref;
    memset(&ref, 0, sizeof ref);
    CHECK_OK(shmslot_ref_reserve(segment, active_readers, &ref));
    return ref;
}

static shmslot_ref commit_text(shmslot_segment *segment, uint64_t active_readers, const char *text,
                               uint64_t sequence)
{
    shmslot_ref ref = reserve(segment, active_readers);
    uint64_t got = 0;
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, text, strlen(text), &got));
    CHECK_U64(got, sequence);
    return ref;
}

static void check_text(const struct side *reader, const shmslot_ref *ref, const char *text,
                       uint64_t sequence, uint64_t unread)
{
    struct answer answer = read_ptr(reader, ref);
    CHECK_OK(answer.result);
    CHECK_U64(answer.length, strlen(text));
    CHECK(memcmp(answer.bytes, text, strlen(text)) == 0);
    answer = read_copy(reader, ref, CAPACITY);
    CHECK_OK(answer.result);
    CHECK_U64(answer.length, strlen(text));
    CHECK(memcmp(answer.bytes, text, strlen(text)) == 0);
    CHECK_U64(answer.header.len, strlen(text));
    CHECK_U64(answer.header.sequence, sequence);
    CHECK_U64(answer.header.unread, unread);
    CHECK_U64(answer.header.audience & unread, unread);
    {
        struct answer header = read_header(reader, ref); /* the same, and no room for the payload */
        CHECK_OK(header.result);
        CHECK(memcmp(&header.header, &answer.header, sizeof answer.header) == 0);
    }
}

static int same(const shmslot_ref *a, const shmslot_ref *b)
{
    return a->segment_id == b->segment_id && a->token == b->token;
}

static void check_copy_and_in_place(shmslot_segment *writer, const struct side *reader)
{
    shmslot_ref first, second, empty, found;
    void *data = NULL;
    size_t capacity = 0;
    uint64_t sequence = 0;

    CHECK_CODE(next_unread(reader, 0, &found), SHMSLOT_E_AGAIN);
    first = commit_text(writer, 0x3, "first", 1);
    second = reserve(writer, 0x2);
    CHECK_OK(shmslot_ref_data_ptr(writer, &second, &data, &capacity));
    CHECK_U64(capacity, CAPACITY);
    memcpy(data, "second!", 7);
    CHECK_OK(shmslot_ref_commit_in_place(writer, &second, 7, &sequence));
    CHECK_U64(sequence, 2);
    empty = reserve(writer, 0x1);
    /* an empty sample is one */
    CHECK_OK(shmslot_ref_commit_copy(writer, &empty, NULL, 0, &sequence));
    CHECK_U64(sequence, 3);

    /* Reader 0 is owed 1 and 3, reader 1 is owed 1 and 2; asking does not consume. */
    CHECK_OK(next_unread(reader, 0, &found));
    CHECK(same(&found, &first));
    CHECK_OK(next_unread(reader, 0, &found));
    CHECK(same(&found, &first));
    check_text(reader, &first, "first", 1, 0x3);
    CHECK_OK(mark_read(reader, &first, 0));
    check_text(reader, &first, "first", 1, 0x2);
    CHECK_OK(next_unread(reader, 0, &found));
    CHECK(same(&found, &empty));
    check_text(reader, &empty, "", 3, 0x1);
    CHECK_OK(mark_read(reader, &empty, 0));
    CHECK_CODE(next_unread(reader, 0, &found), SHMSLOT_E_AGAIN);
    CHECK_OK(next_unread(reader, 1, &found));
    CHECK(same(&found, &first));
    CHECK_OK(mark_read(reader, &first, 1));
    CHECK_OK(next_unread(reader, 1, &found));
    CHECK(same(&found, &second));
    check_text(reader, &second, "second!", 2, 0x2);
    CHECK_OK(mark_read(reader, &second, 1));
    CHECK_CODE(next_unread(reader, 1, &found), SHMSLOT_E_AGAIN);
    CHECK_CODE(next_unread(reader, 2, &found), SHMSLOT_E_AGAIN);
}

/* Every slot is asked what is published in it, as those readers do that keep books of slots: found
 * is whatever stands in a slot, read or not, for whomever it was, and no slot that is reserved or
 * was given back. */
static void check_scan(shmslot_segment *writer, const struct side *reader, uint64_t from)
{
    static const uint64_t masks[SLOTS] = {0x1, 0x6, 0x0, 0x4};
    shmslot_ref refs[SLOTS], found;
    struct answer answer;
    uint32_t slot, other;
    uint64_t i;
    for (i = 0; i < SLOTS; i++) refs[i] = reserve(writer, 0x7);
    for (slot = 0; slot < SLOTS; slot++)
        CHECK_CODE(published(reader, slot, &found), SHMSLOT_E_AGAIN);
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_ref_discard(writer, &refs[i]));
    for (slot = 0; slot < SLOTS; slot++)
        CHECK_CODE(published(reader, slot, &found), SHMSLOT_E_AGAIN);
    for (i = 0; i < SLOTS; i++) refs[i] = commit_text(writer, masks[i], "scan", from + i);
    for (slot = 0, i = 0; slot < SLOTS; slot++) {
        CHECK_OK(published(reader, slot, &found));
        for (other = 0; other < SLOTS && !same(&found, &refs[other]); other++) continue;
        CHECK(other < SLOTS);
        check_text(reader, &found, "scan", from + other, masks[other]);
        CHECK_U64(read_header(reader, &found).header.audience, masks[other]);
        i |= UINT64_C(1) << other;
    }
    CHECK_U64(i, (1 << SLOTS) - 1); /* each of them once */
    CHECK_OK(mark_read(reader, &refs[0], 0));
    CHECK_OK(mark_read(reader, &refs[1], 1));
    CHECK_OK(mark_read(reader, &refs[1], 2));
    CHECK_CODE(mark_read(reader, &refs[2], 0), SHMSLOT_E_STALE); /* nobody's */
    CHECK_OK(mark_read(reader, &refs[3], 2));
    for (i = 0; i < SLOTS; i++) {
        check_text(reader, &refs[i], "scan", from + i, 0); /* read by all, and still there */
        CHECK_U64(read_header(reader, &refs[i]).header.audience, masks[i]);
    }
    CHECK_CODE(published(reader, SLOTS, &found), SHMSLOT_E_INVALID);
    CHECK_CODE(published(reader, UINT32_MAX, &found), SHMSLOT_E_INVALID);
    refs[0] = reserve(writer, 0x7);
    answer = read_header(reader, &refs[0]);
    CHECK_CODE(answer.result, SHMSLOT_E_STALE); /* not published yet */
    CHECK_OK(shmslot_ref_discard(writer, &refs[0]));
}

/* Sequence order, not slot order. */
static void check_order(shmslot_segment *writer, const struct side *reader, uint64_t from)
{
    shmslot_ref refs[SLOTS], found;
    uint64_t i, sequence = 0;
    for (i = 0; i < SLOTS; i++) refs[i] = reserve(writer, 0x1);
    for (i = 0; i < SLOTS; i++) {
        char text[2] = {'a', '\0'};
        uint64_t k = (i + 2) % SLOTS;
        text[0] = (char)('a' + (int)i);
        CHECK_OK(shmslot_ref_commit_copy(writer, &refs[k], text, 1, &sequence));
        CHECK_U64(sequence, from + i);
    }
    for (i = 0; i < SLOTS; i++) {
        struct answer answer;
        CHECK_OK(next_unread(reader, 0, &found));
        CHECK(same(&found, &refs[(i + 2) % SLOTS]));
        answer = read_copy(reader, &found, CAPACITY);
        CHECK_OK(answer.result);
        CHECK_U64(answer.header.sequence, from + i);
        CHECK(answer.bytes[0] == (unsigned char)('a' + (int)i));
        CHECK_OK(mark_read(reader, &found, 0));
    }
    CHECK_CODE(next_unread(reader, 0, &found), SHMSLOT_E_AGAIN);
}

/* A slot is free again when every reader of the mask that reserve is given has marked it. */
static void check_full_and_disconnect(shmslot_segment *writer, const struct side *reader,
                                      uint64_t from)
{
    shmslot_ref refs[SLOTS], none, found;
    uint64_t i;
    for (i = 0; i < SLOTS; i++) refs[i] = commit_text(writer, 0x5, "full", from + i);
    CHECK_CODE(shmslot_ref_reserve(writer, 0x5, &none), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(mark_read(reader, &refs[1], 0));
    CHECK_CODE(shmslot_ref_reserve(writer, 0x5, &none), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(mark_read(reader, &refs[1], 2));
    none = reserve(writer, 0x5);
    CHECK_CODE(shmslot_ref_reserve(writer, 0x5, &found), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_OK(shmslot_ref_discard(writer, &none));

    CHECK_OK(disconnect(reader, 2)); /* reader 2 died: nothing waits for it any more */
    CHECK_CODE(next_unread(reader, 2, &found), SHMSLOT_E_AGAIN);
    CHECK_OK(next_unread(reader, 0, &found));
    CHECK(same(&found, &refs[0]));
    check_text(reader, &refs[0], "full", from, 0x1);
    for (i = 0; i < SLOTS; i++) {
        if (i != 1) CHECK_OK(mark_read(reader, &refs[i], 0));
    }
    for (i = 0; i < SLOTS; i++) refs[i] = reserve(writer, 0x1);
    CHECK_CODE(shmslot_ref_reserve(writer, 0x1, &none), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_ref_discard(writer, &refs[i]));
}

/* A used or forged reference is STALE, and changes nothing. */
static void check_stale(shmslot_segment *writer, const struct side *reader, uint64_t from)
{
    shmslot_ref ref = reserve(writer, 0x1), old, forged;
    void *data;
    size_t capacity;
    struct answer answer;
    unsigned bit;

    answer = read_ptr(reader, &ref);
    CHECK_CODE(answer.result, SHMSLOT_E_STALE); /* not published yet */
    CHECK_CODE(mark_read(reader, &ref, 0), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_commit_in_place(writer, &ref, CAPACITY + 1, NULL), SHMSLOT_E_BAD_LENGTH);
    for (bit = 0; bit < 64; bit++) {
        forged = ref;
        forged.token ^= UINT64_C(1) << bit;
        CHECK_CODE(shmslot_ref_data_ptr(writer, &forged, &data, &capacity), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_ref_commit_in_place(writer, &forged, 1, NULL), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_ref_discard(writer, &forged), SHMSLOT_E_STALE);
    }
    forged = ref;
    forged.segment_id ^= 1;
    CHECK_CODE(shmslot_ref_commit_in_place(writer, &forged, 1, NULL), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_ref_commit_copy(writer, &ref, "x", 1, NULL));
    CHECK_CODE(shmslot_ref_commit_copy(writer, &ref, "y", 1, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_discard(writer, &ref), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_data_ptr(writer, &ref, &data, &capacity), SHMSLOT_E_STALE);
    check_text(reader, &ref, "x", from, 0x1);
    CHECK_OK(mark_read(reader, &ref, 0));
    CHECK_CODE(mark_read(reader, &ref, 0), SHMSLOT_E_STALE);

    old = ref; /* after the slot was taken again the old reference is worth nothing */
    {
        shmslot_ref refs[SLOTS];
        int i;
        for (i = 0; i < SLOTS; i++) refs[i] = reserve(writer, 0x1);
        answer = read_ptr(reader, &old);
        CHECK_CODE(answer.result, SHMSLOT_E_STALE);
        CHECK_CODE(mark_read(reader, &old, 0), SHMSLOT_E_STALE);
        for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_ref_discard(writer, &refs[i]));
        /* Discarded, they were never samples: nobody can read or mark what the slots held
         * before. */
        for (i = 0; i < SLOTS; i++) {
            CHECK_CODE(shmslot_ref_discard(writer, &refs[i]), SHMSLOT_E_STALE);
            CHECK_CODE(shmslot_ref_commit_in_place(writer, &refs[i], 0, NULL), SHMSLOT_E_STALE);
            answer = read_ptr(reader, &refs[i]);
            CHECK_CODE(answer.result, SHMSLOT_E_STALE);
            answer = read_copy(reader, &refs[i], CAPACITY);
            CHECK_CODE(answer.result, SHMSLOT_E_STALE);
            CHECK_CODE(mark_read(reader, &refs[i], 0), SHMSLOT_E_STALE);
        }
    }
}

static void check_bad_arguments(shmslot_segment *writer, const struct side *reader, uint64_t from)
{
    shmslot_ref ref, found;
    struct answer answer;
    char large[CAPACITY + 1];

    memset(large, 1, sizeof large);
    CHECK_CODE(shmslot_ref_reserve(writer, UINT64_C(1) << READERS, &ref), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(shmslot_ref_reserve(writer, UINT64_C(1) << 63, &ref), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(next_unread(reader, READERS, &found), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(next_unread(reader, UINT32_MAX, &found), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(disconnect(reader, READERS), SHMSLOT_E_BAD_INDEX);
    ref = reserve(writer, 0x1);
    CHECK_CODE(shmslot_ref_commit_copy(writer, &ref, large, sizeof large, NULL),
               SHMSLOT_E_TOO_LARGE);
    /* still good for a right one */
    CHECK_OK(shmslot_ref_commit_copy(writer, &ref, large, CAPACITY, NULL));
    CHECK_CODE(mark_read(reader, &ref, READERS), SHMSLOT_E_BAD_INDEX);
    /* and is not taken for reader 0 */
    CHECK_CODE(mark_read(reader, &ref, 32), SHMSLOT_E_BAD_INDEX);
    CHECK_OK(next_unread(reader, 0, &found));
    CHECK(same(&found, &ref));

    /* a buffer that is too small tells the size it needs */
    answer = read_copy(reader, &ref, CAPACITY - 1);
    CHECK_CODE(answer.result, SHMSLOT_E_TOO_LARGE);
    answer = read_copy(reader, &ref, CAPACITY);
    CHECK_OK(answer.result);
    CHECK_U64(answer.length, CAPACITY);
    CHECK_U64(answer.header.sequence, from);
    CHECK_OK(mark_read(reader, &ref, 0));
}

/* With nobody in the mask a sample is nobody's to mark, and its slot is free at once: the last that
 * were committed so are found where they are published, until their slots are used again. */
static void check_empty_mask(shmslot_segment *writer, const struct side *reader, uint64_t from)
{
    shmslot_ref last[SLOTS], found;
    uint64_t i, sum = 0;
    uint32_t slot;
    memset(last, 0, sizeof last);
    for (i = 0; i < 3 * SLOTS; i++) last[i % SLOTS] = commit_text(writer, 0, "nobody's", from + i);
    CHECK_CODE(next_unread(reader, 0, &found), SHMSLOT_E_AGAIN);
    for (slot = 0; slot < SLOTS; slot++) {
        struct answer answer;
        CHECK_OK(published(reader, slot, &found));
        answer = read_header(reader, &found);
        CHECK_OK(answer.result);
        CHECK(answer.header.sequence >= from + 2 * SLOTS);
        CHECK(same(&found, &last[(answer.header.sequence - from) % SLOTS]));
        check_text(reader, &found, "nobody's", answer.header.sequence, 0);
        sum += answer.header.sequence - from;
    }
    CHECK_U64(sum, 2 * SLOTS * SLOTS + SLOTS * (SLOTS - 1) / 2);
    for (i = 0; i < SLOTS; i++) last[i] = reserve(writer, 0x1);
    CHECK(read_header(reader, &found).result == SHMSLOT_E_STALE);
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_ref_discard(writer, &last[i]));
}

static void check_generation(shmslot_segment *writer, const struct side *reader, uint64_t from)
{
    shmslot_ref ref;
    uint32_t last = 0, next = 0;
    CHECK_OK(shmslot_segment_generation(writer, &last));
    ref = commit_text(writer, 0x1, "new", from);
    CHECK_CODE(shmslot_segment_wait_for_change(writer, last, FOR_EVER, &next), SHMSLOT_OK);
    CHECK(next != last);
    CHECK_OK(shmslot_segment_generation(writer, &last));
    CHECK_OK(mark_read(reader, &ref, 0));
    CHECK_CODE(shmslot_segment_wait_for_change(writer, last, FOR_EVER, NULL), SHMSLOT_OK);
    CHECK_OK(shmslot_segment_generation(writer, &last));
    ref = reserve(writer, 0x1);
    CHECK_OK(shmslot_ref_discard(writer, &ref));
    CHECK_CODE(shmslot_segment_wait_for_change(writer, last, FOR_EVER, NULL), SHMSLOT_OK);
    CHECK_OK(shmslot_segment_generation(writer, &last));
    CHECK_CODE(shmslot_segment_wait_for_change(writer, last, AT_ONCE, NULL), SHMSLOT_E_AGAIN);
}

static void check_geometry(shmslot_segment *segment)
{
    uint64_t count = 0, capacity = 0, total = 0;
    CHECK_OK(shmslot_segment_slot_count(segment, &count));
    CHECK_OK(shmslot_segment_slot_capacity(segment, &capacity));
    CHECK_OK(shmslot_segment_slot_total_size(segment, &total));
    CHECK_U64(count, SLOTS);
    CHECK_U64(capacity, CAPACITY);
    CHECK(total >= CAPACITY);
}

static void scenario(shmslot_segment *writer, const struct side *reader)
{
    check_geometry(writer);
    check_copy_and_in_place(writer, reader);
    check_order(writer, reader, 4);
    check_full_and_disconnect(writer, reader, 8);
    check_stale(writer, reader, 12);
    check_bad_arguments(writer, reader, 13);
    check_empty_mask(writer, reader, 14);
    check_scan(writer, reader, 14 + 3 * SLOTS);
    check_generation(writer, reader, 14 + 4 * SLOTS);
}

static void check_two_processes(const shmslot_options *options)
{
    char name[64];
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "ref"), options);
    child other = start_child(serve, name);
    struct side side = {NULL, other.link};
    struct request stop = request_of(STOP, 0, NULL);
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    scenario(segment, &side);
    (void)ask(&side, &stop);
    CHECK_CHILD(other);
    shmslot_segment_close(segment);
}

static void check_local_backend(const shmslot_options *options)
{
    shmslot_segment *segment = NULL;
    struct side side = {NULL, -1};
    CHECK_OK(shmslot_segment_create_local(options, &segment, NULL));
    side.segment = segment;
    scenario(segment, &side);
    shmslot_segment_close(segment);
}

/* What a joined reader has is not the caller's to keep books on, and DROP_OLDEST keeps its own. */
static void check_where_they_do_not_belong(void)
{
    shmslot_options options = options_of(SLOTS, CAPACITY);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_ref ref, found;
    uint32_t index;

    options.max_readers = READERS;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    index = (uint32_t)shmslot_reader_index(reader);
    ref = commit_text(segment, 0x1, "both", 1);
    CHECK_CODE(shmslot_ref_mark_read(segment, &ref, index), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(shmslot_ref_next_unread(segment, index, &found), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(shmslot_ref_mark_reader_disconnected(segment, index), SHMSLOT_E_BAD_INDEX);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);

    options.policy = SHMSLOT_POLICY_DROP_OLDEST;
    segment = make_anonymous(&options);
    CHECK_CODE(shmslot_ref_reserve(segment, 0x1, &ref), SHMSLOT_E_NOT_SUPPORTED);
    shmslot_segment_close(segment);
}

int main(void)
{
    static const uint32_t policies[] = {SHMSLOT_POLICY_FAIL, SHMSLOT_POLICY_BLOCK};
    size_t i;
    check_begin();
    for (i = 0; i < 2; i++) {
        shmslot_options options = options_of(SLOTS, CAPACITY);
        options.max_readers = READERS;
        options.policy = policies[i];
        check_two_processes(&options);
        check_local_backend(&options);
    }
    check_where_they_do_not_belong();
    return 0;
}
