/* Every system call of every call of the library fails once, with each error that it may have, and
 * fails permanently. The library's call returns a code that the header lists for it; nothing is
 * left behind, nothing is printed, and the next attempt works. Usage: fault_injection [all |
 * SCENARIO]. Without an argument each system call fails in some of its ways, `all` tries every one,
 * and the name of a scenario tries every one of that. */
/* not under address, thread, memcheck: its filter takes the system calls of the tool for its own */
/* not under musl: it lets mmap fail, and musl's malloc calls that */
/* not under aarch64: the emulator has no filters of system calls */
#include "every_call.h"
#include "header_codes.h"
#include "injector.h"

#include <malloc.h>
#include <sys/mman.h>

/* ---- what may go wrong ---- */

enum { ERRORS = 16 };

static const struct {
    long number;
    int errors[ERRORS];
} ways[] = {
    {SYS_openat,
     {EACCES, EINTR, EIO, EMFILE, ENFILE, ENOENT, ENOMEM, ELOOP, ENOTDIR, EISDIR, ENXIO, EROFS,
      EOPNOTSUPP, EPERM, ESTALE}},
    {SYS_close, {EINTR, EIO}},
    {SYS_fstat, {EIO, ENOMEM, EOVERFLOW}},
    {SYS_newfstatat, {EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR, EOVERFLOW}},
    {SYS_statx, {EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR}},
    {SYS_fstatfs, {EINTR, EIO, ENOMEM, ENOSYS, EOVERFLOW}},
    {SYS_fchmod, {EIO, EPERM, EROFS, EDQUOT}},
    {SYS_ftruncate, {EINTR, EFBIG, EIO, ENOMEM, ENOSPC, EPERM}},
    {SYS_fallocate, {EINTR, EFBIG, EIO, ENOMEM, ENOSPC, EDQUOT, EOPNOTSUPP, ENOSYS, EPERM}},
    {SYS_mmap, {EACCES, EAGAIN, ENOMEM, ENODEV, ENFILE, EPERM}},
    {SYS_mprotect, {EACCES, ENOMEM}},
    {SYS_madvise, {EAGAIN, EINVAL, EIO, ENOMEM, EPERM}},
    {SYS_munlock, {ENOMEM, EPERM}},
    {SYS_fcntl, {EINVAL, EIO, ENOLCK, ENOMEM, EPERM}},
    {SYS_pread64, {EINTR, EIO, ENOMEM}},
    {SYS_pwrite64, {EINTR, EIO, ENOMEM, ENOSPC, EPERM}},
    {SYS_read, {EINTR, EIO, ENOMEM}},
    {SYS_getdents64, {EINTR, EIO, ENOENT, ENOMEM}},
    {SYS_write, {EINTR, EIO, EAGAIN}},
    {SYS_linkat,
     {EACCES, EEXIST, EIO, ELOOP, EMLINK, ENOENT, ENOMEM, ENOSPC, EDQUOT, EPERM, EROFS, EXDEV}},
    {SYS_unlinkat, {EACCES, EBUSY, EIO, ENOENT, ENOMEM, EPERM, EROFS}},
    {SYS_memfd_create, {EACCES, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}},
    {SYS_getrandom, {EAGAIN, EINTR, ENOSYS, EPERM}},
    {SYS_sysinfo, {ENOSYS, EPERM}},
    {SYS_sched_getaffinity, {EINVAL, ENOSYS, EPERM}},
    {SYS_pidfd_open, {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM}},
    {SYS_ppoll, {EINTR, EINVAL, ENOMEM}},
    {SYS_socket, {EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}},
    {SYS_socketpair, {EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}},
    {SYS_bind, {EACCES, EADDRINUSE, ELOOP, ENOENT, ENOMEM, ENOSPC, ENOTDIR, EPERM, EROFS}},
    {SYS_listen, {EADDRINUSE, ENOMEM}},
    {SYS_accept4, {EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}},
    {SYS_connect,
     {EACCES, EAGAIN, ECONNREFUSED, EINTR, ELOOP, ENOENT, ENOMEM, ENOTDIR, EPERM, EPROTOTYPE}},
    {SYS_getsockopt, {ENOBUFS, ENOMEM, ENOPROTOOPT}},
    {SYS_setsockopt, {ENOBUFS, ENOMEM, ENOPROTOOPT}},
    {SYS_sendmsg, {EAGAIN, ECONNRESET, EINTR, ENOBUFS, ENOMEM, EPIPE, ETOOMANYREFS, EPERM}},
    {SYS_recvmsg, {EAGAIN, ECONNRESET, EINTR, ENOMEM, ENOBUFS}},
    {SYS_shutdown, {ENOTCONN}},
    {SYS_pipe2, {EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}},
    {SYS_futex, {EAGAIN, EINTR, ETIMEDOUT}},
    {449 /* futex_waitv */, {EAGAIN, EINTR, ENOMEM, ENOSYS, EPERM, ETIMEDOUT}},
#ifdef __x86_64__ /* the old forms, which libc uses where they exist */
    {SYS_open, {EACCES, EINTR, EIO, EMFILE, ENFILE, ENOENT, ENOMEM}},
    {SYS_poll, {EINTR, EINVAL, ENOMEM}},
    {SYS_unlink, {EACCES, EBUSY, EIO, ENOENT, ENOMEM, EPERM, EROFS}},
    {SYS_stat, {EACCES, EIO, ENOENT, ENOMEM}},
    {SYS_lstat, {EACCES, EIO, ENOENT, ENOMEM}},
#endif
};

/* For system calls that are not in the table. */
static const int other_errors[ERRORS] = {EINTR, EINVAL, EIO, ENOMEM, ENOSYS, EPERM};
/* A refused call stays refused, and an exhausted resource stays exhausted. */
static const int lasting_errors[ERRORS] = {EPERM, ENOSYS, ENOMEM, EMFILE};

static const int *errors_of(long number)
{
    size_t i;
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (ways[i].number == number) return ways[i].errors;
    }
    return other_errors;
}

/* Calls whose failure cannot reach a caller, or that are not the library's: the memory of malloc,
 * and unmapping whole mappings. */
static int may_fail(long number)
{
    return number != SYS_munmap && number != SYS_brk && number != SYS_sched_yield &&
           number != SYS_geteuid && number != SYS_clock_gettime;
}

/* ---- one round: a world, the failing call, the call again, and what is left of all that ---- */

/* What the process has. */
typedef struct holdings {
    unsigned descriptors, files;
    unsigned long long pages;
} holdings;

static holdings holdings_now(void)
{
    holdings now;
    FILE *sizes = fopen("/proc/self/statm", "re");
    CHECK(sizes != NULL && fscanf(sizes, "%llu", &now.pages) == 1 && fclose(sizes) == 0);
    now.descriptors = open_descriptors();
    now.files = files_in(directory);
    return now;
}

/* Shared with the parent, which reports what a dead child was doing. */
static struct report {
    long at, number, error, ever_after;
    long calls; /* system calls of the last call */
    unsigned rounds, wrong;
} *report;

static FILE *voice; /* the error stream; 1 and 2 lead to where the library must not write */
static int silence;

static void complain(const scenario *what, const char *text, int result)
{
    report->wrong++;
    fprintf(voice, "%s: system call %ld (no. %ld) fails%s with %s: %s", what->name, report->at,
            report->number, report->ever_after ? " ever after" : "", strerror((int)report->error),
            text);
    if (result < 0) {
        fprintf(voice, " %d, %s; the detail is %d, errno %d, %s", result, shmslot_strerror(result),
                world.detail.code, world.detail.os_errno, world.detail.text);
    }
    fprintf(voice, "\n");
}

static void check_answer(const scenario *what, int result)
{
    if (result >= 0 || result == what->expected) return;
    if (what->function == NULL || (codes_of_call(what->function, 0) & code_bit(result)) == 0) {
        complain(what, "returned a code that the header does not list,", result);
    }
    if (world.detail.code != 0 && world.detail.code != result) {
        complain(what, "the detail tells another code than", result);
    }
}

static void check_silence(const scenario *what)
{
    if (lseek(silence, 0, SEEK_END) == 0) return;
    complain(what, "something was said", 0);
    CHECK(ftruncate(silence, 0) == 0 && lseek(silence, 0, SEEK_SET) == 0);
}

static int call_and_fail(const scenario *what, long at, long number, int error, int ever_after)
{
    int result;
    report->at = at;
    report->number = number;
    report->error = error;
    report->ever_after = ever_after;
    report->rounds++;
    memset(&world.detail, 0, sizeof world.detail);
    inject_begin(at, error, ever_after);
    result = what->call();
    report->calls = inject_end();
    return result;
}

static void one_round(const scenario *what, long at, long number, int error, int ever_after)
{
    static holdings before;
    static int warm; /* what a process makes once and keeps is there after the first round */
    holdings after;
    int result;
    char text[200];
    what->prepare();
    result = call_and_fail(what, at, number, error, ever_after);
    check_answer(what, result);
    /* A channel whose other end is gone stays broken; other failures must not repeat. */
    if (result < 0 && result != SHMSLOT_E_CHANNEL_BROKEN && what->expected >= 0) {
        result = what->call();
        if (result != what->expected) complain(what, "the next try returned", result);
    }
    take_down();
    after = holdings_now();
    if (!warm++) before = after;
    if (after.descriptors != before.descriptors || after.pages != before.pages ||
        after.files != before.files) {
        snprintf(text, sizeof text, "left behind: %d descriptors, %lld pages mapped, %d files",
                 (int)(after.descriptors - before.descriptors),
                 (long long)(after.pages - before.pages), (int)(after.files - before.files));
        complain(what, text, 0);
        before = after;
    }
    check_silence(what);
}

/* In the child that makes the rounds. */
static int begin_rounds(void)
{
    struct rlimit few;
    voice = fdopen(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10), "w");
    CHECK(voice != NULL && setvbuf(voice, NULL, _IONBF, 0) == 0);
    silence = (int)syscall(SYS_memfd_create, "ctest-silence", 1u /* close-on-exec */);
    CHECK(silence >= 0 && dup2(silence, STDOUT_FILENO) >= 0 && dup2(silence, STDERR_FILENO) >= 0);
    few.rlim_cur = few.rlim_max = 64; /* so that they are counted soon */
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
#ifdef __GLIBC__ /* malloc gets all the memory that it will need, and keeps it */
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 30) == 1 && mallopt(M_TRIM_THRESHOLD, 1 << 30) == 1);
    free(malloc(8 << 20));
#endif
    return inject_install();
}

static int whole; /* every error, not only some */

static int try_all(int link, void *argument)
{
    static long numbers[INJECT_CALLS];
    const scenario *what = argument;
    long calls, at;
    unsigned turn = 0;
    (void)link;
    if (begin_rounds() != 0) return 77;
    one_round(what, -1, -1, 0, 0);
    one_round(what, -1, -1, 0, 0);
    what->prepare();
    CHECK_U64((uint64_t)call_and_fail(what, -1, -1, 0, 0), (uint64_t)what->expected);
    take_down();
    calls = report->calls;
    CHECK(calls < INJECT_CALLS);
    memcpy(numbers, inject.numbers, sizeof numbers);
    for (at = 0; at < calls; at++) {
        const int *errors = errors_of(numbers[at]);
        int i, lasting;
        if (!may_fail(numbers[at])) continue;
        for (lasting = 0; lasting < 2; lasting++) {
            if (lasting) errors = lasting_errors;
            for (i = 0; i < ERRORS && errors[i] != 0; i++) {
                /* One in five is a fair sample: the turn advances with every system call. */
                if (!whole && ++turn % 5 != 0) continue;
                one_round(what, at, numbers[at], errors[i], lasting);
            }
        }
    }
    return 0;
}

/* The first call of a process does more than later ones, so each such failure has its own
 * process. */

typedef struct first_call {
    const scenario *what;
    long at;
    int error;
} first_call;

static int try_first_call(int link, void *argument)
{
    const first_call *first = argument;
    int result;
    (void)link;
    if (begin_rounds() != 0) return 77;
    result = call_and_fail(first->what, first->at, -1, first->error, 1);
    if (first->at >= 0 && first->at < report->calls) report->number = inject.numbers[first->at];
    if (may_fail(report->number)) check_answer(first->what, result);
    check_silence(first->what);
    take_down();
    return 0;
}

/* ---- all of it ---- */

/* Runs `body` in a child; its result is in `report`, too. */
static void round_in_child(const scenario *what, int (*body)(int link, void *argument),
                           void *argument)
{
    int status = run_child(body, argument);
    if (status == 77) SKIP("no filter of system calls can be had here");
    if (status == 0) return;
    report->wrong++;
    fprintf(stderr, "%s: ended with %d at system call %ld (no. %ld), which failed with %s\n",
            what->name, status, report->at, report->number, strerror((int)report->error));
    take_down();
}

static void try_first_calls(const scenario *what)
{
    static const int errors[] = {EPERM, ENOMEM};
    first_call first;
    long calls;
    size_t i;
    first.what = what;
    first.at = -1;
    first.error = 0;
    round_in_child(what, try_first_call, &first);
    calls = report->calls;
    for (first.at = 0; first.at < calls; first.at++) {
        for (i = 0; i < 2; i++) {
            if (!whole && (size_t)first.at % 2 != i) continue;
            first.error = errors[i];
            round_in_child(what, try_first_call, &first);
        }
    }
}

int main(int count, char **arguments)
{
    const char *wanted = count > 1 ? arguments[1] : "";
    unsigned found = 0;
    size_t i;
    check_begin();
    no_core_files();
    alarm(count > 1 ? 3600 : CHECK_WATCHDOG_S);
    whole = count > 1;
    scenarios_begin();
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(report != MAP_FAILED);
    for (i = 0; i < SCENARIOS; i++) {
        const scenario *what = &scenarios[i];
        if (strcmp(wanted, "") != 0 && strcmp(wanted, "all") != 0 &&
            strcmp(wanted, what->name) != 0)
            continue;
        found++;
        CHECK(what->function == NULL || codes_of_call(what->function, 0) != 0);
        round_in_child(what, try_all, (void *)(uintptr_t)what);
        if (what->prepare == nothing) try_first_calls(what);
    }
    CHECK(found > 0);
    if (whole || report->wrong > 0) {
        fprintf(stderr, "%u of %u failures were answered wrongly\n", report->wrong, report->rounds);
    }
    return report->wrong == 0 ? 0 : 1;
}
