/* Makes system calls of this thread fail. A filter of the kernel turns each one into a signal,
 * whose handler makes the call or answers with an error in its place. Nothing of the program need
 * be prepared for it. */
#ifndef SHMSLOT_CTESTS_INJECTOR_H
#define SHMSLOT_CTESTS_INJECTOR_H

#include "check.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <ucontext.h>

/* The one place whose system calls the filter lets through. */
long inject_do(long number, long a, long b, long c, long d, long e, long f);
extern const char inject_done[];

#if defined(__x86_64__)
#define INJECT_NUMBER(machine) ((machine)->gregs[REG_RAX])
#define INJECT_RESULT(machine) ((machine)->gregs[REG_RAX])
#define INJECT_ARGUMENTS(machine)                                                                  \
    {(machine)->gregs[REG_RDI], (machine)->gregs[REG_RSI], (machine)->gregs[REG_RDX],              \
     (machine)->gregs[REG_R10], (machine)->gregs[REG_R8],  (machine)->gregs[REG_R9]}
__asm__(".text\n"
        ".globl inject_do, inject_done\n"
        "inject_do:\n"
        "  movq %rdi, %rax\n"
        "  movq %rsi, %rdi\n"
        "  movq %rdx, %rsi\n"
        "  movq %rcx, %rdx\n"
        "  movq %r8, %r10\n"
        "  movq %r9, %r8\n"
        "  movq 8(%rsp), %r9\n"
        "  syscall\n"
        "inject_done:\n"
        "  ret\n");
#elif defined(__aarch64__)
#define INJECT_NUMBER(machine) ((machine)->regs[8])
#define INJECT_RESULT(machine) ((machine)->regs[0])
#define INJECT_ARGUMENTS(machine)                                                                  \
    {(long)(machine)->regs[0], (long)(machine)->regs[1], (long)(machine)->regs[2],                 \
     (long)(machine)->regs[3], (long)(machine)->regs[4], (long)(machine)->regs[5]}
__asm__(".text\n"
        ".globl inject_do, inject_done\n"
        "inject_do:\n"
        "  mov x8, x0\n"
        "  mov x0, x1\n"
        "  mov x1, x2\n"
        "  mov x2, x3\n"
        "  mov x3, x4\n"
        "  mov x4, x5\n"
        "  mov x5, x6\n"
        "  svc #0\n"
        "inject_done:\n"
        "  ret\n");
#else
#error "how does this processor make system calls?"
#endif

enum { INJECT_CALLS = 512 };

static struct {
    volatile pid_t thread; /* whose calls are counted; 0: nobody's */
    long fail_at; /* the call that fails, from 0; -1: none */
    int error; /* what it fails with */
    int ever_after; /* so do all later ones of its kind */
    long count; /* calls so far */
    long numbers[INJECT_CALLS]; /* which they were */
    long failing; /* the kind that fails ever after */
} inject;

static inline void inject_on_trap(int signal_number, siginfo_t *info, void *context)
{
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
    long number = (long)INJECT_NUMBER(machine), arguments[6] = INJECT_ARGUMENTS(machine),
         result = 0;
    int fails = 0;
    (void)signal_number;
    (void)info;
    if (inject.thread != 0 && inject.thread == (pid_t)inject_do(SYS_gettid, 0, 0, 0, 0, 0, 0)) {
        if (inject.count < INJECT_CALLS) inject.numbers[inject.count] = number;
        fails = inject.count == inject.fail_at || inject.failing == number;
        if (inject.count == inject.fail_at && inject.ever_after) inject.failing = number;
        inject.count++;
    }
    /* A close that fails has closed all the same. */
    if (!fails || number == SYS_close) {
        result = inject_do(number, arguments[0], arguments[1], arguments[2], arguments[3],
                           arguments[4], arguments[5]);
    }
    if (fails) result = -inject.error;
    INJECT_RESULT(machine) = result;
}

/* From here on, for good, in this thread and its children. */
static inline int inject_install(void)
{
    uint64_t done = (uint64_t)(uintptr_t)inject_done;
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        /* What libc does while it blocks signals, and what cannot be done from a handler. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 14, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 13, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 12, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_set_robust_list, 11, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 10, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 9, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 8, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_wait4, 6, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)done, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(done >> 32), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = inject_on_trap;
    action.sa_flags = SA_SIGINFO;
    if (sigaction(SIGSYS, &action, NULL) != 0) return -1;
    inject.fail_at = inject.failing = -1;
    program.len = sizeof rules / sizeof rules[0];
    program.filter = rules;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

/* The calls of this thread are counted until `inject_end`; the one of this number fails. */
static inline void inject_begin(long fail_at, int error, int ever_after)
{
    inject.fail_at = fail_at;
    inject.error = error;
    inject.ever_after = ever_after;
    inject.failing = -1;
    inject.count = 0;
    inject.thread = (pid_t)inject_do(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

static inline long inject_end(void)
{
    inject.thread = 0;
    return inject.count;
}

#endif
