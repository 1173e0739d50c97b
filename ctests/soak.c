/* Processes that use one segment are killed at random instructions and started again, round after
 * round. A reader and a writer in this process, which are never killed, check all the time that no
 * sample is lost, duplicated or corrupted. Samples stay held while the order goes around, and their
 * bytes are compared. Many victims are stopped for some laps before they are killed, so that nobody
 * recovers them meanwhile, and what they have just published is among the held samples. From time
 * to time all processes end, and then every slot, reader row and participant row must be free
 * again.
 *
 *     soak [rounds [seed [row]]]    or SHMSLOT_SOAK_ROUNDS, SHMSLOT_SOAK_SEED;
 *                                   row: only this one of the table, from 1
 *
 * The seed repeats the choices, but not the moment at which a kill strikes. */
/* not under musl: it takes minutes, and the C library has no part in what it looks at */
#include "chance.h"
#include "single_steps.h"
#include "words.h"

#define ROUNDS 450 /* of everyday; ctests/run soak takes more */
#define CAPACITY 256
#define MAX_PARTICIPANTS 40
#define KIDS 8
#define SURVIVOR KIDS       /* who writes: each child, this process, */
#define STRANGER (KIDS + 1) /* and strangers, one at a time */
#define WRITERS (KIDS + 2)
#define HANDS 4
#define ROUNDS_TO_ACCOUNT 250
#define HOLDS 8
#define MOST_STEPS 5000 /* of a stranger */

static void linger(uint64_t turns)
{
    volatile uint64_t turn = 0;
    while (turn < turns) turn++;
}

/* ---- what is being soaked ---- */

struct setting {
    uint32_t policy;
    uint32_t flags;
    uint32_t history;
    /* readers get their places from the top: 33 spreads them over words, 15 does not */
    uint32_t max_readers;
};

static const struct setting settings[] = {
    {SHMSLOT_POLICY_FAIL, 0, 0, 15},
    {SHMSLOT_POLICY_FAIL, 0, 3, 15},
    {SHMSLOT_POLICY_FAIL, 0, 0, 33},
    {SHMSLOT_POLICY_FAIL, 0, 3, 33},
    {SHMSLOT_POLICY_BLOCK, 0, 0, 15},
    {SHMSLOT_POLICY_BLOCK, 0, 3, 15},
    {SHMSLOT_POLICY_BLOCK, 0, 0, 33},
    {SHMSLOT_POLICY_BLOCK, 0, 3, 33},
    {SHMSLOT_POLICY_DROP_OLDEST, 0, 0, 15},
    {SHMSLOT_POLICY_DROP_OLDEST, 0, 3, 15},
    {SHMSLOT_POLICY_DROP_OLDEST, 0, 0, 33},
    {SHMSLOT_POLICY_DROP_OLDEST, 0, 3, 33},
    {SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER, 3, 33},
    {SHMSLOT_POLICY_BLOCK, SHMSLOT_FLAG_SINGLE_WRITER, 0, 15},
    {SHMSLOT_POLICY_DROP_OLDEST, SHMSLOT_FLAG_SINGLE_WRITER, 3, 33},
};
#define SETTINGS (sizeof settings / sizeof settings[0])

static const char *policy_name(uint32_t policy)
{
    return policy == SHMSLOT_POLICY_FAIL    ? "fail"
           : policy == SHMSLOT_POLICY_BLOCK ? "block"
                                            : "drop-oldest";
}

/* What children tell without system calls. */
struct notes {
    uint64_t committed[WRITERS]; /* commits that have returned, of the life that this child is in */
    uint64_t compared;            /* bytes of samples in hand, by all */
    uint64_t active;              /* who came to a sample last: it is likely to be running */
    uint32_t stop;
    char failed[CHECK_REPORT_SIZE]; /* what the check of any of them had to say that failed */
};

/* A sample that the surviving reader holds, and what it contained. */
struct hold {
    shmslot_sample sample;
    uint64_t until; /* it has come to this sequence */
    unsigned char bytes[CAPACITY];
};

/* The segment of this setting, and its users. */
static struct {
    const struct setting *setting;
    uint64_t seed;
    uint64_t round;
    uint32_t slots;
    int fd;
    pid_t supervisor;
    pid_t kids[KIDS];
    int stopped[KIDS];
    uint64_t lives[WRITERS];
    struct notes *notes;
    struct words words;
    shmslot_segment *segment;
    shmslot_writer *writer; /* NULL where there may be only one */
    shmslot_reader *reader;
    uint64_t next_sequence; /* that this reader must see, or have lost */
    uint64_t last_life[WRITERS], last_number[WRITERS];
    uint64_t number;
    /* a writer whose last sample is to be held if its commit has not returned; or WRITERS */
    uint64_t suspect;
    struct hold holds[HOLDS];
    uint64_t held;
} soak;

static struct {
    uint64_t kills, newborn, stops, late, unreturned, samples, lost, accounts, compared;
} figures;

static int is_lossless(void)
{
    return soak.setting->policy != SHMSLOT_POLICY_DROP_OLDEST;
}

static int has_one_writer(void)
{
    return (soak.setting->flags & SHMSLOT_FLAG_SINGLE_WRITER) != 0;
}

/* ---- when something is wrong ---- */

/* The failure is printed last, so that it survives if only the end of the output is kept. */
static void tell_where(void)
{
    if (soak.setting == NULL) return;
    if (soak.words.raw != NULL) dump_words(&soak.words);
    fprintf(stderr,
            "seed %" PRIu64 ", row %u: %s, %s, history %u, %u readers, %u slots, round %" PRIu64
            ", next sequence %" PRIu64 "\n%s\n",
            soak.seed, (unsigned)(soak.setting - settings) + 1, policy_name(soak.setting->policy),
            has_one_writer() ? "one writer" : "many writers", soak.setting->history,
            soak.setting->max_readers, soak.slots, soak.round, soak.next_sequence, check_report);
}

/* A check of this process or of a child failed, or nothing moves any more. The children end with
 * this process. */
static void on_alarm(int signal_number)
{
    (void)signal_number;
    fprintf(stderr, "watchdog: nothing moves, or a child has failed\n");
    tell_where();
    _exit(124);
}

static void at_exit(void)
{
    if (check_parent == 0 && soak.words.raw != NULL) tell_where();
}

/* ---- messages: who wrote it, in which life, which of that life's; then noise that depends on all three ---- */

struct message {
    uint64_t kid, life, number, noise[CAPACITY / 8 - 3];
};

static size_t words_of_noise(uint64_t life, uint64_t number)
{
    return (size_t)((number * 7 + life) % (CAPACITY / 8 - 2));
}

static uint64_t next_noise(uint64_t noise)
{
    noise ^= noise << 13;
    noise ^= noise >> 7;
    return noise ^ noise << 17;
}

static uint64_t first_noise(uint64_t kid, uint64_t life, uint64_t number)
{
    return ((kid << 56 ^ life << 32 ^ number) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

/* Returns how many bytes it has. */
static size_t fill_message(const shmslot_loan *loan, uint64_t kid, uint64_t number)
{
    struct message *message = loan->data;
    uint64_t life = soak.lives[kid], noise = first_noise(kid, life, number);
    size_t words = words_of_noise(life, number), i;
    message->kid = kid;
    message->life = life;
    message->number = number;
    for (i = 0; i < words; i++) message->noise[i] = noise = next_noise(noise);
    return 24 + words * 8;
}

static void note_commit(uint64_t kid, uint64_t number)
{
    __atomic_store_n(&soak.notes->committed[kid], number, __ATOMIC_RELEASE);
}

static void commit_message(shmslot_writer *writer, const shmslot_loan *loan, uint64_t kid,
                           uint64_t number)
{
    size_t len = fill_message(loan, kid, number);
    uint64_t sequence = 0;
    CHECK_OK(shmslot_slot_commit(writer, loan, len, &sequence));
    CHECK(sequence != 0);
    note_commit(kid, number);
}

/* Commits by one call what has the numbers after `number`. */
static void commit_messages(shmslot_writer *writer, const shmslot_loan *loans, uint64_t count,
                            uint64_t kid, uint64_t number)
{
    size_t lens[HANDS];
    uint64_t sequences[HANDS], i;
    for (i = 0; i < count; i++) lens[i] = fill_message(&loans[i], kid, number + 1 + i);
    CHECK_U64(shmslot_slot_commit_many(writer, loans, lens, count, sequences), count);
    for (i = 1; i < count; i++) CHECK(sequences[i] > sequences[i - 1]);
    note_commit(kid, number + count);
}

static void check_message(const shmslot_sample *sample)
{
    const struct message *message = sample->data;
    uint64_t noise;
    size_t words, i;
    CHECK(sample->len >= 24);
    if (message->kid >= WRITERS)
        check_failed("sample %" PRIu64 ": writer %" PRIu64, sample->sequence, message->kid);
    words = words_of_noise(message->life, message->number);
    CHECK_U64(sample->len, 24 + words * 8);
    noise = first_noise(message->kid, message->life, message->number);
    for (i = 0; i < words; i++) {
        noise = next_noise(noise);
        if (message->noise[i] != noise) {
            check_failed("sample %" PRIu64 " in slot %u, word %u of child %" PRIu64
                         ", life %" PRIu64 ", number %" PRIu64 " is spoiled",
                         sample->sequence, sample->slot, (unsigned)i, message->kid, message->life,
                         message->number);
        }
    }
}

/* ---- children ---- */

static int must_stop(void)
{
    return __atomic_load_n(&soak.notes->stop, __ATOMIC_RELAXED) != 0;
}

static uint64_t kid_number;

static void show_activity(uint64_t kid)
{
    __atomic_store_n(&soak.notes->active, kid, __ATOMIC_RELAXED);
}

/* So many loans, or as many as there are. Only the first may wait for room: two writers that wait
 * with a loan could wait for each other. */
static uint64_t reserve_some(shmslot_writer *writer, int64_t patience, shmslot_loan *loans,
                             uint64_t wanted)
{
    uint64_t got = 0;
    if (chance(2) == 0) {
        int result = shmslot_slot_reserve_many(writer, CAPACITY, patience, loans, wanted);
        if (result == SHMSLOT_E_NO_FREE_SLOT) return 0;
        CHECK(result > 0 && (uint64_t)result <= wanted);
        return (uint64_t)result;
    }
    while (got < wanted) {
        int result =
            shmslot_slot_reserve(writer, CAPACITY, got == 0 ? patience : AT_ONCE, &loans[got]);
        if (result == SHMSLOT_E_NO_FREE_SLOT) break;
        CHECK_OK(result);
        got++;
    }
    return got;
}

/* Several loans at once; they are committed together, or some are given back and the others
 * committed in any order. */
static void write_some(shmslot_writer *writer, uint64_t kid, int64_t patience)
{
    shmslot_loan loans[HANDS];
    uint64_t got = reserve_some(writer, patience, loans, 1 + chance(HANDS));
    if (got == 0 && patience != AT_ONCE) {
        int result = shmslot_wait_space(writer, 20 * MILLISECOND);
        CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_TIMEOUT);
    }
    if (got > 0 && chance(2) == 0) {
        show_activity(kid);
        commit_messages(writer, loans, got, kid, kid_number);
        kid_number += got;
        got = 0;
    }
    while (got > 0) {
        uint64_t pick = chance(got);
        show_activity(kid);
        if (chance(8) == 0) {
            CHECK_OK(shmslot_slot_discard(writer, &loans[pick]));
        } else {
            commit_message(writer, &loans[pick], kid, ++kid_number);
        }
        loans[pick] = loans[--got];
    }
    /* Nothing else slows these writers down, and the others want a turn. */
    if (!is_lossless() && chance(4) == 0) (void)sched_yield();
}

static void count_compared(uint64_t bytes)
{
    (void)__atomic_fetch_add(&soak.notes->compared, bytes, __ATOMIC_RELAXED);
}

/* A reader, and what it can know by itself. */
struct view {
    uint64_t kid;
    shmslot_reader *reader;
    uint64_t first, last, received; /* nothing before `first` is its own */
    shmslot_sample hands[HANDS];
    uint64_t held, kept; /* so many of them for longer */
};

/* How many samples a reader holds while others pass: together the readers must leave slots for
 * these. */
static uint64_t choose_kept(void)
{
    return soak.slots < 16 ? 0 : chance(soak.slots < 61 ? 2 : HANDS);
}

static void join_view(struct view *view, uint64_t kid, shmslot_segment *segment, uint32_t history)
{
    int result;
    memset(view, 0, sizeof *view);
    view->kid = kid;
    view->first = info_of(segment).next_sequence;
    view->first = view->first > history ? view->first - history : 1;
    /* Dead readers may have all rows while the process that recovers them is stopped. */
    do {
        result = shmslot_reader_join(segment, history, &view->reader, NULL);
    } while (result == SHMSLOT_E_NO_READER_SLOT);
    CHECK_OK(result);
}

static void check_in_hand(const shmslot_sample *sample)
{
    check_message(sample); /* as it was */
    count_compared(sample->len);
}

static void mark_one(struct view *view)
{
    uint64_t pick = chance(view->held);
    show_activity(view->kid);
    check_in_hand(&view->hands[pick]);
    CHECK_OK(shmslot_slot_mark(view->reader, &view->hands[pick]));
    view->hands[pick] = view->hands[--view->held];
}

/* Marks by one call what it does not keep. */
static void mark_the_rest(struct view *view)
{
    uint64_t count = view->held - view->kept, i;
    show_activity(view->kid);
    for (i = view->kept; i < view->held; i++) check_in_hand(&view->hands[i]);
    CHECK_U64(shmslot_slot_mark_many(view->reader, &view->hands[view->kept], count), count);
    view->held = view->kept;
}

static void check_next(struct view *view, const shmslot_sample *sample)
{
    if (sample->sequence <= view->last || sample->sequence < view->first) {
        check_failed("sample %" PRIu64 " after %" PRIu64 ", joined at %" PRIu64, sample->sequence,
                     view->last, view->first);
    }
    view->last = sample->sequence;
    view->received++;
    if (is_lossless()) CHECK_U64(lost(view->reader), 0);
    check_message(sample);
}

/* Reads at most so many; returns whether there was anything. */
static int read_some(struct view *view, uint64_t count)
{
    uint64_t begin = view->received;
    while (view->received - begin < count) {
        shmslot_sample *next = &view->hands[view->held];
        uint64_t room = chance(2) == 0 ? 1 : HANDS - view->held, i;
        int result = room == 1 ? shmslot_slot_read(view->reader, next)
                               : shmslot_slot_read_many(view->reader, next, room);
        if (result == SHMSLOT_E_AGAIN) break;
        CHECK(room == 1 ? result == SHMSLOT_OK : result > 0 && (uint64_t)result <= room);
        if (room == 1) result = 1;
        for (i = 0; i < (uint64_t)result; i++) check_next(view, &next[i]);
        /* A call that finds no more may have passed over samples behind the last one. */
        if ((uint64_t)result == room &&
            view->received + lost(view->reader) > view->last - view->first + 1) {
            check_failed("received %" PRIu64 " and lost %" PRIu64 " of %" PRIu64 " to %" PRIu64,
                         view->received, lost(view->reader), view->first, view->last);
        }
        view->held += (uint64_t)result;
        if (view->held == HANDS || chance(2) == 0) mark_one(view);
    }
    if (chance(8) == 0) view->kept = choose_kept();
    if (view->held > view->kept && chance(2) == 0) mark_the_rest(view);
    while (view->held > view->kept) mark_one(view);
    return view->received != begin;
}

static void peek(struct view *view)
{
    shmslot_sample sample;
    int result = shmslot_slot_peek_latest(view->reader, &sample);
    if (result == SHMSLOT_E_AGAIN || result == SHMSLOT_E_HELD) return;
    CHECK_OK(result);
    check_message(&sample);
    CHECK_OK(shmslot_slot_mark(view->reader, &sample));
}

/* Leaves while it holds samples, and marks them afterwards. */
static void leave_view(struct view *view)
{
    while (view->held < HANDS &&
           shmslot_slot_read(view->reader, &view->hands[view->held]) == SHMSLOT_OK)
        view->held++;
    shmslot_reader_leave(view->reader);
    while (view->held > 0) mark_one(view);
}

static shmslot_writer *await_writer(shmslot_segment *segment)
{
    shmslot_writer *writer = NULL;
    for (;;) {
        int result = shmslot_writer_open(segment, &writer, NULL);
        if (result != SHMSLOT_E_WRITER_EXISTS) CHECK_OK(result);
        if (result == SHMSLOT_OK || must_stop()) return writer;
        (void)sched_yield();
    }
}

static void attach_and_look(void)
{
    shmslot_segment *segment = NULL;
    shmslot_participant list[MAX_PARTICIPANTS];
    size_t count;
    CHECK_OK(shmslot_segment_attach_fd(soak.fd, NULL, &segment, NULL));
    CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], MAX_PARTICIPANTS, &count));
    CHECK_OK(shmslot_segment_recover(segment, NULL));
    shmslot_segment_close(segment);
}

/* 0, 1: write. 2: write and read. 3: read. 4: join with history, read, leave. 5: peek and read. 6:
 * recover, and join for short whiles. 7: open and close writers. Where there is one writer, 0 and 1
 * want to be it; the others read. */
static void live(uint64_t kid)
{
    shmslot_segment *segment = NULL;
    shmslot_writer *writer = NULL;
    struct view view;
    uint32_t history = soak.setting->history;
    int writes = kid < 2 || (!has_one_writer() && (kid == 2 || kid == 7));
    int reads = !writes || kid == 2;
    int64_t patience = kid == 2 ? AT_ONCE : FOR_EVER;
    CHECK_OK(shmslot_segment_attach_fd(soak.fd, NULL, &segment, NULL));
    if (reads) join_view(&view, kid, segment, kid == 4 ? (uint32_t)chance(history + 1) : 0);
    if (writes) writer = await_writer(segment);
    while (!must_stop()) {
        if (writer != NULL) write_some(writer, kid, patience);
        if (reads) {
            int result;
            if (kid == 5) peek(&view);
            if (!read_some(&view, 1 + chance(2 * soak.slots)) && writer == NULL) {
                result = shmslot_wait(view.reader,
                                      chance(2) == 0 ? 20 * MILLISECOND : 500 * MILLISECOND);
                CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_TIMEOUT);
            }
        }
        if (kid == 4 || kid == 6) {
            leave_view(&view);
            join_view(&view, kid, segment, (uint32_t)chance(history + 1));
        }
        if (kid == 6) attach_and_look();
        if (writer != NULL && kid != 2 && chance(kid == 7 ? 2 : 64) == 0) {
            shmslot_loan forgotten;
            (void)shmslot_slot_reserve(writer, 1, AT_ONCE, &forgotten); /* closing gives it back */
            shmslot_writer_close(writer);
            writer = await_writer(segment);
        }
    }
    if (reads) leave_view(&view);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void start(uint64_t kid)
{
    pid_t pid;
    uint64_t seed = chance(UINT64_MAX);
    soak.lives[kid]++;
    __atomic_store_n(&soak.notes->committed[kid], 0, __ATOMIC_RELEASE);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        check_parent = soak.supervisor;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() != soak.supervisor) _exit(0);
        seed_chance(seed);
        live(kid);
        _exit(0);
    }
    soak.kids[kid] = pid;
    soak.stopped[kid] = 0;
}

static void reap(uint64_t kid, int killed)
{
    int status = 0;
    CHECK(waitpid(soak.kids[kid], &status, 0) == soak.kids[kid]);
    soak.kids[kid] = 0;
    soak.stopped[kid] = 0;
    if (killed ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : status != 0) {
        check_failed("child %" PRIu64 " ended by itself with status %#x", kid, (unsigned)status);
    }
    figures.kills += killed != 0;
}

static void strike(uint64_t kid)
{
    CHECK(kill(soak.kids[kid], SIGKILL) == 0);
}

static void go_on_all(void)
{
    uint64_t kid;
    for (kid = 0; kid < KIDS; kid++) {
        if (soak.stopped[kid]) CHECK(kill(soak.kids[kid], SIGCONT) == 0);
        soak.stopped[kid] = 0;
    }
}

/* ---- the survivors ---- */

/* The numbers of one life come in order; after a sample of a later life there is none of an earlier
 * one. */
static void check_writer_order(const struct message *message, uint64_t sequence)
{
    uint64_t kid = message->kid,
             expected = message->life == soak.last_life[kid] ? soak.last_number[kid] + 1 : 1;
    if (message->life < soak.last_life[kid] || message->number < expected ||
        (is_lossless() && message->number != expected)) {
        check_failed("sample %" PRIu64 ": child %" PRIu64 ", life %" PRIu64 ", number %" PRIu64
                     " after life %" PRIu64 ", number %" PRIu64,
                     sequence, kid, message->life, message->number, soak.last_life[kid],
                     soak.last_number[kid]);
    }
    soak.last_life[kid] = message->life;
    soak.last_number[kid] = message->number;
}

static void compare_holds(void)
{
    uint64_t i;
    for (i = 0; i < soak.held; i++) {
        const struct hold *hold = &soak.holds[i];
        if (memcmp(hold->bytes, hold->sample.data, hold->sample.len) != 0) {
            check_failed("sample %" PRIu64 " in slot %u has changed in hand", hold->sample.sequence,
                         hold->sample.slot);
        }
        count_compared(hold->sample.len);
    }
}

/* Marks the samples that were held long enough, or all. */
static void end_holds(int all)
{
    uint64_t i;
    compare_holds();
    for (i = soak.held; i-- > 0;) {
        if (all || soak.next_sequence >= soak.holds[i].until) {
            CHECK_OK(shmslot_slot_mark(soak.reader, &soak.holds[i].sample));
            soak.holds[i] = soak.holds[--soak.held];
        }
    }
}

/* Holds a sample for laps, now and then, or because its writer may be stopped in its commit. */
static int keep(const shmslot_sample *sample)
{
    const struct message *message = sample->data;
    const int unreturned =
        message->kid == soak.suspect && message->number > soak.notes->committed[message->kid];
    const uint64_t limit = unreturned ? HOLDS : HOLDS / 2,
                   room = soak.slots / 8 + (unreturned != 0);
    struct hold *hold = &soak.holds[soak.held];
    if (!unreturned && chance(32) != 0) return 0;
    if (soak.held >= limit || soak.held >= room) return 0;
    hold->sample = *sample;
    hold->until = sample->sequence + 2 * soak.slots + chance(6 * soak.slots);
    memcpy(hold->bytes, sample->data, sample->len);
    soak.held++;
    figures.unreturned += unreturned != 0;
    return 1;
}

/* Reads one sample, if there is one. */
static int survive(void)
{
    shmslot_sample sample;
    int result = shmslot_slot_read(soak.reader, &sample);
    if (result == SHMSLOT_E_AGAIN) return 0;
    CHECK_OK(result);
    figures.samples++;
    if (is_lossless()) {
        CHECK_U64(lost(soak.reader), 0);
        if (sample.sequence != soak.next_sequence) {
            check_failed("sample %" PRIu64 " where %" PRIu64 " is due", sample.sequence,
                         soak.next_sequence);
        }
    } else if (sample.sequence < soak.next_sequence ||
               figures.samples + lost(soak.reader) != sample.sequence) {
        check_failed("sample %" PRIu64 " where %" PRIu64 " or later is due: %" PRIu64
                     " received, %" PRIu64 " lost",
                     sample.sequence, soak.next_sequence, figures.samples, lost(soak.reader));
    }
    soak.next_sequence = sample.sequence + 1;
    check_message(&sample);
    check_writer_order(sample.data, sample.sequence);
    if (!keep(&sample)) CHECK_OK(shmslot_slot_mark(soak.reader, &sample));
    end_holds(0);
    return 1;
}

/* The surviving writer never waits, because it would wait for its own reader. */
static void write_one(void)
{
    shmslot_loan loan;
    int result;
    if (soak.writer == NULL) return;
    result = shmslot_slot_reserve(soak.writer, CAPACITY, AT_ONCE, &loan);
    if (result == SHMSLOT_E_NO_FREE_SLOT) return;
    CHECK_OK(result);
    commit_message(soak.writer, &loan, SURVIVOR, ++soak.number);
}

/* Lets `count` samples pass; they must arrive whether the children are alive or dead, if none is
 * stopped. */
static void work(uint64_t count, int must_come)
{
    unsigned idle = 0;
    while (count > 0 && idle < 10) {
        if (survive()) {
            count--;
        } else if (must_come) {
            CHECK_OK(shmslot_wait(soak.reader, FOR_EVER)); /* the watchdog ends it */
        } else {
            (void)sched_yield();
            idle++;
        }
        if (chance(4) == 0) write_one();
    }
    compare_holds();
}

/* ---- accounts ---- */

static void check_words(uint64_t retained)
{
    const struct words *words = &soak.words;
    uint64_t slot, seen = 0;
    unsigned word;
    if (retained > tail_of(words) - 1) retained = tail_of(words) - 1;
    for (slot = 0; slot < soak.slots; slot++) {
        uint64_t first = marks_of(words, slot, 0),
                 behind = (tail_of(words) - (first >> 32)) & 0xffffffff;
        unsigned phase = phase_of(words, slot);
        /* owed to history alone */
        int kept = (first & 0xffffffff) == 0x10000 && behind <= retained;
        if (phase != 0 && phase != PHASE_PUBLISHED)
            check_failed("slot %" PRIu64 " is in phase %u", slot, phase);
        for (word = kept ? 1 : 0; word < 4; word++) {
            if (bits_left(words, slot, word) != 0) {
                check_failed("slot %" PRIu64 ": marks %u are %#" PRIx64, slot, word,
                             marks_of(words, slot, word));
            }
        }
        seen += kept != 0;
        if (!kept && !is_offered(words, slot)) {
            check_failed("slot %" PRIu64 " is free, and the vacancy map does not know", slot);
        }
    }
    if (is_lossless()) CHECK_U64(seen, retained);
}

/* Only this process is left: every slot, row and bit is free again. */
static void account(void)
{
    shmslot_loan loans[128];
    shmslot_participant list[MAX_PARTICIPANTS];
    shmslot_writer *writer = soak.writer;
    shmslot_reader *fresh;
    shmslot_sample sample;
    uint64_t i, kid, free_slots, before;
    size_t count;
    int index = shmslot_reader_index(soak.reader);
    while (survive()) continue;
    end_holds(1);
    before = soak.next_sequence;
    if (is_lossless()) CHECK_U64(info_of(soak.segment).next_sequence, before);
    CHECK_U64(info_of(soak.segment).participants, 1);
    CHECK_U64(info_of(soak.segment).readers, UINT64_C(1) << index);
    CHECK_OK(
        shmslot_segment_participants(soak.segment, list, sizeof list[0], MAX_PARTICIPANTS, &count));
    CHECK_U64(count, 1);
    CHECK_U64(list[0].readers, UINT64_C(1) << index);
    CHECK_U64(list[0].writers, soak.writer != NULL);
    /* Every sample whose commit a child was told of was read, and besides these at most those of
     * the call during which it died. */
    for (kid = 0; is_lossless() && kid < WRITERS; kid++) {
        uint64_t told = soak.notes->committed[kid];
        uint64_t got = soak.last_life[kid] == soak.lives[kid] ? soak.last_number[kid] : 0;
        if (got < told || got > told + HANDS) {
            check_failed("child %" PRIu64 ": %" PRIu64 " samples read of %" PRIu64 " committed",
                         kid, got, told);
        }
    }
    check_words(soak.setting->history);
    if (writer == NULL) writer = open_writer(soak.segment);
    free_slots = soak.slots;
    if (is_lossless())
        free_slots -= before - 1 < soak.setting->history ? before - 1 : soak.setting->history;
    for (i = 0; i < free_slots; i++) {
        int result = shmslot_slot_reserve(writer, CAPACITY, AT_ONCE, &loans[i]);
        if (result != SHMSLOT_OK) {
            check_failed("slot %" PRIu64 " of %" PRIu64 " free ones: %s", i, free_slots,
                         shmslot_strerror(result));
        }
    }
    CHECK_CODE(shmslot_slot_reserve(writer, 1, AT_ONCE, &loans[i]), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < free_slots; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    fresh = join(soak.segment, 0);
    check_nothing_to_read(fresh);
    for (i = 0; i < 3; i++) {
        CHECK_OK(shmslot_slot_reserve(writer, CAPACITY, AT_ONCE, &loans[0]));
        commit_message(writer, &loans[0], SURVIVOR, ++soak.number);
        sample = hold(fresh);
        CHECK_U64(((const struct message *)sample.data)->number, soak.number);
        check_message(&sample);
        CHECK_OK(shmslot_slot_mark(fresh, &sample));
        CHECK(survive());
    }
    check_nothing_to_read(fresh);
    shmslot_reader_leave(fresh);
    if (soak.writer == NULL) shmslot_writer_close(writer);
    figures.accounts++;
}

/* All at once. */
static void kill_everybody(void)
{
    uint64_t kid;
    for (kid = 0; kid < KIDS; kid++) strike(kid);
    for (kid = 0; kid < KIDS; kid++) reap(kid, 1);
    CHECK_OK(shmslot_segment_recover(soak.segment, NULL));
}

/* In good order, so that no sweep hides what an earlier one has left. */
static void dismiss_everybody(void)
{
    uint64_t kid;
    end_holds(1); /* who waits for room must get some */
    go_on_all();
    CHECK_OK(shmslot_segment_recover(soak.segment, NULL));
    __atomic_store_n(&soak.notes->stop, 1, __ATOMIC_RELAXED);
    for (kid = 0; kid < KIDS; kid++) {
        siginfo_t info;
        do {
            memset(&info, 0, sizeof info);
            (void)survive();
            (void)sched_yield();
            CHECK(waitid(P_PID, (id_t)soak.kids[kid], &info, WEXITED | WNOHANG | WNOWAIT) == 0);
        } while (info.si_pid == 0);
        reap(kid, 0);
    }
    CHECK_CODE(shmslot_segment_recover(soak.segment, NULL), 0);
    __atomic_store_n(&soak.notes->stop, 0, __ATOMIC_RELAXED);
}

/* ---- rounds ---- */

/* Whether the others can continue for laps while this child is stopped: in lossless segments a
 * reader blocks them. */
static int is_dispensable(uint64_t kid)
{
    if (has_one_writer()) return !is_lossless() && kid > 1;
    return !is_lossless() || kid < 2 || kid == 7;
}

/* Lets laps pass while holding what the suspect has published, if its commit has not returned. */
static void go_round(uint64_t suspect)
{
    uint64_t count, idle = 0;
    soak.suspect = suspect;
    for (count = 0; count < 2 * soak.slots && survive(); count++) continue;
    soak.suspect = WRITERS;
    for (count = chance(4 * soak.slots); count > 0 && idle < 10; count--) {
        write_one();
        if (survive()) {
            idle = 0;
        } else {
            (void)sched_yield();
            idle++;
        }
    }
    compare_holds();
    figures.late++;
}

/* Stops the victim where it is. It counts as alive, so nobody recovers it. */
static void let_it_wait(uint64_t victim)
{
    siginfo_t info;
    go_on_all();
    CHECK(kill(soak.kids[victim], SIGSTOP) == 0);
    CHECK(waitid(P_PID, (id_t)soak.kids[victim], &info, WSTOPPED) == 0);
    go_round(victim);
}

/* ---- strangers: single steps find a moment at which others are killed once in hundreds of times
 * ---- */

/* On other processors a single step may break an exclusive access, which then never succeeds; a
 * tool would be stepped through as well. */
#if defined __x86_64__ && !defined UNDER_A_TOOL
#define HAS_STRANGERS 1
static shmslot_writer *strangers_writer;
static shmslot_loan strangers_loans[2];
static int strangers_count;

static void prepare_stranger(void *unused)
{
    shmslot_segment *segment = NULL;
    int tries;
    (void)unused;
    CHECK_OK(shmslot_segment_attach_fd(soak.fd, NULL, &segment, NULL));
    strangers_writer = open_writer(segment);
    for (tries = 0; tries < 100 && strangers_count < 2; tries++) {
        int result = shmslot_slot_reserve(strangers_writer, CAPACITY, AT_ONCE,
                                          &strangers_loans[strangers_count]);
        if (result == SHMSLOT_OK) {
            strangers_count++;
        } else {
            CHECK_CODE(result, SHMSLOT_E_NO_FREE_SLOT);
            (void)sched_yield();
        }
    }
    /* The first call of a function includes its lookup, which takes more steps than the call. */
    if (strangers_count == 2) commit_message(strangers_writer, &strangers_loans[1], STRANGER, 1);
}

static void commit_strangers(void *unused)
{
    (void)unused;
    if (strangers_count == 2) commit_message(strangers_writer, &strangers_loans[0], STRANGER, 2);
}

/* Whether a stopped process may have published a sample whose commit has not returned. */
static int is_publishing(pid_t pid)
{
    uint64_t slot;
    for (slot = 0; slot < soak.slots; slot++) {
        if (phase_of(&soak.words, slot) == PHASE_PUBLISHING &&
            process_of(&soak.words, owner_of(&soak.words, slot)) == pid) {
            return 1;
        }
    }
    return 0;
}

/* One more writer attaches, is stopped in its commit, mostly just as it publishes, and is killed
 * laps later. */
static void kill_a_stranger(void)
{
    uint64_t steps = chance(4) == 0 ? chance(1000) : MOST_STEPS;
    int hit = 0, more = 1;
    pid_t pid;
    go_on_all();
    soak.lives[STRANGER]++;
    __atomic_store_n(&soak.notes->committed[STRANGER], 0, __ATOMIC_RELEASE);
    pid = steps_start(prepare_stranger, commit_strangers, NULL, NULL);
    while (more && steps-- > 0) {
        more = steps_go(pid, PTRACE_SINGLESTEP);
        if (!hit && is_publishing(pid)) hit = 1, steps = chance(50);
    }
    go_round(STRANGER);
    steps_kill(pid);
    figures.kills++;
}
#endif

static void one_round(void)
{
    uint64_t victim, second;
    int two = chance(4) == 0, newborn = (int)chance(4);
    if (chance(8) == 0) {
        uint64_t other = chance(KIDS);
        CHECK(kill(soak.kids[other], SIGSTOP) == 0);
        soak.stopped[other] = 1;
        figures.stops++;
    } else if (chance(4) == 0) {
        go_on_all();
    }
    work(chance(200), 0);
    linger(chance(2000));
    /* Mostly one that runs at this moment: a sleeping one is always killed at the same few
     * places. */
    victim = chance(4) == 0 ? chance(KIDS) : __atomic_load_n(&soak.notes->active, __ATOMIC_RELAXED);
    if (chance(2) == 0) {
        if (is_lossless() && !has_one_writer() && !is_dispensable(victim)) victim = chance(2);
        if (is_dispensable(victim)) let_it_wait(victim);
    }
#ifdef HAS_STRANGERS
    if (chance(4) == 0 && !has_one_writer()) kill_a_stranger();
#endif
    second = (victim + 1 + chance(KIDS - 1)) % KIDS;
    strike(victim);
    if (two) strike(second);
    /* somebody may be at it before the kernel is through */
    if (chance(2) == 0) (void)sched_yield();
    reap(victim, 1);
    if (two) reap(second, 1);
    if (chance(32) == 0) {
        /* Nobody attaches: the remaining processes find out by themselves. */
        go_on_all();
        if (two) start(second), two = 0;
        if (soak.writer != NULL || victim > 1) work(2 * soak.slots, 1);
    } else if (chance(8) == 0) {
        CHECK_OK(shmslot_segment_recover(soak.segment, NULL));
    }
    start(victim);
    if (newborn == 0) {
        linger(chance(400000)); /* it attaches, cleans up and joins meanwhile */
        strike(victim);
        reap(victim, 1);
        figures.newborn++;
        start(victim);
    }
    if (two) start(second);
}

static void begin_setting(const struct setting *setting)
{
    static const uint32_t counts[] = {5, 16, 61, 100};
    shmslot_options options;
    memset(soak.kids, 0, sizeof soak.kids);
    memset(soak.lives, 0, sizeof soak.lives);
    memset(soak.last_life, 0, sizeof soak.last_life);
    memset(soak.last_number, 0, sizeof soak.last_number);
    memset(soak.notes, 0, sizeof *soak.notes);
    memset(&figures, 0, sizeof figures);
    soak.number = 0;
    soak.held = 0;
    soak.suspect = WRITERS;
    soak.next_sequence = 1;
    soak.slots = counts[chance(4)];
    soak.setting = setting;
    options = options_of(soak.slots, CAPACITY);
    options.policy = setting->policy;
    options.flags = setting->flags;
    options.history = setting->history;
    options.max_readers = setting->max_readers;
    options.max_participants = MAX_PARTICIPANTS;
    soak.segment = make_anonymous(&options);
    soak.fd = shmslot_segment_fd(soak.segment);
    CHECK_OK(soak.fd);
    soak.words = map_words(soak.segment);
    soak.reader = join(soak.segment, 0);
    soak.writer = has_one_writer() ? NULL : open_writer(soak.segment);
}

static void end_setting(void)
{
    figures.lost = lost(soak.reader);
    figures.compared = soak.notes->compared;
    end_holds(1); /* of those since the last accounts */
    shmslot_reader_leave(soak.reader);
    shmslot_writer_close(soak.writer);
    shmslot_segment_close(soak.segment);
    unmap_words(&soak.words);
}

static void soak_setting(const struct setting *setting, uint64_t rounds)
{
    uint64_t kid, round, until_account = 0;
    begin_setting(setting);
    for (round = 0; round < rounds; round++) {
        soak.round = round;
        alarm(CHECK_WATCHDOG_S);
        if (until_account == 0) {
            for (kid = 0; kid < KIDS; kid++) start(kid);
            until_account =
                1 + chance(2 * ROUNDS_TO_ACCOUNT < rounds ? 2 * ROUNDS_TO_ACCOUNT : rounds);
        }
        one_round();
        if (--until_account == 0 || round + 1 == rounds) {
            chance(2) == 0 ? kill_everybody() : dismiss_everybody();
            account();
            until_account = 0;
        }
    }
    end_setting();
}

static uint64_t number_of(const char *text, uint64_t otherwise)
{
    return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

int main(int count, char **arguments)
{
    uint64_t rounds = number_of(getenv("SHMSLOT_SOAK_ROUNDS"), ROUNDS), only = 0;
    uint64_t kills = 0, late = 0, unreturned = 0, compared = 0, samples = 0, lost_all = 0,
             accounts = 0, i;
    struct timespec now;
    check_begin();
    CHECK(signal(SIGALRM, on_alarm) != SIG_ERR);
    CHECK(atexit(at_exit) == 0);
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    steps_begin();
    soak.supervisor = getpid();
    soak.seed = number_of(getenv("SHMSLOT_SOAK_SEED"), (uint64_t)now.tv_nsec ^ (uint64_t)getpid());
    if (count > 1) rounds = number_of(arguments[1], rounds);
    if (count > 2) soak.seed = number_of(arguments[2], soak.seed);
    if (count > 3) only = number_of(arguments[3], 0);
    seed_chance(soak.seed);
    soak.notes =
        mmap(NULL, sizeof *soak.notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(soak.notes != MAP_FAILED);
    check_report = soak.notes->failed;
    printf("seed %" PRIu64 "\n\n", soak.seed);
    puts("| policy | writers | history | max readers | slots | rounds | kills | late | newborn | "
         "stops | samples | lost |"
         " held bytes | accounts | leaks "
         "|\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (i = 0; i < SETTINGS; i++) {
        const struct setting *setting = &settings[i];
        uint64_t share = rounds / SETTINGS + (i < rounds % SETTINGS);
        if (only != 0) share = i + 1 == only ? rounds : 0;
        if (share == 0) continue;
        fflush(stdout); /* or children print it once more */
        soak_setting(setting, share);
        printf("| %s | %s | %u | %u | %u | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64
               " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | 0 |\n",
               policy_name(setting->policy), has_one_writer() ? "one" : "many", setting->history,
               setting->max_readers, soak.slots, share, figures.kills, figures.late,
               figures.newborn, figures.stops, figures.samples, figures.lost, figures.compared,
               figures.accounts);
        kills += figures.kills;
        late += figures.late;
        unreturned += figures.unreturned;
        compared += figures.compared;
        samples += figures.samples;
        lost_all += figures.lost;
        accounts += figures.accounts;
    }
    printf("\n%" PRIu64 " rounds, %" PRIu64 " kills, %" PRIu64 " of them found laps late, %" PRIu64
           " with a sample in hand whose commit had not returned; %" PRIu64
           " held bytes compared, %" PRIu64 " samples, %" PRIu64 " lost, %" PRIu64
           " accounts, 0 leaks, seed %" PRIu64 "\n",
           rounds, kills, late, unreturned, compared, samples, lost_all, accounts, soak.seed);
    return 0;
}
