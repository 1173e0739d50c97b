/* Two processes of one segment: who attaches by name talks to who created it, in both
 * directions. */
#include "samples.h"

static int echo(int link, void *name)
{
    shmslot_segment *segment = attach(name);
    shmslot_reader *reader = join(segment, 0);
    shmslot_writer *writer = open_writer(segment);
    uint64_t i;
    say(link);
    for (i = 0; i < 1000; i++) {
        shmslot_sample sample;
        uint64_t value;
        CHECK_OK(shmslot_wait(reader, FOR_EVER));
        sample = hold(reader);
        value = value_of(&sample);
        CHECK_U64(value, 2 * i);
        CHECK_OK(shmslot_slot_mark(reader, &sample));
        (void)put_wait(writer, value + 1, FOR_EVER);
        /* one's own samples come back too: one order for all */
        CHECK_U64(take_wait(reader), value + 1);
    }
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}

static void check_question_and_answer(void)
{
    char name[64];
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment;
    shmslot_reader *reader;
    shmslot_writer *writer;
    uint32_t my_id = 0, its_id = 0;
    uint64_t i;
    child other;

    options.policy = SHMSLOT_POLICY_BLOCK;
    segment = make_named(unique_name(name, sizeof name, "proc"), &options);
    reader = join(segment, 0);
    writer = open_writer(segment);
    other = start_child(echo, name);
    hear(other.link);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    CHECK_U64(info_of(segment).participants, 2);
    CHECK_U64((uint64_t)__builtin_popcountll(info_of(segment).readers), 2);
    for (i = 0; i < 1000; i++) {
        shmslot_sample question, answer;
        (void)put_wait(writer, 2 * i, FOR_EVER);
        CHECK_OK(shmslot_wait(reader, FOR_EVER));
        question = hold(reader);
        CHECK_U64(value_of(&question), 2 * i);
        CHECK_OK(shmslot_wait(reader, FOR_EVER));
        answer = hold(reader);
        CHECK_U64(value_of(&answer), 2 * i + 1);
        CHECK_U64(answer.sequence, question.sequence + 1);
        if (i == 0) {
            my_id = question.writer_id;
            its_id = answer.writer_id;
            CHECK(my_id != its_id);
        }
        CHECK_U64(question.writer_id, my_id);
        CHECK_U64(answer.writer_id, its_id);
        CHECK_OK(shmslot_slot_mark(reader, &question));
        CHECK_OK(shmslot_slot_mark(reader, &answer));
    }
    CHECK_CHILD(other);
    CHECK_U64(info_of(segment).participants, 1);
    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
}

int main(void)
{
    check_begin();
    check_question_and_answer();
    return 0;
}
