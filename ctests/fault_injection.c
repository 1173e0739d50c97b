/* Every system call of every call of the library fails once, with each error that it may have, and fails ever after. What
 * the library's call returns is a code that the header lists for it; nothing is left behind, nothing is said, and the
 * next try works. Calls: fault_injection [all | SCENARIO]. Without an argument each system call fails in some of its
 * ways, `all` tries every one, and the name of a scenario tries every one of that. */
#include "faults.h"

#include "header_codes.h"
#include "injector.h"

#include <malloc.h>
#include <sys/mman.h>

/* ---- what may go wrong ---- */

enum { ERRORS = 16 };

static const struct {
    long number;
    int errors[ERRORS];
} ways[] = {
    {SYS_openat, {EACCES, EINTR, EIO, EMFILE, ENFILE, ENOENT, ENOMEM, ELOOP, ENOTDIR, EISDIR, ENXIO, EROFS, EOPNOTSUPP,
                  EPERM, ESTALE}},
    {SYS_close, {EINTR, EIO}},
    {SYS_fstat, {EIO, ENOMEM, EOVERFLOW}},
    {SYS_newfstatat, {EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR, EOVERFLOW}},
    {SYS_statx, {EACCES, EIO, ELOOP, ENOENT, ENOMEM, ENOTDIR}},
    {SYS_fstatfs, {EINTR, EIO, ENOMEM, ENOSYS, EOVERFLOW}},
    {SYS_fchmod, {EIO, EPERM, EROFS, EDQUOT}},
    {SYS_ftruncate, {EINTR, EFBIG, EIO, ENOMEM, ENOSPC, EPERM}},
    {SYS_fallocate, {EINTR, EFBIG, EIO, ENOMEM, ENOSPC, EDQUOT, EOPNOTSUPP, ENOSYS, EPERM}},
    {SYS_mmap, {EACCES, EAGAIN, ENOMEM, ENODEV, ENFILE, EPERM}},
    {SYS_mprotect, {EACCES, ENOMEM}},
    {SYS_madvise, {EAGAIN, EINVAL, EIO, ENOMEM, EPERM}},
    {SYS_munlock, {ENOMEM, EPERM}},
    {SYS_fcntl, {EINVAL, EIO, ENOLCK, ENOMEM, EPERM}},
    {SYS_pread64, {EINTR, EIO, ENOMEM}},
    {SYS_pwrite64, {EINTR, EIO, ENOMEM, ENOSPC, EPERM}},
    {SYS_read, {EINTR, EIO, ENOMEM}},
    {SYS_write, {EINTR, EIO, EAGAIN}},
    {SYS_linkat, {EACCES, EEXIST, EIO, ELOOP, EMLINK, ENOENT, ENOMEM, ENOSPC, EDQUOT, EPERM, EROFS, EXDEV}},
    {SYS_unlinkat, {EACCES, EBUSY, EIO, ENOENT, ENOMEM, EPERM, EROFS}},
    {SYS_memfd_create, {EACCES, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}},
    {SYS_getrandom, {EAGAIN, EINTR, ENOSYS, EPERM}},
    {SYS_sysinfo, {ENOSYS, EPERM}},
    {SYS_sched_getaffinity, {EINVAL, ENOSYS, EPERM}},
    {SYS_pidfd_open, {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM}},
    {SYS_ppoll, {EINTR, EINVAL, ENOMEM}},
    {SYS_socket, {EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}},
    {SYS_socketpair, {EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}},
    {SYS_bind, {EACCES, EADDRINUSE, ELOOP, ENOENT, ENOMEM, ENOSPC, ENOTDIR, EPERM, EROFS}},
    {SYS_listen, {EADDRINUSE, ENOMEM}},
    {SYS_accept4, {EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}},
    {SYS_connect, {EACCES, EAGAIN, ECONNREFUSED, EINTR, ELOOP, ENOENT, ENOMEM, ENOTDIR, EPERM, EPROTOTYPE}},
    {SYS_getsockopt, {ENOBUFS, ENOMEM, ENOPROTOOPT}},
    {SYS_setsockopt, {ENOBUFS, ENOMEM, ENOPROTOOPT}},
    {SYS_sendmsg, {EAGAIN, ECONNRESET, EINTR, ENOBUFS, ENOMEM, EPIPE, ETOOMANYREFS, EPERM}},
    {SYS_recvmsg, {EAGAIN, ECONNRESET, EINTR, ENOMEM, ENOBUFS}},
    {SYS_shutdown, {ENOTCONN}},
    {SYS_eventfd2, {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS}},
    {SYS_futex, {EAGAIN, EINTR, ETIMEDOUT}},
    {449 /* futex_waitv */, {EAGAIN, EINTR, ENOMEM, ENOSYS, EPERM, ETIMEDOUT}},
#ifdef __x86_64__ /* the old forms, which libc uses where there are such */
    {SYS_open, {EACCES, EINTR, EIO, EMFILE, ENFILE, ENOENT, ENOMEM}},
    {SYS_poll, {EINTR, EINVAL, ENOMEM}},
    {SYS_unlink, {EACCES, EBUSY, EIO, ENOENT, ENOMEM, EPERM, EROFS}},
    {SYS_stat, {EACCES, EIO, ENOENT, ENOMEM}},
    {SYS_lstat, {EACCES, EIO, ENOENT, ENOMEM}},
#endif
};

/* Of calls that are not in the table. */
static const int other_errors[ERRORS] = {EINTR, EINVAL, EIO, ENOMEM, ENOSYS, EPERM};
/* What is refused is refused ever after, and what is used up stays so. */
static const int lasting_errors[ERRORS] = {EPERM, ENOSYS, ENOMEM, EMFILE};

static const int *errors_of(long number)
{
    size_t i;
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (ways[i].number == number) return ways[i].errors;
    }
    return other_errors;
}

/* What has no way to fail that a caller could meet, or is not the library's: the memory of malloc, and unmapping whole
 * mappings. */
static int may_fail(long number)
{
    return number != SYS_munmap && number != SYS_brk && number != SYS_sched_yield && number != SYS_geteuid &&
           number != SYS_clock_gettime;
}

/* ---- scenarios: one call each, between a world that is made for it and one that is taken down ---- */

static char directory[128], path[256], other_path[256], socket_path[108];

static struct {
    shmslot_segment *segment, *other, *made;
    shmslot_writer *writer, *made_writer;
    shmslot_reader *reader, *second, *made_reader;
    shmslot_channel *near, *far, *listener, *made_channel, *made_other;
    shmslot_registry *registry;
    shmslot_attachments *attachments;
    shmslot_lease lease, made_lease;
    shmslot_mapped mapped;
    shmslot_loan loan;
    shmslot_sample sample;
    shmslot_ref ref;
    shmslot_error detail;
    int mapped_one;
} world;

static shmslot_options small_options(void)
{
    shmslot_options options = options_of(4, 64);
    options.max_participants = 4;
    options.spin_ns = 1;
    return options;
}

static shmslot_options region_options(void)
{
    shmslot_options options = small_options();
    options.max_payload = 1 << 20;
    options.region_count = 2;
    return options;
}

static int die_attached(int link, void *flags)
{
    shmslot_segment *segment = NULL;
    shmslot_writer *writer = NULL;
    shmslot_reader *reader = NULL;
    (void)link;
    CHECK_OK(shmslot_segment_attach(path, NULL, &segment, NULL));
    if (strchr(flags, 'w') != NULL) CHECK_OK(shmslot_writer_open(segment, &writer, NULL));
    if (strchr(flags, 'r') != NULL) CHECK_OK(shmslot_reader_join(segment, 0, &reader, NULL));
    return 0;
}

static void named(const shmslot_options *options)
{
    world.segment = make_named(path, options);
}

static void plain_segment(void)
{
    shmslot_options options = small_options();
    named(&options);
}

static void large_segment(void)
{
    shmslot_options options = region_options();
    named(&options);
}

/* Somebody who was attached is dead, and what it had was not given back. */
static void segment_with_a_dead(const char *what, const shmslot_options *options)
{
    named(options);
    CHECK_U64((uint64_t)run_child(die_attached, (void *)(uintptr_t)what), 0);
}

static void dead_participant(void)
{
    shmslot_options options = small_options();
    segment_with_a_dead("wr", &options);
}

static void dead_segment(void)
{
    dead_participant();
    shmslot_segment_close(world.segment);
    world.segment = NULL;
}

static void anonymous_segment(void)
{
    shmslot_options options = small_options();
    world.segment = make_anonymous(&options);
    CHECK(shmslot_segment_fd(world.segment) >= 0);
}

static void open_ends(const shmslot_options *options)
{
    named(options);
    world.writer = open_writer(world.segment);
    world.reader = join(world.segment, 0);
}

static void both_ends(void)
{
    shmslot_options options = small_options();
    open_ends(&options);
}

static void both_ends_of_large(void)
{
    shmslot_options options = region_options();
    open_ends(&options);
}

static void full(uint32_t policy)
{
    shmslot_options options = small_options();
    options.policy = policy;
    open_ends(&options);
    while (shmslot_slot_write(world.writer, "x", 1, AT_ONCE, NULL) == 0) {}
}

static void full_fail(void)
{
    full(SHMSLOT_FAIL);
}

static void full_block(void)
{
    full(SHMSLOT_BLOCK);
}

static void two_readers(void)
{
    both_ends();
    world.second = join(world.segment, 0);
}

static void channel_ends(void)
{
    CHECK_OK(shmslot_channel_pair(0, &world.near, &world.far, NULL));
}

static void channel_and_segment(void)
{
    anonymous_segment();
    channel_ends();
}

static void segment_sent(void)
{
    channel_and_segment();
    /* An attach that fails may cost a message; the next try has another. */
    CHECK_OK(shmslot_channel_send_segment(world.near, world.segment, AT_ONCE, NULL));
    CHECK_OK(shmslot_channel_send_segment(world.near, world.segment, AT_ONCE, NULL));
}

static void listening(void)
{
    CHECK_OK(shmslot_channel_listen(socket_path, 0, &world.listener, NULL));
}

static void one_waits(void)
{
    listening();
    /* A connection that cannot be accepted is lost; the next try has another. */
    CHECK_OK(shmslot_channel_connect(socket_path, 0, AT_ONCE, &world.near, NULL));
    CHECK_OK(shmslot_channel_connect(socket_path, 0, AT_ONCE, &world.far, NULL));
}

static int leave_a_socket(int link, void *argument)
{
    (void)link;
    (void)argument;
    listening();
    return 0;
}

static void socket_of_the_dead(void)
{
    CHECK_U64((uint64_t)run_child(leave_a_socket, NULL), 0);
}

static void registry_alone(void)
{
    shmslot_registry_options options = SHMSLOT_REGISTRY_OPTIONS_INIT;
    options.region_size = 1 << 16;
    CHECK_OK(shmslot_registry_create(&options, &world.registry, NULL));
}

static void registry_with_channel(void)
{
    channel_ends();
    registry_alone();
    CHECK_OK(shmslot_registry_add(world.registry, world.near, AT_ONCE, NULL));
    CHECK_OK(shmslot_attachments_create(world.far, 0, &world.attachments, NULL));
}

static void region_sent(void)
{
    registry_with_channel();
    CHECK_OK(shmslot_region_alloc(world.registry, 100, AT_ONCE, &world.lease, NULL));
}

static void leased_before(void)
{
    channel_ends();
    registry_alone();
    CHECK_OK(shmslot_region_alloc(world.registry, 100, AT_ONCE, &world.lease, NULL));
}

static void nothing(void) {}

/* The calls. What they make is in `world`, for the next step and for the end. */

static int create_with(const char *name, uint32_t flags, uint32_t if_dead)
{
    shmslot_options options = small_options();
    options.flags = flags;
    options.if_dead = if_dead;
    return shmslot_segment_create(name, &options, &world.made, &world.detail);
}

static int create(void)
{
    return create_with(path, 0, SHMSLOT_DEAD_REPLACE);
}

static int create_early(void)
{
    return create_with(path, SHMSLOT_PREFAULT | SHMSLOT_HUGE_PAGES, SHMSLOT_DEAD_REPLACE);
}

static int create_adopt(void)
{
    return create_with(path, 0, SHMSLOT_DEAD_ADOPT);
}

static int create_large(void)
{
    shmslot_options options = region_options();
    return shmslot_segment_create(path, &options, &world.made, &world.detail);
}

static int create_anonymous(void)
{
    shmslot_options options = small_options();
    return shmslot_segment_create_anonymous(&options, &world.made, &world.detail);
}

static int create_local(void)
{
    shmslot_options options = region_options();
    return shmslot_segment_create_local(&options, &world.made, &world.detail);
}

static int attach_with(uint32_t flags)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    options.flags = flags;
    return shmslot_segment_attach(path, &options, &world.made, &world.detail);
}

static int attach_plainly(void)
{
    return attach_with(0);
}

static int attach_to_look(void)
{
    return attach_with(SHMSLOT_LOOK_ONLY);
}

static int attach_fd(void)
{
    return shmslot_segment_attach_fd(shmslot_segment_fd(world.segment), NULL, &world.made, &world.detail);
}

static int open_segment(void)
{
    shmslot_options options = small_options();
    return shmslot_segment_open(path, &options, &world.made, &world.detail);
}

static int unlink_segment(void)
{
    return shmslot_segment_unlink(path, &world.detail);
}

static int fd_of_segment(void)
{
    int fd = shmslot_segment_fd(world.segment);
    return fd < 0 ? fd : 0;
}

static int participants(void)
{
    shmslot_participant list[8];
    size_t count;
    return shmslot_segment_participants(world.segment, list, sizeof list[0], 8, &count);
}

static int recover(void)
{
    int count = shmslot_segment_recover(world.segment, &world.detail);
    return count > 0 ? 0 : count;
}

static int trim(void)
{
    return shmslot_segment_trim(world.segment, NULL);
}

static void region_kept(void)
{
    shmslot_loan loan;
    both_ends_of_large();
    CHECK_OK(shmslot_slot_reserve(world.writer, 100000, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_discard(world.writer, &loan));
}

static int wait_for_change(void)
{
    uint32_t generation;
    CHECK_OK(shmslot_segment_generation(world.segment, &generation));
    return shmslot_segment_wait_for_change(world.segment, generation, MILLISECOND, NULL);
}

static int info(void)
{
    shmslot_info all;
    return shmslot_segment_info(world.segment, &all, sizeof all);
}

static int writer_open(void)
{
    return shmslot_writer_open(world.segment, &world.made_writer, &world.detail);
}

static void single_with_dead_writer(void)
{
    shmslot_options options = small_options();
    options.flags = SHMSLOT_SINGLE_WRITER;
    segment_with_a_dead("w", &options);
}

static void one_reader_and_it_is_dead(void)
{
    shmslot_options options = small_options();
    options.max_readers = 1;
    segment_with_a_dead("r", &options);
}

static int reader_join(void)
{
    return shmslot_reader_join(world.segment, 0, &world.made_reader, &world.detail);
}

static int reserve(size_t len, int64_t timeout_ns)
{
    return shmslot_slot_reserve(world.writer, len, timeout_ns, &world.loan);
}

static int reserve_large(void)
{
    return reserve(100000, AT_ONCE);
}

static int reserve_when_full(void)
{
    return reserve(8, MILLISECOND);
}

static int write_large(void)
{
    static const char bytes[100000];
    return shmslot_slot_write(world.writer, bytes, sizeof bytes, AT_ONCE, NULL);
}

static int write_when_full(void)
{
    return shmslot_slot_write(world.writer, "x", 1, MILLISECOND, NULL);
}

/* Somebody has slept there. */
static void after_a_wait(void)
{
    both_ends();
    CHECK_CODE(shmslot_wait(world.reader, MILLISECOND), SHMSLOT_E_TIMEOUT);
    CHECK_OK(reserve(8, AT_ONCE));
}

static int commit(void)
{
    return shmslot_slot_commit(world.writer, &world.loan, 8, NULL);
}

static int discard(void)
{
    return shmslot_slot_discard(world.writer, &world.loan);
}

static int wait_reader(void)
{
    return shmslot_wait(world.reader, MILLISECOND);
}

static int wait_two(void)
{
    shmslot_reader *readers[2];
    size_t index;
    readers[0] = world.reader;
    readers[1] = world.second;
    return shmslot_wait_any(readers, 2, MILLISECOND, &index);
}

static int wait_for_space(void)
{
    return shmslot_wait_space(world.writer, MILLISECOND);
}

static void last_sample_in_hand(void)
{
    both_ends();
    (void)put(world.writer, 1);
    world.sample = hold(world.reader);
    shmslot_writer_close(world.writer);
    world.writer = NULL;
    shmslot_reader_leave(world.reader);
    shmslot_segment_close(world.segment);
    world.segment = NULL;
}

static int last_mark(void)
{
    int result = shmslot_slot_mark(world.reader, &world.sample);
    if (result == 0) world.reader = NULL; /* it died with that */
    return result;
}

static int ref_reserve(void)
{
    return shmslot_ref_reserve(world.segment, 1, &world.ref);
}

static int pair(void)
{
    return shmslot_channel_pair(0, &world.made_channel, &world.made_other, &world.detail);
}

static int listen_at(void)
{
    return shmslot_channel_listen(socket_path, 0, &world.made_channel, &world.detail);
}

static int accept_one(void)
{
    return shmslot_channel_accept(world.listener, MILLISECOND, &world.made_channel, &world.detail);
}

static int connect_to(void)
{
    return shmslot_channel_connect(socket_path, 0, MILLISECOND, &world.made_channel, &world.detail);
}

static int channel_of_fd(void)
{
    return shmslot_channel_from_fd(shmslot_channel_fd(world.near), 0, &world.made_channel, &world.detail);
}

static int send_segment(void)
{
    return shmslot_channel_send_segment(world.near, world.segment, MILLISECOND, &world.detail);
}

static int receive_segment(void)
{
    return shmslot_channel_recv_segment(world.far, NULL, MILLISECOND, &world.made, &world.detail);
}

static int registry_create(void)
{
    return shmslot_registry_create(NULL, &world.registry, &world.detail);
}

static int registry_add(void)
{
    return shmslot_registry_add(world.registry, world.near, MILLISECOND, &world.detail);
}

static int region_alloc(void)
{
    return shmslot_region_alloc(world.registry, 70000, MILLISECOND, &world.made_lease, &world.detail);
}

static int attachments_create(void)
{
    return shmslot_attachments_create(world.far, 0, &world.attachments, &world.detail);
}

static int drain(void)
{
    int count = shmslot_attachments_drain(world.attachments, &world.detail);
    return count > 0 ? 0 : count;
}

static int resolve_with(int64_t timeout_ns, uint32_t map_id)
{
    int result = timeout_ns == 0
                     ? shmslot_attachments_resolve(world.attachments, map_id, world.lease.generation, world.lease.offset,
                                                   world.lease.len, &world.mapped, &world.detail)
                     : shmslot_attachments_resolve_wait(world.attachments, map_id, world.lease.generation,
                                                        world.lease.offset, world.lease.len, timeout_ns, &world.mapped,
                                                        &world.detail);
    world.mapped_one = result == 0;
    return result;
}

static int resolve(void)
{
    return resolve_with(AT_ONCE, world.lease.map_id);
}

static int resolve_wait(void)
{
    return resolve_with(MILLISECOND, world.lease.map_id);
}

static int resolve_unknown(void)
{
    return resolve_with(MILLISECOND, world.lease.map_id + 1);
}

/* Closers return nothing; this is what the world's end does as well. */
static void take_down(void)
{
    shmslot_writer_close(world.made_writer);
    shmslot_reader_leave(world.made_reader);
    shmslot_writer_close(world.writer);
    shmslot_reader_leave(world.second);
    shmslot_reader_leave(world.reader);
    shmslot_segment_close(world.made);
    shmslot_segment_close(world.other);
    shmslot_segment_close(world.segment);
    if (world.mapped_one) CHECK_OK(shmslot_attachments_release(world.attachments, &world.mapped));
    if (world.lease.data != NULL) CHECK_OK(shmslot_region_release(world.registry, &world.lease));
    if (world.made_lease.data != NULL) CHECK_OK(shmslot_region_release(world.registry, &world.made_lease));
    shmslot_attachments_close(world.attachments);
    shmslot_registry_close(world.registry);
    shmslot_channel_close(world.made_channel);
    shmslot_channel_close(world.made_other);
    shmslot_channel_close(world.near);
    shmslot_channel_close(world.far);
    shmslot_channel_close(world.listener);
    memset(&world, 0, sizeof world);
}

static int close_all(void)
{
    take_down();
    return 0;
}

static void everything(void)
{
    region_sent();
    CHECK_OK(resolve());
    listening();
    both_ends_of_large();
    CHECK_OK(reserve_large());
}

typedef struct scenario {
    const char *name;
    const char *function; /* whose list of codes counts; NULL: it cannot fail */
    void (*prepare)(void);
    int (*call)(void);
    int expected; /* what it returns undisturbed */
} scenario;

static const scenario scenarios[] = {
    {"create", "shmslot_segment_create", nothing, create, 0},
    {"create_early", "shmslot_segment_create", nothing, create_early, 0},
    {"create_large", "shmslot_segment_create", nothing, create_large, 0},
    {"create_replace", "shmslot_segment_create", dead_segment, create, 0},
    {"create_adopt", "shmslot_segment_create", dead_segment, create_adopt, 0},
    {"create_anonymous", "shmslot_segment_create_anonymous", nothing, create_anonymous, 0},
    {"create_local", "shmslot_segment_create_local", nothing, create_local, 0},
    {"attach", "shmslot_segment_attach", large_segment, attach_plainly, 0},
    {"attach_beside_dead", "shmslot_segment_attach", dead_participant, attach_plainly, 0},
    {"attach_to_look", "shmslot_segment_attach", large_segment, attach_to_look, 0},
    {"attach_fd", "shmslot_segment_attach_fd", anonymous_segment, attach_fd, 0},
    {"open_new", "shmslot_segment_open", nothing, open_segment, 1},
    {"open_old", "shmslot_segment_open", plain_segment, open_segment, 0},
    {"open_dead", "shmslot_segment_open", dead_segment, open_segment, 1},
    {"unlink", "shmslot_segment_unlink", plain_segment, unlink_segment, 0},
    {"info", "shmslot_segment_info", plain_segment, info, 0},
    {"fd", "shmslot_segment_fd", plain_segment, fd_of_segment, 0},
    {"participants", "shmslot_segment_participants", dead_participant, participants, 0},
    {"recover", "shmslot_segment_recover", dead_participant, recover, 0},
    {"trim", "shmslot_segment_trim", region_kept, trim, 0},
    {"wait_for_change", "shmslot_segment_wait_for_change", plain_segment, wait_for_change, SHMSLOT_E_TIMEOUT},
    {"writer_open", "shmslot_writer_open", plain_segment, writer_open, 0},
    {"writer_after_dead", "shmslot_writer_open", single_with_dead_writer, writer_open, 0},
    {"join", "shmslot_reader_join", plain_segment, reader_join, 0},
    {"join_after_dead", "shmslot_reader_join", one_reader_and_it_is_dead, reader_join, 0},
    {"reserve_large", "shmslot_slot_reserve", both_ends_of_large, reserve_large, 0},
    {"reserve_full", "shmslot_slot_reserve", full_fail, reserve_when_full, SHMSLOT_E_NO_FREE_SLOT},
    {"reserve_wait", "shmslot_slot_reserve", full_block, reserve_when_full, SHMSLOT_E_TIMEOUT},
    {"write_large", "shmslot_slot_write", both_ends_of_large, write_large, 0},
    {"write_wait", "shmslot_slot_write", full_block, write_when_full, SHMSLOT_E_TIMEOUT},
    {"commit", "shmslot_slot_commit", after_a_wait, commit, 0},
    {"discard", "shmslot_slot_discard", after_a_wait, discard, 0},
    {"wait", "shmslot_wait", both_ends, wait_reader, SHMSLOT_E_TIMEOUT},
    {"wait_any", "shmslot_wait_any", two_readers, wait_two, SHMSLOT_E_TIMEOUT},
    {"wait_space", "shmslot_wait_space", full_block, wait_for_space, SHMSLOT_E_TIMEOUT},
    {"last_mark", "shmslot_slot_mark", last_sample_in_hand, last_mark, 0},
    {"ref_reserve", "shmslot_ref_reserve", plain_segment, ref_reserve, 0},
    {"channel_pair", "shmslot_channel_pair", nothing, pair, 0},
    {"listen", "shmslot_channel_listen", nothing, listen_at, 0},
    {"listen_after_dead", "shmslot_channel_listen", socket_of_the_dead, listen_at, 0},
    {"accept", "shmslot_channel_accept", one_waits, accept_one, 0},
    {"accept_wait", "shmslot_channel_accept", listening, accept_one, SHMSLOT_E_TIMEOUT},
    {"connect", "shmslot_channel_connect", listening, connect_to, 0},
    {"channel_from_fd", "shmslot_channel_from_fd", channel_ends, channel_of_fd, 0},
    {"send_segment", "shmslot_channel_send_segment", channel_and_segment, send_segment, 0},
    {"recv_segment", "shmslot_channel_recv_segment", segment_sent, receive_segment, 0},
    {"recv_wait", "shmslot_channel_recv_segment", channel_ends, receive_segment, SHMSLOT_E_TIMEOUT},
    {"registry_create", "shmslot_registry_create", nothing, registry_create, 0},
    {"registry_add", "shmslot_registry_add", leased_before, registry_add, 0},
    {"region_alloc", "shmslot_region_alloc", registry_with_channel, region_alloc, 0},
    {"attachments_create", "shmslot_attachments_create", channel_ends, attachments_create, 0},
    {"drain", "shmslot_attachments_drain", region_sent, drain, 0},
    {"resolve", "shmslot_attachments_resolve", region_sent, resolve, 0},
    {"resolve_wait", "shmslot_attachments_resolve_wait", region_sent, resolve_wait, 0},
    {"resolve_unknown", "shmslot_attachments_resolve_wait", region_sent, resolve_unknown, SHMSLOT_E_UNKNOWN_MAPPING},
    {"close", NULL, everything, close_all, 0},
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* ---- one round: a world, the call that fails, the call again, and what is left of all that ---- */

/* What the process has. */
typedef struct holdings {
    unsigned descriptors, files;
    unsigned long long pages;
} holdings;

static holdings holdings_now(void)
{
    holdings now;
    FILE *sizes = fopen("/proc/self/statm", "re");
    CHECK(sizes != NULL && fscanf(sizes, "%llu", &now.pages) == 1 && fclose(sizes) == 0);
    now.descriptors = open_descriptors();
    now.files = files_in(directory);
    return now;
}

/* Shared with the parent, which tells what a dead child was doing. */
static struct report {
    long at, number, error, ever_after;
    unsigned rounds, wrong;
} *report;

static FILE *voice; /* the error stream; 1 and 2 lead to where the library must not write */
static int silence;

static void complain(const scenario *what, const char *text, int result)
{
    report->wrong++;
    fprintf(voice, "%s: system call %ld (no. %ld) fails%s with %s: %s", what->name, report->at, report->number,
            report->ever_after ? " ever after" : "", strerror((int)report->error), text);
    if (result < 0) {
        fprintf(voice, " %d, %s; the detail is %d, errno %d, %s", result, shmslot_strerror(result), world.detail.code,
                world.detail.os_errno, world.detail.text);
    }
    fprintf(voice, "\n");
}

static void one_round(const scenario *what, long at, int error, int ever_after)
{
    static holdings before;
    static int warm; /* what a process makes once and keeps is there after the first round */
    holdings after;
    int result;
    char text[200];
    report->at = at;
    report->number = at < 0 ? -1 : inject.numbers[at];
    report->error = error;
    report->ever_after = ever_after;
    report->rounds++;
    what->prepare();
    memset(&world.detail, 0, sizeof world.detail);
    inject_begin(at, error, ever_after);
    result = what->call();
    (void)inject_end();
    if (result < 0 && result != what->expected &&
        (what->function == NULL || (codes_of_call(what->function, 0) & code_bit(result)) == 0)) {
        complain(what, "returned a code that the header does not list,", result);
    }
    if (result < 0 && result != what->expected && world.detail.code != 0 && world.detail.code != result) {
        complain(what, "the detail tells another code than", result);
    }
    /* What had to wait was answered, and a channel whose other end is gone stays so. */
    if (result < 0 && result != SHMSLOT_E_CHANNEL_BROKEN && what->expected >= 0) {
        result = what->call();
        if (result != what->expected) complain(what, "the next try returned", result);
    }
    take_down();
    (void)unlink(path);
    (void)unlink(socket_path);
    after = holdings_now();
    if (!warm++) before = after;
    if (after.descriptors != before.descriptors || after.pages != before.pages || after.files != before.files) {
        snprintf(text, sizeof text, "left behind: %d descriptors, %lld pages mapped, %d files",
                 (int)(after.descriptors - before.descriptors), (long long)(after.pages - before.pages),
                 (int)(after.files - before.files));
        complain(what, text, 0);
        before = after;
    }
    if (lseek(silence, 0, SEEK_END) != 0) {
        complain(what, "something was said", 0);
        CHECK(ftruncate(silence, 0) == 0 && lseek(silence, 0, SEEK_SET) == 0);
    }
}

static int whole; /* every error, not some */

static int try_all(int link, void *argument)
{
    const scenario *what = argument;
    struct rlimit few;
    long calls, at;
    unsigned turn = 0;
    (void)link;
    voice = fdopen(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10), "w");
    CHECK(voice != NULL && setvbuf(voice, NULL, _IONBF, 0) == 0);
    silence = (int)syscall(SYS_memfd_create, "ctest-silence", 1u /* close-on-exec */);
    CHECK(silence >= 0 && dup2(silence, STDOUT_FILENO) >= 0 && dup2(silence, STDERR_FILENO) >= 0);
    few.rlim_cur = few.rlim_max = 64; /* so that they are counted soon */
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
#ifdef __GLIBC__ /* malloc has all that it will need, and keeps it */
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 30) == 1 && mallopt(M_TRIM_THRESHOLD, 1 << 30) == 1);
    free(malloc(8 << 20));
#endif
    if (inject_install() != 0) return 77;
    one_round(what, -1, 0, 0);
    one_round(what, -1, 0, 0);
    what->prepare();
    inject_begin(-1, 0, 0);
    CHECK_U64((uint64_t)what->call(), (uint64_t)what->expected);
    calls = inject_end();
    CHECK(calls < INJECT_CALLS);
    take_down();
    (void)unlink(path);
    (void)unlink(socket_path);
    for (at = 0; at < calls; at++) {
        long number = inject.numbers[at];
        const int *errors = errors_of(number);
        int i, lasting;
        if (!may_fail(number)) continue;
        for (lasting = 0; lasting < 2; lasting++) {
            if (lasting) errors = lasting_errors;
            for (i = 0; i < ERRORS && errors[i] != 0; i++) {
                /* One in five is a fair sample: the turn moves on with every system call. */
                if (!whole && ++turn % 5 != 0) continue;
                one_round(what, at, errors[i], lasting);
                /* The numbers of a call that failed are others. */
                what->prepare();
                inject_begin(-1, 0, 0);
                (void)what->call();
                (void)inject_end();
                take_down();
                (void)unlink(path);
                (void)unlink(socket_path);
            }
        }
    }
    return 0;
}

int main(int count, char **arguments)
{
    const char *wanted = count > 1 ? arguments[1] : "";
    unsigned rounds = 0, wrong = 0, found = 0;
    size_t i;
    check_begin();
    no_core_files();
    alarm(count > 1 ? 3600 : CHECK_WATCHDOG_S);
    whole = count > 1;
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    own_path(other_path, sizeof other_path, directory, "other");
    own_path(socket_path, sizeof socket_path, directory, "socket");
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(report != MAP_FAILED);
    for (i = 0; i < SCENARIOS; i++) {
        const scenario *what = &scenarios[i];
        int status;
        if (strcmp(wanted, "") != 0 && strcmp(wanted, "all") != 0 && strcmp(wanted, what->name) != 0) continue;
        found++;
        CHECK(what->function == NULL || codes_of_call(what->function, 0) != 0);
        memset(report, 0, sizeof *report);
        status = run_child(try_all, (void *)(uintptr_t)what);
        if (status == 77) SKIP("no filter of system calls can be had here");
        if (status != 0) {
            report->wrong++;
            fprintf(stderr, "%s: ended with %d at system call %ld (no. %ld), which failed with %s\n", what->name, status,
                    report->at, report->number, strerror((int)report->error));
        }
        rounds += report->rounds;
        wrong += report->wrong;
    }
    CHECK(found > 0);
    if (whole || wrong > 0) fprintf(stderr, "%u of %u failures were answered wrongly\n", wrong, rounds);
    return wrong == 0 ? 0 : 1;
}
