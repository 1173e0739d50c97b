/* A writer looks for a region while a reader marks the sample of one region and takes that of
 * another in hand: at each moment one of the two can be had, so the writer must get one, wherever
 * in its search this happens.
 *
 * The search is single-stepped, and the reader has its turn after so many instructions: a run for
 * each number. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
#include "samples.h"
#include "single_steps.h"

#define SLOTS 4
#define REGIONS 2
#define LARGE 100000 /* more than a slot takes */
#define MOST_RUNS 150 /* every few instructions are enough */

struct search {
    int fd;
    shmslot_writer *writer;
};

static void open_it(void *argument)
{
    struct search *search = argument;
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(search->fd, NULL, &segment, NULL));
    search->writer = open_writer(segment);
}

static void reserve_large(void *argument)
{
    struct search *search = argument;
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(search->writer, LARGE, AT_ONCE, &loan));
}

static void put_large(shmslot_writer *writer)
{
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, LARGE, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_commit(writer, &loan, LARGE, NULL));
}

/* Lets the search go `instructions` far, then the reader have its turn; how far the search went by
 * itself. */
static uint64_t try_after(uint64_t instructions)
{
    shmslot_options options = options_of(SLOTS, 8);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    shmslot_sample first, second;
    struct search search;
    uint64_t steps = 0;
    pid_t pid;
    options.policy = SHMSLOT_POLICY_DROP_OLDEST;
    options.max_payload = LARGE;
    options.region_count = REGIONS;
    segment = make_anonymous(&options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    put_large(writer);
    put_large(writer);
    first = hold(reader);
    search.fd = shmslot_segment_fd(segment);
    pid = steps_start(open_it, reserve_large, NULL, &search);
    while (steps < instructions && steps_go(pid, PTRACE_SINGLESTEP)) steps++;
    if (steps == instructions) {
        CHECK_OK(shmslot_slot_mark(reader, &first));
        /* taken back by then */
        if (shmslot_slot_read(reader, &second) == SHMSLOT_E_AGAIN) CHECK_U64(lost(reader), 1);
        steps_finish(pid);
    }
    steps_kill(pid);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return steps;
}

int main(void)
{
    uint64_t length, stride, at;
    check_begin();
#ifndef __x86_64__
    SKIP("elsewhere a single step may break an exclusive access, which then never succeeds");
#endif
    steps_begin();
    length = try_after(UINT64_MAX);
    stride = length / MOST_RUNS + 1;
    for (at = 0; at < length; at += stride) {
        alarm(CHECK_WATCHDOG_S);
        (void)try_after(at);
    }
    printf("%" PRIu64 " instructions, the reader's turn after every %" PRIu64 " of them\n", length,
           stride);
    return 0;
}
