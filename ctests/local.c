/* The in-process backend: equal calls and equal behaviour, without a file or a descriptor. */
#include "samples.h"

static void check_no_descriptor_and_no_path(shmslot_segment *segment)
{
    char path[16] = "untouched";
    size_t length = 99;
    CHECK_CODE(shmslot_segment_fd(segment), SHMSLOT_E_NOT_SUPPORTED);
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK(path[0] == '\0');
    CHECK_U64(length, 0);
}

static void *read_a_thousand(void *argument)
{
    shmslot_reader *reader = argument;
    uint64_t i;
    for (i = 1; i <= 1000; i++) CHECK_U64(take_wait(reader), i);
    return NULL;
}

static void check_samples_between_threads(shmslot_segment *segment)
{
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    pthread_t thread = start_thread(read_a_thousand, reader);
    uint64_t i;
    for (i = 1; i <= 1000; i++) CHECK_U64(put_wait(writer, i, FOR_EVER), i);
    end_thread(thread);
    CHECK_U64(lost(reader), 0);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
}

int main(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = NULL;
    check_begin();
    options.policy = SHMSLOT_POLICY_BLOCK;
    CHECK_OK(shmslot_segment_create_local(&options, &segment, NULL));
    CHECK_U64(info_of(segment).slot_count, 4);
    check_no_descriptor_and_no_path(segment);
    check_samples_between_threads(segment);
    shmslot_segment_close(segment);
    return 0;
}
