/* A publisher that has ended before the reader starts. With history, a reader that adopts the orphaned
 * segment finds the last samples; one that replaces it, which is the default, finds none, and learns
 * by the result of open that it has begun anew. The publisher can see that nobody reads. */
#include "samples.h"

enum { SLOTS = 8, HISTORY = 5, WRITTEN = 20 };

static char name[64];

struct plan {
    uint32_t policy, if_orphaned;
    int killed;
};

static shmslot_options options_for(const struct plan *plan)
{
    shmslot_options options = options_of(SLOTS, 8);
    options.history = HISTORY;
    options.policy = plan->policy;
    options.if_orphaned = plan->if_orphaned;
    return options;
}

static int publish(int link, void *plan_of_it)
{
    const struct plan *plan = plan_of_it;
    shmslot_options options = options_for(plan);
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    uint64_t i;
    CHECK_OK(shmslot_segment_open(name, &options, &segment, NULL));
    writer = open_writer(segment);
    CHECK_CODE(shmslot_wait_readers(writer, 1, AT_ONCE, NULL), SHMSLOT_E_AGAIN); /* the sign */
    for (i = 0; i < WRITTEN; i++) {
        uint64_t sequence = info_of(segment).next_sequence;
        CHECK_U64(put(writer, sequence), sequence);
    }
    say(link);
    if (plan->killed) hear(link); /* never comes */
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void run_publisher(struct plan *plan)
{
    child publisher = start_child(publish, plan);
    hear(publisher.link);
    if (plan->killed) {
        CHECK(kill(publisher.pid, SIGKILL) == 0);
        CHECK_U64((uint64_t)end_child(publisher), 128 + SIGKILL);
    } else {
        CHECK_CHILD(publisher);
    }
}

static void check_a_late_reader(uint32_t policy, uint32_t if_orphaned, int killed)
{
    struct plan plan = {policy, if_orphaned, killed};
    shmslot_options options = options_for(&plan);
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    uint64_t i;
    int adopts = if_orphaned == SHMSLOT_ORPHANED_ADOPT, runs = adopts ? 2 : 1, created;
    (void)unique_name(name, sizeof name, "early");
    run_publisher(&plan);
    if (adopts) run_publisher(&plan); /* goes on where the first has ended */
    created = shmslot_segment_open(name, &options, &segment, NULL);
    CHECK_CODE(created, !adopts);
    reader = join(segment, HISTORY);
    if (adopts) {
        for (i = (uint64_t)runs * WRITTEN - HISTORY + 1; i <= (uint64_t)runs * WRITTEN; i++) {
            shmslot_sample sample = hold(reader);
            CHECK_U64(sample.sequence, i);
            CHECK_U64(value_of(&sample), i);
            CHECK_OK(shmslot_slot_mark(reader, &sample));
        }
    }
    check_nothing_to_read(reader);
    CHECK_U64(lost(reader), 0);
    CHECK_U64(info_of(segment).next_sequence, adopts ? (uint64_t)runs * WRITTEN + 1 : 1);
    shmslot_reader_leave(reader);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

/* The other way: the publisher waits until somebody reads, and nothing is lost. */
static int publish_when_read(int link, void *unused)
{
    shmslot_options options = options_of(SLOTS, 8);
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    uint64_t i;
    (void)unused;
    CHECK_OK(shmslot_segment_open(name, &options, &segment, NULL));
    writer = open_writer(segment);
    say(link);
    CHECK_OK(shmslot_wait_readers(writer, 1, FOR_EVER, NULL));
    for (i = 1; i <= WRITTEN; i++) CHECK_U64(put_wait(writer, i, FOR_EVER), i);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void check_a_publisher_that_waits(void)
{
    shmslot_options options = options_of(SLOTS, 8);
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    child publisher;
    uint64_t i;
    (void)unique_name(name, sizeof name, "early");
    publisher = start_child(publish_when_read, NULL);
    hear(publisher.link);
    CHECK_CODE(shmslot_segment_open(name, &options, &segment, NULL), 0);
    reader = join(segment, 0);
    for (i = 1; i <= WRITTEN; i++) CHECK_U64(take_wait(reader), i);
    CHECK_CHILD(publisher);
    check_nothing_to_read(reader);
    shmslot_reader_leave(reader);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    static const uint32_t policies[] = {SHMSLOT_POLICY_BLOCK, SHMSLOT_POLICY_FAIL,
                                        SHMSLOT_POLICY_DROP_OLDEST};
    int i, killed;
    for (i = 0; i < 3; i++) {
        for (killed = 0; killed < 2; killed++) {
            RUN(check_a_late_reader(policies[i], SHMSLOT_ORPHANED_ADOPT, killed));
            RUN(check_a_late_reader(policies[i], SHMSLOT_ORPHANED_REPLACE, killed));
        }
    }
    RUN(check_a_publisher_that_waits());
}
