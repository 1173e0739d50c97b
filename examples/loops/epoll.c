/* Receives from two segments, with a timer beside them, in a bare loop of epoll.
 * Usage: epoll FIRST SECOND [edge] */
#include <shmslot_events.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

static unsigned long got[2], ticks;

/* Reads until there is nothing, which arms the descriptor; true when all writers are gone. */
static int receive(shmslot_reader *reader, int which)
{
    shmslot_sample sample;
    int code;
    while ((code = shmslot_slot_read(reader, &sample)) == 0) {
        got[which]++;
        must(shmslot_slot_mark(reader, &sample));
    }
    if (code != SHMSLOT_E_AGAIN && code != SHMSLOT_E_NO_WRITERS) must(code);
    return code == SHMSLOT_E_NO_WRITERS;
}

int main(int count, char **arguments)
{
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    shmslot_segment *segments[2];
    shmslot_reader *readers[2];
    int loop = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    int over[2] = {0, 0}, i, fd;
    struct epoll_event event = {EPOLLIN, {.u32 = 2}};
    if (count < 3) return 2;
    timerfd_settime(timer, 0, &every, NULL);
    epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event);
    if (count == 4 && strcmp(arguments[3], "edge") == 0) event.events |= EPOLLET;
    for (i = 0; i < 2; i++) {
        must(shmslot_segment_attach(arguments[1 + i], NULL, &segments[i], NULL));
        must(shmslot_reader_join(segments[i], 0, &readers[i], NULL));
        must(shmslot_reader_end_waits(readers[i], SHMSLOT_END_NO_WRITERS));
        must(shmslot_reader_fd(readers[i], 0, &fd, NULL));
        event.data.u32 = (unsigned)i;
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    }
    while (!over[0] || !over[1] || ticks == 0) {
        unsigned long long expired;
        if (epoll_wait(loop, &event, 1, -1) != 1) continue;
        i = (int)event.data.u32;
        if (i < 2) over[i] = receive(readers[i], i);
        if (i == 2 && read(timer, &expired, sizeof expired) > 0) ticks++;
    }
    printf("%lu %lu\n", got[0], got[1]);
    close(loop);
    for (i = 0; i < 2; i++) {
        shmslot_reader_leave(readers[i]);
        shmslot_segment_close(segments[i]);
    }
    return 0;
}
