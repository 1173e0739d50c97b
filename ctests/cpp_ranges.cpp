// Loops over the available samples, and bytes as ranges; std::span and std::ranges where the
// standard has them.
#include "check.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#if __cplusplus >= 202002L
#include <ranges>
#include <span>
#endif

using shmslot::no_wait;
using shmslot::Sample;

static shmslot::Segment make()
{
    shmslot::Options options;
    options.slot_count = 8;
    options.slot_capacity = 64;
    return MUST(shmslot::Segment::create_local(options));
}

static void loops_mark_as_they_go()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());

    for (auto &&sample : reader) CHECK(!sample); // none yet, and it does not wait
    for (int i = 0; i < 5; ++i) CHECK(writer.write(&i, sizeof i, no_wait));

    int seen = 0;
    for (auto &&sample : reader) {
        static_assert(std::is_same_v<decltype(sample), Sample &&>);
        int value = -1;
        CHECK(sample.size() == sizeof value);
        memcpy(&value, sample.data(), sizeof value);
        CHECK(value == seen++);
        // The previous one was marked at the end of its round; this one is held, and the rest are
        // owed.
        CHECK_U64(free_slots(segment), static_cast<std::uint64_t>(3 + value));
    }
    CHECK(seen == 5);
    CHECK_U64(free_slots(segment), 8);
}

static void loops_can_be_left_and_samples_kept()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    for (int i = 0; i < 4; ++i) CHECK(writer.write(&i, sizeof i, no_wait));

    std::vector<Sample> kept;
    for (Sample sample : reader) { // by value, too
        const bool enough = kept.size() == 1;
        kept.push_back(std::move(sample));
        if (enough) break;
    }
    CHECK(kept.size() == 2 && kept[1].sequence() == 2);
    CHECK_U64(free_slots(segment), 4);
    kept.clear();
    CHECK_U64(free_slots(segment), 6);
    CHECK_U64(MUST(reader.read()).sequence(), 3); // breaking takes nothing beyond
}

static void loops_tell_why_they_ended()
{
    shmslot::Options options;
    options.policy = shmslot::Policy::drop_oldest;
    const auto segment = MUST(shmslot::Segment::create_local(options));
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    CHECK(writer.write("x", 1, no_wait));

    auto samples = reader.available();
    CHECK(samples.ended_by() == shmslot::Code::ok);
    int seen = 0;
    for (auto &&sample : samples) seen += static_cast<int>(sample.size());
    CHECK(seen == 1 && samples.ended_by() == shmslot::Code::again);

    CHECK(writer.write("y", 1, no_wait));
    // and a read that comes to it waits for its mark
    const auto peeked = MUST(reader.peek_latest());
    auto blocked = reader.available();
    for (auto &&sample : blocked) CHECK(!sample);
    CHECK(blocked.ended_by() == shmslot::Code::held);
}

static void ranges_are_written()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    using namespace std::string_view_literals;
    CHECK(writer.write("text"sv, no_wait));
    CHECK(writer.write(std::string("text"), no_wait));
    CHECK(writer.write(std::array<std::uint32_t, 1>{0x74786574}, no_wait)); // "text", little-endian
    CHECK(writer.write(std::vector<char>{'t', 'e', 'x', 't'}, no_wait));
    int seen = 0;
    for (auto &&sample : reader) {
        CHECK(sample.size() == 4 && memcmp(sample.data(), "text", 4) == 0);
        ++seen;
    }
    CHECK(seen == 4);
    CHECK(writer.write(std::vector<int>(), no_wait));
    CHECK_U64(MUST(reader.read()).size(), 0);
}

static void bytes_are_ranges()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    auto loan = MUST(writer.reserve(10, no_wait));
    std::fill(loan.begin(), loan.end(), std::byte(1));
    CHECK(loan.commit());
    const auto sample = MUST(reader.read());
    CHECK(std::count(sample.begin(), sample.end(), std::byte(1)) == 10);
}

struct Number {
    static constexpr const char *shmslot_type_name = "test.Number";
    int value;
};

static void typed_loops()
{
    const auto segment = MUST(shmslot::TypedSegment<Number>::create_local());
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    for (int i = 1; i <= 4; ++i) CHECK(writer.write({i}, no_wait));
    int sum = 0;
    for (auto &&number : reader) sum += number->value;
    CHECK(sum == 10);
    auto numbers = reader.available();
    for (auto &&number : numbers) CHECK(!number);
    CHECK(numbers.ended_by() == shmslot::Code::again);
}

#if __cplusplus >= 202002L

static_assert(std::input_iterator<shmslot::Available<shmslot::Reader, Sample>::Iterator>);
static_assert(std::ranges::input_range<shmslot::Reader>);
static_assert(std::ranges::input_range<shmslot::TypedReader<Number>>);
static_assert(std::ranges::contiguous_range<Sample> && std::ranges::sized_range<Sample>);
static_assert(std::ranges::contiguous_range<shmslot::Loan> &&
              std::ranges::sized_range<shmslot::Loan>);
static_assert(std::ranges::contiguous_range<shmslot::Lease> &&
              std::ranges::contiguous_range<shmslot::Mapped>);
static_assert(!std::convertible_to<Sample &, std::span<std::byte>>, "samples are not written");

static std::size_t length_of(std::span<const std::byte> bytes)
{
    return bytes.size();
}

static void spans()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    auto loan = MUST(writer.reserve(10, no_wait));
    const std::span<std::byte> room = loan;
    CHECK(room.size() == 10 && room.data() == loan.data());
    std::ranges::fill(room, std::byte(2));
    CHECK(loan.commit(4));
    CHECK(writer.write(std::span<const std::byte>(), no_wait));
    const auto sample = MUST(reader.read());
    CHECK(length_of(sample) == 4);
    CHECK(std::ranges::all_of(sample, [](std::byte byte) { return byte == std::byte(2); }));
    CHECK(length_of(MUST(reader.read())) == 0);

#if !defined(__clang__) || __clang_major__ >= 16 // older ones do not understand the library's views
    for (int i = 0; i < 3; ++i) CHECK(writer.write(&i, sizeof i, no_wait));
    auto sizes = reader.available() | std::views::transform([](Sample one) { return one.size(); });
    std::size_t total = 0;
    for (const std::size_t size : sizes) total += size;
    CHECK(total == 3 * sizeof(int));
    CHECK_U64(free_slots(segment), 8 - 1); // all but the one that is still in hand
#endif
}

#endif

CHECK_MAIN()
{
    RUN(loops_mark_as_they_go());
    RUN(loops_can_be_left_and_samples_kept());
    RUN(loops_tell_why_they_ended());
    RUN(ranges_are_written());
    RUN(bytes_are_ranges());
    RUN(typed_loops());
#if __cplusplus >= 202002L
    RUN(spans());
#endif
}
