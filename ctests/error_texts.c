/* Each error text says what was wanted, what was found and what to do, with names and numbers.
 * Whole texts are compared, so that a change of one shows here. */
#include "samples.h"

#include <stdarg.h>

static shmslot_error error;

__attribute__((format(printf, 1, 2))) static void says(const char *format, ...)
{
    char wanted[sizeof error.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wanted, sizeof wanted, format, arguments);
    va_end(arguments);
    if (strcmp(error.text, wanted) != 0) check_failed("text:   %s\nwanted: %s\n", error.text, wanted);
    memset(&error, 0, sizeof error);
}

static void explain(shmslot_writer *writer, int code, size_t len, const shmslot_loan *loan)
{
    CHECK_OK(shmslot_writer_explain(writer, code, len, loan, &error));
    CHECK(error.code == code && error.os_errno == 0);
}

/* ---- why a writer gets no slot ---- */

static void check_no_free_slot(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_writer *writer, *other;
    shmslot_reader *first, *second;
    shmslot_loan loans[4], one;
    shmslot_sample sample;
    int i, low, high;

    options.policy = SHMSLOT_POLICY_FAIL;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    for (i = 0; i < 4; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, FOR_EVER, &one), SHMSLOT_E_NO_FREE_SLOT);
    explain(writer, SHMSLOT_E_NO_FREE_SLOT, 8, NULL);
    CHECK(error.numbers[0] == 4 && error.numbers[1] == 4 && error.numbers[2] == 0);
    says("4 of 4 slots are in use: 4 loaned by this writer, 0 by others, 0 unread, 0 held, 0 kept as history; the policy "
         "is FAIL, which never waits; commit or discard a loan first");

    first = join(segment, 0);
    second = join(segment, 0);
    low = shmslot_reader_index(first) < shmslot_reader_index(second) ? shmslot_reader_index(first)
                                                                     : shmslot_reader_index(second);
    high = shmslot_reader_index(first) + shmslot_reader_index(second) - low;
    for (i = 0; i < 2; i++) CHECK_OK(shmslot_slot_commit(writer, &loans[i], 8, NULL));
    CHECK_OK(shmslot_slot_read(first, &sample));
    other = open_writer(segment);
    CHECK_CODE(shmslot_slot_reserve(other, 8, AT_ONCE, &one), SHMSLOT_E_NO_FREE_SLOT);
    explain(other, SHMSLOT_E_NO_FREE_SLOT, 8, NULL);
    says("4 of 4 slots are in use: 0 loaned by this writer, 2 by others, 1 unread, 1 held, 0 kept as history; readers %d "
         "and %d have not read or marked theirs; the policy is FAIL, which never waits; mark samples sooner, add slots, or "
         "choose another policy", low, high);
    shmslot_reader_leave(second);
    explain(other, SHMSLOT_E_NO_FREE_SLOT, 8, NULL);
    says("4 of 4 slots are in use: 0 loaned by this writer, 2 by others, 1 unread, 1 held, 0 kept as history; reader %d "
         "has not read or marked its samples; the policy is FAIL, which never waits; mark samples sooner, add slots, or "
         "choose another policy", shmslot_reader_index(first));
    shmslot_reader_leave(first);
    CHECK_OK(shmslot_slot_mark(first, &sample));
    shmslot_writer_close(other);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_limits_of_a_writer(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_loan loan, one;
    char bytes[9] = {0};
    options.max_loans = 1;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    CHECK_CODE(shmslot_slot_write(writer, bytes, sizeof bytes, AT_ONCE, NULL), SHMSLOT_E_TOO_LARGE);
    explain(writer, SHMSLOT_E_TOO_LARGE, sizeof bytes, NULL);
    CHECK(error.numbers[0] == 9 && error.numbers[1] == 8);
    says("the payload has 9 bytes, and the segment takes at most 8; split it, or create the segment with a larger "
         "max_payload");
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_reserve(writer, 8, AT_ONCE, &one), SHMSLOT_E_LOAN_LIMIT);
    explain(writer, SHMSLOT_E_LOAN_LIMIT, 8, NULL);
    CHECK(error.numbers[0] == 1 && error.numbers[1] == 1);
    says("this writer has 1 loans, and max_loans is 1; commit or discard one first");
    CHECK_OK(shmslot_slot_discard(writer, &loan));
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static void check_stale(void)
{
    static const char way_out[] = "use each loan once, with the writer that gave it out";
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = make_anonymous(&options), *elsewhere = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment), *other = open_writer(segment), *far = open_writer(elsewhere);
    shmslot_loan loan, never;
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_commit(other, &loan, 8, NULL), SHMSLOT_E_STALE);
    explain(other, SHMSLOT_E_STALE, 0, &loan);
    says("another writer has this loan; %s", way_out);
    CHECK_CODE(shmslot_slot_commit(far, &loan, 8, NULL), SHMSLOT_E_STALE);
    explain(far, SHMSLOT_E_STALE, 0, &loan);
    says("the loan is of another segment, or was never given out; %s", way_out);
    never = loan;
    never.token += UINT64_C(1) << 24;
    CHECK_CODE(shmslot_slot_commit(writer, &never, 8, NULL), SHMSLOT_E_STALE);
    explain(writer, SHMSLOT_E_STALE, 0, &never);
    says("this loan was never given out; %s", way_out);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, NULL), SHMSLOT_E_STALE);
    explain(writer, SHMSLOT_E_STALE, 0, &loan);
    says("this loan has ended: it was committed or discarded; %s", way_out);
    shmslot_writer_close(writer);
    shmslot_writer_close(other);
    shmslot_writer_close(far);
    shmslot_segment_close(segment);
    shmslot_segment_close(elsewhere);
}

CHECK_MAIN()
{
    RUN(check_no_free_slot());
    RUN(check_limits_of_a_writer());
    RUN(check_stale());
}
