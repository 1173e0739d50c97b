/* For programs that take something away (memory, access, limits): what a failed call could leave
 * behind, and processes of other users. */
#ifndef SHMSLOT_CTESTS_FAULTS_H
#define SHMSLOT_CTESTS_FAULTS_H

#include "samples.h"

#include <grp.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* Counts open descriptors. It asks for each one, because a look into /proc needs a descriptor, and
 * a test may have none left. */
static inline unsigned open_descriptors(void)
{
    int fd, end = (int)sysconf(_SC_OPEN_MAX);
    unsigned count = 0;
    if (end < 0 || end > 65536) end = 65536;
    for (fd = 0; fd < end; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Mappings of files whose name contains `text`. */
static inline unsigned mappings_of(const char *text)
{
    char line[8192];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) count += strstr(line, text) != NULL;
    CHECK(fclose(maps) == 0);
    return count;
}

/* A failed call has said what failed and why, and returned no handle. */
static inline void check_failure_(int result, const shmslot_segment *segment,
                                  const shmslot_error *detail, int code, int os_errno)
{
    if (result != code)
        check_fail_code(__FILE__, __LINE__, "the call", result, shmslot_strerror(code));
    CHECK(segment == NULL);
    CHECK_U64((uint64_t)-detail->code, (uint64_t)-code);
    CHECK_U64((uint64_t)detail->os_errno, (uint64_t)os_errno);
    CHECK(detail->text[0] != '\0');
}
#define check_failure(call, segment, detail, code, os_errno)                                       \
    CHECK_HERE(check_failure_(call, segment, detail, code, os_errno))

/* Children that fault on purpose leave no core file. */
static inline void no_core_files(void)
{
    struct rlimit none;
    none.rlim_cur = none.rlim_max = 0;
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
}

#define NOBODY 65534

/* From here on this process is another user, permanently, in one group. */
static inline void become(uid_t user, gid_t group)
{
    CHECK(setgroups(0, NULL) == 0);
    CHECK(setresgid(group, group, group) == 0);
    CHECK(setresuid(user, user, user) == 0);
}

static inline int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t written;
    if (fd < 0) return -1;
    written = write(fd, text, strlen(text));
    (void)close(fd);
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* Becomes root in a user namespace of its own, and enters others with it. */
static inline int enter_user_namespace(int others)
{
    char map[64];
    unsigned user = (unsigned)geteuid(), group = (unsigned)getegid();
    if (unshare(CLONE_NEWUSER | others) != 0) return -1;
    snprintf(map, sizeof map, "0 %u 1", user);
    if (write_text("/proc/self/uid_map", map) != 0) return -1;
    (void)write_text("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", group);
    return write_text("/proc/self/gid_map", map);
}

/* Enters a new mount namespace. Root needs nothing else; any other user becomes root in a user
 * namespace. */
static inline int enter_namespace(void)
{
    if (unshare(CLONE_NEWNS) != 0 && enter_user_namespace(CLONE_NEWNS) != 0) return -1;
    return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL);
}

#endif
