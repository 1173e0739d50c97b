/* Sends numbers, and waits for free slots in a bare loop of epoll, while a timer goes on.
 * Usage: epoll_send SEGMENT COUNT */
#include <shmslot_events.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

int main(int count, char **arguments)
{
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    struct epoll_event event = {EPOLLIN, {.u32 = 0}};
    shmslot_segment *segment;
    shmslot_writer *writer;
    unsigned long next = 0, last, ticks = 0;
    int loop = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0), fd;
    if (count != 3) return 2;
    last = strtoul(arguments[2], NULL, 10);
    must(shmslot_segment_attach(arguments[1], NULL, &segment, NULL));
    must(shmslot_writer_open(segment, &writer, NULL));
    must(shmslot_writer_fd(writer, 0, &fd, NULL));
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    timerfd_settime(timer, 0, &every, NULL);
    event.data.u32 = 1;
    epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event);
    while (next < last || ticks == 0) {
        unsigned long long expired;
        if (epoll_wait(loop, &event, 1, -1) != 1) continue;
        if (event.data.u32 == 1 && read(timer, &expired, sizeof expired) > 0) ticks++;
        while (event.data.u32 == 0 && next < last) { /* until no slot is free, which arms it */
            int code = shmslot_slot_write(writer, &next, sizeof next, 0, NULL);
            if (code == SHMSLOT_E_NO_FREE_SLOT) break;
            must(code);
            next++;
        }
        if (next == last && event.data.u32 == 0) epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL);
    }
    close(loop);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}
