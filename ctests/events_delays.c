/* Loops and sleepers whose system calls come late: before and after each of them a process may go
 * to sleep, for up to 2 ms, so that others do what they do in between. Samples come in bursts, and
 * the next burst comes only when every reader has every sample of the one before: then nobody else
 * makes up for a wake that was lost. Everybody sleeps without limit, so such a wake ends the program
 * by its watchdog, which says who had seen what.
 *
 *     events_delays [bursts [seed]]    or SHMSLOT_DELAYED_BURSTS */
/* not under address, thread, memcheck: they delay calls enough by themselves, and take minutes */
/* not under musl: a static program has no second syscall(), which the one below calls */
/* not under aarch64: the emulator tells of no accesses to files */
#include "chance.h"
#include "event_loop.h"
#include "own_syscall.h"

#include <sys/inotify.h>
#include <sys/mman.h>
#include <time.h>

#define BURSTS 400 /* of everyday */
#define WRITERS 2
#define MOST 12 /* samples of a burst of one writer, more than there are slots */

/* ---- delays ---- */

/* What all processes share, for the watchdog and for the end of a burst. */
static struct {
    uint64_t committed;          /* all samples so far */
    uint64_t wanted;             /* burst that the writers are to write */
    uint64_t written[WRITERS];   /* bursts that each has written */
    uint64_t seen[8], asleep[8]; /* of each reader: samples, and whether it is about to sleep */
    uint64_t delays;             /* borders of calls at which one could have come */
} *shared;

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void nap(uint64_t nanoseconds)
{
    struct timespec span = {0, 0};
    span.tv_nsec = (long)nanoseconds;
    (void)nanosleep(&span, NULL);
}

static int delays; /* in the processes that have begun */

static void delay(void)
{
    if (!delays) return;
    (void)__atomic_fetch_add(&shared->delays, 1, __ATOMIC_RELAXED);
    switch (chance(8)) {
    case 0: (void)sched_yield(); break;
    case 1: nap(chance(50000)); break;
    case 2: nap(chance(2000000)); break;
    default: break;
    }
}

static void before_call(long number, long first_argument)
{
    (void)number;
    (void)first_argument;
    delay();
}

static void after_call(void) { delay(); }

/* ---- writers and readers ---- */

enum manner { LEVEL, LEVEL_ONE_A_TURN, EDGE, SET, FUTEX };

struct part {
    enum manner manner;
    int fd; /* of the segment */
    uint64_t number, seed;
};

static shmslot_segment *begin(const struct part *part)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(part->fd, NULL, &segment, NULL));
    seed_chance(part->seed);
    return segment;
}

/* Sleeps until the loop has an event. */
static void delayed_turn(int loop)
{
    delay();
    (void)turn(loop);
    delay();
}

/* Waits for its turn, and writes a burst. If there is no room it sleeps, behind its descriptor or
 * not. */
static int write_bursts(int link, void *argument)
{
    const struct part *part = argument;
    shmslot_writer *writer = open_writer(begin(part));
    int loop = part->manner == FUTEX ? -1 : loop_of(writer_fd(writer, 0), 0);
    uint64_t burst, count;
    say(link);
    delays = 1;
    for (burst = 1;; burst++) {
        (void)alarm(CHECK_WATCHDOG_S);
        while (load(&shared->wanted) < burst) nap(20000);
        for (count = 1 + chance(MOST); count > 0; count--) {
            uint64_t value = __atomic_add_fetch(&shared->committed, 1, __ATOMIC_ACQ_REL);
            int64_t patience = loop < 0 ? FOR_EVER : AT_ONCE;
            int got;
            while ((got = shmslot_slot_write(writer, &value, sizeof value, patience, NULL)) ==
                   SHMSLOT_E_NO_FREE_SLOT) {
                delayed_turn(loop);
            }
            CHECK_OK(got);
        }
        store(&shared->written[part->number], burst);
    }
    return 0;
}

/* Takes all that is there, or at most so many. */
static void take_some(shmslot_reader *reader, uint64_t number, uint64_t most)
{
    shmslot_sample sample;
    for (; most > 0; most--) {
        int got = shmslot_slot_read(reader, &sample);
        if (got == SHMSLOT_E_AGAIN) return;
        CHECK_OK(got);
        store(&shared->seen[number], sample.sequence);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
}

static int read_bursts(int link, void *argument)
{
    const struct part *part = argument;
    shmslot_reader *reader = join(begin(part), 0);
    shmslot_set *set = NULL;
    shmslot_event event;
    uint64_t most = part->manner == LEVEL_ONE_A_TURN ? 1 : UINT64_MAX;
    int loop = -1;
    if (part->manner == SET) {
        CHECK_OK(shmslot_set_create(0, &set, NULL));
        CHECK_OK(shmslot_set_add_reader(set, reader, 7, NULL));
    } else if (part->manner != FUTEX) {
        loop = loop_of(reader_fd(reader, 0), part->manner == EDGE ? EPOLLET : 0);
    }
    say(link);
    delays = 1;
    for (;;) {
        (void)alarm(CHECK_WATCHDOG_S);
        take_some(reader, part->number, most);
        store(&shared->asleep[part->number], 1);
        if (set != NULL) {
            CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, &event, 1), 1);
            CHECK_U64(event.cookie, 7);
        } else if (loop >= 0) {
            delayed_turn(loop);
        } else {
            CHECK_OK(shmslot_wait(reader, FOR_EVER));
        }
        store(&shared->asleep[part->number], 0);
    }
    return 0;
}

/* ---- bursts ---- */

static const enum manner read_by[] = {LEVEL, LEVEL_ONE_A_TURN, EDGE, EDGE, SET, FUTEX};
static const enum manner written_by[WRITERS] = {LEVEL, FUTEX};
enum { READERS = sizeof read_by / sizeof read_by[0] };
static uint64_t seed;

static void on_alarm(int signal_number)
{
    uint64_t i;
    (void)signal_number;
    fprintf(stderr, "seed %" PRIu64 ", burst %" PRIu64 ": a wake was lost, or a process failed\n",
            seed, load(&shared->wanted));
    for (i = 0; i < WRITERS; i++) {
        fprintf(stderr, "  writer %" PRIu64 " has written %" PRIu64 " bursts\n", i,
                load(&shared->written[i]));
    }
    for (i = 0; i < READERS; i++) {
        fprintf(stderr, "  reader %" PRIu64 " has seen %" PRIu64 " of %" PRIu64 "%s\n", i,
                load(&shared->seen[i]), load(&shared->committed),
                load(&shared->asleep[i]) ? ", and sleeps" : "");
    }
    _exit(124);
}

static int burst_is_over(uint64_t burst)
{
    uint64_t i;
    for (i = 0; i < WRITERS; i++) {
        if (load(&shared->written[i]) != burst) return 0;
    }
    for (i = 0; i < READERS; i++) {
        if (load(&shared->seen[i]) != load(&shared->committed)) return 0;
    }
    return 1;
}

static child start_part(int (*body)(int, void *), int fd, enum manner manner, uint64_t number)
{
    struct part part;
    child started;
    part.manner = manner;
    part.fd = fd;
    part.number = number;
    part.seed = seed * 64 + number * 2 + (body == read_bursts);
    started = start_child(body, &part);
    hear(started.link);
    return started;
}

static uint64_t number_of(const char *text, uint64_t otherwise)
{
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

int main(int count, char **arguments)
{
    shmslot_options options = options_with(SHMSLOT_POLICY_BLOCK, 0);
    child parts[READERS + WRITERS];
    shmslot_segment *segment;
    uint64_t bursts, burst, i;
    int fd;
    check_begin();
    bursts = number_of(count > 1 ? arguments[1] : getenv("SHMSLOT_DELAYED_BURSTS"), BURSTS);
    seed = number_of(count > 2 ? arguments[2] : NULL, (uint64_t)getpid());
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(signal(SIGALRM, on_alarm) != SIG_ERR);
    segment = make_anonymous(&options);
    fd = shmslot_segment_fd(segment);
    for (i = 0; i < READERS; i++) parts[i] = start_part(read_bursts, fd, read_by[i], i);
    for (i = 0; i < WRITERS; i++) {
        parts[READERS + i] = start_part(write_bursts, fd, written_by[i], i);
    }
    for (burst = 1; burst <= bursts; burst++) {
        store(&shared->wanted, burst);
        while (!burst_is_over(burst)) nap(20000);
        (void)alarm(CHECK_WATCHDOG_S);
    }
    for (i = 0; i < READERS + WRITERS; i++) {
        CHECK(kill(parts[i].pid, SIGKILL) == 0);
        CHECK_U64((uint64_t)end_child(parts[i]), 128 + SIGKILL);
    }
    printf("%" PRIu64 " bursts, %" PRIu64 " samples to %d readers, %" PRIu64
           " borders of calls, seed %" PRIu64 "\n",
           bursts, load(&shared->committed), (int)READERS, load(&shared->delays), seed);
    shmslot_segment_close(segment);
    return 0;
}
