/* The library's descriptors keep off the numbers of the standard streams; and one that the program
 * closes, or replaces by whatever file, makes no peer dead, is neither used nor closed any more,
 * and is told of. */
#include "every_call.h"
#include "plain_channel.h"

#include <sys/mman.h>

/* ---- streams that are closed for a while ---- */

enum { STREAMS = 3, SAVED_FROM = 100 };

static int saved[STREAMS];

/* `which`: a bit for each. */
static void close_streams(unsigned which)
{
    int fd;
    for (fd = 0; fd < STREAMS; fd++) {
        if ((which >> fd & 1) == 0) continue;
        saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, SAVED_FROM);
        CHECK(saved[fd] >= 0 && close(fd) == 0);
    }
}

/* Puts them back; a bit for each number that was taken meanwhile. */
static unsigned restore_streams(unsigned which)
{
    unsigned taken = 0;
    int fd;
    for (fd = 0; fd < STREAMS; fd++) {
        if ((which >> fd & 1) == 0) continue;
        if (fcntl(fd, F_GETFD) >= 0) taken |= 1u << fd;
        if (dup2(saved[fd], fd) != fd || close(saved[fd]) != 0) _exit(125);
    }
    return taken;
}

/* ---- each call ---- */

static unsigned closed_streams;
static rlim_t limit;

static int call_without_streams(int link, void *argument)
{
    const scenario *what = argument;
    struct rlimit before, few;
    unsigned taken;
    int result;
    (void)link;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    if (limit != 0) few.rlim_cur = limit;
    what->prepare();
    close_streams(closed_streams);
    (void)setrlimit(RLIMIT_NOFILE, &few);
    result = what->call();
    (void)setrlimit(RLIMIT_NOFILE, &before);
    taken = restore_streams(closed_streams);
    CHECK_U64(taken, 0);
    /* With no number left but these a call does without a descriptor, or says that there is
     * none. */
    if (limit == 0 || result != SHMSLOT_E_SYS)
        CHECK_U64((uint64_t)result, (uint64_t)what->expected);
    CHECK(world.detail.code == 0 || world.detail.os_errno == EMFILE || what->expected < 0);
    take_down();
    return 0;
}

static void check_every_call(unsigned closed, rlim_t highest)
{
    unsigned wrong = 0;
    size_t i;
    closed_streams = closed;
    limit = highest;
    for (i = 0; i < SCENARIOS; i++) {
        int status = run_child(call_without_streams, (void *)(uintptr_t)&scenarios[i]);
        if (status == 0) continue;
        wrong++;
        fprintf(stderr, "%s, without %u: ended with %d\n", scenarios[i].name, closed, status);
        (void)unlink(path);
        (void)unlink(socket_path);
    }
    CHECK_U64(wrong, 0);
}

/* ---- descriptors that the program takes away ---- */

enum { CLOSED, A_FILE, A_SOCKET, A_PIPE, SAME_FILE, WAYS };

enum { MOST = 64 };

static struct taken {
    int number;
    int opened; /* by the program, under that number */
    struct stat facts;
} taken[MOST];
static int taken_count;

static unsigned char open_before[MOST];

static void note_open(void)
{
    int fd;
    for (fd = 0; fd < MOST; fd++) open_before[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* A file of the program's own, so that it is seen if anybody writes to it, reads from it, or closes
 * it. */
static int open_one(int way)
{
    int ends[2], fd;
    switch (way) {
    case A_FILE: fd = memfd_create("ctest-user", MFD_CLOEXEC); break;
    case A_SOCKET: fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); break;
    case A_PIPE:
        CHECK(pipe2(ends, O_CLOEXEC) == 0 && close(ends[1]) == 0);
        fd = ends[0];
        break;
    default: fd = open(path, O_RDWR | O_CLOEXEC); break;
    }
    CHECK(fd >= 0);
    return fd;
}

/* Takes every descriptor away that was opened since `note_open`. */
static void take_away(int way)
{
    int fd, opened, numbers[MOST], count = 0;
    for (fd = 0; fd < MOST; fd++) {
        if (!open_before[fd] && fcntl(fd, F_GETFD) >= 0) numbers[count++] = fd;
    }
    CHECK(count > 0);
    taken_count = 0;
    for (fd = 0; fd < count; fd++) {
        struct taken *one = &taken[taken_count++];
        one->number = numbers[fd];
        one->opened = way != CLOSED;
        if (way == CLOSED) {
            CHECK(close(numbers[fd]) == 0);
            continue;
        }
        opened = open_one(way);
        CHECK(dup3(opened, numbers[fd], O_CLOEXEC) == numbers[fd] && close(opened) == 0);
        CHECK(fstat(numbers[fd], &one->facts) == 0);
    }
}

/* What the program put there is there still, and nobody has touched it. */
static void check_untouched(void)
{
    int i;
    for (i = 0; i < taken_count; i++) {
        struct stat now;
        if (!taken[i].opened) {
            CHECK(fcntl(taken[i].number, F_GETFD) < 0);
            continue;
        }
        CHECK(fstat(taken[i].number, &now) == 0);
        CHECK(now.st_dev == taken[i].facts.st_dev && now.st_ino == taken[i].facts.st_ino);
        CHECK(now.st_size == taken[i].facts.st_size && now.st_blocks == taken[i].facts.st_blocks);
        CHECK(lseek(taken[i].number, 0, SEEK_CUR) <= 0);
        CHECK(close(taken[i].number) == 0);
    }
}

static void check_lost(int result, const shmslot_error *detail)
{
    static const char lost[] = "the program closed or replaced descriptor ";
    CHECK_CODE(result, SHMSLOT_E_DESCRIPTOR_LOST);
    CHECK(detail->code == result);
    CHECK(strncmp(detail->text, lost, strlen(lost)) == 0 &&
          atoi(detail->text + strlen(lost)) >= STREAMS);
}

/* Has a loan, and ends only when it is killed. */
static int hold_a_loan(int link, void *argument)
{
    shmslot_segment *segment = attach(path);
    shmslot_writer *writer = open_writer(segment);
    shmslot_loan loan;
    (void)argument;
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memset(loan.data, 'C', 8);
    say(link);
    for (;;) (void)pause();
    return 0; /* not reached */
}

/* Loses its descriptors beside a peer that lives, and then beside one that is dead. */
static int lose_descriptors(int link, void *argument)
{
    int way = *(const int *)argument;
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loan, another;
    shmslot_sample sample;
    shmslot_participant list[8];
    shmslot_error detail;
    child peer;
    uint32_t generation;
    size_t count, i;
    int result;
    note_open();
    segment = attach(path);
    writer = open_writer(segment);
    reader = join(segment, 0);
    CHECK(shmslot_segment_fd(segment) >= 0);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memset(loan.data, 'B', 8);
    take_away(way);
    peer = start_child(hold_a_loan, NULL);
    hear(peer.link);
    say(link); /* the other one looks now */
    hear(link);

    /* Nobody who lives is called dead. */
    memset(list, 0, sizeof list);
    result = shmslot_segment_participants(segment, list, sizeof list[0], 8, &count);
    CHECK(result == 0 || result == SHMSLOT_E_DESCRIPTOR_LOST);
    for (i = 0; result == 0 && i < count; i++) CHECK(list[i].alive);
    result = shmslot_segment_recover(segment, NULL);
    CHECK(result == 0 || result == SHMSLOT_E_DESCRIPTOR_LOST);
    /* All that needs the mapping alone goes on. */
    CHECK_U64(info_of(segment).participants, 3);
    CHECK(memcmp(loan.data, "BBBBBBBB", 8) == 0);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_OK(shmslot_wait(reader, FOR_EVER));
    CHECK_OK(shmslot_slot_read(reader, &sample));
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    /* What needs the descriptor says so. */
    CHECK_CODE(shmslot_segment_fd(segment), SHMSLOT_E_DESCRIPTOR_LOST);

    /* A peer dies. To clean up after it takes the descriptor: no call does, and a wait does not
     * wait in vain. */
    CHECK(kill(peer.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(peer), 128 + SIGKILL);
    memset(&detail, 0, sizeof detail);
    check_lost(shmslot_segment_recover(segment, &detail), &detail);
    check_lost(shmslot_segment_recover(segment, &detail), &detail); /* and stays so */
    while ((result = shmslot_slot_reserve(writer, 8, FOR_EVER, &another)) == 0) {}
    CHECK_CODE(result, SHMSLOT_E_DESCRIPTOR_LOST);
    CHECK_CODE(shmslot_wait_space(writer, FOR_EVER), SHMSLOT_E_DESCRIPTOR_LOST);
    CHECK_CODE(shmslot_wait(reader, FOR_EVER), SHMSLOT_E_DESCRIPTOR_LOST);
    CHECK_OK(shmslot_segment_generation(segment, &generation));
    CHECK_CODE(shmslot_segment_wait_for_change(segment, generation, FOR_EVER, NULL),
               SHMSLOT_E_DESCRIPTOR_LOST);
    CHECK_U64(info_of(segment).participants, 3);

    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    check_untouched();
    say(link);
    return 0;
}

/* The one whose peer loses its descriptors: nothing is taken from it, and it takes nothing. */
static void check_beside_a_loser(int way)
{
    shmslot_options options = options_of(8, 8);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_participant list[8];
    shmslot_loan loan;
    size_t count;
    child loser;
    options.policy = SHMSLOT_POLICY_BLOCK;
    segment = make_named(path, &options);
    writer = open_writer(segment);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    memset(loan.data, 'A', 8);
    loser = start_child(lose_descriptors, &way);
    hear(loser.link);
    CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], 8, &count));
    CHECK_U64(count, 3);
    CHECK(list[0].alive && list[1].alive && list[2].alive);
    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 0);
    say(loser.link);
    hear(loser.link);
    CHECK_CHILD(loser);
    CHECK(memcmp(loan.data, "AAAAAAAA", 8) == 0);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    /* The loser gave its row back; the dead one is for who has a descriptor. */
    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 1);
    CHECK_U64(info_of(segment).participants, 1);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* A handle that only looks has no row and no lock of a participant, and is told apart all the
 * same. */
static int lose_look(int link, void *argument)
{
    int way = *(const int *)argument;
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    shmslot_segment *segment;
    (void)link;
    options.flags = SHMSLOT_FLAG_OBSERVER;
    note_open();
    CHECK_OK(shmslot_segment_attach(path, &options, &segment, NULL));
    take_away(way);
    CHECK_CODE(shmslot_segment_fd(segment), SHMSLOT_E_DESCRIPTOR_LOST);
    shmslot_segment_close(segment);
    check_untouched();
    return 0;
}

static void check_look(int way)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(path, &options);
    CHECK_U64((uint64_t)run_child(lose_look, &way), 0);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

/* Channels, a listener, a registry with regions, all of theirs. */
static int lose_channels(int link, void *argument)
{
    int way = *(const int *)argument;
    shmslot_channel *other, *fresh[2];
    shmslot_error detail;
    (void)link;
    memset(&detail, 0, sizeof detail);
    plain_segment(); /* for SAME_FILE */
    note_open();
    region_sent();
    listening();
    take_away(way);
    check_lost(shmslot_channel_accept(world.listener, AT_ONCE, &other, &detail), &detail);
    CHECK_CODE(shmslot_channel_fd(world.listener), SHMSLOT_E_DESCRIPTOR_LOST);
    CHECK_CODE(shmslot_channel_fd(world.near), SHMSLOT_E_DESCRIPTOR_LOST);
    check_lost(
        shmslot_channel_send_segment(world.near, world.segment, AT_ONCE, &detail) ==
                SHMSLOT_E_NOT_SEALED
            ? shmslot_region_alloc(world.registry, 1 << 20, AT_ONCE, &world.made_lease, &detail)
            : SHMSLOT_OK,
        &detail);
    check_lost(shmslot_attachments_drain(world.attachments, &detail), &detail);
    check_lost(resolve_wait(), &world.detail);
    /* What is mapped goes on. */
    memset(world.lease.data, 'x', world.lease.len);
    /* The file of a region that was taken away is not what another channel gets. */
    CHECK_OK(shmslot_channel_pair(0, &fresh[0], &fresh[1], NULL));
    check_lost(shmslot_registry_add(world.registry, fresh[0], AT_ONCE, &detail), &detail);
    close_world();
    shmslot_channel_close(fresh[0]);
    shmslot_channel_close(fresh[1]);
    check_untouched();
    return 0;
}

static void check_channels(int way)
{
    CHECK_U64((uint64_t)run_child(lose_channels, &way), 0);
    (void)unlink(path);
    (void)unlink(socket_path);
}

/* ---- descriptors that came over a channel, and wait to be asked for ---- */

enum { SMALL = 1 << 16, LARGE = 1 << 26 };

static void send_region(int socket, uint32_t map_id, size_t size)
{
    unsigned char message[16];
    int file = sealed_file(size);
    attach_message(message, map_id, 0, size);
    CHECK_U64((uint64_t)send_raw(socket, message, sizeof message, &file, 1), 0);
    CHECK(close(file) == 0);
}

static void check_drained(shmslot_attachments *attachments, int count)
{
    CHECK_CODE(shmslot_attachments_drain(attachments, NULL), count);
}

/* The program takes it away; the call that comes to it says so, once, and the channel goes on. */
static void check_drain_loses_one(shmslot_attachments *attachments, int way)
{
    shmslot_error detail;
    take_away(way);
    check_lost(shmslot_attachments_drain(attachments, &detail), &detail);
    check_untouched();
    check_drained(attachments, 0);
}

static void no_segment(shmslot_channel *channel)
{
    shmslot_segment *segment;
    CHECK_CODE(shmslot_channel_recv_segment(channel, NULL, AT_ONCE, &segment, NULL),
               SHMSLOT_E_AGAIN);
}

static void lose_a_region(shmslot_channel *near, shmslot_channel *far,
                          shmslot_attachments *attachments, int way)
{
    shmslot_mapped mapped;
    send_region(shmslot_channel_fd(near), 1, SMALL);
    note_open();
    no_segment(far); /* but it has taken the region in */
    check_drain_loses_one(attachments, way);
    CHECK_CODE(shmslot_attachments_resolve(attachments, 1, 0, 0, 4, &mapped, NULL),
               SHMSLOT_E_UNKNOWN_MAPPING);
    send_region(shmslot_channel_fd(near), 1, SMALL);
    check_drained(attachments, 1);
    CHECK_OK(shmslot_attachments_resolve(attachments, 1, 0, 0, 4, &mapped, NULL));
    CHECK(memcmp(mapped.data, "text", 4) == 0);
    CHECK_OK(shmslot_attachments_release(attachments, &mapped));
}

static void lose_a_segment(shmslot_channel *near, shmslot_channel *far,
                           shmslot_attachments *attachments, int way)
{
    shmslot_options options = small_options();
    shmslot_segment *sent = make_anonymous(&options), *got;
    shmslot_error detail;
    CHECK_OK(shmslot_channel_send_segment(near, sent, AT_ONCE, NULL));
    note_open();
    check_drained(attachments, 0); /* but it has taken the segment in */
    take_away(way);
    check_lost(shmslot_channel_recv_segment(far, NULL, AT_ONCE, &got, &detail), &detail);
    check_untouched();
    no_segment(far);
    CHECK_OK(shmslot_channel_send_segment(near, sent, AT_ONCE, NULL));
    CHECK_OK(shmslot_channel_recv_segment(far, NULL, AT_ONCE, &got, NULL));
    shmslot_segment_close(got);
    shmslot_segment_close(sent);
}

/* There was no room to map it. */
static void lose_a_large_region(shmslot_channel *near, shmslot_attachments *attachments, int way)
{
    struct rlimit plenty, little;
    unsigned long long pages = 0;
    FILE *sizes = fopen("/proc/self/statm", "re");
    CHECK(sizes != NULL && fscanf(sizes, "%llu", &pages) == 1 && fclose(sizes) == 0);
    send_region(shmslot_channel_fd(near), 2, LARGE);
    CHECK(getrlimit(RLIMIT_AS, &plenty) == 0);
    little = plenty;
    little.rlim_cur = (rlim_t)(pages * (unsigned long long)sysconf(_SC_PAGESIZE) + LARGE / 2);
    note_open();
    CHECK(setrlimit(RLIMIT_AS, &little) == 0);
    check_drained(attachments, SHMSLOT_E_NO_MEMORY);
    CHECK(setrlimit(RLIMIT_AS, &plenty) == 0);
    check_drain_loses_one(attachments, way);
}

/* Its first half has come, with the descriptor. */
static void lose_a_half_message(int way)
{
    shmslot_channel *channel;
    shmslot_attachments *attachments;
    unsigned char message[16];
    int ends[2], file = sealed_file(SMALL);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK_OK(shmslot_channel_from_fd(ends[1], 0, &channel, NULL));
    CHECK_OK(shmslot_attachments_create(channel, 0, &attachments, NULL));
    attach_message(message, 3, 0, SMALL);
    CHECK_U64((uint64_t)send_raw(ends[0], message, 8, &file, 1), 0);
    CHECK(close(file) == 0);
    note_open();
    check_drained(attachments, 0);
    CHECK_U64((uint64_t)send_raw(ends[0], message + 8, 8, NULL, 0), 0);
    check_drain_loses_one(attachments, way);
    send_region(ends[0], 3, SMALL);
    check_drained(attachments, 1);
    shmslot_attachments_close(attachments);
    shmslot_channel_close(channel);
    CHECK(close(ends[0]) == 0);
}

static int lose_what_waits(int link, void *argument)
{
    int way = *(const int *)argument;
    shmslot_channel *near, *far;
    shmslot_attachments *attachments;
    (void)link;
    plain_segment(); /* for SAME_FILE */
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
    CHECK_OK(shmslot_attachments_create(far, 0, &attachments, NULL));
    lose_a_region(near, far, attachments, way);
    lose_a_segment(near, far, attachments, way);
    lose_a_large_region(near, attachments, way);
    lose_a_half_message(way);
    /* What still waits is closed with the channel, and the program's is not. */
    send_region(shmslot_channel_fd(near), 4, SMALL);
    note_open();
    no_segment(far);
    take_away(way);
    shmslot_attachments_close(attachments);
    shmslot_channel_close(far);
    check_untouched();
    shmslot_channel_close(near);
    close_world();
    return 0;
}

static void check_what_waits(int way)
{
    CHECK_U64((uint64_t)run_child(lose_what_waits, &way), 0);
    (void)unlink(path);
}

/* What daemons do: attach while the streams are closed, then open /dev/null for them. */
static int become_a_daemon(int link, void *argument)
{
    shmslot_segment *segment;
    shmslot_participant list[2];
    size_t count;
    int fd, null;
    (void)argument;
    for (fd = 0; fd < STREAMS; fd++) (void)close(fd);
    segment = attach(path);
    null = open("/dev/null", O_RDWR);
    for (fd = 0; fd < STREAMS; fd++) CHECK(dup2(null, fd) == fd);
    say(link);
    hear(link);
    CHECK_OK(shmslot_segment_participants(segment, list, sizeof list[0], 2, &count));
    CHECK(count == 2 && list[0].alive && list[1].alive);
    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 0);
    shmslot_segment_close(segment);
    for (fd = 0; fd < STREAMS; fd++) CHECK(write(fd, "x", 1) == 1);
    return 0;
}

static void check_daemon(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_named(path, &options);
    child started = start_child(become_a_daemon, NULL);
    hear(started.link);
    CHECK_U64((uint64_t)shmslot_segment_recover(segment, NULL), 0);
    CHECK_U64(info_of(segment).participants, 2);
    say(started.link);
    CHECK_CHILD(started);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

int main(void)
{
    int way;
    check_begin();
    no_core_files();
    scenarios_begin();
    check_every_call(7, 0);
    check_every_call(2, 0);
    check_every_call(7, 3);
    check_daemon();
    for (way = 0; way < WAYS; way++) {
        check_beside_a_loser(way);
        check_look(way);
        check_channels(way);
        check_what_waits(way);
    }
    return 0;
}
