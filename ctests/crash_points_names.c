/* As crash_points.c, for what happens to names: create, replace, open, unlink. After a kill at any
 * point a name leads to a whole segment or to nothing, the next comer gets a segment under it, and
 * no other file is left. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
/* not under musl: it takes minutes, and the C library has no part in what it looks at */
/* not under aarch64: the emulator has no single steps */
/* takes minutes: thousands of processes, one after another */
#include "samples.h"
#include "single_steps.h"


struct scenario {
    const char *operation_name;
    void (*before)(const char *path);
    void (*operation)(void *path);
};

static int make_and_stay(int link, void *path)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(path, &options);
    CHECK_U64(put(open_writer(segment), 1), 1);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static void leave_nothing(const char *path)
{
    (void)path;
}

static void leave_a_dead_segment(const char *path)
{
    child other = start_child(make_and_stay, (void *)path);
    hear(other.link);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
}

static void create_it(void *path)
{
    shmslot_options options = options_of(2, 8);
    (void)make_named(path, &options);
}

static void adopt_it(void *path)
{
    shmslot_options options = options_of(2, 8);
    options.if_orphaned = SHMSLOT_ORPHANED_ADOPT;
    (void)make_named(path, &options);
}

static void open_it(void *path)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_open(path, &options, &segment, NULL));
}

static void attach_to_it(void *path)
{
    (void)attach(path);
}

static void unlink_it(void *path)
{
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static void prepare_nothing(void *path)
{
    (void)path;
}

static void check_name(const char *directory, const char *path)
{
    shmslot_segment *segment = NULL, *again = NULL;
    shmslot_reader *reader;
    int result = shmslot_segment_attach(path, NULL, &segment, NULL), files = (int)files_in(directory);
    CHECK_U64((uint64_t)files, result == SHMSLOT_OK ? 1 : 0);
    if (result == SHMSLOT_OK) {
        CHECK_U64(info_of(segment).slot_count, 2);
        CHECK_U64(info_of(segment).participants, 1); /* the dead are gone with the attach */
        shmslot_segment_close(segment);
    } else {
        CHECK_CODE(result, SHMSLOT_E_NOT_FOUND);
    }
    CHECK_OK(shmslot_segment_open(path, NULL, &segment, NULL));
    CHECK_OK(shmslot_segment_attach(path, NULL, &again, NULL));
    reader = join(again, 0);
    CHECK(put(open_writer(segment), 5) >= 1);
    CHECK_U64(take(reader), 5);
    CHECK_U64(files_in(directory), 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    CHECK_U64(files_in(directory), 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(again);
    shmslot_segment_close(segment);
}

static int try_point(const struct scenario *scenario, int kill_at, const char *directory,
                     const char *path)
{
    int point = 0, more = 1;
    pid_t pid;
    scenario->before(path);
    pid = steps_start(prepare_nothing, scenario->operation, NULL, (void *)path);
    for (; more && point < kill_at; point++) more = steps_next_call(pid);
    steps_kill(pid);
    check_name(directory, path);
    return more;
}

static const struct scenario scenarios[] = {
    {"create", leave_nothing, create_it},
    {"create over a dead one", leave_a_dead_segment, create_it},
    {"adopt a dead one", leave_a_dead_segment, adopt_it},
    {"open, nothing there", leave_nothing, open_it},
    {"open over a dead one", leave_a_dead_segment, open_it},
    {"attach to a dead one", leave_a_dead_segment, attach_to_it},
    {"unlink", leave_a_dead_segment, unlink_it},
};

int main(void)
{
    char directory[128], path[256];
    size_t i;
    check_begin();
    steps_begin();
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    printf("%-24s %6s\n", "operation", "points");
    for (i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        int point = 1;
        alarm(CHECK_WATCHDOG_S);
        while (check_note("%s, point %d", scenarios[i].operation_name, point),
               try_point(&scenarios[i], point, directory, path)) {
            point++;
        }
        CHECK(point > 5); /* each of them calls the system several times */
        printf("%-24s %6d  passed\n", scenarios[i].operation_name, point);
        (void)fflush(stdout);
    }
    return 0;
}
