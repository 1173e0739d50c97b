/* All calls follow one rule for timeouts: with timeout 0 a call that finds nothing returns AGAIN,
 * and a call whose timeout is over returns TIMEOUT. A reserve returns NO_FREE_SLOT for both. */
#include "plain_channel.h"
#include "samples.h"

#include <stddef.h>
#include <sys/un.h>

static shmslot_segment *full, *empty;
static shmslot_writer *writer;
static shmslot_reader *reader, *idle;
static shmslot_channel *near, *far, *crowded, *listener;
static shmslot_registry *registry, *waiting;
static shmslot_attachments *attachments;
static char nowhere[64], crowd[64];

static int reserve(int64_t timeout)
{
    shmslot_loan loan;
    return shmslot_slot_reserve(writer, 8, timeout, &loan);
}

static int write_one(int64_t timeout)
{
    return shmslot_slot_write(writer, "text", 4, timeout, NULL);
}

static int wait_one(int64_t timeout)
{
    return shmslot_wait(idle, timeout);
}

static int wait_any(int64_t timeout)
{
    size_t index;
    return shmslot_wait_any(&idle, 1, timeout, &index);
}

static int wait_space(int64_t timeout)
{
    return shmslot_wait_space(writer, timeout);
}

static int wait_readers(int64_t timeout)
{
    return shmslot_wait_readers(writer, 2, timeout, NULL);
}

static int wait_for_change(int64_t timeout)
{
    uint32_t generation;
    CHECK_OK(shmslot_segment_generation(full, &generation));
    return shmslot_segment_wait_for_change(full, generation, timeout, NULL);
}

static int attach_wait(int64_t timeout)
{
    shmslot_segment *segment;
    return shmslot_segment_attach_wait(nowhere, NULL, timeout, &segment, NULL);
}

static int accept_one(int64_t timeout)
{
    shmslot_channel *channel;
    return shmslot_channel_accept(listener, timeout, &channel, NULL);
}

static int connect_one(int64_t timeout)
{
    shmslot_channel *channel;
    return shmslot_channel_connect(crowd, 0, timeout, &channel, NULL);
}

static int send_segment(int64_t timeout)
{
    return shmslot_channel_send_segment(crowded, empty, timeout, NULL);
}

static int recv_segment(int64_t timeout)
{
    shmslot_segment *segment;
    return shmslot_channel_recv_segment(far, NULL, timeout, &segment, NULL);
}

static int resolve_wait(int64_t timeout)
{
    shmslot_mapped mapped;
    return shmslot_attachments_resolve_wait(attachments, 0, 0, 0, 1, timeout, &mapped, NULL);
}

static int add(int64_t timeout)
{
    return shmslot_registry_add(waiting, crowded, timeout, NULL);
}

/* A channel that nobody reads from, full. */
static void fill(void)
{
    static shmslot_channel *other;
    int result;
    CHECK_OK(shmslot_channel_pair(0, &crowded, &other, NULL));
    do {
        result = shmslot_channel_send_segment(crowded, empty, AT_ONCE, NULL);
    } while (result == SHMSLOT_OK);
    CHECK_CODE(result, SHMSLOT_E_AGAIN);
}

/* A listener whose backlog is full. */
static void crowd_a_listener(void)
{
    struct sockaddr_un address;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(crowd));
    int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), one, result;
    CHECK(socket_fd >= 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path + 1, crowd + 1, strlen(crowd) - 1);
    CHECK(bind(socket_fd, (const struct sockaddr *)&address, size) == 0 &&
          listen(socket_fd, 0) == 0);
    do {
        one = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK(one >= 0);
        result = connect(one, (const struct sockaddr *)&address, size);
    } while (result == 0);
    CHECK(errno == EAGAIN);
}

static void set_up(void)
{
    shmslot_options options = options_of(1, 64);
    shmslot_lease lease;
    char name[64];
    snprintf(nowhere, sizeof nowhere, "ctest-timeouts-%d", (int)getpid());
    snprintf(crowd, sizeof crowd, "@ctest-crowd-%d", (int)getpid());
    snprintf(name, sizeof name, "@ctest-timeouts-%d", (int)getpid());
    full = make_anonymous(&options);
    empty = make_anonymous(&options);
    writer = open_writer(full);
    reader = join(full, 0);
    idle = join(empty, 0);
    (void)put(writer, 1);
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
    CHECK_OK(shmslot_channel_listen(name, 0, &listener, NULL));
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    CHECK_OK(shmslot_registry_create(NULL, &waiting, NULL));
    /* so that add has something to announce */
    CHECK_OK(shmslot_region_alloc(waiting, 8, AT_ONCE, &lease, NULL));
    CHECK_OK(shmslot_attachments_create(far, 0, &attachments, NULL));
    fill();
    crowd_a_listener();
}

static const struct {
    const char *name;
    int (*call)(int64_t timeout);
    int at_once, over;
} calls[] = {
    {"shmslot_slot_reserve", reserve, SHMSLOT_E_NO_FREE_SLOT, SHMSLOT_E_NO_FREE_SLOT},
    {"shmslot_slot_write", write_one, SHMSLOT_E_NO_FREE_SLOT, SHMSLOT_E_NO_FREE_SLOT},
    {"shmslot_wait", wait_one, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_wait_any", wait_any, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_wait_space", wait_space, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_wait_readers", wait_readers, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_segment_wait_for_change", wait_for_change, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_segment_attach_wait", attach_wait, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_channel_accept", accept_one, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_channel_connect", connect_one, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_channel_send_segment", send_segment, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_channel_recv_segment", recv_segment, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_attachments_resolve_wait", resolve_wait, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
    {"shmslot_registry_add", add, SHMSLOT_E_AGAIN, SHMSLOT_E_TIMEOUT},
};

static void check_one_rule(void)
{
    size_t i;
    set_up();
    for (i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        check_note("%s", calls[i].name);
        CHECK_CODE(calls[i].call(AT_ONCE), calls[i].at_once);
        CHECK_CODE(calls[i].call(3 * MILLISECOND), calls[i].over);
        CHECK_CODE(calls[i].call(-2), SHMSLOT_E_BAD_TIMEOUT);
    }
    shmslot_attachments_close(attachments);
    shmslot_registry_close(registry);
    shmslot_registry_close(waiting);
    shmslot_channel_close(near);
    shmslot_channel_close(far);
    shmslot_channel_close(listener);
    shmslot_channel_close(crowded);
    shmslot_reader_leave(reader);
    shmslot_reader_leave(idle);
    shmslot_writer_close(writer);
    shmslot_segment_close(full);
    shmslot_segment_close(empty);
}

CHECK_MAIN()
{
    RUN(check_one_rule());
}
