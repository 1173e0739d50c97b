/* Who does not write cannot spoil by accident: payloads and user headers are read-only in a process
 * until it opens a writer, and a process that only looks cannot write to the segment at all. */
#include "faults.h"

#include <sys/mman.h>

enum { SAMPLES = 4, HEADER = 64 };

static shmslot_options options_with_headers(void)
{
    shmslot_options options = options_of(8, 100);
    options.user_header_size = HEADER;
    return options;
}

static void write_sample(shmslot_writer *writer, int value)
{
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, 100, AT_ONCE, &loan));
    memset(loan.data, value, 100);
    memset(loan.user_header, value, HEADER);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 100, NULL));
}

static int is_filled_with(const void *bytes, int value, size_t size)
{
    size_t at;
    for (at = 0; at < size; at++) {
        if (((const unsigned char *)bytes)[at] != value) return 0;
    }
    return 1;
}

static void check_bytes(const shmslot_sample *sample, int value)
{
    CHECK_U64(sample->len, 100);
    CHECK(is_filled_with(sample->data, value, 100));
    CHECK(is_filled_with(sample->user_header, value, HEADER));
}

static void store(const void *where)
{
    *(volatile unsigned char *)(uintptr_t)where = 0xEE;
}

/* ---- a reader ---- */

typedef struct stray {
    const char *path; /* or, if NULL, */
    int fd;
    enum { DATA, DATA_END, USER_HEADER, OTHER_SLOT } where;
} stray;

static shmslot_segment *attach_to(const stray *what)
{
    shmslot_segment *segment = NULL;
    if (what->path != NULL) return attach(what->path);
    CHECK_OK(shmslot_segment_attach_fd(what->fd, NULL, &segment, NULL));
    return segment;
}

static int store_as_reader(int link, void *argument)
{
    const stray *what = argument;
    shmslot_segment *segment = attach_to(what);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    uint64_t stride;
    CHECK_OK(shmslot_segment_slot_total_size(segment, &stride));
    say(link);
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    sample = hold(reader);
    check_bytes(&sample, 1);
    say(link);
    hear(link);
    switch (what->where) {
    case DATA: store(sample.data); break;
    case DATA_END: store((const char *)sample.data + 99); break;
    case USER_HEADER: store(sample.user_header); break;
    default: store((const char *)sample.data + stride);
    }
    return 0;
}

static void check_reader(const stray *what, shmslot_segment *segment)
{
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    shmslot_sample samples[SAMPLES];
    child other = start_child(store_as_reader, (void *)(uintptr_t)what);
    int i, result;
    hear(other.link);
    for (i = 0; i < SAMPLES; i++) write_sample(writer, i + 1);
    hear(other.link);
    samples[0] = hold(reader);
    say(other.link);
    result = end_child(other);
    if (result != 128 + SIGSEGV)
        fprintf(stderr, "store %d ended with %d\n", (int)what->where, result);
    CHECK_U64((uint64_t)result, 128 + SIGSEGV);
    check_bytes(&samples[0], 1);
    for (i = 1; i < SAMPLES; i++) samples[i] = hold(reader);
    for (i = 0; i < SAMPLES; i++) {
        check_bytes(&samples[i], i + 1);
        CHECK_OK(shmslot_slot_mark(reader, &samples[i]));
    }
    /* And on it goes. */
    write_sample(writer, 9);
    samples[0] = hold(reader);
    check_bytes(&samples[0], 9);
    CHECK_OK(shmslot_slot_mark(reader, &samples[0]));
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

static void check_readers(void)
{
    char name[64];
    shmslot_options options = options_with_headers();
    int where;
    for (where = DATA; where <= OTHER_SLOT; where++) {
        stray what;
        shmslot_segment *segment;
        what.path = unique_name(name, sizeof name, "read-only");
        what.fd = -1;
        what.where = where;
        check_reader(&what, make_named(name, &options));
        CHECK_OK(shmslot_segment_unlink(name, NULL));

        segment = make_anonymous(&options);
        what.path = NULL;
        what.fd = shmslot_segment_fd(segment);
        check_reader(&what, segment);
    }
}

/* The creator of a segment is no exception: it, too, has to open a writer. */
static int store_as_creator(int link, void *argument)
{
    shmslot_options options = options_with_headers();
    shmslot_segment *segment = make_anonymous(&options), *writing = NULL;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_sample sample;
    (void)link;
    (void)argument;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), NULL, &writing, NULL));
    reader = join(segment, 0);
    writer = open_writer(writing); /* a mapping of its own */
    write_sample(writer, 1);
    sample = hold(reader);
    check_bytes(&sample, 1);
    store(sample.data);
    return 0;
}

/* What the rule does not cover, and says so: with a writer open, every payload of that mapping can
 * be written. */
static void check_writer_may_write(void)
{
    shmslot_options options = options_with_headers();
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_sample sample;
    write_sample(writer, 1);
    sample = hold(reader);
    store(sample.data);
    CHECK(*(const unsigned char *)sample.data == 0xEE);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- a process that only looks ---- */

/* Where the file of the segment is mapped in this process, once and without a gap, and how: all
 * parts alike. */
static char *mapping_of(const char *path, size_t *ret_size, char *ret_access)
{
    char line[8192], access[8];
    unsigned long first = 0, start, end = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, path) == NULL) continue;
        if (first != 0) {
            unsigned long end_before = end;
            CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, access) == 3);
            CHECK(start == end_before && strcmp(access, ret_access) == 0);
        } else {
            CHECK(sscanf(line, "%lx-%lx %4s", &first, &end, ret_access) == 3);
        }
    }
    CHECK(fclose(maps) == 0);
    CHECK(first != 0);
    *ret_size = (size_t)(end - first);
    return (char *)(uintptr_t)first;
}

static int store_while_looking(int link, void *argument)
{
    const char *path = argument;
    char access[8];
    size_t size;
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    (void)link;
    look.flags = SHMSLOT_FLAG_OBSERVER;
    CHECK_OK(shmslot_segment_attach(path, &look, &segment, NULL));
    /* a hot word, which every participant may write */
    store(mapping_of(path, &size, access) + 0x200);
    return 0;
}

static int only_look(int link, void *argument)
{
    const char *path = argument;
    char access[8];
    char *start;
    size_t size;
    uint32_t generation;
    shmslot_attach_options look = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_writer *writer = NULL;
    shmslot_reader *reader = NULL;
    shmslot_ref reference;
    int fd;
    (void)link;
    look.flags = SHMSLOT_FLAG_OBSERVER | SHMSLOT_FLAG_PREFAULT;
    CHECK_OK(shmslot_segment_attach(path, &look, &segment, NULL));
    CHECK_U64(info_of(segment).participants, 1); /* not counted itself */
    CHECK_U64(info_of(segment).next_sequence, 2);

    start = mapping_of(path, &size, access);
    CHECK_U64(size, info_of(segment).total_size);
    CHECK(strcmp(access, "r--s") == 0);
    CHECK(mprotect(start, size, PROT_READ | PROT_WRITE) != 0 && errno == EACCES);
    fd = shmslot_segment_fd(segment);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(pwrite(fd, "x", 1, 0x200) != 1 && errno == EBADF);
    CHECK(ftruncate(fd, 0) != 0);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0 &&
          errno == EBADF);
    CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED &&
          errno == EACCES);

    CHECK_CODE(shmslot_writer_open(segment, &writer, NULL), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_reader_join(segment, 0, &reader, NULL), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_segment_generation(segment, &generation), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_segment_wait_for_change(segment, 0, AT_ONCE, NULL), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_ref_reserve(segment, 0, &reference), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_CODE(shmslot_ref_mark_reader_disconnected(segment, 0), SHMSLOT_E_NOT_SUPPORTED);
    shmslot_segment_close(segment);
    return 0;
}

static void check_looking(void)
{
    char directory[128], path[256];
    shmslot_options options = options_with_headers();
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_sample sample;
    unsigned char *before, *after;
    size_t size;
    own_directory(directory, sizeof directory);
    segment = make_named(own_path(path, sizeof path, directory, "looked-at"), &options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    write_sample(writer, 1);
    size = (size_t)info_of(segment).total_size;
    before = malloc(size);
    after = malloc(size);
    CHECK(before != NULL && after != NULL);
    CHECK(pread(shmslot_segment_fd(segment), before, size, 0) == (ssize_t)size);
    CHECK_U64((uint64_t)run_child(only_look, path), 0);
    CHECK_U64((uint64_t)run_child(store_while_looking, path), 128 + SIGSEGV);
    CHECK(pread(shmslot_segment_fd(segment), after, size, 0) == (ssize_t)size);
    CHECK(memcmp(before, after, size) == 0); /* not one bit */
    sample = hold(reader);
    check_bytes(&sample, 1);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    free(before);
    free(after);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

int main(void)
{
    check_begin();
    no_core_files();
    check_readers();
    CHECK_U64((uint64_t)run_child(store_as_creator, NULL), 128 + SIGSEGV);
    check_writer_may_write();
    check_looking();
    return 0;
}
