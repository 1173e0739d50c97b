/* A process that recovers a dead participant is stopped, at any point. Only that participant's
 * recovery waits for it: the next participant may get the row that it has just freed, and die, and
 * is recovered all the same. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
/* not under aarch64: the emulator has no single steps */
#include "single_steps.h"
#include "words.h"

enum { SLOTS = 8, MAX_PARTICIPANTS = 8, EACH = 2 };

static int descriptor; /* of the segment */

static shmslot_segment *attach_by_descriptor(void)
{
    shmslot_segment *segment = NULL;
    CHECK_OK(shmslot_segment_attach_fd(descriptor, NULL, &segment, NULL));
    return segment;
}

/* Has some of everything, and never gives it back. */
static int take_and_stay(int link, void *unused)
{
    shmslot_segment *segment = attach_by_descriptor();
    shmslot_writer *writer = open_writer(segment);
    shmslot_loan loan;
    int i;
    (void)unused;
    (void)join(segment, 0);
    for (i = 0; i < EACH; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    (void)put(writer, 1);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static child start_taker(void)
{
    child taker = start_child(take_and_stay, NULL);
    hear(taker.link);
    return taker;
}

static void kill_taker(child taker)
{
    CHECK(kill(taker.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(taker), 128 + SIGKILL);
}

/* ---- of the one that is stopped ---- */

static shmslot_segment *its_segment;

static void attach_to_recover(void *unused)
{
    (void)unused;
    its_segment = attach_by_descriptor();
}

static void recover(void *unused)
{
    (void)unused;
    CHECK_OK(shmslot_segment_recover(its_segment, NULL));
}

/* Stops it at this point; false if it was done before. */
static int try_point(int point, int *ret_row_was_taken_again)
{
    const uint64_t row_of_first = 1; /* this process has row 0 */
    shmslot_options options = options_of(SLOTS, 8);
    shmslot_participant list[MAX_PARTICIPANTS];
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_loan loan;
    struct words words;
    unsigned char *before;
    child first, second;
    uint64_t i;
    size_t count;
    int at, more = 1;
    pid_t pid;
    options.max_participants = MAX_PARTICIPANTS;
    segment = make_anonymous(&options);
    descriptor = shmslot_segment_fd(segment);
    CHECK_OK(descriptor);
    words = map_words(segment);
    before = malloc(words.size);
    CHECK(before != NULL);
    first = start_taker();
    CHECK_U64((uint64_t)process_of(&words, row_of_first), (uint64_t)first.pid);
    pid = steps_start(attach_to_recover, recover, NULL, NULL);
    kill_taker(first);
    for (at = 0; more && at < point; at++) {
        memcpy(before, words.raw, words.size);
        more = steps_next(pid, words.raw, before, words.size);
    }
    if (more) {
        second = start_taker();
        if (process_of(&words, row_of_first) == second.pid) *ret_row_was_taken_again = 1;
        kill_taker(second);
        CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
        CHECK_OK(
            shmslot_segment_participants(segment, list, sizeof list[0], MAX_PARTICIPANTS, &count));
        for (i = 0; i < count; i++) CHECK(list[i].pid != (uint32_t)second.pid);
        steps_finish(pid);
    }
    steps_kill(pid);
    /* that of the one that was stopped itself */
    CHECK_CODE(shmslot_segment_recover(segment, NULL), 1);
    CHECK_U64(info_of(segment).participants, 1);
    CHECK_U64(info_of(segment).readers, 0);
    writer = open_writer(segment);
    for (i = 0; i < SLOTS; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    shmslot_writer_close(writer);
    unmap_words(&words);
    shmslot_segment_close(segment);
    free(before);
    return more;
}

int main(void)
{
    int point = 0, row_was_taken_again = 0;
    check_begin();
    steps_begin();
    while (try_point(point, &row_was_taken_again)) point++;
    CHECK(row_was_taken_again); /* otherwise this has shown nothing */
    printf("%d points\n", point);
    return 0;
}
