/* Who counts as dead, as the kernel reports it: across fork, exec, stops, threads, zombies and pid
 * namespaces. */
/* not under memcheck: valgrind does not know pidfd_open, which tells a child from its parent */
/* not under aarch64: the emulator does not wipe memory on fork */
#include "samples.h"

#include <sys/mman.h>

#define ROOM 512

/* How many participants there are, and how many of them are dead. */
static void count(shmslot_segment *segment, size_t *ret_all, size_t *ret_dead)
{
    shmslot_participant list[ROOM];
    size_t i;
    CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], ROOM, ret_all));
    CHECK(*ret_all <= ROOM);
    *ret_dead = 0;
    for (i = 0; i < *ret_all; i++) *ret_dead += list[i].alive == 0;
}

#define CHECK_COUNT(segment, all, dead)                                                            \
    do {                                                                                           \
        size_t count_all_, count_dead_;                                                            \
        count(segment, &count_all_, &count_dead_);                                                 \
        CHECK_U64(count_all_, all);                                                                \
        CHECK_U64(count_dead_, dead);                                                              \
    } while (0)

static shmslot_segment *make(char *name, size_t size)
{
    shmslot_options options = options_of(4, 64);
    return make_named(unique_name(name, size, "liveness"), &options);
}

static void end(const char *name, shmslot_segment *segment)
{
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

/* ---- children that attach, say so, and stay until they are told or die ---- */

static int attach_and_stay(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    say(link);
    hear(link);
    shmslot_segment_close(segment);
    return 0;
}

static void check_roles(void)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name);
    shmslot_participant list[ROOM];
    shmslot_writer *writer = open_writer(segment), *second = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    child other = start_child(attach_and_stay, name);
    int index = shmslot_reader_index(reader);
    size_t all;
    hear(other.link);
    CHECK_OK(index);
    CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], ROOM, &all));
    CHECK_U64(all, 2);
    CHECK_U64(list[0].pid, (uint64_t)getpid());
    CHECK_U64(list[0].writers, 2);
    CHECK_U64(list[0].readers, UINT64_C(1) << index);
    CHECK_U64(list[0].alive, 1);
    CHECK_U64(list[1].pid, (uint64_t)other.pid);
    CHECK_U64(list[1].writers, 0);
    CHECK_U64(list[1].readers, 0);
    CHECK_U64(list[1].alive, 1);
    shmslot_writer_close(second);
    /* room for one of two */
    CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], 1, &all));
    CHECK_U64(all, 2);
    CHECK_U64(list[0].writers, 1);
    say(other.link);
    CHECK_CHILD(other);
    CHECK_COUNT(segment, 1, 0);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 0); /* who closes is not dead, but gone */
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    end(name, segment);
}

/* Stopped is alive, a zombie is dead. */
static void check_stopped_and_zombie(void)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name);
    child other = start_child(attach_and_stay, name);
    siginfo_t info;
    hear(other.link);
    CHECK(kill(other.pid, SIGSTOP) == 0);
    CHECK(waitid(P_PID, (id_t)other.pid, &info, WSTOPPED) == 0);
    CHECK_COUNT(segment, 2, 0);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 0);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK(waitid(P_PID, (id_t)other.pid, &info, WEXITED | WNOWAIT) == 0); /* it stays a zombie */
    CHECK_COUNT(segment, 2, 1);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 0);
    CHECK_COUNT(segment, 1, 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
    end(name, segment);
}

/* ---- fork: the child of a participant inherits its open file, and with it the lock ---- */

static int fork_and_stay(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    pid_t heir = fork();
    CHECK(heir >= 0);
    if (heir == 0) {
        (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
        say(link);
        hear(link); /* outlives its parent */
        shmslot_segment_close(segment);
        say(link);
        _exit(0);
    }
    (void)pause();
    return 0;
}

static void check_heir(void)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name), *replaced = NULL;
    shmslot_options options = options_of(4, 64);
    child other = start_child(fork_and_stay, name);
    hear(other.link);
    CHECK_COUNT(segment, 2, 0);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK(waitpid(other.pid, NULL, 0) == other.pid);
    CHECK_COUNT(segment, 2, 1);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    CHECK_COUNT(segment, 1, 0);
    /* Nobody is alive: the name may be taken, whatever the heir still has open. */
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_create(name, &options, &replaced, NULL));
    say(other.link);
    hear(other.link);
    (void)close(other.link);
    end(name, replaced);
}

/* ---- the number of a dead process now means another one, and its heir keeps the lock ---- */

/* Where the row of a participant has its process number: docs/segment-layout.md. */
static uint32_t *number_of(shmslot_segment *segment, uint32_t participant)
{
    char *map =
        mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, shmslot_segment_fd(segment), 0);
    CHECK(map != MAP_FAILED);
    return (uint32_t *)(void *)(map + 0x1800 + participant * 64 + 4);
}

static void *stay(void *link)
{
    pid_t id = thread_id();
    send_bytes(((int *)link)[0], &id, sizeof id);
    hear(((int *)link)[0]);
    return NULL;
}

static void check_reused_number(int by_a_thread)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name);
    child other = start_child(fork_and_stay, name);
    uint32_t *number = number_of(segment, 1);
    int link[2];
    pid_t id = getpid();
    pthread_t thread;
    hear(other.link);
    CHECK_U64(*number, (uint64_t)other.pid);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK(waitpid(other.pid, NULL, 0) == other.pid);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, link) == 0);
    thread = start_thread(stay, link);
    if (by_a_thread) receive_bytes(link[1], &id, sizeof id);
    *number = (uint32_t)id;
    CHECK_COUNT(segment, 2, 1);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    CHECK_COUNT(segment, 1, 0);
    say(link[1]);
    end_thread(thread);
    say(other.link);
    hear(other.link);
    (void)close(other.link);
    (void)close(link[0]);
    (void)close(link[1]);
    end(name, segment);
}

/* Forks until the kernel gives out this number again; false if that is not possible. */
static int fork_as(pid_t wanted, pid_t *ret_pid)
{
    int tries, file;
    char text[32];
    for (tries = 0; tries < 100; tries++) {
        pid_t pid;
        file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
        snprintf(text, sizeof text, "%ld", (long)wanted - 1);
        if (file < 0 || write(file, text, strlen(text)) < 0) return 0;
        (void)close(file);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            for (;;) (void)pause();
        }
        if (pid == wanted) {
            *ret_pid = pid;
            return 1;
        }
        CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    }
    return 0;
}

/* Does this with a number that the kernel has really reused, in a pid namespace of its own. */
static int reuse_a_number(void)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name);
    child other = start_child(fork_and_stay, name);
    pid_t successor;
    int forked;
    hear(other.link);
    CHECK_COUNT(segment, 2, 0);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK(waitpid(other.pid, NULL, 0) == other.pid);
    forked = fork_as(other.pid, &successor);
    if (forked) {
        CHECK_COUNT(segment, 2, 1);
        CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
        CHECK(kill(successor, SIGKILL) == 0 && waitpid(successor, NULL, 0) == successor);
    }
    say(other.link);
    hear(other.link);
    (void)close(other.link);
    end(name, segment);
    return forked ? 0 : 77;
}

static int be_the_first(int link, void *argument)
{
    pid_t inner;
    int status = 0;
    (void)link;
    (void)argument;
    if (unshare(CLONE_NEWPID) != 0) return 77;
    inner = fork();
    CHECK(inner >= 0);
    if (inner == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        _exit(reuse_a_number());
    }
    CHECK(waitpid(inner, &status, 0) == inner && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void check_number_given_again(void)
{
    int result = run_child(be_the_first, NULL);
    if (result == 77)
        fprintf(stderr, "left out: a number given again (this user may not ask for one)\n");
    CHECK(result == 0 || result == 77);
}

/* A process that has left, and its child that lives on: the place is free for the next. */
static int leave_an_heir(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    pid_t heir = fork();
    CHECK(heir >= 0);
    if (heir == 0) {
        hear(link);
        _exit(0);
    }
    shmslot_segment_close(segment);
    say(link);
    CHECK(waitpid(heir, NULL, 0) == heir);
    return 0;
}

static void check_place_of_an_heir(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment, *again = NULL;
    child other;
    options.max_participants = 2;
    segment = make_named(unique_name(name, sizeof name, "liveness"), &options);
    other = start_child(leave_an_heir, name);
    hear(other.link);
    CHECK_COUNT(segment, 1, 0);
    CHECK_OK(shmslot_segment_attach(name, NULL, &again, NULL));
    CHECK_COUNT(segment, 2, 0);
    shmslot_segment_close(again);
    say(other.link);
    CHECK_CHILD(other);
    end(name, segment);
}

/* Every handle of the parent returns FORKED, closing works, and the parent is not affected. */
static int use_what_was_inherited(int link, void *argument)
{
    struct handles {
        shmslot_segment *segment;
        shmslot_writer *writer;
        shmslot_reader *reader;
        shmslot_loan loan;
        shmslot_sample sample;
    } *parent = argument;
    shmslot_segment *own = NULL;
    shmslot_participant list[ROOM];
    shmslot_counters counted;
    shmslot_loan loan, other_loan;
    shmslot_sample sample, other_sample;
    shmslot_info info;
    shmslot_writer *writer = NULL;
    shmslot_reader *reader = NULL;
    uint64_t number;
    uint32_t generation;
    size_t length;
    (void)link;
#define FORKED(call) CHECK_CODE(call, SHMSLOT_E_FORKED)
    FORKED(shmslot_segment_info(parent->segment, &info, sizeof info));
    FORKED(shmslot_segment_participants(parent->segment, list, sizeof list[0], ROOM, &length));
    FORKED(shmslot_segment_counters(parent->segment, &counted, sizeof counted));
    FORKED(shmslot_segment_readers(parent->segment, NULL, 0, 0, &length));
    FORKED(shmslot_segment_writers(parent->segment, NULL, 0, 0, &length));
    FORKED(shmslot_segment_deaths(parent->segment, NULL, 0, 0, &length));
    FORKED(shmslot_segment_recover(parent->segment, NULL));
    FORKED(shmslot_segment_expel(parent->segment, 0, 1, NULL));
    FORKED(shmslot_segment_generation(parent->segment, &generation));
    FORKED(shmslot_segment_wait_for_change(parent->segment, 0, AT_ONCE, &generation));
    FORKED(shmslot_writer_open(parent->segment, &writer, NULL));
    FORKED(shmslot_reader_join(parent->segment, 0, &reader, NULL));
    FORKED(shmslot_slot_reserve(parent->writer, 8, AT_ONCE, &loan));
    FORKED(shmslot_slot_commit(parent->writer, &parent->loan, 8, NULL));
    FORKED(shmslot_slot_reserve_many(parent->writer, 8, AT_ONCE, &loan, 1));
    FORKED(shmslot_slot_reserve_many(parent->writer, 8, AT_ONCE, NULL, 0));
    FORKED(shmslot_slot_commit_many(parent->writer, &parent->loan, NULL, 1, NULL));
    FORKED(shmslot_slot_commit_many(parent->writer, NULL, NULL, 0, NULL));
    FORKED(shmslot_slot_discard(parent->writer, &parent->loan));
    FORKED(shmslot_slot_write(parent->writer, "x", 1, AT_ONCE, NULL));
    FORKED(shmslot_slot_commit_ptr(parent->writer, parent->loan.data, 8, NULL));
    FORKED(shmslot_slot_discard_ptr(parent->writer, parent->loan.data));
    FORKED(shmslot_loan_from_ptr(parent->writer, parent->loan.data, &loan));
    FORKED(shmslot_wait_space(parent->writer, AT_ONCE));
    FORKED(shmslot_wait_readers(parent->writer, 0, AT_ONCE, NULL));
    FORKED(shmslot_writer_blockers(parent->writer, &number));
    FORKED(shmslot_writer_interrupt(parent->writer));
    FORKED(shmslot_slot_read(parent->reader, &sample));
    FORKED(shmslot_slot_peek_latest(parent->reader, &sample));
    FORKED(shmslot_slot_mark(parent->reader, &parent->sample));
    FORKED(shmslot_slot_read_many(parent->reader, &sample, 1));
    FORKED(shmslot_slot_read_many(parent->reader, NULL, 0));
    FORKED(shmslot_slot_mark_many(parent->reader, &parent->sample, 1));
    FORKED(shmslot_slot_mark_many(parent->reader, NULL, 0));
    FORKED(shmslot_slot_mark_ptr(parent->reader, parent->sample.data));
    FORKED(shmslot_sample_from_ptr(parent->reader, parent->sample.data, &sample));
    FORKED(shmslot_slot_mark_ptr(parent->reader, &number));
    FORKED(shmslot_sample_from_ptr(parent->reader, &number, &sample));
    FORKED(shmslot_slot_commit_ptr(parent->writer, &number, 8, NULL));
    FORKED(shmslot_reader_lost(parent->reader, &number));
    FORKED(shmslot_reader_index(parent->reader));
    other_loan = parent->loan;
    other_loan.segment_id++;
    FORKED(shmslot_slot_commit(parent->writer, &other_loan, 8, NULL));
    FORKED(shmslot_slot_discard(parent->writer, &other_loan));
    other_sample = parent->sample;
    other_sample.segment_id++;
    FORKED(shmslot_slot_mark(parent->reader, &other_sample));
    FORKED(shmslot_wait(parent->reader, AT_ONCE));
    FORKED(shmslot_wait_any(&parent->reader, 1, AT_ONCE, &length));
    FORKED(shmslot_reader_interrupt(parent->reader));
    FORKED(shmslot_reader_end_waits(parent->reader, 0));
#undef FORKED
    /* The child can attach again through the descriptor, and the old handles stay dead. */
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(parent->segment), NULL, &own, NULL));
    CHECK_CODE(shmslot_segment_info(parent->segment, &info, sizeof info), SHMSLOT_E_FORKED);
    CHECK_U64(put(open_writer(own), 7), 2);
    CHECK_COUNT(own, 2, 0);
    shmslot_reader_leave(parent->reader);
    shmslot_writer_close(parent->writer);
    shmslot_segment_close(parent->segment);
    return 0;
}

static void check_inherited_handles(void)
{
    struct {
        shmslot_segment *segment;
        shmslot_writer *writer;
        shmslot_reader *reader;
        shmslot_loan loan;
        shmslot_sample sample;
    } mine;
    shmslot_options options = options_of(4, 64);
    memset(&mine, 0, sizeof mine);
    mine.segment = make_anonymous(&options);
    mine.writer = open_writer(mine.segment);
    mine.reader = join(mine.segment, 0);
    CHECK_U64(put(mine.writer, 1), 1);
    mine.sample = hold(mine.reader);
    CHECK_OK(shmslot_slot_reserve(mine.writer, 8, AT_ONCE, &mine.loan));
    CHECK_U64((uint64_t)run_child(use_what_was_inherited, &mine), 0);
    CHECK_U64(value_of(&mine.sample), 1);
    CHECK_OK(shmslot_slot_mark(mine.reader, &mine.sample));
    CHECK_U64(take(mine.reader), 7);
    CHECK_OK(shmslot_slot_commit(mine.writer, &mine.loan, 8, NULL));
    /* the child left without closing what it had */
    CHECK_CODE(shmslot_segment_recover(mine.segment, NULL), 1);
    CHECK_COUNT(mine.segment, 1, 0);
    shmslot_reader_leave(mine.reader);
    shmslot_writer_close(mine.writer);
    shmslot_segment_close(mine.segment);
}

/* ---- exec: the file with the lock is close-on-exec, so the participant ends though its process goes on ---- */

static int attach_and_exec(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    (void)join(segment, 0);
    /* A descriptor to pass on may be inherited: it does not show who is alive. */
    CHECK(dup(shmslot_segment_fd(segment)) >= 0);
    CHECK(dup2(link, STDIN_FILENO) == STDIN_FILENO);
    say(link);
    hear(link);
    execl("/bin/cat", "cat", (char *)NULL);
    return 1;
}

/* Only its lock shows it. Among more than 256, each lock is checked in one of several calls. */
static void check_exec(size_t crowd, unsigned calls)
{
    char name[64], exe[64], target[64] = "";
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment, *others[ROOM];
    size_t i, all, dead, dead_in_all = 0;
    unsigned call;
    int recovered = 0;
    child other;
    options.max_participants = ROOM;
    segment = make_named(unique_name(name, sizeof name, "liveness"), &options);
    for (i = 0; i < crowd; i++) others[i] = attach(name);
    other = start_child(attach_and_exec, name);
    hear(other.link);
    CHECK_COUNT(segment, crowd + 2, 0);
    say(other.link);
    snprintf(exe, sizeof exe, "/proc/%ld/exe", (long)other.pid);
    do {
        ssize_t length = readlink(exe, target, sizeof target - 1);
        CHECK(length > 0);
        target[length] = '\0';
        (void)sched_yield();
    } while (strstr(target, "cat") == NULL && strstr(target, "busybox") == NULL &&
             strstr(target, "coreutils") == NULL);
    until_asleep(other.pid); /* the name changes before the files are closed; now it reads */
    for (call = 0; call < calls; call++) {
        count(segment, &all, &dead);
        CHECK_U64(all, crowd + 2);
        dead_in_all += dead;
    }
    CHECK_U64(dead_in_all, 1);
    for (call = 0; call < calls; call++) recovered += shmslot_segment_recover(segment, NULL);
    CHECK_U64((uint64_t)recovered, 1);
    CHECK(shutdown(other.link, SHUT_WR) == 0); /* cat ends */
    CHECK_CHILD(other);
    for (i = 0; i < crowd; i++) shmslot_segment_close(others[i]);
    end(name, segment);
}

/* ---- threads: the one that attached may end ---- */

static void *attach_in_a_thread(void *name)
{
    return attach(name);
}

static void check_thread(void)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name);
    void *other = NULL;
    pthread_t thread = start_thread(attach_in_a_thread, name);
    CHECK(pthread_join(thread, &other) == 0);
    CHECK_COUNT(segment, 2, 0);
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 0);
    shmslot_segment_close(other);
    CHECK_COUNT(segment, 1, 0);
    end(name, segment);
}

/* ---- another pid namespace: there our numbers mean other processes ---- */

static int attach_in_a_namespace(int link, void *name)
{
    pid_t inner;
    int status = 0;
    if (unshare(CLONE_NEWPID) != 0) {
        say(link);
        return 77;
    }
    inner = fork(); /* the first process of the namespace: its number is 1 there */
    CHECK(inner >= 0);
    if (inner == 0) {
        shmslot_segment *segment = attach(name);
        shmslot_participant list[ROOM];
        size_t all;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], ROOM, &all));
        CHECK_U64(all, 2);
        CHECK_U64(list[0].alive, 1); /* its number does not exist here, and yet it lives */
        CHECK_U64(list[1].pid, 1);
        CHECK_CODE(shmslot_segment_recover(segment, NULL), 0);
        say(link);
        (void)pause();
        _exit(0);
    }
    hear(link);
    CHECK(kill(inner, SIGKILL) == 0);
    CHECK(waitpid(inner, &status, 0) == inner);
    say(link);
    return 0;
}

static void check_namespace(void)
{
    char name[64];
    shmslot_segment *segment = make(name, sizeof name);
    child other = start_child(attach_in_a_namespace, name);
    size_t all, dead;
    hear(other.link);
    count(segment, &all, &dead);
    if (all == 1) {
        fprintf(stderr, "left out: a pid namespace (this user may not make one)\n");
        CHECK_U64((uint64_t)end_child(other), 77);
    } else {
        /* number 1 is alive here, and is another process */
        CHECK_CODE(shmslot_segment_recover(segment, NULL), 0);
        CHECK_COUNT(segment, 2, 0);
        say(other.link);
        hear(other.link);
        CHECK_COUNT(segment, 2, 1);
        CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
        CHECK_CHILD(other);
    }
    end(name, segment);
}

CHECK_MAIN()
{
    RUN(check_roles());
    RUN(check_stopped_and_zombie());
    RUN(check_heir());
    RUN(check_reused_number(0));
    RUN(check_reused_number(1));
    RUN(check_number_given_again());
    RUN(check_place_of_an_heir());
    RUN(check_inherited_handles());
    RUN(check_exec(0, 1));
    RUN(check_exec(300, 2));
    RUN(check_thread());
    RUN(check_namespace());
}
