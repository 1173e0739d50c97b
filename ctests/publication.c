/* Nobody ever sees a half-made segment, its mode is right from the first instant, and open has no
 * race. */
#include "samples.h"

#include <dirent.h>
#include <poll.h>

#define ROUNDS 300
#define OPENERS 6

struct place {
    char directory[128];
    char path[256];
};

static int was_told_to_stop(int link)
{
    struct pollfd wanted;
    wanted.fd = link;
    wanted.events = POLLIN;
    wanted.revents = 0;
    return poll(&wanted, 1, 0) == 1;
}

/* Attaches again and again: the segment is either not there or complete. */
static int attach_all_the_time(int link, void *argument)
{
    const struct place *place = argument;
    uint64_t attached = 0;
    say(link);
    for (;;) {
        int last = was_told_to_stop(link);
        shmslot_segment *segment = NULL;
        int result = shmslot_segment_attach(place->path, NULL, &segment, NULL);
        if (result == SHMSLOT_OK) {
            shmslot_info info = info_of(segment);
            CHECK_U64(info.slot_count, 16);
            CHECK_U64(info.slot_capacity, 300);
            attached++;
            shmslot_segment_close(segment);
        } else {
            CHECK_CODE(result, SHMSLOT_E_NOT_FOUND);
        }
        if (last) break;
    }
    CHECK(attached > 0);
    return 0;
}

/* Looks at every file of the directory again and again: none is ever open to others. */
static int look_all_the_time(int link, void *argument)
{
    const struct place *place = argument;
    uint64_t seen = 0;
    say(link);
    for (;;) {
        int last = was_told_to_stop(link);
        const struct dirent *entry;
        DIR *stream = opendir(place->directory);
        CHECK(stream != NULL);
        while ((entry = readdir(stream)) != NULL) {
            struct stat status;
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
            if (fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
            CHECK_U64(status.st_mode & 07777, 0600);
            seen++;
        }
        CHECK(closedir(stream) == 0);
        if (last) break;
    }
    CHECK(seen > 0);
    return 0;
}

static void check_while_created(const struct place *place, int (*observer)(int, void *))
{
    shmslot_options options = options_of(16, 300);
    mode_t old_mask = umask(0);
    struct place copy = *place;
    child watching = start_child(observer, &copy);
    int round;
    hear(watching.link);
    for (round = 0; round < ROUNDS; round++) {
        shmslot_segment *segment = make_named(place->path, &options);
        CHECK_OK(shmslot_segment_unlink(place->path, NULL));
        shmslot_segment_close(segment);
    }
    {
        shmslot_segment *segment = make_named(place->path, &options);
        say(watching.link); /* one more look, now that it is there */
        CHECK_CHILD(watching);
        CHECK_OK(shmslot_segment_unlink(place->path, NULL));
        shmslot_segment_close(segment);
    }
    (void)umask(old_mask);
}

static int open_when_told(int link, void *argument)
{
    const struct place *place = argument;
    shmslot_options options = options_of(16, 300);
    shmslot_segment *segment = NULL;
    struct {
        uint64_t created;
        uint64_t id;
    } answer;
    int result;
    say(link);
    hear(link);
    result = shmslot_segment_open(place->path, &options, &segment, NULL);
    CHECK_OK(result);
    answer.created = (uint64_t)result;
    answer.id = info_of(segment).segment_id;
    send_bytes(link, &answer, sizeof answer);
    hear(link); /* stays attached until everybody has opened */
    shmslot_segment_close(segment);
    return 0;
}

static void check_open_has_one_creator(const struct place *place)
{
    struct place copy = *place;
    int round, i;
    for (round = 0; round < 20; round++) {
        child openers[OPENERS];
        uint64_t created = 0, id = 0;
        for (i = 0; i < OPENERS; i++) {
            openers[i] = start_child(open_when_told, &copy);
            hear(openers[i].link);
        }
        for (i = 0; i < OPENERS; i++) say(openers[i].link);
        for (i = 0; i < OPENERS; i++) {
            struct {
                uint64_t created;
                uint64_t id;
            } answer;
            receive_bytes(openers[i].link, &answer, sizeof answer);
            created += answer.created;
            if (i == 0) id = answer.id;
            CHECK_U64(answer.id, id);
        }
        CHECK_U64(created, 1);
        for (i = 0; i < OPENERS; i++) say(openers[i].link);
        for (i = 0; i < OPENERS; i++) CHECK_CHILD(openers[i]);
        CHECK_OK(shmslot_segment_unlink(place->path, NULL));
    }
}

/* What stands at a name already is neither opened through a link, nor overwritten, nor removed. */
static void check_create_overwrites_nothing(const struct place *place)
{
    static const char text[] = "somebody's own file";
    char target[256], back[sizeof text];
    shmslot_options options = options_of(16, 300);
    shmslot_segment *segment = NULL;
    int fd;

    own_path(target, sizeof target, place->directory, "target");
    fd = open(target, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, text, sizeof text) == (ssize_t)sizeof text);
    CHECK(shmslot_segment_create(target, &options, &segment, NULL) < 0);
    CHECK(symlink(target, place->path) == 0);
    CHECK(shmslot_segment_create(place->path, &options, &segment, NULL) < 0);
    CHECK(shmslot_segment_attach(place->path, NULL, &segment, NULL) < 0);
    CHECK(segment == NULL);
    CHECK_CODE(shmslot_segment_unlink(target, NULL), SHMSLOT_E_NOT_A_SEGMENT);
    CHECK(shmslot_segment_unlink(place->path, NULL) < 0);
    CHECK_CODE(shmslot_segment_unlink(place->directory, NULL), SHMSLOT_E_NOT_A_FILE);
    CHECK(access(target, F_OK) == 0);
    CHECK(pread(fd, back, sizeof back, 0) == (ssize_t)sizeof back);
    CHECK(memcmp(back, text, sizeof text) == 0);
    CHECK(close(fd) == 0);
    CHECK(unlink(place->path) == 0);
    CHECK(unlink(target) == 0);
}

CHECK_MAIN()
{
    struct place place;
    own_directory(place.directory, sizeof place.directory);
    own_path(place.path, sizeof place.path, place.directory, "segment");
    RUN(check_while_created(&place, attach_all_the_time));
    RUN(check_while_created(&place, look_all_the_time));
    RUN(check_open_has_one_creator(&place));
    RUN(check_create_overwrites_nothing(&place));
}
