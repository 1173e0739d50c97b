/* A lack of memory in the file system is an error when a segment is made, and never a fault later.
 * Runs in its own mount namespace, on tiny file systems that disappear with it. */
#include "faults.h"

#include <sys/mman.h>
#include <sys/statvfs.h>

#define PAGE 4096

static const char *directory;

/* ---- a file system of one's own ---- */

static void with_filesystem(const char *options, void (*test)(void))
{
    CHECK(mount("tmpfs", directory, "tmpfs", 0, options) == 0);
    test();
    CHECK(umount2(directory, MNT_DETACH) == 0);
}

/* What a failed call must leave unchanged. */
typedef struct usage {
    unsigned long long blocks_free, files_free;
    unsigned files, descriptors, mappings;
} usage;

static usage usage_now(void)
{
    struct statvfs status;
    usage now;
    CHECK(statvfs(directory, &status) == 0);
    now.blocks_free = status.f_bfree;
    now.files_free = status.f_ffree;
    now.files = files_in(directory);
    now.descriptors = open_descriptors();
    now.mappings = mappings_of(directory);
    return now;
}

static void check_unchanged(usage before)
{
    usage now = usage_now();
    CHECK_U64(now.blocks_free, before.blocks_free);
    CHECK_U64(now.files_free, before.files_free);
    CHECK_U64(now.files, before.files);
    CHECK_U64(now.descriptors, before.descriptors);
    CHECK_U64(now.mappings, before.mappings);
}

static void path_to(char *buffer, size_t size, const char *file)
{
    CHECK((size_t)snprintf(buffer, size, "%s/%s", directory, file) < size);
}

/* Takes all bytes that are left. */
static void fill_up(const char *path)
{
    static const char page[PAGE];
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (write(fd, page, sizeof page) > 0) {}
    CHECK(errno == ENOSPC);
    CHECK(close(fd) == 0);
}

/* ---- tests ---- */

static void check_no_room(const char *path, const shmslot_options *options)
{
    usage before = usage_now();
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    memset(&detail, 0, sizeof detail);
    check_failure(shmslot_segment_create(path, options, &segment, &detail), segment, &detail,
                  SHMSLOT_E_NO_MEMORY, ENOSPC);
    check_unchanged(before);
    memset(&detail, 0, sizeof detail);
    check_failure(shmslot_segment_open(path, options, &segment, &detail), segment, &detail,
                  SHMSLOT_E_NO_MEMORY, ENOSPC);
    check_unchanged(before);
    CHECK_CODE(shmslot_segment_attach(path, NULL, &segment, NULL), SHMSLOT_E_NOT_FOUND);
}

/* The defaults make 68 pages, and there are 64. */
static void check_too_large(void)
{
    char path[512], other_path[512];
    shmslot_options large = options_of(64, PAGE), small = options_of(8, PAGE);
    shmslot_segment *segment;
    path_to(path, sizeof path, "segment");
    path_to(other_path, sizeof other_path, "other");

    check_no_room(path, &large);
    large.flags = SHMSLOT_FLAG_PREFAULT;
    check_no_room(path, &large);

    /* The name is free for one that fits; the next is told how much is left, and the first does not
     * notice. */
    segment = make_named(path, &small);
    large = options_of(56, PAGE);
    check_no_room(other_path, &large);
    {
        shmslot_writer *writer = open_writer(segment);
        shmslot_reader *reader = join(segment, 0);
        (void)put(writer, 3);
        CHECK_U64(take(reader), 3);
        shmslot_reader_leave(reader);
        shmslot_writer_close(writer);
    }
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* Room for one file beside the directory itself. */
static void check_no_file_left(void)
{
    char path[512], other_path[512];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment;
    path_to(path, sizeof path, "segment");
    path_to(other_path, sizeof other_path, "other");
    segment = make_named(path, &options);
    check_no_room(other_path, &options);
    shmslot_segment_close(segment);
}

/* Every byte of every slot, in a process that attached when nothing was left. */
static int use_all_of_it(int link, void *path)
{
    shmslot_segment *segment = attach(path);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    unsigned i, at;
    (void)link;
    for (i = 0; i < 3 * 40; i++) {
        shmslot_loan loan;
        shmslot_sample sample;
        CHECK_OK(shmslot_slot_reserve(writer, PAGE, AT_ONCE, &loan));
        memset(loan.data, (int)i, PAGE);
        memset(loan.user_header, (int)i, 256);
        CHECK_OK(shmslot_slot_commit(writer, &loan, PAGE, NULL));
        sample = hold(reader);
        for (at = 0; at < PAGE; at++)
            CHECK(((const unsigned char *)sample.data)[at] == (unsigned char)i);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

static void check_no_fault_later(void)
{
    char path[512], filler[512];
    shmslot_options options = options_of(40, PAGE);
    shmslot_segment *segment;
    options.user_header_size = 256;
    path_to(path, sizeof path, "segment");
    path_to(filler, sizeof filler, "filler");
    segment = make_named(path, &options);
    fill_up(filler);
    CHECK_U64((uint64_t)run_child(use_all_of_it, path), 0);
    shmslot_segment_close(segment);
}

/* Writes the two samples, the second of which is in the hole. */
static int write_two(int link, void *path)
{
    shmslot_segment *segment = attach(path);
    shmslot_writer *writer = open_writer(segment);
    (void)put(writer, 1);
    say(link);
    (void)put(writer, 2);
    say(link);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return 0;
}

/* A process that may write to a segment can give its memory back to the file system. If another
 * file takes it, that page is not available any more: a process that touches it gets SIGBUS, and
 * others are not affected. */
static void check_hole_in_a_full_filesystem(void)
{
    char path[512], filler[512];
    shmslot_options options = options_of(8, PAGE);
    shmslot_segment *segment;
    shmslot_reader *reader;
    child writing;
    off_t payload;
    options.payload_align = PAGE;
    path_to(path, sizeof path, "segment");
    path_to(filler, sizeof filler, "filler");
    segment = make_named(path, &options);
    reader = join(segment, 0);
    payload = (off_t)info_of(segment).total_size - 8 * PAGE;
    /* The first samples are in slots 1 and 2. */
    CHECK(fallocate(shmslot_segment_fd(segment), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    payload + 2 * PAGE, 6 * PAGE) == 0);
    fill_up(filler);
    writing = start_child(write_two, path);
    hear(writing.link);
    CHECK_U64((uint64_t)end_child(writing), 128 + SIGBUS);
    CHECK_U64(take(reader), 1);
    check_nothing_to_read(reader);

    /* When there is room again, the page is there again, empty. */
    CHECK(unlink(filler) == 0);
    CHECK_CHILD(start_child(write_two, path));
    CHECK_U64(take(reader), 1);
    CHECK_U64(take(reader), 2);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_read_only_filesystem(void)
{
    char path[512], other_path[512];
    shmslot_options options = options_of(4, 8);
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    usage before;
    look.flags = SHMSLOT_FLAG_OBSERVER;
    path_to(path, sizeof path, "segment");
    path_to(other_path, sizeof other_path, "other");
    shmslot_segment_close(make_named(path, &options));
    CHECK(mount("tmpfs", directory, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) == 0);
    before = usage_now();
    memset(&detail, 0, sizeof detail);
    check_failure(shmslot_segment_create(other_path, &options, &segment, &detail), segment, &detail,
                  SHMSLOT_E_PERMISSION, EROFS);
    memset(&detail, 0, sizeof detail);
    check_failure(shmslot_segment_attach(path, NULL, &segment, &detail), segment, &detail,
                  SHMSLOT_E_PERMISSION, EROFS);
    CHECK_CODE(shmslot_segment_unlink(path, NULL), SHMSLOT_E_PERMISSION);
    CHECK_OK(shmslot_segment_attach(path, &look, &segment, NULL));
    CHECK_U64(info_of(segment).slot_count, 4);
    shmslot_segment_close(segment);
    check_unchanged(before);
}

static int in_a_namespace(int link, void *argument)
{
    (void)link;
    directory = argument;
    if (enter_namespace() != 0) return 77;
    with_filesystem("size=256k", check_too_large);
    with_filesystem("size=256k,nr_inodes=2", check_no_file_left);
    with_filesystem("size=256k", check_no_fault_later);
    with_filesystem("size=256k", check_hole_in_a_full_filesystem);
    with_filesystem("size=256k", check_read_only_filesystem);
    return 0;
}

int main(void)
{
    char buffer[128];
    int status;
    check_begin();
    no_core_files();
    status = run_child(in_a_namespace, (void *)own_directory(buffer, sizeof buffer));
    if (status == 77) SKIP("no mount namespace of one's own can be had here");
    CHECK_U64((uint64_t)status, 0);
    return 0;
}
