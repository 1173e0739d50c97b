/* The protocol between threads that share one mapping, for ThreadSanitizer, which cannot see beyond
 * one process. Payloads and user headers are plain loads and stores, so missing ordering is
 * reported.
 *
 *     one_mapping             every policy, one and many writers, readers that stay, join, leave
 *                             and hold
 *     one_mapping late-read   must be reported: a reader reads a sample that it has marked
 *     one_mapping late-write  must be reported: a writer stores to a slot that it has committed */
#include "../stream.h"

#include <stdbool.h>

#define SLOTS 16
#define WRITERS 3
#define EACH UINT64_C(2000)
#define STAYING 2
#define HANDS                                                                                      \
    2 /* all together hold fewer samples than SLOTS; otherwise blocked writers would wait for ever */
#define VISITS 100

enum plant { NOTHING, LATE_READ, LATE_WRITE };

struct setting {
    uint32_t policy, flags, history, max_readers, spin_ns;
    bool local;
    enum plant plant;
};

/* Random numbers of one thread. */
static uint32_t draw(uint32_t *noise)
{
    *noise ^= *noise << 13;
    *noise ^= *noise >> 17;
    *noise ^= *noise << 5;
    return *noise;
}

/* ---- writers ---- */

struct writing {
    const struct setting *setting;
    shmslot_writer *writer;
    uint64_t id;
};

static void reserve(const struct writing *writing, size_t length, shmslot_loan *loan)
{
    int result;
    while ((result = shmslot_slot_reserve(writing->writer, length, FOR_EVER, loan)) ==
           SHMSLOT_E_NO_FREE_SLOT) {
        uint64_t blockers;
        CHECK_OK(shmslot_writer_blockers(writing->writer, &blockers));
        CHECK_OK(shmslot_wait_space(writing->writer, FOR_EVER));
    }
    CHECK_OK(result);
}

static void fill(const struct writing *writing, uint64_t number, const shmslot_loan *loan)
{
    struct message *message = loan->data;
    size_t at;
    message->writer = writing->id;
    message->number = number;
    for (at = 0; at < loan->len - 16; at++)
        message->filling[at] = message_byte(writing->id, number, at);
    *(uint64_t *)loan->user_header = number;
}

/* Stores an equal value, so that only the order is wrong and no reader sees a wrong byte. */
__attribute__((noinline)) static void late_write(const struct writing *writing,
                                                 const shmslot_loan *loan)
{
    ((struct message *)loan->data)->writer = writing->id;
}

static void commit(const struct writing *writing, const shmslot_loan *loan)
{
    CHECK_OK(shmslot_slot_commit(writing->writer, loan, loan->len, NULL));
    if (writing->setting->plant == LATE_WRITE) late_write(writing, loan);
}

static void *write_all(void *argument)
{
    const struct writing *writing = argument;
    uint32_t noise = (uint32_t)writing->id + 1;
    uint64_t number;
    for (number = 1; number <= EACH; number++) {
        shmslot_loan loan, next;
        reserve(writing, message_length(writing->id, number), &loan);
        fill(writing, number, &loan);
        if (draw(&noise) % 8 == 0) {
            CHECK_OK(shmslot_slot_discard(writing->writer, &loan));
            reserve(writing, message_length(writing->id, number), &loan);
            fill(writing, number, &loan);
        }
        if (draw(&noise) % 4 == 0 && number < EACH) { /* two loans, the later one first */
            number++;
            reserve(writing, message_length(writing->id, number), &next);
            fill(writing, number, &next);
            commit(writing, &next);
        }
        commit(writing, &loan);
    }
    return NULL;
}

/* ---- readers ---- */

static void check_bytes(const shmslot_sample *sample)
{
    const struct message *message = sample->data;
    size_t at;
    CHECK(message->writer < WRITERS);
    CHECK_U64(sample->len, message_length(message->writer, message->number));
    CHECK_U64(*(const uint64_t *)sample->user_header, message->number);
    for (at = 0; at < sample->len - 16; at++) {
        CHECK(message->filling[at] == message_byte(message->writer, message->number, at));
    }
}

__attribute__((noinline)) static void late_read(const shmslot_sample *sample)
{
    (void)*(const volatile unsigned char *)sample->data;
}

struct reading {
    const struct setting *setting;
    shmslot_reader *reader;
    uint64_t seen;
    uint32_t noise;
    struct desk *desk; /* where another thread marks what this one reads, or NULL */
};

static void let_go(const struct reading *reading, const shmslot_sample *sample)
{
    check_bytes(sample);
    CHECK_OK(shmslot_slot_mark(reading->reader, sample));
    if (reading->setting->plant == LATE_READ) late_read(sample);
}

/* The next sample, however long it takes; false when the reader is interrupted, which the main
 * thread does after the last commit. */
static bool next_sample(struct reading *reading, shmslot_sample *sample)
{
    int result;
    while ((result = shmslot_slot_read(reading->reader, sample)) == SHMSLOT_E_AGAIN) {
        result = shmslot_wait(reading->reader, FOR_EVER);
        if (result == SHMSLOT_E_INTERRUPTED) return false;
        CHECK_OK(result);
    }
    CHECK_OK(result);
    reading->seen++;
    return true;
}

/* Holds some samples and releases them in any order. */
static void *read_and_hold(void *argument)
{
    struct reading *reading = argument;
    shmslot_sample hands[HANDS], sample;
    unsigned count = 0;
    while (next_sample(reading, &sample)) {
        check_bytes(&sample);
        if (count == HANDS) {
            unsigned which = draw(&reading->noise) % HANDS;
            let_go(reading, &hands[which]);
            hands[which] = hands[--count];
        }
        hands[count++] = sample;
    }
    while (count > 0) let_go(reading, &hands[--count]);
    return NULL;
}

/* A place where one thread leaves samples for another. */
struct desk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    shmslot_sample sample;
    bool taken, over;
};

static void *read_and_pass_on(void *argument)
{
    struct reading *reading = argument;
    struct desk *desk = reading->desk;
    shmslot_sample sample;
    bool more;
    do {
        more = next_sample(reading, &sample);
        CHECK(pthread_mutex_lock(&desk->lock) == 0);
        while (desk->taken) CHECK(pthread_cond_wait(&desk->changed, &desk->lock) == 0);
        if (more) desk->sample = sample;
        desk->taken = more;
        desk->over = !more;
        CHECK(pthread_cond_broadcast(&desk->changed) == 0);
        CHECK(pthread_mutex_unlock(&desk->lock) == 0);
    } while (more);
    return NULL;
}

static void *mark_for_another(void *argument)
{
    const struct reading *reading = argument;
    struct desk *desk = reading->desk;
    for (;;) {
        shmslot_sample sample;
        bool taken;
        CHECK(pthread_mutex_lock(&desk->lock) == 0);
        while (!desk->taken && !desk->over)
            CHECK(pthread_cond_wait(&desk->changed, &desk->lock) == 0);
        taken = desk->taken;
        if (taken) sample = desk->sample;
        desk->taken = false;
        CHECK(pthread_cond_broadcast(&desk->changed) == 0);
        CHECK(pthread_mutex_unlock(&desk->lock) == 0);
        if (!taken) return NULL;
        let_go(reading, &sample);
    }
}

struct visiting {
    const struct setting *setting;
    shmslot_segment *segment;
    uint32_t noise;
};

/* Joins with history, reads some, and leaves while it holds one. */
static void *come_and_go(void *argument)
{
    struct visiting *visiting = argument;
    int visit;
    for (visit = 0; visit < VISITS; visit++) {
        struct reading reading = {visiting->setting, NULL, 0, 0, NULL};
        shmslot_sample sample, newest;
        int result;
        reading.reader = join(visiting->segment, visiting->setting->history);
        result = shmslot_slot_peek_latest(reading.reader, &newest);
        if (result == SHMSLOT_OK) let_go(&reading, &newest);
        else CHECK_CODE(result, SHMSLOT_E_AGAIN);
        while ((result = shmslot_slot_read(reading.reader, &sample)) == SHMSLOT_OK) {
            check_bytes(&sample);
            if (draw(&visiting->noise) % 4 == 0) break;
            let_go(&reading, &sample);
        }
        (void)info_of(visiting->segment);
        shmslot_reader_leave(reading.reader);
        if (result == SHMSLOT_OK) let_go(&reading, &sample); /* after that the handle is gone */
        else CHECK_CODE(result, SHMSLOT_E_AGAIN);
    }
    return NULL;
}

/* ---- all of them at once ---- */

static shmslot_segment *make(const struct setting *setting)
{
    shmslot_options options = options_of(SLOTS, STREAM_MAX_LENGTH);
    shmslot_segment *segment = NULL;
    options.user_header_size = sizeof(uint64_t);
    options.policy = setting->policy;
    options.flags = setting->flags;
    options.history = setting->history;
    options.max_readers = setting->max_readers;
    options.spin_ns = setting->spin_ns;
    if (!setting->local) return make_anonymous(&options);
    CHECK_OK(shmslot_segment_create_local(&options, &segment, NULL));
    return segment;
}

static void run(const struct setting *setting)
{
    uint64_t writers = setting->flags & SHMSLOT_FLAG_SINGLE_WRITER ? 1 : WRITERS, i;
    shmslot_segment *segment = make(setting);
    shmslot_writer *shared = open_writer(segment), *own = writers > 1 ? open_writer(segment) : NULL;
    struct desk desk = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, false, false};
    struct visiting visiting = {setting, segment, 1};
    struct writing writing[WRITERS];
    struct reading reading[STAYING + 1]; /* the last one passes on */
    pthread_t write[WRITERS], read[STAYING + 1], visit, mark;

    for (i = 0; i <= STAYING; i++) {
        struct reading one = {setting, NULL, 0, (uint32_t)i + 1, i == STAYING ? &desk : NULL};
        reading[i] = one;
        reading[i].reader = join(segment, 0);
    }
    for (i = 0; i <= STAYING; i++) {
        read[i] =
            start_thread(reading[i].desk == NULL ? read_and_hold : read_and_pass_on, &reading[i]);
    }
    mark = start_thread(mark_for_another, &reading[STAYING]);
    visit = start_thread(come_and_go, &visiting);
    for (i = 0; i < writers; i++) {
        struct writing one = {setting, i == WRITERS - 1 ? own : shared, i};
        writing[i] = one;
        write[i] = start_thread(write_all, &writing[i]);
    }
    for (i = 0; i < writers; i++) end_thread(write[i]);
    end_thread(visit);
    for (i = 0; i <= STAYING; i++) {
        CHECK_OK(shmslot_reader_interrupt(reading[i].reader));
        end_thread(read[i]);
    }
    end_thread(mark);
    for (i = 0; i <= STAYING; i++) {
        CHECK_U64(reading[i].seen + lost(reading[i].reader), writers * EACH);
        shmslot_reader_leave(reading[i].reader);
    }
    shmslot_writer_close(own);
    shmslot_writer_close(shared);
    shmslot_segment_close(segment);
}

static void run_every_setting(void)
{
    static const uint32_t policies[] = {SHMSLOT_POLICY_FAIL, SHMSLOT_POLICY_BLOCK,
                                        SHMSLOT_POLICY_DROP_OLDEST};
    unsigned p, others;
    for (p = 0; p < 3; p++) {
        for (others = 0; others < 8; others++) {
            struct setting setting = {0, 0, 0, 15, 0, false, NOTHING};
            setting.policy = policies[p];
            setting.flags = others & 1 ? SHMSLOT_FLAG_SINGLE_WRITER : 0;
            setting.history = others & 2 ? 3 : 0;
            if (others & 4) setting.max_readers = 40; /* more than share one word of marks */
            setting.local = (others & 4) != 0;
            setting.spin_ns = (others & 1) != (others >> 1 & 1); /* 1: sleep at once */
            run(&setting);
        }
    }
}

int main(int count, char **arguments)
{
    struct setting setting = {SHMSLOT_POLICY_BLOCK, 0, 0, 15, 0, false, NOTHING};
    check_begin();
    if (count == 1) {
        run_every_setting();
        return 0;
    }
    CHECK(count == 2);
    if (strcmp(arguments[1], "late-read") == 0) setting.plant = LATE_READ;
    if (strcmp(arguments[1], "late-write") == 0) {
        setting.plant = LATE_WRITE;
        /* of several, another one may have the slot by then */
        setting.flags = SHMSLOT_FLAG_SINGLE_WRITER;
    }
    CHECK(setting.plant != NOTHING);
    run(&setting);
    return 0;
}
