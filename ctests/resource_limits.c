/* A process that has reached a limit of its own gets an error with the kernel's number, keeps
 * nothing half made, and is as before when the limit is gone. Each limit is tried in a child. */
/* not under address: it leaves no room for mappings and descriptors of the tool */
/* not under aarch64: the emulator knows no limits on memory */
#include "faults.h"

#include <sys/mman.h>

static char directory[128];

static void set_limit(int resource, rlim_t value)
{
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = value < limit.rlim_max ? value : limit.rlim_max;
    CHECK(setrlimit(resource, &limit) == 0);
}

static rlim_t limit_now(int resource)
{
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    return limit.rlim_cur;
}

/* Leaves so many bytes beside what is mapped now. */
static void limit_address_space(uint64_t bytes)
{
    unsigned long long pages = 0;
    FILE *sizes = fopen("/proc/self/statm", "re");
    CHECK(sizes != NULL && fscanf(sizes, "%llu", &pages) == 1 && fclose(sizes) == 0);
    set_limit(RLIMIT_AS, (rlim_t)(pages * (unsigned long long)sysconf(_SC_PAGESIZE) + bytes));
}

/* ---- the calls that make an attachment ---- */

typedef struct target {
    const char *path; /* a living segment */
    const char *free_path;
    int fd; /* an anonymous segment */
    shmslot_options options;
} target;

enum { CREATE, CREATE_ANONYMOUS, OPEN_NEW, OPEN_OLD, ATTACH, ATTACH_FD, LOOK, CALLS };

static int call(int which, const target *what, shmslot_segment **segment, shmslot_error *detail)
{
    shmslot_attach_options attaching = SHMSLOT_ATTACH_OPTIONS_INIT;
    attaching.flags = what->options.flags | (which == LOOK ? SHMSLOT_FLAG_OBSERVER : 0);
    *segment = NULL;
    memset(detail, 0, sizeof *detail);
    switch (which) {
    case CREATE: return shmslot_segment_create(what->free_path, &what->options, segment, detail);
    case CREATE_ANONYMOUS: return shmslot_segment_create_anonymous(&what->options, segment, detail);
    case OPEN_NEW: return shmslot_segment_open(what->free_path, &what->options, segment, detail);
    case OPEN_OLD: return shmslot_segment_open(what->path, &what->options, segment, detail);
    case ATTACH: return shmslot_segment_attach(what->path, &attaching, segment, detail);
    case ATTACH_FD: return shmslot_segment_attach_fd(what->fd, &attaching, segment, detail);
    default: return shmslot_segment_attach(what->path, &attaching, segment, detail);
    }
}

/* It works, and what it made goes away again. */
static void check_works(int which, const target *what)
{
    shmslot_segment *segment;
    shmslot_error detail;
    shmslot_reader *reader;
    shmslot_writer *writer;
    CHECK_OK(call(which, what, &segment, &detail));
    if (which != LOOK) {
        reader = join(segment, 0);
        writer = open_writer(segment);
        (void)put(writer, 8);
        CHECK_U64(take(reader), 8);
        shmslot_writer_close(writer);
        shmslot_reader_leave(reader);
    }
    shmslot_segment_close(segment);
    if (which == CREATE || which == OPEN_NEW)
        CHECK_OK(shmslot_segment_unlink(what->free_path, NULL));
}

/* A named segment, an anonymous one and a free name, all of which the child inherits. */
static int run_with(int (*body)(int link, void *argument), uint64_t slot_capacity)
{
    char path[256], free_path[256];
    target what;
    shmslot_segment *named, *anonymous;
    int status;
    what.path = own_path(path, sizeof path, directory, "living");
    what.free_path = own_path(free_path, sizeof free_path, directory, "free");
    what.options = options_of(4, slot_capacity);
    named = make_named(path, &what.options);
    anonymous = make_anonymous(&what.options);
    what.fd = shmslot_segment_fd(anonymous);
    status = run_child(body, &what);
    CHECK_U64(files_in(directory), 1);
    CHECK_U64(info_of(named).participants, 1);
    CHECK_U64(info_of(anonymous).participants, 1);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(named);
    shmslot_segment_close(anonymous);
    return status;
}

/* ---- descriptors ---- */

static int without_descriptors(int link, void *argument)
{
    const target *what = argument;
    rlim_t plenty = limit_now(RLIMIT_NOFILE);
    int spare[512], spares = 0, which, left;
    unsigned taken, mappings;
    (void)link;
    mappings = mappings_of(directory) + mappings_of("memfd:shmslot");
    /* All that the limit allows, then one more to spare each round. */
    set_limit(RLIMIT_NOFILE, 256);
    while ((spare[spares] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) CHECK(++spares < 512);
    CHECK(errno == EMFILE);
    taken = open_descriptors();
    for (left = 0; left < 4; left++) {
        for (which = 0; which < CALLS; which++) {
            shmslot_segment *segment;
            shmslot_error detail;
            int result = call(which, what, &segment, &detail);
            if (left == 0 || result < 0) {
                check_failure(result, segment, &detail, SHMSLOT_E_SYS, EMFILE);
            } else {
                shmslot_segment_close(segment);
                if (which == CREATE || which == OPEN_NEW)
                    CHECK_OK(shmslot_segment_unlink(what->free_path, NULL));
            }
            CHECK_U64(open_descriptors(), taken - (unsigned)left);
            if (left == 3) CHECK_OK(result); /* no call needs more at once */
        }
        if (left == 0) CHECK_CODE(shmslot_segment_unlink(what->path, NULL), SHMSLOT_E_SYS);
        if (left < 3) CHECK(close(spare[--spares]) == 0);
    }
    while (spares > 0) CHECK(close(spare[--spares]) == 0);
    set_limit(RLIMIT_NOFILE, plenty);
    CHECK_U64(mappings_of(directory) + mappings_of("memfd:shmslot"), mappings);
    CHECK_U64(files_in(directory), 1);
    for (which = 0; which < CALLS; which++) check_works(which, what);
    return 0;
}

/* ---- address space ---- */

#define LARGE (UINT64_C(16) << 20)

static int without_address_space(int link, void *argument)
{
    const target *what = argument;
    rlim_t plenty = limit_now(RLIMIT_AS);
    unsigned descriptors = open_descriptors(),
             mappings = mappings_of(directory) + mappings_of("memfd:shmslot");
    int which;
    (void)link;
    limit_address_space(2 * LARGE); /* half of what a mapping of four slots takes */
    for (which = 0; which < CALLS; which++) {
        shmslot_segment *segment;
        shmslot_error detail;
        int result = call(which, what, &segment, &detail);
        check_failure(result, segment, &detail, SHMSLOT_E_NO_MEMORY, ENOMEM);
    }
    {
        shmslot_segment *segment = NULL;
        shmslot_error detail;
        int result = shmslot_segment_create_local(&what->options, &segment, &detail);
        check_failure(result, segment, &detail, SHMSLOT_E_NO_MEMORY, ENOMEM);
    }
    set_limit(RLIMIT_AS, plenty);
    CHECK_U64(open_descriptors(), descriptors);
    CHECK_U64(mappings_of(directory) + mappings_of("memfd:shmslot"), mappings);
    CHECK_U64(files_in(directory), 1);
    for (which = 0; which < CALLS; which++) check_works(which, what);
    return 0;
}

/* ---- locked memory ---- */

/* Root may lock without limit, so this one is somebody else, with segments of its own. */
static char own_paths[2][256];

static int without_locked_memory(int link, void *argument)
{
    target what = *(const target *)argument;
    shmslot_segment *named, *anonymous;
    int which;
    unsigned descriptors;
    (void)link;
    if (geteuid() == 0) become(NOBODY, NOBODY);
    set_limit(RLIMIT_MEMLOCK, 0);
    what.path = own_paths[0];
    what.free_path = own_paths[1];
    named = make_named(what.path, &what.options);
    anonymous = make_anonymous(&what.options);
    what.fd = shmslot_segment_fd(anonymous);

    /* Populating pages locks nothing: the limit does not matter. */
    what.options.flags = SHMSLOT_FLAG_PREFAULT;
    for (which = 0; which < CALLS; which++) check_works(which, &what);

    /* A process that wants all that it maps locked cannot map more than the limit. */
    set_limit(RLIMIT_MEMLOCK, 64 << 10);
    descriptors = open_descriptors();
    if (mlockall(MCL_FUTURE) == 0) {
        for (which = 0; which < CALLS; which++) {
            shmslot_segment *segment;
            shmslot_error detail;
            int result = call(which, &what, &segment, &detail);
            check_failure(result, segment, &detail, SHMSLOT_E_NO_MEMORY, EAGAIN);
        }
        CHECK(munlockall() == 0);
        CHECK_U64(open_descriptors(), descriptors);
    } else {
        fprintf(stderr, "left out: pages locked as they are mapped (mlockall: %s)\n",
                strerror(errno));
    }
    for (which = 0; which < CALLS; which++) check_works(which, &what);
    CHECK_OK(shmslot_segment_unlink(what.path, NULL));
    shmslot_segment_close(named);
    shmslot_segment_close(anonymous);
    return 0;
}

/* ---- size of files ---- */

/* What makes a file too long is killed by the kernel (SIGXFSZ), unless it asks first; the caller's
 * handler is its own matter. */
static int without_large_files(int link, void *argument)
{
    const target *what = argument;
    unsigned descriptors = open_descriptors(),
             mappings = mappings_of(directory) + mappings_of("memfd:shmslot");
    rlim_t limits[] = {4096, 0};
    int which, i;
    (void)link;
    CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    for (i = 0; i < 2; i++) {
        set_limit(RLIMIT_FSIZE, limits[i]);
        for (which = CREATE; which <= OPEN_NEW; which++) {
            shmslot_segment *segment;
            shmslot_error detail;
            int result = call(which, what, &segment, &detail);
            check_failure(result, segment, &detail, SHMSLOT_E_SYS, EFBIG);
            CHECK(strstr(detail.text, "RLIMIT_FSIZE") != NULL);
            CHECK(strstr(detail.text, i == 0 ? " which is 4096 (" : " which is 0 (") != NULL);
            CHECK(detail.numbers[0] > 4 * 4096);
            CHECK_U64(detail.numbers[1], limits[i]);
            CHECK(strlen(detail.text) + 1 < sizeof detail.text);
        }
    }
    CHECK_U64(open_descriptors(), descriptors);
    CHECK_U64(mappings_of(directory) + mappings_of("memfd:shmslot"), mappings);
    CHECK_U64(files_in(directory), 1);
    for (which = OPEN_OLD; which < CALLS; which++) check_works(which, what);
    return 0;
}

static int dies(int link, void *argument)
{
    shmslot_options options = options_of(4, 64);
    (void)link;
    (void)make_named(argument, &options);
    (void)kill(getpid(), SIGKILL);
    return 1;
}

/* A name that is in the way cannot be taken, for this reason. */
static void check_not_taken(const char *path, int code, int os_errno)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    int result;
    memset(&detail, 0, sizeof detail);
    result = shmslot_segment_create(path, &options, &segment, &detail);
    check_failure(result, segment, &detail, code, os_errno);
}

/* To take a name from a dead segment is to write to its file, far before the end of it. */
static int takes_a_name(int link, void *argument)
{
    shmslot_options options = options_of(4, 64);
    rlim_t plenty = limit_now(RLIMIT_FSIZE);
    (void)link;
    CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    set_limit(RLIMIT_FSIZE, 0);
    check_not_taken(argument, SHMSLOT_E_SYS, EFBIG);
    set_limit(RLIMIT_FSIZE, plenty);
    shmslot_segment_close(make_named(argument, &options));
    CHECK_OK(shmslot_segment_unlink(argument, NULL));
    return 0;
}

/* ---- memory of the process itself ---- */

#ifndef UNDER_A_TOOL /* valgrind wants memory for its own books at any time, and ends when it gets none */

/* Who takes a name away reads all rows of participants at once: the only large object that is not a
 * mapping. */
static int without_heap(int link, void *argument)
{
    rlim_t plenty = limit_now(RLIMIT_AS);
    (void)link;
    limit_address_space(0);
    check_not_taken(argument, SHMSLOT_E_NO_MEMORY, 0);
    set_limit(RLIMIT_AS, plenty);
    check_not_taken(argument, SHMSLOT_E_EXISTS, 0);
    return 0;
}

static void check_without_heap(char *path)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *crowded;
    options.max_participants = 4095;
    crowded = make_named(path, &options);
    CHECK_U64((uint64_t)run_child(without_heap, path), 0);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(crowded);
}
#endif

int main(void)
{
    char path[256];
    check_begin();
    own_directory(directory, sizeof directory);
    CHECK(chmod(directory, 0777) == 0);
    own_path(own_paths[0], sizeof own_paths[0], directory, "unlocked");
    own_path(own_paths[1], sizeof own_paths[1], directory, "unlocked-free");
    CHECK_U64((uint64_t)run_with(without_descriptors, 4096), 0);
    CHECK_U64((uint64_t)run_with(without_address_space, LARGE), 0);
    CHECK_U64((uint64_t)run_with(without_locked_memory, 1 << 20), 0);
    CHECK_U64((uint64_t)run_with(without_large_files, 4096), 0);
    own_path(path, sizeof path, directory, "dead");
    CHECK_U64((uint64_t)run_child(dies, path), 128 + SIGKILL);
    CHECK_U64((uint64_t)run_child(takes_a_name, path), 0);
#ifndef UNDER_A_TOOL
    check_without_heap(path);
#endif
    return 0;
}
