// Batches: many loans and many samples at once, in the order of single calls and mixed with them;
// who ends them, and what is left after a part.
#include "check.hpp"

#include <type_traits>

using shmslot::Code;
using shmslot::forever;
using shmslot::Loans;
using shmslot::no_wait;
using shmslot::Samples;

static shmslot::Segment make()
{
    shmslot::Options options;
    options.slot_count = 8;
    options.slot_capacity = 64;
    options.user_header_size = 8;
    return MUST(shmslot::Segment::create_anonymous(options));
}

// Samples with the numbers from `first` on, one by one.
static void write_numbers(shmslot::Writer &writer, int first, int count)
{
    for (int number = first; number < first + count; ++number)
        CHECK(writer.write(&number, sizeof number, no_wait));
}

static int number_in(const shmslot::SampleView &sample)
{
    int number = -1;
    CHECK(sample.size() == sizeof number);
    memcpy(&number, sample.data(), sizeof number);
    return number;
}

template <class T>
constexpr bool move_only =
    std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
    std::is_nothrow_default_constructible_v<T> && !std::is_copy_constructible_v<T> &&
    !std::is_copy_assignable_v<T> && std::is_nothrow_constructible_v<T, std::size_t> &&
    !std::is_convertible_v<std::size_t, T>;
static_assert(move_only<Loans> && move_only<Samples>);
// A copy of a view could be resized in vain.
static_assert(!std::is_copy_constructible_v<shmslot::LoanView> &&
              !std::is_copy_constructible_v<shmslot::SampleView>);

static void a_stream_uses_its_memory_again()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    Loans loans(3);
    Samples samples(2);
    CHECK(loans.capacity() == 3 && loans.empty() && samples.capacity() == 2 && samples.empty());
    shmslot::LoanView *room = nullptr;
    int next = 0;
    int expected = 0;
    std::uint64_t sequence = 0;
    for (int round = 0; round < 100; ++round) {
        CHECK_U64(MUST(writer.reserve_many(loans, 64, no_wait)), 3);
        CHECK(loans.size() == 3 && (room == nullptr || room == loans.begin()));
        room = loans.begin();
        for (auto &loan : loans) {
            CHECK(loan.size() == 64);
            memcpy(loan.data(), &next, sizeof next);
            memcpy(loan.user_header(), &next, sizeof next);
            loan.resize(sizeof next);
            ++next;
        }
        std::uint64_t sequences[3] = {};
        CHECK_U64(MUST(loans.commit(sequences)), 3);
        CHECK(loans.empty() && loans.begin() == loans.end());
        for (const std::uint64_t one : sequences) CHECK_U64(one, ++sequence);

        std::size_t most = 2;
        while (const auto count = reader.read_many(samples)) {
            CHECK_U64(*count, most);
            CHECK(samples.size() == *count);
            for (const auto &sample : samples) {
                CHECK(number_in(sample) == expected);
                CHECK(memcmp(sample.user_header(), &expected, sizeof expected) == 0);
                CHECK_U64(sample.sequence(), static_cast<std::uint64_t>(++expected));
                CHECK(sample.end() - sample.begin() == sizeof expected && sample.slot() < 8);
                CHECK(sample.writer_id() == samples[0].writer_id() && sample.timestamp_ns() == 0);
            }
            most = 1;
        }
        // What was in hand was marked by the read that found nothing.
        CHECK(samples.empty() && samples.begin() == samples.end());
    }
    CHECK(expected == 300);
    CHECK_U64(free_slots(segment), 8);
}

static void single_calls_come_in_between()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    Loans loans(2);
    CHECK_U64(MUST(writer.reserve_many(loans, sizeof(int), forever)), 2);
    for (int number = 1; number <= 2; ++number)
        memcpy(loans[static_cast<std::size_t>(number - 1)].data(), &number, sizeof number);
    write_numbers(writer, 0, 1);
    CHECK_U64(MUST(loans.commit()), 2);
    write_numbers(writer, 3, 2);

    Samples samples(8);
    CHECK_U64(MUST(reader.read()).sequence(), 1);
    CHECK_U64(MUST(reader.read_many(samples, 2)), 2);
    const auto held = MUST(reader.read());
    CHECK_U64(held.sequence(), 4);
    Samples later(8);
    CHECK_U64(MUST(reader.read_many(later)), 1);
    CHECK(number_in(samples[0]) == 1 && number_in(samples[1]) == 2 && number_in(later[0]) == 4);
    CHECK_U64(free_slots(segment), 4);
    CHECK_U64(MUST(samples.mark()), 2);
    CHECK_U64(free_slots(segment), 6);
    CHECK_IS(reader.read_many(samples), again);
    CHECK_U64(MUST(later.mark()), 1);
    CHECK_U64(MUST(later.mark()), 0); // there are none, as in C
    CHECK_U64(free_slots(segment), 7);
}

static void loans_end()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    {
        Loans loans(5);
        CHECK_U64(MUST(writer.reserve_many(loans, 1, no_wait)), 5);
        CHECK_U64(free_slots(segment), 3);
    }
    CHECK_U64(free_slots(segment), 8);

    Loans loans(5);
    CHECK(writer.reserve_many(loans, 1, no_wait));
    Loans moved = std::move(loans);
    // NOLINTNEXTLINE(bugprone-use-after-move): what is left is empty
    CHECK(loans.empty() && loans.capacity() == 0 && loans.begin() == loans.end());
    CHECK_IS(writer.reserve_many(loans, 1, no_wait), invalid);
    CHECK_U64(MUST(loans.commit()), 0);
    CHECK_IS(loans.commit_first(1), invalid);
    CHECK(moved.size() == 5 && moved.capacity() == 5);

    // An assignment ends the previous ones; a self-assignment does not.
    auto &same = moved;
    moved = std::move(same);
    CHECK(moved.size() == 5);
    CHECK_U64(free_slots(segment), 3);
    moved = Loans(2);
    CHECK(moved.capacity() == 2 && moved.empty());
    CHECK_U64(free_slots(segment), 8);

    // So do a reserve, also one that fails, and a discard.
    CHECK_U64(MUST(writer.reserve_many(moved, 1, no_wait)), 2);
    CHECK_U64(MUST(writer.reserve_many(moved, 1, no_wait, 1)), 1);
    CHECK_U64(free_slots(segment), 7);
    CHECK_IS(writer.reserve_many(moved, 65, no_wait), too_large);
    CHECK(moved.empty());
    CHECK_U64(free_slots(segment), 8);
    CHECK_U64(MUST(writer.reserve_many(moved, 1, no_wait)), 2);
    CHECK(moved.discard());
    CHECK(moved.empty() && moved.discard());
    CHECK_U64(free_slots(segment), 8);
}

static void a_short_commit_leaves_the_rest()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    Loans whole(5);
    CHECK(writer.reserve_many(whole, 64, no_wait));
    for (int number = 0; number < 5; ++number) {
        auto &loan = whole[static_cast<std::size_t>(number)];
        memcpy(loan.data(), &number, sizeof number);
        loan.resize(sizeof number);
    }
    CHECK_IS(whole.commit_first(6), invalid);
    CHECK_U64(MUST(whole.commit_first(0)), 0);
    CHECK_U64(MUST(whole.commit_first(1)), 1);
    CHECK(whole.size() == 4);
    Loans loans = std::move(whole);
    CHECK(loans.size() == 4);

    // The third cannot be committed until it is put right.
    loans[1].resize(65);
    std::uint64_t sequences[4] = {};
    CHECK_U64(MUST(loans.commit(sequences)), 1);
    CHECK(sequences[0] == 2 && sequences[1] == 0);
    CHECK(loans.size() == 3 && loans[0].size() == 65);
    CHECK_IS(loans.commit(sequences), bad_length);
    CHECK(loans.size() == 3);
    loans[0].resize(sizeof(int));
    CHECK_U64(MUST(loans.commit_first(2, sequences)), 2);
    CHECK(sequences[0] == 3 && sequences[1] == 4);
    CHECK_U64(free_slots(segment), 3); // four are unread, one is on loan
    CHECK(loans.discard());
    CHECK_U64(free_slots(segment), 4);

    Samples samples(8);
    CHECK_U64(MUST(reader.read_many(samples)), 4);
    int expected = 0;
    for (const auto &sample : samples) CHECK(number_in(sample) == expected++);

    // The memory is used from its beginning again.
    CHECK_U64(MUST(writer.reserve_many(loans, 1, no_wait)), 4);
    CHECK_U64(MUST(loans.commit()), 4);
}

// The writer is destroyed first: its loans are discarded, and the batch stays empty, even when
// other writers have opened since.
static void loans_end_with_their_writer()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    Loans loans(3);
    Loans part(3);
    CHECK(writer.reserve_many(loans, 1, no_wait) && writer.reserve_many(part, 1, no_wait));
    CHECK_U64(MUST(part.commit_first(1)), 1);
    auto writer_that_moved = std::move(writer);
    CHECK(loans.size() == 3); // loans know the writer, not where the object is
    writer_that_moved = shmslot::Writer();
    CHECK_U64(free_slots(segment), 8);
    auto later = MUST(segment.writer());
    Loans other(3);
    CHECK(later.reserve_many(other, 1, no_wait));
    CHECK(loans.empty() && loans.begin() == loans.end() && part.empty());
    CHECK_IS(loans.commit(), stale);
    CHECK_IS(part.commit_first(1), stale);
    CHECK_IS(loans.discard(), stale);
    CHECK(loans.discard()); // there are none any more
    part = Loans();
    CHECK_U64(free_slots(segment), 5); // not the other's
    CHECK(other.size() == 3);

    // The memory serves any writer.
    CHECK_U64(MUST(later.reserve_many(loans, 1, no_wait)), 3);
    CHECK_U64(MUST(loans.commit()), 3);
    later = shmslot::Writer();
}

static void samples_end()
{
    auto segment = make();
    const auto watching = MUST(shmslot::Segment::attach_fd(MUST(segment.fd())));
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    write_numbers(writer, 0, 8);
    {
        Samples samples(2);
        CHECK_U64(MUST(reader.read_many(samples)), 2);
        CHECK_U64(free_slots(watching), 0);
    }
    CHECK_U64(free_slots(watching), 2);

    Samples samples(2);
    CHECK(reader.read_many(samples));
    Samples moved = std::move(samples);
    // NOLINTNEXTLINE(bugprone-use-after-move): what is left is empty
    CHECK(samples.empty() && samples.capacity() == 0 && samples.begin() == samples.end());
    CHECK_IS(reader.read_many(samples), invalid);
    CHECK_U64(MUST(samples.mark()), 0);
    auto &same = moved;
    moved = std::move(same);
    CHECK(moved.size() == 2 && number_in(moved[1]) == 3);
    CHECK_U64(free_slots(watching), 2);

    // The reader leaves, the segment is closed; the held samples stay, and their end frees the
    // slots.
    Samples more(8);
    CHECK_U64(MUST(reader.read_many(more, 3)), 3);
    reader = shmslot::Reader();
    segment = shmslot::Segment();
    writer = shmslot::Writer();
    CHECK_U64(free_slots(watching), 3); // the one that was not read came back
    CHECK(number_in(moved[0]) == 2 && number_in(more[2]) == 6);
    moved = Samples();
    CHECK_U64(free_slots(watching), 5);
    auto mark = [](void *argument) -> void * {
        CHECK_U64(MUST(static_cast<Samples *>(argument)->mark()), 3);
        return nullptr;
    };
    end_thread(start_thread(mark, &more));
    CHECK(more.empty());
    CHECK_U64(free_slots(watching), 8);
}

// One that is marked in another way does not keep the others.
static void samples_after_a_missing_one_are_marked()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    write_numbers(writer, 0, 5);
    Samples samples(5);
    CHECK(reader.read_many(samples));
    CHECK(reader.mark_ptr(samples[2].data()));
    CHECK_U64(MUST(samples.mark()), 4);
    CHECK_U64(free_slots(segment), 8);

    write_numbers(writer, 0, 1);
    CHECK(reader.read_many(samples));
    CHECK(reader.mark_ptr(samples[0].data()));
    CHECK_IS(samples.mark(), stale);
    CHECK(samples.empty());
    CHECK_U64(MUST(samples.mark()), 0);
}

// An error is told only if there is not even one; the next call tells it.
static void short_counts()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    Loans loans(100);
    Loans none(100);
    CHECK_U64(MUST(writer.reserve_many(loans, 1, forever)), 8);
    CHECK_IS(writer.reserve_many(none, 1, no_wait), no_free_slot);
    CHECK_U64(MUST(writer.reserve_many(none, 1, no_wait, 0)), 0);
    CHECK_U64(MUST(loans.commit()), 8);

    Samples samples(100);
    CHECK_U64(MUST(reader.read_many(samples, 0)), 0);
    CHECK_U64(MUST(reader.read_many(samples)), 8);
    Samples empty(100);
    CHECK_IS(reader.read_many(empty), again);
    CHECK_U64(MUST(samples.mark()), 8);

    shmslot::Options options;
    options.max_held = 3;
    const auto limited = MUST(shmslot::Segment::create_local(options));
    auto fast = MUST(limited.writer());
    auto slow = MUST(limited.reader());
    write_numbers(fast, 0, 5);
    CHECK_U64(MUST(slow.read_many(samples)), 3);
    CHECK_IS(slow.read_many(empty), held_limit);
    CHECK_U64(MUST(slow.read_many(samples)), 2); // it marks before it reads
    CHECK(number_in(samples[0]) == 3);
}

// More than there are bytes in the address space, and more than a number of bytes can be. Tools end
// a program that asks for the former.
static const std::size_t too_many[] = {
#ifndef UNDER_A_TOOL
    std::size_t(1) << 44,
#endif
    ~std::size_t(0)};

static void what_has_no_room_or_no_handle_answers()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    write_numbers(writer, 0, 1);
    Loans no_loans;
    Loans zero_loans(0);
    Samples no_samples;
    Samples zero_samples(0);
    CHECK_IS(writer.reserve_many(no_loans, 1, no_wait), invalid);
    CHECK_IS(writer.reserve_many(zero_loans, 1, no_wait), invalid);
    CHECK_IS(reader.read_many(no_samples), invalid);
    CHECK_IS(reader.read_many(zero_samples), invalid);

    for (const std::size_t many : too_many) {
        Loans loans(many);
        Samples samples(many);
        CHECK(loans.capacity() == 0 && samples.capacity() == 0);
        CHECK_IS(writer.reserve_many(loans, 1, no_wait), no_memory);
        CHECK_IS(reader.read_many(samples), no_memory);
        CHECK(loans.empty() && samples.empty());
    }
    CHECK(reader.read()); // nothing was taken meanwhile

    Loans loans(1);
    Samples samples(1);
    CHECK_IS(shmslot::Writer().reserve_many(loans, 1, no_wait), invalid);
    CHECK_IS(shmslot::Reader().read_many(samples), invalid);
}

// A view is a range of bytes like any other, and what one reader reads another writer may write.
static void views_are_ranges()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    Loans loans(2);
    CHECK(writer.reserve_many(loans, 10, no_wait));
    for (auto &loan : loans)
        for (std::byte &byte : loan) byte = std::byte(7);
    CHECK(loans.commit());
    Samples samples(2);
    CHECK_U64(MUST(reader.read_many(samples)), 2);
    const auto copies = make();
    auto copier = MUST(copies.writer());
    auto copied = MUST(copies.reader());
    for (const auto &sample : samples) CHECK(copier.write(sample, no_wait));
    for (auto &&sample : copied) {
        CHECK(sample.size() == 10);
        for (const std::byte byte : sample) CHECK(byte == std::byte(7));
    }
}

CHECK_MAIN()
{
    RUN(a_stream_uses_its_memory_again());
    RUN(single_calls_come_in_between());
    RUN(loans_end());
    RUN(a_short_commit_leaves_the_rest());
    RUN(loans_end_with_their_writer());
    RUN(samples_end());
    RUN(samples_after_a_missing_one_are_marked());
    RUN(short_counts());
    RUN(what_has_no_room_or_no_handle_answers());
    RUN(views_are_ranges());
}
