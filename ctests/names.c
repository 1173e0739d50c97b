/* Which names are valid: every call that takes a name refuses the bad ones in one way, and changes
 * nothing. */
#include "samples.h"

#include <limits.h>

static void check_bad_name(const char *name)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_segment_create(name, &options, &segment, &detail), SHMSLOT_E_BAD_NAME);
    CHECK(detail.code == SHMSLOT_E_BAD_NAME);
    CHECK(detail.text[0] != '\0');
    CHECK(memchr(detail.text, '\0', sizeof detail.text) != NULL);
    CHECK_CODE(shmslot_segment_attach(name, NULL, &segment, NULL), SHMSLOT_E_BAD_NAME);
    CHECK_CODE(shmslot_segment_open(name, &options, &segment, NULL), SHMSLOT_E_BAD_NAME);
    CHECK_CODE(shmslot_segment_unlink(name, NULL), SHMSLOT_E_BAD_NAME);
    CHECK(segment == NULL);
}

static void check_good_name(const char *name)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *creator = make_named(name, &options), *other = attach(name);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_U64(info_of(other).segment_id, info_of(creator).segment_id);
    shmslot_segment_close(other);
    shmslot_segment_close(creator);
}

static void check_relative_names(void)
{
    char long_name[301], name[256], longer[256];
    size_t length;
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    check_bad_name("");
    check_bad_name(long_name);
    check_bad_name("a/b");
    check_bad_name("./a");
    check_bad_name("../a");
    check_bad_name("a/");
    check_bad_name("\xff\xfe");
    check_bad_name("a\xc3");         /* cut in the middle of a letter */
    check_bad_name("\xed\xa0\x80");  /* a lone surrogate */

    check_good_name(unique_name(name, sizeof name, "with space"));
    check_good_name(unique_name(name, sizeof name, "gr\xc3\xbc\xc3\x9f" "e"));
    check_good_name(unique_name(name, sizeof name, "dots..dots"));
    unique_name(name, sizeof name, "long");
    length = strlen(name);
    memset(longer, 'n', 200);
    memcpy(longer, name, length); /* 200 bytes are the limit */
    longer[200] = '\0';
    snprintf(long_name, sizeof long_name, CHECK_SHM_DIR "/shmslot.%s", longer);
    cleanup_path(long_name);
    check_good_name(longer);
    longer[200] = 'n';
    longer[201] = '\0';
    check_bad_name(longer);
}

static void check_absolute_paths(void)
{
    char directory[128], path[512], name[128];
    char endless[PATH_MAX + 10];
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = NULL;
    size_t length;

    own_directory(directory, sizeof directory);
    check_good_name(own_path(path, sizeof path, directory, "seg"));
    check_good_name(own_path(path, sizeof path, directory, "seg with \xc3\xbc"));

    /* A directory of one's own is a separate set of names. */
    unique_name(name, sizeof name, "domain");
    own_path(path, sizeof path, directory, name);
    segment = make_named(path, &options);
    {
        shmslot_segment *other = NULL;
        CHECK_CODE(shmslot_segment_attach(name, NULL, &other, NULL), SHMSLOT_E_NOT_FOUND);
    }
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(segment);
    segment = NULL;

    snprintf(path, sizeof path, "%s/missing/seg", directory);
    CHECK_CODE(shmslot_segment_create(path, &options, &segment, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK_CODE(shmslot_segment_attach(path, NULL, &segment, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK_CODE(shmslot_segment_open(path, &options, &segment, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK_CODE(shmslot_segment_unlink(path, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK(segment == NULL);

    snprintf(path, sizeof path, "%s/\xff", directory);
    check_bad_name(path);
    length = strlen(directory);
    memcpy(endless, directory, length);
    memset(endless + length, '/', sizeof endless - length);
    endless[sizeof endless - 2] = 'a';
    endless[sizeof endless - 1] = '\0';
    check_bad_name(endless);
}

/* Nothing is read from the environment: these variables change nothing. */
static void check_environment_is_ignored(void)
{
    char name[64], path[256];
    struct stat status;
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment;
    CHECK(setenv("TMPDIR", "/nonexistent", 1) == 0);
    CHECK(setenv("HOME", "/nonexistent", 1) == 0);
    CHECK(setenv("XDG_RUNTIME_DIR", "/nonexistent", 1) == 0);
    segment = make_named(unique_name(name, sizeof name, "env"), &options);
    snprintf(path, sizeof path, CHECK_SHM_DIR "/shmslot.%s", name);
    CHECK(stat(path, &status) == 0);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_relative_names());
    RUN(check_absolute_paths());
    RUN(check_environment_is_ignored());
}
