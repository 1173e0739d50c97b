/* A process that locks all memory it maps (mlockall) has the slots of its segments locked, but not
 * the room of regions, which would thereby become memory. */
/* not under memcheck: it limits locked memory, and valgrind's notes of each byte are locked, too */
#include "faults.h"

#include <sys/mman.h>

enum { REGIONS = 4 };

#define LARGEST (UINT64_C(16) << 20)

static char path[256];

static shmslot_options with_regions(void)
{
    shmslot_options options = options_of(8, 4096);
    options.max_payload = LARGEST;
    options.region_count = REGIONS;
    return options;
}

static uint64_t memory_of_file(void)
{
    struct stat status;
    CHECK(stat(path, &status) == 0);
    return (uint64_t)status.st_blocks * 512;
}

/* Pages of this process that are present. */
static uint64_t resident(void)
{
    unsigned long long pages = 0, in_memory = 0;
    FILE *sizes = fopen("/proc/self/statm", "re");
    CHECK(sizes != NULL && fscanf(sizes, "%llu %llu", &pages, &in_memory) == 2 &&
          fclose(sizes) == 0);
    return in_memory * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void use_a_region(shmslot_segment *segment)
{
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, LARGEST, AT_ONCE, &loan));
    memset(loan.data, 7, LARGEST);
    CHECK_OK(shmslot_slot_commit(writer, &loan, LARGEST, NULL));
    sample = hold(reader);
    CHECK(((const char *)sample.data)[LARGEST - 1] == 7);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
}

static int with_all_locked(int link, void *argument)
{
    shmslot_options options = with_regions();
    shmslot_segment *segment, *other = NULL, *local = NULL;
    uint64_t before;
    (void)link;
    (void)argument;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
    segment = make_named(path, &options);
    CHECK(memory_of_file() < LARGEST);
    CHECK_OK(shmslot_segment_attach(path, NULL, &other, NULL));
    CHECK(memory_of_file() < LARGEST);
    before = resident();
    CHECK_OK(shmslot_segment_create_local(&options, &local, NULL));
    CHECK(resident() - before < LARGEST);

    /* They work as everywhere else. */
    use_a_region(segment);
    CHECK(memory_of_file() >= LARGEST && memory_of_file() < 2 * LARGEST);
    use_a_region(other);
    use_a_region(local);
    CHECK_OK(shmslot_segment_trim(segment, NULL));
    CHECK(memory_of_file() < LARGEST);
    shmslot_segment_close(local);
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    return 0;
}

int main(void)
{
    char directory[128];
    int status;
    check_begin();
    own_path(path, sizeof path, own_directory(directory, sizeof directory), "segment");
    status = run_child(with_all_locked, NULL);
    if (status == 77) SKIP("this user may not lock as much memory");
    CHECK_U64((uint64_t)status, 0);
    return 0;
}
