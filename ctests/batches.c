/* Batches: what one call does with many loans or samples is what as many single calls do, in every
 * kind of segment and in any mixture with single calls. */
#include "sleeper.h"

#define SLOTS 64
#define CAPACITY 64
#define MOST 40 /* more than share one look */
#define LARGE 4096
#define REGIONS 8

struct setting {
    uint32_t policy, flags, slots, history, max_readers;
    int large; /* every third payload is in a region */
};

static const struct setting settings[] = {
    {SHMSLOT_POLICY_BLOCK, 0, SLOTS, 0, 3, 0},
    {SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER, SLOTS, 0, 3, 0},
    {SHMSLOT_POLICY_FAIL, 0, 48, 0, 3, 0}, /* no power of two */
    {SHMSLOT_POLICY_FAIL, 0, SLOTS, 0, 40, 0},
    {SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_TIMESTAMPS, SLOTS, 4, 3, 0},
    {SHMSLOT_POLICY_FAIL, 0, SLOTS, 0, 3, 1},
    {SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER, SLOTS, 0, 3, 1},
    {SHMSLOT_POLICY_DROP_OLDEST, 0, SLOTS, 0, 3, 0},
    {SHMSLOT_POLICY_DROP_OLDEST, SHMSLOT_FLAG_SINGLE_WRITER, SLOTS, 3, 20, 1},
    {SHMSLOT_POLICY_FAIL, 0, 1, 0, 3, 0},
    {SHMSLOT_POLICY_FAIL, SHMSLOT_FLAG_SINGLE_WRITER, 2, 0, 3, 0},
};

static shmslot_segment *segment;
static shmslot_writer *writer;
static shmslot_reader *reader;

static void set_up(const struct setting *setting)
{
    shmslot_options options = options_of(setting->slots, CAPACITY);
    options.policy = setting->policy;
    options.flags = setting->flags;
    options.history = setting->history;
    options.max_readers = setting->max_readers;
    options.spin_ns = SHMSLOT_SPIN_NONE;
    if (setting->large) {
        options.max_payload = LARGE;
        options.region_count = REGIONS;
    }
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
}

static void tear_down(void)
{
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static size_t succeeded(int count)
{
    CHECK_OK(count);
    return (size_t)count;
}

static size_t reserve_many(shmslot_loan *loans, size_t most)
{
    return succeeded(shmslot_slot_reserve_many(writer, 8, AT_ONCE, loans, most));
}

/* Every slot can be had at once, and then none is left. */
static void check_all_are_free(uint32_t slots)
{
    shmslot_loan loans[SLOTS + 1];
    size_t i, got = reserve_many(loans, SLOTS + 1);
    CHECK_U64(got, slots);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[slots]), SHMSLOT_E_NO_FREE_SLOT);
    CHECK_CODE(shmslot_slot_reserve_many(writer, 8, AT_ONCE, &loans[slots], 1),
               SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < got; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
}

/* ---- any mixture of single calls and batches ---- */

static uint64_t chance_state;

static uint64_t chance(uint64_t below)
{
    chance_state = chance_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (chance_state >> 33) % below;
}

/* What the segment should do: loans and held samples in the hands of this program, and sequences. */
static struct {
    shmslot_loan loans[MOST];
    shmslot_sample held[MOST];
    size_t loaned, holding;
    uint64_t committed, read, value, values[1 << 16];
} model;

static void fill(shmslot_loan *loan)
{
    model.value++;
    memcpy(loan->data, &model.value, sizeof model.value);
}

static void reserve_some(const struct setting *setting)
{
    size_t most = chance(MOST - model.loaned + 1), got = 0, i;
    size_t len = setting->large && chance(3) == 0 ? LARGE / 2 : 8;
    shmslot_loan *loans = &model.loans[model.loaned];
    int result = shmslot_slot_reserve_many(writer, len, AT_ONCE, loans, most);
    if (result != SHMSLOT_E_NO_FREE_SLOT) got = succeeded(result);
    CHECK(got <= most);
    for (i = 0; i < got; i++) {
        CHECK_U64(loans[i].len, len);
        fill(&loans[i]);
    }
    model.loaned += got;
}

static uint64_t first_word(const void *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static void committed(const shmslot_loan *loan, uint64_t sequence)
{
    CHECK_U64(sequence, ++model.committed);
    model.values[sequence] = first_word(loan->data);
}

static void commit_some(void)
{
    size_t lens[MOST], count = chance(model.loaned + 1), i;
    uint64_t sequences[MOST];
    int whole = chance(2) == 0;
    for (i = 0; i < count; i++) lens[i] = 8;
    if (count == 1 && chance(2) == 0) {
        CHECK_OK(shmslot_slot_commit(writer, model.loans, 8, sequences));
    } else {
        CHECK_U64(succeeded(shmslot_slot_commit_many(writer, model.loans, whole ? NULL : lens,
                                                     count, sequences)),
                  count);
    }
    for (i = 0; i < count; i++) committed(&model.loans[i], sequences[i]);
    model.loaned -= count;
    memmove(model.loans, model.loans + count, model.loaned * sizeof *model.loans);
}

static void discard_some(void)
{
    if (model.loaned == 0) return;
    CHECK_OK(shmslot_slot_discard(writer, &model.loans[--model.loaned]));
}

static void got(const struct setting *setting, const shmslot_sample *sample)
{
    if (setting->policy == SHMSLOT_POLICY_DROP_OLDEST)
        CHECK(sample->sequence > model.read);
    else
        CHECK_U64(sample->sequence, model.read + 1);
    model.read = sample->sequence;
    CHECK_U64(first_word(sample->data), model.values[sample->sequence]);
}

static void read_some(const struct setting *setting)
{
    size_t most = chance(MOST - model.holding + 1), i;
    shmslot_sample *samples = &model.held[model.holding];
    int result;
    if (most == 1 && chance(2) == 0)
        result = shmslot_slot_read(reader, samples) == SHMSLOT_OK ? 1 : SHMSLOT_E_AGAIN;
    else
        result = shmslot_slot_read_many(reader, samples, most);
    if (result == SHMSLOT_E_AGAIN) {
        CHECK(most > 0);
        CHECK(setting->policy == SHMSLOT_POLICY_DROP_OLDEST || model.read == model.committed);
        return;
    }
    CHECK(succeeded(result) <= most);
    for (i = 0; i < (size_t)result; i++) got(setting, &samples[i]);
    model.holding += (size_t)result;
}

static void mark_some(void)
{
    size_t count = chance(model.holding + 1), i;
    shmslot_sample *last = &model.held[model.holding - count];
    for (i = 0; i < model.holding; i++) {
        CHECK_U64(first_word(model.held[i].data), model.values[model.held[i].sequence]);
    }
    if (count == 1 && chance(2) == 0)
        CHECK_OK(shmslot_slot_mark(reader, last));
    else
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, last, count)), count);
    model.holding -= count;
}

static void check_any_mixture(void)
{
    size_t i;
    int step;
    for (i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct setting *setting = &settings[i];
        memset(&model, 0, sizeof model);
        chance_state = i + 1;
        check_note("setting %zu", i);
        set_up(setting);
        for (step = 0; step < 4000; step++) {
            switch (chance(6)) {
            case 0:
            case 1: reserve_some(setting); break;
            case 2: commit_some(); break;
            case 3: read_some(setting); break;
            case 4: mark_some(); break;
            default: discard_some(); break;
            }
        }
        CHECK(model.committed > 20);
        if (setting->policy != SHMSLOT_POLICY_DROP_OLDEST) CHECK_U64(lost(reader), 0);
        while (model.loaned > 0) discard_some();
        while (model.holding > 0) mark_some();
        tear_down();
    }
}

/* ---- what cannot be done ---- */

static void drain(void)
{
    shmslot_sample samples[MOST];
    int got;
    while ((got = shmslot_slot_read_many(reader, samples, MOST)) != SHMSLOT_E_AGAIN) {
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, succeeded(got))), (uint64_t)got);
    }
}

/* A batch ends before the first loan that cannot be committed, which is as it was. */
static void check_loans_that_are_none(void)
{
    shmslot_loan loans[20];
    size_t lens[20], i, place;
    uint64_t sequences[20];
    for (i = 0; i < 2; i++) {
        set_up(&settings[i]);
        for (place = 0; place < 20; place++) {
            size_t n;
            uint64_t before = succeeded((int)reserve_many(loans, 20));
            CHECK_U64(before, 20);
            for (n = 0; n < 20; n++) lens[n] = 8;
            memset(sequences, 0xee, sizeof sequences);
            /* one byte too much */
            lens[place] = 9;
            if (place == 0) {
                CHECK_CODE(shmslot_slot_commit_many(writer, loans, lens, 20, sequences),
                           SHMSLOT_E_BAD_LENGTH);
            } else {
                CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, lens, 20, sequences)),
                          place);
            }
            for (n = 0; n < 20; n++) CHECK((sequences[n] == UINT64_C(0xeeeeeeeeeeeeeeee)) == (n >= place));
            /* one that has ended before, in the middle of others */
            if (place > 0) {
                loans[19] = loans[place - 1];
                if (place < 19)
                    CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans + place, NULL,
                                                                 20 - place, NULL)),
                              19 - place);
                CHECK_CODE(shmslot_slot_commit_many(writer, loans + 19, NULL, 1, NULL),
                           SHMSLOT_E_STALE);
            } else {
                CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, 20, NULL)), 20);
            }
            shmslot_writer_close(writer);
            writer = open_writer(segment); /* the last one was never committed */
            drain();
        }
        tear_down();
    }
}

/* The same loan twice, and loans of another writer and of another segment. */
static void check_foreign_loans(void)
{
    static const struct setting *many = &settings[0];
    shmslot_options options = options_of(4, 8);
    shmslot_segment *elsewhere = make_anonymous(&options);
    shmslot_writer *third = open_writer(elsewhere), *second;
    shmslot_loan loans[4];
    set_up(many);
    second = open_writer(segment);
    CHECK_U64(reserve_many(loans, 2), 2);
    loans[2] = loans[0];
    CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, 3, NULL)), 2);
    CHECK_CODE(shmslot_slot_commit_many(writer, loans + 2, NULL, 1, NULL), SHMSLOT_E_STALE);

    CHECK_U64(reserve_many(loans, 1), 1);
    CHECK_OK(shmslot_slot_reserve(second, 8, AT_ONCE, &loans[1]));
    CHECK_OK(shmslot_slot_reserve(third, 8, AT_ONCE, &loans[2]));
    CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, 3, NULL)), 1);
    CHECK_CODE(shmslot_slot_commit_many(writer, loans + 1, NULL, 2, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_commit_many(writer, loans + 2, NULL, 1, NULL), SHMSLOT_E_STALE);
    CHECK_U64(succeeded(shmslot_slot_commit_many(second, loans + 1, NULL, 1, NULL)), 1);
    CHECK_OK(shmslot_slot_discard(third, &loans[2]));
    CHECK_U64(take(reader), first_word(loans[0].data));
    shmslot_writer_close(second);
    shmslot_writer_close(third);
    shmslot_segment_close(elsewhere);
    tear_down();
}

/* A batch of marks ends before the first sample that is not held, and the rest stays held. */
static void check_samples_that_are_not_held(void)
{
    shmslot_sample samples[20], peeked;
    size_t i, n, place;
    for (i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (settings[i].slots < 32) continue;
        set_up(&settings[i]);
        for (place = 0; place < 20; place++) {
            int result;
            for (n = 0; n < 20; n++) (void)put(writer, n);
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, 20)), 20);
            CHECK_OK(shmslot_slot_mark(reader, &samples[place]));
            result = shmslot_slot_mark_many(reader, samples, 20);
            if (place == 0)
                CHECK_CODE(result, SHMSLOT_E_STALE);
            else
                CHECK_U64(succeeded(result), place);
            n = 19 - place;
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples + place + 1, n)), n);
            if (n > 0)
                CHECK_CODE(shmslot_slot_mark_many(reader, samples + 19, 1), SHMSLOT_E_STALE);
        }
        /* one that is held twice, by a read and by a peek, is marked twice, in one batch */
        (void)put(writer, 1);
        (void)put(writer, 2);
        if (settings[i].policy != SHMSLOT_POLICY_DROP_OLDEST) {
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, 20)), 2);
            CHECK_OK(shmslot_slot_peek_latest(reader, &peeked));
            samples[2] = peeked;
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, 3)), 3);
        }
        tear_down();
    }
}

/* Where loans and holds are limited, a batch is as large as the limit allows. */
static void check_limits(void)
{
    shmslot_options options = options_of(SLOTS, 8);
    shmslot_loan loans[MOST];
    shmslot_sample samples[MOST];
    int i;
    options.max_loans = 5;
    options.max_held = 3;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    for (i = 0; i < 20; i++) {
        CHECK_U64(reserve_many(loans, MOST), 5);
        CHECK_CODE(shmslot_slot_reserve_many(writer, 8, AT_ONCE, loans + 5, 1),
                   SHMSLOT_E_LOAN_LIMIT);
        CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, 5, NULL)), 5);
        CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, MOST)), 3);
        CHECK_CODE(shmslot_slot_read_many(reader, samples + 3, 1), SHMSLOT_E_HELD_LIMIT);
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, 3)), 3);
        CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, MOST)), 2);
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, 2)), 2);
    }
    tear_down();
}

/* Lengths from 0 up to what was reserved, each its own. */
static void check_lengths(void)
{
    shmslot_loan loans[MOST];
    shmslot_sample samples[MOST];
    size_t lens[MOST], i;
    set_up(&settings[0]);
    CHECK_U64(succeeded(shmslot_slot_reserve_many(writer, MOST, AT_ONCE, loans, MOST)), MOST);
    for (i = 0; i < MOST; i++) {
        memset(loans[i].data, (int)i, MOST);
        lens[i] = i;
    }
    CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, lens, MOST, NULL)), MOST);
    CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, MOST)), MOST);
    for (i = 0; i < MOST; i++) {
        CHECK_U64(samples[i].len, i);
        CHECK(i == 0 || ((const unsigned char *)samples[i].data)[i - 1] == i);
    }
    CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, MOST)), MOST);
    check_all_are_free(SLOTS);
    tear_down();
}

/* ---- those who leave, join and sleep ---- */

/* A reader that has left is gone with the last sample of a batch. */
static void check_marks_after_leaving(void)
{
    size_t i, n;
    for (i = 0; i < sizeof settings / sizeof *settings; i++) {
        shmslot_sample samples[20];
        if (settings[i].slots < 32) continue;
        set_up(&settings[i]);
        for (n = 0; n < 25; n++) (void)put(writer, n);
        CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, 20)), 20);
        shmslot_reader_leave(reader);
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, 7)), 7);
        CHECK_CODE(shmslot_slot_mark_many(reader, samples, 7), SHMSLOT_E_STALE);
        CHECK_OK(shmslot_slot_mark(reader, &samples[7]));
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples + 8, 12)), 12);
        reader = NULL; /* freed: memory checkers look */
        if (settings[i].history == 0) check_all_are_free(settings[i].slots);
        tear_down();
    }
}

/* Nobody is there, then one joins, and one leaves: a batch is owed to those that are there. */
static void check_joining_and_leaving(void)
{
    shmslot_loan loans[MOST];
    shmslot_sample samples[MOST];
    int i, k;
    for (i = 0; i < 2; i++) {
        set_up(&settings[i]);
        shmslot_reader_leave(reader);
        for (k = 0; k < 50; k++) {
            shmslot_reader *second;
            CHECK_U64(reserve_many(loans, MOST), MOST);
            CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, MOST, NULL)), MOST);
            reader = join(segment, 0);
            CHECK_U64(reserve_many(loans, MOST), MOST);
            second = join(segment, 0);
            CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, 20, NULL)), 20);
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, MOST)), 20);
            shmslot_reader_leave(second);
            CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans + 20, NULL, MOST - 20, NULL)),
                      MOST - 20);
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, 20)), 20);
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, MOST)), MOST - 20);
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, MOST - 20)), MOST - 20);
            check_all_are_free(SLOTS);
            shmslot_reader_leave(reader);
        }
        reader = NULL;
        tear_down();
    }
}

/* Who sleeps is woken by a batch, the first time and when the segment is alert already. */
static void check_sleepers(void)
{
    shmslot_loan loans[MOST];
    shmslot_sample samples[SLOTS];
    size_t i, all;
    int round;
    for (i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct setting *setting = &settings[i];
        if (setting->slots < 32) continue;
        set_up(setting);
        for (round = 0; round < 3; round++) {
            struct waiting waiting = {.reader = reader};
            CHECK_U64(reserve_many(loans, 20), 20);
            start(&waiting, call_wait);
            CHECK_U64(succeeded(shmslot_slot_commit_many(writer, loans, NULL, 20, NULL)), 20);
            CHECK_OK(finish(&waiting));
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, 20)), 20);
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, 20)), 20);
        }
        for (round = 0; setting->policy == SHMSLOT_POLICY_BLOCK && round < 3; round++) {
            struct waiting waiting = {.writer = writer};
            all = 0;
            while (shmslot_slot_write(writer, "x", 1, AT_ONCE, NULL) == SHMSLOT_OK) all++;
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, samples, SLOTS)), all);
            start(&waiting, call_reserve);
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, all)), all);
            CHECK_OK(finish(&waiting));
        }
        tear_down();
    }
}

/* What marks nothing tells nobody of a change. */
static void check_marks_of_nothing(void)
{
    struct waiting waiting = {.segment = NULL};
    shmslot_sample sample;
    uint32_t before, after;
    set_up(&settings[0]);
    waiting.reader = join(segment, 0);
    start(&waiting, call_wait); /* so the segment is not calm */
    (void)put(writer, 1);
    CHECK_OK(finish(&waiting));
    CHECK_U64(succeeded(shmslot_slot_read_many(reader, &sample, 1)), 1);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_OK(shmslot_segment_generation(segment, &before));
    CHECK_CODE(shmslot_slot_mark_many(reader, &sample, 1), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_segment_generation(segment, &after));
    CHECK_U64(after, before);
    (void)take(waiting.reader);
    shmslot_reader_leave(waiting.reader);
    tear_down();
}

static shmslot_sample stale;

static void *mark_what_is_not_held(void *over)
{
    while (!__atomic_load_n((int *)over, __ATOMIC_RELAXED))
        CHECK_CODE(shmslot_slot_mark(reader, &stale), SHMSLOT_E_STALE);
    return NULL;
}

/* Marks that are refused never make a reader look as if it held something. */
static void check_refused_marks_under_a_limit(void)
{
    shmslot_options options = options_of(4, 8);
    pthread_t marking;
    int over = 0, i;
    options.max_held = 1;
    options.history = 1;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    (void)put(writer, 0);
    (void)take(reader);
    CHECK_OK(shmslot_slot_peek_latest(reader, &stale));
    CHECK_OK(shmslot_slot_mark(reader, &stale));
    CHECK(pthread_create(&marking, NULL, mark_what_is_not_held, &over) == 0);
    for (i = 0; i < 200000; i++) {
        shmslot_sample sample;
        (void)put(writer, 1);
        CHECK_OK(shmslot_slot_read(reader, &sample));
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    CHECK(pthread_join(marking, NULL) == 0);
    tear_down();
}

/* ---- threads ---- */

#define THREADS 2
#define EACH 200000

static void *write_batches(void *argument)
{
    uint64_t who = (uint64_t)(uintptr_t)argument, next = 0;
    shmslot_writer *own = open_writer(segment);
    while (next < EACH) {
        shmslot_loan loans[MOST];
        size_t most = EACH - next < 24 ? (size_t)(EACH - next) : 24, i, got;
        got = succeeded(shmslot_slot_reserve_many(own, 8, FOR_EVER, loans, most));
        for (i = 0; i < got; i++) {
            uint64_t value = who << 32 | next++;
            memcpy(loans[i].data, &value, sizeof value);
        }
        CHECK_U64(succeeded(shmslot_slot_commit_many(own, loans, NULL, got, NULL)), got);
    }
    shmslot_writer_close(own);
    return NULL;
}

/* Writers that contend, with a reader that polls or sleeps: nothing is lost, and the samples of each
 * come in its order. */
static void check_writers_at_once(void)
{
    pthread_t threads[THREADS];
    uint64_t next[THREADS] = {0}, sequence = 0;
    uintptr_t i;
    set_up(&settings[0]);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, write_batches, (void *)i) == 0);
    while (sequence < THREADS * EACH) {
        shmslot_sample samples[MOST];
        int result = shmslot_slot_read_many(reader, samples, 1 + sequence % MOST), k;
        if (result == SHMSLOT_E_AGAIN) {
            if (sequence % 3 == 0) CHECK_OK(shmslot_wait(reader, FOR_EVER));
            continue;
        }
        for (k = 0; k < (int)succeeded(result); k++) {
            uint64_t value = value_of(&samples[k]);
            CHECK(value >> 32 < THREADS);
            CHECK_U64(value & UINT32_MAX, next[value >> 32]++);
            CHECK_U64(samples[k].sequence, ++sequence);
        }
        CHECK_U64(succeeded(shmslot_slot_mark_many(reader, samples, (size_t)result)),
                  (uint64_t)result);
    }
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    check_all_are_free(SLOTS);
    tear_down();
}

static shmslot_sample shared[20];
static shmslot_loan shared_loans[20];
static uint64_t ended;
static pthread_barrier_t barrier;

/* Each ends what it can of the same loans and of the same samples, and goes on behind what another
 * has ended. */
static void *end_the_same(void *argument)
{
    int round;
    for (round = 0; round < 2000; round++) {
        size_t i;
        pthread_barrier_wait(&barrier);
        for (i = 0; i < 20;) {
            int result = argument == NULL
                             ? shmslot_slot_commit_many(writer, shared_loans + i, NULL, 20 - i, NULL)
                             : shmslot_slot_mark_many(reader, shared + i, 20 - i);
            if (result == SHMSLOT_E_STALE) {
                i++;
                continue;
            }
            i += succeeded(result);
            __atomic_fetch_add(&ended, (uint64_t)result, __ATOMIC_RELAXED);
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

/* Two threads that end the same things at once: each thing is ended by one of them. */
static void check_one_end_of_each(void *marks)
{
    pthread_t threads[THREADS];
    int i, round;
    set_up(&settings[0]);
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, end_the_same, marks) == 0);
    for (round = 0; round < 2000; round++) {
        CHECK_U64(reserve_many(shared_loans, 20), 20);
        if (marks != NULL) {
            CHECK_U64(succeeded(shmslot_slot_commit_many(writer, shared_loans, NULL, 20, NULL)), 20);
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, shared, 20)), 20);
        }
        ended = 0;
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        CHECK_U64(ended, 20);
        if (marks == NULL) {
            CHECK_U64(succeeded(shmslot_slot_read_many(reader, shared, SLOTS)), 20);
            CHECK_U64(succeeded(shmslot_slot_mark_many(reader, shared, 20)), 20);
        }
    }
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_barrier_destroy(&barrier) == 0);
    check_all_are_free(SLOTS);
    tear_down();
}

static void check_threads_with_the_same_loans(void)
{
    check_one_end_of_each(NULL);
}

static void check_threads_with_the_same_samples(void)
{
    check_one_end_of_each(&ended);
}

CHECK_MAIN()
{
    RUN(check_any_mixture());
    RUN(check_loans_that_are_none());
    RUN(check_foreign_loans());
    RUN(check_samples_that_are_not_held());
    RUN(check_limits());
    RUN(check_lengths());
    RUN(check_marks_after_leaving());
    RUN(check_joining_and_leaving());
    RUN(check_sleepers());
    RUN(check_marks_of_nothing());
    RUN(check_refused_marks_under_a_limit());
    RUN(check_writers_at_once());
    RUN(check_threads_with_the_same_loans());
    RUN(check_threads_with_the_same_samples());
}
