/* Reference operations: who reads is no writer, and what holds for a writer holds for them. */
#include "samples.h"

enum { SLOTS = 4, READERS = 4 };

static shmslot_ref commit(shmslot_segment *segment, uint64_t active_readers, uint64_t value)
{
    shmslot_ref ref;
    CHECK_OK(shmslot_ref_reserve(segment, active_readers, &ref));
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, &value, sizeof value, NULL));
    return ref;
}

static uint64_t value_at(shmslot_segment *segment, const shmslot_ref *ref)
{
    uint64_t value = 0;
    size_t length = 0;
    const void *data = NULL;
    shmslot_ref_header header;
    CHECK_OK(shmslot_ref_read_ptr(segment, ref, &data, &length));
    CHECK_U64(length, sizeof value);
    CHECK_OK(shmslot_ref_read_copy(segment, ref, &header, &value, sizeof value, NULL));
    CHECK(memcmp(data, &value, sizeof value) == 0);
    CHECK_U64(header.len, sizeof value);
    return value;
}

static shmslot_options options_for(uint32_t flags)
{
    shmslot_options options = options_of(SLOTS, 64);
    options.max_readers = READERS;
    options.flags = flags;
    return options;
}

static uint32_t writers_of(shmslot_segment *segment, int pid)
{
    shmslot_participant participants[8];
    size_t count = 0;
    CHECK_OK(
        shmslot_segment_participants(segment, participants, sizeof participants[0], 8, &count));
    while (count > 0 && participants[count - 1].pid != (uint32_t)pid) count--;
    CHECK(count > 0);
    return participants[count - 1].writers;
}

/* Does with the samples of another process all that a reader does. */
static int read_all(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_ref ref, published;
    uint32_t slot;
    uint64_t value;
    for (value = 1; value <= 2; value++) {
        hear(link);
        CHECK_OK(shmslot_ref_next_unread(segment, 1, &ref));
        CHECK_U64(value_at(segment, &ref), value);
        for (slot = 0; slot < SLOTS; slot++) {
            if (shmslot_ref_published(segment, slot, &published) == SHMSLOT_OK &&
                published.token == ref.token)
                break;
        }
        CHECK(slot < SLOTS);
        CHECK_OK(shmslot_ref_mark_read(segment, &ref, 1));
        CHECK_CODE(shmslot_ref_next_unread(segment, 1, &ref), SHMSLOT_E_AGAIN);
        CHECK_CODE(shmslot_ref_discard(segment, &ref), SHMSLOT_E_STALE);
        say(link);
    }
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 1));
    say(link);
    hear(link); /* the writer is closed */
    CHECK_U64(writers_of(segment, getpid()), 0);
    say(link);
    hear(link);
    shmslot_segment_close(segment);
    return 0;
}

static void check_readers_are_no_writers(uint32_t flags)
{
    char name[64];
    shmslot_options options = options_for(flags);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "roles"), &options);
    shmslot_segment *last = attach(name);
    shmslot_reader *joined = join(segment, 0);
    child other = start_child(read_all, name);
    shmslot_ref ref;

    CHECK_OK(shmslot_reader_end_waits(joined, SHMSLOT_END_NO_WRITERS));
    (void)commit(last, 0x2, 1);
    say(other.link);
    hear(other.link);
    /* It is still this one's place. */
    if ((flags & SHMSLOT_FLAG_SINGLE_WRITER) != 0)
        CHECK_CODE(shmslot_ref_reserve(segment, 0x2, &ref), SHMSLOT_E_WRITER_EXISTS);
    (void)commit(last, 0x2, 2);
    say(other.link);
    hear(other.link);
    hear(other.link);
    CHECK_U64(take(joined), 1);
    CHECK_U64(take(joined), 2);

    /* The other reads on, and the last writer is gone. */
    shmslot_segment_close(last);
    CHECK_CODE(shmslot_wait(joined, FOR_EVER), SHMSLOT_E_NO_WRITERS);
    CHECK_U64(writers_of(segment, getpid()), 0);
    say(other.link);
    hear(other.link);
    CHECK_U64(writers_of(segment, other.pid), 0);
    (void)commit(segment, 0x1, 3);
    CHECK_U64(writers_of(segment, getpid()), 1);
    say(other.link);
    CHECK_CHILD(other);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_reader_leave(joined);
    shmslot_segment_close(segment);
}

/* Who is attached to look reads what stands in the slots, and changes nothing. */
static int look(int link, void *name)
{
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_ref ref, other;
    (void)link;
    options.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(name, &options, &segment, NULL));
    CHECK_OK(shmslot_ref_published(segment, 1, &ref)); /* the home of the first sequence */
    CHECK_U64(value_at(segment, &ref), 5);
    CHECK_CODE(shmslot_ref_published(segment, 2, &other), SHMSLOT_E_AGAIN);
    CHECK_CODE(shmslot_ref_next_unread(segment, 0, &other), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_ref_mark_read(segment, &ref, 0), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_ref_mark_reader_disconnected(segment, 0), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_ref_reserve(segment, 0, &other), SHMSLOT_E_NOT_SUPPORTED);
    shmslot_segment_close(segment);
    return 0;
}

static void check_lookers(void)
{
    char name[64];
    shmslot_options options = options_for(0);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "look"), &options);
    shmslot_ref ref = commit(segment, 0x1, 5);
    CHECK_U64((uint64_t)run_child(look, name), 0);
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

/* The limit of loans counts these, too: what is reserved, until it is committed or given back. */
static void check_limit(void)
{
    shmslot_options options = options_for(0);
    shmslot_segment *segment;
    shmslot_ref refs[2], more;
    int round;
    options.max_loans = 2;
    segment = make_anonymous(&options);
    for (round = 0; round < 3; round++) {
        CHECK_OK(shmslot_ref_reserve(segment, 0, &refs[0]));
        CHECK_OK(shmslot_ref_reserve(segment, 0, &refs[1]));
        CHECK_CODE(shmslot_ref_reserve(segment, 0, &more), SHMSLOT_E_LOAN_LIMIT);
        CHECK_OK(shmslot_ref_discard(segment, &refs[0]));
        CHECK_CODE(shmslot_ref_discard(segment, &refs[0]), SHMSLOT_E_STALE);
        CHECK_OK(shmslot_ref_reserve(segment, 0, &refs[0]));
        CHECK_CODE(shmslot_ref_reserve(segment, 0, &more), SHMSLOT_E_LOAN_LIMIT);
        CHECK_OK(shmslot_ref_commit_in_place(segment, &refs[1], 1, NULL));
        CHECK_CODE(shmslot_ref_commit_in_place(segment, &refs[1], 1, NULL), SHMSLOT_E_STALE);
        /* not counted */
        CHECK_CODE(shmslot_ref_reserve(segment, UINT64_C(1) << READERS, &more),
                   SHMSLOT_E_BAD_INDEX);
        CHECK_OK(shmslot_ref_reserve(segment, 0, &refs[1]));
        CHECK_CODE(shmslot_ref_reserve(segment, 0, &more), SHMSLOT_E_LOAN_LIMIT);
        CHECK_OK(shmslot_ref_commit_copy(segment, &refs[0], "x", 1, NULL));
        CHECK_OK(shmslot_ref_discard(segment, &refs[1]));
    }
    shmslot_segment_close(segment);
}

static int die_with_all_slots(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_ref ref;
    int i;
    (void)link;
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_ref_reserve(segment, 0x1, &ref));
    CHECK_CODE(shmslot_ref_reserve(segment, 0x1, &ref), SHMSLOT_E_NO_FREE_SLOT);
    _exit(0);
}

/* What the dead had reserved is found by whoever reserves, without being asked to recover. */
static void check_loans_of_the_dead(void)
{
    char name[64];
    shmslot_options options = options_for(0);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "dead"), &options);
    shmslot_ref ref;
    int result;
    CHECK_U64((uint64_t)run_child(die_with_all_slots, name), 0);
    /* The look for the dead is due once a millisecond. */
    while ((result = shmslot_ref_reserve(segment, 0x1, &ref)) == SHMSLOT_E_NO_FREE_SLOT)
        usleep(1000);
    CHECK_OK(result);
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, "x", 1, NULL));
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_readers_are_no_writers(0));
    RUN(check_readers_are_no_writers(SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_lookers());
    RUN(check_limit());
    RUN(check_loans_of_the_dead());
}
