/* The standard streams' numbers stay free for them: no call leaves a descriptor of the library at 0, 1 or 2, whoever of
 * them was closed. */
#include "every_call.h"

/* ---- streams that are closed for a while ---- */

enum { STREAMS = 3, SAVED_FROM = 100 };

static int saved[STREAMS];

/* `which`: a bit for each. */
static void close_streams(unsigned which)
{
    int fd;
    for (fd = 0; fd < STREAMS; fd++) {
        if ((which >> fd & 1) == 0) continue;
        saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, SAVED_FROM);
        CHECK(saved[fd] >= 0 && close(fd) == 0);
    }
}

/* Puts them back; a bit for each number that was taken meanwhile. */
static unsigned restore_streams(unsigned which)
{
    unsigned taken = 0;
    int fd;
    for (fd = 0; fd < STREAMS; fd++) {
        if ((which >> fd & 1) == 0) continue;
        if (fcntl(fd, F_GETFD) >= 0) taken |= 1u << fd;
        if (dup2(saved[fd], fd) != fd || close(saved[fd]) != 0) _exit(125);
    }
    return taken;
}

/* ---- each call ---- */

static unsigned closed_streams;
static rlim_t limit;

static int call_without_streams(int link, void *argument)
{
    const scenario *what = argument;
    struct rlimit before, few;
    unsigned taken;
    int result;
    (void)link;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    if (limit != 0) few.rlim_cur = limit;
    what->prepare();
    close_streams(closed_streams);
    (void)setrlimit(RLIMIT_NOFILE, &few);
    result = what->call();
    (void)setrlimit(RLIMIT_NOFILE, &before);
    taken = restore_streams(closed_streams);
    CHECK_U64(taken, 0);
    /* With no number left but these a call does without a descriptor, or says that there is none. */
    if (limit == 0 || result != SHMSLOT_E_SYS) CHECK_U64((uint64_t)result, (uint64_t)what->expected);
    CHECK(world.detail.code == 0 || world.detail.os_errno == EMFILE || what->expected < 0);
    take_down();
    return 0;
}

static void check_every_call(unsigned closed, rlim_t highest)
{
    unsigned wrong = 0;
    size_t i;
    closed_streams = closed;
    limit = highest;
    for (i = 0; i < SCENARIOS; i++) {
        int status = run_child(call_without_streams, (void *)(uintptr_t)&scenarios[i]);
        if (status == 0) continue;
        wrong++;
        fprintf(stderr, "%s, without %u: ended with %d\n", scenarios[i].name, closed, status);
        (void)unlink(path);
        (void)unlink(socket_path);
    }
    CHECK_U64(wrong, 0);
}

int main(void)
{
    check_begin();
    no_core_files();
    scenarios_begin();
    check_every_call(7, 0);
    check_every_call(2, 0);
    check_every_call(7, 3);
    return 0;
}
