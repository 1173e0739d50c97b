/* NULL where a pointer is required is INVALID in every call, in release builds too; closers accept
 * it. */
#include "samples.h"

#define INVALID(call) CHECK_CODE(call, SHMSLOT_E_INVALID)

static char name[64];
static shmslot_segment *segment;
static shmslot_writer *writer;
static shmslot_reader *reader;

static void check_closers(void)
{
    shmslot_segment_close(NULL);
    shmslot_writer_close(NULL);
    shmslot_reader_leave(NULL);
    shmslot_registry_close(NULL);
    shmslot_channel_close(NULL);
    shmslot_attachments_close(NULL);
}

static void check_segment_calls(void)
{
    shmslot_segment *other = NULL;
    shmslot_participant participant;
    shmslot_counters counters;
    shmslot_reader_counters of_reader;
    shmslot_writer_counters of_writer;
    shmslot_death death;
    shmslot_info info;
    shmslot_error detail;
    uint64_t number;
    uint32_t generation;
    uint8_t hash[16];
    size_t length;
    char path[256];

    INVALID(shmslot_type_hash(NULL, 1, &hash));
    INVALID(shmslot_type_hash("type", 1, NULL));
    INVALID(shmslot_segment_create(NULL, NULL, &other, NULL));
    INVALID(shmslot_segment_create("ctest-null", NULL, NULL, NULL));
    INVALID(shmslot_segment_create_anonymous(NULL, NULL, NULL));
    INVALID(shmslot_segment_create_local(NULL, NULL, NULL));
    INVALID(shmslot_segment_attach(NULL, NULL, &other, NULL));
    INVALID(shmslot_segment_attach(name, NULL, NULL, NULL));
    INVALID(shmslot_segment_attach_fd(shmslot_segment_fd(segment), NULL, NULL, NULL));
    INVALID(shmslot_segment_open(NULL, NULL, &other, NULL));
    INVALID(shmslot_segment_open(name, NULL, NULL, NULL));
    INVALID(shmslot_segment_unlink(NULL, NULL));
    memset(&detail, 0, sizeof detail);
    INVALID(shmslot_segment_attach(NULL, NULL, &other, &detail));
    INVALID(shmslot_segment_attach_wait(NULL, NULL, AT_ONCE, &other, NULL));
    INVALID(shmslot_segment_attach_wait(name, NULL, AT_ONCE, NULL, NULL));
    CHECK(detail.code == SHMSLOT_E_INVALID);
    CHECK(other == NULL);

    INVALID(shmslot_segment_info(NULL, &info, sizeof info));
    INVALID(shmslot_segment_info(segment, NULL, sizeof info));
    INVALID(shmslot_segment_is_named(NULL));
    INVALID(shmslot_segment_list(NULL, NULL, sizeof(shmslot_segment_entry), 1, &length, NULL));
    INVALID(shmslot_segment_list(NULL, NULL, 0, 0, NULL, NULL));
    CHECK_OK(shmslot_segment_list(NULL, NULL, 0, 0, &length, NULL));
    CHECK(length >= 1);
    CHECK_CODE(shmslot_segment_unlink_dead("/nowhere/at/all", NULL, NULL), SHMSLOT_E_NOT_FOUND);
    INVALID(shmslot_segment_recover(NULL, NULL));
    INVALID(shmslot_segment_participants(NULL, &participant, sizeof participant, 1, &length));
    INVALID(shmslot_segment_participants(segment, NULL, sizeof participant, 1, &length));
    INVALID(shmslot_segment_participants(segment, &participant, 0, 1, &length));
    INVALID(shmslot_segment_participants(segment, &participant, sizeof participant, 1, NULL));
    CHECK_OK(shmslot_segment_participants(segment, NULL, 0, 0, &length));
    CHECK_U64(length, 1);
    INVALID(shmslot_segment_counters(NULL, &counters, sizeof counters));
    INVALID(shmslot_segment_counters(segment, NULL, sizeof counters));
    INVALID(shmslot_segment_counters(segment, &counters, 0));
    INVALID(shmslot_segment_readers(NULL, &of_reader, sizeof of_reader, 1, &length));
    INVALID(shmslot_segment_readers(segment, NULL, sizeof of_reader, 1, &length));
    INVALID(shmslot_segment_readers(segment, &of_reader, 0, 1, &length));
    INVALID(shmslot_segment_readers(segment, &of_reader, sizeof of_reader, 1, NULL));
    CHECK_OK(shmslot_segment_readers(segment, NULL, 0, 0, &length));
    CHECK_U64(length, 1);
    INVALID(shmslot_segment_writers(NULL, &of_writer, sizeof of_writer, 1, &length));
    INVALID(shmslot_segment_writers(segment, &of_writer, sizeof of_writer, 1, NULL));
    CHECK_OK(shmslot_segment_writers(segment, NULL, 0, 0, &length));
    CHECK_U64(length, 0);
    INVALID(shmslot_segment_deaths(NULL, &death, sizeof death, 1, &length));
    INVALID(shmslot_segment_deaths(segment, &death, sizeof death, 1, NULL));
    CHECK_OK(shmslot_segment_deaths(segment, NULL, 0, 0, &length));
    CHECK_U64(length, 0);
    INVALID(shmslot_segment_expel(NULL, 0, 1, NULL));
    INVALID(shmslot_segment_fd(NULL));
    INVALID(shmslot_segment_path(NULL, path, sizeof path, &length));
    INVALID(shmslot_segment_path(segment, NULL, sizeof path, &length));
    INVALID(shmslot_segment_path(segment, path, sizeof path, NULL));
    INVALID(shmslot_segment_slot_count(NULL, &number));
    INVALID(shmslot_segment_slot_count(segment, NULL));
    INVALID(shmslot_segment_slot_total_size(NULL, &number));
    INVALID(shmslot_segment_slot_total_size(segment, NULL));
    INVALID(shmslot_segment_slot_capacity(NULL, &number));
    INVALID(shmslot_segment_slot_capacity(segment, NULL));
    INVALID(shmslot_segment_generation(NULL, &generation));
    INVALID(shmslot_segment_generation(segment, NULL));
    INVALID(shmslot_segment_wait_for_change(NULL, 0, AT_ONCE, &generation));
}

static void check_writer_calls(void)
{
    shmslot_writer *other = NULL;
    shmslot_loan loan, none;
    uint64_t number;

    memset(&none, 0, sizeof none);
    INVALID(shmslot_writer_open(NULL, &other, NULL));
    INVALID(shmslot_writer_open(segment, NULL, NULL));
    INVALID(shmslot_writer_interrupt(NULL));
    INVALID(shmslot_writer_blockers(NULL, &number));
    INVALID(shmslot_writer_blockers(writer, NULL));
    INVALID(shmslot_slot_reserve(NULL, 8, AT_ONCE, &loan));
    INVALID(shmslot_slot_reserve(writer, 8, AT_ONCE, NULL));
    INVALID(shmslot_slot_commit(NULL, &none, 0, NULL));
    INVALID(shmslot_slot_commit(writer, NULL, 0, NULL));
    INVALID(shmslot_slot_reserve_many(NULL, 8, AT_ONCE, &loan, 1));
    INVALID(shmslot_slot_reserve_many(writer, 8, AT_ONCE, NULL, 1));
    CHECK_U64((uint64_t)shmslot_slot_reserve_many(writer, 8, AT_ONCE, NULL, 0), 0);
    INVALID(shmslot_slot_commit_many(NULL, &none, NULL, 1, NULL));
    INVALID(shmslot_slot_commit_many(writer, NULL, NULL, 1, NULL));
    INVALID(shmslot_slot_commit_many(writer, &none, NULL, SIZE_MAX, NULL));
    CHECK_U64((uint64_t)shmslot_slot_commit_many(writer, NULL, NULL, 0, NULL), 0);
    INVALID(shmslot_slot_discard(NULL, &none));
    INVALID(shmslot_slot_discard(writer, NULL));
    INVALID(shmslot_slot_write(NULL, "x", 1, AT_ONCE, NULL));
    INVALID(shmslot_slot_write(writer, NULL, 1, AT_ONCE, NULL));
    INVALID(shmslot_slot_commit_ptr(NULL, &none, 0, NULL));
    INVALID(shmslot_slot_commit_ptr(writer, NULL, 0, NULL));
    INVALID(shmslot_slot_discard_ptr(NULL, &none));
    INVALID(shmslot_slot_discard_ptr(writer, NULL));
    INVALID(shmslot_loan_from_ptr(NULL, &none, &loan));
    INVALID(shmslot_loan_from_ptr(writer, NULL, &loan));
    INVALID(shmslot_loan_from_ptr(writer, &none, NULL));
    INVALID(shmslot_wait_space(NULL, AT_ONCE));
    INVALID(shmslot_wait_readers(NULL, 0, AT_ONCE, NULL));
}

static void check_reader_calls(void)
{
    shmslot_reader *other = NULL;
    shmslot_reader *with_null[2];
    shmslot_sample sample, none;
    uint64_t number;
    shmslot_error detail;
    shmslot_set *set;
    shmslot_trigger *trigger;
    shmslot_event event;
    size_t index;
    int fd;

    memset(&none, 0, sizeof none);
    INVALID(shmslot_reader_join(NULL, 0, &other, NULL));
    INVALID(shmslot_reader_join(segment, 0, NULL, NULL));
    INVALID(shmslot_reader_interrupt(NULL));
    INVALID(shmslot_reader_end_waits(NULL, 0));
    INVALID(shmslot_reader_end_waits(reader, 1U << 31));
    INVALID(shmslot_writer_explain(NULL, SHMSLOT_E_STALE, 0, NULL, &detail));
    INVALID(shmslot_writer_explain(writer, SHMSLOT_E_STALE, 0, NULL, NULL));
    INVALID(shmslot_writer_explain(writer, SHMSLOT_OK, 0, NULL, &detail));
    INVALID(shmslot_writer_explain(writer, -9999, 0, NULL, &detail));
    INVALID(shmslot_reader_explain(NULL, SHMSLOT_E_STALE, NULL, &detail));
    INVALID(shmslot_reader_explain(reader, SHMSLOT_E_STALE, NULL, NULL));
    INVALID(shmslot_reader_explain(reader, SHMSLOT_OK, NULL, &detail));
    INVALID(shmslot_writer_end_waits(NULL, 0));
    INVALID(shmslot_writer_end_waits(writer, SHMSLOT_END_NO_WRITERS));
    INVALID(shmslot_segment_end_waits(NULL, 0));
    INVALID(shmslot_segment_end_waits(segment, SHMSLOT_END_PEER_DEAD));
    INVALID(shmslot_reader_fd(NULL, 0, &fd, NULL));
    INVALID(shmslot_reader_fd(reader, 0, NULL, NULL));
    INVALID(shmslot_reader_fd(reader, 1U << 31, &fd, NULL));
    INVALID(shmslot_reader_fd_arm(NULL));
    INVALID(shmslot_reader_fd_arm(reader)); /* it has no descriptor */
    INVALID(shmslot_writer_fd(NULL, 0, &fd, NULL));
    INVALID(shmslot_writer_fd(writer, 0, NULL, NULL));
    INVALID(shmslot_writer_fd(writer, 1U << 31, &fd, NULL));
    INVALID(shmslot_writer_fd_arm(NULL));
    INVALID(shmslot_writer_fd_arm(writer));
    INVALID(shmslot_set_create(0, NULL, NULL));
    INVALID(shmslot_set_create(1U << 31, &set, NULL));
    CHECK_OK(shmslot_set_create(0, &set, NULL));
    INVALID(shmslot_set_add_reader(NULL, reader, 1, NULL));
    INVALID(shmslot_set_add_reader(set, NULL, 1, NULL));
    INVALID(shmslot_set_add_writer(NULL, writer, 1, NULL));
    INVALID(shmslot_set_add_writer(set, NULL, 1, NULL));
    INVALID(shmslot_set_add_segment(NULL, segment, 1, NULL));
    INVALID(shmslot_set_add_segment(set, NULL, 1, NULL));
    INVALID(shmslot_set_add_trigger(NULL, 1, &trigger, NULL));
    INVALID(shmslot_set_add_trigger(set, 1, NULL, NULL));
    INVALID(shmslot_set_remove(NULL, 1));
    INVALID(shmslot_set_fd(NULL));
    INVALID(shmslot_set_wait(NULL, AT_ONCE, &event, 1));
    INVALID(shmslot_set_wait(set, AT_ONCE, NULL, 1));
    INVALID(shmslot_set_wait(set, AT_ONCE, &event, 0));
    INVALID(shmslot_set_interrupt(NULL));
    INVALID(shmslot_trigger_fire(NULL));
    shmslot_trigger_close(NULL);
    shmslot_set_close(NULL);
    shmslot_set_close(set);
    INVALID(shmslot_reader_lost(NULL, &number));
    INVALID(shmslot_reader_lost(reader, NULL));
    INVALID(shmslot_reader_index(NULL));
    INVALID(shmslot_slot_read(NULL, &sample));
    INVALID(shmslot_slot_read(reader, NULL));
    INVALID(shmslot_slot_read_many(NULL, &sample, 1));
    INVALID(shmslot_slot_read_many(reader, NULL, 1));
    CHECK_U64((uint64_t)shmslot_slot_read_many(reader, NULL, 0), 0);
    INVALID(shmslot_slot_peek_latest(NULL, &sample));
    INVALID(shmslot_slot_peek_latest(reader, NULL));
    INVALID(shmslot_slot_mark(NULL, &none));
    INVALID(shmslot_slot_mark(reader, NULL));
    INVALID(shmslot_slot_mark_many(NULL, &none, 1));
    INVALID(shmslot_slot_mark_many(reader, NULL, 1));
    INVALID(shmslot_slot_mark_many(reader, &none, SIZE_MAX));
    CHECK_U64((uint64_t)shmslot_slot_mark_many(reader, NULL, 0), 0);
    INVALID(shmslot_slot_mark_ptr(NULL, &none));
    INVALID(shmslot_slot_mark_ptr(reader, NULL));
    INVALID(shmslot_sample_from_ptr(NULL, &none, &sample));
    INVALID(shmslot_sample_from_ptr(reader, NULL, &sample));
    INVALID(shmslot_sample_from_ptr(reader, &none, NULL));
    INVALID(shmslot_wait(NULL, AT_ONCE));
    INVALID(shmslot_wait_any(NULL, 1, AT_ONCE, &index));
    with_null[0] = reader;
    with_null[1] = NULL;
    INVALID(shmslot_wait_any(with_null, 2, AT_ONCE, &index));
    INVALID(shmslot_wait_any(with_null, 0, AT_ONCE, &index));
    INVALID(shmslot_wait_any(with_null, 1, AT_ONCE, NULL));
}

/* The joined reader sees the samples of the reference operations too. */
static uint64_t take_length(void)
{
    shmslot_sample sample = hold(reader);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    return sample.len;
}

static void check_reference_calls(void)
{
    shmslot_ref ref, none;
    shmslot_ref_header header;
    const void *shared;
    void *data;
    char buffer[8];
    size_t length;

    memset(&none, 0, sizeof none);
    INVALID(shmslot_ref_reserve(NULL, 1, &ref));
    INVALID(shmslot_ref_reserve(segment, 1, NULL));
    INVALID(shmslot_ref_reserve_large(NULL, 1, 8, &ref, NULL));
    INVALID(shmslot_ref_reserve_large(segment, 1, 8, NULL, NULL));
    INVALID(shmslot_ref_data_ptr(NULL, &none, &data, &length));
    INVALID(shmslot_ref_data_ptr(segment, NULL, &data, &length));
    INVALID(shmslot_ref_data_ptr(segment, &none, NULL, &length));
    INVALID(shmslot_ref_data_ptr(segment, &none, &data, NULL));
    INVALID(shmslot_ref_data_user_header(NULL, &none, &data, &length));
    INVALID(shmslot_ref_data_user_header(segment, NULL, &data, &length));
    INVALID(shmslot_ref_data_user_header(segment, &none, NULL, &length));
    INVALID(shmslot_ref_data_user_header(segment, &none, &data, NULL));
    INVALID(shmslot_ref_commit_copy(NULL, &none, buffer, 1, NULL));
    INVALID(shmslot_ref_commit_copy(segment, NULL, buffer, 1, NULL));
    INVALID(shmslot_ref_commit_copy(segment, &none, NULL, 1, NULL));
    INVALID(shmslot_ref_commit_in_place(NULL, &none, 0, NULL));
    INVALID(shmslot_ref_commit_in_place(segment, NULL, 0, NULL));
    INVALID(shmslot_ref_discard(NULL, &none));
    INVALID(shmslot_ref_discard(segment, NULL));
    INVALID(shmslot_ref_next_unread(NULL, 0, &ref));
    INVALID(shmslot_ref_next_unread(segment, 0, NULL));
    INVALID(shmslot_ref_published(NULL, 0, &ref));
    INVALID(shmslot_ref_published(segment, 0, NULL));
    INVALID(shmslot_ref_published(segment, 1u << 24, &ref));
    INVALID(shmslot_ref_read_header(NULL, &none, &header));
    INVALID(shmslot_ref_read_header(segment, NULL, &header));
    INVALID(shmslot_ref_read_header(segment, &none, NULL));
    INVALID(shmslot_ref_read_ptr(NULL, &none, &shared, &length));
    INVALID(shmslot_ref_read_ptr(segment, NULL, &shared, &length));
    INVALID(shmslot_ref_read_ptr(segment, &none, NULL, &length));
    INVALID(shmslot_ref_read_ptr(segment, &none, &shared, NULL));
    INVALID(shmslot_ref_read_user_header(NULL, &none, &shared, &length));
    INVALID(shmslot_ref_read_user_header(segment, NULL, &shared, &length));
    INVALID(shmslot_ref_read_user_header(segment, &none, NULL, &length));
    INVALID(shmslot_ref_read_user_header(segment, &none, &shared, NULL));
    INVALID(shmslot_ref_read_copy(NULL, &none, &header, buffer, sizeof buffer, &length));
    INVALID(shmslot_ref_read_copy(segment, NULL, &header, buffer, sizeof buffer, &length));
    CHECK_OK(shmslot_ref_reserve(segment, 1, &ref));
    CHECK_OK(shmslot_ref_commit_copy(segment, &ref, "x", 1, NULL));
    INVALID(shmslot_ref_read_copy(segment, &ref, &header, NULL, sizeof buffer, &length));
    CHECK_OK(shmslot_ref_read_copy(segment, &ref, NULL, buffer, sizeof buffer, NULL));
    CHECK(buffer[0] == 'x');
    CHECK_OK(shmslot_ref_mark_read(segment, &ref, 0));
    CHECK_U64(take_length(), 1);
    INVALID(shmslot_ref_mark_read(NULL, &none, 0));
    INVALID(shmslot_ref_mark_read(segment, NULL, 0));
    INVALID(shmslot_ref_mark_reader_disconnected(NULL, 0));
}

static void check_region_calls(void)
{
    shmslot_registry_options wrong = SHMSLOT_REGISTRY_OPTIONS_INIT;
    shmslot_channel *near = NULL, *far = NULL, *other = NULL;
    shmslot_registry *registry = NULL;
    shmslot_attachments *attachments = NULL;
    shmslot_pool_info state;
    shmslot_segment *received = NULL;
    shmslot_lease lease;
    shmslot_mapped mapped;

    INVALID(shmslot_channel_pair(0, NULL, &far, NULL));
    INVALID(shmslot_channel_pair(0, &near, NULL, NULL));
    CHECK_CODE(shmslot_channel_pair(1, &near, &far, NULL), SHMSLOT_E_BAD_OPTIONS);
    CHECK_OK(shmslot_channel_pair(0, &near, &far, NULL));
    INVALID(shmslot_channel_listen(NULL, 0, &other, NULL));
    INVALID(shmslot_channel_listen("@ctest-null", 0, NULL, NULL));
    INVALID(shmslot_channel_accept(NULL, AT_ONCE, &other, NULL));
    INVALID(shmslot_channel_accept(near, AT_ONCE, NULL, NULL));
    INVALID(shmslot_channel_accept(near, AT_ONCE, &other, NULL)); /* it is connected */
    INVALID(shmslot_channel_connect(NULL, 0, AT_ONCE, &other, NULL));
    INVALID(shmslot_channel_connect("@ctest-null", 0, AT_ONCE, NULL, NULL));
    INVALID(shmslot_channel_from_fd(-1, 0, &other, NULL));
    INVALID(shmslot_channel_from_fd(shmslot_channel_fd(near), 0, NULL, NULL));
    INVALID(shmslot_channel_fd(NULL));
    INVALID(shmslot_channel_send_segment(NULL, segment, AT_ONCE, NULL));
    INVALID(shmslot_channel_send_segment(near, NULL, AT_ONCE, NULL));
    INVALID(shmslot_channel_recv_segment(NULL, NULL, AT_ONCE, &received, NULL));
    INVALID(shmslot_channel_recv_segment(far, NULL, AT_ONCE, NULL, NULL));

    INVALID(shmslot_registry_create(NULL, NULL, NULL));
    wrong.align = 3;
    CHECK_CODE(shmslot_registry_create(&wrong, &registry, NULL), SHMSLOT_E_BAD_OPTIONS);
    wrong.align = 0;
    wrong.flags = 2;
    CHECK_CODE(shmslot_registry_create(&wrong, &registry, NULL), SHMSLOT_E_BAD_OPTIONS);
    wrong.flags = 0;
    wrong.struct_size = 8;
    CHECK_CODE(shmslot_registry_create(&wrong, &registry, NULL), SHMSLOT_E_BAD_OPTIONS);
    CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
    INVALID(shmslot_registry_add(NULL, near, AT_ONCE, NULL));
    INVALID(shmslot_registry_add(registry, NULL, AT_ONCE, NULL));
    INVALID(shmslot_registry_remove(NULL, near));
    INVALID(shmslot_registry_remove(registry, NULL));
    INVALID(shmslot_registry_info(NULL, &state, sizeof state));
    INVALID(shmslot_registry_info(registry, NULL, sizeof state));
    INVALID(shmslot_registry_info(registry, &state, 0));
    INVALID(shmslot_registry_reclaim(NULL));
    INVALID(shmslot_region_alloc(NULL, 1, AT_ONCE, &lease, NULL));
    INVALID(shmslot_region_alloc(registry, 1, AT_ONCE, NULL, NULL));
    CHECK_OK(shmslot_region_alloc(registry, 1, AT_ONCE, &lease, NULL));
    INVALID(shmslot_region_retain(NULL, &lease));
    INVALID(shmslot_region_retain(registry, NULL));
    INVALID(shmslot_region_release(NULL, &lease));
    INVALID(shmslot_region_release(registry, NULL));
    CHECK_OK(shmslot_region_release(registry, &lease));

    INVALID(shmslot_attachments_create(far, 0, NULL, NULL));
    CHECK_CODE(shmslot_attachments_create(far, 1, &attachments, NULL), SHMSLOT_E_BAD_OPTIONS);
    CHECK_OK(shmslot_attachments_create(NULL, 0, &attachments, NULL));
    INVALID(shmslot_attachments_drain(NULL, NULL));
    INVALID(shmslot_attachments_resolve(NULL, 0, 1, 0, 1, &mapped, NULL));
    INVALID(shmslot_attachments_resolve(attachments, 0, 1, 0, 1, NULL, NULL));
    INVALID(shmslot_attachments_resolve_wait(NULL, 0, 1, 0, 1, AT_ONCE, &mapped, NULL));
    INVALID(shmslot_attachments_resolve_wait(attachments, 0, 1, 0, 1, AT_ONCE, NULL, NULL));
    INVALID(shmslot_attachments_release(NULL, &mapped));
    INVALID(shmslot_attachments_release(attachments, NULL));
    INVALID(shmslot_attachments_attach_fd(NULL, 0, 1, 1, 0, NULL));
    INVALID(shmslot_attachments_attach_fd(attachments, 0, 1, 1, -1, NULL));

    shmslot_attachments_close(attachments);
    shmslot_registry_close(registry);
    shmslot_channel_close(near);
    shmslot_channel_close(far);
}

/* Where a pointer may be NULL, NULL works. */
static void check_what_may_be_null(void)
{
    uint64_t number = 0;
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_write(writer, NULL, 0, AT_ONCE, NULL));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_commit(writer, &loan, 0, NULL));
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_slot_commit_ptr(writer, loan.data, 0, NULL));
    CHECK_OK(shmslot_segment_slot_count(segment, &number));
    CHECK_U64(number, 4);
}

CHECK_MAIN()
{
    shmslot_options options = options_of(4, 8);
    segment = make_named(unique_name(name, sizeof name, "null"), &options);
    CHECK_U64(options.struct_size, sizeof options);
    writer = open_writer(segment);
    reader = join(segment, 0);
    RUN(check_closers());
    RUN(check_segment_calls());
    RUN(check_writer_calls());
    RUN(check_reader_calls());
    RUN(check_reference_calls());
    RUN(check_region_calls());
    RUN(check_what_may_be_null());
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}
