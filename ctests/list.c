/* What a directory has of segments, seen without attaching; and removing those that nobody uses. In
 * the directory are segments that live, stand still, are dead, of other layout versions, spoiled,
 * and files that are none. */
#include "samples.h"

#include <sys/un.h>

static char directory[128];

static const char *in(char *path, const char *file)
{
    snprintf(path, 256, "%s/%s", directory, file);
    return path;
}

static shmslot_segment *make_in(const char *file, uint32_t flags)
{
    char path[256];
    shmslot_options options = options_of(2, 8);
    options.flags = flags;
    return make_named(own_path(path, sizeof path, directory, file), &options);
}

static void leave_in(const char *file)
{
    shmslot_segment_close(make_in(file, 0));
}

static void patch(const char *file, off_t offset, uint32_t value)
{
    char path[256];
    int fd = open(in(path, file), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, &value, sizeof value, offset) == sizeof value);
    CHECK(close(fd) == 0);
}

static int is_there(const char *file)
{
    char path[256];
    struct stat status;
    return lstat(in(path, file), &status) == 0;
}

static shmslot_segment_entry entries[32];

static size_t list(const char *where)
{
    size_t count = 0;
    memset(entries, 0xA5, sizeof entries);
    CHECK_OK(shmslot_segment_list(where, entries, sizeof entries[0], 32, &count, NULL));
    CHECK(count <= 32);
    return count;
}

static const shmslot_segment_entry *find(const char *where, const char *file)
{
    size_t count = list(where), i;
    for (i = 0; i < count; i++) {
        if (strcmp(entries[i].name, file) == 0) return &entries[i];
    }
    return NULL;
}

static int attach_and_stay(int link, void *file)
{
    char path[256];
    (void)attach(in(path, file));
    say(link);
    hear(link); /* never comes */
    return 0;
}

static child start_attached(const char *file)
{
    child other = start_child(attach_and_stay, (void *)(uintptr_t)file);
    hear(other.link);
    return other;
}

static void kill_it(child other)
{
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
}

/* Files that are no segments, and must not be opened carelessly, nor removed. */
static const char *const others[] = {"diary", "empty", "pipe", "link", "socket", "folder", "hole"};
enum { OTHERS = sizeof others / sizeof others[0] };

static void make_others(void)
{
    struct sockaddr_un address;
    char path[256];
    int fd, i;
    for (i = 0; i < OTHERS; i++) (void)own_path(path, sizeof path, directory, others[i]);
    fd = open(in(path, "diary"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "Dear diary, it is raining", 25) == 25 && close(fd) == 0);
    fd = open(in(path, "empty"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
    fd = open(in(path, "hole"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, INT64_C(1) << 40) == 0 && close(fd) == 0);
    CHECK(mkfifo(in(path, "pipe"), 0600) == 0);
    CHECK(symlink("dead", in(path, "link")) == 0);
    CHECK(mkdir(in(path, "folder"), 0700) == 0);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    CHECK(strlen(in(path, "socket")) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && close(fd) == 0);
}

static void check_what_is_told(void)
{
    shmslot_segment *living = make_in("living", SHMSLOT_FLAG_EPHEMERAL);
    child stopped, second;
    const shmslot_segment_entry *entry;
    uint32_t removed = 0;
    size_t count = 0;
    char path[256];
    int i;
    second = start_attached("living");
    leave_in("standing");
    stopped = start_attached("standing");
    CHECK(kill(stopped.pid, SIGSTOP) == 0);
    leave_in("dead");
    kill_it(start_attached("dead"));
    leave_in("older");
    patch("older", 8, 1);
    leave_in("newer");
    {
        child user = start_attached("newer");
        patch("newer", 8, 77);
        leave_in("corrupt");
        patch("corrupt", 64, 0xFFFFFFFF);
        make_others();

        CHECK_U64(list(directory), 6);
        entry = find(directory, "living");
        CHECK(entry != NULL && entry->state == SHMSLOT_STATE_ALIVE && entry->refusal == 0);
        CHECK_U64(entry->segment_id, info_of(living).segment_id);
        CHECK_U64(entry->size, info_of(living).total_size);
        CHECK_U64(entry->participants, 2);
        CHECK_U64(entry->layout_version, info_of(living).layout_version);
        CHECK_U64(entry->owner, geteuid());
        CHECK_U64(entry->mode, 0600);
        CHECK_U64(entry->flags, SHMSLOT_FLAG_EPHEMERAL);
        CHECK_U64(entry->reserved, 0);
        entry = find(directory, "standing");
        CHECK(entry != NULL && entry->state == SHMSLOT_STATE_ALIVE && entry->refusal == 0 &&
              entry->flags == 0);
        entry = find(directory, "dead");
        CHECK(entry != NULL && entry->state == SHMSLOT_STATE_DEAD && entry->refusal == 0);
        CHECK_U64(entry->participants, 1); /* killed, and nobody has cleaned up */
        entry = find(directory, "older");
        CHECK(entry != NULL && entry->state == SHMSLOT_STATE_DEAD && entry->layout_version == 1);
        CHECK(entry->refusal == SHMSLOT_E_LAYOUT_VERSION && entry->segment_id == 0);
        entry = find(directory, "newer");
        CHECK(entry != NULL && entry->state == SHMSLOT_STATE_ALIVE && entry->layout_version == 77);
        entry = find(directory, "corrupt");
        CHECK(entry != NULL && entry->state == SHMSLOT_STATE_DEAD &&
              entry->refusal == SHMSLOT_E_CORRUPT);

        /* Nothing of that has changed anything. */
        CHECK_U64(info_of(living).participants, 2);
        for (i = 0; i < OTHERS; i++) CHECK(is_there(others[i]));

        CHECK_OK(shmslot_segment_unlink_dead(directory, &removed, NULL));
        CHECK_U64(removed, 3);
        CHECK(!is_there("dead") && !is_there("older") && !is_there("corrupt"));
        CHECK(is_there("living") && is_there("standing") && is_there("newer"));
        for (i = 0; i < OTHERS; i++) CHECK(is_there(others[i]));
        CHECK_CODE(shmslot_segment_is_named(living), 1);
        CHECK_OK(shmslot_segment_unlink_dead(directory, &removed, NULL));
        CHECK_U64(removed, 0);
        kill_it(user);
    }
    kill_it(stopped);
    kill_it(second);
    shmslot_segment_close(living);
    CHECK_OK(shmslot_segment_unlink_dead(directory, &removed, NULL));
    CHECK_U64(removed, 2); /* the living one was ephemeral, and is gone already */
    CHECK_OK(shmslot_segment_list(directory, NULL, 0, 0, &count, NULL));
    CHECK_U64(count, 0);
    for (i = 0; i < OTHERS; i++) {
        if (unlink(in(path, others[i])) != 0) CHECK(rmdir(path) == 0);
    }
}

static void check_the_directory_of_the_system(void)
{
    char name[64];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "list"), &options);
    shmslot_segment_entry *all;
    size_t count = 0, room, i, found = 0;
    CHECK_OK(shmslot_segment_list(NULL, NULL, 0, 0, &count, NULL));
    room = count + 100; /* other tests run beside this one */
    all = calloc(room, sizeof *all);
    CHECK(all != NULL);
    CHECK_OK(shmslot_segment_list(NULL, all, sizeof *all, room, &count, NULL));
    for (i = 0; i < count && i < room; i++) {
        if (strcmp(all[i].name, name) != 0) continue;
        found++;
        CHECK(all[i].state == SHMSLOT_STATE_ALIVE);
    }
    CHECK_U64(found, 1);
    free(all);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

static void check_a_bad_directory(void)
{
    size_t count = 7;
    shmslot_error detail;
    CHECK_CODE(shmslot_segment_list("/nowhere/at/all", NULL, 0, 0, &count, &detail),
               SHMSLOT_E_NOT_FOUND);
    CHECK_U64(count, 7);
    CHECK(strstr(detail.text, "/nowhere/at/all") != NULL);
    CHECK_CODE(shmslot_segment_list("/dev/null", NULL, 0, 0, &count, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK_CODE(shmslot_segment_unlink_dead("/nowhere/at/all", NULL, NULL), SHMSLOT_E_NOT_FOUND);
}

/* Another user's: told, and never removed. */
static int look_as_somebody_else(int link, void *unused)
{
    const shmslot_segment_entry *entry;
    uint32_t removed = 9;
    (void)link;
    (void)unused;
    if (setgid(65534) != 0 || setuid(65534) != 0) return 77;
    entry = find(directory, "shmslot.hers");
    CHECK(entry != NULL && entry->state == SHMSLOT_STATE_UNKNOWN &&
          entry->refusal == SHMSLOT_E_PERMISSION);
    CHECK_U64(entry->owner, 0);
    CHECK(find(directory, "hers") == NULL); /* its name alone does not say what it is */
    entry = find(directory, "readable");
    CHECK(entry != NULL && entry->state == SHMSLOT_STATE_DEAD &&
          entry->refusal == SHMSLOT_E_PERMISSION);
    CHECK_OK(shmslot_segment_unlink_dead(directory, &removed, NULL));
    CHECK_U64(removed, 0);
    return 0;
}

static void check_foreign_ones(void)
{
    char path[256];
    if (geteuid() != 0) {
        fprintf(stderr, "left out: segments of another user (this user may not be another)\n");
        return;
    }
    leave_in("shmslot.hers");
    leave_in("hers");
    leave_in("readable");
    CHECK(chmod(in(path, "readable"), 0644) == 0);
    CHECK(chmod(directory, 0777) == 0);
    CHECK_U64((uint64_t)run_child(look_as_somebody_else, NULL), 0);
    CHECK(is_there("shmslot.hers") && is_there("hers") && is_there("readable"));
    CHECK_OK(shmslot_segment_unlink_dead(directory, NULL, NULL));
    CHECK(!is_there("shmslot.hers") && !is_there("hers") && !is_there("readable"));
}

/* ---- one attaches at that moment ---- */

enum { ROUNDS = 3000 };

static int open_again_and_again(int link, void *path)
{
    int round;
    (void)link;
    for (round = 0; round < ROUNDS; round++) {
        shmslot_options options = options_of(2, 8);
        shmslot_segment *segment = NULL;
        int result;
        options.if_orphaned = round & 1 ? SHMSLOT_ORPHANED_ADOPT : SHMSLOT_ORPHANED_REPLACE;
        if (round % 3 == 0) {
            result = shmslot_segment_attach(path, NULL, &segment, NULL);
            CHECK(result == SHMSLOT_OK || result == SHMSLOT_E_NOT_FOUND);
        } else {
            CHECK_OK(shmslot_segment_open(path, &options, &segment, NULL));
        }
        if (segment == NULL) continue;
        /* It lives, so nobody takes its name. */
        CHECK_CODE(shmslot_segment_is_named(segment), 1);
        CHECK_U64(info_of(segment).retired, 0);
        shmslot_segment_close(segment);
    }
    return 0;
}

static int remove_again_and_again(int link, void *unused)
{
    int round;
    (void)link;
    (void)unused;
    for (round = 0; round < ROUNDS; round++) {
        CHECK_OK(shmslot_segment_unlink_dead(directory, NULL, NULL));
        (void)list(directory);
    }
    return 0;
}

static void check_who_attaches_meanwhile(void)
{
    char path[256];
    child opening[2], removing;
    int i;
    own_path(path, sizeof path, directory, "raced");
    for (i = 0; i < 2; i++) opening[i] = start_child(open_again_and_again, path);
    removing = start_child(remove_again_and_again, NULL);
    for (i = 0; i < 2; i++) CHECK_CHILD(opening[i]);
    CHECK_CHILD(removing);
    CHECK_OK(shmslot_segment_unlink_dead(directory, NULL, NULL));
    CHECK_U64(list(directory), 0);
}

CHECK_MAIN()
{
    own_directory(directory, sizeof directory);
    RUN(check_what_is_told());
    RUN(check_the_directory_of_the_system());
    RUN(check_a_bad_directory());
    RUN(check_foreign_ones());
    RUN(check_who_attaches_meanwhile());
}
