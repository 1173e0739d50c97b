/* No call is a cancellation point: with a request pending, each call does everything that it does
 * otherwise, and the thread ends at its own next cancellation point. */
#include "every_call.h"

/* Where the threads below end. */
static void *until_cancelled(void)
{
    pthread_testcancel();
    return NULL;
}

/* ---- each call, with a request that is pending already ---- */

static int result_of_call;

static void *call_with_request_pending(void *argument)
{
    const scenario *what = argument;
    int state;
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL) == 0);
    CHECK(pthread_cancel(pthread_self()) == 0);
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL) == 0);
    result_of_call = what->call();
    /* The state that the caller had set. */
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0);
    CHECK_U64((uint64_t)state, PTHREAD_CANCEL_ENABLE);
    return until_cancelled();
}

static int call_once(int link, void *argument)
{
    const scenario *what = argument;
    pthread_t thread;
    void *end;
    (void)link;
    what->prepare();
    result_of_call = -1000;
    thread = start_thread(call_with_request_pending, argument);
    CHECK(pthread_join(thread, &end) == 0);
    CHECK(end == PTHREAD_CANCELED);
    CHECK_U64((uint64_t)result_of_call, (uint64_t)what->expected);
    take_down();
    return 0;
}

static void check_every_call(void)
{
    unsigned wrong = 0;
    size_t i;
    for (i = 0; i < SCENARIOS; i++) {
        int status = run_child(call_once, (void *)(uintptr_t)&scenarios[i]);
        if (status == 0) continue;
        wrong++;
        fprintf(stderr, "%s: ended with %d\n", scenarios[i].name, status);
        (void)unlink(path);
        (void)unlink(socket_path);
    }
    CHECK_U64(wrong, 0);
}

/* ---- a request that comes while the call sleeps ---- */

static pid_t sleeper;
static int link_of_sleeper;

static void *sleep_until_a_sample(void *argument)
{
    shmslot_reader *reader = argument;
    sleeper = thread_id();
    say(link_of_sleeper);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    CHECK_U64(take(reader), 7);
    return until_cancelled();
}

/* With a dead peer to recover, for which a wait looks five times per second. */
static void check_asleep(void)
{
    pthread_t thread;
    void *end;
    uint64_t dead_left;
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    link_of_sleeper = ends[0];
    both_ends();
    thread = start_thread(sleep_until_a_sample, world.reader);
    hear(ends[1]);
    until_asleep(sleeper);
    CHECK(pthread_cancel(thread) == 0);
    CHECK_U64((uint64_t)run_child(die_attached, (void *)(uintptr_t)"wr"), 0);
    do {
        dead_left = info_of(world.segment).participants - 1;
    } while (dead_left > 0); /* nobody else recovers */
    until_asleep(sleeper);
    (void)put(world.writer, 7);
    CHECK(pthread_join(thread, &end) == 0);
    CHECK(end == PTHREAD_CANCELED);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    take_down();
}

CHECK_MAIN()
{
    no_core_files();
    scenarios_begin();
    RUN(check_every_call());
    RUN(check_asleep());
}
