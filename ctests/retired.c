/* A segment that has lost its name still works for attached processes, while a process that uses
 * the name gets another segment. Attached processes can notice: by info, by asking for the name, or
 * by an end of waits. An unlink reports it at once; what others do to the file (rm, mv) is found by
 * checking. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
/* not under aarch64: the emulator has no single steps */
#include "samples.h"
#include "single_steps.h"

static char directory[128], path[256], other_path[256];

static shmslot_segment *make(void)
{
    shmslot_options options = options_of(4, 8);
    return make_named(path, &options);
}

static shmslot_segment *observe(void)
{
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    options.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(path, &options, &segment, NULL));
    return segment;
}

static shmslot_reader *join_for_good(shmslot_segment *segment)
{
    shmslot_reader *reader = join(segment, 0);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_RETIRED));
    return reader;
}

#define CHECK_STATE(segment, retired_, named)                                                      \
    do {                                                                                           \
        CHECK_U64(info_of(segment).retired, retired_);                                             \
        CHECK_CODE(shmslot_segment_is_named(segment), named);                                      \
    } while (0)

static void check_an_unlink_is_told_to_all(void)
{
    shmslot_segment *one = make(), *two = attach(path), *observer = observe();
    uint32_t before = 0, after = 0;
    CHECK_STATE(one, 0, 1);
    CHECK_STATE(two, 0, 1);
    CHECK_STATE(observer, 0, 1);
    CHECK_OK(shmslot_segment_generation(one, &before));
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    CHECK_STATE(one, 1, 0);
    CHECK_STATE(two, 1, 0);
    CHECK_STATE(observer, 1, 0);
    /* It has rung: sleepers need not wait for their slice to end. */
    CHECK_OK(shmslot_segment_generation(one, &after));
    CHECK(after != before);
    shmslot_segment_close(observer);
    shmslot_segment_close(two);
    shmslot_segment_close(one);
}

static void check_without_a_name(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *anonymous = make_anonymous(&options), *local = NULL;
    shmslot_reader *reader = join_for_good(anonymous);
    CHECK_OK(shmslot_segment_create_local(&options, &local, NULL));
    CHECK_CODE(shmslot_segment_is_named(anonymous), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_segment_is_named(local), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_U64(info_of(anonymous).retired, 0);
    CHECK(shmslot_wait(reader, MILLISECOND) == SHMSLOT_E_TIMEOUT);
    shmslot_reader_leave(reader);
    shmslot_segment_close(local);
    shmslot_segment_close(anonymous);
}

static void check_samples_come_first(void)
{
    shmslot_segment *segment = make();
    shmslot_reader *reader = join_for_good(segment);
    shmslot_writer *writer = open_writer(segment);
    put(writer, 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    put(writer, 2);
    CHECK_U64(take_wait(reader), 1);
    CHECK_U64(take_wait(reader), 2);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_RETIRED);
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_RETIRED);
    CHECK_OK(shmslot_reader_end_waits(reader, 0));
    CHECK(shmslot_wait(reader, MILLISECOND) == SHMSLOT_E_TIMEOUT);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* A writer that waits for a slot, or for readers, and one that waits for a change. */
static void check_writers_and_changes(void)
{
    shmslot_segment *segment = make();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan;
    uint32_t generation = 0;
    CHECK_OK(shmslot_writer_end_waits(writer, SHMSLOT_END_RETIRED));
    CHECK_OK(shmslot_segment_end_waits(segment, SHMSLOT_END_RETIRED));
    CHECK(shmslot_wait_readers(writer, 2, MILLISECOND, NULL) == SHMSLOT_E_TIMEOUT);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    while (shmslot_slot_reserve(writer, 8, AT_ONCE, &loan) == 0) { /* a free slot comes first */
        CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    }
    CHECK_CODE(shmslot_slot_reserve(writer, 8, FOR_EVER, &loan), SHMSLOT_E_RETIRED);
    CHECK_CODE(shmslot_wait_space(writer, FOR_EVER), SHMSLOT_E_RETIRED);
    CHECK_CODE(shmslot_wait_readers(writer, 2, FOR_EVER, NULL), SHMSLOT_E_RETIRED);
    CHECK_OK(shmslot_segment_generation(segment, &generation));
    CHECK_CODE(shmslot_segment_wait_for_change(segment, generation, FOR_EVER, NULL),
               SHMSLOT_E_RETIRED);
    CHECK_OK(shmslot_writer_end_waits(writer, 0));
    CHECK_CODE(shmslot_wait_space(writer, MILLISECOND), SHMSLOT_E_TIMEOUT);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static int wait_for_the_end(int link, void *unused)
{
    shmslot_segment *segment = attach(path);
    shmslot_reader *reader = join_for_good(segment);
    (void)unused;
    say(link);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_RETIRED);
    CHECK_STATE(segment, 1, 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

/* As a program without the library does, or one that was killed before it could record it. */
static void remove_file(void)
{
    CHECK(unlink(path) == 0);
}

static void unlink_it_well(void)
{
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static void check_sleepers_end(void (*take_away)(void))
{
    shmslot_segment *segment = make();
    child waiting[2];
    int i;
    for (i = 0; i < 2; i++) {
        waiting[i] = start_child(wait_for_the_end, NULL);
        hear(waiting[i].link);
        until_asleep(waiting[i].pid);
    }
    take_away();
    for (i = 0; i < 2; i++) CHECK_CHILD(waiting[i]);
    /* The process that found it has told the others. */
    CHECK_STATE(segment, 1, 0);
    shmslot_segment_close(segment);
}

static void check_a_new_segment_under_the_name(void)
{
    shmslot_segment *segment = make(), *next;
    CHECK(unlink(path) == 0);
    next = make();
    CHECK_CODE(shmslot_segment_is_named(segment), 0);
    CHECK_STATE(next, 0, 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    CHECK_STATE(next, 1, 0);
    shmslot_segment_close(next);
    shmslot_segment_close(segment);
}

/* It still has a name, but another one: nothing is recorded in the segment. */
static void check_a_file_that_was_moved(void)
{
    shmslot_segment *segment = make(), *second;
    shmslot_reader *reader = join_for_good(segment);
    CHECK(rename(path, other_path) == 0);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_RETIRED);
    CHECK_CODE(shmslot_wait(reader, AT_ONCE), SHMSLOT_E_RETIRED);
    CHECK_STATE(segment, 0, 0);
    CHECK(rename(other_path, path) == 0);
    CHECK_STATE(segment, 0, 1);
    CHECK(shmslot_wait(reader, MILLISECOND) == SHMSLOT_E_TIMEOUT);
    second = attach(path);
    shmslot_segment_close(second);
    /* A second name: removing one leaves the segment attachable. */
    CHECK(link(path, other_path) == 0);
    CHECK_OK(shmslot_segment_unlink(other_path, NULL));
    CHECK_STATE(segment, 0, 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    CHECK_STATE(segment, 1, 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_a_replaced_one_is_retired(void)
{
    shmslot_segment *segment = make(), *observer = observe();
    shmslot_segment_close(segment);
    CHECK_STATE(observer, 0, 1);
    segment = make();
    CHECK_STATE(observer, 1, 0);
    CHECK_STATE(segment, 0, 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(observer);
    shmslot_segment_close(segment);
}

static void check_who_may_only_read_unlinks(void)
{
    shmslot_segment *segment = make();
    shmslot_reader *reader = join_for_good(segment);
    if (geteuid() == 0) { /* root may always write */
        unlink_it_well();
    } else {
        CHECK(chmod(path, 0400) == 0);
        unlink_it_well();
    }
    CHECK_CODE(shmslot_segment_is_named(segment), 0);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_RETIRED);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_a_forked_child_is_told(void)
{
    shmslot_segment *segment = make();
    pid_t pid = fork();
    int status = 0;
    CHECK(pid >= 0);
    if (pid == 0) _exit(shmslot_segment_is_named(segment) == SHMSLOT_E_FORKED ? 0 : 1);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    unlink_it_well();
    shmslot_segment_close(segment);
}

/* ---- a process that takes the name away is killed at each of its steps ---- */

static void prepare_nothing(void *unused)
{
    (void)unused;
}

static void unlink_in_steps(void *unused)
{
    (void)unused;
    (void)shmslot_segment_unlink(path, NULL);
}

/* Finds an attached process, and leaves the name. */
static void create_in_steps(void *unused)
{
    shmslot_segment *segment = NULL;
    (void)unused;
    (void)shmslot_segment_create(path, NULL, &segment, NULL);
}

static int is_there(const shmslot_segment *segment)
{
    struct stat named, own;
    CHECK(fstat(shmslot_segment_fd(segment), &own) == 0);
    return lstat(path, &named) == 0 && named.st_ino == own.st_ino;
}

static int try_point(void (*operation)(void *unused), int point)
{
    shmslot_segment *segment = make(), *next = NULL;
    shmslot_reader *reader = join_for_good(segment);
    int at = 0, more = 1;
    pid_t pid = steps_start(prepare_nothing, operation, NULL, NULL);
    for (; more && at < point; at++) more = steps_next_call(pid);
    steps_kill(pid);
    if (is_there(segment)) {
        /* Never marked while it has its name. */
        CHECK_STATE(segment, 0, 1);
        CHECK(shmslot_wait(reader, MILLISECOND) == SHMSLOT_E_TIMEOUT);
        next = attach(path);
        CHECK_U64(info_of(next).segment_id, info_of(segment).segment_id);
        CHECK_OK(shmslot_segment_unlink(path, NULL));
    } else {
        CHECK_OK(shmslot_segment_open(path, NULL, &next, NULL));
        CHECK(info_of(next).segment_id != info_of(segment).segment_id);
        CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_RETIRED);
        CHECK_STATE(next, 0, 1);
        CHECK_OK(shmslot_segment_unlink(path, NULL));
    }
    CHECK_STATE(segment, 1, 0);
    shmslot_segment_close(next);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return more;
}

static void check_killed(void (*operation)(void *unused))
{
    int point = 1;
    while (check_note("point %d", point), try_point(operation, point)) point++;
    CHECK(point > 5);
    check_note("%s", "");
}

CHECK_MAIN()
{
    steps_begin();
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    own_path(other_path, sizeof other_path, directory, "other");
    RUN(check_an_unlink_is_told_to_all());
    RUN(check_without_a_name());
    RUN(check_samples_come_first());
    RUN(check_writers_and_changes());
    RUN(check_sleepers_end(unlink_it_well));
    RUN(check_sleepers_end(remove_file));
    RUN(check_a_new_segment_under_the_name());
    RUN(check_a_file_that_was_moved());
    RUN(check_a_replaced_one_is_retired());
    RUN(check_who_may_only_read_unlinks());
    RUN(check_a_forked_child_is_told());
    RUN(check_killed(unlink_in_steps));
    RUN(check_killed(create_in_steps));
}
