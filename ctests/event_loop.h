/* The descriptor of a reader or a writer in a loop of epoll. */
#ifndef SHMSLOT_CTESTS_EVENT_LOOP_H
#define SHMSLOT_CTESTS_EVENT_LOOP_H

#include "samples.h"

#include <poll.h>
#include <sys/epoll.h>

static inline int reader_fd_(shmslot_reader *reader, uint32_t flags)
{
    int fd = -1;
    CHECK_OK(shmslot_reader_fd(reader, flags, &fd, NULL));
    CHECK(fd > STDERR_FILENO);
    return fd;
}

static inline int writer_fd_(shmslot_writer *writer, uint32_t flags)
{
    int fd = -1;
    CHECK_OK(shmslot_writer_fd(writer, flags, &fd, NULL));
    CHECK(fd > STDERR_FILENO);
    return fd;
}

static inline int is_readable(int fd)
{
    struct pollfd entry;
    entry.fd = fd;
    entry.events = POLLIN;
    CHECK(poll(&entry, 1, 0) >= 0);
    return (entry.revents & POLLIN) != 0;
}

/* A loop with one descriptor. `mode`: 0 for level-triggered, EPOLLET. */
static inline int loop_of_(int fd, uint32_t mode)
{
    struct epoll_event event;
    int loop = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop >= 0);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | mode;
    event.data.fd = fd;
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0);
    return loop;
}

/* Sleeps without limit until the loop has an event: a lost wake ends the test by its watchdog. */
static inline int turn_(int loop)
{
    struct epoll_event event;
    CHECK(epoll_wait(loop, &event, 1, -1) == 1);
    return event.data.fd;
}

static inline int has_event(int loop)
{
    struct epoll_event event;
    int count = epoll_wait(loop, &event, 1, 0);
    CHECK(count >= 0);
    return count == 1;
}

#define reader_fd(reader, flags) CHECK_HERE(reader_fd_(reader, flags))
#define writer_fd(writer, flags) CHECK_HERE(writer_fd_(writer, flags))
#define loop_of(fd, mode) CHECK_HERE(loop_of_(fd, mode))
#define turn(loop) CHECK_HERE(turn_(loop))

#define LOOP_SLOTS 8

/* Waits that poll would hide a wake that does not come. */
static inline shmslot_options options_with(uint32_t policy, uint32_t flags)
{
    shmslot_options options = options_of(LOOP_SLOTS, 8);
    options.policy = policy;
    options.flags = flags;
    options.spin_ns = SHMSLOT_SPIN_NONE;
    return options;
}

#endif
