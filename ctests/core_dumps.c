/* A core dump contains the control part of a segment, and neither payloads nor the room of regions,
 * however a process is attached. Dumping the room would fill it. The kernel shows the flag of the
 * mapping, and what it would write. */
#include "samples.h"

enum { REGIONS = 4, SLOTS = 64, CAPACITY = 4096 };

#define LARGEST (UINT64_C(16) << 20)

static shmslot_options with_regions(void)
{
    shmslot_options options = options_of(SLOTS, CAPACITY);
    options.max_payload = LARGEST;
    options.region_count = REGIONS;
    return options;
}

/* Bytes of this process's mappings that begin in a range, and that a core dump with the fullest
 * filter would contain. */
static uint64_t dumped(uintptr_t from, uintptr_t to)
{
    char line[512];
    unsigned long long first, last, start = 0, end = 0;
    uint64_t bytes = 0;
    FILE *maps = fopen("/proc/self/smaps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%llx-%llx ", &first, &last) == 2) {
            start = first;
            end = last;
            continue;
        }
        if (strncmp(line, "VmFlags:", 8) != 0 || start < from || start >= to) continue;
        if (strstr(line, " dd") == NULL) bytes += end - start;
    }
    CHECK(fclose(maps) == 0);
    return bytes;
}

/* The mapping of a segment's file. Mapping its first page once more prevents that the passed
 * descriptor is taken for another. */
static void mapping_of(const shmslot_segment *segment, uintptr_t *from, uintptr_t *to)
{
    char line[512];
    struct stat status;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(fstat(shmslot_segment_fd(segment), &status) == 0);
    CHECK(maps != NULL);
    *from = *to = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long long start, end, offset, inode;
        if (sscanf(line, "%llx-%llx %*s %llx %*s %llu", &start, &end, &offset, &inode) != 4)
            continue;
        if (inode != status.st_ino) continue;
        if (offset == 0 && end - start == (unsigned long long)sysconf(_SC_PAGESIZE)) continue;
        if (*from == 0) *from = (uintptr_t)start;
        *to = (uintptr_t)end;
    }
    CHECK(fclose(maps) == 0);
    CHECK_U64(*to - *from, info_of(segment).total_size);
}

/* The control part is dumped, and nothing else. */
static void check_dump(const shmslot_segment *segment)
{
    uintptr_t from, to;
    uint64_t bytes;
    mapping_of(segment, &from, &to);
    bytes = dumped(from, to);
    CHECK(bytes > 0);
    CHECK(bytes <= info_of(segment).total_size - REGIONS * LARGEST - SLOTS * CAPACITY);
}

static void check_named(void)
{
    char name[64];
    shmslot_options options = with_regions();
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    segment = make_named(unique_name(name, sizeof name, "dump"), &options);
    check_dump(segment);
    shmslot_segment_close(segment);
    segment = attach(name);
    check_dump(segment);
    shmslot_segment_close(segment);
    /* An observer has mapped the room, too. */
    look.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(name, &look, &segment, NULL));
    check_dump(segment);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
}

static void check_anonymous(void)
{
    shmslot_options options = with_regions();
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment); /* which makes payloads writable */
    check_dump(segment);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* Private memory has no name: from the payloads on. */
static void check_local(void)
{
    shmslot_options options = with_regions();
    shmslot_segment *segment = NULL;
    shmslot_writer *writer;
    shmslot_loan small, large;
    CHECK_OK(shmslot_segment_create_local(&options, &segment, NULL));
    writer = open_writer(segment);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &small));
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &large));
    CHECK_U64(dumped((uintptr_t)small.data, (uintptr_t)large.data + REGIONS * LARGEST), 0);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_named());
    RUN(check_anonymous());
    RUN(check_local());
}
