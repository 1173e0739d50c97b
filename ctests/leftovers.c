/* Files at a name that cannot be attached to: of a library of another layout version, of a crash,
 * or truncated by another program. If nobody is attached, create and open replace the file, and
 * unlink removes it. If a process is attached, the file stays, and the error says so. If the file
 * is not ours, it stays in any case. */
#include "samples.h"

/* An attached process, of whatever layout version, has locked a byte from here on. */
#define LOCK_BASE (INT64_C(1) << 62)

static char directory[128];
static unsigned char healthy[65536];
static size_t healthy_size;

/* ---- what may stand there ---- */

static void cut_to(const char *path, off_t size)
{
    CHECK(truncate(path, size) == 0);
}

static void patch(const char *path, off_t offset, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, bytes, size, offset) == (ssize_t)size);
    CHECK(close(fd) == 0);
}

static void older_version(const char *path)
{
    uint32_t version = 1;
    patch(path, 8, &version, sizeof version);
}

/* Only its first bytes are as in this version. */
static void newer_version(const char *path)
{
    uint32_t version = 4000000000u;
    unsigned char noise[5000];
    memset(noise, 0xA5, sizeof noise);
    patch(path, 12, noise, sizeof noise);
    patch(path, 8, &version, sizeof version);
}

static void other_byte_order(const char *path)
{
    patch(path, 12, "\x01\x02\x03\x04", 4);
}

static void spoiled(const char *path)
{
    patch(path, 64, "\xFF\xFF", 2);
}

static void too_long(const char *path)
{
    cut_to(path, (off_t)healthy_size + 4096);
}

static void cut_in_payloads(const char *path)
{
    cut_to(path, (off_t)healthy_size - 1);
}

static void cut_in_header(const char *path)
{
    cut_to(path, 100);
}

static void cut_after_magic(const char *path)
{
    cut_to(path, 8);
}

static void cut_in_magic(const char *path)
{
    cut_to(path, 3);
}

static void emptied(const char *path)
{
    cut_to(path, 0);
}

static void loosened(const char *path)
{
    CHECK(chmod(path, 0666) == 0);
}

static void zeroed(const char *path)
{
    cut_to(path, 0);
    cut_to(path, 4096);
}

static void text(const char *path)
{
    cut_to(path, 0);
    patch(path, 0, "Dear diary,\n", 12);
}

static void one_byte(const char *path)
{
    cut_to(path, 0);
    patch(path, 0, "x", 1);
}

static void nearly_magic(const char *path)
{
    patch(path, 7, "\1", 1);
}

static const struct kind {
    const char *name;
    void (*make)(const char *path);
    int code;        /* of an attach */
    int by_name;     /* known as ours by its file name alone */
    int same_layout; /* so unlink may take it from living processes */
    int foreign;
} kinds[] = {
    {"older version", older_version, SHMSLOT_E_LAYOUT_VERSION, 0, 0, 0},
    {"newer version", newer_version, SHMSLOT_E_LAYOUT_VERSION, 0, 0, 0},
    {"other byte order", other_byte_order, SHMSLOT_E_LAYOUT_VERSION, 0, 1, 0},
    {"spoiled header", spoiled, SHMSLOT_E_CORRUPT, 0, 1, 0},
    {"too long", too_long, SHMSLOT_E_CORRUPT, 0, 1, 0},
    {"cut in payloads", cut_in_payloads, SHMSLOT_E_TRUNCATED, 0, 1, 0},
    {"cut in the header", cut_in_header, SHMSLOT_E_TRUNCATED, 0, 1, 0},
    {"cut after the magic", cut_after_magic, SHMSLOT_E_TRUNCATED, 0, 0, 0},
    {"cut in the magic", cut_in_magic, SHMSLOT_E_TRUNCATED, 1, 0, 0},
    {"empty", emptied, SHMSLOT_E_EMPTY, 1, 0, 0},
    {"mode loosened", loosened, SHMSLOT_E_PERMISSION, 0, 1, 0},
    {"zeros", zeroed, SHMSLOT_E_NOT_A_SEGMENT, 0, 0, 1},
    {"text", text, SHMSLOT_E_NOT_A_SEGMENT, 0, 0, 1},
    {"one byte", one_byte, SHMSLOT_E_NOT_A_SEGMENT, 0, 0, 1},
    {"nearly the magic", nearly_magic, SHMSLOT_E_NOT_A_SEGMENT, 0, 0, 1},
};

/* ---- looking at it ---- */

static struct stat identity(const char *path)
{
    struct stat status;
    CHECK(lstat(path, &status) == 0);
    return status;
}

static int is_there(const char *path, struct stat before)
{
    struct stat now;
    return lstat(path, &now) == 0 && now.st_ino == before.st_ino && now.st_size == before.st_size;
}

static struct stat leave(const struct kind *kind, const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, healthy, healthy_size) == (ssize_t)healthy_size);
    CHECK(close(fd) == 0);
    kind->make(path);
    return identity(path);
}

enum { CREATE, OPEN };

static int make(int call, const char *path, uint32_t if_orphaned, uint32_t flags,
                shmslot_error *error)
{
    shmslot_options options = options_of(3, 16);
    shmslot_segment *segment = NULL;
    int result;
    options.if_orphaned = if_orphaned;
    options.flags = flags;
    memset(error, 0, sizeof *error);
    result = call == CREATE ? shmslot_segment_create(path, &options, &segment, error)
                            : shmslot_segment_open(path, &options, &segment, error);
    if (result >= 0) {
        shmslot_segment *other = attach(path);
        CHECK_U64(info_of(segment).slot_count, 3);
        CHECK_U64(info_of(other).segment_id, info_of(segment).segment_id);
        shmslot_segment_close(other);
        shmslot_segment_close(segment);
        CHECK_OK(shmslot_segment_unlink(path, NULL));
        CHECK(access(path, F_OK) != 0);
    } else {
        CHECK(segment == NULL);
        CHECK(error->code == result && error->text[0] != '\0');
    }
    return result;
}

/* Both versions are in the numbers and in the text, and the text says what to do. */
static void check_versions(const struct kind *kind, const shmslot_error *error)
{
    char number[32];
    unsigned ours, found = kind->make == older_version ? 1 : 4000000000u;
    memcpy(&ours, healthy + 8, sizeof ours);
    if (kind->make != older_version && kind->make != newer_version) return;
    CHECK_U64(error->numbers[0], ours);
    CHECK_U64(error->numbers[1], found);
    snprintf(number, sizeof number, "version %u", found);
    CHECK(strstr(error->text, number) != NULL);
    snprintf(number, sizeof number, "%u", ours);
    CHECK(strstr(error->text, number) != NULL);
    CHECK(strstr(error->text, "use one version of shmslot on both sides") != NULL);
}

/* ---- the rules ---- */

static void check_dead(const struct kind *kind, const char *path, int ours)
{
    shmslot_segment *segment = NULL;
    shmslot_error error;
    int call;
    struct stat before = leave(kind, path);

    CHECK_CODE(shmslot_segment_attach(path, NULL, &segment, &error), kind->code);
    check_versions(kind, &error);
    for (call = CREATE; call <= OPEN; call++) {
        CHECK_CODE(make(call, path, SHMSLOT_ORPHANED_ADOPT, 0, &error), kind->code);
        check_versions(kind, &error);
        CHECK_CODE(make(call, path, SHMSLOT_ORPHANED_REFUSE, 0, &error), kind->code);
    }
    CHECK(is_there(path, before));
    for (call = CREATE; call <= OPEN; call++) {
        if (ours) {
            int made = call == CREATE ? SHMSLOT_OK : 1;
            CHECK_CODE(make(call, path, SHMSLOT_ORPHANED_REPLACE, 0, &error), made);
            before = leave(kind, path);
        } else {
            CHECK_CODE(make(call, path, SHMSLOT_ORPHANED_REPLACE, 0, &error), kind->code);
            CHECK(is_there(path, before));
        }
    }
    if (ours) {
        CHECK_OK(shmslot_segment_unlink(path, NULL));
        CHECK(access(path, F_OK) != 0);
    } else {
        int result = shmslot_segment_unlink(path, NULL);
        CHECK(result == (kind->make == emptied ? SHMSLOT_E_EMPTY : SHMSLOT_E_NOT_A_SEGMENT));
        CHECK(is_there(path, before));
        CHECK(unlink(path) == 0);
    }
}

/* A process of a library whose rows are in an unknown place. */
struct holder {
    const char *path;
    off_t byte;
};

static int hold_a_byte(int link, void *argument)
{
    const struct holder *holder = argument;
    struct flock lock;
    int fd = open(holder->path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_start = holder->byte;
    lock.l_len = 1;
    CHECK(fcntl(fd, F_OFD_SETLK, &lock) == 0);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static void check_alive(const struct kind *kind, const char *path, off_t byte)
{
    shmslot_error error;
    struct holder holder;
    child living;
    int call;
    struct stat before = leave(kind, path);
    holder.path = path;
    holder.byte = byte;
    living = start_child(hold_a_byte, &holder);
    hear(living.link);
    for (call = CREATE; call <= OPEN; call++) {
        CHECK_CODE(make(call, path, SHMSLOT_ORPHANED_REPLACE, 0, &error), kind->code);
        CHECK(strstr(error.text, "a process is attached") != NULL);
        check_versions(kind, &error);
        CHECK(is_there(path, before));
    }
    if (!kind->same_layout) {
        CHECK_CODE(shmslot_segment_unlink(path, &error), kind->code);
        CHECK(strstr(error.text, "a process is attached") != NULL);
        check_versions(kind, &error);
        CHECK(is_there(path, before));
    }
    CHECK(kill(living.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(living), 128 + SIGKILL);
    CHECK_CODE(make(OPEN, path, SHMSLOT_ORPHANED_REPLACE, 0, &error), 1);
}

static void check_another_user(const struct kind *kind, const char *path)
{
    shmslot_error error;
    int call;
    struct stat before = leave(kind, path);
    if (chown(path, 65534, (gid_t)-1) != 0) {
        CHECK(unlink(path) == 0);
        return; /* not root */
    }
    for (call = CREATE; call <= OPEN; call++) {
        CHECK_CODE(make(call, path, SHMSLOT_ORPHANED_REPLACE, 0, &error), SHMSLOT_E_PERMISSION);
        CHECK(is_there(path, before));
    }
    if (kind->by_name) {
        CHECK(shmslot_segment_unlink(path, NULL) < 0);
        /* Not even with SHMSLOT_FLAG_ANY_OWNER: only the name says that it is ours. */
        CHECK(make(OPEN, path, SHMSLOT_ORPHANED_REPLACE, SHMSLOT_FLAG_ANY_OWNER, &error) < 0);
        CHECK(is_there(path, before));
    }
    CHECK(unlink(path) == 0);
}

static void check_no_file(const char *path)
{
    shmslot_error error;
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_CODE(make(OPEN, path, SHMSLOT_ORPHANED_REPLACE, 0, &error), SHMSLOT_E_NOT_A_FILE);
    CHECK_CODE(shmslot_segment_unlink(path, NULL), SHMSLOT_E_NOT_A_FILE);
    CHECK(unlink(path) == 0);
}

int main(void)
{
    char plain[256], named[256];
    shmslot_options options = options_of(2, 8);
    size_t i;
    FILE *file;
    check_begin();
    own_directory(directory, sizeof directory);
    own_path(plain, sizeof plain, directory, "segment");
    own_path(named, sizeof named, directory, "shmslot.segment");
    shmslot_segment_close(make_named(plain, &options));
    file = fopen(plain, "rb");
    CHECK(file != NULL);
    healthy_size = fread(healthy, 1, sizeof healthy, file);
    CHECK(healthy_size > 8192 && healthy_size < sizeof healthy && fclose(file) == 0);
    CHECK_OK(shmslot_segment_unlink(plain, NULL));

    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct kind *kind = &kinds[i];
        check_note_caller(kind->name, (int)i);
        check_dead(kind, plain, !kind->foreign && !kind->by_name);
        check_dead(kind, named, !kind->foreign);
        if (!kind->foreign) {
            check_alive(kind, named, LOCK_BASE);
            check_alive(kind, named, LOCK_BASE + INT64_C(4094) * (INT64_C(1) << 32) + 17);
            check_alive(kind, named, INT64_MAX - 1);
            check_another_user(kind, named);
        }
    }
    check_caller_file = NULL;
    check_no_file(named);
    return 0;
}
