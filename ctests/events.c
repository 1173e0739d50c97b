/* Readers and writers in event loops: one descriptor each, readable when there may be something to
 * do. Every loop here sleeps without limit, so a lost wake ends the program by its watchdog. */
/* not under musl: a static program has no second syscall(), which the one below calls */
/* not under aarch64: the emulator tells of no accesses to files */
#include "event_loop.h"
#include "faults.h"
#include "own_syscall.h"

#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/select.h>

#define SAMPLES 20000

/* Reads all that is there, in order; returns how many there were. The last read arms. */
static uint64_t take_all(shmslot_reader *reader, uint64_t *next)
{
    shmslot_sample sample;
    uint64_t count = 0;
    int got;
    while ((got = shmslot_slot_read(reader, &sample)) == SHMSLOT_OK) {
        CHECK_U64(value_of(&sample), (*next)++);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
        count++;
    }
    CHECK_CODE(got, SHMSLOT_E_AGAIN);
    return count;
}

/* ---- one process ---- */

/* It is readable when it is made; then after a sample, and not otherwise. */
static void check_it_is_level_triggered(const char *kind)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    shmslot_reader *reader;
    uint64_t next = 1;
    char name[64];
    int fd, loop;
    if (strcmp(kind, "local") == 0) {
        CHECK_OK(shmslot_segment_create_local(&options, &segment, NULL));
    } else if (strcmp(kind, "named") == 0) {
        segment = make_named(unique_name(name, sizeof name, "events"), &options);
    } else {
        segment = make_anonymous(&options);
    }
    writer = open_writer(segment);
    reader = join(segment, 0);
    fd = reader_fd(reader, 0);
    CHECK_U64((uint64_t)reader_fd(reader, 0), (uint64_t)fd);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    loop = loop_of(fd, 0);
    CHECK(has_event(loop));
    CHECK_U64(take_all(reader, &next), 0);
    CHECK(!has_event(loop) && !is_readable(fd));

    (void)put(writer, 1);
    (void)put(writer, 2);
    CHECK_U64((uint64_t)turn(loop), (uint64_t)fd);
    CHECK_U64(take(reader), 1);
    CHECK(has_event(loop)); /* there is one left */
    CHECK_U64(take(reader), 2);
    next = 3;
    CHECK_U64(take_all(reader, &next), 0);
    CHECK(!has_event(loop));

    /* poll and select, too */
    {
        fd_set set;
        (void)put(writer, 3);
        CHECK(is_readable(fd));
        FD_ZERO(&set);
        FD_SET(fd, &set);
        CHECK(select(fd + 1, &set, NULL, NULL, NULL) == 1);
        CHECK_U64(take_all(reader, &next), 1);
        CHECK(!is_readable(fd));
    }
    (void)close(loop);
    shmslot_reader_leave(reader);
    CHECK(fcntl(fd, F_GETFD) == -1);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- between the look that finds nothing and the drain that follows ---- */

static int drained_fd = -1;
static void (*before_drain)(void);

/* What others are to do before the library drains, once. */
static void before_call(long number, long first_argument)
{
    if (number == SYS_read && before_drain != NULL && first_argument == drained_fd) {
        void (*act)(void) = before_drain;
        before_drain = NULL;
        act();
    }
}

static void after_call(void) {}

static shmslot_writer *early_writer;
static shmslot_reader *early_reader;
static shmslot_sample early_samples[2];

static void write_two(void)
{
    (void)put(early_writer, 1);
    (void)put(early_writer, 2);
}

static void mark_two(void)
{
    CHECK_OK(shmslot_slot_mark(early_reader, &early_samples[0]));
    CHECK_OK(shmslot_slot_mark(early_reader, &early_samples[1]));
}

/* Two samples come, or two slots, before the descriptor is drained, and nobody is told of them. A
 * level-triggered loop that takes one a turn gets both. */
static void check_none_is_left_behind(int wants_space)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_loan loans[2];
    uint64_t i;
    int loop, taken = 0;
    early_writer = open_writer(segment);
    early_reader = join(segment, 0);
    drained_fd = wants_space ? writer_fd(early_writer, 0) : reader_fd(early_reader, 0);
    loop = loop_of(drained_fd, 0);
    for (i = 0; wants_space && i < LOOP_SLOTS; i++) {
        shmslot_sample sample;
        (void)put(early_writer, i);
        sample = hold(early_reader);
        if (i < 2) early_samples[i] = sample;
    }
    before_drain = wants_space ? mark_two : write_two;
    while (taken < 2) {
        (void)turn(loop);
        if (!wants_space) {
            shmslot_sample sample;
            if (shmslot_slot_read(early_reader, &sample) != SHMSLOT_OK) continue;
            CHECK_OK(shmslot_slot_mark(early_reader, &sample));
            taken++;
        } else if (shmslot_slot_reserve(early_writer, 8, AT_ONCE, &loans[taken]) == SHMSLOT_OK) {
            taken++;
        }
    }
    CHECK(before_drain == NULL);
    drained_fd = -1;
    for (i = 0; wants_space && i < 2; i++) {
        CHECK_OK(shmslot_slot_discard(early_writer, &loans[i]));
    }
    (void)close(loop);
    shmslot_reader_leave(early_reader);
    shmslot_writer_close(early_writer);
    shmslot_segment_close(segment);
}

static void check_manual(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    int fd;
    CHECK_CODE(shmslot_reader_fd_arm(reader), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_writer_fd_arm(writer), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_reader_fd(reader, 2, &fd, NULL), SHMSLOT_E_INVALID);
    fd = reader_fd(reader, SHMSLOT_FD_MANUAL);
    check_nothing_to_read(reader);
    CHECK(is_readable(fd)); /* as it was made: nothing has drained it */
    CHECK_U64((uint64_t)shmslot_reader_fd_arm(reader), 0);
    CHECK(!is_readable(fd));
    (void)put(writer, 1);
    CHECK(is_readable(fd));
    CHECK_U64((uint64_t)shmslot_reader_fd_arm(reader), 1);
    CHECK_U64(take(reader), 1);
    check_nothing_to_read(reader);
    CHECK_U64((uint64_t)shmslot_reader_fd_arm(reader), 0);
    CHECK(!is_readable(fd));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* A writer waits for a slot, under each policy, by each call that arms. */
static void check_space(uint32_t policy, uint32_t flags)
{
    shmslot_options options = options_with(policy, flags);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_loan loan;
    shmslot_sample held[LOOP_SLOTS];
    uint64_t i;
    int fd = writer_fd(writer, 0), loop = loop_of(fd, EPOLLET);
    (void)turn(loop);
    for (i = 0; i < LOOP_SLOTS; i++) {
        (void)put(writer, i);
        held[i] = hold(reader);
    }
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    CHECK(!is_readable(fd));
    CHECK_OK(shmslot_slot_mark(reader, &held[0]));
    (void)turn(loop);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));

    CHECK_CODE(shmslot_wait_space(writer, AT_ONCE), SHMSLOT_E_AGAIN);
    CHECK_OK(shmslot_slot_mark(reader, &held[1]));
    (void)turn(loop);
    CHECK_OK(shmslot_wait_space(writer, AT_ONCE));
    CHECK_OK(shmslot_slot_discard(writer, &loan));

    CHECK_CODE(shmslot_wait_readers(writer, 2, AT_ONCE, NULL), SHMSLOT_E_AGAIN);
    CHECK(!is_readable(fd));
    shmslot_reader_leave(join(segment, 0));
    (void)turn(loop);
    for (i = 2; i < LOOP_SLOTS; i++) CHECK_OK(shmslot_slot_mark(reader, &held[i]));
    CHECK_U64((uint64_t)shmslot_writer_fd_arm(writer), 1);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    CHECK(fcntl(fd, F_GETFD) == -1);
    shmslot_segment_close(segment);
}

/* ---- several processes ---- */

struct stream {
    const char *name; /* or NULL, and then: */
    int fd;
    uint32_t mode;
    int storm; /* attaches and closes beside the stream */
};

static shmslot_segment *segment_of(const struct stream *stream)
{
    shmslot_segment *segment = NULL;
    if (stream->name != NULL) return attach(stream->name);
    CHECK_OK(shmslot_segment_attach_fd(stream->fd, NULL, &segment, NULL));
    return segment;
}

static int read_stream(int link, void *argument)
{
    const struct stream *stream = argument;
    shmslot_segment *segment = segment_of(stream);
    shmslot_reader *reader = join(segment, 0);
    uint64_t next = 0;
    int loop = loop_of(reader_fd(reader, 0), stream->mode);
    say(link);
    while (next < SAMPLES) {
        (void)turn(loop);
        (void)take_all(reader, &next);
    }
    return 0;
}

static int storm(int link, void *argument)
{
    char stop;
    say(link);
    while (recv(link, &stop, 1, MSG_DONTWAIT) < 0) {
        shmslot_segment_close(segment_of(argument));
    }
    return 0;
}

/* A writer that waits behind its own descriptor passes a stream to loops of other processes. For an
 * anonymous segment the writer's process is the one that made the memfd. */
static void check_stream(int named, uint32_t mode, int with_storm)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    struct stream stream = {NULL, -1, 0, 0};
    shmslot_segment *segment;
    shmslot_writer *writer;
    child readers[2], other;
    char name[64];
    uint64_t i;
    int loop;
    if (named) {
        stream.name = unique_name(name, sizeof name, "events");
        segment = make_named(name, &options);
    } else {
        segment = make_anonymous(&options);
        stream.fd = shmslot_segment_fd(segment);
    }
    stream.mode = mode;
    writer = open_writer(segment);
    loop = loop_of(writer_fd(writer, 0), mode);
    for (i = 0; i < 2; i++) {
        readers[i] = start_child(read_stream, &stream);
        hear(readers[i].link);
    }
    if (with_storm) {
        other = start_child(storm, &stream);
        hear(other.link);
    }
    for (i = 0; i < SAMPLES; i++) {
        int got;
        while ((got = shmslot_slot_write(writer, &i, sizeof i, AT_ONCE, NULL)) ==
               SHMSLOT_E_NO_FREE_SLOT) {
            (void)turn(loop);
        }
        CHECK_OK(got);
    }
    for (i = 0; i < 2; i++) CHECK_CHILD(readers[i]);
    if (with_storm) {
        say(other.link);
        CHECK_CHILD(other);
    }
    (void)close(loop);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- across namespaces ---- */

static int write_from_elsewhere(int link, void *argument)
{
    const struct stream *stream = argument;
    shmslot_segment *segment;
    char answer;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) {
        answer = 'n';
        send_bytes(link, &answer, 1);
        return 0;
    }
    segment = segment_of(stream);
    answer = 'y';
    send_bytes(link, &answer, 1);
    receive_bytes(link, &answer, 1);
    (void)put(open_writer(segment), 9);
    return 0;
}

/* The writer is in other user, mount, network and ipc namespaces than the loop. */
static void check_namespaces(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    struct stream stream = {NULL, -1, 0, 0};
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    child writing;
    char answer;
    int loop;
    stream.fd = shmslot_segment_fd(segment);
    writing = start_child(write_from_elsewhere, &stream);
    receive_bytes(writing.link, &answer, 1);
    if (answer == 'y') {
        loop = loop_of(reader_fd(reader, 0), EPOLLET);
        check_nothing_to_read(reader);
        say(writing.link);
        do (void)turn(loop);
        while (shmslot_slot_read(reader, &sample) == SHMSLOT_E_AGAIN);
        CHECK_U64(value_of(&sample), 9);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
        (void)close(loop);
    }
    CHECK_CHILD(writing);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* What is to end waits is asked for while a loop sleeps behind the descriptor: it looks again. */
static void check_end_asked_for_late(uint32_t flags)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    int loop = loop_of(reader_fd(reader, flags), EPOLLET);
    (void)turn(loop);
    check_nothing_to_read(reader);
    if (flags != 0) CHECK_U64((uint64_t)shmslot_reader_fd_arm(reader), 0);
    CHECK(!has_event(loop));
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_NO_WRITERS));
    (void)turn(loop);
    if (flags == 0) CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_NO_WRITERS);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_end_asked_for_late_in_a_set(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    shmslot_set *set = NULL;
    shmslot_event event;
    shmslot_sample sample;
    CHECK_OK(shmslot_set_create(0, &set, NULL));
    CHECK_OK(shmslot_set_add_reader(set, reader, 4, NULL));
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, &event, 1), 1);
    check_nothing_to_read(reader);
    CHECK_U64((uint64_t)shmslot_set_wait(set, AT_ONCE, &event, 1), 0);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_NO_WRITERS));
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, &event, 1), 1);
    CHECK_U64(event.cookie, 4);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_NO_WRITERS);
    shmslot_set_close(set);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_end_of_a_writer_asked_for_late(void)
{
    char name[64];
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "late-end"), &options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    uint64_t i;
    int loop;
    for (i = 0; i < LOOP_SLOTS; i++) (void)put(writer, i);
    loop = loop_of(writer_fd(writer, 0), EPOLLET);
    (void)turn(loop);
    CHECK_CODE(shmslot_slot_write(writer, &i, sizeof i, AT_ONCE, NULL), SHMSLOT_E_NO_FREE_SLOT);
    CHECK(!has_event(loop));
    CHECK_OK(shmslot_writer_end_waits(writer, SHMSLOT_END_RETIRED));
    (void)turn(loop);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

/* ---- a ringer that cannot ring ---- */

struct ringer {
    int fd;
    uint64_t value;
    int closes_all; /* descriptors, as a daemon does */
};

static int write_one(int link, void *argument)
{
    const struct ringer *ringer = argument;
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    CHECK_OK(shmslot_segment_attach_fd(ringer->fd, NULL, &segment, NULL));
    writer = open_writer(segment);
    say(link);
    hear(link);
    if (ringer->closes_all) {
        CHECK(dup2(link, STDERR_FILENO) == STDERR_FILENO);
        CHECK(close_range(STDERR_FILENO + 1, ~0U, 0) == 0);
        link = STDERR_FILENO;
    }
    (void)put(writer, ringer->value);
    say(link);
    for (;;) (void)pause();
    return 0;
}

/* One has lost its descriptors, so its ring tells nobody; the next one makes up for it. */
static void check_broken_ringer(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    struct ringer ringers[2];
    child writing[2];
    uint64_t i;
    int loop;
    for (i = 0; i < 2; i++) {
        ringers[i].fd = shmslot_segment_fd(segment);
        ringers[i].value = i;
        ringers[i].closes_all = i == 0;
        writing[i] = start_child(write_one, &ringers[i]);
        hear(writing[i].link);
    }
    loop = loop_of(reader_fd(reader, 0), 0);
    check_nothing_to_read(reader);
    say(writing[0].link);
    hear(writing[0].link);
    say(writing[1].link);
    (void)turn(loop);
    hear(writing[1].link);
    for (i = 0; i < 2; i++) {
        CHECK_U64(take(reader), i);
        CHECK(kill(writing[i].pid, SIGKILL) == 0);
        CHECK_U64((uint64_t)end_child(writing[i]), 128 + SIGKILL);
    }
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* It has made the segment where there is no /proc, and since Linux 6.14 the kernel tells nobody of
 * accesses by the descriptor that made a memfd. */
static int make_and_write(int link, void *argument)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = NULL;
    (void)argument;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && mount("none", "/proc", "tmpfs", 0, NULL) == 0)
        segment = make_anonymous(&options);
    say(link);
    hear(link);
    if (segment != NULL) (void)put(open_writer(segment), 3);
    say(link);
    for (;;) (void)pause();
    return 0;
}

static int recover_when_told(int link, void *argument)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(*(const int *)argument, NULL, &segment, NULL));
    say(link);
    hear(link);
    CHECK_OK(shmslot_segment_recover(segment, NULL));
    say(link);
    for (;;) (void)pause();
    return 0;
}

/* The memfd of a process, opened; -1 if it has none. */
static int memfd_of(pid_t pid)
{
    char path[64], target[64];
    int number;
    for (number = 3; number < 64; number++) {
        ssize_t length;
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, number);
        length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        if (strncmp(target, "/memfd:shmslot", strlen("/memfd:shmslot")) == 0)
            return open(path, O_RDWR | O_CLOEXEC);
    }
    return -1;
}

static void kill_child(child one)
{
    CHECK(kill(one.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(one), 128 + SIGKILL);
}

/* Whoever recovers such a creator makes up for its ring. */
static void check_untold_creator(void)
{
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    child creator = start_child(make_and_write, NULL), other;
    int fd, loop;
    hear(creator.link);
    fd = memfd_of(creator.pid);
    if (fd < 0) { /* namespaces are not permitted here */
        kill_child(creator);
        return;
    }
    CHECK_OK(shmslot_segment_attach_fd(fd, NULL, &segment, NULL));
    other = start_child(recover_when_told, &fd);
    hear(other.link);
    reader = join(segment, 0);
    loop = loop_of(reader_fd(reader, 0), EPOLLET);
    (void)turn(loop);
    check_nothing_to_read(reader);
    say(creator.link);
    hear(creator.link);
    kill_child(creator);
    say(other.link);
    hear(other.link);
    (void)turn(loop);
    CHECK_U64(take(reader), 3);
    kill_child(other);
    (void)close(loop);
    (void)close(fd);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* ---- ends ---- */

static int write_and_wait(int link, void *argument)
{
    shmslot_segment *segment = segment_of(argument);
    shmslot_writer *writer = open_writer(segment);
    (void)put(writer, 5);
    say(link);
    for (;;) (void)pause();
    return 0;
}

/* A writer that is killed is told at once, and so is that there is none left. */
static void check_death(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    struct stream stream = {NULL, -1, 0, 0};
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    child writing;
    int loop, got;
    stream.fd = shmslot_segment_fd(segment);
    writing = start_child(write_and_wait, &stream);
    hear(writing.link);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD | SHMSLOT_END_NO_WRITERS));
    loop = loop_of(reader_fd(reader, 0), 0);
    CHECK_U64(take(reader), 5);
    check_nothing_to_read(reader);
    CHECK(!has_event(loop));
    CHECK(kill(writing.pid, SIGKILL) == 0);
    do {
        (void)turn(loop);
        got = shmslot_slot_read(reader, &sample);
    } while (got == SHMSLOT_E_AGAIN);
    CHECK_CODE(got, SHMSLOT_E_PEER_DEAD);
    CHECK(has_event(loop)); /* there is more to tell */
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_NO_WRITERS);
    CHECK_U64((uint64_t)end_child(writing), 128 + SIGKILL);
    /* An end is drained and armed, as AGAIN is: the loop sleeps until there is a new writer. */
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_NO_WRITERS);
    CHECK(!has_event(loop));
    {
        shmslot_writer *writer = open_writer(segment);
        check_nothing_to_read(reader);
        (void)put(writer, 6);
        (void)turn(loop);
        CHECK_U64(take(reader), 6);
        check_nothing_to_read(reader);
        shmslot_writer_close(writer);
    }
    (void)turn(loop);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_NO_WRITERS);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* Each of several that die is told, with more participants than have their locks asked each time. */
static void check_deaths_among_many(void)
{
    enum { MANY = 300, DEATHS = 6 };
    static shmslot_segment *attached[MANY];
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    struct stream stream = {NULL, -1, 0, 0};
    shmslot_segment *segment;
    shmslot_reader *reader;
    child writing[DEATHS];
    int loop, got, i;
    options.max_participants = MANY + DEATHS + 1;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    stream.fd = shmslot_segment_fd(segment);
    for (i = 0; i < DEATHS; i++) {
        writing[i] = start_child(write_and_wait, &stream);
        hear(writing[i].link);
        CHECK_U64(take(reader), 5);
    }
    for (i = 0; i < MANY; i++) attached[i] = segment_of(&stream);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    loop = loop_of(reader_fd(reader, 0), 0);
    check_nothing_to_read(reader);
    for (i = 0; i < DEATHS; i++) {
        shmslot_sample sample;
        CHECK(kill(writing[i].pid, SIGKILL) == 0);
        do {
            (void)turn(loop);
            got = shmslot_slot_read(reader, &sample);
        } while (got == SHMSLOT_E_AGAIN);
        CHECK_CODE(got, SHMSLOT_E_PEER_DEAD);
        CHECK_U64((uint64_t)end_child(writing[i]), 128 + SIGKILL);
    }
    for (i = 0; i < MANY; i++) shmslot_segment_close(attached[i]);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* What came before the descriptor was made is told, too. */
static void check_ends_before(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    struct stream stream = {NULL, -1, 0, 0};
    char name[64], path[512];
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "events"), &options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *readers[2];
    shmslot_sample sample;
    child writing;
    readers[0] = join(segment, 0);
    readers[1] = join(segment, 0);
    CHECK_OK(shmslot_reader_end_waits(readers[0], SHMSLOT_END_PEER_DEAD));
    stream.name = name;
    writing = start_child(write_and_wait, &stream);
    hear(writing.link);
    CHECK_U64(take(readers[0]), 5);
    CHECK_U64(take(readers[1]), 5);
    CHECK(kill(writing.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(writing), 128 + SIGKILL);
    (void)reader_fd(readers[0], 0);
    CHECK_CODE(shmslot_slot_read(readers[0], &sample), SHMSLOT_E_PEER_DEAD);

    CHECK_OK(shmslot_reader_end_waits(readers[1], SHMSLOT_END_RETIRED));
    CHECK_CODE(shmslot_wait(readers[1], AT_ONCE), SHMSLOT_E_AGAIN); /* it has looked */
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    CHECK(unlink(path) == 0);
    (void)reader_fd(readers[1], 0);
    CHECK_CODE(shmslot_slot_read(readers[1], &sample), SHMSLOT_E_RETIRED);
    shmslot_reader_leave(readers[0]);
    shmslot_reader_leave(readers[1]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

enum taken_by { TAKEN_BY_THE_LIBRARY, TAKEN_BY_RM, TAKEN_BY_MV };

/* The loss of the name is told at once, by a call of the library, by rm and by mv. */
static void check_retired(enum taken_by by)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    char name[64], path[512], elsewhere[520];
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "events"), &options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    int reading, writing;
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    snprintf(elsewhere, sizeof elsewhere, "%s.moved", path);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_RETIRED));
    CHECK_OK(shmslot_writer_end_waits(writer, SHMSLOT_END_RETIRED));
    reading = loop_of(reader_fd(reader, 0), 0);
    writing = loop_of(writer_fd(writer, 0), 0);
    check_nothing_to_read(reader);
    CHECK_CODE(shmslot_wait_readers(writer, 2, AT_ONCE, NULL), SHMSLOT_E_AGAIN);
    CHECK(!has_event(reading) && !has_event(writing));
    if (by == TAKEN_BY_THE_LIBRARY) {
        CHECK_OK(shmslot_segment_unlink(name, NULL));
    } else if (by == TAKEN_BY_RM) {
        CHECK(unlink(path) == 0);
    } else {
        CHECK(rename(path, elsewhere) == 0);
    }
    (void)turn(reading);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_RETIRED);
    (void)turn(writing);
    CHECK_CODE(shmslot_wait_readers(writer, 2, AT_ONCE, NULL), SHMSLOT_E_RETIRED);
    if (by == TAKEN_BY_MV) CHECK(unlink(elsewhere) == 0);
    (void)close(reading);
    (void)close(writing);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- what the kernel limits and hides ---- */

/* How many events the kernel keeps. */
static int most_queued(void)
{
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    int most = 0;
    CHECK(file != NULL);
    CHECK(fscanf(file, "%d", &most) == 1);
    CHECK(fclose(file) == 0);
    return most;
}

/* More is told than the kernel keeps, or very much, and then a sample comes. */
static void check_overflow(void)
{
    enum { VERY_MUCH = 400000 };
    const int limit = most_queued(), more = limit < VERY_MUCH ? limit + 1000 : VERY_MUCH;
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    uint64_t next = 1;
    int fd = reader_fd(reader, 0), loop = loop_of(fd, EPOLLET), other, i;
    char path[64], byte;
    snprintf(path, sizeof path, "/proc/self/fd/%d", shmslot_segment_fd(segment));
    other = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(other >= 0);
    for (i = 0; i < more; i++) { /* two events in turn, so that none is merged */
        CHECK(pread(other, &byte, 1, 0) == 1);
        CHECK(fchmod(other, i % 2 == 0 ? 0400 : 0600) == 0);
    }
    CHECK(fchmod(other, 0600) == 0);
    (void)turn(loop);
    CHECK_U64(take_all(reader, &next), 0);
    CHECK(!is_readable(fd));
    (void)put(writer, 1);
    (void)turn(loop);
    CHECK_U64(take_all(reader, &next), 1);
    (void)close(other);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* The instances of the user are used up: the error says which limit, and waiting works as ever. */
static int use_up_instances(int link, void *argument)
{
    enum { LIMIT = 3 };
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_error error;
    int used[LIMIT], count = 0, fd = -1;
    (void)link, (void)argument;
    if (enter_user_namespace(0) != 0 ||
        write_text("/proc/sys/user/max_inotify_instances", "3") != 0)
        return 77;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    /* fewer, if others of this user have nearly used up theirs */
    while (count < LIMIT && (used[count] = inotify_init1(IN_CLOEXEC)) >= 0) count++;
    memset(&error, 0, sizeof error);
    CHECK_CODE(shmslot_reader_fd(reader, 0, &fd, &error), SHMSLOT_E_SYS);
    CHECK(fd == -1 && error.os_errno == EMFILE);
    CHECK(strstr(error.text, "fs.inotify.max_user_instances") != NULL);
    CHECK_CODE(shmslot_writer_fd(writer, 0, &fd, NULL), SHMSLOT_E_SYS);
    (void)put(writer, 1);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    CHECK_U64(take(reader), 1);
    CHECK(count > 0);
    while (count > 0) (void)close(used[--count]);
    (void)reader_fd(reader, 0); /* the failed call has changed nothing */
    check_nothing_to_read(reader);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

/* In a user namespace with a limit of its own: what counts for all programs of a user would be missing
 * in others. */
static void check_no_instance_is_left(void)
{
    int status = run_child(use_up_instances, NULL);
    CHECK(status == 0 || status == 77);
    if (status == 77) fprintf(stderr, "not checked: no user namespace with limits of its own\n");
}

/* ---- fork ---- */

static void check_fork(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    int fd = reader_fd(reader, 0), loop = loop_of(fd, 0), status = 0;
    pid_t pid, parent = getpid();
    check_nothing_to_read(reader);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int other = -1;
        check_parent = parent;
        CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_FORKED);
        CHECK_CODE(shmslot_reader_fd(reader, 0, &other, NULL), SHMSLOT_E_FORKED);
        CHECK_CODE(shmslot_reader_fd_arm(reader), SHMSLOT_E_FORKED);
        CHECK_CODE(shmslot_writer_fd(writer, 0, &other, NULL), SHMSLOT_E_FORKED);
        shmslot_reader_leave(reader);
        shmslot_writer_close(writer);
        shmslot_segment_close(segment);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    check_nothing_to_read(reader);
    CHECK(!has_event(loop));
    (void)put(writer, 1);
    (void)turn(loop);
    CHECK_U64(take(reader), 1);
    (void)close(loop);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Samples stay valid after their reader has left; the descriptor lives as long. */
static void check_leave_with_samples(void)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    int fd = reader_fd(reader, 0);
    (void)put(writer, 3);
    sample = hold(reader);
    check_nothing_to_read(reader);
    shmslot_segment_close(segment);
    shmslot_reader_leave(reader);
    (void)put(writer, 4);
    CHECK_U64(value_of(&sample), 3);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK(fcntl(fd, F_GETFD) == -1);
    shmslot_writer_close(writer);
}

/* A quiet loop is not woken: readers with descriptors of their own, and a set of many, all armed.
 * There are few of the former, because other programs of this user need instances, too. */
static void check_quiet_readers_sleep(void)
{
    enum { OWN = 8, MANY = 108, WHILE_MS = 300 };
    static shmslot_segment *segments[MANY];
    static shmslot_reader *readers[MANY];
    static shmslot_event told[MANY];
    shmslot_options options = options_with(SHMSLOT_POLICY_FAIL, 0);
    shmslot_set *set = NULL;
    struct epoll_event event;
    int loop = epoll_create1(EPOLL_CLOEXEC), i;
    CHECK(loop >= 0);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    CHECK_OK(shmslot_set_create(0, &set, NULL));
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, shmslot_set_fd(set), &event) == 0);
    for (i = 0; i < MANY; i++) {
        segments[i] = make_anonymous(&options);
        readers[i] = join(segments[i], 0);
        if (i < OWN) {
            CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, reader_fd(readers[i], 0), &event) == 0);
        } else {
            CHECK_OK(shmslot_set_add_reader(set, readers[i], (uint64_t)i, NULL));
        }
    }
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, told, MANY), MANY - OWN);
    for (i = 0; i < MANY; i++) check_nothing_to_read(readers[i]);
    CHECK_U64((uint64_t)shmslot_set_wait(set, AT_ONCE, told, MANY), 0);
    CHECK(epoll_wait(loop, &event, 1, WHILE_MS) == 0);
    shmslot_set_close(set);
    for (i = 0; i < MANY; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_segment_close(segments[i]);
    }
    (void)close(loop);
}

CHECK_MAIN()
{
    RUN(check_it_is_level_triggered("anonymous"));
    RUN(check_it_is_level_triggered("named"));
    RUN(check_it_is_level_triggered("local"));
    RUN(check_none_is_left_behind(0));
    RUN(check_none_is_left_behind(1));
    RUN(check_manual());
    RUN(check_space(SHMSLOT_POLICY_FAIL, 0));
    RUN(check_space(SHMSLOT_POLICY_BLOCK, 0));
    RUN(check_space(SHMSLOT_POLICY_DROP_OLDEST, 0));
    RUN(check_space(SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER));
    RUN(check_stream(0, 0, 0));
    RUN(check_stream(0, EPOLLET, 1));
    RUN(check_stream(1, 0, 1));
    RUN(check_stream(1, EPOLLET, 0));
    RUN(check_namespaces());
    RUN(check_end_asked_for_late(0));
    RUN(check_end_asked_for_late(SHMSLOT_FD_MANUAL));
    RUN(check_end_asked_for_late_in_a_set());
    RUN(check_end_of_a_writer_asked_for_late());
    RUN(check_broken_ringer());
    RUN(check_untold_creator());
    RUN(check_death());
    RUN(check_deaths_among_many());
    RUN(check_ends_before());
    RUN(check_retired(TAKEN_BY_THE_LIBRARY));
    RUN(check_retired(TAKEN_BY_RM));
    RUN(check_retired(TAKEN_BY_MV));
    RUN(check_overflow());
    RUN(check_no_instance_is_left());
    RUN(check_fork());
    RUN(check_leave_with_samples());
    RUN(check_quiet_readers_sleep());
}
