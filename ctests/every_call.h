/* Every call of the library that makes system calls: one scenario each, with a set-up before and a
 * clean-up after it, for programs that disturb all of them in one way. */
#ifndef SHMSLOT_CTESTS_EVERY_CALL_H
#define SHMSLOT_CTESTS_EVERY_CALL_H

#include "faults.h"

static char directory[128], path[256], socket_path[108];

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
    shmslot_set *set;
    shmslot_error detail;
    int mapped_one;
} world;

static shmslot_options small_options(void)
{
    shmslot_options options = options_of(4, 64);
    options.max_participants = 4;
    options.spin_ns = SHMSLOT_SPIN_NONE;
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

/* A participant is dead, and what it had was not released. */
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
    full(SHMSLOT_POLICY_FAIL);
}

static void full_block(void)
{
    full(SHMSLOT_POLICY_BLOCK);
}

/* A call that finds nothing, or that waits, looks for the dead. */
static void full_beside_dead(uint32_t policy)
{
    full(policy);
    /* An attachment that has not looked before: each looks at most once per millisecond. */
    world.other = attach(path);
    shmslot_writer_close(world.writer);
    world.writer = open_writer(world.other);
    CHECK_U64((uint64_t)run_child(die_attached, (void *)(uintptr_t)""), 0);
}

static void full_fail_beside_dead(void)
{
    full_beside_dead(SHMSLOT_POLICY_FAIL);
}

static void full_block_beside_dead(void)
{
    full_beside_dead(SHMSLOT_POLICY_BLOCK);
}

static void both_ends_beside_dead(void)
{
    both_ends();
    CHECK_U64((uint64_t)run_child(die_attached, (void *)(uintptr_t)"wr"), 0);
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
    /* A failed attach may consume a message; the next attempt has another. */
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
    /* A connection that cannot be accepted is lost; the next attempt has another. */
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

/* The calls. Their results are in `world`, for the next step and for the end. */

static int create_with(const char *name, uint32_t flags, uint32_t if_orphaned)
{
    shmslot_options options = small_options();
    options.flags = flags;
    options.if_orphaned = if_orphaned;
    return shmslot_segment_create(name, &options, &world.made, &world.detail);
}

static int create(void)
{
    return create_with(path, 0, SHMSLOT_ORPHANED_REPLACE);
}

static int create_early(void)
{
    return create_with(path, SHMSLOT_FLAG_PREFAULT | SHMSLOT_FLAG_HUGE_PAGES,
                       SHMSLOT_ORPHANED_REPLACE);
}

static int create_adopt(void)
{
    return create_with(path, 0, SHMSLOT_ORPHANED_ADOPT);
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
    shmslot_attach_options options = SHMSLOT_ATTACH_OPTIONS_INIT;
    options.flags = flags;
    return shmslot_segment_attach(path, &options, &world.made, &world.detail);
}

static int attach_plainly(void)
{
    return attach_with(0);
}

static int attach_to_look(void)
{
    return attach_with(SHMSLOT_FLAG_OBSERVER);
}

static int attach_wait(void)
{
    return shmslot_segment_attach_wait(path, NULL, MILLISECOND, &world.made, &world.detail);
}

static int attach_fd(void)
{
    return shmslot_segment_attach_fd(shmslot_segment_fd(world.segment), NULL, &world.made,
                                     &world.detail);
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

static int list_directory(void)
{
    shmslot_segment_entry entries[4];
    size_t count;
    return shmslot_segment_list(directory, entries, sizeof entries[0], 4, &count, &world.detail);
}

static int unlink_dead(void)
{
    return shmslot_segment_unlink_dead(directory, NULL, &world.detail);
}

static int is_named(void)
{
    int named = shmslot_segment_is_named(world.segment);
    return named == 1 ? 0 : named;
}

static void lost_name(void)
{
    both_ends();
    CHECK(unlink(path) == 0);
    CHECK_OK(shmslot_reader_end_waits(world.reader, SHMSLOT_END_RETIRED));
}

static int participants(void)
{
    shmslot_participant list[8];
    size_t count;
    return shmslot_segment_participants(world.segment, list, sizeof list[0], 8, &count);
}

static int counters(void)
{
    shmslot_counters counted;
    return shmslot_segment_counters(world.segment, &counted, sizeof counted);
}

static int counters_of_readers(void)
{
    shmslot_reader_counters list[8];
    size_t count;
    return shmslot_segment_readers(world.segment, list, sizeof list[0], 8, &count);
}

static int counters_of_writers(void)
{
    shmslot_writer_counters list[8];
    size_t count;
    return shmslot_segment_writers(world.segment, list, sizeof list[0], 8, &count);
}

static int expel(void)
{
    const int index = world.reader == NULL ? 0 : shmslot_reader_index(world.reader);
    return shmslot_segment_expel(world.segment, (uint32_t)index, 1, &world.detail);
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
    options.flags = SHMSLOT_FLAG_SINGLE_WRITER;
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

/* A process has slept there. */
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

static int fd_of_reader(void)
{
    int fd;
    return shmslot_reader_fd(world.reader, 0, &fd, &world.detail);
}

static int fd_of_writer(void)
{
    int fd;
    return shmslot_writer_fd(world.writer, 0, &fd, &world.detail);
}

static void both_ends_in_loops(void)
{
    both_ends();
    CHECK_OK(fd_of_reader());
    CHECK_OK(fd_of_writer());
}

static int arm_reader(void)
{
    return shmslot_reader_fd_arm(world.reader);
}

static int arm_writer(void)
{
    int found = shmslot_writer_fd_arm(world.writer);
    return found == 1 ? 0 : found; /* there is a free slot */
}

static int read_nothing(void)
{
    return shmslot_slot_read(world.reader, &world.sample);
}

static int set_create(void)
{
    return shmslot_set_create(0, &world.set, &world.detail);
}

static void both_ends_and_a_set(void)
{
    both_ends();
    CHECK_OK(set_create());
}

static int set_add_reader(void)
{
    return shmslot_set_add_reader(world.set, world.reader, 1, &world.detail);
}

static int set_add_writer(void)
{
    return shmslot_set_add_writer(world.set, world.writer, 2, &world.detail);
}

static int set_add_segment(void)
{
    return shmslot_set_add_segment(world.set, world.segment, 3, &world.detail);
}

static void in_a_set(void)
{
    both_ends_and_a_set();
    CHECK_OK(set_add_reader());
    CHECK_OK(set_add_segment());
}

static int set_wait(void)
{
    shmslot_event events[4];
    int count = shmslot_set_wait(world.set, MILLISECOND, events, 4);
    return count == 2 ? 0 : count;
}

static int set_remove(void)
{
    return shmslot_set_remove(world.set, 1);
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

static int wait_for_readers(void)
{
    return shmslot_wait_readers(world.writer, 2, MILLISECOND, &world.detail);
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

static void full_of_refs_beside_dead(void)
{
    int i;
    plain_segment();
    for (i = 0; i < 4; i++) CHECK_OK(shmslot_ref_reserve(world.segment, 0, &world.ref));
    CHECK_U64((uint64_t)run_child(die_attached, (void *)(uintptr_t)""), 0);
}

static int ref_reserve(void)
{
    return shmslot_ref_reserve(world.segment, 1, &world.ref);
}

static int ref_reserve_large(void)
{
    return shmslot_ref_reserve_large(world.segment, 1, 1 << 19, &world.ref, &world.detail);
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
    return shmslot_channel_from_fd(shmslot_channel_fd(world.near), 0, &world.made_channel,
                                   &world.detail);
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

static int registry_reclaim(void)
{
    return shmslot_registry_reclaim(world.registry);
}

static int region_alloc(void)
{
    return shmslot_region_alloc(world.registry, 70000, MILLISECOND, &world.made_lease,
                                &world.detail);
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
                     ? shmslot_attachments_resolve(world.attachments, map_id,
                                                   world.lease.generation, world.lease.offset,
                                                   world.lease.len, &world.mapped, &world.detail)
                     : shmslot_attachments_resolve_wait(
                           world.attachments, map_id, world.lease.generation, world.lease.offset,
                           world.lease.len, timeout_ns, &world.mapped, &world.detail);
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

static void close_world(void)
{
    shmslot_set_close(world.set);
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
    if (world.made_lease.data != NULL)
        CHECK_OK(shmslot_region_release(world.registry, &world.made_lease));
    shmslot_attachments_close(world.attachments);
    shmslot_registry_close(world.registry);
    shmslot_channel_close(world.made_channel);
    shmslot_channel_close(world.made_other);
    shmslot_channel_close(world.near);
    shmslot_channel_close(world.far);
    shmslot_channel_close(world.listener);
    memset(&world, 0, sizeof world);
}

/* Closers return nothing. */
static int close_all(void)
{
    close_world();
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
    {"attach_wait", "shmslot_segment_attach_wait", plain_segment, attach_wait, 0},
    {"attach_wait_in_vain", "shmslot_segment_attach_wait", nothing, attach_wait, SHMSLOT_E_TIMEOUT},
    {"attach_fd", "shmslot_segment_attach_fd", anonymous_segment, attach_fd, 0},
    {"open_new", "shmslot_segment_open", nothing, open_segment, 1},
    {"open_old", "shmslot_segment_open", plain_segment, open_segment, 0},
    {"open_dead", "shmslot_segment_open", dead_segment, open_segment, 1},
    {"unlink", "shmslot_segment_unlink", plain_segment, unlink_segment, 0},
    {"info", "shmslot_segment_info", plain_segment, info, 0},
    {"fd", "shmslot_segment_fd", plain_segment, fd_of_segment, 0},
    {"list", "shmslot_segment_list", dead_participant, list_directory, 0},
    {"unlink_dead", "shmslot_segment_unlink_dead", dead_segment, unlink_dead, 0},
    {"is_named", "shmslot_segment_is_named", plain_segment, is_named, 0},
    {"participants", "shmslot_segment_participants", dead_participant, participants, 0},
    {"counters", "shmslot_segment_counters", dead_participant, counters, 0},
    {"readers", "shmslot_segment_readers", dead_participant, counters_of_readers, 0},
    {"writers", "shmslot_segment_writers", dead_participant, counters_of_writers, 0},
    {"recover", "shmslot_segment_recover", dead_participant, recover, 0},
    {"expel", "shmslot_segment_expel", both_ends, expel, 0},
    {"expel_nobody", "shmslot_segment_expel", plain_segment, expel, SHMSLOT_E_NOT_FOUND},
    {"trim", "shmslot_segment_trim", region_kept, trim, 0},
    {"wait_for_change", "shmslot_segment_wait_for_change", plain_segment, wait_for_change,
     SHMSLOT_E_TIMEOUT},
    {"writer_open", "shmslot_writer_open", plain_segment, writer_open, 0},
    {"writer_after_dead", "shmslot_writer_open", single_with_dead_writer, writer_open, 0},
    {"join", "shmslot_reader_join", plain_segment, reader_join, 0},
    {"join_after_dead", "shmslot_reader_join", one_reader_and_it_is_dead, reader_join, 0},
    {"reserve_large", "shmslot_slot_reserve", both_ends_of_large, reserve_large, 0},
    {"reserve_full", "shmslot_slot_reserve", full_fail, reserve_when_full, SHMSLOT_E_NO_FREE_SLOT},
    {"reserve_wait", "shmslot_slot_reserve", full_block, reserve_when_full, SHMSLOT_E_NO_FREE_SLOT},
    {"reserve_beside_dead", "shmslot_slot_reserve", full_fail_beside_dead, reserve_when_full,
     SHMSLOT_E_NO_FREE_SLOT},
    {"wait_space_beside_dead", "shmslot_wait_space", full_block_beside_dead, wait_for_space,
     SHMSLOT_E_TIMEOUT},
    {"write_large", "shmslot_slot_write", both_ends_of_large, write_large, 0},
    {"write_wait", "shmslot_slot_write", full_block, write_when_full, SHMSLOT_E_NO_FREE_SLOT},
    {"commit", "shmslot_slot_commit", after_a_wait, commit, 0},
    {"discard", "shmslot_slot_discard", after_a_wait, discard, 0},
    {"wait", "shmslot_wait", both_ends, wait_reader, SHMSLOT_E_TIMEOUT},
    {"wait_beside_dead", "shmslot_wait", both_ends_beside_dead, wait_reader, SHMSLOT_E_TIMEOUT},
    {"wait_retired", "shmslot_wait", lost_name, wait_reader, SHMSLOT_E_RETIRED},
    {"reader_fd", "shmslot_reader_fd", both_ends, fd_of_reader, 0},
    {"writer_fd", "shmslot_writer_fd", both_ends, fd_of_writer, 0},
    {"reader_fd_arm", "shmslot_reader_fd_arm", both_ends_in_loops, arm_reader, 0},
    {"writer_fd_arm", "shmslot_writer_fd_arm", both_ends_in_loops, arm_writer, 0},
    {"read_arms", "shmslot_slot_read", both_ends_in_loops, read_nothing, SHMSLOT_E_AGAIN},
    {"set_create", "shmslot_set_create", nothing, set_create, 0},
    {"set_add_reader", "shmslot_set_add_reader", both_ends_and_a_set, set_add_reader, 0},
    {"set_add_writer", "shmslot_set_add_writer", both_ends_and_a_set, set_add_writer, 0},
    {"set_add_segment", "shmslot_set_add_segment", both_ends_and_a_set, set_add_segment, 0},
    {"set_wait", "shmslot_set_wait", in_a_set, set_wait, 0},
    {"set_remove", "shmslot_set_remove", in_a_set, set_remove, 0},
    {"wait_any", "shmslot_wait_any", two_readers, wait_two, SHMSLOT_E_TIMEOUT},
    {"wait_space", "shmslot_wait_space", full_block, wait_for_space, SHMSLOT_E_TIMEOUT},
    {"wait_readers", "shmslot_wait_readers", both_ends, wait_for_readers, SHMSLOT_E_TIMEOUT},
    {"last_mark", "shmslot_slot_mark", last_sample_in_hand, last_mark, 0},
    {"ref_reserve", "shmslot_ref_reserve", plain_segment, ref_reserve, 0},
    {"ref_reserve_beside_dead", "shmslot_ref_reserve", full_of_refs_beside_dead, ref_reserve,
     SHMSLOT_E_NO_FREE_SLOT},
    {"ref_reserve_large", "shmslot_ref_reserve_large", large_segment, ref_reserve_large, 0},
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
    {"registry_reclaim", "shmslot_registry_reclaim", registry_with_channel, registry_reclaim, 0},
    {"region_alloc", "shmslot_region_alloc", registry_with_channel, region_alloc, 0},
    {"attachments_create", "shmslot_attachments_create", channel_ends, attachments_create, 0},
    {"drain", "shmslot_attachments_drain", region_sent, drain, 0},
    {"resolve", "shmslot_attachments_resolve", region_sent, resolve, 0},
    {"resolve_wait", "shmslot_attachments_resolve_wait", region_sent, resolve_wait, 0},
    {"resolve_unknown", "shmslot_attachments_resolve_wait", region_sent, resolve_unknown,
     SHMSLOT_E_TIMEOUT},
    {"close", NULL, everything, close_all, 0},
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* First, once. */
static inline void scenarios_begin(void)
{
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    own_path(socket_path, sizeof socket_path, directory, "socket");
}

/* After each call, whatever its result. */
static inline void take_down(void)
{
    close_world();
    (void)unlink(path);
    (void)unlink(socket_path);
}

#endif
