/* Everything that is not a valid segment is refused with the code that says why, and never
 * crashes. */
#include "samples.h"

#include <sys/mman.h>

static char directory[128];

static void refuse(const char *path, int code)
{
    shmslot_segment *segment = NULL;
    shmslot_error detail;
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_segment_attach(path, NULL, &segment, &detail), code);
    CHECK(segment == NULL);
    CHECK(detail.code == code);
    CHECK(detail.text[0] != '\0');
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    CHECK(close(fd) == 0);
}

/* The bytes of a valid segment to which nobody is attached. */
static unsigned char *segment_bytes(const char *path, size_t *ret_size)
{
    shmslot_options options = options_of(4, 100);
    shmslot_segment *segment;
    shmslot_writer *writer;
    unsigned char *bytes;
    size_t size;
    int fd;
    options.history = 2;
    segment = make_named(path, &options);
    writer = open_writer(segment);
    (void)put(writer, 1);
    (void)put(writer, 2);
    size = (size_t)info_of(segment).total_size;
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    bytes = malloc(size);
    CHECK(bytes != NULL);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(read(fd, bytes, size) == (ssize_t)size);
    CHECK(close(fd) == 0);
    CHECK(unlink(path) == 0);
    *ret_size = size;
    return bytes;
}

static void check_other_files(void)
{
    char path[256];
    unsigned char bytes[20000];
    unsigned seed = 12345;
    size_t i;
    own_path(path, sizeof path, directory, "other");

    refuse(path, SHMSLOT_E_NOT_FOUND);
    refuse("ctest-nobody-made-this-one", SHMSLOT_E_NOT_FOUND);
    refuse(directory, SHMSLOT_E_NOT_A_FILE);
    refuse("/dev/null", SHMSLOT_E_NOT_A_FILE);
    CHECK(mkfifo(path, 0600) == 0);
    refuse(path, SHMSLOT_E_NOT_A_FILE); /* and does not wait for a writer of the FIFO */
    CHECK(unlink(path) == 0);

    write_file(path, "", 0);
    refuse(path, SHMSLOT_E_EMPTY);
    write_file(path, "x", 1);
    refuse(path, SHMSLOT_E_NOT_A_SEGMENT);
    for (i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)((seed = seed * 1103515245u + 12345u) >> 16);
    write_file(path, bytes, sizeof bytes);
    refuse(path, SHMSLOT_E_NOT_A_SEGMENT);
    memset(bytes, 0, sizeof bytes);
    write_file(path, bytes, sizeof bytes);
    refuse(path, SHMSLOT_E_NOT_A_SEGMENT);
    CHECK(unlink(path) == 0);
}

static void check_symbolic_link(void)
{
    char path[256], link_path[256];
    shmslot_options options = options_of(4, 100);
    shmslot_segment *segment = make_named(own_path(path, sizeof path, directory, "real"), &options),
                    *through = NULL;
    own_path(link_path, sizeof link_path, directory, "link");
    CHECK(symlink(path, link_path) == 0);
    CHECK(shmslot_segment_attach(link_path, NULL, &through, NULL) < 0);
    CHECK(through == NULL);
    CHECK(unlink(link_path) == 0);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(segment);
}

static void check_truncated(void)
{
    char path[256];
    size_t size, cut;
    unsigned char *bytes = segment_bytes(own_path(path, sizeof path, directory, "short"), &size);
    for (cut = size - 1; cut > 4096; cut -= cut / 3) {
        write_file(path, bytes, cut);
        refuse(path, SHMSLOT_E_TRUNCATED);
    }
    for (cut = 1; cut < 512; cut += 7) { /* not even the header is whole */
        shmslot_segment *segment = NULL;
        int result;
        write_file(path, bytes, cut);
        result = shmslot_segment_attach(path, NULL, &segment, NULL);
        CHECK(result == SHMSLOT_E_TRUNCATED || result == SHMSLOT_E_NOT_A_SEGMENT);
    }
    CHECK(unlink(path) == 0);
    free(bytes);
}

static void check_loosened_mode(void)
{
    char path[256];
    shmslot_options options = options_of(4, 100);
    shmslot_segment *segment =
                        make_named(own_path(path, sizeof path, directory, "loose"), &options),
                    *other = NULL;
    CHECK(chmod(path, 0666) == 0);
    refuse(path, SHMSLOT_E_PERMISSION);
    CHECK(chmod(path, 0604) == 0);
    refuse(path, SHMSLOT_E_PERMISSION);
    CHECK(chmod(path, 0600) == 0);
    CHECK_OK(shmslot_segment_attach(path, NULL, &other, NULL));
    shmslot_segment_close(other);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(segment);
}

static void check_another_owner(void)
{
    char path[256];
    shmslot_options options = options_of(4, 100);
    shmslot_attach_options any = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment, *other = NULL;
    if (geteuid() != 0) {
        fprintf(stderr, "left out: a segment of another uid (only root can make one)\n");
        return;
    }
    segment = make_named(own_path(path, sizeof path, directory, "owner"), &options);
    CHECK(chown(path, 65534, (gid_t)-1) == 0);
    refuse(path, SHMSLOT_E_PERMISSION);
    any.flags = SHMSLOT_FLAG_ANY_OWNER;
    CHECK_OK(shmslot_segment_attach(path, &any, &other, NULL));
    shmslot_segment_close(other);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(segment);
}

static int attach_as_nobody(int link, void *path)
{
    shmslot_segment *segment = NULL;
    (void)link;
    CHECK(setgid(65534) == 0);
    CHECK(setuid(65534) == 0);
    CHECK_CODE(shmslot_segment_attach(path, NULL, &segment, NULL), SHMSLOT_E_PERMISSION);
    return 0;
}

static void check_no_access(void)
{
    char path[256];
    shmslot_options options = options_of(4, 100);
    shmslot_segment *segment;
    if (geteuid() != 0) {
        fprintf(stderr, "left out: a process without access (only root can become another user)\n");
        return;
    }
    CHECK(chmod(directory, 0755) == 0);
    segment = make_named(own_path(path, sizeof path, directory, "mine"), &options);
    CHECK_U64((uint64_t)run_child(attach_as_nobody, path), 0);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
    shmslot_segment_close(segment);
}

static void check_descriptors(void)
{
    char path[256];
    size_t size;
    unsigned char *bytes = segment_bytes(own_path(path, sizeof path, directory, "bytes"), &size);
    int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int some_seals[] = {0, F_SEAL_SHRINK, F_SEAL_GROW | F_SEAL_SHRINK};
    shmslot_segment *segment = NULL;
    size_t i;
    int ends[2];

    CHECK_CODE(shmslot_segment_attach_fd(-1, NULL, &segment, NULL), SHMSLOT_E_INVALID);
    CHECK(shmslot_segment_attach_fd(9999, NULL, &segment, NULL) < 0);
    CHECK(pipe(ends) == 0);
    CHECK_CODE(shmslot_segment_attach_fd(ends[0], NULL, &segment, NULL), SHMSLOT_E_NOT_A_FILE);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);

    for (i = 0; i < sizeof some_seals / sizeof some_seals[0]; i++) {
        int fd = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        CHECK(fd >= 0);
        CHECK(fchmod(fd, 0600) == 0);
        CHECK(write(fd, bytes, size) == (ssize_t)size);
        CHECK(some_seals[i] == 0 || fcntl(fd, F_ADD_SEALS, some_seals[i]) == 0);
        CHECK_CODE(shmslot_segment_attach_fd(fd, NULL, &segment, NULL), SHMSLOT_E_NOT_SEALED);
        CHECK(close(fd) == 0);
    }
    {
        int fd = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        CHECK(fd >= 0);
        CHECK(fcntl(fd, F_ADD_SEALS, needed) == 0);
        CHECK_CODE(shmslot_segment_attach_fd(fd, NULL, &segment, NULL), SHMSLOT_E_EMPTY);
        CHECK(close(fd) == 0);
    }
    CHECK(segment == NULL);
    free(bytes);
}

/* ---- the constant header, whose fields docs/segment-layout.md lists ---- */

#define HEADER_SIZE 512
#define CHECKSUM_AT 504

static uint64_t checksum(const unsigned char *header)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    size_t i;
    for (i = 0; i < CHECKSUM_AT; i++) hash = (hash ^ header[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void put_le(unsigned char *at, size_t size, uint64_t value)
{
    size_t i;
    for (i = 0; i < size; i++) at[i] = (unsigned char)(value >> (8 * i));
}

static void check_flipped_header_bytes(void)
{
    static const unsigned char masks[] = {0x01, 0x80, 0xFF};
    char path[256];
    size_t size, at, m;
    unsigned char *bytes = segment_bytes(own_path(path, sizeof path, directory, "flip"), &size);
    shmslot_segment *segment = NULL;

    write_file(path, bytes, size);
    CHECK_OK(shmslot_segment_attach(path, NULL, &segment, NULL)); /* untouched, they are fine */
    shmslot_segment_close(segment);
    for (at = 0; at < HEADER_SIZE; at++) {
        for (m = 0; m < sizeof masks; m++) {
            bytes[at] ^= masks[m];
            write_file(path, bytes, size);
            refuse(path, at < 8    ? SHMSLOT_E_NOT_A_SEGMENT
                         : at < 16 ? SHMSLOT_E_LAYOUT_VERSION
                                   : SHMSLOT_E_CORRUPT);
            bytes[at] ^= masks[m];
        }
    }
    CHECK(unlink(path) == 0);
    free(bytes);
}

/* Headers whose checksum is right and whose fields are wrong. */
static void check_forged_header_fields(void)
{
    static const struct {
        size_t offset, size;
        uint64_t value;
        int code;
    } forged[] = {
        {8, 4, 1, SHMSLOT_E_LAYOUT_VERSION},                           /* layout_version */
        {8, 4, UINT32_MAX, SHMSLOT_E_LAYOUT_VERSION},
        {12, 4, 0x04030201, SHMSLOT_E_LAYOUT_VERSION},                 /* byte_order */
        {16, 4, 1024, SHMSLOT_E_CORRUPT},                              /* header_size */
        {24, 8, 1, SHMSLOT_E_LAYOUT_VERSION},                          /* features_required */
        {24, 8, UINT64_C(1) << 63, SHMSLOT_E_LAYOUT_VERSION},
        {40, 8, 0, SHMSLOT_E_CORRUPT},                                 /* total_size */
        {40, 8, UINT64_MAX, SHMSLOT_E_CORRUPT},
        {56, 8, 0, SHMSLOT_E_CORRUPT},                                 /* slot_capacity */
        /* consistent: the stride has room for it */
        {56, 8, 101, SHMSLOT_OK},
        {56, 8, 129, SHMSLOT_E_CORRUPT},
        {56, 8, UINT64_MAX, SHMSLOT_E_CORRUPT},
        {64, 4, 0, SHMSLOT_E_CORRUPT},                                 /* slot_count */
        {64, 4, 1000, SHMSLOT_E_CORRUPT},
        {64, 4, UINT32_MAX, SHMSLOT_E_CORRUPT},
        {68, 4, 0, SHMSLOT_E_CORRUPT},                                 /* payload_align */
        {68, 4, 3, SHMSLOT_E_CORRUPT},
        {68, 4, UINT64_C(1) << 31, SHMSLOT_E_CORRUPT},
        {72, 4, 257, SHMSLOT_E_CORRUPT},                               /* user_header_size */
        {72, 4, 64, SHMSLOT_E_CORRUPT},
        {76, 4, 0, SHMSLOT_E_CORRUPT},                                 /* max_readers */
        {76, 4, 64, SHMSLOT_E_CORRUPT},
        {80, 4, 0, SHMSLOT_E_CORRUPT},                                 /* max_participants */
        {80, 4, 4095, SHMSLOT_E_CORRUPT},
        {84, 4, 4, SHMSLOT_E_CORRUPT},                                 /* history */
        {88, 4, 4, SHMSLOT_E_LAYOUT_VERSION},                          /* policy */
        {92, 4, UINT64_C(1) << 31, SHMSLOT_E_LAYOUT_VERSION},          /* flags */
        {96, 4, 07777, SHMSLOT_E_CORRUPT},                             /* mode */
        {104, 8, 0, SHMSLOT_E_CORRUPT},                                /* control_size */
        {104, 8, UINT64_MAX, SHMSLOT_E_CORRUPT},
        {112, 8, 1, SHMSLOT_E_CORRUPT},                                /* payload_offset */
        {112, 8, UINT64_MAX, SHMSLOT_E_CORRUPT},
        {120, 8, 1, SHMSLOT_E_CORRUPT},                                /* payload_stride */
        {120, 8, UINT64_MAX, SHMSLOT_E_CORRUPT},
        {207, 1, 'x', SHMSLOT_E_CORRUPT},                              /* type_name has no end */
    };
    char path[256];
    size_t size, i;
    unsigned char *bytes = segment_bytes(own_path(path, sizeof path, directory, "forged"), &size);

    for (i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        unsigned char saved[HEADER_SIZE];
        shmslot_segment *segment = NULL;
        memcpy(saved, bytes, sizeof saved);
        put_le(bytes + forged[i].offset, forged[i].size, forged[i].value);
        put_le(bytes + CHECKSUM_AT, 8, checksum(bytes));
        write_file(path, bytes, size);
        if (forged[i].code != SHMSLOT_OK) {
            fprintf(stderr, "header field at %zu forged as %" PRIu64 "\n", forged[i].offset,
                    forged[i].value);
            refuse(path, forged[i].code);
        } else {
            CHECK_OK(shmslot_segment_attach(path, NULL, &segment, NULL));
            shmslot_segment_close(segment);
        }
        memcpy(bytes, saved, sizeof saved);
    }
    CHECK(unlink(path) == 0);
    free(bytes);
}

/* Attaches to hostile bytes and, if they are accepted, makes every call. A crash shows as a
 * signal. */
static int use_whatever_it_is(int link, void *path)
{
    shmslot_segment *segment = NULL;
    shmslot_reader *reader = NULL;
    shmslot_writer *writer = NULL;
    shmslot_sample sample;
    shmslot_loan loan;
    int result = shmslot_segment_attach(path, NULL, &segment, NULL);
    int i;
    (void)link;
    if (result != SHMSLOT_OK) {
        CHECK(segment == NULL);
        CHECK(result == SHMSLOT_E_CORRUPT || result == SHMSLOT_E_NOT_FOUND ||
              result == SHMSLOT_E_NO_PARTICIPANT_SLOT);
        return -result;
    }
    if (shmslot_reader_join(segment, 2, &reader, NULL) == SHMSLOT_OK) {
        for (i = 0; i < 8; i++) {
            if (shmslot_slot_read(reader, &sample) == SHMSLOT_OK) {
                unsigned sum = 0;
                size_t at;
                CHECK(sample.len <= 100);
                for (at = 0; at < sample.len; at++) sum += ((const unsigned char *)sample.data)[at];
                CHECK(sum <= 100 * 255);
                (void)shmslot_slot_mark(reader, &sample);
            }
        }
        (void)shmslot_slot_peek_latest(reader, &sample);
    }
    if (shmslot_writer_open(segment, &writer, NULL) == SHMSLOT_OK) {
        uint64_t mask;
        for (i = 0; i < 8; i++) {
            if (shmslot_slot_reserve(writer, 100, AT_ONCE, &loan) == SHMSLOT_OK) {
                memset(loan.data, i, 100);
                (void)shmslot_slot_commit(writer, &loan, 100, NULL);
            }
        }
        (void)shmslot_writer_blockers(writer, &mask);
    }
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

/* Does this with the words that the participants share: each one is checked at each use. */
static void check_random_control_bytes(void)
{
    char path[256];
    size_t size;
    unsigned char *bytes = segment_bytes(own_path(path, sizeof path, directory, "random"), &size),
                  *copy = malloc(size);
    unsigned round, seed = 99;
    CHECK(copy != NULL);
    for (round = 0; round < 200; round++) {
        unsigned change, changes = 1 + round % 32;
        int result;
        memcpy(copy, bytes, size);
        for (change = 0; change < changes; change++) {
            seed = seed * 1103515245u + 12345u;
            copy[HEADER_SIZE + (seed >> 8) % (size - HEADER_SIZE)] = (unsigned char)(seed >> 3);
        }
        write_file(path, copy, size);
        result = run_child(use_whatever_it_is, path);
        CHECK(result <= 64); /* 128 and above is a signal */
    }
    CHECK(unlink(path) == 0);
    free(copy);
    free(bytes);
}

CHECK_MAIN()
{
    own_directory(directory, sizeof directory);
    RUN(check_other_files());
    RUN(check_symbolic_link());
    RUN(check_truncated());
    RUN(check_loosened_mode());
    RUN(check_another_owner());
    RUN(check_no_access());
    RUN(check_descriptors());
    RUN(check_flipped_header_bytes());
    RUN(check_forged_header_fields());
    RUN(check_random_control_bytes());
}
