/* Wait sets: readers, writers, segments and triggers behind one descriptor. Waits have no limit, so a
 * lost wake ends the program by its watchdog. */
/* not under aarch64: the emulator tells of no accesses to files */
#include "event_loop.h"

#define SLOTS 4
#define MOST 8

static shmslot_segment *make(void)
{
    shmslot_options options = options_of(SLOTS, 8);
    options.spin_ns = SHMSLOT_SPIN_NONE;
    return make_anonymous(&options);
}

static shmslot_set *make_set(uint32_t flags)
{
    shmslot_set *set = NULL;
    CHECK_OK(shmslot_set_create(flags, &set, NULL));
    return set;
}

/* Nothing is left to tell, and the descriptor sleeps. */
static void check_quiet(shmslot_set *set)
{
    shmslot_event event;
    CHECK_U64((uint64_t)shmslot_set_wait(set, AT_ONCE, &event, 1), 0);
    CHECK(!is_readable(shmslot_set_fd(set)));
}

/* The one thing that there is to tell. */
static shmslot_event the_event_(shmslot_set *set)
{
    shmslot_event events[MOST];
    memset(events, 0xA5, sizeof events);
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, MOST), 1);
    CHECK(events[0].reserved == 0);
    return events[0];
}
#define the_event(set) CHECK_HERE(the_event_(set))

static void check_event_(shmslot_event event, uint64_t cookie, uint32_t what)
{
    CHECK_U64(event.cookie, cookie);
    CHECK_U64(event.what, what);
}
#define check_event(event, cookie, what) CHECK_HERE(check_event_(event, cookie, what))

static void check_members(uint32_t flags)
{
    shmslot_segment *first = make(), *second = make();
    shmslot_reader *readers[2];
    shmslot_writer *writers[2];
    shmslot_set *set = make_set(flags);
    shmslot_trigger *trigger = NULL;
    shmslot_event events[MOST];
    shmslot_sample held[SLOTS];
    shmslot_loan loan;
    uint64_t i;
    int fd = shmslot_set_fd(set), unused;
    CHECK(fd > STDERR_FILENO && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    readers[0] = join(first, 0);
    readers[1] = join(second, 0);
    writers[0] = open_writer(first);
    writers[1] = open_writer(second);
    (void)put(writers[1], 1); /* before it is added */
    CHECK_OK(shmslot_set_add_reader(set, readers[0], 10, NULL));
    CHECK_OK(shmslot_set_add_reader(set, readers[1], 11, NULL));
    CHECK_OK(shmslot_set_add_trigger(set, 12, &trigger, NULL));
    CHECK_CODE(shmslot_set_add_reader(set, readers[0], 13, NULL), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_set_add_segment(set, first, 12, NULL), SHMSLOT_E_EXISTS);
    CHECK_CODE(shmslot_reader_fd(readers[0], 0, &unused, NULL), SHMSLOT_E_INVALID);

    /* each is told once at first, whether or not there is something */
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, MOST), 2);
    check_nothing_to_read(readers[0]);
    CHECK_U64(take(readers[1]), 1);
    check_nothing_to_read(readers[1]);
    check_quiet(set);

    /* one of them, until it has said that there is no more */
    (void)put(writers[0], 2);
    (void)put(writers[0], 3);
    CHECK(is_readable(fd));
    check_event(the_event(set), 10, SHMSLOT_EVENT_DATA);
    CHECK_U64(take(readers[0]), 2);
    if (flags == 0) {
        CHECK(is_readable(fd));
        check_event(the_event(set), 10, SHMSLOT_EVENT_DATA);
    } else {
        check_quiet(set); /* it was told of once */
    }
    CHECK_U64(take(readers[0]), 3);
    check_nothing_to_read(readers[0]);
    check_quiet(set);

    /* a trigger, once, however often it was fired */
    CHECK_OK(shmslot_trigger_fire(trigger));
    CHECK_OK(shmslot_trigger_fire(trigger));
    CHECK(is_readable(fd));
    check_event(the_event(set), 12, SHMSLOT_EVENT_TRIGGER);
    check_quiet(set);

    /* all of them, one at a time and in turn */
    (void)put(writers[0], 4);
    (void)put(writers[1], 5);
    CHECK_OK(shmslot_trigger_fire(trigger));
    {
        unsigned seen[3] = {0, 0, 0};
        const unsigned turns = flags == 0 ? 2 : 1;
        for (i = 0; i < 2 * turns + 1; i++) {
            CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, 1), 1);
            CHECK(events[0].cookie >= 10 && events[0].cookie <= 12);
            seen[events[0].cookie - 10]++;
        }
        CHECK(seen[0] == turns && seen[1] == turns && seen[2] == 1);
    }
    CHECK_U64(take(readers[0]), 4);
    check_nothing_to_read(readers[0]);
    if (flags == 0) check_event(the_event(set), 11, SHMSLOT_EVENT_DATA);
    CHECK_U64(take(readers[1]), 5);
    check_nothing_to_read(readers[1]);
    check_quiet(set);

    /* a writer that waits for a slot */
    CHECK_OK(shmslot_set_add_writer(set, writers[0], 14, NULL));
    check_event(the_event(set), 14, SHMSLOT_EVENT_SPACE);
    for (i = 0; i < SLOTS; i++) (void)put(writers[0], i);
    CHECK_CODE(shmslot_slot_reserve(writers[0], 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < SLOTS; i++) held[i] = hold(readers[0]);
    check_nothing_to_read(readers[0]);
    /* What happens at one file is told to all who wait there; each call says what there is. */
    while (shmslot_set_wait(set, AT_ONCE, events, 1) > 0) {
        if (events[0].cookie == 10) check_nothing_to_read(readers[0]);
        if (events[0].cookie == 14) {
            CHECK_CODE(shmslot_slot_reserve(writers[0], 8, AT_ONCE, &loan), SHMSLOT_E_NO_FREE_SLOT);
        }
    }
    CHECK_OK(shmslot_slot_mark(readers[0], &held[0]));
    do CHECK(shmslot_set_wait(set, FOR_EVER, events, 1) == 1);
    while (events[0].cookie != 14);
    CHECK_OK(shmslot_slot_reserve(writers[0], 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(writers[0], &loan));
    for (i = 1; i < SLOTS; i++) CHECK_OK(shmslot_slot_mark(readers[0], &held[i]));

    /* what is removed is told no more, and can be added again */
    CHECK_OK(shmslot_set_remove(set, 14));
    CHECK_CODE(shmslot_set_remove(set, 14), SHMSLOT_E_NOT_FOUND);
    CHECK_OK(shmslot_set_remove(set, 10));
    CHECK_OK(shmslot_set_remove(set, 12));
    CHECK_OK(shmslot_trigger_fire(trigger)); /* tells nobody */
    (void)put(writers[0], 6);
    while (shmslot_set_wait(set, AT_ONCE, events, MOST) > 0) {
        CHECK_U64(events[0].cookie, 11);
        check_nothing_to_read(readers[1]);
    }
    CHECK_OK(shmslot_set_add_reader(set, readers[0], 10, NULL));
    check_event(the_event(set), 10, SHMSLOT_EVENT_DATA);
    CHECK_U64(take(readers[0]), 6);
    check_nothing_to_read(readers[0]);

    /* a member goes while it is to be told of */
    (void)put(writers[0], 7);
    check_event(the_event(set), 10, SHMSLOT_EVENT_DATA);
    shmslot_reader_leave(readers[0]);
    check_quiet(set);
    readers[0] = join(first, 0);
    CHECK_OK(shmslot_set_add_reader(set, readers[0], 10, NULL)); /* its number is free again */
    check_event(the_event(set), 10, SHMSLOT_EVENT_DATA);
    check_nothing_to_read(readers[0]);
    check_quiet(set);

    shmslot_set_close(set);
    CHECK_OK(shmslot_trigger_fire(trigger));
    shmslot_trigger_close(trigger);
    for (i = 0; i < 2; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_writer_close(writers[i]);
    }
    shmslot_segment_close(first);
    shmslot_segment_close(second);
}

/* A segment is told of for each kind of change. */
static void check_changes(void)
{
    shmslot_segment *segment = make();
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    shmslot_set *set = make_set(0);
    shmslot_sample sample;
    shmslot_loan loan;
    CHECK_OK(shmslot_set_add_segment(set, segment, 1, NULL));
    check_event(the_event(set), 1, SHMSLOT_EVENT_CHANGE);
    check_quiet(set);
    (void)put(writer, 1);
    (void)put(writer, 2);
    check_event(the_event(set), 1, SHMSLOT_EVENT_CHANGE);
    check_quiet(set);
    sample = hold(reader);
    check_quiet(set);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    check_event(the_event(set), 1, SHMSLOT_EVENT_CHANGE);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    check_quiet(set);
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    check_event(the_event(set), 1, SHMSLOT_EVENT_CHANGE);
    check_quiet(set);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment); /* removes it */
    check_quiet(set);
    shmslot_set_close(set);
}

struct wait_of_many {
    shmslot_reader *const *readers;
    size_t count, index;
    int result;
    int taken[2];
    pid_t thread;
};

/* Takes one sample after the other until it is interrupted. */
static void *wait_for_many(void *argument)
{
    struct wait_of_many *many = argument;
    __atomic_store_n(&many->thread, thread_id(), __ATOMIC_RELAXED);
    while ((many->result = shmslot_wait_any(many->readers, many->count, FOR_EVER, &many->index)) ==
           SHMSLOT_OK) {
        uint64_t value = take(many->readers[many->index]);
        __atomic_store_n(&many->taken[1], (int)value, __ATOMIC_RELAXED);
        __atomic_fetch_add(&many->taken[0], 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Writes a sample, and returns what the other thread has read. */
static uint64_t take_any(struct wait_of_many *many, shmslot_writer *writer, uint64_t value)
{
    int before = __atomic_load_n(&many->taken[0], __ATOMIC_ACQUIRE);
    (void)put(writer, value);
    while (__atomic_load_n(&many->taken[0], __ATOMIC_ACQUIRE) == before) (void)sched_yield();
    return (uint64_t)__atomic_load_n(&many->taken[1], __ATOMIC_RELAXED);
}

/* More segments than futex_waitv takes. */
static void check_many(uint32_t flags)
{
    enum { MANY = 300 };
    static shmslot_segment *segments[MANY];
    static shmslot_reader *readers[MANY];
    static shmslot_writer *writers[MANY];
    static shmslot_event events[MANY];
    shmslot_set *set = make_set(flags);
    uint64_t i, round;
    for (i = 0; i < MANY; i++) {
        segments[i] = make();
        readers[i] = join(segments[i], 0);
        writers[i] = open_writer(segments[i]);
        CHECK_OK(shmslot_set_add_reader(set, readers[i], i, NULL));
    }
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, MANY), MANY);
    for (i = 0; i < MANY; i++) check_nothing_to_read(readers[i]);
    check_quiet(set);
    for (round = 0; round < 1000; round++) {
        i = round * 7 % MANY;
        (void)put(writers[i], round);
        check_event(the_event(set), i, SHMSLOT_EVENT_DATA);
        CHECK_U64(take(readers[i]), round);
        check_nothing_to_read(readers[i]);
    }
    check_quiet(set);
    {
        /* All of them in one wait without a set. */
        struct wait_of_many many;
        pthread_t other;
        memset(&many, 0, sizeof many);
        many.readers = readers;
        many.count = MANY;
        other = start_thread(wait_for_many, &many);
        for (i = 0; i < MANY; i++) CHECK_U64(take_any(&many, writers[i], i), i);
        CHECK_OK(shmslot_reader_interrupt(readers[7]));
        end_thread(other);
        CHECK_CODE(many.result, SHMSLOT_E_INTERRUPTED);
        CHECK_CODE(shmslot_wait_any(readers, MANY, 20 * MILLISECOND, &many.index),
                   SHMSLOT_E_TIMEOUT);
        CHECK_CODE(shmslot_wait_any(readers, MANY, AT_ONCE, &many.index), SHMSLOT_E_AGAIN);
    }
    for (i = 0; i < MANY; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_writer_close(writers[i]);
        shmslot_segment_close(segments[i]);
    }
    check_quiet(set);
    shmslot_set_close(set);
}

/* ---- other threads, signals, processes ---- */

static shmslot_trigger *the_trigger;

static void on_signal(int number)
{
    (void)number;
    (void)shmslot_trigger_fire(the_trigger);
}

static void *interrupt_it(void *set)
{
    until_asleep(getpid());
    CHECK_OK(shmslot_set_interrupt(set));
    return NULL;
}

static void *signal_it(void *thread)
{
    until_asleep(getpid());
    CHECK(pthread_kill(*(pthread_t *)thread, SIGUSR1) == 0);
    return NULL;
}

static void check_threads_and_signals(void)
{
    shmslot_set *set = make_set(0);
    shmslot_event event;
    pthread_t other, own = pthread_self();
    CHECK_OK(shmslot_set_add_trigger(set, 3, &the_trigger, NULL));
    CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
    check_quiet(set);
    other = start_thread(interrupt_it, set);
    CHECK_CODE(shmslot_set_wait(set, FOR_EVER, &event, 1), SHMSLOT_E_INTERRUPTED);
    end_thread(other);
    other = start_thread(signal_it, &own);
    check_event(the_event(set), 3, SHMSLOT_EVENT_TRIGGER);
    end_thread(other);
    CHECK_U64((uint64_t)shmslot_set_wait(set, 20 * MILLISECOND, &event, 1), 0);
    CHECK_CODE(shmslot_set_wait(set, -2, &event, 1), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_set_wait(set, AT_ONCE, &event, 0), SHMSLOT_E_INVALID);
    shmslot_set_close(set);
    shmslot_trigger_close(the_trigger);
}

static int write_and_wait(int link, void *argument)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(*(const int *)argument, NULL, &segment, NULL));
    (void)put(open_writer(segment), 5);
    say(link);
    for (;;) (void)pause();
    return 0;
}

static void check_death(void)
{
    shmslot_segment *quiet = make(), *segment = make();
    shmslot_reader *other = join(quiet, 0), *reader = join(segment, 0);
    shmslot_set *set = make_set(0);
    shmslot_event event;
    shmslot_sample sample;
    child writing;
    int fd = shmslot_segment_fd(segment), got;
    writing = start_child(write_and_wait, &fd);
    hear(writing.link);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    CHECK_OK(shmslot_set_add_reader(set, other, 1, NULL));
    CHECK_OK(shmslot_set_add_reader(set, reader, 2, NULL));
    CHECK_U64(take(reader), 5);
    check_nothing_to_read(reader);
    check_nothing_to_read(other);
    while (shmslot_set_wait(set, AT_ONCE, &event, 1) > 0) {
        check_nothing_to_read(reader);
        check_nothing_to_read(other);
    }
    CHECK(kill(writing.pid, SIGKILL) == 0);
    do {
        check_event(the_event(set), 2, SHMSLOT_EVENT_DATA);
        got = shmslot_slot_read(reader, &sample);
    } while (got == SHMSLOT_E_AGAIN);
    CHECK_CODE(got, SHMSLOT_E_PEER_DEAD);
    CHECK_U64((uint64_t)end_child(writing), 128 + SIGKILL);
    shmslot_set_close(set);
    shmslot_reader_leave(reader);
    shmslot_reader_leave(other);
    shmslot_segment_close(segment);
    shmslot_segment_close(quiet);
}

/* Events of two files in turn fill the queue of the kernel; then all members are told. */
static void check_overflow(void)
{
    enum { MORE = 20000 };
    shmslot_segment *segments[2];
    shmslot_reader *readers[2];
    shmslot_writer *writer;
    shmslot_set *set = make_set(0);
    shmslot_event events[MOST];
    char byte;
    int i;
    for (i = 0; i < 2; i++) {
        segments[i] = make();
        readers[i] = join(segments[i], 0);
        CHECK_OK(shmslot_set_add_reader(set, readers[i], (uint64_t)i, NULL));
    }
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, MOST), 2);
    for (i = 0; i < 2; i++) check_nothing_to_read(readers[i]);
    check_quiet(set);
    for (i = 0; i < MORE; i++) {
        CHECK(pread(shmslot_segment_fd(segments[i % 2]), &byte, 1, 0) == 1);
    }
    writer = open_writer(segments[1]);
    (void)put(writer, 1);
    CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, MOST), 2);
    CHECK_U64(take(readers[1]), 1);
    for (i = 0; i < 2; i++) check_nothing_to_read(readers[i]);
    check_quiet(set);
    shmslot_set_close(set);
    shmslot_writer_close(writer);
    for (i = 0; i < 2; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_segment_close(segments[i]);
    }
}

/* A set that is closed lets its members go: they can enter another, and have descriptors. */
static void check_close_lets_go(void)
{
    shmslot_segment *segment = make();
    shmslot_reader *readers[2];
    shmslot_writer *writer = open_writer(segment);
    shmslot_set *set = make_set(0), *other = make_set(0);
    readers[0] = join(segment, 0);
    readers[1] = join(segment, 0);
    CHECK_OK(shmslot_set_add_reader(set, readers[0], 1, NULL));
    CHECK_OK(shmslot_set_add_reader(set, readers[1], 2, NULL));
    CHECK_OK(shmslot_set_add_writer(set, writer, 3, NULL));
    shmslot_set_close(set);
    CHECK_OK(shmslot_set_add_reader(other, readers[0], 1, NULL));
    CHECK_OK(shmslot_set_add_writer(other, writer, 3, NULL));
    (void)reader_fd(readers[1], 0);
    check_nothing_to_read(readers[1]);
    shmslot_set_close(other);
    shmslot_reader_leave(readers[0]);
    shmslot_reader_leave(readers[1]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* What came before a reader entered is told, too. */
static void check_ends_before(void)
{
    shmslot_segment *segment = make();
    shmslot_reader *reader = join(segment, 0);
    shmslot_set *set = make_set(0);
    shmslot_sample sample;
    child writing;
    int fd = shmslot_segment_fd(segment);
    writing = start_child(write_and_wait, &fd);
    hear(writing.link);
    CHECK_U64(take(reader), 5);
    CHECK(kill(writing.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(writing), 128 + SIGKILL);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_PEER_DEAD));
    CHECK_OK(shmslot_set_add_reader(set, reader, 2, NULL));
    check_event(the_event(set), 2, SHMSLOT_EVENT_DATA);
    CHECK_CODE(shmslot_slot_read(reader, &sample), SHMSLOT_E_PEER_DEAD);
    shmslot_set_close(set);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

/* A wait for more readers than futex_waitv takes. Two of the attachments are of one segment, whose
 * name is lost before the wait, or during it. */
static void check_many_are_told_of_ends(int before)
{
    enum { MANY = 130, TWICE = 2 };
    static shmslot_segment *segments[MANY + TWICE];
    static shmslot_reader *readers[MANY + TWICE];
    shmslot_options options = options_of(SLOTS, 8);
    char name[64], path[512];
    struct wait_of_many many;
    pthread_t other;
    int i;
    options.spin_ns = SHMSLOT_SPIN_NONE;
    segments[0] = make_named(unique_name(name, sizeof name, "sets"), &options);
    segments[1] = attach(name);
    for (i = TWICE; i < MANY + TWICE; i++) segments[i] = make();
    for (i = 0; i < MANY + TWICE; i++) readers[i] = join(segments[i], 0);
    CHECK_OK(shmslot_reader_end_waits(readers[0], SHMSLOT_END_RETIRED));
    memset(&many, 0, sizeof many);
    many.readers = readers;
    many.count = MANY + TWICE;
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    CHECK_CODE(shmslot_wait_any(readers, MANY, AT_ONCE, &many.index), SHMSLOT_E_AGAIN);
    if (before) CHECK(unlink(path) == 0);
    other = start_thread(wait_for_many, &many);
    if (!before) {
        pid_t id;
        while ((id = __atomic_load_n(&many.thread, __ATOMIC_RELAXED)) == 0) (void)sched_yield();
        until_asleep(id);
        CHECK(unlink(path) == 0);
    }
    end_thread(other);
    CHECK_CODE(many.result, SHMSLOT_E_RETIRED);
    for (i = 0; i < MANY + TWICE; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_segment_close(segments[i]);
    }
}

static void check_fork(void)
{
    shmslot_set *set = make_set(0);
    shmslot_trigger *trigger = NULL;
    shmslot_event event;
    pid_t pid, parent = getpid();
    int status = 0;
    CHECK_OK(shmslot_set_add_trigger(set, 1, &trigger, NULL));
    check_quiet(set);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        check_parent = parent;
        CHECK_CODE(shmslot_set_wait(set, AT_ONCE, &event, 1), SHMSLOT_E_FORKED);
        CHECK_CODE(shmslot_set_interrupt(set), SHMSLOT_E_FORKED);
        CHECK_CODE(shmslot_trigger_fire(trigger), SHMSLOT_E_FORKED);
        CHECK_CODE(shmslot_set_remove(set, 1), SHMSLOT_E_FORKED);
        shmslot_trigger_close(trigger);
        shmslot_set_close(set);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    check_quiet(set);
    CHECK_OK(shmslot_trigger_fire(trigger));
    check_event(the_event(set), 1, SHMSLOT_EVENT_TRIGGER);
    shmslot_trigger_close(trigger);
    shmslot_set_close(set);
}

CHECK_MAIN()
{
    RUN(check_members(0));
    RUN(check_members(SHMSLOT_SET_EDGE));
    RUN(check_changes());
    RUN(check_many(0));
    RUN(check_many(SHMSLOT_SET_EDGE));
    RUN(check_threads_and_signals());
    RUN(check_death());
    RUN(check_close_lets_go());
    RUN(check_ends_before());
    RUN(check_many_are_told_of_ends(0));
    RUN(check_many_are_told_of_ends(1));
    RUN(check_overflow());
    RUN(check_fork());
}
