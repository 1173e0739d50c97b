/* A process may be killed at any instruction.
 *
 * The victim is single-stepped through one operation. It is killed after each step that changed the
 * segment's shared words, and after each system call; a kill between two such steps leaves the same
 * state. Each point has a new segment and a new victim. While the victim is stopped there, and
 * after the kill, the survivors must continue at once. After recovery everything must add up: every
 * slot, every row, every bit, every sample. The printed table has one row for each operation.
 *
 * One survivor holds a sample all the time, and is owed all others. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
/* not under musl: it takes minutes, and the C library has no part in what it looks at */
/* not under aarch64: the emulator has no single steps */
/* takes minutes: thousands of processes, one after another */
#include "crash_stage.h"

#define REGIONS 4

/* ---- more that victims do ---- */

#define BATCH 3

/* What a victim has in several slots. */
static struct {
    shmslot_loan loans[BATCH];
    shmslot_sample samples[BATCH];
    int read;
} batch;

static void join_now(struct victim *victim)
{
    victim->reader = join(victim->segment, 0);
}

/* One held sample, and more that are owed. */
static void join_and_read(struct victim *victim)
{
    join_with_history(victim);
    read_one(victim);
}

static void trim_it(struct victim *victim)
{
    CHECK_OK(shmslot_segment_trim(victim->segment, NULL));
}

static void write_one(struct victim *victim)
{
    (void)put(victim->writer, VICTIMS_VALUE);
}

static void have_loans(struct victim *victim)
{
    uint64_t value = VICTIMS_VALUE;
    int i;
    open_it(victim);
    CHECK_U64((uint64_t)shmslot_slot_reserve_many(victim->writer, 8, AT_ONCE, batch.loans, BATCH),
              BATCH);
    for (i = 0; i < BATCH; i++) memcpy(batch.loans[i].data, &value, sizeof value);
}

static void reserve_batch(struct victim *victim)
{
    CHECK_U64((uint64_t)shmslot_slot_reserve_many(victim->writer, 8, AT_ONCE, batch.loans, BATCH),
              BATCH);
}

static void commit_batch(struct victim *victim)
{
    CHECK_U64((uint64_t)shmslot_slot_commit_many(victim->writer, batch.loans, NULL, BATCH, NULL),
              BATCH);
}

static void read_batch(struct victim *victim)
{
    batch.read = shmslot_slot_read_many(victim->reader, batch.samples, BATCH);
    CHECK(batch.read > 1);
}

static void join_and_read_batch(struct victim *victim)
{
    join_with_history(victim);
    read_batch(victim);
}

static void mark_batch(struct victim *victim)
{
    CHECK_CODE(shmslot_slot_mark_many(victim->reader, batch.samples, (size_t)batch.read),
               batch.read);
}

static void read_and_mark_batch(struct victim *victim)
{
    read_batch(victim);
    mark_batch(victim);
}

static void close_the_writer(struct victim *victim)
{
    shmslot_writer_close(victim->writer);
}

static void read_and_mark(struct victim *victim)
{
    read_one(victim);
    mark_it(victim);
}

static void peek_one(struct victim *victim)
{
    CHECK_OK(shmslot_slot_peek_latest(victim->reader, &victim->sample));
}

static void read_all(struct victim *victim)
{
    join_with_history(victim);
    while (shmslot_slot_read(victim->reader, &victim->sample) == SHMSLOT_OK) mark_it(victim);
}

static void wait_a_little(struct victim *victim)
{
    CHECK_CODE(shmslot_wait(victim->reader, MILLISECOND / 100), SHMSLOT_E_TIMEOUT);
}

static void take_all_slots(struct victim *victim)
{
    open_it(victim);
    while (shmslot_slot_reserve(victim->writer, 8, AT_ONCE, &victim->loan) == SHMSLOT_OK) continue;
}

static void wait_for_space(struct victim *victim)
{
    CHECK_CODE(shmslot_wait_space(victim->writer, MILLISECOND / 100), SHMSLOT_E_TIMEOUT);
}

static void attach_anew(struct victim *victim)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(victim->segment), NULL, &segment, NULL));
    shmslot_segment_close(segment);
}

static void close_the_segment(struct victim *victim)
{
    shmslot_segment_close(victim->segment);
}

static void recover_others(struct victim *victim)
{
    CHECK_CODE(shmslot_segment_recover(victim->segment, NULL), 1);
}

/* ---- the survivors ---- */

struct scenario {
    const char *name;
    uint32_t policy, flags, history, max_readers;
    void (*before)(struct stage *stage);    /* by the survivors */
    step prepare, operation;                /* by the victim; the operation step by step */
    void (*meanwhile)(struct stage *stage); /* by the survivors, at each of the points */
    int publishes;                          /* how many samples the operation publishes */
    void (*between)(struct stage *stage);   /* by the survivors, after `prepare` */
    void (*after)(struct stage *stage);     /* by the survivors, first thing after the kill */
};

static void first_sample(struct stage *stage)
{
    put_one(stage, 1);
    stage->held = hold(stage->reader);
    stage->last = stage->held.sequence;
}

static void put_two(struct stage *stage)
{
    put_one(stage, 2);
    put_one(stage, 3);
}

static void two_samples(struct stage *stage)
{
    first_sample(stage);
    put_two(stage);
}

/* The held sample and two owed ones are in regions, and one region is left. */
static void three_large_samples(struct stage *stage)
{
    put_large(stage, 1);
    stage->held = hold(stage->reader);
    stage->last = stage->held.sequence;
    put_large(stage, 2);
    put_large(stage, 3);
}

/* All regions are leased, one to the held sample. */
static void fill_up_regions(struct stage *stage)
{
    three_large_samples(stage);
    put_large(stage, 4);
}

static void fill_up(struct stage *stage)
{
    uint64_t value;
    first_sample(stage);
    for (value = 2; value <= SLOTS + 1; value++) put_one(stage, value);
}

/* The sample stays held while the order goes around twice: the next commit overwrites its entry. */
static void go_around_twice(struct stage *stage)
{
    uint64_t value;
    stage->leaver = join(stage->segment, 0);
    first_sample(stage);
    for (value = 2; value <= 2 * SLOTS; value++) put_one(stage, value);
}

static void add_a_leaver(struct stage *stage)
{
    two_samples(stage);
    stage->leaver = join(stage->segment, 0);
    stage->leaver_since = 3;
}

/* A reader of the survivors, which holds one sample and has not read the others. */
static int index_of_leaver;
static shmslot_sample held_by_leaver;

static void add_a_stuck_reader(struct stage *stage)
{
    stage->leaver = join(stage->segment, 0);
    index_of_leaver = shmslot_reader_index(stage->leaver);
    first_sample(stage);
    put_one(stage, 2);
    put_one(stage, 3);
    held_by_leaver = hold(stage->leaver);
}

/* It is the first reader in its row. */
static void expel_the_leaver(struct victim *victim)
{
    CHECK_OK(shmslot_segment_expel(victim->segment, (uint32_t)index_of_leaver, 1, NULL));
}

/* Nobody recovers the victim at once: others write on as long as there is room, which is laps if the
 * stuck reader is owed nothing any more. */
static void write_before_recovery(struct stage *stage)
{
    uint64_t value, sequence = 0;
    for (value = 200; value < 200 + 3 * SLOTS; value++) {
        if (shmslot_slot_write(stage->writer, &value, sizeof value, AT_ONCE, &sequence) !=
            SHMSLOT_OK)
            break;
        note_value(stage, sequence, value);
        drain(stage);
    }
}

/* However far the victim came: the reader reads on, or is told; and a second expeller completes
 * what the first began. */
static void complete_it(struct stage *stage)
{
    shmslot_sample sample;
    int result;
    write_before_recovery(stage);
    result = shmslot_slot_read(stage->leaver, &sample);
    if (result == SHMSLOT_OK) {
        CHECK(!is_victims(stage, &sample));
        if (!drops_oldest(stage)) CHECK_U64(value_of(&sample), 2);
        CHECK_OK(shmslot_slot_mark(stage->leaver, &sample));
    } else {
        CHECK_CODE(result, SHMSLOT_E_EXPELLED);
    }
    CHECK_OK(shmslot_segment_expel(stage->segment, (uint32_t)index_of_leaver, 1, NULL));
    CHECK_CODE(shmslot_slot_read(stage->leaver, &sample), SHMSLOT_E_EXPELLED);
    CHECK_U64(value_of(&held_by_leaver), 1);
    CHECK_OK(shmslot_slot_mark(stage->leaver, &held_by_leaver));
    let_it_leave(stage);
}

/* The reader leaves after the victim died, and nobody expels it again. */
static void let_it_leave_by_itself(struct stage *stage)
{
    write_before_recovery(stage);
    CHECK_U64(value_of(&held_by_leaver), 1);
    CHECK_OK(shmslot_slot_mark(stage->leaver, &held_by_leaver));
    let_it_leave(stage);
}

/* ---- other processes ---- */

static child other; /* dead or asleep */

static int have_everything(int link, void *stage)
{
    struct victim victim;
    memset(&victim, 0, sizeof victim);
    victim.segment = attach_to(stage);
    victim.history = 2;
    join_and_read(&victim);
    have_a_loan(&victim);
    reserve_one(&victim);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static void add_another(struct stage *stage)
{
    two_samples(stage);
    other = start_child(have_everything, stage);
    hear(other.link);
}

static void kill_the_other(struct stage *stage)
{
    (void)stage;
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
}

/* Whoever recovered it, and however many died doing that: the record of its death says what it
 * had, although some of that may have been released before the record was completed. */
static void check_its_record(struct stage *stage)
{
    shmslot_death deaths[PARTICIPANTS];
    size_t count = 0, i;
    CHECK_OK(shmslot_segment_recover(stage->segment, NULL));
    CHECK_OK(shmslot_segment_deaths(stage->segment, deaths, sizeof deaths[0], PARTICIPANTS, &count));
    for (i = 0; i < count && deaths[i].pid != (uint32_t)other.pid; i++) continue;
    CHECK(i < count);
    CHECK_U64(deaths[i].writers, 1);
    CHECK(deaths[i].readers != 0 && (deaths[i].readers & (deaths[i].readers - 1)) == 0);
    CHECK(deaths[i].noticed_ns != 0);
}

static int sleep_for_a_sample(int link, void *stage)
{
    shmslot_reader *reader = join(attach_to(stage), 0);
    uint64_t value;
    say(link);
    value = take_wait(reader);
    CHECK(value == VICTIMS_VALUE || value == 100);
    return 0;
}

static void add_a_sleeping_reader(struct stage *stage)
{
    two_samples(stage);
    other = start_child(sleep_for_a_sample, stage);
    hear(other.link);
    until_asleep(other.pid);
}

/* If the victim has published, the sleeper wakes without further events. */
static void let_it_wake(struct stage *stage)
{
    drain(stage);
    if (stage->victims_samples == 0) put_one(stage, 100);
    CHECK_CHILD(other);
}

static int sleep_for_space(int link, void *stage)
{
    shmslot_writer *writer = open_writer(attach_to(stage));
    say(link);
    (void)put_wait(writer, VICTIMS_VALUE, FOR_EVER);
    return 0;
}

/* Everything is owed to the victim, and a writer sleeps because of it. */
static void add_a_sleeping_writer(struct stage *stage)
{
    uint64_t value, sequence;
    for (value = 2;
         shmslot_slot_write(stage->writer, &value, sizeof value, AT_ONCE, &sequence) == SHMSLOT_OK;
         value++) {
        note_value(stage, sequence, value);
    }
    drain(stage);
    other = start_child(sleep_for_space, stage);
    hear(other.link);
    until_asleep(other.pid);
}

/* The victim had the space, or gave it back: in both cases there is some now. */
static void let_it_write(struct stage *stage)
{
    CHECK_CHILD(other);
    drain(stage);
    CHECK_U64((uint64_t)stage->victims_samples, 1);
}

/* Reader 0 has no row: its caller marks for it. It has something to read only if the victim has
 * published. */
static void read_by_reference(struct stage *stage)
{
    shmslot_ref ref;
    const void *data = NULL;
    uint64_t value = 0;
    size_t len = 0;
    CHECK_OK(shmslot_segment_recover(stage->segment, NULL));
    drain(stage);
    if (stage->victims_samples == 1) {
        CHECK_OK(shmslot_ref_next_unread(stage->segment, 0, &ref));
        CHECK_OK(shmslot_ref_read_ptr(stage->segment, &ref, &data, &len));
        CHECK_U64(len, sizeof value);
        memcpy(&value, data, len);
        CHECK_U64(value, VICTIMS_VALUE);
        CHECK_OK(shmslot_ref_mark_read(stage->segment, &ref, 0));
    }
    CHECK_CODE(shmslot_ref_next_unread(stage->segment, 0, &ref), SHMSLOT_E_AGAIN);
}

/* ---- what must be true afterwards ---- */

static void check_samples(struct stage *stage, const struct scenario *scenario, int finished)
{
    put_one(stage, 100); /* at once, and before any explicit recovery */
    drain(stage);
    CHECK_U64(stage->values[stage->last], 100);
    /* one is held; no hole, no duplicate */
    CHECK_U64(stage->received + 1 + lost(stage->reader), stage->last);
    if (!drops_oldest(stage)) {
        CHECK_U64(lost(stage->reader), 0);
        CHECK(stage->victims_samples <= (scenario->publishes > 1 ? scenario->publishes : 1));
        if (finished && scenario->publishes)
            CHECK_U64((uint64_t)stage->victims_samples, (uint64_t)scenario->publishes);
    }
    CHECK_U64(value_of(&stage->held), 1);
}

static void check_stage(struct stage *stage, const struct scenario *scenario, int finished)
{
    if (scenario->after != NULL) scenario->after(stage);
    if (stage->writer == NULL) stage->writer = open_writer(stage->segment);
    check_samples(stage, scenario, finished);
    check_recovered(stage);
    CHECK_OK(shmslot_slot_mark(stage->reader, &stage->held));
    if (stage->leaver != NULL) check_leaver(stage);
    check_all_slots(stage);
    if (stage->leaver != NULL) let_it_leave(stage);
    if (scenario->operation == reserve_by_mask || scenario->operation == commit_ref) {
        /* The number belongs to the callers until they give it up: no reader may join with it
         * before. */
        CHECK_OK(shmslot_ref_mark_reader_disconnected(stage->segment, 0));
    }
    check_rows(stage);
    check_slots(stage);
    check_regions(stage);
}

/* ---- one victim, killed at one point ---- */

struct run {
    const struct scenario *scenario;
    int fd;
    struct victim victim;
};

static void prepare_victim(void *argument)
{
    struct run *run = argument;
    CHECK_OK(shmslot_segment_attach_fd(run->fd, NULL, &run->victim.segment, NULL));
    run->victim.history = 2;
    run->scenario->prepare(&run->victim);
}

static void run_operation(void *argument)
{
    struct run *run = argument;
    run->scenario->operation(&run->victim);
}

/* The victim is stopped there, which blocks nobody else. */
static void go_on(struct stage *stage, const struct scenario *scenario)
{
    if (scenario->after == let_it_wake || scenario->after == let_it_write)
        return; /* others sleep for what the victim has */
    if (stage->writer != NULL && scenario->policy != SHMSLOT_POLICY_BLOCK) put_one(stage, 99);
    drain(stage);
}

/* Kills at point `kill_at`, and lets the survivors act at point `act_at`; false if the operation
 * was over before. */
static int try_point(const struct scenario *scenario, int kill_at, int act_at)
{
    static struct watched watched;
    struct stage stage;
    struct run run;
    pid_t pid;
    int point = 0, more = 1;
    open_stage(&stage, scenario->policy, scenario->flags, scenario->history, scenario->max_readers,
               REGIONS);
    scenario->before(&stage);
    if (scenario->flags & SHMSLOT_FLAG_SINGLE_WRITER) {
        shmslot_writer_close(stage.writer);
        stage.writer = NULL;
    }
    memset(&run, 0, sizeof run);
    run.scenario = scenario;
    run.fd = shmslot_segment_fd(stage.segment);
    watch(&watched, stage.segment);
    pid = steps_start(prepare_victim, run_operation, NULL, &run);
    if (scenario->between != NULL) scenario->between(&stage);
    while (more && point < kill_at) {
        more = watch_to_next_point(&watched, pid);
        if (more && ++point == act_at) scenario->meanwhile(&stage);
    }
    go_on(&stage, scenario);
    steps_kill(pid);
    unwatch(&watched);
    check_stage(&stage, scenario, !more);
    close_stage(&stage);
    return more;
}

/* Tries every point; if survivors act, every point for every moment of theirs. */
static void run_scenario(const struct scenario *scenario)
{
    static const char *const policies[] = {"default", "block", "fail", "drop-oldest"};
    int points = 0, kills = 0, act_at = scenario->meanwhile == NULL ? 0 : 1;
    alarm(CHECK_WATCHDOG_S);
    do {
        int kill_at = act_at == 0 ? 1 : act_at;
        for (;; kill_at++) {
            kills++;
            check_note("%s, %s, point %d", scenario->name, policies[scenario->policy], kill_at);
            if (!try_point(scenario, kill_at, act_at)) break;
        }
        if (points == 0) points = kill_at;
        act_at++;
    } while (scenario->meanwhile != NULL && act_at < points);
    CHECK(points > 1); /* an operation that changes nothing tests nothing */
    printf("%-46s %-11s %-6s %7u %7u %6d %6d  passed\n", scenario->name, policies[scenario->policy],
           scenario->flags & SHMSLOT_FLAG_SINGLE_WRITER ? "one" : "many",
           (unsigned)scenario->history, (unsigned)scenario->max_readers, points, kills);
    (void)fflush(stdout);
}

#define ONE SHMSLOT_FLAG_SINGLE_WRITER
#define BLOCK SHMSLOT_POLICY_BLOCK
#define DROP SHMSLOT_POLICY_DROP_OLDEST
static const struct scenario scenarios[] = {
    {"reserve", 0, 0, 0, 3, two_samples, open_it, reserve_one, NULL, 0, NULL, NULL},
    {"reserve", 0, ONE, 0, 3, two_samples, open_it, reserve_one, NULL, 0, NULL, NULL},
    {"reserve, takes the oldest", DROP, 0, 0, 3, fill_up, open_it, reserve_one, NULL, 0, NULL,
     NULL},
    {"reserve, takes the oldest, two words of marks", DROP, 0, 0, 20, fill_up, open_it, reserve_one,
     NULL, 0, NULL, NULL},
    {"reserve, takes the oldest, history", DROP, 0, 2, 3, fill_up, open_it, reserve_one, NULL, 0,
     NULL, NULL},
    {"commit", 0, 0, 0, 3, two_samples, have_a_loan, commit_it, NULL, 1, NULL, NULL},
    {"commit", 0, ONE, 0, 3, two_samples, have_a_loan, commit_it, NULL, 1, NULL, NULL},
    {"commit", DROP, 0, 0, 3, two_samples, have_a_loan, commit_it, NULL, 1, NULL, NULL},
    {"commit", DROP, ONE, 2, 3, two_samples, have_a_loan, commit_it, NULL, 1, NULL, NULL},
    {"commit, two words of marks", 0, 0, 2, 20, two_samples, have_a_loan, commit_it, NULL, 1, NULL,
     NULL},
    {"commit, ends a retention", 0, 0, 2, 3, two_samples, have_a_loan, commit_it, NULL, 1, NULL,
     NULL},
    {"commit, ends a retention", 0, ONE, 2, 3, two_samples, have_a_loan, commit_it, NULL, 1, NULL,
     NULL},
    {"commit, a reader leaves meanwhile", 0, 0, 0, 3, add_a_leaver, have_a_loan, commit_it,
     let_it_leave, 1, NULL, NULL},
    {"commit, a reader leaves meanwhile", DROP, 0, 2, 20, add_a_leaver, have_a_loan, commit_it,
     let_it_leave, 1, NULL, NULL},
    {"commit, overwrites an entry still owed", DROP, 0, 0, 3, go_around_twice, have_a_loan,
     commit_it, NULL, 1, NULL, NULL},
    {"discard", 0, 0, 0, 3, two_samples, have_a_loan, discard_it, NULL, 0, NULL, NULL},
    {"discard", 0, ONE, 0, 3, two_samples, have_a_loan, discard_it, NULL, 0, NULL, NULL},
    {"write", 0, 0, 2, 3, two_samples, open_it, write_one, NULL, 1, NULL, NULL},
    {"reserve many", 0, 0, 0, 3, two_samples, open_it, reserve_batch, NULL, 0, NULL, NULL},
    {"reserve many", 0, ONE, 0, 3, two_samples, open_it, reserve_batch, NULL, 0, NULL, NULL},
    {"commit many", 0, 0, 0, 3, two_samples, have_loans, commit_batch, NULL, BATCH, NULL, NULL},
    {"commit many", 0, ONE, 0, 3, two_samples, have_loans, commit_batch, NULL, BATCH, NULL, NULL},
    {"commit many", DROP, 0, 2, 3, two_samples, have_loans, commit_batch, NULL, BATCH, NULL, NULL},
    {"commit many, a reader leaves meanwhile", 0, 0, 0, 3, add_a_leaver, have_loans, commit_batch,
     let_it_leave, BATCH, NULL, NULL},
    {"commit many, a reader leaves meanwhile", 0, ONE, 0, 3, add_a_leaver, have_loans, commit_batch,
     let_it_leave, BATCH, NULL, NULL},
    {"open a writer", 0, ONE, 0, 3, two_samples, nothing, open_it, NULL, 0, NULL, NULL},
    {"open a writer", 0, 0, 0, 3, two_samples, nothing, open_it, NULL, 0, NULL, NULL},
    {"close a writer with a loan", 0, ONE, 0, 3, two_samples, have_a_loan, close_the_writer, NULL,
     0, NULL, NULL},
    {"close a writer with a loan", 0, 0, 0, 3, two_samples, have_a_loan, close_the_writer, NULL, 0,
     NULL, NULL},
    {"join", 0, 0, 2, 3, two_samples, nothing, join_now, NULL, 0, NULL, NULL},
    {"join with history", 0, 0, 2, 3, two_samples, nothing, join_with_history, NULL, 0, NULL, NULL},
    {"join with history, two words of marks", 0, 0, 2, 20, two_samples, nothing, join_with_history,
     NULL, 0, NULL, NULL},
    {"join with history", DROP, 0, 2, 3, two_samples, nothing, join_with_history, NULL, 0, NULL,
     NULL},
    {"read", 0, 0, 2, 3, two_samples, join_with_history, read_one, NULL, 0, NULL, NULL},
    {"read", DROP, 0, 2, 3, two_samples, join_with_history, read_one, NULL, 0, NULL, NULL},
    {"mark", 0, 0, 2, 3, two_samples, join_and_read, mark_it, NULL, 0, NULL, NULL},
    {"mark", DROP, 0, 2, 20, two_samples, join_and_read, mark_it, NULL, 0, NULL, NULL},
    {"leave with a sample in hand", 0, 0, 2, 3, two_samples, join_and_read, leave_it, NULL, 0, NULL,
     NULL},
    {"leave with a sample in hand", DROP, 0, 2, 20, two_samples, join_and_read, leave_it, NULL, 0,
     NULL, NULL},
    {"leave", 0, 0, 2, 3, two_samples, join_with_history, leave_it, NULL, 0, NULL, NULL},
    {"peek", 0, 0, 2, 3, two_samples, read_all, peek_one, NULL, 0, NULL, NULL},
    {"peek, two words of marks", DROP, 0, 2, 20, two_samples, read_all, peek_one, NULL, 0, NULL,
     NULL},
    {"wait", 0, 0, 2, 3, two_samples, read_all, wait_a_little, NULL, 0, NULL, NULL},
    {"attach and close", 0, 0, 0, 3, two_samples, nothing, attach_anew, NULL, 0, NULL, NULL},
    {"close the segment", 0, 0, 0, 3, two_samples, nothing, close_the_segment, NULL, 0, NULL, NULL},
    {"commit, a reader sleeps", 0, 0, 0, 3, add_a_sleeping_reader, have_a_loan, commit_it, NULL, 1,
     NULL, let_it_wake},
    {"commit, a reader sleeps", DROP, 0, 2, 3, add_a_sleeping_reader, have_a_loan, commit_it, NULL,
     1, NULL, let_it_wake},
    {"commit many, a reader sleeps", 0, 0, 0, 3, add_a_sleeping_reader, have_loans, commit_batch,
     NULL, BATCH, NULL, let_it_wake},
    {"read many", 0, 0, 2, 3, two_samples, join_with_history, read_batch, NULL, 0, NULL, NULL},
    {"read many", DROP, 0, 2, 3, two_samples, join_with_history, read_batch, NULL, 0, NULL, NULL},
    {"mark many", 0, 0, 2, 3, two_samples, join_and_read_batch, mark_batch, NULL, 0, NULL, NULL},
    {"read and mark", 0, 0, 0, 3, first_sample, join_now, read_and_mark, NULL, 0, put_two, NULL},
    {"read and mark many", 0, 0, 0, 3, first_sample, join_now, read_and_mark_batch, NULL, 0, put_two,
     NULL},
    {"mark, a writer sleeps", BLOCK, 0, 0, 3, first_sample, join_now, read_and_mark, NULL, 0,
     add_a_sleeping_writer, let_it_write},
    {"wait for space", BLOCK, 0, 0, 3, two_samples, take_all_slots, wait_for_space, NULL, 0, NULL,
     NULL},
    {"recover", 0, 0, 2, 3, add_another, nothing, recover_others, NULL, 0, kill_the_other,
     check_its_record},
    {"recover", DROP, 0, 2, 20, add_another, nothing, recover_others, NULL, 0, kill_the_other,
     check_its_record},
    {"expel", 0, 0, 0, 3, add_a_stuck_reader, nothing, expel_the_leaver, NULL, 0, NULL, complete_it},
    {"expel, two words of marks", 0, 0, 2, 20, add_a_stuck_reader, nothing, expel_the_leaver, NULL,
     0, NULL, complete_it},
    {"expel", DROP, 0, 0, 3, add_a_stuck_reader, nothing, expel_the_leaver, NULL, 0, NULL,
     complete_it},
    {"expel, the reader leaves afterwards", 0, 0, 2, 3, add_a_stuck_reader, nothing,
     expel_the_leaver, NULL, 0, NULL, let_it_leave_by_itself},
    {"reserve by mask", 0, 0, 0, 3, two_samples, nothing, reserve_by_mask, NULL, 0, NULL, NULL},
    {"reserve a region", 0, 0, 0, 3, three_large_samples, open_it, reserve_large, NULL, 0, NULL,
     NULL},
    {"reserve a region", 0, ONE, 0, 3, three_large_samples, open_it, reserve_large, NULL, 0, NULL,
     NULL},
    {"reserve a region, takes the oldest", DROP, 0, 0, 3, fill_up_regions, open_it, reserve_large,
     NULL, 0, NULL, NULL},
    {"commit a region", 0, 0, 2, 3, three_large_samples, have_a_large_loan, commit_it, NULL, 1,
     NULL, NULL},
    {"commit a region", DROP, 0, 2, 20, three_large_samples, have_a_large_loan, commit_it, NULL, 1,
     NULL, NULL},
    {"discard a region", 0, 0, 0, 3, three_large_samples, have_a_large_loan, discard_it, NULL, 0,
     NULL, NULL},
    {"read and mark a region", 0, 0, 2, 3, three_large_samples, join_with_history, read_and_mark,
     NULL, 0, NULL, NULL},
    {"read and mark a region", DROP, 0, 2, 3, three_large_samples, join_with_history, read_and_mark,
     NULL, 0, NULL, NULL},
    {"trim", 0, 0, 0, 3, fill_up_regions, nothing, trim_it, NULL, 0, drain, NULL},
    {"commit by reference", 0, 0, 0, 3, two_samples, have_a_ref, commit_ref, NULL, 1, NULL,
     read_by_reference},
};

int main(void)
{
    size_t i;
    check_begin();
    steps_begin();
    printf("%-46s %-11s %-6s %7s %7s %6s %6s\n", "operation", "policy", "writer", "history",
           "readers", "points", "kills");
    for (i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) run_scenario(&scenarios[i]);
    return 0;
}
