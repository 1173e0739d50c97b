/* Readers of the reference operations: what each is shown, whatever goes on for others; and whose
 * an index is. */
#include "samples.h"

#include <pthread.h>
#include <stdbool.h>

enum { SLOTS = 8, READERS = 4 };

static shmslot_segment *make(void)
{
    shmslot_options options = options_of(SLOTS, 64);
    options.max_readers = READERS;
    return make_anonymous(&options);
}

static shmslot_ref commit(shmslot_segment *segment, uint64_t active_readers, uint64_t value)
{
    shmslot_ref ref;
    CHECK_OK(shmslot_ref_reserve(segment, active_readers, &ref));
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, &value, sizeof value, NULL));
    return ref;
}

/* Samples that pass by and are for another. */
static void pass(shmslot_segment *segment, uint64_t active_readers, uint32_t reader, int count)
{
    while (count-- > 0) {
        shmslot_ref ref = commit(segment, active_readers, 0);
        CHECK_OK(shmslot_ref_mark_read(segment, &ref, reader));
    }
}

static void check_next(shmslot_segment *segment, uint32_t reader, uint64_t value)
{
    shmslot_ref ref;
    uint64_t got = 0;
    CHECK_OK(shmslot_ref_next_unread(segment, reader, &ref));
    CHECK_OK(shmslot_ref_read_copy(segment, &ref, NULL, &got, sizeof got, NULL));
    CHECK_U64(got, value);
}

static void mark_next(shmslot_segment *segment, uint32_t reader, uint64_t value)
{
    shmslot_ref ref;
    check_next(segment, reader, value);
    CHECK_OK(shmslot_ref_next_unread(segment, reader, &ref));
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, reader));
}

static size_t count_free(shmslot_segment *segment, uint64_t active_readers)
{
    shmslot_ref refs[SLOTS + 1];
    size_t count = 0, i;
    while (shmslot_ref_reserve(segment, active_readers, &refs[count]) == SHMSLOT_OK) count++;
    for (i = 0; i < count; i++) CHECK_OK(shmslot_ref_discard(segment, &refs[i]));
    return count;
}

/* It stays the answer until it is marked, though its place in the order is overwritten many times
 * over. Asked all the time, or only at the end, by another attachment as well. */
static void check_old_samples(bool ask)
{
    shmslot_segment *segment = make();
    shmslot_segment *other = NULL;
    shmslot_ref ref;
    int fd;
    uint64_t value;
    for (value = 1; value < SLOTS; value++) {
        int i;
        commit(segment, 0x1, value);
        for (i = 0; i < 5 * SLOTS + 1; i++) {
            pass(segment, 0x2, 1, 1);
            if (ask) check_next(segment, 0, 1);
        }
    }
    CHECK_U64(count_free(segment, 0x1), 1);
    fd = shmslot_segment_fd(segment);
    CHECK(fd >= 0);
    CHECK_OK(shmslot_segment_attach_fd(fd, NULL, &other, NULL));
    check_next(other, 0, 1);
    for (value = 1; value < SLOTS; value++) mark_next(value % 2 ? segment : other, 0, value);
    CHECK_CODE(shmslot_ref_next_unread(segment, 0, &ref), SHMSLOT_E_AGAIN);
    CHECK_CODE(shmslot_ref_next_unread(other, 0, &ref), SHMSLOT_E_AGAIN);
    CHECK_U64(count_free(segment, 0x3), SLOTS);
    commit(segment, 0x1, 100);
    mark_next(other, 0, 100);
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
}

/* Old samples first, then those that are still in the order. */
static void check_old_and_new(void)
{
    shmslot_segment *segment = make();
    shmslot_ref ref;
    commit(segment, 0x1, 1);
    pass(segment, 0x2, 1, 1);
    commit(segment, 0x5, 2);
    pass(segment, 0x2, 1, 3 * SLOTS);
    commit(segment, 0x1, 3);
    pass(segment, 0x2, 1, 3);
    commit(segment, 0x4, 4);
    commit(segment, 0x1, 5);
    mark_next(segment, 0, 1);
    mark_next(segment, 0, 2);
    mark_next(segment, 0, 3);
    mark_next(segment, 0, 5);
    CHECK_CODE(shmslot_ref_next_unread(segment, 0, &ref), SHMSLOT_E_AGAIN);
    mark_next(segment, 2, 2);
    mark_next(segment, 2, 4);
    CHECK_CODE(shmslot_ref_next_unread(segment, 2, &ref), SHMSLOT_E_AGAIN);
    shmslot_segment_close(segment);
}

/* An index that was named once is not a joined reader's, in whatever way it was named; and the
 * other way round. */
static void check_joining(void)
{
    shmslot_segment *segment = make();
    shmslot_reader *first, *second, *third = NULL;
    shmslot_ref ref;
    commit(segment, 0x8, 1); /* the row that a reader would get */
    first = join(segment, 0);
    CHECK_U64((uint64_t)shmslot_reader_index(first), 2);
    CHECK_CODE(shmslot_ref_next_unread(segment, 1, &ref), SHMSLOT_E_AGAIN);
    second = join(segment, 0);
    CHECK_U64((uint64_t)shmslot_reader_index(second), 0);
    CHECK_CODE(shmslot_reader_join(segment, 0, &third, NULL), SHMSLOT_E_NO_READER_SLOT);
    CHECK_CODE(shmslot_ref_reserve(segment, 0x4, &ref), SHMSLOT_E_BAD_INDEX);
    CHECK_CODE(shmslot_ref_reserve(segment, 0x9, &ref), SHMSLOT_E_BAD_INDEX);
    mark_next(segment, 3, 1);
    /* Given up, it may join, and nothing of the former reader is left. */
    commit(segment, 0x2, 2);
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 1));
    third = join(segment, 0);
    CHECK_U64((uint64_t)shmslot_reader_index(third), 1);
    check_nothing_to_read(third);
    CHECK_CODE(shmslot_ref_reserve(segment, 0x2, &ref), SHMSLOT_E_BAD_INDEX);
    shmslot_reader_leave(third);
    commit(segment, 0x2, 3);
    mark_next(segment, 1, 3);
    shmslot_reader_leave(first);
    shmslot_reader_leave(second);
    shmslot_segment_close(segment);
}

static size_t count_free_to_writers(shmslot_segment *segment)
{
    shmslot_writer *writer = open_writer(segment);
    shmslot_loan loan;
    size_t count = 0;
    while (shmslot_slot_reserve(writer, 1, AT_ONCE, &loan) == SHMSLOT_OK) count++;
    shmslot_writer_close(writer);
    return count;
}

/* A commit for a reader that was given up since its reserve: owed to nobody, and its slot is
 * free. */
static void check_gone_before_commit(void)
{
    shmslot_segment *segment = make();
    shmslot_ref ref, found;
    shmslot_ref_header header;
    uint64_t value = 1;
    CHECK_OK(shmslot_ref_reserve(segment, 0x3, &ref));
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 0));
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, &value, sizeof value, NULL));
    CHECK_OK(shmslot_ref_read_header(segment, &ref, &header));
    CHECK_U64(header.unread, 0x2);
    CHECK_U64(header.audience, 0x3);
    CHECK_CODE(shmslot_ref_next_unread(segment, 0, &found), SHMSLOT_E_AGAIN);
    CHECK_U64(count_free_to_writers(segment), SLOTS - 1);
    mark_next(segment, 1, 1);
    CHECK_U64(count_free_to_writers(segment), SLOTS);
    /* To a number that is used again it is owed. */
    CHECK_OK(shmslot_ref_reserve(segment, 0x1, &ref));
    CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 0));
    CHECK_CODE(shmslot_ref_next_unread(segment, 0, &found), SHMSLOT_E_AGAIN);
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, &value, sizeof value, NULL));
    mark_next(segment, 0, 1);
    CHECK_U64(count_free_to_writers(segment), SLOTS);
    shmslot_segment_close(segment);
}

struct race {
    shmslot_segment *segment;
    pthread_barrier_t start;
};

/* The same while both are under way, from threads: no slot is lost. */
static void *give_up(void *argument)
{
    struct race *race = argument;
    pthread_barrier_wait(&race->start);
    CHECK_OK(shmslot_ref_mark_reader_disconnected(race->segment, 0));
    return NULL;
}

static void check_goes_during_commit(void)
{
    int round;
    for (round = 0; round < 300; round++) {
        shmslot_options options = options_of(SLOTS, 64);
        struct race race;
        pthread_t thread;
        shmslot_ref ref;
        CHECK_OK(shmslot_segment_create_local(&options, &race.segment, NULL));
        CHECK_OK(shmslot_ref_reserve(race.segment, 0x1, &ref));
        CHECK(pthread_barrier_init(&race.start, NULL, 2) == 0);
        CHECK(pthread_create(&thread, NULL, give_up, &race) == 0);
        pthread_barrier_wait(&race.start);
        CHECK_OK(shmslot_ref_commit_copy(race.segment, &ref, "for 0", 5, NULL));
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_U64(count_free_to_writers(race.segment), SLOTS);
        pthread_barrier_destroy(&race.start);
        shmslot_segment_close(race.segment);
    }
}

/* ---- the same index, taken by both at once ---- */

static void *name_all(void *argument)
{
    struct race *race = argument;
    shmslot_ref ref;
    int result;
    pthread_barrier_wait(&race->start);
    result = shmslot_ref_reserve(race->segment, 0x3, &ref);
    if (result == SHMSLOT_OK)
        CHECK_OK(shmslot_ref_commit_copy(race->segment, &ref, "named", 5, NULL));
    CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_BAD_INDEX);
    return result == SHMSLOT_OK ? race : NULL;
}

/* Either the namer is told, or the reader does not get in, and what was committed for the index is
 * there. */
static void check_race(void)
{
    int round;
    for (round = 0; round < 300; round++) {
        shmslot_options options = options_of(SLOTS, 64);
        struct race race;
        pthread_t thread;
        shmslot_reader *reader = NULL;
        void *named = NULL;
        int joined;
        options.max_readers = 2;
        CHECK_OK(shmslot_segment_create_local(&options, &race.segment, NULL));
        CHECK(pthread_barrier_init(&race.start, NULL, 2) == 0);
        CHECK(pthread_create(&thread, NULL, name_all, &race) == 0);
        pthread_barrier_wait(&race.start);
        joined = shmslot_reader_join(race.segment, 0, &reader, NULL);
        CHECK(pthread_join(thread, &named) == 0);
        CHECK(joined == SHMSLOT_OK ? named == NULL : joined == SHMSLOT_E_NO_READER_SLOT);
        if (named != NULL) {
            shmslot_ref ref;
            CHECK_OK(shmslot_ref_next_unread(race.segment, 0, &ref));
            CHECK_OK(shmslot_ref_next_unread(race.segment, 1, &ref));
        }
        if (reader != NULL) shmslot_reader_leave(reader);
        pthread_barrier_destroy(&race.start);
        shmslot_segment_close(race.segment);
    }
}

CHECK_MAIN()
{
    RUN(check_old_samples(false));
    RUN(check_old_samples(true));
    RUN(check_old_and_new());
    RUN(check_joining());
    RUN(check_gone_before_commit());
    RUN(check_goes_during_commit());
    RUN(check_race());
}
