/* Mapped regions between processes: leases on one side, places on the other, in both directions at
 * once; connections by name and by inheritance; the death of either side; forks; another user.
 * References travel over the test's own links. */
/* not under aarch64: it needs what the emulator lacks */
#include "plain_channel.h"
#include "samples.h"

#include <grp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/un.h>

#define ROUNDS 2000

static shmslot_registry *make_registry(uint64_t region_size)
{
    shmslot_registry_options options = SHMSLOT_REGISTRY_OPTIONS_INIT;
    shmslot_registry *registry = NULL;
    options.region_size = region_size;
    CHECK_OK(shmslot_registry_create(&options, &registry, NULL));
    return registry;
}

static shmslot_attachments *make_attachments(shmslot_channel *channel)
{
    shmslot_attachments *attachments = NULL;
    CHECK_OK(shmslot_attachments_create(channel, 0, &attachments, NULL));
    return attachments;
}

static uint64_t channels_of(shmslot_registry *registry)
{
    shmslot_pool_info state;
    CHECK_OK(shmslot_registry_info(registry, &state, sizeof state));
    return state.channels;
}

/* ---- both directions ---- */

static size_t length_of(uint32_t round)
{
    static const size_t lengths[] = {1, 70000, 300, 65536, 4096, 0, 200000};
    return lengths[round % 7] + (round % 3);
}

static void fill(shmslot_lease *lease, uint32_t round, unsigned char who)
{
    memset(lease->data, (int)((round * 7 + who) & 0xFF), (size_t)lease->len);
}

static void check_filled(const shmslot_mapped *mapped, uint32_t round, unsigned char who)
{
    const unsigned char *bytes = mapped->data;
    uint64_t i;
    CHECK_U64(mapped->len, length_of(round));
    for (i = 0; i < mapped->len; i++) {
        if (bytes[i] != ((round * 7 + who) & 0xFF)) {
            fprintf(stderr, "round %u, byte %" PRIu64 " of %" PRIu64 "\n", round, i, mapped->len);
            check_leave();
        }
    }
}

/* Sends payloads to the other side and gets as many back, a few under way at a time. */
static void talk(shmslot_channel *channel, int link, unsigned char me, unsigned char other)
{
    enum { WINDOW = 3 };
    shmslot_registry *registry = make_registry(1u << 16);
    shmslot_attachments *attachments = make_attachments(channel);
    shmslot_lease leases[WINDOW], reference;
    shmslot_mapped mapped[WINDOW];
    shmslot_pool_info state;
    uint32_t round, done = 0;
    CHECK_OK(shmslot_registry_add(registry, channel, FOR_EVER, NULL));
    for (round = 0; round < ROUNDS; round++) {
        shmslot_lease *lease = &leases[round % WINDOW];
        CHECK_CODE(shmslot_region_alloc(registry, length_of(round), FOR_EVER, lease, NULL), 0);
        CHECK(((uintptr_t)lease->data & 63) == 0);
        fill(lease, round, me);
        send_bytes(link, lease, sizeof *lease);
        receive_bytes(link, &reference, sizeof reference);
        CHECK_OK(shmslot_attachments_resolve_wait(
            attachments, reference.map_id, reference.generation, reference.offset, reference.len,
            FOR_EVER, &mapped[round % WINDOW], NULL));
        if (round + 1 < WINDOW) continue;
        check_filled(&mapped[done % WINDOW], done, other);
        CHECK_OK(shmslot_attachments_release(attachments, &mapped[done % WINDOW]));
        say(link); /* that one is done with, */
        hear(link); /* as the other side is with ours */
        CHECK_OK(shmslot_region_release(registry, &leases[done % WINDOW]));
        CHECK_CODE(shmslot_region_release(registry, &leases[done % WINDOW]), SHMSLOT_E_STALE);
        done++;
    }
    CHECK_OK(shmslot_registry_info(registry, &state, sizeof state));
    CHECK_U64(state.leases, WINDOW - 1);
    CHECK(state.regions < 16);
    shmslot_attachments_close(attachments);
    shmslot_registry_close(registry);
    for (; done < ROUNDS; done++) {
        CHECK_OK(shmslot_attachments_release(attachments, &mapped[done % WINDOW]));
        CHECK_OK(shmslot_region_release(registry, &leases[done % WINDOW]));
    }
}

static int talk_over_the_inherited_end(int link, void *argument)
{
    shmslot_channel **ends = argument, *channel = NULL;
    CHECK_OK(shmslot_channel_from_fd(shmslot_channel_fd(ends[1]), 0, &channel, NULL));
    shmslot_channel_close(ends[0]);
    shmslot_channel_close(ends[1]);
    talk(channel, link, 2, 1);
    hear(link);
    shmslot_channel_close(channel);
    return 0;
}

static void check_both_directions(void)
{
    shmslot_channel *ends[2] = {NULL, NULL};
    child other;
    CHECK_OK(shmslot_channel_pair(0, &ends[0], &ends[1], NULL));
    other = start_child(talk_over_the_inherited_end, ends);
    shmslot_channel_close(ends[1]);
    talk(ends[0], other.link, 1, 2);
    say(other.link);
    CHECK_CHILD(other);
    shmslot_channel_close(ends[0]);
}

/* ---- a reference that is faster than its descriptor ---- */

static int resolve_before_it_comes(int link, void *argument)
{
    shmslot_channel *channel = NULL;
    shmslot_attachments *attachments;
    shmslot_lease reference;
    shmslot_mapped mapped;
    CHECK_OK(shmslot_channel_connect(argument, 0, FOR_EVER, &channel, NULL));
    attachments = make_attachments(channel);
    receive_bytes(link, &reference, sizeof reference);
    CHECK_CODE(shmslot_attachments_resolve(attachments, reference.map_id, reference.generation, 0,
                                           5, &mapped, NULL),
               SHMSLOT_E_UNKNOWN_MAPPING);
    CHECK_CODE(shmslot_attachments_resolve_wait(attachments, reference.map_id, reference.generation,
                                                0, 5, MILLISECOND, &mapped, NULL),
               SHMSLOT_E_TIMEOUT);
    say(link);
    CHECK_OK(shmslot_attachments_resolve_wait(attachments, reference.map_id, reference.generation,
                                              0, 5, FOR_EVER, &mapped, NULL));
    CHECK(memcmp(mapped.data, "late", 5) == 0);
    say(link);
    /* The sender dies: what is in hand and what is known stay good, and what is not known never
     * comes. */
    CHECK_CODE(shmslot_attachments_resolve_wait(attachments, reference.map_id + 1, 1, 0, 5,
                                                FOR_EVER, &mapped, NULL),
               SHMSLOT_E_CHANNEL_BROKEN);
    CHECK(memcmp(mapped.data, "late", 5) == 0);
    CHECK_OK(shmslot_attachments_release(attachments, &mapped));
    CHECK_OK(shmslot_attachments_resolve(attachments, reference.map_id, reference.generation, 1, 4,
                                         &mapped, NULL));
    CHECK(memcmp(mapped.data, "ate", 4) == 0);
    CHECK_OK(shmslot_attachments_release(attachments, &mapped));
    shmslot_attachments_close(attachments);
    shmslot_channel_close(channel);
    return 0;
}

static void check_waiting_for_the_descriptor(const char *name)
{
    shmslot_channel *listener = NULL, *channel = NULL;
    shmslot_registry *registry = make_registry(4096);
    shmslot_lease lease;
    child other;
    CHECK_OK(shmslot_channel_listen(name, 0, &listener, NULL));
    CHECK_CODE(shmslot_channel_accept(listener, AT_ONCE, &channel, NULL), SHMSLOT_E_AGAIN);
    CHECK_CODE(shmslot_channel_accept(listener, MILLISECOND, &channel, NULL), SHMSLOT_E_TIMEOUT);
    other = start_child(resolve_before_it_comes, (void *)name);
    CHECK_OK(shmslot_channel_accept(listener, FOR_EVER, &channel, NULL));
    CHECK_OK(shmslot_region_alloc(registry, 5, AT_ONCE, &lease, NULL));
    memcpy(lease.data, "late", 5);
    send_bytes(other.link, &lease, sizeof lease);
    hear(other.link);
    until_asleep(other.pid);
    CHECK_OK(shmslot_registry_add(registry, channel, AT_ONCE, NULL));
    hear(other.link);
    shmslot_registry_close(registry); /* a lease is out */
    CHECK_OK(shmslot_region_release(registry, &lease));
    shmslot_channel_close(channel);
    CHECK_CHILD(other);
    shmslot_channel_close(listener);
    CHECK_CODE(shmslot_channel_connect(name, 0, FOR_EVER, &channel, NULL), SHMSLOT_E_NOT_FOUND);
    CHECK_CODE(shmslot_channel_listen("/nobody/made/this", 0, &listener, NULL),
               SHMSLOT_E_NOT_FOUND);
}

/* ---- segments without a name ---- */

static int read_a_segment_that_comes(int link, void *argument)
{
    shmslot_channel *channel = NULL;
    shmslot_segment *segment = NULL;
    shmslot_reader *reader;
    CHECK_OK(shmslot_channel_connect(argument, 0, FOR_EVER, &channel, NULL));
    CHECK_OK(shmslot_channel_recv_segment(channel, NULL, FOR_EVER, &segment, NULL));
    reader = join(segment, 0);
    say(link);
    CHECK_U64(take_wait(reader), 4711);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    shmslot_channel_close(channel);
    return 0;
}

static void check_sending_a_segment(const char *name)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options), *named;
    shmslot_channel *listener = NULL, *channel = NULL;
    shmslot_writer *writer = open_writer(segment);
    char unique[64];
    child other;
    CHECK_OK(shmslot_channel_listen(name, 0, &listener, NULL));
    other = start_child(read_a_segment_that_comes, (void *)name);
    CHECK_OK(shmslot_channel_accept(listener, FOR_EVER, &channel, NULL));
    named = make_named(unique_name(unique, sizeof unique, "regions"), &options);
    CHECK_CODE(shmslot_channel_send_segment(channel, named, AT_ONCE, NULL), SHMSLOT_E_NOT_SEALED);
    CHECK_CODE(shmslot_channel_send_segment(listener, segment, AT_ONCE, NULL), SHMSLOT_E_INVALID);
    shmslot_segment_close(named);
    CHECK_OK(shmslot_segment_unlink(unique, NULL));
    CHECK_OK(shmslot_channel_send_segment(channel, segment, AT_ONCE, NULL));
    hear(other.link);
    (void)put(writer, 4711);
    CHECK_CHILD(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    shmslot_channel_close(channel);
    shmslot_channel_close(listener);
}

/* ---- a receiver is killed ---- */

static int wait_to_be_killed(int link, void *argument)
{
    shmslot_channel *channel = NULL;
    CHECK_OK(shmslot_channel_connect(argument, 0, FOR_EVER, &channel, NULL));
    say(link);
    hear(link); /* never comes */
    return 1;
}

static void check_a_killed_receiver(const char *name)
{
    shmslot_channel *listener = NULL, *channel = NULL;
    shmslot_registry *registry = make_registry(4096);
    shmslot_lease leases[3];
    child other;
    int i;
    CHECK_OK(shmslot_channel_listen(name, 0, &listener, NULL));
    other = start_child(wait_to_be_killed, (void *)name);
    CHECK_OK(shmslot_channel_accept(listener, FOR_EVER, &channel, NULL));
    CHECK_OK(shmslot_registry_add(registry, channel, AT_ONCE, NULL));
    hear(other.link);
    CHECK_CODE(shmslot_region_alloc(registry, 4096, AT_ONCE, &leases[0], NULL), 0);
    CHECK_U64(channels_of(registry), 1);
    CHECK(kill(other.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(other), 128 + SIGKILL);
    /* one channel less */
    CHECK_CODE(shmslot_region_alloc(registry, 4096, AT_ONCE, &leases[1], NULL), 1);
    CHECK_CODE(shmslot_region_alloc(registry, 4096, AT_ONCE, &leases[2], NULL), 0);
    CHECK_U64(channels_of(registry), 0);
    for (i = 0; i < 3; i++) CHECK_OK(shmslot_region_release(registry, &leases[i]));
    shmslot_registry_close(registry);
    shmslot_channel_close(channel);
    shmslot_channel_close(listener);
}

/* ---- a name that a dead process has left, and two who want it ---- */

static child rival;
static int rival_waits;

/* Whoever takes the name away stops just before, until the other one has come as far as it can. */
int unlink(const char *path)
{
    if (rival_waits) {
        int asleep;
        struct pollfd answer;
        rival_waits = 0;
        say(rival.link);
        answer.fd = rival.link;
        answer.events = POLLIN;
        for (asleep = 0; asleep < 20; asleep++) {
            if (poll(&answer, 1, 1) == 1) break;
            until_asleep(rival.pid);
        }
    }
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int want_the_name(int link, void *argument)
{
    shmslot_channel *listener = NULL;
    int result;
    hear(link);
    result = shmslot_channel_listen(argument, 0, &listener, NULL);
    send_bytes(link, &result, sizeof result);
    hear(link);
    shmslot_channel_close(listener);
    return 0;
}

/* The socket of a listener that has died. */
static void leave_a_dead_one(const char *path)
{
    int dead = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    CHECK(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    CHECK(dead >= 0 && bind(dead, (struct sockaddr *)&address, sizeof address) == 0 &&
          close(dead) == 0);
}

/* One of them gets it, and that is where a connection leads. */
static void check_rivals(const char *path)
{
    int result, other;
    shmslot_channel *listener = NULL, *near = NULL, *far = NULL;
    leave_a_dead_one(path);
    rival = start_child(want_the_name, (void *)path);
    rival_waits = 1;
    result = shmslot_channel_listen(path, 0, &listener, NULL);
    CHECK(!rival_waits); /* it was about to take the name */
    receive_bytes(rival.link, &other, sizeof other);
    CHECK_OK(result);
    CHECK_CODE(other, SHMSLOT_E_EXISTS);
    CHECK_OK(shmslot_channel_connect(path, 0, FOR_EVER, &near, NULL));
    CHECK_OK(shmslot_channel_accept(listener, FOR_EVER, &far, NULL));
    say(rival.link);
    CHECK_CHILD(rival);
    shmslot_channel_close(near);
    shmslot_channel_close(far);
    CHECK(access(path, F_OK) == 0); /* not taken away by the other one */
    shmslot_channel_close(listener);
    CHECK(access(path, F_OK) != 0);
}

/* A name is not taken for dead while somebody takes it. */
static void check_busy_name(const char *directory, const char *path)
{
    shmslot_channel *listener = NULL;
    int folder = open(directory, O_RDONLY | O_CLOEXEC);
    leave_a_dead_one(path);
    CHECK(folder >= 0 && flock(folder, LOCK_EX) == 0);
    CHECK_CODE(shmslot_channel_listen(path, 0, &listener, NULL), SHMSLOT_E_NAME_BUSY);
    CHECK(close(folder) == 0);
    CHECK_OK(shmslot_channel_listen(path, 0, &listener, NULL));
    shmslot_channel_close(listener);
}

/* ---- a receiver of another library: it maps what a message tells of, writable ---- */

static int receive_raw(int socket, unsigned char *message)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part;
    struct msghdr whole;
    int fd;
    part.iov_base = message;
    part.iov_len = 16;
    memset(&whole, 0, sizeof whole);
    whole.msg_iov = &part;
    whole.msg_iovlen = 1;
    whole.msg_control = control.bytes;
    whole.msg_controllen = sizeof control.bytes;
    CHECK(recvmsg(socket, &whole, MSG_CMSG_CLOEXEC) == 16);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

static void check_foreign_receiver(uint64_t flags)
{
    shmslot_registry_options options = SHMSLOT_REGISTRY_OPTIONS_INIT;
    shmslot_registry *registry = NULL;
    shmslot_channel *channel = NULL;
    shmslot_attachments *own = NULL;
    shmslot_lease lease;
    shmslot_mapped mapped;
    unsigned char message[16], expected[16];
    unsigned char *bytes;
    int ends[2], fd, round;
    options.region_size = 8192;
    options.flags = flags;
    CHECK_OK(shmslot_registry_create(&options, &registry, NULL));
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK_OK(shmslot_channel_from_fd(ends[0], 0, &channel, NULL));
    CHECK_OK(shmslot_registry_add(registry, channel, AT_ONCE, NULL));
    for (round = 0; round < 5; round++) {
        CHECK_OK(shmslot_region_alloc(registry, 8192, AT_ONCE, &lease, NULL));
        memcpy(lease.data, "text", 4);
        CHECK(lease.region_len == 8192 &&
              (char *)lease.region + lease.offset == (char *)lease.data);
        if (round > 0 && flags == 0) {
            /* it has the region, whose page tells of the rest */
            CHECK(recv(ends[1], message, 16, MSG_DONTWAIT) < 0);
            CHECK_OK(shmslot_region_release(registry, &lease));
            continue;
        }
        fd = receive_raw(ends[1], message);
        attach_message(expected, lease.map_id, lease.generation, 8192);
        CHECK(memcmp(message, expected, 16) == 0);
        bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (flags == 0) {
            /* Kernels before 5.1 have no seal for that. */
            CHECK((fcntl(fd, F_GET_SEALS) & 0x0010 /* F_SEAL_FUTURE_WRITE */) == 0 ||
                  bytes == MAP_FAILED);
        } else {
            CHECK(bytes != MAP_FAILED);
            CHECK(memcmp(bytes + lease.offset, "text", 4) == 0);
            bytes[lease.offset] = 'n';
            CHECK(memcmp(lease.data, "next", 1) == 0);
        }
        if (bytes != MAP_FAILED) CHECK(munmap(bytes, 8192) == 0);
        /* Our own receiver takes it either way. */
        CHECK_OK(shmslot_attachments_create(NULL, 0, &own, NULL));
        CHECK_OK(
            shmslot_attachments_attach_fd(own, lease.map_id, lease.generation, 8192, fd, NULL));
        CHECK_OK(shmslot_attachments_resolve(own, lease.map_id, lease.generation, 0, 8192, &mapped,
                                             NULL));
        CHECK(mapped.region == mapped.data && mapped.region_len == 8192);
        CHECK_OK(shmslot_attachments_release(own, &mapped));
        shmslot_attachments_close(own);
        CHECK(close(fd) == 0);
        CHECK_OK(shmslot_region_release(registry, &lease));
    }
    CHECK_CODE(shmslot_registry_reclaim(registry), 1);
    CHECK_CODE(shmslot_registry_reclaim(registry), 0);
    shmslot_registry_close(registry);
    shmslot_channel_close(channel);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

/* ---- counting ---- */

static void check_retaining(void)
{
    shmslot_registry *registry = make_registry(4096);
    shmslot_pool_info state;
    shmslot_lease lease, copy;
    int i;
    CHECK_OK(shmslot_region_alloc(registry, 10, AT_ONCE, &lease, NULL));
    for (i = 0; i < 5; i++) CHECK_OK(shmslot_region_retain(registry, &lease));
    copy = lease;
    for (i = 0; i < 6; i++) {
        CHECK_OK(shmslot_registry_info(registry, &state, sizeof state));
        CHECK_U64(state.leases, 1);
        CHECK_OK(shmslot_region_release(registry, &copy));
    }
    CHECK_OK(shmslot_registry_info(registry, &state, sizeof state));
    CHECK_U64(state.leases, 0);
    CHECK_CODE(shmslot_region_retain(registry, &lease), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_region_release(registry, &lease), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_region_alloc(registry, SIZE_MAX, AT_ONCE, &lease, NULL),
               SHMSLOT_E_NO_MEMORY);
    CHECK_CODE(shmslot_region_alloc(registry, 1, -2, &lease, NULL), SHMSLOT_E_BAD_TIMEOUT);
    shmslot_registry_close(registry);
}

/* ---- a forked child has its parent's handles and may only close them ---- */

struct handles {
    shmslot_channel *listener, *near, *far;
    shmslot_registry *registry;
    shmslot_attachments *attachments;
    shmslot_segment *segment;
    shmslot_lease lease;
    shmslot_mapped mapped;
};

#define FORKED(call) CHECK_CODE(call, SHMSLOT_E_FORKED)

static int use_the_handles_of_the_parent(int link, void *argument)
{
    struct handles *h = argument;
    shmslot_pool_info state;
    shmslot_lease lease;
    shmslot_mapped mapped;
    shmslot_channel *channel = NULL;
    shmslot_segment *segment = NULL;
    (void)link;
    FORKED(shmslot_channel_accept(h->listener, AT_ONCE, &channel, NULL));
    FORKED(shmslot_channel_recv_segment(h->far, NULL, AT_ONCE, &segment, NULL));
    FORKED(shmslot_channel_send_segment(h->near, h->segment, AT_ONCE, NULL));
    FORKED(shmslot_registry_add(h->registry, h->near, AT_ONCE, NULL));
    FORKED(shmslot_registry_remove(h->registry, h->near));
    FORKED(shmslot_registry_info(h->registry, &state, sizeof state));
    FORKED(shmslot_registry_reclaim(h->registry));
    FORKED(shmslot_region_alloc(h->registry, 1, AT_ONCE, &lease, NULL));
    FORKED(shmslot_region_retain(h->registry, &h->lease));
    FORKED(shmslot_region_release(h->registry, &h->lease));
    FORKED(shmslot_attachments_drain(h->attachments, NULL));
    FORKED(shmslot_attachments_resolve(h->attachments, h->lease.map_id, h->lease.generation, 0, 1,
                                       &mapped, NULL));
    FORKED(shmslot_attachments_release(h->attachments, &h->mapped));
    FORKED(
        shmslot_attachments_attach_fd(h->attachments, 1, 1, 1, shmslot_channel_fd(h->near), NULL));
    CHECK_OK(shmslot_channel_fd(h->near));
    shmslot_attachments_close(h->attachments);
    shmslot_registry_close(h->registry);
    shmslot_channel_close(h->near);
    shmslot_channel_close(h->far);
    shmslot_channel_close(h->listener);
    return 0;
}

static void check_forked_child(const char *name)
{
    struct handles h;
    memset(&h, 0, sizeof h);
    CHECK_OK(shmslot_channel_listen(name, 0, &h.listener, NULL));
    CHECK_OK(shmslot_channel_pair(0, &h.near, &h.far, NULL));
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &h.segment, NULL));
    h.registry = make_registry(4096);
    h.attachments = make_attachments(h.far);
    CHECK_OK(shmslot_registry_add(h.registry, h.near, AT_ONCE, NULL));
    CHECK_OK(shmslot_region_alloc(h.registry, 5, AT_ONCE, &h.lease, NULL));
    memcpy(h.lease.data, "here", 5);
    CHECK_OK(shmslot_attachments_resolve(h.attachments, h.lease.map_id, h.lease.generation, 0, 5,
                                         &h.mapped, NULL));
    CHECK_U64((uint64_t)run_child(use_the_handles_of_the_parent, &h), 0);
    /* All is as it was here; a socket file, too. */
    if (name[0] == '/') CHECK(access(name, F_OK) == 0);
    CHECK(memcmp(h.mapped.data, "here", 5) == 0);
    CHECK_OK(shmslot_attachments_release(h.attachments, &h.mapped));
    CHECK_OK(shmslot_region_release(h.registry, &h.lease));
    CHECK_OK(shmslot_region_alloc(h.registry, 4096, AT_ONCE, &h.lease, NULL));
    CHECK_OK(shmslot_attachments_resolve(h.attachments, h.lease.map_id, h.lease.generation, 0, 5,
                                         &h.mapped, NULL));
    CHECK_OK(shmslot_attachments_release(h.attachments, &h.mapped));
    CHECK_OK(shmslot_region_release(h.registry, &h.lease));
    shmslot_attachments_close(h.attachments);
    shmslot_registry_close(h.registry);
    shmslot_segment_close(h.segment);
    shmslot_channel_close(h.near);
    shmslot_channel_close(h.far);
    shmslot_channel_close(h.listener);
}

/* ---- another user ---- */

static int connect_as_nobody(int link, void *argument)
{
    shmslot_channel *channel = NULL;
    struct pollfd end;
    CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    CHECK_CODE(shmslot_channel_connect(argument, 0, FOR_EVER, &channel, NULL),
               SHMSLOT_E_PERMISSION);
    say(link);
    CHECK_OK(shmslot_channel_connect(argument, SHMSLOT_FLAG_ANY_OWNER, FOR_EVER, &channel, NULL));
    say(link);
    end.fd = shmslot_channel_fd(channel);
    end.events = POLLIN;
    CHECK(poll(&end, 1, -1) == 1);
    shmslot_channel_close(channel);
    return 0;
}

static void check_another_user(const char *name, uint32_t flags, int want)
{
    shmslot_channel *listener = NULL, *channel = NULL;
    child other;
    CHECK_OK(shmslot_channel_listen(name, flags, &listener, NULL));
    other = start_child(connect_as_nobody, (void *)name);
    hear(other.link);
    hear(other.link);
    CHECK_CODE(shmslot_channel_accept(listener, AT_ONCE, &channel, NULL), want);
    if (want == SHMSLOT_OK) {
        shmslot_channel_close(channel);
        CHECK_OK(shmslot_channel_accept(listener, FOR_EVER, &channel, NULL));
        shmslot_channel_close(channel);
    }
    CHECK_CHILD(other);
    shmslot_channel_close(listener);
}

CHECK_MAIN()
{
    char abstract[64], directory[128], file[256];
    snprintf(abstract, sizeof abstract, "@ctest-regions-%ld", (long)getpid());
    own_path(file, sizeof file, own_directory(directory, sizeof directory), "channel");
    RUN(check_both_directions());
    RUN(check_waiting_for_the_descriptor(abstract));
    RUN(check_waiting_for_the_descriptor(file));
    CHECK(access(file, F_OK) != 0);
    RUN(check_sending_a_segment(abstract));
    RUN(check_a_killed_receiver(file));
    RUN(check_rivals(file));
    RUN(check_busy_name(directory, file));
    RUN(check_retaining());
    RUN(check_foreign_receiver(0));
    RUN(check_foreign_receiver(SHMSLOT_FLAG_FOREIGN_RECEIVERS));
    RUN(check_forked_child(abstract));
    RUN(check_forked_child(file));
    if (geteuid() == 0) {
        RUN(check_another_user(abstract, 0, SHMSLOT_E_AGAIN));
        RUN(check_another_user(abstract, SHMSLOT_FLAG_ANY_OWNER, SHMSLOT_OK));
    } else {
        fprintf(stderr, "left out: another user (this one may not become one)\n");
    }
}
