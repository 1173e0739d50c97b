/* What a process's mounts decide: without /proc an error says what is missing, and a segment over
 * which something is mounted, as containers do, is not removed. Runs in its own mount namespace. */
#include "faults.h"

static char directory[128];

static void check_text(const shmslot_error *detail, const char *words)
{
    if (strstr(detail->text, words) != NULL) return;
    fprintf(stderr, "\"%s\" does not say \"%s\"\n", detail->text, words);
    check_leave();
}

static void check_busy(const char *path)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(path, &options), *none = NULL;
    shmslot_error detail;
    /* valgrind reads the type of every mount */
    CHECK(mount(path, path, "none", MS_BIND, NULL) == 0);
    check_failure(shmslot_segment_unlink(path, &detail), none, &detail, SHMSLOT_E_SYS, EBUSY);
    check_text(&detail, "mount point");
    CHECK(umount2(path, MNT_DETACH) == 0);
    CHECK_OK(shmslot_segment_unlink(path, &detail));
    shmslot_segment_close(segment);
}

/* Whether the segment was made. A file gets its name without /proc from Linux 6.10 on, and before if
 * the process is privileged. */
static int named_without_proc(int32_t code, const shmslot_error *detail)
{
    if (code >= 0) return 1;
    CHECK_CODE(code, SHMSLOT_E_NOT_SUPPORTED);
    CHECK_U64((uint64_t)detail->os_errno, ENOENT);
    check_text(detail, "/proc is not mounted");
    return 0;
}

static void check_without_proc(const char *path)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *anonymous = make_anonymous(&options), *other = make_anonymous(&options),
                    *none = NULL;
    shmslot_segment *named = make_named(path, &options);
    shmslot_error detail;
    int fd = shmslot_segment_fd(anonymous);
    char free_path[160];
    CHECK((size_t)snprintf(free_path, sizeof free_path, "%s/free", directory) < sizeof free_path);
    CHECK(fd >= 0);
    CHECK(mount("tmpfs", "/proc", "tmpfs", 0, "size=64k") == 0);
    check_failure(shmslot_segment_attach_fd(fd, NULL, &none, &detail), none, &detail,
                  SHMSLOT_E_NOT_SUPPORTED, ENOENT);
    check_text(&detail, "/proc is not mounted");
    if (named_without_proc(shmslot_segment_create(free_path, &options, &none, &detail), &detail)) {
        CHECK_OK(shmslot_segment_unlink(free_path, &detail));
        shmslot_segment_close(none);
    }
    if (named_without_proc(shmslot_segment_open(free_path, &options, &none, &detail), &detail)) {
        CHECK_OK(shmslot_segment_unlink(free_path, &detail));
        shmslot_segment_close(none);
    }
    CHECK_CODE(shmslot_segment_fd(other), SHMSLOT_E_NOT_SUPPORTED);
    /* By name, nothing of it is needed. */
    CHECK_OK(shmslot_segment_attach(path, NULL, &none, &detail));
    shmslot_segment_close(none);
    CHECK_OK(shmslot_segment_recover(named, &detail));
    CHECK(umount2("/proc", MNT_DETACH) == 0);
    CHECK(shmslot_segment_fd(other) >= 0);
    shmslot_segment_close(anonymous);
    shmslot_segment_close(other);
    shmslot_segment_close(named);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static int in_a_namespace(int link, void *path)
{
    (void)link;
    if (enter_namespace() != 0) return 77;
    check_busy(path);
    check_without_proc(path);
    return 0;
}

int main(void)
{
    char path[256];
    int status;
    check_begin();
    own_path(path, sizeof path, own_directory(directory, sizeof directory), "segment");
    status = run_child(in_a_namespace, path);
    if (status == 77) SKIP("no mount namespace of one's own can be had here");
    CHECK_U64((uint64_t)status, 0);
    CHECK_U64(files_in(directory), 0);
    return 0;
}
