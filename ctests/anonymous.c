/* An anonymous segment: it is sealed before another process sees it, passed on by descriptor, and
 * in no directory. */
#include "samples.h"

static int read_through_the_inherited_descriptor(int link, void *argument)
{
    int fd = *(int *)argument;
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    CHECK_OK(shmslot_segment_attach_fd(fd, NULL, &segment, NULL));
    CHECK(fcntl(fd, F_GETFD) >= 0); /* the descriptor stays the caller's */
    CHECK(close(fd) == 0);
    reader = join(segment, 0);
    say(link);
    CHECK_U64(take_wait(reader), 4711);
    CHECK_U64(take_wait(reader), 4712);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_passing_the_descriptor(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    int fd = shmslot_segment_fd(segment);
    child reading;
    CHECK_OK(fd);
    reading = start_child(read_through_the_inherited_descriptor, &fd);
    hear(reading.link);
    CHECK_U64((uint64_t)__builtin_popcountll(info_of(segment).readers), 1);
    (void)put(writer, 4711);
    (void)put(writer, 4712);
    CHECK_CHILD(reading);
    CHECK_U64(info_of(segment).readers, 0);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_seals_and_mode(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options);
    int fd = shmslot_segment_fd(segment);
    int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct stat status;
    char path[16] = "untouched";
    size_t length = 99;
    CHECK_OK(fd);
    CHECK((fcntl(fd, F_GET_SEALS) & needed) == needed);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(ftruncate(fd, 0) != 0 && errno == EPERM);
    CHECK(fstat(fd, &status) == 0);
    CHECK_U64(status.st_mode & 0077, 0);
    CHECK_U64((uint64_t)status.st_size, info_of(segment).total_size);
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK(path[0] == '\0');
    CHECK_U64(length, 0);
    shmslot_segment_close(segment);
}

/* The mapping does not depend on the descriptor that it was attached through, nor on the creator's
 * handle. */
static void check_attach_outlives_the_creator(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *creator = make_anonymous(&options), *other = NULL;
    shmslot_writer *writer;
    shmslot_reader *reader;
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(creator), NULL, &other, NULL));
    CHECK_U64(info_of(other).segment_id, info_of(creator).segment_id);
    shmslot_segment_close(creator);
    reader = join(other, 0);
    writer = open_writer(other);
    (void)put(writer, 9);
    CHECK_U64(take(reader), 9);
    shmslot_segment_close(other);
    (void)put(writer, 10);
    CHECK_U64(take(reader), 10);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
}

CHECK_MAIN()
{
    RUN(check_passing_the_descriptor());
    RUN(check_seals_and_mode());
    RUN(check_attach_outlives_the_creator());
}
