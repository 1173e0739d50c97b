/* Signals end waits where that was requested, and nowhere else. */
#include "sleeper.h"

#include <signal.h>

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void catch_signal(int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = flags;
    CHECK(sigemptyset(&action.sa_mask) == 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
}

static int call_wait_readers(struct waiting *self)
{
    return shmslot_wait_readers(self->writer, 2, FOR_EVER, NULL);
}

/* `waiting` is complete except for the thread. */
static void check_ends(struct waiting *waiting, int (*call)(struct waiting *self))
{
    const int before = handled;
    start(waiting, call);
    CHECK(pthread_kill(waiting->thread, SIGUSR1) == 0);
    CHECK_CODE(finish(waiting), SHMSLOT_E_INTERRUPTED);
    CHECK(handled == before + 1);
}

static void check_every_wait(int flags)
{
    shmslot_options options = options_of(1, 8);
    shmslot_segment *segment, *other;
    shmslot_writer *writer;
    shmslot_reader *reader, *idle, *both[2];
    struct waiting waiting;

    catch_signal(flags);
    options.spin_ns = 1;
    segment = make_anonymous(&options);
    other = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    idle = join(other, 0);
    (void)put(writer, 1);
    CHECK_OK(shmslot_reader_end_waits(idle, SHMSLOT_END_SIGNAL));
    CHECK_OK(shmslot_writer_end_waits(writer, SHMSLOT_END_SIGNAL));
    CHECK_OK(shmslot_segment_end_waits(segment, SHMSLOT_END_SIGNAL));

    memset(&waiting, 0, sizeof waiting);
    waiting.reader = idle;
    waiting.writer = writer;
    waiting.segment = segment;
    CHECK_OK(shmslot_segment_generation(segment, &waiting.generation));
    check_ends(&waiting, call_wait);
    check_ends(&waiting, call_reserve);
    check_ends(&waiting, call_wait_space);
    check_ends(&waiting, call_wait_readers);
    check_ends(&waiting, call_wait_for_change);
    if (flags == 0) {
        /* The kernel itself continues a sleep on several words after a handler with SA_RESTART. */
        (void)take(reader);
        both[0] = idle;
        both[1] = reader;
        waiting.readers = both;
        check_ends(&waiting, call_wait_any);
    }
    shmslot_reader_leave(idle);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
}

/* Existing samples come first, and a request that was withdrawn ends nothing. */
static void check_samples_come_first(void)
{
    shmslot_options options = options_of(1, 8);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    struct waiting waiting;
    catch_signal(0);
    CHECK_OK(shmslot_reader_end_waits(reader, SHMSLOT_END_SIGNAL));
    (void)put(writer, 1);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    (void)take(reader);

    CHECK_OK(shmslot_reader_end_waits(reader, 0));
    memset(&waiting, 0, sizeof waiting);
    waiting.reader = reader;
    start(&waiting, call_wait);
    CHECK(pthread_kill(waiting.thread, SIGUSR1) == 0);
    (void)put(writer, 2);
    CHECK_OK(finish(&waiting));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_every_wait(0));
    RUN(check_every_wait(SA_RESTART));
    RUN(check_samples_come_first());
}
