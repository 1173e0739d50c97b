/* Which users may attach, to what, and as what. Needs root, which can become other users. */
#include "faults.h"

#include <sys/mman.h>

#define FRIENDS 4242 /* a group */
#define SOMEBODY 65533

static char directory[128];

/* ---- the creator's mode and the access that others ask for ---- */

typedef struct visit {
    const char *path;
    gid_t group;
    uint32_t flags;
    int code, os_errno;
} visit;

static int try_to_attach(int link, void *argument)
{
    const visit *what = argument;
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    unsigned descriptors = open_descriptors();
    int result;
    (void)link;
    become(NOBODY, what->group);
    options.flags = what->flags;
    memset(&detail, 0, sizeof detail);
    result = shmslot_segment_attach(what->path, &options, &segment, &detail);
    if (what->code != SHMSLOT_OK) {
        check_failure(result, segment, &detail, what->code, what->os_errno);
    } else {
        CHECK_OK(result);
        CHECK_U64(info_of(segment).slot_count, 4);
        if ((what->flags & SHMSLOT_FLAG_OBSERVER) == 0) { /* with all rights of a participant */
            shmslot_reader *reader = join(segment, 0);
            shmslot_writer *writer = open_writer(segment);
            (void)put(writer, 7);
            CHECK_U64(take(reader), 7);
            shmslot_writer_close(writer);
            shmslot_reader_leave(reader);
        }
        shmslot_segment_close(segment);
    }
    CHECK_U64(open_descriptors(), descriptors);
    return 0;
}

static void check_modes(void)
{
    enum {
        PLAIN = 0,
        ANY = SHMSLOT_FLAG_ANY_OWNER,
        LOOK = SHMSLOT_FLAG_OBSERVER,
        LOOK_ANY = LOOK | ANY
    };
    static const struct {
        uint32_t mode, group, flags;
        int code, os_errno;
    } rows[] = {
        {0600, NOBODY, PLAIN, SHMSLOT_E_PERMISSION, EACCES},
        {0600, NOBODY, ANY, SHMSLOT_E_PERMISSION, EACCES},
        {0600, NOBODY, LOOK, SHMSLOT_E_PERMISSION, EACCES},
        {0600, FRIENDS, LOOK_ANY, SHMSLOT_E_PERMISSION, EACCES},

        {0644, NOBODY, PLAIN, SHMSLOT_E_PERMISSION, EACCES},
        {0644, NOBODY, ANY, SHMSLOT_E_PERMISSION, EACCES},
        {0644, NOBODY, LOOK, SHMSLOT_E_PERMISSION,
         0}, /* it may be read, but nobody said that its owner is trusted */
        {0644, NOBODY, LOOK_ANY, SHMSLOT_OK, 0},

        {0666, NOBODY, PLAIN, SHMSLOT_E_PERMISSION, 0},
        {0666, NOBODY, ANY, SHMSLOT_OK, 0},
        {0666, NOBODY, LOOK, SHMSLOT_E_PERMISSION, 0},
        {0666, NOBODY, LOOK_ANY, SHMSLOT_OK, 0},

        {0660, FRIENDS, PLAIN, SHMSLOT_E_PERMISSION, 0},
        {0660, FRIENDS, ANY, SHMSLOT_OK, 0},
        {0660, FRIENDS, LOOK_ANY, SHMSLOT_OK, 0},
        {0660, NOBODY, ANY, SHMSLOT_E_PERMISSION, EACCES},
        {0660, NOBODY, LOOK_ANY, SHMSLOT_E_PERMISSION, EACCES},

        {0640, FRIENDS, ANY, SHMSLOT_E_PERMISSION, EACCES},
        {0640, FRIENDS, LOOK_ANY, SHMSLOT_OK, 0},
        {0640, NOBODY, LOOK_ANY, SHMSLOT_E_PERMISSION, EACCES},
    };
    char path[256];
    size_t i;
    own_path(path, sizeof path, directory, "mode");
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        shmslot_options options = options_of(4, 64);
        shmslot_segment *segment;
        struct stat status;
        visit what;
        int result;
        options.mode = rows[i].mode;
        segment = make_named(path, &options);
        CHECK(chown(path, (uid_t)-1, FRIENDS) == 0);
        CHECK(stat(path, &status) == 0);
        CHECK_U64(status.st_mode & 07777, rows[i].mode); /* whatever the umask */
        what.path = path;
        what.group = rows[i].group;
        what.flags = rows[i].flags;
        what.code = rows[i].code;
        what.os_errno = rows[i].os_errno;
        result = run_child(try_to_attach, &what);
        if (result != 0)
            fprintf(stderr, "mode %o, group %u, flags %u\n", rows[i].mode, rows[i].group,
                    rows[i].flags);
        CHECK_U64((uint64_t)result, 0);
        CHECK_U64(info_of(segment).participants, 1);
        shmslot_segment_close(segment);
        CHECK_OK(shmslot_segment_unlink(path, NULL));
    }
}

/* Two users on one segment, both ways, and asleep in between. */
static int answer(int link, void *path)
{
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    shmslot_writer *writer;
    uint64_t i;
    become(NOBODY, NOBODY);
    options.flags = SHMSLOT_FLAG_ANY_OWNER;
    CHECK_OK(shmslot_segment_attach(path, &options, &segment, NULL));
    reader = join(segment, 0);
    writer = open_writer(segment);
    say(link);
    for (i = 0; i < 100; i++) {
        CHECK_U64(take_wait(reader), 2 * i);
        (void)put(writer, 2 * i + 1);
        CHECK_U64(take_wait(reader), 2 * i + 1);
    }
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_two_users(void)
{
    char path[256];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    child other;
    uint64_t i;
    options.mode = 0666;
    segment = make_named(own_path(path, sizeof path, directory, "shared"), &options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    other = start_child(answer, path);
    hear(other.link);
    for (i = 0; i < 100; i++) {
        (void)put(writer, 2 * i);
        CHECK_U64(take_wait(reader), 2 * i);
        CHECK_U64(take_wait(reader), 2 * i + 1);
    }
    CHECK_CHILD(other);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* ---- segments of another user ---- */

static uint32_t stranger_mode;

static int make_and_stay(int link, void *name)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment;
    become(NOBODY, NOBODY);
    options.mode = stranger_mode;
    segment = make_named(name, &options);
    say(link);
    hear(link);
    shmslot_segment_close(segment); /* its name stays */
    return 0;
}

/* Root could open everything, but that is not enough. `refusal` is the kernel's error for users
 * without permission. */
static void refuse_stranger(const char *name, int refusal)
{
    static const uint32_t flags[] = {0, SHMSLOT_FLAG_OBSERVER, SHMSLOT_FLAG_PREFAULT};
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    size_t i;
    memset(&detail, 0, sizeof detail);
    for (i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        options.flags = flags[i];
        check_failure(shmslot_segment_attach(name, &options, &segment, &detail), segment, &detail,
                      SHMSLOT_E_PERMISSION, refusal);
    }
    check_failure(shmslot_segment_create(name, NULL, &segment, &detail), segment, &detail,
                  SHMSLOT_E_PERMISSION, refusal);
    check_failure(shmslot_segment_open(name, NULL, &segment, &detail), segment, &detail,
                  SHMSLOT_E_PERMISSION, refusal);
}

static int refuse_as_somebody(int link, void *name)
{
    (void)link;
    become(SOMEBODY, SOMEBODY);
    refuse_stranger(name, stranger_mode == 0600 ? EACCES : 0);
    CHECK_CODE(shmslot_segment_unlink(name, NULL), SHMSLOT_E_PERMISSION);
    return 0;
}

static void check_strangers_segment(uint32_t mode)
{
    char name[64], path[256];
    shmslot_attach_options any = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    struct stat before, after;
    child stranger;
    unique_name(name, sizeof name, "stranger");
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    stranger_mode = mode;
    stranger = start_child(make_and_stay, name);
    hear(stranger.link);
    CHECK(stat(path, &before) == 0);
    CHECK_U64(before.st_uid, NOBODY);
    refuse_stranger(name, 0);
    CHECK_U64((uint64_t)run_child(refuse_as_somebody, name), 0);
    any.flags = SHMSLOT_FLAG_ANY_OWNER;
    CHECK_OK(shmslot_segment_attach(name, &any, &segment, NULL));
    shmslot_segment_close(segment);
    say(stranger.link);
    CHECK_CHILD(stranger);

    /* Even dead, it is not ours to replace or adopt. */
    refuse_stranger(name, 0);
    CHECK_U64((uint64_t)run_child(refuse_as_somebody, name), 0);
    CHECK(stat(path, &after) == 0);
    CHECK_U64(after.st_ino, before.st_ino);
    CHECK_OK(shmslot_segment_unlink(name, NULL)); /* root may, by the rules of the directory */
}

/* A name that another user has occupied with a link to a valid segment of ours. */
static int occupy(int link, void *argument)
{
    const char *const *paths = argument;
    (void)link;
    become(NOBODY, NOBODY);
    CHECK(symlink(paths[0], paths[1]) == 0);
    return 0;
}

static void check_strangers_link(void)
{
    char name[64], other_name[64], path[256], other_path[256];
    const char *paths[2];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment, *other = NULL;
    unique_name(name, sizeof name, "linked");
    unique_name(other_name, sizeof other_name, "link");
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    snprintf(other_path, sizeof other_path, CHECK_SHM_DIR "/shmslot.%s", other_name);
    paths[0] = path;
    paths[1] = other_path;
    segment = make_named(name, &options);
    CHECK_U64((uint64_t)run_child(occupy, paths), 0);
    CHECK_CODE(shmslot_segment_attach(other_name, NULL, &other, NULL), SHMSLOT_E_BAD_NAME);
    CHECK_CODE(shmslot_segment_create(other_name, NULL, &other, NULL), SHMSLOT_E_BAD_NAME);
    CHECK_CODE(shmslot_segment_open(other_name, NULL, &other, NULL), SHMSLOT_E_BAD_NAME);
    CHECK_CODE(shmslot_segment_unlink(other_name, NULL), SHMSLOT_E_BAD_NAME);
    CHECK(other == NULL);
    CHECK_OK(shmslot_segment_attach(name, NULL, &other, NULL));
    shmslot_segment_close(other);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
}

/* ---- what another user can do to a segment of ours ---- */

typedef struct removal {
    const char *name;
    int os_errno;
} removal;

static int try_to_remove(int link, void *argument)
{
    const removal *what = argument;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    (void)link;
    become(NOBODY, NOBODY);
    memset(&detail, 0, sizeof detail);
    check_failure(shmslot_segment_unlink(what->name, &detail), segment, &detail,
                  SHMSLOT_E_PERMISSION, what->os_errno);
    CHECK_CODE(shmslot_segment_create(what->name, NULL, &segment, NULL), SHMSLOT_E_PERMISSION);
    return 0;
}

/* The system's directory is sticky: names belong to the owners of the files. */
static void check_unlink_by_a_stranger(void)
{
    static const struct {
        uint32_t mode;
        int os_errno;
    } rows[] = {{0600, EACCES}, {0644, EPERM}, {0666, EPERM}};
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[64];
        removal what;
        shmslot_options options = options_of(4, 64);
        shmslot_segment *segment, *other = NULL;
        options.mode = rows[i].mode;
        segment = make_named(unique_name(name, sizeof name, "removed"), &options);
        what.name = name;
        what.os_errno = rows[i].os_errno;
        CHECK_U64((uint64_t)run_child(try_to_remove, &what), 0);
        CHECK_OK(shmslot_segment_attach(name, NULL, &other, NULL));
        CHECK_U64(info_of(other).segment_id, info_of(segment).segment_id);
        shmslot_segment_close(other);
        shmslot_segment_close(segment);
        CHECK_U64((uint64_t)run_child(try_to_remove, &what), 0); /* dead as well */
        CHECK_OK(shmslot_segment_attach(name, NULL, &other, NULL));
        shmslot_segment_close(other);
        CHECK_OK(shmslot_segment_unlink(name, NULL));
    }
}

/* An anonymous segment is for one user: the kernel does not let others open it again, even with the
 * descriptor. But the descriptor itself gives access to the bytes, as every descriptor does. */
static int use_the_descriptor(int link, void *argument)
{
    static const uint32_t flags[] = {0, SHMSLOT_FLAG_ANY_OWNER,
                                     SHMSLOT_FLAG_OBSERVER | SHMSLOT_FLAG_ANY_OWNER};
    int fd = *(int *)argument;
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    size_t i;
    (void)link;
    become(NOBODY, NOBODY);
    memset(&detail, 0, sizeof detail);
    for (i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        options.flags = flags[i];
        check_failure(shmslot_segment_attach_fd(fd, &options, &segment, &detail), segment, &detail,
                      SHMSLOT_E_PERMISSION, EACCES);
    }
    CHECK(fchmod(fd, 0666) != 0 && errno == EPERM);
    CHECK(ftruncate(fd, 0) != 0 && errno == EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
    return 0;
}

static void check_descriptor_for_a_stranger(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment;
    int fd;
    options.mode = 0666; /* of a named one; an anonymous one is 0600 whatever it says */
    segment = make_anonymous(&options);
    fd = shmslot_segment_fd(segment);
    CHECK_U64((uint64_t)run_child(use_the_descriptor, &fd), 0);
    shmslot_segment_close(segment);
}

/* What letting others read gives away besides the bytes: they may lock what they can open, even the
 * bytes by which participants show that they are alive. That changes nothing and reveals nothing,
 * but nobody new can attach, and a name whose segment is dead is not given to another. */
static int lock_everything(int link, void *path)
{
    struct flock range;
    int fd;
    become(NOBODY, NOBODY);
    hear(link);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    memset(&range, 0, sizeof range);
    range.l_type = F_RDLCK;
    range.l_whence = SEEK_SET;
    range.l_start = (off_t)1 << 60;
    /* not over a living participant */
    CHECK(fcntl(fd, F_OFD_SETLK, &range) != 0 && errno == EAGAIN);
    say(link);
    hear(link);
    CHECK(fcntl(fd, F_OFD_SETLK, &range) == 0);
    say(link);
    hear(link);
    CHECK(close(fd) == 0);
    return 0;
}

static void check_locks_of_a_stranger(void)
{
    char path[256];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment, *other = NULL;
    child stranger;
    options.mode = 0644;
    own_path(path, sizeof path, directory, "locked");
    /* first, so that it inherits no descriptor of the segment */
    stranger = start_child(lock_everything, path);
    segment = make_named(path, &options);
    say(stranger.link);
    hear(stranger.link);
    shmslot_segment_close(segment);
    say(stranger.link);
    hear(stranger.link);
    CHECK_CODE(shmslot_segment_attach(path, NULL, &other, NULL), SHMSLOT_E_NO_PARTICIPANT_SLOT);
    CHECK_CODE(shmslot_segment_create(path, &options, &other, NULL), SHMSLOT_E_NAME_BUSY);
    CHECK_CODE(shmslot_segment_unlink(path, NULL), SHMSLOT_E_NAME_BUSY);
    CHECK(other == NULL);
    say(stranger.link);
    CHECK_CHILD(stranger);
    CHECK_OK(shmslot_segment_attach(path, NULL, &other, NULL));
    shmslot_segment_close(other);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* A user that may write to a dead segment, but not remove its name, cannot replace it. The segment
 * is unchanged then. */
static int fail_to_replace(int link, void *name)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = NULL;
    (void)link;
    become(NOBODY, NOBODY);
    options.flags = SHMSLOT_FLAG_ANY_OWNER;
    CHECK_CODE(shmslot_segment_open(name, &options, &segment, NULL), SHMSLOT_E_PERMISSION);
    return 0;
}

static void check_failed_replacement(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = NULL;
    options.mode = 0666;
    shmslot_segment_close(make_named(unique_name(name, sizeof name, "replaced"), &options));
    CHECK_U64((uint64_t)run_child(fail_to_replace, name), 0);
    CHECK_OK(shmslot_segment_attach(name, NULL, &segment, NULL));
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
}

CHECK_MAIN()
{
    if (geteuid() != 0) SKIP("only root can become another user");
    (void)umask(077);
    own_directory(directory, sizeof directory);
    CHECK(chmod(directory, 0755) == 0);
    RUN(check_modes());
    RUN(check_two_users());
    RUN(check_strangers_segment(0600));
    RUN(check_strangers_segment(0666));
    RUN(check_strangers_link());
    RUN(check_unlink_by_a_stranger());
    RUN(check_failed_replacement());
    RUN(check_descriptor_for_a_stranger());
    RUN(check_locks_of_a_stranger());
}
