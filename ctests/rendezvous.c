/* Who comes first waits for the others: for a name to appear, and for readers to join. */
/* not under memcheck: it counts the system calls of a child, and the tool makes more */
/* not under aarch64: it traces processes and filters their calls, and the emulator can do neither */
#include "faults.h"
#include "single_steps.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#define WAITERS 8
#define ROUNDS 300
#define MEETINGS 500

static char directory[128], path[256], second_path[256];

static shmslot_options options;

static shmslot_segment *attach_when_there(const char *name)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_wait(name, NULL, FOR_EVER, &segment, NULL));
    CHECK(segment != NULL);
    return segment;
}

static int wait_for_name(int link, void *name)
{
    say(link);
    shmslot_segment_close(attach_when_there(name));
    return 0;
}

/* It waits by now. */
static child start_waiter(int (*body)(int link, void *name), const char *name)
{
    child waiter = start_child(body, (void *)(uintptr_t)name);
    hear(waiter.link);
    until_asleep(waiter.pid);
    return waiter;
}

static int waits_in_vain(const char *name, int64_t timeout_ns, shmslot_error *detail)
{
    shmslot_segment *segment = NULL;
    int result = shmslot_segment_attach_wait(name, NULL, timeout_ns, &segment, detail);
    CHECK(segment == NULL);
    return result;
}

/* ---- one name ---- */

static void check_answers(void)
{
    char elsewhere[300];
    shmslot_error detail;
    shmslot_segment *made, *segment = NULL;
    CHECK_CODE(waits_in_vain(path, AT_ONCE, &detail), SHMSLOT_E_AGAIN);
    CHECK_CODE(waits_in_vain(path, 5 * MILLISECOND, &detail), SHMSLOT_E_TIMEOUT);
    CHECK(strstr(detail.text, "no segment has this name yet") != NULL);
    CHECK_CODE(waits_in_vain(path, -2, &detail), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(waits_in_vain("a/b", FOR_EVER, &detail), SHMSLOT_E_BAD_NAME);
    CHECK_CODE(waits_in_vain(NULL, FOR_EVER, &detail), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_segment_attach_wait(path, NULL, FOR_EVER, NULL, &detail), SHMSLOT_E_INVALID);

    snprintf(elsewhere, sizeof elsewhere, "%s/nowhere/segment", directory);
    CHECK_CODE(waits_in_vain(elsewhere, FOR_EVER, &detail), SHMSLOT_E_NOT_FOUND);
    CHECK_U64((uint64_t)detail.os_errno, ENOENT);
    CHECK(strstr(detail.text, "directory") != NULL);

    made = make_named(path, &options);
    CHECK_OK(shmslot_segment_attach_wait(path, NULL, AT_ONCE, &segment, &detail));
    shmslot_segment_close(segment);
    shmslot_segment_close(attach_when_there(path));
    snprintf(elsewhere, sizeof elsewhere, "%s/segment", path); /* a file is no directory */
    CHECK_CODE(waits_in_vain(elsewhere, FOR_EVER, &detail), SHMSLOT_E_NOT_FOUND);
    shmslot_segment_close(made);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static int create_and_stay(int link, void *name)
{
    shmslot_segment *segment = make_named(name, &options);
    say(link);
    hear(link);
    shmslot_segment_close(segment);
    return 0;
}

static void check_appears(void)
{
    child waiters[WAITERS], creator;
    size_t i;
    for (i = 0; i < WAITERS; i++) waiters[i] = start_waiter(wait_for_name, path);
    creator = start_child(create_and_stay, path);
    hear(creator.link);
    for (i = 0; i < WAITERS; i++) CHECK_CHILD(waiters[i]);
    say(creator.link);
    CHECK_CHILD(creator);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* A name in the system's directory, where much else comes and goes. */
static void check_short_name(void)
{
    char name[64];
    shmslot_segment *made;
    child waiter;
    unique_name(name, sizeof name, "rendezvous");
    waiter = start_waiter(wait_for_name, name);
    made = make_named(name, &options);
    CHECK_CHILD(waiter);
    shmslot_segment_close(made);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
}

static void check_moved_there(void)
{
    shmslot_segment *made = make_named(second_path, &options);
    child waiter = start_waiter(wait_for_name, path);
    CHECK(rename(second_path, path) == 0);
    CHECK_CHILD(waiter);
    shmslot_segment_close(made);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static int wait_until_directory_goes(int link, void *name)
{
    say(link);
    CHECK_CODE(waits_in_vain(name, FOR_EVER, NULL), SHMSLOT_E_NOT_FOUND);
    return 0;
}

static void check_directory_removed(void)
{
    char folder[200], name[256];
    child waiter;
    own_path(folder, sizeof folder, directory, "folder");
    CHECK(mkdir(folder, 0700) == 0);
    snprintf(name, sizeof name, "%s/segment", folder);
    waiter = start_waiter(wait_until_directory_goes, name);
    CHECK(rmdir(folder) == 0);
    CHECK_CHILD(waiter);
}

static void nothing_to_do(int number)
{
    (void)number;
}

static int wait_under_signals(int link, void *name)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = nothing_to_do; /* without SA_RESTART */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    return wait_for_name(link, name);
}

static void check_signals(void)
{
    child waiter = start_waiter(wait_under_signals, path);
    shmslot_segment *made;
    int i;
    for (i = 0; i < 20; i++) {
        CHECK(kill(waiter.pid, SIGUSR1) == 0);
        until_asleep(waiter.pid);
    }
    made = make_named(path, &options);
    CHECK_CHILD(waiter);
    shmslot_segment_close(made);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* ---- a name that changes hands ---- */

static int attach_again_and_again(int link, void *name)
{
    int i;
    say(link);
    for (i = 0; i < ROUNDS; i++) shmslot_segment_close(attach_when_there(name));
    return 0;
}

static int replace_again_and_again(int link, void *name)
{
    shmslot_options replacing = options;
    unsigned round;
    replacing.if_orphaned = SHMSLOT_ORPHANED_REPLACE;
    say(link);
    for (round = 0; getppid() == check_parent; round++) { /* until it is killed */
        shmslot_segment *segment = NULL;
        int result = shmslot_segment_create(name, &replacing, &segment, NULL);
        CHECK(result == 0 || result == SHMSLOT_E_EXISTS);
        if (round % 2 == 0) {
            result = shmslot_segment_unlink(name, NULL);
            CHECK(result == 0 || result == SHMSLOT_E_NOT_FOUND);
        }
        shmslot_segment_close(segment);
    }
    return 0;
}

static void check_changing_hands(void)
{
    child creators[2], waiters[WAITERS];
    size_t i;
    for (i = 0; i < 2; i++) creators[i] = start_child(replace_again_and_again, path);
    for (i = 0; i < WAITERS; i++) waiters[i] = start_child(attach_again_and_again, path);
    for (i = 0; i < WAITERS; i++) CHECK_CHILD(waiters[i]);
    for (i = 0; i < 2; i++) {
        CHECK(kill(creators[i].pid, SIGKILL) == 0);
        CHECK_U64((uint64_t)end_child(creators[i]), 128 + SIGKILL);
    }
    (void)shmslot_segment_unlink(path, NULL);
}

static void prepare_dead(void *unused)
{
    (void)unused;
    shmslot_segment_close(make_named(path, &options));
}

static void replace(void *unused)
{
    shmslot_options replacing = options;
    (void)unused;
    replacing.if_orphaned = SHMSLOT_ORPHANED_REPLACE;
    (void)make_named(path, &replacing);
}

/* It dies after each of its system calls, and another comes. */
static void check_killed_creator(void)
{
    int point, more = 1;
    for (point = 0; more; point++) {
        shmslot_segment *mine = NULL, *others = NULL;
        pid_t victim = steps_start(prepare_dead, replace, NULL, NULL);
        int i, result;
        for (i = 0; i < point && more; i++) more = steps_next_call(victim);
        steps_kill(victim);
        check_note("point %d", point);
        result = shmslot_segment_attach_wait(path, NULL, MILLISECOND, &mine, NULL);
        CHECK(result == 0 || result == SHMSLOT_E_TIMEOUT);
        if (result == 0) {
            shmslot_segment_close(mine);
        } else {
            child waiter = start_waiter(wait_for_name, path);
            CHECK(shmslot_segment_open(path, &options, &others, NULL) == 1);
            CHECK_CHILD(waiter);
            shmslot_segment_close(others);
        }
        CHECK_OK(shmslot_segment_unlink(path, NULL));
    }
    check_note("%s", "");
    CHECK(point > 10);
}

/* ---- where the kernel does not tell ---- */

struct refusal {
    uint32_t number;
    uint32_t error;
};

static void refuse(const struct refusal *what)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, what->number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | what->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program;
    program.len = sizeof code / sizeof code[0];
    program.filter = code;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int wait_without(int link, void *what)
{
    char nowhere[300];
    refuse(what);
    snprintf(nowhere, sizeof nowhere, "%s/nowhere/segment", directory);
    CHECK_CODE(waits_in_vain(nowhere, FOR_EVER, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK_CODE(waits_in_vain(path, 20 * MILLISECOND, NULL), SHMSLOT_E_TIMEOUT);
    return wait_for_name(link, path);
}

static void check_refused(void)
{
    static const struct refusal refusals[] = {
        {SYS_inotify_init1, ENOSYS},     {SYS_inotify_init1, EMFILE},
        {SYS_inotify_add_watch, ENOSPC}, {SYS_inotify_add_watch, EACCES},
        {SYS_inotify_add_watch, ENOSYS}, {SYS_ppoll, EPERM},
    };
    size_t i;
    for (i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        child waiter = start_child(wait_without, (void *)(uintptr_t)&refusals[i]);
        shmslot_segment *made;
        check_note("refusal %zu", i);
        hear(waiter.link);
        until_asleep(waiter.pid);
        made = make_named(path, &options);
        CHECK_CHILD(waiter);
        shmslot_segment_close(made);
        CHECK_OK(shmslot_segment_unlink(path, NULL));
    }
    check_note("%s", "");
}

static int spare[64];

static void free_descriptors(unsigned count)
{
    unsigned i;
    for (i = 0; i < 64 && (spare[i] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) >= 0; i++) {}
    CHECK(i < 64 && i >= count);
    while (count-- > 0) CHECK(close(spare[--i]) == 0);
    while (i < 64) spare[i++] = -1;
}

static void free_all(void)
{
    unsigned i;
    for (i = 0; i < 64 && spare[i] >= 0; i++) CHECK(close(spare[i]) == 0);
}

/* With as many descriptors as an attach needs, and none for the watch. */
static int wait_with_few(int link, void *there)
{
    struct rlimit few;
    unsigned count;
    int result;
    CHECK(getrlimit(RLIMIT_NOFILE, &few) == 0);
    few.rlim_cur = 48; /* the other limit stays: a tool keeps descriptors of its own below it */
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (count = 0, result = -1; result != 0; count += result != 0) {
        shmslot_segment *segment = NULL;
        free_descriptors(count);
        result = shmslot_segment_attach(there, NULL, &segment, NULL);
        free_all();
        shmslot_segment_close(segment);
    }
    CHECK(count > 0);
    free_descriptors(count);
    return wait_for_name(link, path);
}

static void check_few_descriptors(void)
{
    shmslot_segment *there = make_named(second_path, &options), *made;
    child waiter = start_child(wait_with_few, second_path);
    hear(waiter.link);
    until_asleep(waiter.pid);
    made = make_named(path, &options);
    CHECK_CHILD(waiter);
    shmslot_segment_close(made);
    shmslot_segment_close(there);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    CHECK_OK(shmslot_segment_unlink(second_path, NULL));
}

/* ---- asleep, not polling ---- */

static void do_nothing(void *unused)
{
    (void)unused;
}

static void wait_half_a_second(void *unused)
{
    (void)unused;
    CHECK_CODE(waits_in_vain(path, 500 * MILLISECOND, NULL), SHMSLOT_E_TIMEOUT);
}

static void check_sleeps(void)
{
    pid_t victim = steps_start(do_nothing, wait_half_a_second, NULL, NULL);
    unsigned calls = 0;
    while (steps_next_call(victim)) calls++;
    steps_kill(victim);
    /* A few looks of a few calls each, and one sleep. A look every 10 ms would be 50. */
    CHECK(calls > 3 && calls < 40);
}

/* ---- readers ---- */

static int stay_joined(int link, void *unused)
{
    shmslot_segment *segment = attach(path);
    shmslot_reader *reader = join(segment, 0);
    (void)unused;
    say(link);
    CHECK_U64(take_wait(reader), 1);
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

struct awaited {
    shmslot_writer *writer;
    uint32_t count;
    pid_t id;
    int result;
};

static void *await_readers(void *argument)
{
    struct awaited *self = argument;
    __atomic_store_n(&self->id, thread_id(), __ATOMIC_SEQ_CST);
    self->result = shmslot_wait_readers(self->writer, self->count, FOR_EVER, NULL);
    return NULL;
}

static pthread_t start_awaiting(struct awaited *self, shmslot_writer *writer, uint32_t count)
{
    pthread_t thread;
    self->writer = writer;
    self->count = count;
    self->id = 0;
    thread = start_thread(await_readers, self);
    while (__atomic_load_n(&self->id, __ATOMIC_SEQ_CST) == 0) (void)sched_yield();
    until_asleep(self->id);
    return thread;
}

/* `joined` of `count` are there. */
static void check_too_few(shmslot_writer *writer, uint32_t count, uint32_t joined)
{
    shmslot_error detail;
    CHECK_CODE(shmslot_wait_readers(writer, count, AT_ONCE, &detail), SHMSLOT_E_AGAIN);
    CHECK_CODE(shmslot_wait_readers(writer, count, 3 * MILLISECOND, &detail), SHMSLOT_E_TIMEOUT);
    CHECK_U64(detail.numbers[0], count);
    CHECK_U64(detail.numbers[1], joined);
}

static void check_reader_answers(void)
{
    shmslot_options few = options;
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_error detail;
    few.max_readers = 3;
    segment = make_anonymous(&few);
    writer = open_writer(segment);
    CHECK_OK(shmslot_wait_readers(writer, 0, AT_ONCE, &detail));
    check_too_few(writer, 3, 0);
    CHECK_CODE(shmslot_wait_readers(writer, 4, FOR_EVER, &detail), SHMSLOT_E_INVALID);
    CHECK_U64(detail.numbers[0], 4);
    CHECK_U64(detail.numbers[1], 3);
    CHECK_CODE(shmslot_wait_readers(writer, 1, -2, &detail), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_wait_readers(NULL, 1, FOR_EVER, &detail), SHMSLOT_E_INVALID);
    CHECK_OK(shmslot_writer_interrupt(writer));
    CHECK_CODE(shmslot_wait_readers(writer, 1, FOR_EVER, NULL), SHMSLOT_E_INTERRUPTED);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_readers_come_and_go(void)
{
    shmslot_segment *segment = make_named(path, &options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *passing;
    struct awaited awaited;
    child first, killed, second;
    pthread_t thread = start_awaiting(&awaited, writer, 2);

    passing = join(segment, 0);
    shmslot_reader_leave(passing);
    killed = start_child(stay_joined, NULL);
    hear(killed.link);
    CHECK(kill(killed.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(killed), 128 + SIGKILL);
    /* The sleeper may have cleaned up already. */
    CHECK(shmslot_segment_recover(segment, NULL) >= 0);
    check_too_few(writer, 2, 0);

    first = start_child(stay_joined, NULL);
    hear(first.link);
    until_asleep(awaited.id);
    check_too_few(writer, 2, 1);
    second = start_child(stay_joined, NULL);
    hear(second.link);
    end_thread(thread);
    CHECK_OK(awaited.result);
    CHECK_OK(shmslot_wait_readers(writer, 2, AT_ONCE, NULL));

    thread = start_awaiting(&awaited, writer, 3);
    CHECK_OK(shmslot_writer_interrupt(writer));
    end_thread(thread);
    CHECK_CODE(awaited.result, SHMSLOT_E_INTERRUPTED);

    CHECK_U64(put(writer, 1), 1);
    CHECK_CHILD(first);
    CHECK_CHILD(second);
    check_too_few(writer, 1, 0);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static void *join_and_read(void *segment)
{
    shmslot_reader *reader = join(segment, 0);
    CHECK_U64(take_wait(reader), 1);
    shmslot_reader_leave(reader);
    return NULL;
}

/* Who was waited for gets the first sample, at whatever moment of its join the writer looked. */
static void check_first_sample_is_read(void)
{
    int meeting;
    for (meeting = 0; meeting < MEETINGS; meeting++) {
        shmslot_segment *segment = make_anonymous(&options);
        shmslot_writer *writer = open_writer(segment);
        pthread_t reading = start_thread(join_and_read, segment);
        if (meeting % 2 == 0) {
            while (shmslot_wait_readers(writer, 1, AT_ONCE, NULL) == SHMSLOT_E_AGAIN)
                (void)sched_yield();
        } else {
            CHECK_OK(shmslot_wait_readers(writer, 1, FOR_EVER, NULL));
        }
        CHECK_U64(put(writer, 1), 1);
        CHECK_U64(put(writer, 2), 2); /* a reader that missed the first one finds this one */
        end_thread(reading);
        shmslot_writer_close(writer);
        shmslot_segment_close(segment);
    }
}

int main(void)
{
    check_begin();
    steps_begin();
    options = options_of(8, 64);
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    own_path(second_path, sizeof second_path, directory, "second");
    check_answers();
    check_appears();
    check_short_name();
    check_moved_there();
    check_directory_removed();
    check_signals();
    check_changing_hands();
    check_killed_creator();
    check_refused();
    check_few_descriptors();
    check_sleeps();
    check_reader_answers();
    check_readers_come_and_go();
    check_first_sample_is_read();
    return 0;
}
