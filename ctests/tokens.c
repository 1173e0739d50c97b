/* A loan and a sample can be used once, by the process that got them, unchanged. Anything else is
 * an error code, changes nothing, and never frees anything twice. */
#include "samples.h"

static shmslot_segment *segment;
static shmslot_writer *writer;
static shmslot_reader *reader;

static void set_up(void)
{
    shmslot_options options = options_of(4, 100);
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    reader = join(segment, 0);
}

static void tear_down(void)
{
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static shmslot_loan reserve(size_t len)
{
    shmslot_loan loan;
    CHECK_OK(shmslot_slot_reserve(writer, len, AT_ONCE, &loan));
    CHECK(loan.data != NULL);
    CHECK_U64(loan.len, len);
    return loan;
}

/* All four slots can still be reserved: nothing was freed twice, nothing was lost. */
static void check_four_slots_are_free(void)
{
    shmslot_loan loans[4], fifth;
    int i, k;
    for (i = 0; i < 4; i++) {
        loans[i] = reserve(100);
        for (k = 0; k < i; k++) CHECK(loans[k].data != loans[i].data);
    }
    CHECK_CODE(shmslot_slot_reserve(writer, 100, AT_ONCE, &fifth), SHMSLOT_E_NO_FREE_SLOT);
    for (i = 0; i < 4; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
}

static void check_used_loans(void)
{
    shmslot_loan loan = reserve(8);
    uint64_t sequence = 0;
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, &sequence));
    CHECK_U64(sequence, 1);
    sequence = 99;
    CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, &sequence), SHMSLOT_E_STALE);
    CHECK_U64(sequence, 99); /* written only on success */
    CHECK_CODE(shmslot_slot_discard(writer, &loan), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_commit_ptr(writer, loan.data, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard_ptr(writer, loan.data), SHMSLOT_E_STALE);

    loan = reserve(8);
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard(writer, &loan), SHMSLOT_E_STALE);

    /* The token of an earlier loan does not match a later loan of its slot. */
    {
        shmslot_loan loans[4];
        int i;
        (void)take(reader);
        for (i = 0; i < 4; i++) loans[i] = reserve(8);
        CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, NULL), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_slot_discard(writer, &loan), SHMSLOT_E_STALE);
        for (i = 0; i < 4; i++) CHECK_OK(shmslot_slot_discard(writer, &loans[i]));
    }
    check_nothing_to_read(reader);
    check_four_slots_are_free();
}

static void check_foreign_and_forged_loans(void)
{
    shmslot_options options = options_of(4, 100);
    shmslot_segment *other_segment = make_anonymous(&options);
    shmslot_writer *other_writer = open_writer(other_segment), *second = open_writer(segment);
    shmslot_loan loan = reserve(8), foreign, forged;
    unsigned bit;

    CHECK_OK(shmslot_slot_reserve(other_writer, 8, AT_ONCE, &foreign));
    CHECK_CODE(shmslot_slot_commit(writer, &foreign, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard(writer, &foreign), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_commit(second, &loan, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard(second, &loan), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_commit_ptr(second, loan.data, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard_ptr(second, loan.data), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_loan_from_ptr(second, loan.data, &forged), SHMSLOT_E_STALE);

    for (bit = 0; bit < 64; bit++) {
        forged = loan;
        forged.token ^= UINT64_C(1) << bit;
        CHECK_CODE(shmslot_slot_commit(writer, &forged, 8, NULL), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_slot_discard(writer, &forged), SHMSLOT_E_STALE);
    }
    forged = loan;
    forged.segment_id ^= 1;
    CHECK_CODE(shmslot_slot_commit(writer, &forged, 8, NULL), SHMSLOT_E_STALE);
    memset(&forged, 0, sizeof forged);
    CHECK_CODE(shmslot_slot_commit(writer, &forged, 0, NULL), SHMSLOT_E_STALE);
    memset(&forged, 0xFF, sizeof forged);
    CHECK_CODE(shmslot_slot_commit(writer, &forged, 0, NULL), SHMSLOT_E_STALE);

    check_nothing_to_read(reader);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL)); /* the real one survived all that */
    CHECK_OK(shmslot_slot_commit(other_writer, &foreign, 8, NULL));
    (void)take(reader);
    shmslot_writer_close(second);
    shmslot_writer_close(other_writer);
    shmslot_segment_close(other_segment);
    check_four_slots_are_free();
}

static void check_lengths(void)
{
    shmslot_loan loan;
    shmslot_sample sample;
    uint64_t before = info_of(segment).next_sequence, sequence = 0;
    char bytes[101];

    CHECK_CODE(shmslot_slot_reserve(writer, 101, AT_ONCE, &loan), SHMSLOT_E_TOO_LARGE);
    CHECK_CODE(shmslot_slot_reserve(writer, SIZE_MAX, AT_ONCE, &loan), SHMSLOT_E_TOO_LARGE);
    memset(bytes, 7, sizeof bytes);
    CHECK_CODE(shmslot_slot_write(writer, bytes, 101, AT_ONCE, NULL), SHMSLOT_E_TOO_LARGE);

    loan = reserve(10);
    CHECK_CODE(shmslot_slot_commit(writer, &loan, 11, NULL), SHMSLOT_E_BAD_LENGTH);
    CHECK_CODE(shmslot_slot_commit(writer, &loan, SIZE_MAX, NULL), SHMSLOT_E_BAD_LENGTH);
    CHECK_CODE(shmslot_slot_commit_ptr(writer, loan.data, 11, NULL), SHMSLOT_E_BAD_LENGTH);
    check_nothing_to_read(reader);
    memset(loan.data, 7, 10);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 3, &sequence)); /* still a loan; shorter is fine */
    CHECK_U64(sequence, before);
    sample = hold(reader);
    CHECK_U64(sample.len, 3);
    CHECK(memcmp(sample.data, bytes, 3) == 0);
    CHECK_OK(shmslot_slot_mark(reader, &sample));

    loan = reserve(0);
    /* empty is a sample like any other */
    CHECK_OK(shmslot_slot_commit(writer, &loan, 0, &sequence));
    CHECK_U64(sequence, before + 1);
    CHECK_OK(shmslot_slot_write(writer, NULL, 0, AT_ONCE, &sequence));
    CHECK_U64(sequence, before + 2);
    sample = hold(reader);
    CHECK_U64(sample.len, 0);
    CHECK(sample.data != NULL);
    CHECK_U64(sample.sequence, before + 1);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    sample = hold(reader);
    CHECK_U64(sample.len, 0);
    CHECK_OK(shmslot_slot_mark_ptr(reader, sample.data));

    CHECK_OK(shmslot_slot_write(writer, bytes, 100, AT_ONCE, NULL)); /* exactly the capacity */
    sample = hold(reader);
    CHECK_U64(sample.len, 100);
    CHECK(memcmp(sample.data, bytes, 100) == 0);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    check_four_slots_are_free();
}

static void check_samples(void)
{
    shmslot_options options = options_of(4, 100);
    shmslot_segment *other_segment = make_anonymous(&options);
    shmslot_writer *other_writer = open_writer(other_segment);
    shmslot_reader *other_reader = join(other_segment, 0), *second = join(segment, 0);
    shmslot_sample sample, foreign, seconds;

    (void)put(writer, 1);
    (void)put(other_writer, 2);
    sample = hold(reader);
    foreign = hold(other_reader);
    CHECK_CODE(shmslot_slot_mark(reader, &foreign), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_mark_ptr(reader, foreign.data), SHMSLOT_E_STALE);
    /* that reader has not read it */
    CHECK_CODE(shmslot_slot_mark(second, &sample), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_mark_ptr(second, sample.data), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_CODE(shmslot_slot_mark(reader, &sample), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_mark_ptr(reader, sample.data), SHMSLOT_E_STALE);
    seconds = hold(second); /* the double mark took nothing from the other reader */
    CHECK_U64(value_of(&seconds), 1);
    CHECK_OK(shmslot_slot_mark(second, &seconds));
    CHECK_CODE(shmslot_slot_mark(second, &seconds), SHMSLOT_E_STALE);

    /* A sample of an earlier lap does not mark the later sample in its slot. */
    {
        int i;
        for (i = 0; i < 4; i++) (void)put(writer, 10 + (uint64_t)i);
        CHECK_CODE(shmslot_slot_mark(reader, &sample), SHMSLOT_E_STALE);
        for (i = 0; i < 4; i++) CHECK_U64(take(reader), 10 + (uint64_t)i);
        for (i = 0; i < 4; i++) CHECK_U64(take(second), 10 + (uint64_t)i);
    }

    /* Made-up samples. */
    (void)put(writer, 3);
    sample = hold(reader);
    seconds = sample;
    seconds.slot = 4;
    CHECK_CODE(shmslot_slot_mark(reader, &seconds), SHMSLOT_E_STALE);
    seconds.slot = UINT32_MAX;
    CHECK_CODE(shmslot_slot_mark(reader, &seconds), SHMSLOT_E_STALE);
    seconds = sample;
    seconds.sequence++;
    CHECK_CODE(shmslot_slot_mark(reader, &seconds), SHMSLOT_E_STALE);
    seconds = sample;
    seconds.segment_id ^= 1;
    CHECK_CODE(shmslot_slot_mark(reader, &seconds), SHMSLOT_E_STALE);
    memset(&seconds, 0xFF, sizeof seconds);
    CHECK_CODE(shmslot_slot_mark(reader, &seconds), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_U64(take(second), 3);

    CHECK_OK(shmslot_slot_mark(other_reader, &foreign));
    shmslot_reader_leave(second);
    shmslot_reader_leave(other_reader);
    shmslot_writer_close(other_writer);
    shmslot_segment_close(other_segment);
    check_four_slots_are_free();
}

/* Middleware that gets only raw pointers back needs no registry of its own. */
static void check_pointers(void)
{
    shmslot_loan loan = reserve(50), found;
    shmslot_sample sample, seen;
    char elsewhere[8] = {0};
    const char *inside = (const char *)loan.data + 1;
    uint64_t sequence = 0;

    memset(&found, 0, sizeof found);
    CHECK_OK(shmslot_loan_from_ptr(writer, loan.data, &found));
    CHECK(found.data == loan.data);
    CHECK_U64(found.len, 50);
    CHECK_U64(found.token, loan.token);
    CHECK_U64(found.segment_id, loan.segment_id);
    CHECK(found.user_header == loan.user_header);
    CHECK_CODE(shmslot_loan_from_ptr(writer, inside, &found), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_loan_from_ptr(writer, elsewhere, &found), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_loan_from_ptr(writer, (const void *)(uintptr_t)UINTPTR_MAX, &found),
               SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_loan_from_ptr(writer, (const void *)(uintptr_t)1, &found), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_commit_ptr(writer, (char *)loan.data + 64, 1, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_commit_ptr(writer, elsewhere, 1, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard_ptr(writer, (char *)loan.data - 1), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard_ptr(writer, elsewhere), SHMSLOT_E_STALE);
    memcpy(loan.data, "by pointer", 10);
    CHECK_OK(shmslot_slot_commit_ptr(writer, loan.data, 10, &sequence));
    CHECK_U64(sequence, info_of(segment).next_sequence - 1);
    CHECK_CODE(shmslot_loan_from_ptr(writer, loan.data, &found), SHMSLOT_E_STALE);

    sample = hold(reader);
    CHECK(memcmp(sample.data, "by pointer", 10) == 0);
    memset(&seen, 0, sizeof seen);
    CHECK_OK(shmslot_sample_from_ptr(reader, sample.data, &seen));
    CHECK(seen.data == sample.data);
    CHECK_U64(seen.len, 10);
    CHECK_U64(seen.sequence, sequence);
    CHECK_U64(seen.slot, sample.slot);
    CHECK_U64(seen.segment_id, sample.segment_id);
    CHECK_U64(seen.writer_id, sample.writer_id);
    CHECK_CODE(shmslot_sample_from_ptr(reader, (const char *)sample.data + 1, &seen),
               SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_sample_from_ptr(reader, elsewhere, &seen), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_mark_ptr(reader, (const char *)sample.data + 1), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_mark_ptr(reader, elsewhere), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_mark_ptr(reader, sample.data));
    CHECK_CODE(shmslot_slot_mark_ptr(reader, sample.data), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_sample_from_ptr(reader, sample.data, &seen), SHMSLOT_E_STALE);

    loan = reserve(8);
    CHECK_OK(shmslot_slot_discard_ptr(writer, loan.data));
    CHECK_CODE(shmslot_slot_discard_ptr(writer, loan.data), SHMSLOT_E_STALE);
    check_nothing_to_read(reader);
    check_four_slots_are_free();
}

static void check_timeouts(void)
{
    shmslot_loan loan;
    size_t index;
    uint32_t generation = 0;
    CHECK_OK(shmslot_segment_generation(segment, &generation));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, -2, &loan), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_slot_reserve(writer, 8, INT64_MIN, &loan), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_slot_write(writer, "x", 1, -2, NULL), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_wait(reader, -2), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_wait_any(&reader, 1, -2, &index), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_wait_space(writer, -2), SHMSLOT_E_BAD_TIMEOUT);
    CHECK_CODE(shmslot_segment_wait_for_change(segment, generation, -2, NULL),
               SHMSLOT_E_BAD_TIMEOUT);
    check_four_slots_are_free();
}

/* Loans that have not ended when the writer closes are given back, and their tokens are invalid
 * afterwards. */
static void check_close_discards(void)
{
    shmslot_writer *second = open_writer(segment);
    shmslot_loan first, other;
    CHECK_OK(shmslot_slot_reserve(second, 8, AT_ONCE, &first));
    CHECK_OK(shmslot_slot_reserve(second, 8, AT_ONCE, &other));
    shmslot_writer_close(second);
    CHECK_CODE(shmslot_slot_commit(writer, &first, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard(writer, &other), SHMSLOT_E_STALE);
    check_four_slots_are_free();
}

CHECK_MAIN()
{
    set_up();
    RUN(check_used_loans());
    RUN(check_foreign_and_forged_loans());
    RUN(check_lengths());
    RUN(check_samples());
    RUN(check_pointers());
    RUN(check_timeouts());
    RUN(check_close_discards());
    tear_down();
}
