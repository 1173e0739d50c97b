/* A control group with less memory than /dev/shm has room: what does not fit is an error, where the
 * kernel would kill. This runs in a group that is made here, if this process may make one. */
/* not under memcheck: its group is full of what valgrind notes of each byte */
#include "faults.h"

#define MIB (UINT64_C(1) << 20)
#define LIMIT (64 * MIB)

static char group[512];
static char directory[128];

/* ---- a group of one's own ---- */

/* Where the hierarchy of the memory controller is mounted, and this process in it; 0 if it is not
 * found. */
static int find_group(char *ret_parent, size_t size, int *ret_version)
{
    char line[1024], path[1024] = "", point[400] = "";
    FILE *file = fopen("/proc/self/cgroup", "re");
    *ret_version = 0;
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strstr(line, ":memory:") != NULL) {
            *ret_version = 1;
            snprintf(path, sizeof path, "%s", strstr(line, ":memory:") + 8);
        } else if (strncmp(line, "0::", 3) == 0 && *ret_version == 0) {
            *ret_version = 2;
            snprintf(path, sizeof path, "%s", line + 3);
        }
    }
    CHECK(fclose(file) == 0);
    file = fopen("/proc/self/mounts", "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        char where[400], type[32], options[400];
        if (sscanf(line, "%*s %399s %31s %399s", where, type, options) != 3) continue;
        if (strcmp(type, *ret_version == 2 ? "cgroup2" : "cgroup") != 0) continue;
        if (*ret_version == 1 && strstr(options, "memory") == NULL) continue;
        snprintf(point, sizeof point, "%s", where);
    }
    CHECK(fclose(file) == 0);
    return point[0] != '\0' && (size_t)snprintf(ret_parent, size, "%s%s", point, path) < size;
}

/* Makes the group; returns the reason if it cannot, or NULL. */
static const char *make_group(void)
{
    char parent[1500], path[600], limit[32];
    int version, length;
    if (!find_group(parent, sizeof parent, &version)) return "no control groups for memory";
    if (version == 2) {
        length = snprintf(path, sizeof path, "%s/cgroup.subtree_control", parent);
        if (length > 0 && (size_t)length < sizeof path) (void)write_text(path, "+memory");
    }
    length = snprintf(group, sizeof group, "%s/shmslot-test-%ld", parent, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof group)
        return "the name of the control group is long";
    if (mkdir(group, 0755) != 0) return "a control group cannot be made here";
    cleanup_path(group);
    snprintf(path, sizeof path, "%s/%s", group,
             version == 2 ? "memory.max" : "memory.limit_in_bytes");
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)LIMIT);
    return write_text(path, limit) == 0 ? NULL : "a control group here has no memory limit";
}

static void enter_group(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    CHECK(write_text(path, "0") == 0);
}

/* Its processes are gone, but a process leaves its group a little after it was waited for. */
static void remove_group(void)
{
    while (rmdir(group) != 0) {
        CHECK(errno == EBUSY);
        CHECK(usleep(1000) == 0);
    }
}

/* ---- what happens in it ---- */

static shmslot_options slots_of(uint64_t bytes) { return options_of(1, bytes); }

static void refused(int result, const shmslot_segment *segment, const shmslot_error *detail)
{
    check_failure(result, segment, detail, SHMSLOT_E_NO_MEMORY, 0);
    CHECK(strstr(detail->text, "/proc/self/cgroup") != NULL &&
          strstr(detail->text, "raise that limit") != NULL);
    CHECK(detail->numbers[0] > 32 * MIB && detail->numbers[1] < detail->numbers[0]);
    CHECK_U64(detail->numbers[2], 0); /* the group itself */
    CHECK(strchr(detail->text, '#') == NULL && strlen(detail->text) + 1 < sizeof detail->text);
}

static int creates(int link, void *argument)
{
    char path[256];
    shmslot_options small = slots_of(24 * MIB), large = slots_of(2 * LIMIT);
    shmslot_segment *segment = NULL, *first;
    shmslot_error detail;
    int result;
    (void)link;
    (void)argument;
    enter_group();
    own_path(path, sizeof path, directory, "segment");

    result = shmslot_segment_create(path, &large, &segment, &detail);
    refused(result, segment, &detail);
    CHECK_U64(files_in(directory), 0);
    result = shmslot_segment_create_anonymous(&large, &segment, &detail);
    refused(result, segment, &detail);
    result = shmslot_segment_open(path, &large, &segment, &detail);
    refused(result, segment, &detail);

    /* Existing memory counts. */
    first = make_named(path, &small);
    large = slots_of(48 * MIB);
    result = shmslot_segment_create_anonymous(&large, &segment, &detail);
    refused(result, segment, &detail);
    shmslot_segment_close(first);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(make_anonymous(&large));
    return 0;
}

static int reserves(int link, void *argument)
{
    char path[256];
    shmslot_options options = slots_of(4096);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loan;
    (void)link;
    (void)argument;
    enter_group();
    own_path(path, sizeof path, directory, "segment");
    options.max_payload = 2 * LIMIT;
    segment = make_named(path, &options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    CHECK_CODE(shmslot_slot_reserve(writer, 2 * LIMIT, AT_ONCE, &loan), SHMSLOT_E_NO_MEMORY);
    CHECK_U64(info_of(segment).region_bytes, 0);
    CHECK_OK(shmslot_slot_reserve(writer, LIMIT / 2, AT_ONCE, &loan));
    memset(loan.data, 1, LIMIT / 2);
    CHECK_OK(shmslot_slot_commit(writer, &loan, LIMIT / 2, NULL));
    shmslot_reader_leave(reader);
    /* A free region gives up what a larger one needs. */
    CHECK_OK(shmslot_slot_reserve(writer, LIMIT * 3 / 4, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    return 0;
}

static int allocates(int link, void *argument)
{
    shmslot_registry *registry = NULL;
    shmslot_lease lease;
    shmslot_error detail;
    (void)link;
    (void)argument;
    enter_group();
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_region_alloc(registry, 2 * LIMIT, AT_ONCE, &lease, &detail),
               SHMSLOT_E_NO_MEMORY);
    refused(SHMSLOT_E_NO_MEMORY, NULL, &detail);
    CHECK_OK(shmslot_region_alloc(registry, LIMIT / 2, AT_ONCE, &lease, NULL));
    CHECK_OK(shmslot_region_release(registry, &lease));
    shmslot_registry_close(registry);
    return 0;
}

/* The kernel drops pages of files when the room is needed. */
static int beside_a_cache(int link, void *argument)
{
    static char block[1 << 16];
    shmslot_options options = slots_of(40 * MIB);
    char path[] = "/var/tmp/shmslot-test-XXXXXX";
    int fd = mkstemp(path);
    uint64_t done;
    (void)link;
    (void)argument;
    enter_group();
    CHECK(fd >= 0 && unlink(path) == 0);
    for (done = 0; done < 48 * MIB; done += sizeof block) {
        CHECK(write(fd, block, sizeof block) == (ssize_t)sizeof block);
    }
    CHECK(fsync(fd) == 0);
    shmslot_segment_close(make_anonymous(&options));
    CHECK(close(fd) == 0);
    return 0;
}

/* ---- a segment that a killed process has left ---- */

static int leaves(int link, void *argument)
{
    shmslot_options options = slots_of(40 * MIB);
    char path[256];
    (void)link;
    (void)argument;
    enter_group();
    (void)make_named(own_path(path, sizeof path, directory, "segment"), &options);
    (void)kill(getpid(), SIGKILL);
    return 1;
}

static int comes_back(int link, void *argument)
{
    shmslot_options options = slots_of(40 * MIB);
    shmslot_segment *segment = NULL;
    char path[256];
    (void)link;
    enter_group();
    own_path(path, sizeof path, directory, "segment");
    CHECK_OK(argument == NULL ? shmslot_segment_create(path, &options, &segment, NULL)
                              : shmslot_segment_open(path, &options, &segment, NULL));
    shmslot_segment_close(segment);
    return 0;
}

int main(void)
{
    const char *reason;
    char path[256];
    int i;
    check_begin();
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    reason = make_group();
    if (reason != NULL) SKIP(reason);
    CHECK_U64((uint64_t)run_child(creates, NULL), 0);
    CHECK_U64((uint64_t)run_child(reserves, NULL), 0);
    CHECK_U64((uint64_t)run_child(allocates, NULL), 0);
    CHECK_U64((uint64_t)run_child(beside_a_cache, NULL), 0);
    for (i = 0; i < 2; i++) {
        CHECK_U64((uint64_t)run_child(leaves, NULL), 128 + SIGKILL);
        CHECK_U64((uint64_t)run_child(comes_back, i == 0 ? NULL : path), 0);
    }
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    remove_group();
    return 0;
}
