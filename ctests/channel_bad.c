/* A channel whose other end violates the protocol: each violation has its own error, breaks the
 * channel permanently, and leaves no descriptor open. Also cases that look like violations and are
 * none. The other end is a plain socket. */
/* not under memcheck: it takes every descriptor away from a child, also the tool's */
/* not under musl: it sends 253 descriptors at once, and musl's sendmsg has no room for them */
/* not under aarch64: the emulator limits no memory, and loses no descriptors on the way */
#include "plain_channel.h"
#include "faults.h"

#include <netinet/in.h>
#include <sys/sysinfo.h>

#define PAGE UINT64_C(4096)
#define LARGE (UINT64_C(8) << 20)

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) count++;
    CHECK(closedir(folder) == 0);
    return count;
}

/* A plain socket and the channel at its other end. */
struct ends {
    int raw;
    shmslot_channel *channel;
    shmslot_attachments *attachments;
};

static struct ends open_ends_(int type, uint32_t flags)
{
    struct ends ends;
    int pair[2];
    CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0);
    ends.raw = pair[0];
    ends.channel = NULL;
    ends.attachments = NULL;
    CHECK_OK(shmslot_channel_from_fd(pair[1], flags, &ends.channel, NULL));
    CHECK(close(pair[1]) == 0);
    CHECK_OK(shmslot_attachments_create(ends.channel, 0, &ends.attachments, NULL));
    return ends;
}
#define open_ends(type, flags) CHECK_HERE(open_ends_(type, flags))

static void close_ends(struct ends ends)
{
    shmslot_attachments_close(ends.attachments);
    shmslot_channel_close(ends.channel);
    if (ends.raw >= 0) CHECK(close(ends.raw) == 0);
}

/* The channel is broken from now on, and says why at each call; what arrived with the violation is
 * closed. */
static void check_broken_(struct ends ends, int descriptors, const char *reason)
{
    shmslot_error detail;
    shmslot_mapped mapped;
    shmslot_segment *segment = NULL;
    shmslot_registry *registry = NULL;
    char byte;
    int turn;
    for (turn = 0; turn < 3; turn++) {
        memset(&detail, 0, sizeof detail);
        CHECK_CODE(shmslot_attachments_drain(ends.attachments, &detail), SHMSLOT_E_CHANNEL_BROKEN);
        if (strstr(detail.text, reason) == NULL) {
            fprintf(stderr, "the reason is \"%s\", not \"%s\"\n", detail.text, reason);
            check_leave();
        }
        CHECK(detail.code == SHMSLOT_E_CHANNEL_BROKEN);
    }
    CHECK(count_descriptors() == descriptors);
    CHECK_CODE(shmslot_attachments_resolve(ends.attachments, 1, 1, 0, 1, &mapped, NULL),
               SHMSLOT_E_CHANNEL_BROKEN);
    CHECK_CODE(
        shmslot_attachments_resolve_wait(ends.attachments, 1, 1, 0, 1, FOR_EVER, &mapped, NULL),
        SHMSLOT_E_CHANNEL_BROKEN);
    CHECK_CODE(shmslot_channel_recv_segment(ends.channel, NULL, FOR_EVER, &segment, NULL),
               SHMSLOT_E_CHANNEL_BROKEN);
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &segment, NULL));
    CHECK_CODE(shmslot_channel_send_segment(ends.channel, segment, AT_ONCE, NULL),
               SHMSLOT_E_CHANNEL_BROKEN);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    /* nothing to announce yet */
    CHECK_OK(shmslot_registry_add(registry, ends.channel, AT_ONCE, NULL));
    shmslot_registry_close(registry);
    /* the other end is told, as far as its socket can tell */
    CHECK(recv(ends.raw, &byte, 1, MSG_DONTWAIT) <= 0);
}
#define check_broken(ends, descriptors, reason) CHECK_HERE(check_broken_(ends, descriptors, reason))

/* One valid message, then one that is a violation. */
static void check_breach_(int type, uint32_t flags, const void *bytes, size_t size, const int *fds,
                          size_t count, const char *reason)
{
    int before = count_descriptors(), opened, file = sealed_file(PAGE);
    unsigned char good[16];
    shmslot_mapped mapped;
    struct ends ends = open_ends_(type, flags);
    attach_message(good, 1, 1, PAGE);
    CHECK(send_raw(ends.raw, good, sizeof good, &file, 1) == 0);
    CHECK(close(file) == 0);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 1, 1, 0, 4, &mapped, NULL));
    opened = count_descriptors();
    CHECK(send_raw(ends.raw, bytes, size, fds, count) == 0);
    check_broken_(ends, opened, reason);
    CHECK(memcmp(mapped.data, "text", 4) == 0); /* what is in hand stays mapped */
    CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    close_ends(ends);
    CHECK(count_descriptors() == before);
}
#define check_breach(type, flags, bytes, size, fds, count, reason)                                 \
    CHECK_HERE(check_breach_(type, flags, bytes, size, fds, count, reason))

static const int types[] = {SOCK_SEQPACKET, SOCK_DGRAM, SOCK_STREAM};

static void check_breaches(void)
{
    unsigned char message[64];
    int fds[253], pipes[2], fd, unsealed, write_only, i;
    char path[64];
    size_t t;

    fd = sealed_file(PAGE);
    for (i = 0; i < 253; i++) fds[i] = fd;
    CHECK(pipe2(pipes, O_CLOEXEC) == 0);
    unsealed = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(unsealed >= 0 && ftruncate(unsealed, (off_t)PAGE) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    write_only = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(write_only >= 0);
    memset(message, 0, sizeof message);

    for (t = 0; t < sizeof types / sizeof types[0]; t++) {
        int type = types[t];
        attach_message(message, 7, 1, PAGE);
        if (type != SOCK_STREAM) {
            check_breach(type, 0, message, 15, fds, 1, "a message of 15 bytes, not 16");
            check_breach(type, 0, message, 17, fds, 1, "a message of 17 bytes, not 16");
            check_breach(type, 0, message, 64, fds, 1, "a message of 64 bytes, not 16");
            check_breach(type, 0, message, 1, NULL, 0, "a message of 1 bytes, not 16");
            check_breach(type, 0, message, 0, fds, 1, "a message of 0 bytes, not 16");
            check_breach(type, 0, message, 0, NULL, 0, "a message of 0 bytes, not 16");
        }
        check_breach(type, 0, message, 16, NULL, 0, "a message with 0 descriptors, not 1");
        check_breach(type, 0, message, 16, fds, 2, "a message with 2 descriptors, not 1");
        check_breach(type, 0, message, 16, fds, 3, "a message with 3 descriptors, not 1");
        check_breach(type, 0, message, 16, fds, 253, "descriptors, not 1");
        check_breach(type, 0, message, 16, pipes, 1,
                     "region 7: its descriptor is not a regular file");
        check_breach(type, SHMSLOT_FLAG_UNSEALED, message, 16, pipes, 1,
                     "region 7: its descriptor is not a regular file");
        check_breach(type, 0, message, 16, &unsealed, 1, "region 7: its file is not sealed");
        check_breach(type, 0, message, 16, &write_only, 1, "mapping a region");
        attach_message(message, 7, 1, PAGE + 1);
        check_breach(type, 0, message, 16, fds, 1,
                     "region 7 has 4097 bytes by its message, but its file has 4096");
        check_breach(type, SHMSLOT_FLAG_UNSEALED, message, 16, &unsealed, 1,
                     "but its file has 4096");
        attach_message(message, 7, 1, 0);
        check_breach(type, 0, message, 16, fds, 1, "region 7 has the impossible length 0");
        attach_message(message, 7, 1, UINT64_C(1) << 63);
        check_breach(type, 0, message, 16, fds, 1,
                     "region 7 has the impossible length 9223372036854775808");
        attach_message(message, 7, 1, UINT64_MAX);
        check_breach(type, 0, message, 16, fds, 1,
                     "region 7 has the impossible length 18446744073709551615");
    }
    CHECK(close(fd) == 0 && close(pipes[0]) == 0 && close(pipes[1]) == 0);
    CHECK(close(unsealed) == 0 && close(write_only) == 0);
}

/* A stream may split a message anywhere; its descriptor arrives with any part, once. */
static void check_parts_of_a_stream(void)
{
    unsigned char message[16];
    int before = count_descriptors(), fd = sealed_file(PAGE), opened;
    size_t cut;
    shmslot_mapped mapped;
    struct ends ends = open_ends(SOCK_STREAM, 0);
    opened = count_descriptors();
    for (cut = 1; cut < 16; cut++) {
        int first = cut % 2 == 0;
        attach_message(message, (uint32_t)cut, 0, PAGE);
        CHECK(send_raw(ends.raw, message, cut, &fd, (size_t)first) == 0);
        CHECK_U64((uint64_t)shmslot_attachments_drain(ends.attachments, NULL), 0);
        CHECK(send_raw(ends.raw, message + cut, 16 - cut, &fd, (size_t)!first) == 0);
        CHECK_U64((uint64_t)shmslot_attachments_drain(ends.attachments, NULL), 1);
        CHECK_OK(shmslot_attachments_resolve(ends.attachments, (uint32_t)cut, 0, 0, PAGE, &mapped,
                                             NULL));
        CHECK(memcmp(mapped.data, "text", 5) == 0);
        CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    }
    CHECK(count_descriptors() == opened);
    CHECK(send_raw(ends.raw, message, 8, &fd, 1) == 0);
    CHECK_U64((uint64_t)shmslot_attachments_drain(ends.attachments, NULL), 0);
    CHECK(send_raw(ends.raw, message + 8, 4, &fd, 1) == 0);
    /* not only once all of it has come */
    check_broken(ends, opened, "a message with 2 descriptors, not 1");
    close_ends(ends);

    ends = open_ends(SOCK_STREAM, 0);
    opened = count_descriptors();
    CHECK(send_raw(ends.raw, message, 5, &fd, 1) == 0);
    CHECK(shutdown(ends.raw, SHUT_WR) == 0);
    check_broken(ends, opened, "after 5 of 16 bytes of a message");
    close_ends(ends);
    CHECK(close(fd) == 0);
    CHECK(count_descriptors() == before);
}

/* What has already arrived of the next message does not affect this one: its descriptor neither
 * counts for a last part without one, nor for a message that has none at all. */
static void check_next_part_of_a_stream(void)
{
    unsigned char message[16], next[16];
    int fd = sealed_file(PAGE), opened;
    shmslot_mapped mapped;
    struct ends ends = open_ends(SOCK_STREAM, 0);
    attach_message(message, 1, 0, PAGE);
    attach_message(next, 2, 0, PAGE);
    CHECK(send_raw(ends.raw, message, 8, &fd, 1) == 0);
    CHECK(send_raw(ends.raw, message + 8, 8, NULL, 0) == 0);
    CHECK(send_raw(ends.raw, next, 16, &fd, 1) == 0);
    CHECK_CODE(shmslot_attachments_drain(ends.attachments, NULL), 2);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 2, 0, 0, PAGE, &mapped, NULL));
    CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    opened = count_descriptors();
    CHECK(send_raw(ends.raw, message, 16, NULL, 0) == 0);
    CHECK(send_raw(ends.raw, next, 16, &fd, 1) == 0);
    check_broken(ends, opened, "a message with 0 descriptors, not 1");
    close_ends(ends);
    CHECK(close(fd) == 0);
}

/* A repeated announcement of a region changes nothing, and neither does an older one; a newer one
 * replaces it. */
static void check_duplicates(void)
{
    unsigned char message[16];
    int fd = sealed_file(PAGE), other = sealed_file(2 * PAGE), descriptors, i;
    shmslot_mapped first, again;
    shmslot_error detail;
    struct ends ends = open_ends(SOCK_SEQPACKET, 0);
    descriptors = count_descriptors();
    attach_message(message, 0, UINT32_MAX, PAGE);
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 0, UINT32_MAX, 0, PAGE, &first, NULL));
    attach_message(message, 0, UINT32_MAX, 2 * PAGE);
    for (i = 0; i < 10; i++) CHECK(send_raw(ends.raw, message, 16, &other, 1) == 0);
    attach_message(message, 0, UINT32_MAX - 1, 2 * PAGE);
    CHECK(send_raw(ends.raw, message, 16, &other, 1) == 0);
    CHECK_OK(shmslot_attachments_drain(ends.attachments, NULL));
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 0, UINT32_MAX, 0, PAGE, &again, NULL));
    CHECK(again.data == first.data);
    CHECK_OK(shmslot_attachments_release(ends.attachments, &again));
    CHECK_CODE(
        shmslot_attachments_resolve(ends.attachments, 0, UINT32_MAX, 1, 2 * PAGE, &again, &detail),
        SHMSLOT_E_OUT_OF_BOUNDS);
    CHECK(detail.numbers[0] == 1 && detail.numbers[1] == 2 * PAGE && detail.numbers[2] == PAGE);
    CHECK_CODE(shmslot_attachments_resolve(ends.attachments, 0, UINT32_MAX - 1, 0, 1, &again, NULL),
               SHMSLOT_E_UNKNOWN_MAPPING);
    attach_message(message, 0, 0, 2 * PAGE); /* generations wrap */
    CHECK(send_raw(ends.raw, message, 16, &other, 1) == 0);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 0, 0, 0, 2 * PAGE, &again, NULL));
    CHECK_CODE(shmslot_attachments_resolve(ends.attachments, 0, UINT32_MAX, 0, 1, &again, NULL),
               SHMSLOT_E_UNKNOWN_MAPPING);
    CHECK(memcmp(first.data, "text", 4) == 0); /* in hand still */
    CHECK_OK(shmslot_attachments_release(ends.attachments, &first));
    CHECK_CODE(shmslot_attachments_release(ends.attachments, &first), SHMSLOT_E_STALE);
    CHECK(count_descriptors() == descriptors);
    shmslot_attachments_close(ends.attachments);                       /* one is in hand */
    CHECK(memcmp(again.data, "text", 4) == 0);
    CHECK_OK(shmslot_attachments_release(ends.attachments, &again));
    ends.attachments = NULL;
    close_ends(ends);
    CHECK(close(fd) == 0 && close(other) == 0);
}

/* Plain files that nobody sealed, as other programs send them. */
static void check_unsealed_files(void)
{
    unsigned char message[16];
    shmslot_mapped mapped;
    shmslot_attachments *loose = NULL;
    struct ends ends = open_ends(SOCK_DGRAM, SHMSLOT_FLAG_UNSEALED);
    int fd = open(CHECK_SHM_DIR, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, (off_t)PAGE) == 0);
    attach_message(message, 3, 0, PAGE);
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 3, 0, 0, PAGE, &mapped, NULL));
    CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    CHECK_CODE(shmslot_attachments_attach_fd(ends.attachments, 4, 0, PAGE, fd, NULL),
               SHMSLOT_E_NOT_SEALED);
    CHECK_OK(shmslot_attachments_create(NULL, SHMSLOT_FLAG_UNSEALED, &loose, NULL));
    CHECK_OK(shmslot_attachments_attach_fd(loose, 4, 0, PAGE, fd, NULL));
    CHECK_CODE(shmslot_attachments_attach_fd(loose, 5, 0, PAGE + 1, fd, NULL), SHMSLOT_E_TRUNCATED);
    CHECK_CODE(shmslot_attachments_attach_fd(loose, 5, 0, 0, fd, NULL), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_attachments_attach_fd(loose, UINT32_MAX, 0, 1, fd, NULL), SHMSLOT_E_INVALID);
    CHECK_CODE(shmslot_attachments_attach_fd(loose, 5, 0, 1, ends.raw, NULL), SHMSLOT_E_NOT_A_FILE);
    CHECK_CODE(shmslot_attachments_attach_fd(loose, 5, 0, 1, -1, NULL), SHMSLOT_E_INVALID);
    CHECK_OK(shmslot_attachments_resolve(loose, 4, 0, 0, PAGE, &mapped, NULL));
    CHECK_OK(shmslot_attachments_release(loose, &mapped));
    CHECK_CODE(shmslot_attachments_resolve_wait(loose, 5, 0, 0, 1, FOR_EVER, &mapped, NULL),
               SHMSLOT_E_UNKNOWN_MAPPING);
    shmslot_attachments_close(loose);
    CHECK(close(fd) == 0);
    close_ends(ends);
}

/* Ten thousand messages, as many at a time as the socket takes: nothing stays open. */
static void check_many_messages(void)
{
    unsigned char message[16];
    int fd = sealed_file(PAGE), descriptors, error;
    uint32_t sent = 0, got = 0;
    struct ends ends = open_ends(SOCK_SEQPACKET, 0);
    descriptors = count_descriptors();
    while (sent < 10000) {
        attach_message(message, sent % 100, sent, PAGE);
        error = send_raw(ends.raw, message, 16, &fd, 1);
        if (error == 0) {
            sent++;
            continue;
        }
        CHECK(error == EAGAIN || error == ETOOMANYREFS);
        got += (uint32_t)shmslot_attachments_drain(ends.attachments, NULL);
        CHECK_U64(got, sent);
        CHECK(count_descriptors() == descriptors);
    }
    CHECK_OK(shmslot_attachments_drain(ends.attachments, NULL));
    CHECK(count_descriptors() == descriptors);
    close_ends(ends);
    CHECK(close(fd) == 0);
}

/* No descriptor is free: the message waits in the channel, which is not broken. */
static int drain_without_descriptors(int link, void *argument)
{
    unsigned char message[16];
    int fd = sealed_file(PAGE);
    struct ends ends = open_ends(SOCK_SEQPACKET, 0);
    struct rlimit limit, few;
    shmslot_error detail;
    shmslot_mapped mapped;
    (void)link;
    (void)argument;
    attach_message(message, 9, 1, PAGE);
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    few = limit;
    few.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    memset(&detail, 0, sizeof detail);
    CHECK_CODE(shmslot_attachments_drain(ends.attachments, &detail), SHMSLOT_E_SYS);
    CHECK(detail.os_errno == EMFILE);
    CHECK_CODE(shmslot_attachments_resolve(ends.attachments, 9, 1, 0, 4, &mapped, NULL),
               SHMSLOT_E_SYS);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 9, 1, 0, 4, &mapped, NULL));
    CHECK(memcmp(mapped.data, "text", 4) == 0);
    return 0;
}

/* Opens descriptors until only so many are left; returns the previous limit. */
static struct rlimit leave_descriptors(int count)
{
    struct rlimit before, few;
    int fds[16], i;
    CHECK(count > 0 && count <= 16);
    for (i = 0; i < count; i++) CHECK((fds[i] = dup(STDERR_FILENO)) >= 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    few.rlim_cur = (rlim_t)fds[count - 1] + 1;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (i = 0; i < count; i++) CHECK(close(fds[i]) == 0);
    return before;
}

/* A segment arrives while there are too few descriptors: it is still there when there are
 * enough. */
static int receive_with_few_descriptors(int link, void *argument)
{
    shmslot_channel *near = NULL, *far = NULL;
    shmslot_segment *sent = NULL, *segment = NULL;
    shmslot_error detail;
    int count, result = 0, short_of = 0;
    (void)link;
    (void)argument;
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &sent, NULL));
    CHECK_OK(shmslot_channel_send_segment(near, sent, AT_ONCE, NULL));
    for (count = 1; segment == NULL; count++) {
        struct rlimit before = leave_descriptors(count);
        result = shmslot_channel_recv_segment(far, NULL, AT_ONCE, &segment, &detail);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        if (segment != NULL) break;
        CHECK_CODE(result, SHMSLOT_E_SYS);
        CHECK(detail.os_errno == EMFILE);
        short_of++;
    }
    CHECK_OK(result);
    CHECK(short_of > 0);
    CHECK_U64(info_of(segment).segment_id, info_of(sent).segment_id);
    CHECK_CODE(shmslot_channel_recv_segment(far, NULL, AT_ONCE, &segment, NULL), SHMSLOT_E_AGAIN);
    return 0;
}

/* Does this with a connection: the connecting process notices nothing. */
static int accept_with_few_descriptors(int link, void *argument)
{
    shmslot_channel *listener = NULL, *near = NULL, *far = NULL;
    shmslot_segment *sent = NULL, *segment = NULL;
    char name[64];
    int count, result = 0, short_of = 0;
    (void)link;
    (void)argument;
    snprintf(name, sizeof name, "@shmslot-ctest-few-%ld", (long)getpid());
    CHECK_OK(shmslot_channel_listen(name, 0, &listener, NULL));
    CHECK_OK(shmslot_channel_connect(name, 0, FOR_EVER, &near, NULL));
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &sent, NULL));
    CHECK_OK(shmslot_channel_send_segment(near, sent, AT_ONCE, NULL));
    for (count = 1; far == NULL; count++) {
        struct rlimit before = leave_descriptors(count);
        result = shmslot_channel_accept(listener, AT_ONCE, &far, NULL);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        if (far != NULL) break;
        CHECK_CODE(result, SHMSLOT_E_SYS);
        short_of++;
    }
    CHECK_OK(result);
    CHECK(short_of > 0);
    CHECK_OK(shmslot_channel_recv_segment(far, NULL, FOR_EVER, &segment, NULL));
    return 0;
}

/* A region arrives for which there is no memory. It is kept and does not block others; nothing is
 * lost, and the channel works as before. */
static void check_kept_for_want_of_memory(struct ends ends, int fd, void (*begin)(void),
                                          void (*end)(void))
{
    unsigned char message[16];
    int turn, small = sealed_file(PAGE);
    shmslot_error detail;
    shmslot_mapped mapped;
    shmslot_segment *sent = NULL, *segment = NULL;
    attach_message(message, 1, 1, LARGE);
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    attach_message(message, 2, 1, PAGE);
    CHECK(send_raw(ends.raw, message, 16, &small, 1) == 0);
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &sent, NULL));
    begin();
    for (turn = 0; turn < 3; turn++) {
        memset(&detail, 0, sizeof detail);
        CHECK_CODE(shmslot_attachments_drain(ends.attachments, &detail), SHMSLOT_E_NO_MEMORY);
        CHECK(detail.os_errno == EAGAIN || detail.os_errno == ENOMEM);
        CHECK(detail.numbers[0] == LARGE);
        CHECK_CODE(shmslot_attachments_resolve(ends.attachments, 1, 1, 0, 4, &mapped, NULL),
                   SHMSLOT_E_NO_MEMORY);
        CHECK_OK(shmslot_attachments_resolve(ends.attachments, 2, 1, 0, 4, &mapped, NULL));
        CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
        CHECK_CODE(shmslot_attachments_resolve(ends.attachments, 3, 1, 0, 4, &mapped, NULL),
                   SHMSLOT_E_UNKNOWN_MAPPING);
    }
    /* So many are kept, and what comes behind them waits until there is memory. */
    for (turn = 10; turn < 80; turn++) {
        attach_message(message, (uint32_t)turn, 1, LARGE);
        CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    }
    CHECK_CODE(shmslot_attachments_drain(ends.attachments, NULL), SHMSLOT_E_NO_MEMORY);
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 2, 1, 0, 4, &mapped, NULL));
    CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    attach_message(message, 1, 2, LARGE); /* in its next generation, too */
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    end();
    CHECK_CODE(shmslot_attachments_drain(ends.attachments, NULL), 72);
    for (turn = 10; turn < 80; turn++) {
        CHECK_OK(shmslot_attachments_resolve(ends.attachments, (uint32_t)turn, 1, 0, LARGE, &mapped,
                                             NULL));
        CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    }
    CHECK_OK(shmslot_attachments_resolve(ends.attachments, 1, 2, 0, 4, &mapped, NULL));
    CHECK(memcmp(mapped.data, "text", 4) == 0);
    CHECK_OK(shmslot_attachments_release(ends.attachments, &mapped));
    attach_message(message, UINT32_MAX, 2, 0); /* and it goes on to carry segments */
    CHECK(send_raw(ends.raw, message, 16, (const int[]){shmslot_segment_fd(sent)}, 1) == 0);
    CHECK_OK(shmslot_channel_recv_segment(ends.channel, NULL, AT_ONCE, &segment, NULL));
    shmslot_segment_close(segment);
    shmslot_segment_close(sent);
    CHECK(close(small) == 0);
}

static struct rlimit plenty;

static void take_address_space(void)
{
    struct rlimit limit;
    unsigned long long pages = 0;
    FILE *sizes = fopen("/proc/self/statm", "re");
    CHECK(sizes != NULL && fscanf(sizes, "%llu", &pages) == 1 && fclose(sizes) == 0);
    CHECK(getrlimit(RLIMIT_AS, &plenty) == 0);
    limit = plenty;
    limit.rlim_cur = (rlim_t)(pages * PAGE + LARGE / 2);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void give_address_space(void)
{
    CHECK(setrlimit(RLIMIT_AS, &plenty) == 0);
}

static int drain_without_address_space(int link, void *argument)
{
    struct ends ends = open_ends(SOCK_SEQPACKET, 0);
    (void)link;
    (void)argument;
    check_kept_for_want_of_memory(ends, sealed_file(LARGE), take_address_space, give_address_space);
    close_ends(ends);
    return 0;
}

static void lock_what_comes(void)
{
    CHECK(mlockall(MCL_FUTURE) == 0);
}

static void lock_nothing(void)
{
    CHECK(munlockall() == 0);
}

static int drain_without_locked_memory(int link, void *argument)
{
    struct rlimit limit;
    struct ends ends;
    void *too_much;
    (void)link;
    (void)argument;
    if (geteuid() == 0) become(NOBODY, NOBODY); /* root may lock without limit */
    CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 4 << 20 ? limit.rlim_max : 4 << 20;
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (mlockall(MCL_FUTURE) != 0) {
        fprintf(stderr, "left out: pages locked as they are mapped (mlockall: %s)\n",
                strerror(errno));
        return 0;
    }
    too_much = mmap(NULL, LARGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(munlockall() == 0);
    if (too_much != MAP_FAILED) { /* the address sanitizer's mlockall says 0 and does nothing */
        CHECK(munmap(too_much, LARGE) == 0);
        fputs("left out: pages locked as they are mapped (mlockall does nothing here)\n", stderr);
        return 0;
    }
    ends = open_ends(SOCK_SEQPACKET, 0);
    check_kept_for_want_of_memory(ends, sealed_file(LARGE), lock_what_comes, lock_nothing);
    close_ends(ends);
    return 0;
}

/* Files that are holes, each as large as all memory: of one sender no more are mapped than an
 * honest one could have. */
static void check_more_than_memory(void)
{
    unsigned char message[16];
    struct sysinfo machine;
    uint64_t size, number;
    int before = count_descriptors(), descriptors, code = 0;
    shmslot_mapped first;
    shmslot_error detail;
    struct ends ends = open_ends(SOCK_SEQPACKET, 0);
    CHECK(sysinfo(&machine) == 0);
    size = ((uint64_t)machine.totalram + machine.totalswap) * machine.mem_unit / PAGE * PAGE;
    for (number = 1; number <= 6; number++) {
        int fd = sealed_file(size);
        attach_message(message, (uint32_t)number, 1, size);
        CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0 || code < 0);
        CHECK(close(fd) == 0);
        if (number == 1)
            CHECK_OK(shmslot_attachments_resolve(ends.attachments, 1, 1, 0, 4, &first, NULL));
        descriptors = count_descriptors();
        code = shmslot_attachments_drain(ends.attachments, &detail);
        if (code < 0) break;
    }
    CHECK_CODE(code, SHMSLOT_E_CHANNEL_BROKEN);
    CHECK(strstr(detail.text, "of this sender mapped, more than") != NULL);
    CHECK_U64(number, 3);
    CHECK_U64(detail.numbers[0], 3);
    CHECK_U64(detail.numbers[1], 3 * size);
    check_broken(ends, descriptors, "of this sender mapped, more than");
    CHECK(memcmp(first.data, "text", 4) == 0);
    CHECK_OK(shmslot_attachments_release(ends.attachments, &first));
    close_ends(ends);

    /* Released regions do not count. */
    ends = open_ends(SOCK_SEQPACKET, 0);
    for (number = 1; number <= 6; number++) {
        int fd = sealed_file(size);
        attach_message(message, 1, (uint32_t)number, size);
        CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
        CHECK(close(fd) == 0);
        CHECK_CODE(shmslot_attachments_drain(ends.attachments, NULL), 1);
    }
    close_ends(ends);
    CHECK(count_descriptors() == before);
}

/* A connection of which not everything is sent, and on which the sender has set SO_LINGER. */
static int lingering_socket(int *ret_other)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    struct linger linger;
    char bytes[4096] = {0};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 &&
          listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0);
    CHECK((*ret_other = accept(listener, NULL, NULL)) >= 0);
    CHECK(close(listener) == 0);
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
    linger.l_onoff = 1;
    linger.l_linger = 30000;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    return fd;
}

/* Closing what arrived does not wait, whatever the sender has set: in a message, in the next one,
 * in a part of one, beyond what one receive can return, where a segment is wanted, and where one
 * waits to be received. */
static void check_lingering(void)
{
    enum { REGION, SECOND, BEHIND, PART, MANY, SEGMENT, KEPT, WAYS };
    unsigned char message[16];
    int before = count_descriptors(), way, i;
    for (way = 0; way < WAYS; way++) {
        shmslot_segment *segment = NULL;
        struct ends ends = open_ends(way == PART ? SOCK_STREAM : SOCK_SEQPACKET, 0);
        int other, fd = lingering_socket(&other), file = sealed_file(PAGE), fds[253];
        attach_message(message, way == SEGMENT || way == KEPT ? UINT32_MAX : 1, 1, PAGE);
        for (i = 0; i < 253; i++) fds[i] = file;
        fds[way == REGION || way == SEGMENT || way == KEPT ? 0 : way == MANY ? 252 : 1] = fd;
        if (way == BEHIND) {
            CHECK(send_raw(ends.raw, message, 15, fds, 1) == 0);
            CHECK(send_raw(ends.raw, "", 0, NULL, 0) == 0);
        }
        CHECK(send_raw(ends.raw, message, way == PART ? 15 : 16, fds,
                       way == MANY                                     ? 253
                       : way == SECOND || way == BEHIND || way == PART ? 2
                                                                       : 1) == 0);
        CHECK(close(fd) == 0 && close(file) == 0);
        if (way == SEGMENT) {
            CHECK_CODE(shmslot_channel_recv_segment(ends.channel, NULL, AT_ONCE, &segment, NULL),
                       SHMSLOT_E_NOT_A_FILE);
        } else {
            CHECK_CODE(shmslot_attachments_drain(ends.attachments, NULL),
                       way == KEPT ? 0 : SHMSLOT_E_CHANNEL_BROKEN);
        }
        close_ends(ends);
        CHECK(close(other) == 0);
    }
    CHECK(count_descriptors() == before);
}

/* The other end is gone: every kind of socket that can tell returns a code, even where a plain send
 * raises a signal. */
static void check_sending_to_nobody(void)
{
    static const int telling[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    shmslot_segment *segment = NULL;
    size_t t;
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &segment, NULL));
    for (t = 0; t < sizeof telling / sizeof telling[0]; t++) {
        struct ends ends = open_ends(telling[t], 0);
        CHECK_OK(shmslot_channel_send_segment(ends.channel, segment, AT_ONCE, NULL));
        CHECK(close(ends.raw) == 0);
        ends.raw = -1;
        CHECK_CODE(shmslot_channel_send_segment(ends.channel, segment, FOR_EVER, NULL),
                   SHMSLOT_E_CHANNEL_BROKEN);
        CHECK_CODE(shmslot_channel_send_segment(ends.channel, segment, FOR_EVER, NULL),
                   SHMSLOT_E_CHANNEL_BROKEN);
        close_ends(ends);
    }
    shmslot_segment_close(segment);
}

/* What arrived is closed when this process executes another program. */
static void check_close_on_exec(void)
{
    unsigned char message[16];
    char inherited[1024];
    int fd = sealed_file(PAGE), count = 0, i;
    struct ends ends;
    shmslot_registry *registry = NULL;
    shmslot_lease lease;
    shmslot_segment *segment = NULL;
    for (i = 0; i < 1024; i++) inherited[i] = i != fd && fcntl(i, F_GETFD) >= 0;
    ends = open_ends(SOCK_SEQPACKET, 0);
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &segment, NULL));
    attach_message(message, UINT32_MAX, 1, PAGE);
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    attach_message(message, 1, 1, PAGE);
    CHECK(send_raw(ends.raw, message, 16, &fd, 1) == 0);
    /* The first of the two is kept, with its descriptor, while the second is wanted. */
    CHECK_U64((uint64_t)shmslot_attachments_drain(ends.attachments, NULL), 1);
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    CHECK_OK(shmslot_region_alloc(registry, 1, AT_ONCE, &lease, NULL));
    for (i = 0; i < 1024; i++) {
        int flags = fcntl(i, F_GETFD);
        if (flags < 0 || inherited[i]) continue;
        count++;
        CHECK((flags & FD_CLOEXEC) != 0);
    }
    CHECK(count >= 6);
    CHECK_OK(shmslot_region_release(registry, &lease));
    shmslot_registry_close(registry);
    shmslot_segment_close(segment);
    close_ends(ends);
    CHECK(close(fd) == 0);
}

int main(void)
{
    int before;
    check_begin();
    before = count_descriptors();
    check_breaches();
    check_parts_of_a_stream();
    check_next_part_of_a_stream();
    check_duplicates();
    check_unsealed_files();
    check_many_messages();
    CHECK_U64((uint64_t)run_child(drain_without_descriptors, NULL), 0);
    CHECK_U64((uint64_t)run_child(receive_with_few_descriptors, NULL), 0);
    CHECK_U64((uint64_t)run_child(accept_with_few_descriptors, NULL), 0);
    CHECK_U64((uint64_t)run_child(drain_without_address_space, NULL), 0);
    CHECK_U64((uint64_t)run_child(drain_without_locked_memory, NULL), 0);
    check_more_than_memory();
    check_lingering();
    check_sending_to_nobody();
    check_close_on_exec();
    CHECK(count_descriptors() == before);
    return 0;
}
