/* How a middleware waits: rmw_wait of ROS 2 gets new arrays of subscriptions and guard conditions at
 * each call, and sets those that are not ready to NULL. Here one set per process has all of them all
 * the time, so a call that is given other arrays attaches nothing: it notes in each entry which call
 * wants it. A guard condition stays triggered until a wait has taken it.
 * Usage: rmw_wait FIRST SECOND */
#include <shmslot_events.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

typedef struct entity {
    shmslot_reader *reader;   /* of a subscription */
    shmslot_trigger *trigger; /* of a guard condition */
    int may_be_ready;
    uint64_t wanted_by;
} entity;

static shmslot_set *set;
static uint64_t calls;

static entity *new_subscription(shmslot_segment *segment)
{
    entity *made = calloc(1, sizeof *made);
    if (made == NULL) exit(1);
    must(shmslot_reader_join(segment, 0, &made->reader, NULL));
    must(shmslot_reader_end_waits(made->reader, SHMSLOT_END_NO_WRITERS));
    must(shmslot_set_add_reader(set, made->reader, (uintptr_t)made, NULL));
    return made;
}

static entity *new_guard_condition(void)
{
    entity *made = calloc(1, sizeof *made);
    if (made == NULL) exit(1);
    must(shmslot_set_add_trigger(set, (uintptr_t)made, &made->trigger, NULL));
    return made;
}

static void destroy(entity *gone)
{
    must(shmslot_set_remove(set, (uintptr_t)gone));
    shmslot_reader_leave(gone->reader);
    shmslot_trigger_close(gone->trigger);
    free(gone);
}

/* Keeps the entries that are ready, and sets the others to NULL; returns how many are. */
static size_t keep_ready(entity **entries, size_t count)
{
    size_t ready = 0, i;
    for (i = 0; i < count; i++) {
        if (!entries[i]->may_be_ready) {
            entries[i] = NULL;
            continue;
        }
        if (entries[i]->trigger != NULL) entries[i]->may_be_ready = 0; /* taken */
        ready++;
    }
    return ready;
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* rmw_wait: subscriptions and guard conditions that may be ready; 0 when the time is over. */
static size_t wait_for(entity **entries, size_t count, int64_t timeout_ns)
{
    shmslot_event events[64];
    int64_t left = timeout_ns, end = timeout_ns > 0 ? now_ns() + timeout_ns : 0;
    int wanted = 0, told, i;
    size_t entry;
    calls++;
    for (entry = 0; entry < count; entry++) {
        entries[entry]->wanted_by = calls;
        wanted |= entries[entry]->may_be_ready;
    }
    do {
        told = shmslot_set_wait(set, wanted ? 0 : left, events, 64);
        must(told);
        for (i = 0; i < told; i++) {
            entity *of = (entity *)(uintptr_t)events[i].cookie;
            of->may_be_ready = 1;
            wanted |= of->wanted_by == calls;
        }
        /* what nobody waits for here does not make the wait longer */
        if (timeout_ns > 0) left = end > now_ns() ? end - now_ns() : 0;
    } while (told > 0 && !wanted);
    return keep_ready(entries, count);
}

/* rmw_take: a sample, or nothing; then the subscription is not ready any more. */
static int take(entity *subscription, shmslot_sample *sample)
{
    int code = shmslot_slot_read(subscription->reader, sample);
    if (code != SHMSLOT_OK) subscription->may_be_ready = 0;
    return code;
}

static entity *stop;

static void on_signal(int number)
{
    (void)number;
    (void)shmslot_trigger_fire(stop->trigger);
}

int main(int count, char **arguments)
{
    shmslot_segment *segments[2];
    entity *subscriptions[2], *entries[3];
    unsigned long got[2] = {0, 0};
    int left = 2, over[2] = {0, 0}, i;
    if (count != 3) return 2;
    must(shmslot_set_create(SHMSLOT_SET_EDGE, &set, NULL)); /* entries note what they were told */
    stop = new_guard_condition();
    (void)signal(SIGUSR1, on_signal);
    for (i = 0; i < 2; i++) {
        must(shmslot_segment_attach(arguments[1 + i], NULL, &segments[i], NULL));
        subscriptions[i] = new_subscription(segments[i]);
    }
    for (;;) {
        entries[0] = stop;
        entries[1] = subscriptions[0];
        entries[2] = subscriptions[1];
        if (wait_for(entries, 3, -1) == 0) return 3;
        if (entries[0] != NULL) break;
        for (i = 0; i < 2; i++) {
            shmslot_sample sample;
            int code;
            if (entries[1 + i] == NULL) continue;
            code = take(subscriptions[i], &sample);
            if (code == SHMSLOT_OK) {
                got[i]++;
                must(shmslot_slot_mark(subscriptions[i]->reader, &sample));
            } else if (code == SHMSLOT_E_NO_WRITERS && !over[i]) {
                over[i] = 1;
                if (--left == 0) (void)raise(SIGUSR1); /* a handler triggers the guard condition */
            } else if (code != SHMSLOT_E_AGAIN && code != SHMSLOT_E_NO_WRITERS) {
                must(code);
            }
        }
    }
    printf("%lu %lu\n", got[0], got[1]);
    for (i = 0; i < 2; i++) destroy(subscriptions[i]);
    destroy(stop);
    shmslot_set_close(set);
    for (i = 0; i < 2; i++) shmslot_segment_close(segments[i]);
    return 0;
}
