/* Names between several processes. Each call that gives or takes a name is stopped at each of its
 * system calls, others do whole calls in the gap, and then it goes on as if nothing had happened,
 * or is killed. Then three processes at random. What must hold: open never says that nothing is
 * there; nobody but unlink takes the name of a living segment away, and unlink none but the one
 * that it found; those who are at one name are at one segment; no file is left over. */
/* not under memcheck: it would single-step through the tool, too */
/* takes minutes: thousands of processes, one after another */
#include "faults.h"
#include "single_steps.h"

/* docs/abi-policy.md: the bytes of those who take names, and behind them those of whoever is
 * attached. */
#define SEATS (INT64_C(1) << 60)
#define ATTACHED (INT64_C(1) << 62)

static char directory[128], path[256];

/* What the stopped process has got, and where it is at the end. */
static struct outcome {
    int result;
    uint64_t segment_id;
} *outcome;

static void *share(size_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(bytes != MAP_FAILED);
    return bytes;
}

static shmslot_options small_ones(uint32_t if_orphaned)
{
    shmslot_options options = options_of(2, 8);
    options.if_orphaned = if_orphaned;
    return options;
}

/* Not in one expression with the call that sets the segment. */
static void note(int result, const shmslot_segment *segment)
{
    outcome->segment_id = result >= 0 && segment != NULL ? info_of(segment).segment_id : 0;
    outcome->result = result;
}

static void create_it(void *unused)
{
    shmslot_options options = small_ones(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment *segment = NULL;
    int result;
    (void)unused;
    result = shmslot_segment_create(path, &options, &segment, NULL);
    note(result, segment);
}

static void open_it(void *unused)
{
    shmslot_options options = small_ones(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment *segment = NULL;
    int result;
    (void)unused;
    result = shmslot_segment_open(path, &options, &segment, NULL);
    note(result, segment);
}

static void adopt_it(void *unused)
{
    shmslot_options options = small_ones(SHMSLOT_ORPHANED_ADOPT);
    shmslot_segment *segment = NULL;
    int result;
    (void)unused;
    result = shmslot_segment_open(path, &options, &segment, NULL);
    note(result, segment);
}

static void attach_to_it(void *unused)
{
    shmslot_segment *segment = NULL;
    int result;
    (void)unused;
    result = shmslot_segment_attach(path, NULL, &segment, NULL);
    note(result, segment);
}

static void unlink_it(void *unused)
{
    (void)unused;
    note(shmslot_segment_unlink(path, NULL), NULL);
}

/* The file that had the name at first, as the tester has it open; -1: none. */
static int old = -1;

static void prepare(void *unused)
{
    (void)unused;
    if (old >= 0) CHECK(close(old) == 0);
}

static void leave_a_dead_one(void)
{
    shmslot_options options = small_ones(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment_close(make_named(path, &options));
}

/* What an older or newer library has left. */
static void leave_another_version(void)
{
    uint32_t version = 77;
    int fd;
    leave_a_dead_one();
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, &version, sizeof version, 8) == sizeof version);
    CHECK(close(fd) == 0);
}

static const struct operation {
    const char *name;
    void (*body)(void *unused);
    int opens;           /* it has a segment at the end, whatever happens */
    void (*leave)(void); /* what has the name before; NULL: nothing */
} operations[] = {
    {"create, nothing there", create_it, 0, NULL},
    {"create over a dead one", create_it, 0, leave_a_dead_one},
    {"open, nothing there", open_it, 1, NULL},
    {"open over a dead one", open_it, 1, leave_a_dead_one},
    {"open over another version", open_it, 1, leave_another_version},
    {"open, adopting", adopt_it, 1, leave_a_dead_one},
    {"attach", attach_to_it, 0, leave_a_dead_one},
    {"unlink", unlink_it, 0, leave_a_dead_one},
    {"unlink another version", unlink_it, 0, leave_another_version},
};
#define OPERATIONS (sizeof operations / sizeof operations[0])

enum { OPENS, CREATES, UNLINKS, UNLINKS_AND_CREATES, INTRUDERS };
static const char *const intruder_names[] = {"opens", "creates", "unlinks", "unlinks, creates"};

static int leads_to(const shmslot_segment *segment)
{
    struct stat named, own;
    CHECK(fstat(shmslot_segment_fd(segment), &own) == 0);
    if (lstat(path, &named) != 0) return 0;
    return named.st_ino == own.st_ino && named.st_dev == own.st_dev;
}

static int is_locked(int fd, off_t start, off_t length)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_start = start;
    lock.l_len = length;
    CHECK(fcntl(fd, F_OFD_GETLK, &lock) == 0);
    return lock.l_type != F_UNLCK;
}

/* Whether somebody is about to take the name from the file that has it. */
static int is_being_taken(void)
{
    int fd = open(path, O_RDWR | O_CLOEXEC), taken;
    if (fd < 0) return 0;
    taken = is_locked(fd, SEATS, SEATS);
    CHECK(close(fd) == 0);
    return taken;
}

/* Whether the process has the file open that has this inode. */
static int has_open(pid_t pid, ino_t inode)
{
    char name[64];
    const struct dirent *entry;
    int found = 0;
    DIR *descriptors;
    snprintf(name, sizeof name, "/proc/%ld/fd", (long)pid);
    descriptors = opendir(name);
    CHECK(descriptors != NULL);
    while ((entry = readdir(descriptors)) != NULL) {
        struct stat status;
        if (fstatat(dirfd(descriptors), entry->d_name, &status, 0) != 0) continue;
        found |= status.st_ino == inode;
    }
    CHECK(closedir(descriptors) == 0);
    return found;
}

/* A whole call, or two, of another process; the segment that it has then. */
static shmslot_segment *intrude(int intruder, int busy)
{
    shmslot_options options = small_ones(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment *segment = NULL;
    int result;
    if (intruder == UNLINKS || intruder == UNLINKS_AND_CREATES) {
        result = shmslot_segment_unlink(path, NULL);
        if (busy) {
            CHECK_CODE(result, SHMSLOT_E_NAME_BUSY);
            return NULL;
        }
        CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_NOT_FOUND);
        if (intruder == UNLINKS) return NULL;
    }
    if (intruder == OPENS) {
        result = shmslot_segment_open(path, &options, &segment, NULL);
        CHECK(result >= 0 || (busy && result == SHMSLOT_E_NAME_BUSY));
    } else {
        result = shmslot_segment_create(path, &options, &segment, NULL);
        /* EXISTS: the stopped one is attached already. */
        CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_EXISTS ||
              (busy && result == SHMSLOT_E_NAME_BUSY));
    }
    return segment;
}

/* False if the operation is over before this point. */
static int try_point(const struct operation *operation, int intruder, int killed, int point)
{
    shmslot_options options = small_ones(SHMSLOT_ORPHANED_REPLACE);
    shmslot_segment *segment = NULL, *last = NULL;
    struct stat before = {0};
    int at = 0, more = 1, busy, looked_before, attached_before = 0;
    pid_t pid;
    if (operation->leave != NULL) {
        operation->leave();
        CHECK(lstat(path, &before) == 0);
        old = open(path, O_RDWR | O_CLOEXEC);
        CHECK(old >= 0);
    }
    memset(outcome, 0, sizeof *outcome);
    pid = steps_start(prepare, operation->body, NULL, NULL);
    for (; more && at < point; at++) more = steps_next_call(pid);
    if (more) {
        busy = is_being_taken();
        looked_before = operation->leave != NULL && has_open(pid, before.st_ino);
        if (old >= 0) attached_before = is_locked(old, ATTACHED, 0);
        segment = intrude(intruder, busy);
        if (killed) {
            steps_kill(pid);
        } else {
            while (steps_next_call(pid)) {}
        }
        if (segment != NULL) {
            /* It lives, so it keeps its name, unless an unlink found it there. */
            if (operation->body != unlink_it || looked_before) CHECK(leads_to(segment));
        }
        if (!killed) {
            CHECK(outcome->result >= 0 || !operation->opens);
            CHECK(outcome->result < 0 || operation->body == unlink_it || outcome->segment_id != 0);
            if (outcome->result < 0) {
                int exists = outcome->result == SHMSLOT_E_EXISTS && segment != NULL;
                CHECK(exists || outcome->result == SHMSLOT_E_NOT_FOUND);
            }
            /* Who came to the name without anybody's unlinking came to the same segment. */
            if (segment != NULL && outcome->segment_id != 0 && intruder != UNLINKS_AND_CREATES) {
                CHECK_U64(outcome->segment_id, info_of(segment).segment_id);
            }
            /* Nor does anybody come to a segment that had lost its name before. */
            if (segment != NULL && outcome->segment_id != 0 && !attached_before &&
                (operation->body == attach_to_it || operation->body == adopt_it)) {
                CHECK_U64(outcome->segment_id, info_of(segment).segment_id);
            }
            steps_kill(pid);
        }
    } else {
        steps_kill(pid);
    }
    if (old >= 0) CHECK(close(old) == 0);
    old = -1;
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_open(path, &options, &last, NULL));
    CHECK(leads_to(last));
    CHECK_U64(files_in(directory), 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(last);
    CHECK_U64(files_in(directory), 0);
    return more;
}

/* In a process of its own. */
static int check_each_point(int link, void *argument)
{
    const struct operation *operation = argument;
    int intruder, killed, points = 0;
    (void)link;
    steps_begin();
    outcome = share(sizeof *outcome);
    for (intruder = 0; intruder < INTRUDERS; intruder++) {
        for (killed = 0; killed < 2; killed++) {
            int point = 1;
            alarm(CHECK_WATCHDOG_S);
            do {
                check_note_caller(intruder_names[intruder], point);
            } while (try_point(operation, intruder, killed, point++));
            points += point;
        }
    }
    check_caller_file = NULL;
    CHECK(points > 5 * INTRUDERS);
    printf("%-26s %6d  passed\n", operation->name, points);
    (void)fflush(stdout);
    return 0;
}

/* ---- at random ---- */

static struct {
    unsigned begun, ended; /* calls of unlink */
    unsigned rounds;
} *shared;

struct racer {
    unsigned seed;
    int unlinks;
};

static unsigned random_number(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16 & 0x7fff;
}

/* If no unlink was under way since `begun`, who lives has its name. */
static void check_named(const shmslot_segment *segment, unsigned begun, unsigned ended)
{
    int named = leads_to(segment);
    if (begun == ended && __atomic_load_n(&shared->begun, __ATOMIC_SEQ_CST) == begun) CHECK(named);
}

static int race(int link, void *argument)
{
    struct racer *racer = argument;
    unsigned round;
    (void)link;
    for (round = 0; round < 4000; round++) {
        unsigned ended = __atomic_load_n(&shared->ended, __ATOMIC_SEQ_CST);
        unsigned begun = __atomic_load_n(&shared->begun, __ATOMIC_SEQ_CST);
        unsigned choice = random_number(&racer->seed) % 8, looks = random_number(&racer->seed) % 4;
        uint32_t if_orphaned = choice & 1 ? SHMSLOT_ORPHANED_REPLACE : SHMSLOT_ORPHANED_ADOPT;
        shmslot_options options = small_ones(if_orphaned);
        shmslot_segment *segment = NULL;
        int result;
        if (choice < 2) {
            result = shmslot_segment_create(path, &options, &segment, NULL);
            CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_EXISTS);
        } else if (choice < 6) {
            CHECK_OK(shmslot_segment_open(path, &options, &segment, NULL));
        } else if (choice == 6 || !racer->unlinks) {
            result = shmslot_segment_attach(path, NULL, &segment, NULL);
            CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_NOT_FOUND);
        } else {
            (void)__atomic_add_fetch(&shared->begun, 1, __ATOMIC_SEQ_CST);
            result = shmslot_segment_unlink(path, NULL);
            (void)__atomic_add_fetch(&shared->ended, 1, __ATOMIC_SEQ_CST);
            CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_NOT_FOUND);
        }
        if (segment != NULL) {
            do {
                check_named(segment, begun, ended);
            } while (looks-- > 0);
            shmslot_segment_close(segment);
        }
        (void)__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

static void check_at_random(int unlinks)
{
    child racers[3];
    struct racer arguments[3];
    int i;
    memset(shared, 0, sizeof *shared);
    for (i = 0; i < 3; i++) {
        arguments[i].seed = 17u * (unsigned)i + (unsigned)getpid();
        arguments[i].unlinks = unlinks;
        racers[i] = start_child(race, &arguments[i]);
    }
    for (i = 0; i < 3; i++) CHECK_CHILD(racers[i]);
    CHECK_U64(shared->rounds, 12000);
    (void)shmslot_segment_unlink(path, NULL);
    CHECK_U64(files_in(directory), 0);
}

static void begin_directory(void)
{
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
}

int main(void)
{
    child testers[OPERATIONS];
    size_t i;
    check_begin();
    shared = share(sizeof *shared);
    begin_directory();
    check_at_random(0);
    check_at_random(1);
    /* Side by side: a tester sleeps most of the time, while a call waits in vain for the name. */
    for (i = 0; i < OPERATIONS; i++) {
        begin_directory();
        testers[i] = start_child(check_each_point, (void *)(uintptr_t)&operations[i]);
    }
    alarm(0); /* each of them has a watchdog */
    for (i = 0; i < OPERATIONS; i++) CHECK_CHILD(testers[i]);
    return 0;
}
