/* What every test program needs, and nothing else: checks that report what they saw, unique names
 * that are removed in any case, a watchdog, and children with a link to talk over. A program exits
 * with 0 (passed), 1 (a check failed), 2 (no check has the requested name), 77 (skipped) or 124
 * (ended by the watchdog). */
#ifndef SHMSLOT_CTESTS_CHECK_H
#define SHMSLOT_CTESTS_CHECK_H

#ifdef __cplusplus
#pragma GCC system_header /* it is C; the C++ tests are compiled with warnings of what C++ has other means for */
#endif

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <shmslot_events.h>
#include <shmslot_pool.h>
#include <shmslot_reference.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CHECK_WATCHDOG_S /* tools that slow a program down give it longer */
#define CHECK_WATCHDOG_S 120
#endif
#define CHECK_SHM_DIR "/dev/shm"

/* ---- checks ---- */

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) check_fail(__FILE__, __LINE__, #cond);                                        \
    } while (0)
#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        int check_got_ = (call);                                                                   \
        if (check_got_ < 0) check_fail_code(__FILE__, __LINE__, #call, check_got_, "success");     \
    } while (0)
#define CHECK_CODE(call, want)                                                                     \
    do {                                                                                           \
        int check_got_ = (call);                                                                   \
        if (check_got_ != (want)) check_fail_code(__FILE__, __LINE__, #call, check_got_, #want);   \
    } while (0)
#define CHECK_U64(got, want)                                                                       \
    do {                                                                                           \
        uint64_t check_got_ = (got), check_want_ = (want);                                         \
        if (check_got_ != check_want_)                                                             \
            check_fail_u64(__FILE__, __LINE__, #got, check_got_, check_want_);                     \
    } while (0)
#define SKIP(reason)                                                                               \
    do {                                                                                           \
        fprintf(stderr, "skipped: %s\n", reason);                                                  \
        exit(77);                                                                                  \
    } while (0)

/* For helpers that check on behalf of their caller: stores the caller's line, which a failure
 * reports. */
static __thread const char *check_caller_file;
static __thread int check_caller_line;
#define CHECK_HERE(call) (check_note_caller(__FILE__, __LINE__), (call))

static inline void check_note_caller(const char *file, int line)
{
    check_caller_file = file;
    check_caller_line = line;
}

/* For programs that do one thing in many ways: the current one, which a failure reports. */
static char check_doing[160];

static inline void check_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(check_doing, sizeof check_doing, format, arguments);
    va_end(arguments);
}

static char check_running[128]; /* the name of the check under way; a failure tells it, too */

/* The message of the last failed check. A program with children may put it in memory that they
 * share. */
enum { CHECK_REPORT_SIZE = 512 };
static char check_own_report[CHECK_REPORT_SIZE];
static char *check_report = check_own_report;

static pid_t check_parent; /* set in forked children: they clean up nothing and leave by _exit */

static inline void check_leave(void)
{
    if (check_caller_file != NULL) {
        fprintf(stderr, "  in or after the call at %s:%d\n", check_caller_file, check_caller_line);
    }
    if (check_doing[0] != '\0') fprintf(stderr, "  at %s\n", check_doing);
    if (check_running[0] != '\0') fprintf(stderr, "  in the check %s\n", check_running);
    if (check_parent == 0) exit(1);
    /* others may wait for this one */
    if (getppid() == check_parent) (void)kill(check_parent, SIGALRM);
    _exit(1);
}

__attribute__((format(printf, 1, 2))) static inline void check_failed(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(check_report, CHECK_REPORT_SIZE, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s\n", check_report);
    check_leave();
}

static inline void check_fail(const char *file, int line, const char *expression)
{
    int saved = errno;
    check_failed("%s:%d: failed: %s (errno %d: %s)", file, line, expression, saved,
                 strerror(saved));
}

static inline void check_fail_code(const char *file, int line, const char *expression, int got,
                                   const char *want)
{
    check_failed("%s:%d: %s returned %d (%s), expected %s", file, line, expression, got,
                 shmslot_strerror(got), want);
}

static inline void check_fail_u64(const char *file, int line, const char *expression, uint64_t got,
                                  uint64_t want)
{
    check_failed("%s:%d: %s is %" PRIu64 ", expected %" PRIu64, file, line, expression, got, want);
}

/* ---- cleaning up: paths are removed at exit and by the watchdog, the last one registered first ---- */

static char check_paths[128][512];
static volatile sig_atomic_t check_path_count;

static inline void check_remove_paths(void)
{
    if (check_parent != 0) return;
    while (check_path_count > 0) {
        const char *path = check_paths[check_path_count - 1];
        check_path_count = check_path_count - 1;
        if (unlink(path) != 0) (void)rmdir(path);
    }
}

static inline void cleanup_path(const char *path)
{
    CHECK(check_path_count < (int)(sizeof check_paths / sizeof check_paths[0]));
    CHECK(strlen(path) < sizeof check_paths[0]);
    strcpy(check_paths[check_path_count], path);
    check_path_count = check_path_count + 1;
}

static inline void check_on_alarm(int signal_number)
{
    static const char text[] = "watchdog: the test hangs, or one of its processes has failed ";
    (void)signal_number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(125);
    if (write(STDERR_FILENO, check_running, strlen(check_running)) < 0) _exit(125);
    if (write(STDERR_FILENO, "\n", 1) < 0) _exit(125);
    check_remove_paths();
    _exit(124);
}

/* First line of every main; CHECK_MAIN has it. */
static inline void check_begin(void)
{
    CHECK(signal(SIGALRM, check_on_alarm) != SIG_ERR);
    CHECK(atexit(check_remove_paths) == 0);
    alarm(CHECK_WATCHDOG_S);
}

/* ---- the checks of a program: all of them, or the one that its argument names ---- */

/* CHECK_MAIN() { RUN(check_this()); RUN(check_that(1)); RUN(check_that(2)); } is a program with the
 * checks `this`, `that(1)` and `that(2)`. Its argument is one of these names, or `that` for both,
 * or --list, which prints them. Code outside of RUN is executed in any case. */
#define CHECK_MAIN()                                                                               \
    static void check_all(void);                                                                   \
    int main(int count, char **arguments)                                                          \
    {                                                                                              \
        check_begin();                                                                             \
        return check_chosen(check_all, count, arguments);                                          \
    }                                                                                              \
    static void check_all(void)
#define RUN(check)                                                                                 \
    do {                                                                                           \
        if (check_starts(#check)) check;                                                           \
        check_running[0] = '\0';                                                                   \
    } while (0)

static const char *check_wanted; /* a name, --list, or NULL for all */
static unsigned check_found;

static inline int check_starts(const char *call)
{
    const char *name = strncmp(call, "check_", 6) == 0 ? call + 6 : call;
    const size_t bare = strcspn(name, "("),
                 length = strcmp(name + bare, "()") == 0 ? bare : strlen(name);
    int listed;
    CHECK(length < sizeof check_running);
    memcpy(check_running, name, length);
    check_running[length] = '\0';
    if (check_wanted == NULL) return 1;
    listed = strcmp(check_wanted, "--list") == 0;
    if (!listed && strcmp(check_wanted, check_running) != 0 &&
        (strlen(check_wanted) != bare || memcmp(check_wanted, name, bare) != 0)) {
        return 0;
    }
    check_found++;
    puts(check_running);
    (void)fflush(stdout); /* or children print it once more */
    return !listed;
}

static inline int check_chosen(void (*all)(void), int count, char **arguments)
{
    if (count > 2) {
        fprintf(stderr, "usage: %s [CHECK | --list]\n", arguments[0]);
        return 2;
    }
    if (count == 2) check_wanted = arguments[1];
    all();
    if (check_wanted == NULL || check_found > 0) return 0;
    fprintf(stderr, "no check is called %s; --list prints their names\n", check_wanted);
    return 2;
}

/* A unique segment name. Its file is removed at exit. */
static inline const char *unique_name(char *buffer, size_t size, const char *tag)
{
    static unsigned counter;
    char path[512];
    int length = snprintf(buffer, size, "ctest-%s-%ld-%u", tag, (long)getpid(), ++counter);
    CHECK(length > 0 && (size_t)length < size);
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", buffer);
    cleanup_path(path);
    return buffer;
}

/* A new directory on the shared-memory file system. It is removed at exit if it is empty. */
static inline const char *own_directory(char *buffer, size_t size)
{
    int length = snprintf(buffer, size, CHECK_SHM_DIR "/ctest-dir-XXXXXX");
    CHECK(length > 0 && (size_t)length < size);
    CHECK(mkdtemp(buffer) != NULL);
    cleanup_path(buffer);
    return buffer;
}

/* How many files a directory has. */
static inline unsigned files_in(const char *directory)
{
    unsigned count = 0;
    struct dirent *entry;
    DIR *listing = opendir(directory);
    CHECK(listing != NULL);
    while ((entry = readdir(listing)) != NULL) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    CHECK(closedir(listing) == 0);
    return count;
}

/* `directory`/`file` into `buffer`. It is removed at exit. */
static inline const char *own_path(char *buffer, size_t size, const char *directory,
                                   const char *file)
{
    int length = snprintf(buffer, size, "%s/%s", directory, file);
    CHECK(length > 0 && (size_t)length < size);
    cleanup_path(buffer);
    return buffer;
}

/* ---- links: a byte stream between two processes or threads; no test sleeps to keep in step
 * ---- */

static inline void send_bytes(int link, const void *bytes, size_t size)
{
    CHECK(send(link, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
}

static inline void receive_bytes(int link, void *bytes, size_t size)
{
    CHECK(recv(link, bytes, size, MSG_WAITALL) == (ssize_t)size);
}

static inline void say(int link)
{
    send_bytes(link, "!", 1);
}

/* Returns when the other side has said something; fails if it died instead. */
static inline void hear(int link)
{
    char byte;
    receive_bytes(link, &byte, 1);
}

/* ---- children: they attach on their own, by name or by an inherited fd, never through the parent's handles
 * ---- */

typedef struct child {
    pid_t pid;
    int link;
} child;

static inline child start_child(int (*body)(int link, void *argument), void *argument)
{
    int ends[2];
    child started;
    pid_t parent = getpid();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    started.pid = fork();
    CHECK(started.pid >= 0);
    if (started.pid == 0) {
        check_parent = parent;
        (void)close(ends[0]);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        alarm(CHECK_WATCHDOG_S);
        _exit(body(ends[1], argument));
    }
    (void)close(ends[1]);
    started.link = ends[0];
    return started;
}

/* The exit status of the child, or 128 + the signal that ended it. */
static inline int end_child(child started)
{
    int status = 0;
    CHECK(waitpid(started.pid, &status, 0) == started.pid);
    (void)close(started.link);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#define CHECK_CHILD(started) CHECK_U64((uint64_t)end_child(started), 0)

static inline int run_child(int (*body)(int link, void *argument), void *argument)
{
    return end_child(start_child(body, argument));
}

/* ---- threads ---- */

static inline pthread_t start_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

static inline void end_thread(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}

static inline pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* Returns when the kernel shows that thread or process as sleeping. */
static inline void until_asleep(pid_t id)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)id);
    for (;;) {
        const char *state;
        ssize_t length;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        length = read(fd, text, sizeof text - 1);
        CHECK(length > 0);
        (void)close(fd);
        text[length] = '\0';
        state = strrchr(text, ')');
        CHECK(state != NULL && state[1] == ' ');
        if (state[2] == 'S') return;
        CHECK(state[2] != 'Z' && state[2] != 'X');
        (void)sched_yield();
    }
}

#endif
