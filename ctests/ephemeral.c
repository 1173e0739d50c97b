/* A segment whose name is removed with its last participant: when it closes, and after kills by the
 * next call that uses the name. The name of a segment with participants is never removed, nor that
 * of another segment. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
/* not under aarch64: the emulator has no single steps */
/* takes minutes: thousands of processes, one after another */
#include "samples.h"
#include "single_steps.h"

static char directory[128], path[256], other_path[256];

static shmslot_options ephemeral(uint32_t if_orphaned)
{
    shmslot_options options = options_of(4, 8);
    options.flags = SHMSLOT_FLAG_EPHEMERAL;
    options.if_orphaned = if_orphaned;
    return options;
}

static shmslot_segment *make(void)
{
    shmslot_options options = ephemeral(SHMSLOT_ORPHANED_REPLACE);
    return make_named(path, &options);
}

static void attach_finds_nothing(void)
{
    shmslot_segment *segment = NULL;
    CHECK_CODE(shmslot_segment_attach(path, NULL, &segment, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK(segment == NULL);
}

static int stay_until_told(int link, void *unused)
{
    shmslot_segment *segment = attach(path);
    (void)unused;
    say(link);
    hear(link);
    CHECK_CODE(shmslot_segment_is_named(segment), 1);
    shmslot_segment_close(segment);
    return 0;
}

static void check_the_last_of_three_takes_it(void)
{
    shmslot_segment *segment = make();
    child others[2];
    int i;
    CHECK_U64(info_of(segment).flags, SHMSLOT_FLAG_EPHEMERAL);
    for (i = 0; i < 2; i++) {
        others[i] = start_child(stay_until_told, NULL);
        hear(others[i].link);
    }
    shmslot_segment_close(segment);
    CHECK_U64(files_in(directory), 1);
    say(others[0].link);
    CHECK_CHILD(others[0]);
    CHECK_U64(files_in(directory), 1);
    say(others[1].link);
    CHECK_CHILD(others[1]);
    CHECK_U64(files_in(directory), 0);
    attach_finds_nothing();
}

/* The mapping, and with it the participant, lives as long as any of them. */
static void check_handles_keep_it(void)
{
    shmslot_segment *segment = make();
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    put(writer, 7);
    sample = hold(reader);
    shmslot_segment_close(segment);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    CHECK_U64(files_in(directory), 1);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_U64(files_in(directory), 0);
}

static void check_an_observer_does_not_keep_it(void)
{
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = make(), *observer = NULL;
    options.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(path, &options, &observer, NULL));
    CHECK_U64(info_of(observer).retired, 0);
    shmslot_segment_close(segment);
    CHECK_U64(files_in(directory), 0);
    CHECK_U64(info_of(observer).retired, 1);
    shmslot_segment_close(observer);
}

static void check_a_forked_child_leaves_it(void)
{
    shmslot_segment *segment = make();
    pid_t pid = fork();
    int status = 0;
    CHECK(pid >= 0);
    if (pid == 0) {
        shmslot_segment_close(segment);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK_CODE(shmslot_segment_is_named(segment), 1);
    shmslot_segment_close(segment);
    CHECK_U64(files_in(directory), 0);
}

static void check_never_the_name_of_another(void)
{
    shmslot_segment *segment = make(), *next;
    CHECK(rename(path, other_path) == 0);
    next = make();
    shmslot_segment_close(segment);
    CHECK_CODE(shmslot_segment_is_named(next), 1);
    CHECK(unlink(other_path) == 0);
    shmslot_segment_close(next);
    CHECK_U64(files_in(directory), 0);
}

/* ---- kills ---- */

static int make_or_attach_and_stay(int link, void *unused)
{
    shmslot_options options = ephemeral(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment *segment = NULL;
    (void)unused;
    CHECK_OK(shmslot_segment_open(path, &options, &segment, NULL));
    put(open_writer(segment), 1);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static void leave_a_dead_one(void)
{
    child others[3];
    int i;
    for (i = 0; i < 3; i++) {
        others[i] = start_child(make_or_attach_and_stay, NULL);
        hear(others[i].link);
    }
    for (i = 0; i < 3; i++) CHECK(kill(others[i].pid, SIGKILL) == 0);
    for (i = 0; i < 3; i++) CHECK_U64((uint64_t)end_child(others[i]), 128 + SIGKILL);
    CHECK_U64(files_in(directory), 1);
}

static void check_attach_after_a_kill(void)
{
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *observer = NULL;
    leave_a_dead_one();
    /* An observer changes nothing. */
    options.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(path, &options, &observer, NULL));
    CHECK_U64(info_of(observer).participants, 3);
    shmslot_segment_close(observer);
    CHECK_U64(files_in(directory), 1);
    attach_finds_nothing();
    CHECK_U64(files_in(directory), 0);
}

static void check_open_after_a_kill(uint32_t if_orphaned, int creates)
{
    shmslot_options options = ephemeral(if_orphaned);
    shmslot_segment *segment = NULL;
    leave_a_dead_one();
    if (creates) {
        CHECK_OK(shmslot_segment_create(path, &options, &segment, NULL));
    } else {
        CHECK_CODE(shmslot_segment_open(path, &options, &segment, NULL), 1);
    }
    CHECK_U64(info_of(segment).participants, 1);
    CHECK_U64(info_of(segment).next_sequence, 1);
    shmslot_segment_close(segment);
    CHECK_U64(files_in(directory), 0);
}

static void check_the_last_one_alive_takes_it(void)
{
    shmslot_segment *segment = make();
    child other = start_child(make_or_attach_and_stay, NULL);
    hear(other.link);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
    shmslot_segment_close(segment);
    CHECK_U64(files_in(directory), 0);
}

/* ---- a kill, or another call, at each step ---- */

static void prepare_nothing(void *unused)
{
    (void)unused;
}

static shmslot_segment *closing;

static void prepare_to_close(void *unused)
{
    (void)unused;
    closing = make();
}

static void close_it(void *unused)
{
    (void)unused;
    shmslot_segment_close(closing);
}

static void attach_to_it(void *unused)
{
    shmslot_segment *segment = NULL;
    (void)unused;
    (void)shmslot_segment_attach(path, NULL, &segment, NULL);
    shmslot_segment_close(segment);
}

static void open_it(void *unused)
{
    shmslot_options options = ephemeral(SHMSLOT_ORPHANED_ADOPT);
    shmslot_segment *segment = NULL;
    (void)unused;
    CHECK_OK(shmslot_segment_open(path, &options, &segment, NULL));
    shmslot_segment_close(segment);
}

static const struct operation {
    const char *name;
    void (*prepare)(void *unused), (*body)(void *unused);
    int beside_dead;
} operations[] = {
    {"close", prepare_to_close, close_it, 0},
    {"attach, close", prepare_nothing, attach_to_it, 1},
    {"open, close", prepare_nothing, open_it, 1},
};

static int try_point(const struct operation *operation, int killed, int point)
{
    shmslot_options options = ephemeral(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment *segment = NULL;
    int at = 0, more = 1, result;
    pid_t pid;
    if (operation->beside_dead) leave_a_dead_one();
    pid = steps_start(operation->prepare, operation->body, NULL, NULL);
    for (; more && at < point; at++) more = steps_next_call(pid);
    if (killed) {
        steps_kill(pid);
        attach_finds_nothing();
        CHECK_U64(files_in(directory), 0);
        return more;
    }
    /* BUSY: the stopped process is just taking the name away. */
    result = shmslot_segment_open(path, &options, &segment, NULL);
    CHECK(result >= 0 || result == SHMSLOT_E_NAME_BUSY);
    if (more) {
        while (steps_next_call(pid)) {}
    }
    if (segment != NULL) {
        CHECK_CODE(shmslot_segment_is_named(segment), 1);
        CHECK_U64(info_of(segment).retired, 0);
    }
    shmslot_segment_close(segment);
    CHECK_U64(files_in(directory), 0);
    steps_kill(pid);
    return more;
}

static void check_each_step(int killed)
{
    size_t i;
    for (i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        int point = 1;
        alarm(CHECK_WATCHDOG_S);
        while (check_note("%s, point %d", operations[i].name, point),
               try_point(&operations[i], killed, point)) {
            point++;
        }
        CHECK(point > 5);
    }
    check_note("%s", "");
}

/* ---- at random ---- */

static int come_and_go(int link, void *seed_of_it)
{
    unsigned seed = *(unsigned *)seed_of_it;
    int round;
    (void)link;
    for (round = 0; round < 3000; round++) {
        shmslot_options options =
            ephemeral(round & 1 ? SHMSLOT_ORPHANED_ADOPT : SHMSLOT_ORPHANED_REPLACE);
        shmslot_segment *segment = NULL;
        int result;
        seed = seed * 1103515245u + 12345u;
        if (seed >> 16 & 1) {
            CHECK_OK(shmslot_segment_open(path, &options, &segment, NULL));
        } else {
            result = shmslot_segment_attach(path, NULL, &segment, NULL);
            CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_NOT_FOUND);
        }
        if (segment == NULL) continue;
        /* Nobody unlinks: while this process is attached, the name leads to the segment. */
        CHECK_CODE(shmslot_segment_is_named(segment), 1);
        CHECK_U64(info_of(segment).retired, 0);
        shmslot_segment_close(segment);
    }
    return 0;
}

static void check_at_random(void)
{
    unsigned seeds[3] = {17, 18, 19};
    child racers[3];
    int i;
    for (i = 0; i < 3; i++) racers[i] = start_child(come_and_go, &seeds[i]);
    for (i = 0; i < 3; i++) CHECK_CHILD(racers[i]);
    attach_finds_nothing();
    CHECK_U64(files_in(directory), 0);
}

CHECK_MAIN()
{
    steps_begin();
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    own_path(other_path, sizeof other_path, directory, "other");
    RUN(check_the_last_of_three_takes_it());
    RUN(check_handles_keep_it());
    RUN(check_an_observer_does_not_keep_it());
    RUN(check_a_forked_child_leaves_it());
    RUN(check_never_the_name_of_another());
    RUN(check_attach_after_a_kill());
    RUN(check_open_after_a_kill(SHMSLOT_ORPHANED_REPLACE, 0));
    RUN(check_open_after_a_kill(SHMSLOT_ORPHANED_ADOPT, 0));
    RUN(check_open_after_a_kill(SHMSLOT_ORPHANED_REFUSE, 0));
    RUN(check_open_after_a_kill(SHMSLOT_ORPHANED_REFUSE, 1));
    RUN(check_the_last_one_alive_takes_it());
    RUN(check_each_step(0));
    RUN(check_each_step(1));
    RUN(check_at_random());
}
