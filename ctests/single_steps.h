/* Runs another process step by step, up to a point at which it will be killed. A point is a step
 * that changed shared bytes, or a system call: a kill between two points leaves the same state. */
#ifndef SHMSLOT_CTESTS_SINGLE_STEPS_H
#define SHMSLOT_CTESTS_SINGLE_STEPS_H

#include "check.h"

#include <elf.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

static int *steps_finished; /* shared with the victim, and no part of what is watched */

static inline void steps_begin(void)
{
    steps_finished = mmap(NULL, sizeof *steps_finished, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(steps_finished != MAP_FAILED);
}

/* Runs the victim freely until it stops itself. */
static inline void steps_await_stop(pid_t pid)
{
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGCHLD) { /* a child of its own has ended */
        CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
        CHECK(waitpid(pid, &status, 0) == pid);
    }
    /* otherwise a check of the victim failed */
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

/* Called by the victim while it runs freely: lets others act before it continues. */
static inline void steps_pause(void)
{
    CHECK(raise(SIGSTOP) == 0);
}

/* Called by the others, when they have acted. */
static inline void steps_resume(pid_t pid)
{
    CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
    steps_await_stop(pid);
}

/* Forks a victim that runs `prepare` freely, then stops, to run `operation` step by step. If
 * `prepare` pauses, this returns at its first pause. If there is an `after`, steps_end lets it run
 * and end. */
static inline pid_t steps_start(void (*prepare)(void *argument), void (*operation)(void *argument),
                                void (*after)(void *argument), void *argument)
{
    pid_t parent = getpid(), pid;
    __atomic_store_n(steps_finished, 0, __ATOMIC_RELAXED);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        check_parent = parent;
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0);
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        prepare(argument);
        steps_pause();
        operation(argument);
        __atomic_store_n(steps_finished, 1, __ATOMIC_RELAXED);
        (void)raise(SIGTRAP); /* a victim that runs freely stops here */
        while (after == NULL) (void)pause();
        after(argument);
        _exit(0);
    }
    steps_await_stop(pid);
    return pid;
}

static inline int steps_at_system_call(pid_t pid)
{
    struct user_regs_struct registers;
    struct iovec area;
    long code;
    area.iov_base = &registers;
    area.iov_len = sizeof registers;
    CHECK(ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &area) == 0);
    errno = 0;
#if defined(__x86_64__)
    code = ptrace(PTRACE_PEEKTEXT, pid, (void *)registers.rip, NULL) & 0xffff;
    CHECK(errno == 0);
    return code == 0x050f;
#else
    code = ptrace(PTRACE_PEEKTEXT, pid, (void *)registers.pc, NULL) & 0xffffffff;
    CHECK(errno == 0);
    return code == 0xd4000001;
#endif
}

/* Continues the victim as `request` says; false if the operation is over. */
static inline int steps_go(pid_t pid, int request)
{
    int status = 0;
    CHECK(ptrace(request, pid, NULL, NULL) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    /* otherwise a check of the victim failed */
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    return !__atomic_load_n(steps_finished, __ATOMIC_RELAXED);
}

/* Runs the victim to its next point; false if the operation was over before. `size` bytes at
 * `shared` are watched, of which `before` keeps a copy. */
static inline int steps_next(pid_t pid, const void *shared, void *before, size_t size)
{
    for (;;) {
        int calls = steps_at_system_call(pid);
        if (!steps_go(pid, PTRACE_SINGLESTEP)) return 0;
        if (calls || memcmp(before, shared, size) != 0) return 1;
    }
}

/* Does this where only system calls matter: to the end of the next one. */
static inline int steps_next_call(pid_t pid)
{
    return steps_go(pid, PTRACE_SYSCALL) && steps_go(pid, PTRACE_SYSCALL);
}

/* Runs the victim freely to the end of the operation. */
static inline void steps_finish(pid_t pid)
{
    CHECK(!steps_go(pid, PTRACE_CONT));
}

/* After steps_finish. */
static inline void steps_end(pid_t pid)
{
    int status = 0;
    CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void steps_kill(pid_t pid)
{
    int status = 0;
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

#endif
