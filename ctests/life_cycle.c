/* A named segment from create to unlink: files, descriptors, mappings, dead segments, any order of
 * closing. */
#include "samples.h"

#include <dirent.h>

/* Mappings of that very file; the kernel may show it under the name that it had before it was
 * linked. */
static int count_mappings(ino_t inode)
{
    char line[1024];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long number = 0;
        if (sscanf(line, "%*s %*s %*s %*s %lu", &number) == 1 &&
            strstr(line, CHECK_SHM_DIR) != NULL) {
            count += number == (unsigned long)inode;
        }
    }
    CHECK(fclose(maps) == 0);
    return count;
}

/* Calls `look` with each open descriptor. */
static void each_descriptor(void (*look)(int fd))
{
    const struct dirent *entry;
    DIR *stream = opendir("/proc/self/fd");
    CHECK(stream != NULL);
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(stream))
            look(atoi(entry->d_name));
    }
    CHECK(closedir(stream) == 0);
}

static unsigned char was_open[1024];

/* Higher ones belong to a debugger. */
static void note_open(int fd)
{
    if (fd < (int)sizeof was_open) was_open[fd] = 1;
}

static void check_close_on_exec(int fd)
{
    if (fd < (int)sizeof was_open && !was_open[fd]) CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

static void check_version(void)
{
    CHECK_U64(shmslot_version(), SHMSLOT_VERSION);
}

static void check_a_name_is_a_file_of_the_shared_memory_directory(void)
{
    char name[64], path[256], expected[256];
    size_t length = 0;
    struct stat status;
    shmslot_options options = options_of(8, 100);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "life"), &options);

    snprintf(expected, sizeof expected, CHECK_SHM_DIR "/shmslot.%s", name);
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK(strcmp(path, expected) == 0);
    CHECK_U64(length, strlen(expected));
    CHECK(stat(path, &status) == 0);
    CHECK(S_ISREG(status.st_mode));
    CHECK_U64(status.st_mode & 07777, 0600);
    CHECK_U64(status.st_uid, geteuid());
    CHECK_U64((uint64_t)status.st_size, info_of(segment).total_size);
    /* Allocated up front: a full file system is an error of create, never a SIGBUS later. */
    CHECK((uint64_t)status.st_blocks * 512 >= info_of(segment).total_size);

    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK(stat(path, &status) != 0 && errno == ENOENT);
    CHECK_CODE(shmslot_segment_unlink(name, NULL), SHMSLOT_E_NOT_FOUND);
    shmslot_segment_close(segment);
}

static void check_mode_is_what_was_asked_for(void)
{
    char name[64], path[256];
    size_t length = 0;
    struct stat status;
    mode_t old_mask = umask(0077);
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment;
    options.mode = 0640;
    segment = make_named(unique_name(name, sizeof name, "life"), &options);
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK(stat(path, &status) == 0);
    CHECK_U64(status.st_mode & 07777, 0640);
    CHECK_U64(info_of(segment).mode, 0640);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
    (void)umask(old_mask);
}

static void check_one_file_one_descriptor_few_mappings(void)
{
    char directory[128], path[256];
    unsigned descriptors = files_in("/proc/self/fd");
    struct stat status;
    shmslot_options options = options_of(8, 100);
    shmslot_segment *creator, *other;
    shmslot_writer *writer;
    shmslot_reader *reader;

    each_descriptor(note_open);
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    creator = make_named(path, &options);
    writer = open_writer(creator);
    reader = join(creator, 0);
    CHECK_U64(files_in(directory), 1);
    CHECK_U64(files_in("/proc/self/fd"), descriptors + 1);
    CHECK(stat(path, &status) == 0);
    CHECK(count_mappings(status.st_ino) >= 1);
    CHECK(count_mappings(status.st_ino) <= 3);
    other = attach(path);
    CHECK(files_in("/proc/self/fd") <= descriptors + 2);
    each_descriptor(check_close_on_exec);

    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(other);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    CHECK_U64(files_in(directory), 0);
    shmslot_segment_close(creator);
    CHECK_U64(files_in("/proc/self/fd"), descriptors);
    CHECK_U64((uint64_t)count_mappings(status.st_ino), 0);
}

/* As snprintf: as much as fits, always terminated, and the whole length is returned. */
static void check_path_in_little_room(void)
{
    char name[64], path[256], part[256];
    size_t length = 0, whole;
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "life"), &options);
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &whole));
    CHECK_U64(whole, strlen(path));
    memset(part, 'x', sizeof part);
    CHECK_OK(shmslot_segment_path(segment, part, 5, &length));
    CHECK_U64(length, whole);
    CHECK(memcmp(part, "/dev", 5) == 0);
    CHECK(part[5] == 'x');
    CHECK_OK(shmslot_segment_path(segment, part, whole, &length));
    CHECK_U64(strlen(part), whole - 1);
    CHECK_OK(shmslot_segment_path(segment, part, whole + 1, &length));
    CHECK(strcmp(part, path) == 0);
    CHECK_OK(shmslot_segment_path(segment, NULL, 0, &length));
    CHECK_U64(length, whole);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

static void check_attach_sees_what_create_made(void)
{
    char name[64];
    shmslot_options options = options_of(5, 1000);
    shmslot_segment *creator, *other;
    shmslot_info made, seen;
    uint64_t count, capacity, total;

    options.payload_align = 128;
    options.user_header_size = 24;
    options.max_readers = 7;
    options.max_participants = 9;
    options.history = 3;
    options.policy = SHMSLOT_POLICY_DROP_OLDEST;
    options.flags = SHMSLOT_FLAG_TIMESTAMPS;
    options.type_name = "robot/pose";
    memset(options.type_hash, 0x5C, sizeof options.type_hash);
    creator = make_named(unique_name(name, sizeof name, "life"), &options);
    other = attach(name);
    CHECK_OK(shmslot_segment_unlink(name, NULL));

    made = info_of(creator);
    seen = info_of(other);
    CHECK_U64(seen.slot_count, 5);
    CHECK_U64(seen.slot_capacity, 1000);
    CHECK_U64(seen.payload_align, 128);
    CHECK_U64(seen.user_header_size, 24);
    CHECK_U64(seen.max_readers, 7);
    CHECK_U64(seen.max_participants, 9);
    CHECK_U64(seen.history, 3);
    CHECK_U64(seen.policy, SHMSLOT_POLICY_DROP_OLDEST);
    CHECK_U64(seen.flags & SHMSLOT_FLAG_TIMESTAMPS, SHMSLOT_FLAG_TIMESTAMPS);
    CHECK_U64(seen.flags & SHMSLOT_FLAG_SINGLE_WRITER, 0);
    CHECK(strcmp(seen.type_name, "robot/pose") == 0);
    CHECK(memcmp(seen.type_hash, options.type_hash, sizeof seen.type_hash) == 0);
    CHECK_U64(seen.segment_id, made.segment_id);
    CHECK_U64(seen.total_size, made.total_size);
    CHECK_U64(seen.layout_version, made.layout_version);
    CHECK_U64(seen.next_sequence, 1);
    CHECK_U64(seen.readers, 0);

    CHECK_OK(shmslot_segment_slot_count(other, &count));
    CHECK_OK(shmslot_segment_slot_capacity(other, &capacity));
    CHECK_OK(shmslot_segment_slot_total_size(other, &total));
    CHECK_U64(count, 5);
    CHECK_U64(capacity, 1000);
    CHECK(total >= 1000);
    CHECK(total * count <= seen.total_size);
    shmslot_segment_close(creator);
    shmslot_segment_close(other);
}

static void check_info_counts_readers_and_sequences(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *first = join(segment, 0), *second = join(segment, 0);
    uint64_t both =
        UINT64_C(1) << shmslot_reader_index(first) | UINT64_C(1) << shmslot_reader_index(second);

    CHECK(shmslot_reader_index(first) >= 0 && shmslot_reader_index(second) >= 0);
    CHECK(shmslot_reader_index(first) != shmslot_reader_index(second));
    CHECK_U64(info_of(segment).readers, both);
    CHECK_U64(put(writer, 1), 1);
    CHECK_U64(put(writer, 2), 2);
    CHECK_U64(info_of(segment).next_sequence, 3);
    shmslot_reader_leave(first);
    CHECK_U64(info_of(segment).readers, UINT64_C(1) << shmslot_reader_index(second));
    shmslot_reader_leave(second);
    CHECK_U64(info_of(segment).readers, 0);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_info_of_another_size(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = make_anonymous(&options);
    struct {
        shmslot_info info;
        unsigned char tail[16];
    } larger;
    unsigned char smaller[sizeof(shmslot_info)];
    uint32_t slot_count;
    size_t i, known = offsetof(shmslot_info, slot_count) + sizeof(uint32_t);

    memset(&larger, 0xA5, sizeof larger);
    CHECK_OK(shmslot_segment_info(segment, &larger.info, sizeof larger));
    CHECK_U64(larger.info.slot_count, 4);
    for (i = 0; i < sizeof larger.tail; i++) CHECK_U64(larger.tail[i], 0);

    memset(smaller, 0xA5, sizeof smaller);
    CHECK_OK(shmslot_segment_info(segment, (shmslot_info *)(void *)smaller, known));
    memcpy(&slot_count, smaller + offsetof(shmslot_info, slot_count), sizeof slot_count);
    CHECK_U64(slot_count, 4);
    for (i = known; i < sizeof smaller; i++) CHECK_U64(smaller[i], 0xA5);
    shmslot_segment_close(segment);
}

static void check_exists_and_open(void)
{
    char name[64];
    shmslot_options options = options_of(4, 8);
    shmslot_segment *creator = NULL, *second = NULL;
    shmslot_segment *untouched = (shmslot_segment *)(void *)&options;
    shmslot_error detail;

    unique_name(name, sizeof name, "life");
    CHECK_CODE(shmslot_segment_open(name, &options, &creator, NULL), 1);
    CHECK_CODE(shmslot_segment_open(name, &options, &second, NULL), 0);
    CHECK_U64(info_of(creator).segment_id, info_of(second).segment_id);
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_segment_create(name, &options, &untouched, &detail), SHMSLOT_E_EXISTS);
    CHECK(untouched == (shmslot_segment *)(void *)&options);
    CHECK(detail.code == SHMSLOT_E_EXISTS);
    CHECK(detail.text[0] != '\0');
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_CODE(shmslot_segment_attach(name, NULL, &untouched, &detail), SHMSLOT_E_NOT_FOUND);
    CHECK(untouched == (shmslot_segment *)(void *)&options);
    CHECK(detail.code == SHMSLOT_E_NOT_FOUND);
    shmslot_segment_close(creator);
    shmslot_segment_close(second);
}

/* Attached processes continue after unlink; the name is free for a new segment. */
static void check_unlink_leaves_the_attached_alone(void)
{
    char name[64];
    shmslot_options options = options_of(4, 8);
    shmslot_segment *old = make_named(unique_name(name, sizeof name, "life"), &options),
                    *other = attach(name), *fresh;
    shmslot_writer *writer = open_writer(old);
    shmslot_reader *reader = join(other, 0);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    fresh = make_named(name, &options);
    CHECK(info_of(fresh).segment_id != info_of(old).segment_id);
    (void)put(writer, 77);
    CHECK_U64(take(reader), 77);
    CHECK_U64(info_of(fresh).next_sequence, 1);
    shmslot_segment_close(old);
    shmslot_segment_close(other);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(fresh);
}

static int make_and_die(int link, void *name)
{
    shmslot_options options = options_of(4, 8);
    (void)link;
    CHECK_U64(put(open_writer(make_named(name, &options)), 5), 1);
    return 0; /* nothing is closed */
}

static void check_a_dead_segment(void)
{
    char name[64];
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = NULL;
    uint64_t dead_id;

    unique_name(name, sizeof name, "life");
    CHECK_U64((uint64_t)run_child(make_and_die, name), 0);
    options.if_orphaned = SHMSLOT_ORPHANED_REFUSE;
    CHECK_CODE(shmslot_segment_create(name, &options, &segment, NULL), SHMSLOT_E_EXISTS);
    options.if_orphaned = SHMSLOT_ORPHANED_ADOPT;
    CHECK_OK(shmslot_segment_create(name, &options, &segment, NULL));
    CHECK_U64(info_of(segment).next_sequence, 2);
    dead_id = info_of(segment).segment_id;
    /* alive again */
    CHECK_CODE(shmslot_segment_create(name, &options, &segment, NULL), SHMSLOT_E_EXISTS);
    shmslot_segment_close(segment);

    options.if_orphaned = SHMSLOT_ORPHANED_REPLACE;
    CHECK_OK(shmslot_segment_create(name, &options, &segment, NULL));
    CHECK_U64(info_of(segment).next_sequence, 1);
    CHECK(info_of(segment).segment_id != dead_id);
    CHECK_CODE(shmslot_segment_create(name, &options, &segment, NULL), SHMSLOT_E_EXISTS);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

static void check_type_hash(void)
{
    char name[64];
    shmslot_options options = options_of(4, 8), other = options_of(4, 8);
    shmslot_attach_options wanted = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *creator, *segment = NULL;
    memset(options.type_hash, 1, sizeof options.type_hash);
    memset(other.type_hash, 1, sizeof other.type_hash);
    other.type_hash[15] = 2;
    memcpy(wanted.type_hash, other.type_hash, sizeof wanted.type_hash);
    creator = make_named(unique_name(name, sizeof name, "life"), &options);
    CHECK_CODE(shmslot_segment_attach(name, &wanted, &segment, NULL), SHMSLOT_E_TYPE_MISMATCH);
    CHECK_CODE(shmslot_segment_open(name, &other, &segment, NULL), SHMSLOT_E_TYPE_MISMATCH);
    CHECK(segment == NULL);
    wanted.type_hash[15] = 1;
    CHECK_OK(shmslot_segment_attach(name, &wanted, &segment, NULL));
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(creator);
}

static void check_any_order_of_closing(void)
{
    int order;
    for (order = 0; order < 6; order++) {
        static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        shmslot_options options = options_of(4, 8);
        shmslot_segment *segment = make_anonymous(&options);
        shmslot_writer *writer = open_writer(segment);
        shmslot_reader *reader = join(segment, 0);
        int step;
        (void)put(writer, 3);
        CHECK_U64(take(reader), 3);
        (void)put(writer, 4);
        for (step = 0; step < 3; step++) {
            if (orders[order][step] == 0) shmslot_segment_close(segment);
            if (orders[order][step] == 1) shmslot_writer_close(writer);
            if (orders[order][step] == 2) shmslot_reader_leave(reader);
        }
    }
}

static void check_observer(void)
{
    char name[64];
    shmslot_options options = options_of(4, 8);
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *creator = make_named(unique_name(name, sizeof name, "life"), &options),
                    *seen = NULL;
    shmslot_writer *writer = NULL;
    shmslot_reader *reader = NULL;
    uint32_t participants = info_of(creator).participants;

    look.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(name, &look, &seen, NULL));
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_U64(info_of(seen).slot_count, 4);
    CHECK_U64(info_of(creator).participants, participants); /* it joined nothing */
    CHECK_CODE(shmslot_writer_open(seen, &writer, NULL), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_reader_join(seen, 0, &reader, NULL), SHMSLOT_E_NOT_SUPPORTED);
    writer = open_writer(creator);
    (void)put(writer, 1);
    CHECK_U64(info_of(seen).next_sequence, 2);
    shmslot_writer_close(writer);
    shmslot_segment_close(seen);
    shmslot_segment_close(creator);
}

CHECK_MAIN()
{
    RUN(check_version());
    RUN(check_a_name_is_a_file_of_the_shared_memory_directory());
    RUN(check_mode_is_what_was_asked_for());
    RUN(check_one_file_one_descriptor_few_mappings());
    RUN(check_path_in_little_room());
    RUN(check_attach_sees_what_create_made());
    RUN(check_info_counts_readers_and_sequences());
    RUN(check_info_of_another_size());
    RUN(check_exists_and_open());
    RUN(check_unlink_leaves_the_attached_alone());
    RUN(check_a_dead_segment());
    RUN(check_type_hash());
    RUN(check_any_order_of_closing());
    RUN(check_observer());
}
