/* A thread that sleeps inside one call. */
#ifndef SHMSLOT_CTESTS_SLEEPER_H
#define SHMSLOT_CTESTS_SLEEPER_H

#include "samples.h"

/* A thread that makes one call; its caller returns from `start` when the thread sleeps inside that
 * call. */
struct waiting {
    int (*call)(struct waiting *self);
    shmslot_reader *reader;
    shmslot_reader *const *readers;
    shmslot_writer *writer;
    shmslot_segment *segment;
    uint32_t generation;
    size_t index;
    int result;
    int ends[2];
    pthread_t thread;
};

static inline int call_wait(struct waiting *self)
{
    return shmslot_wait(self->reader, FOR_EVER);
}

static inline int call_wait_any(struct waiting *self)
{
    return shmslot_wait_any(self->readers, 2, FOR_EVER, &self->index);
}

static inline int call_wait_space(struct waiting *self)
{
    return shmslot_wait_space(self->writer, FOR_EVER);
}

static inline int call_reserve(struct waiting *self)
{
    shmslot_loan loan;
    int result = shmslot_slot_reserve(self->writer, 8, FOR_EVER, &loan);
    if (result == SHMSLOT_OK) CHECK_OK(shmslot_slot_discard(self->writer, &loan));
    return result;
}

static inline int call_wait_for_change(struct waiting *self)
{
    return shmslot_segment_wait_for_change(self->segment, self->generation, FOR_EVER,
                                           &self->generation);
}

static inline void *make_the_call(void *argument)
{
    struct waiting *self = argument;
    pid_t id = thread_id();
    send_bytes(self->ends[1], &id, sizeof id);
    self->result = self->call(self);
    return NULL;
}

static inline void start(struct waiting *self, int (*call)(struct waiting *self))
{
    pid_t id;
    self->call = call;
    self->result = 1;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, self->ends) == 0);
    self->thread = start_thread(make_the_call, self);
    receive_bytes(self->ends[0], &id, sizeof id);
    until_asleep(id);
}

static inline int finish(const struct waiting *self)
{
    end_thread(self->thread);
    (void)close(self->ends[0]);
    (void)close(self->ends[1]);
    return self->result;
}

#endif
