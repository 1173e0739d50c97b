/* As crash_points.c, but recovery comes late, or the victim was only stopped and continues late.
 *
 * The victim is stopped at each of its points while others write so many samples that each place in
 * the order is used 0 to 3 times. Nobody can recover it meanwhile, because it is alive. Then it is
 * killed and recovered; or it continues, completes its work, and closes what it has. An entry of
 * the order is reused after two laps.
 *
 * One reader holds a sample all the time, and also holds the victim's sample as soon as that can be
 * read: their bytes are compared after each written sample. Another reader reads and checks all
 * samples at once. Where unread samples are taken away, there may be a third reader that reads
 * nothing before the end.
 *
 *     crash_points_late [all]    without `all`: two laps in every row, the others in turns */
/* not under address, thread, memcheck: it would single-step through the tool, too */
/* not under musl: it takes minutes, and the C library has no part in what it looks at */
/* not under aarch64: the emulator has no single steps */
/* takes minutes: thousands of processes, one after another */
#include "crash_stage.h"

#define REGIONS MOST_REGIONS
#define HANDS 2
#define MOST_LAPS 3

enum role { WRITES, READS, BY_REFERENCE };

struct operation {
    const char *name;
    enum role role;
    /* every other sample goes to a region, and so does what the operation is about */
    int large;
    int full;             /* nothing is free: all is unread */
    int publishes;        /* whether the operation, once over, has published */
    step prepare, ready;  /* by the victim, before and after two samples are written */
    step run;             /* step by step */
    step settle;          /* by a victim that was only stopped, before it closes what it has */
    int settle_publishes;
};

struct setting {
    uint32_t policy, flags, history;
    int lags; /* with a reader that reads nothing before the end */
};

/* A reader that reads all, and holds some. */
struct holder {
    shmslot_reader *reader;
    uint64_t last, received;
    shmslot_sample hands[HANDS];
    int held;
};

/* Shared with the victim. */
struct run {
    const struct operation *operation;
    const struct setting *setting;
    struct stage stage;
    struct holder holder;
    struct victim victim;
    uint64_t value, newest;          /* that were written last */
    uint64_t first_least, first_most; /* where a victim that reads begins */
    uint64_t named_value; /* what reader 0 is owed by reference */
    int may_be_full; /* a victim that stands still keeps what it is owed */
};

/* ---- the survivors ---- */

static void check_hands(const struct run *run)
{
    int i;
    for (i = 0; i < run->holder.held; i++) (void)is_victims(&run->stage, &run->holder.hands[i]);
}

/* Reads all there is; the first sample and the victim's stay held. */
static void read_and_hold(struct run *run)
{
    struct holder *holder = &run->holder;
    shmslot_sample sample;
    int result;
    while ((result = shmslot_slot_read(holder->reader, &sample)) == SHMSLOT_OK) {
        int keeps = is_victims(&run->stage, &sample) || sample.sequence == 1;
        CHECK(sample.sequence > holder->last);
        holder->last = sample.sequence;
        holder->received++;
        if (keeps) {
            CHECK(holder->held < HANDS);
            holder->hands[holder->held++] = sample;
        } else {
            CHECK_OK(shmslot_slot_mark(holder->reader, &sample));
        }
    }
    CHECK_CODE(result, SHMSLOT_E_AGAIN);
}

static void read_all_there_is(struct run *run)
{
    drain(&run->stage);
    read_and_hold(run);
    check_hands(run);
}

/* Writes one sample to a slot that nobody holds; 0 if there is none. */
static int write_next(struct run *run, size_t len)
{
    int64_t patience =
        run->setting->policy == SHMSLOT_POLICY_BLOCK && !run->may_be_full ? FOR_EVER : AT_ONCE;
    struct stage *stage = &run->stage;
    shmslot_loan loan;
    int i, result = shmslot_slot_reserve(stage->writer, len, patience, &loan);
    if (result == SHMSLOT_E_NO_FREE_SLOT && run->may_be_full) return 0;
    CHECK_OK(result);
    for (i = 0; i < run->holder.held; i++) CHECK(loan.data != run->holder.hands[i].data);
    run->value++;
    memcpy(loan.data, &run->value, sizeof run->value);
    CHECK_OK(shmslot_slot_commit(stage->writer, &loan, sizeof run->value, &run->newest));
    note_value(stage, run->newest, run->value);
    read_all_there_is(run);
    return 1;
}

static size_t next_length(const struct run *run)
{
    return run->operation->large && run->value % 2 == 0 ? LARGE : sizeof run->value;
}

static void go_round(struct run *run, int laps)
{
    int i;
    read_all_there_is(run);
    for (i = 0; i < laps * SLOTS && write_next(run, next_length(run)); i++) continue;
}

/* Reader 0 has no row: its caller reads for it. The call returns what it is owed, however many
 * samples came after. */
static int read_for_named_reader(struct run *run, uint64_t expected)
{
    shmslot_segment *segment = run->stage.segment;
    shmslot_ref ref;
    const void *data = NULL;
    uint64_t value = 0;
    size_t len = 0;
    int result = shmslot_ref_next_unread(segment, 0, &ref);
    if (result == SHMSLOT_E_AGAIN) return 0;
    CHECK_OK(result);
    CHECK_OK(shmslot_ref_read_ptr(segment, &ref, &data, &len));
    CHECK_U64(len, sizeof value);
    memcpy(&value, data, sizeof value);
    CHECK_U64(value, expected);
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
    CHECK_CODE(shmslot_ref_next_unread(segment, 0, &ref), SHMSLOT_E_AGAIN);
    return 1;
}

/* ---- the victim ---- */

static void find_ref(struct victim *victim)
{
    CHECK_OK(shmslot_ref_next_unread(victim->segment, 0, &victim->ref));
}

static void mark_by_reference(struct victim *victim)
{
    CHECK_OK(shmslot_ref_mark_read(victim->segment, &victim->ref, 0));
}

static void attach_and_prepare(void *argument)
{
    struct run *run = argument;
    run->victim.segment = attach_to(&run->stage);
    run->victim.history = run->setting->history;
    if (run->setting->policy == SHMSLOT_POLICY_BLOCK) run->victim.patience = FOR_EVER;
    run->operation->prepare(&run->victim);
    steps_pause();
    run->operation->ready(&run->victim);
}

static void run_operation(void *argument)
{
    struct run *run = argument;
    run->operation->run(&run->victim);
}

/* What it holds is unchanged; then it reads what was written meanwhile, and has missed or
 * duplicated nothing. */
static void settle_reader(struct run *run)
{
    struct victim *victim = &run->victim;
    const int has_left = run->operation->run == leave_it,
              joined_late = run->operation->run == join_with_history;
    uint64_t last = joined_late ? 0 : victim->sample.sequence, received = joined_late ? 0 : 1,
             first;
    if (!joined_late && run->operation->run != mark_it) {
        (void)is_victims(&run->stage, &victim->sample);
        mark_it(victim);
    }
    if (has_left) return;
    while (shmslot_slot_read(victim->reader, &victim->sample) == SHMSLOT_OK) {
        CHECK(victim->sample.sequence > last);
        last = victim->sample.sequence;
        received++;
        CHECK(!is_victims(&run->stage, &victim->sample));
        mark_it(victim);
    }
    CHECK_U64(last, run->newest);
    if (!drops_oldest(&run->stage)) CHECK_U64(lost(victim->reader), 0);
    first = last + 1 - received - lost(victim->reader);
    CHECK(first >= run->first_least && first <= run->first_most);
    leave_it(victim);
}

static void settle_and_close(void *argument)
{
    struct run *run = argument;
    struct victim *victim = &run->victim;
    if (run->operation->role == READS) settle_reader(run);
    run->operation->settle(victim);
    shmslot_writer_close(victim->writer);
    shmslot_segment_close(victim->segment);
}

/* ---- stage by stage ---- */

static size_t about(const struct operation *operation)
{
    return operation->large ? LARGE : sizeof(uint64_t);
}

/* Written by the survivors, for reader 0 and all joined readers. */
static void write_by_reference(struct run *run)
{
    shmslot_segment *segment = run->stage.segment;
    shmslot_ref ref;
    CHECK_OK(shmslot_ref_reserve(segment, 1, &ref));
    run->value++;
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, &run->value, sizeof run->value, &run->newest));
    note_value(&run->stage, run->newest, run->value);
    run->named_value = run->value;
    read_all_there_is(run);
}

/* Prepares the state, and stops the victim where the operation begins. */
static pid_t begin(struct run *run, const struct operation *operation,
                   const struct setting *setting)
{
    struct stage *stage = &run->stage;
    pid_t pid;
    int i;
    memset(run, 0, sizeof *run);
    run->operation = operation;
    run->setting = setting;
    run->value = 1000;
    run->named_value = VICTIMS_VALUE;
    /* With history, its bit is in another word of marks than those of the readers. */
    open_stage(stage, setting->policy, setting->flags, setting->history,
               setting->history > 0 ? 20 : 5, REGIONS);
    run->holder.reader = join(stage->segment, 0);
    if (setting->lags) stage->leaver = join(stage->segment, 0);
    (void)write_next(run, about(operation));
    run->first_most = run->newest + 1;
    run->first_least = setting->history > 0 ? run->newest : run->first_most;
    pid = steps_start(attach_and_prepare, run_operation, settle_and_close, run);
    for (i = 0; i < 2; i++) (void)write_next(run, next_length(run));
    for (i = 0; operation->full && i < SLOTS; i++) (void)write_next(run, about(operation));
    if (operation->run == mark_by_reference) write_by_reference(run);
    if (operation->run == join_with_history) run->first_least = run->newest + 1 - setting->history;
    if (operation->role == WRITES && setting->flags & SHMSLOT_FLAG_SINGLE_WRITER) {
        shmslot_writer_close(stage->writer);
        stage->writer = NULL;
    }
    steps_resume(pid);
    run->may_be_full = operation->role == READS && !drops_oldest(stage);
    return pid;
}

static void go_on_writing(struct run *run, int laps)
{
    if (run->stage.writer == NULL) run->stage.writer = open_writer(run->stage.segment);
    go_round(run, laps);
}

static void end_by_kill(struct run *run, pid_t pid, int laps)
{
    const int was_alone = run->stage.writer == NULL;
    steps_kill(pid);
    run->may_be_full = 0;
    if (was_alone) go_on_writing(run, laps); /* not before: who opens a writer cleans up first */
    check_recovered(&run->stage);
    go_on_writing(run, 1); /* to whatever was found to be free */
}

static void end_by_going_on(struct run *run, pid_t pid)
{
    steps_finish(pid);
    if (run->operation->run == join_with_history) run->first_most = run->newest + 1;
    if (run->stage.writer != NULL) go_round(run, 1);
    steps_end(pid);
    run->may_be_full = 0;
    go_on_writing(run, 1);
    CHECK_CODE(shmslot_segment_recover(run->stage.segment, NULL), 0);
}

/* The victim's sample exists if it was `published`; `may_be` if that is unknown. */
static void check_samples(struct run *run, int published, int may_be)
{
    struct stage *stage = &run->stage;
    struct holder *holder = &run->holder;
    CHECK_U64(stage->last, run->newest);
    CHECK_U64(holder->last, run->newest);
    CHECK_U64(stage->received, run->newest); /* no hole, no double */
    CHECK_U64(holder->received, run->newest);
    CHECK_U64(lost(stage->reader) + lost(holder->reader), 0); /* they were never behind */
    if (!may_be) CHECK_U64((uint64_t)stage->victims_samples, (uint64_t)published);
    CHECK(stage->victims_samples <= 1);
    CHECK_U64((uint64_t)holder->held, 1 + (uint64_t)stage->victims_samples);
}

/* The named reader is owed the victim's sample, or the one that the victim was about to mark. */
static void check_named_reader(struct run *run, int finished)
{
    const int found = read_for_named_reader(run, run->named_value);
    if (run->operation->run == mark_by_reference) {
        CHECK(!found || !finished);
    } else {
        CHECK_U64((uint64_t)found, (uint64_t)run->stage.victims_samples);
    }
    /* The number is the callers' until they give it up: no reader may join there before. */
    CHECK_OK(shmslot_ref_mark_reader_disconnected(run->stage.segment, 0));
}

static void check_end(struct run *run)
{
    struct stage *stage = &run->stage;
    uint32_t i;
    /* history leaves the regions */
    for (i = 0; i < run->setting->history; i++) (void)write_next(run, sizeof run->value);
    check_hands(run);
    for (i = 0; i < (uint32_t)run->holder.held; i++) {
        CHECK_OK(shmslot_slot_mark(run->holder.reader, &run->holder.hands[i]));
    }
    if (stage->leaver != NULL) check_leaver(stage);
    check_all_slots(stage);
    shmslot_reader_leave(run->holder.reader);
    if (stage->leaver != NULL) let_it_leave(stage);
    check_rows(stage);
    check_slots(stage);
    check_regions(stage);
}

/* false if the operation was over before this point. */
static int try_point(struct run *run, const struct operation *operation,
                     const struct setting *setting, int stop_at, int laps, int goes_on)
{
    static struct watched watched;
    pid_t pid = begin(run, operation, setting);
    int point = 0, more = 1;
    watch(&watched, run->stage.segment);
    while (more && point++ < stop_at) more = watch_to_next_point(&watched, pid);
    unwatch(&watched);
    if (run->stage.writer != NULL) {
        go_round(run, laps);
    } else {
        read_all_there_is(run);
    }
    if (goes_on) {
        end_by_going_on(run, pid);
        check_samples(run, operation->publishes || operation->settle_publishes, 0);
    } else {
        end_by_kill(run, pid, laps);
        check_samples(run, operation->publishes, operation->publishes && more);
    }
    if (operation->role == BY_REFERENCE) check_named_reader(run, goes_on || !more);
    check_end(run);
    close_stage(&run->stage);
    return more;
}

static const char *policy_name(uint32_t policy)
{
    static const char *const names[] = {"default", "block", "fail", "drop-oldest"};
    return names[policy];
}

static int is_wanted(int all, int laps, int turn)
{
    static const int in_turns[] = {0, 1, 3};
    return all || laps == 2 || laps == in_turns[turn % 3];
}

/* Every point, killed and stopped, so many laps late. */
static void run_row(struct run *run, const struct operation *operation,
                    const struct setting *setting, int all)
{
    static int turn;
    const int has_one = (setting->flags & SHMSLOT_FLAG_SINGLE_WRITER) != 0;
    int points = 0, runs = 0, laps, goes_on;
    for (laps = 0; laps <= MOST_LAPS; laps++) {
        if (!is_wanted(all, laps, turn)) continue;
        for (goes_on = 0; goes_on < 2; goes_on++) {
            int point = 0, more = 1;
            /* Nobody writes while the only writer stands still. */
            if (goes_on && laps > 0 && has_one && operation->role == WRITES) continue;
            for (; more; point++, runs++) {
                alarm(CHECK_WATCHDOG_S);
                check_note("%s, %s, %s, history %u%s: point %d, %d laps, then %s", operation->name,
                           policy_name(setting->policy), has_one ? "one writer" : "many writers",
                           (unsigned)setting->history, setting->lags ? ", a reader lags" : "",
                           point, laps, goes_on ? "going on" : "killed");
                more = try_point(run, operation, setting, point, laps, goes_on);
            }
            points = point;
        }
    }
    turn++;
    CHECK(points > 2); /* an operation that changes nothing tests nothing */
    printf("%-35s %-11s %-6s %7u %-7s %-5s %6d %6d  passed\n", operation->name,
           policy_name(setting->policy), has_one ? "one" : "many", (unsigned)setting->history,
           operation->large ? "regions" : "slots", setting->lags ? "lags" : "", points, runs);
    (void)fflush(stdout);
}

static const struct operation operations[] = {
    {"reserve", WRITES, 0, 0, 0, nothing, open_it, reserve_one, commit_it, 1},
    {"reserve, takes the oldest", WRITES, 0, 1, 0, nothing, open_it, reserve_one, commit_it, 1},
    {"commit", WRITES, 0, 0, 1, nothing, have_a_loan, commit_it, nothing, 0},
    {"discard", WRITES, 0, 0, 0, nothing, have_a_loan, discard_it, nothing, 0},
    {"read", READS, 0, 0, 0, join_with_history, nothing, read_one, nothing, 0},
    {"mark", READS, 0, 0, 0, join_with_history, read_one, mark_it, nothing, 0},
    {"join", READS, 0, 0, 0, nothing, nothing, join_with_history, nothing, 0},
    {"leave with a sample in hand", READS, 0, 0, 0, join_with_history, read_one, leave_it, nothing,
     0},
    {"reserve a region", WRITES, 1, 0, 0, nothing, open_it, reserve_large, commit_it, 1},
    {"reserve a region, takes the oldest", WRITES, 1, 1, 0, nothing, open_it, reserve_large,
     commit_it, 1},
    {"commit a region", WRITES, 1, 0, 1, nothing, have_a_large_loan, commit_it, nothing, 0},
    {"mark a region", READS, 1, 0, 0, join_with_history, read_one, mark_it, nothing, 0},
    {"reserve by reference", BY_REFERENCE, 0, 0, 0, nothing, nothing, have_a_ref, commit_ref, 1},
    {"commit by reference", BY_REFERENCE, 0, 0, 1, nothing, have_a_ref, commit_ref, nothing, 0},
    {"mark by reference", BY_REFERENCE, 0, 0, 0, nothing, find_ref, mark_by_reference, nothing, 0},
};

int main(int count, char **arguments)
{
    const int all = count > 1 && strcmp(arguments[1], "all") == 0;
    static const uint32_t writers[] = {0, SHMSLOT_FLAG_SINGLE_WRITER}, histories[] = {0, 2};
    struct run *run =
        mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    size_t i, w, h;
    check_begin();
    CHECK(run != MAP_FAILED);
    steps_begin();
    printf("%-35s %-11s %-6s %7s %-7s %-5s %6s %6s\n", "operation", "policy", "writer", "history",
           "in", "other", "points", "runs");
    for (i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        const struct operation *operation = &operations[i];
        struct setting setting;
        for (setting.policy = SHMSLOT_POLICY_FAIL; setting.policy <= SHMSLOT_POLICY_DROP_OLDEST;
             setting.policy++) {
            const int drops = setting.policy == SHMSLOT_POLICY_DROP_OLDEST;
            if (drops ? operation->role == BY_REFERENCE : operation->full) continue;
            for (w = 0; w < (operation->role == BY_REFERENCE ? 1 : 2); w++) {
                setting.flags = writers[w];
                for (h = 0; h < 2; h++) {
                    setting.history = histories[h];
                    for (setting.lags = operation->full; setting.lags <= drops; setting.lags++) {
                        run_row(run, operation, &setting, all);
                    }
                }
            }
        }
    }
    return 0;
}
