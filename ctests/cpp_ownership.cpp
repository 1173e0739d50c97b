// Every owner releases what it has, once, in whatever order owners are destroyed; moved-from ones
// are harmless.
#include "check.hpp"

#include <memory>
#include <type_traits>

using shmslot::Code;
using shmslot::forever;
using shmslot::no_wait;

static shmslot::Segment make()
{
    shmslot::Options options;
    options.slot_count = 4;
    options.slot_capacity = 64;
    options.user_header_size = 8;
    return MUST(shmslot::Segment::create_anonymous(options));
}

template <class... T>
constexpr bool move_only =
    ((std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
      std::is_nothrow_default_constructible_v<T> && !std::is_copy_constructible_v<T> &&
      !std::is_copy_assignable_v<T>) &&
     ...);
static_assert(move_only<shmslot::Segment, shmslot::Writer, shmslot::Loan, shmslot::Reader,
                        shmslot::Sample, shmslot::Channel, shmslot::Listener, shmslot::Registry,
                        shmslot::Lease, shmslot::Attachments, shmslot::Mapped>);

static void loans_end()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    const auto reader = MUST(segment.reader()); // so that what is committed stays

    {
        auto loan = MUST(writer.reserve(64, no_wait));
        CHECK_U64(free_slots(segment), 3);
    }
    CHECK_U64(free_slots(segment), 4);

    auto loan = MUST(writer.reserve(64, no_wait));
    auto moved = std::move(loan);
    CHECK(!loan && moved); // NOLINT(bugprone-use-after-move): what is left is empty
    CHECK(loan.data() == nullptr && loan.size() == 0 && loan.user_header() == nullptr);
    CHECK(loan.begin() == loan.end());
    CHECK_IS(loan.commit(1), stale);
    CHECK_IS(loan.discard(), stale);

    // An assignment ends the previous object; a self-assignment does not.
    moved = MUST(writer.reserve(64, no_wait));
    CHECK_U64(free_slots(segment), 3);
    auto &same = moved;
    moved = std::move(same);
    CHECK(moved);
    CHECK_U64(free_slots(segment), 3);

    // A commit that fails leaves the loan as it was.
    CHECK_IS(moved.commit(65), bad_length);
    CHECK(moved && moved.size() == 64);
    CHECK_U64(MUST(moved.commit(5)), 1);
    CHECK(!moved && moved.data() == nullptr);
    CHECK_IS(moved.commit(5), stale);
    CHECK_U64(free_slots(segment), 3); // the reader is owed one

    auto discarded = MUST(writer.reserve(1, no_wait));
    CHECK(discarded.discard());
    CHECK_IS(discarded.discard(), stale);
    CHECK_U64(free_slots(segment), 3);
}

// The writer is destroyed first: its loans are discarded, and the remaining loan objects stay
// empty, even when other writers have opened since.
static void loans_end_with_their_writer()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto loan = MUST(writer.reserve(64, no_wait));
    auto writer_that_moved = std::move(writer);
    CHECK(loan.data() != nullptr); // loans know the writer, not where the object is
    writer_that_moved = shmslot::Writer();
    CHECK_U64(free_slots(segment), 4);

    auto later = MUST(segment.writer());
    auto other = MUST(later.reserve(64, no_wait));
    CHECK(!loan && loan.data() == nullptr && loan.size() == 0 && loan.detach() == nullptr);
    CHECK_IS(loan.commit(1), stale);
    loan = shmslot::Loan();
    CHECK_U64(free_slots(segment), 3); // not the other's
    CHECK(other);

    // Members of a struct are destroyed in the reverse order of their declaration.
    struct Wrong {
        std::vector<shmslot::Loan> loans{};
        shmslot::Writer writer{};
        shmslot::Segment segment{};
    };
    Wrong wrong;
    wrong.segment = make();
    wrong.writer = MUST(wrong.segment.writer());
    wrong.loans.push_back(MUST(wrong.writer.reserve(1, no_wait)));
    wrong.loans.push_back(MUST(wrong.writer.reserve(1, no_wait)));
}

// One thread closes a writer while another opens one, and no loan takes one writer for another.
static void *open_and_close(void *)
{
    const auto segment = make();
    for (int round = 0; round < 2000; ++round) {
        auto one = MUST(segment.writer());
        auto two = MUST(segment.writer());
        CHECK(one.get() != nullptr && two.get() != nullptr && one.get() != two.get());
        shmslot::Loan left_over;
        if (auto loan = two.reserve(1, no_wait)) left_over = *std::move(loan);
        two = shmslot::Writer();
        CHECK(!left_over);
    }
    CHECK_U64(free_slots(segment), 4);
    return nullptr;
}

static void places_are_used_again()
{
    pthread_t threads[4];
    for (auto &thread : threads) thread = start_thread(open_and_close, nullptr);
    for (auto &thread : threads) end_thread(thread);
}

static void samples_end()
{
    auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = std::make_unique<shmslot::Reader>(MUST(segment.reader()));
    for (int i = 0; i < 3; ++i) CHECK(writer.write("abc", 3, no_wait));

    {
        auto sample = MUST(reader->read());
        CHECK_U64(sample.sequence(), 1);
        CHECK(sample.size() == 3 && memcmp(sample.data(), "abc", 3) == 0);
        CHECK_U64(free_slots(segment), 1);
    }
    CHECK_U64(free_slots(segment), 2);

    auto sample = MUST(reader->read());
    auto moved = std::move(sample);
    // NOLINTNEXTLINE(bugprone-use-after-move)
    CHECK(!sample && sample.data() == nullptr && sample.size() == 0);
    CHECK(sample.begin() == sample.end() && sample.user_header() == nullptr);
    CHECK_IS(sample.mark(), stale);

    // The reader leaves, the segment is closed; the held sample stays, and its mark frees the slot.
    auto other = MUST(segment.fd());
    const auto watching = MUST(shmslot::Segment::attach_fd(other));
    reader.reset();
    segment = shmslot::Segment();
    writer = shmslot::Writer();
    CHECK(moved && memcmp(moved.data(), "abc", 3) == 0);
    CHECK_U64(free_slots(watching), 3); // the one that was not read came back
    moved = shmslot::Sample();
    CHECK_U64(free_slots(watching), 4);
}

static void samples_may_be_marked_by_another_thread()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    CHECK(writer.write("x", 1, no_wait));
    auto sample = MUST(reader.read());
    auto mark = [](void *argument) -> void * {
        CHECK(static_cast<shmslot::Sample *>(argument)->mark());
        return nullptr;
    };
    reader = shmslot::Reader();
    end_thread(start_thread(mark, &sample));
    CHECK_U64(free_slots(segment), 4);
}

static void payload_pointers_are_enough()
{
    const auto segment = make();
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());

    std::byte *payload = MUST(writer.reserve(8, no_wait)).detach();
    memcpy(payload, "12345678", 8);
    auto loan = MUST(writer.loan_from_ptr(payload));
    CHECK(loan.data() == payload && loan.size() == 8);
    CHECK(loan.detach() == payload && !loan);
    CHECK_U64(MUST(writer.commit_ptr(payload, 4)), 1);
    CHECK_IS(writer.commit_ptr(payload, 4), stale);

    payload = MUST(writer.reserve(8, no_wait)).detach();
    CHECK(writer.discard_ptr(payload));
    CHECK_IS(writer.discard_ptr(payload), stale);
    CHECK_IS(writer.loan_from_ptr(payload), stale);

    const std::byte *read = MUST(reader.read()).detach();
    auto sample = MUST(reader.sample_from_ptr(read));
    CHECK(sample.size() == 4 && memcmp(sample.data(), "1234", 4) == 0);
    CHECK(sample.detach() == read && !sample);
    CHECK_U64(free_slots(segment), 3);
    CHECK(reader.mark_ptr(read));
    CHECK_IS(reader.mark_ptr(read), stale);
    CHECK_IS(reader.sample_from_ptr(read), stale);
    CHECK_U64(free_slots(segment), 4);
}

static void regions_end()
{
    auto [near, far] = MUST(shmslot::Channel::pair());
    auto registry = MUST(shmslot::Registry::create());
    CHECK(registry.add(near, forever));
    auto attachments = MUST(shmslot::Attachments::create(far));

    int removed = -1;
    auto lease = MUST(registry.alloc(100, forever, &removed));
    CHECK_U64(static_cast<std::uint64_t>(removed), 0);
    CHECK(lease.size() == 100);
    memset(lease.data(), 'r', lease.size());
    auto again = MUST(lease.retain());
    CHECK(again.data() == lease.data());
    CHECK_U64(MUST(registry.info()).leases, 1);

    auto mapped = MUST(attachments.resolve_wait(lease.ref(), forever));
    CHECK(mapped.size() == 100 && mapped.data() != lease.data());
    for (const std::byte byte : mapped) CHECK(byte == std::byte('r'));
    const auto later = MUST(attachments.resolve(lease.ref()));

    // The objects that made them are destroyed first.
    const auto ref = lease.ref();
    CHECK(lease.release());
    CHECK_IS(lease.release(), stale);
    CHECK(lease.data() == nullptr && lease.size() == 0);
    CHECK_U64(MUST(registry.info()).leases, 1); // the other owner
    registry = shmslot::Registry();
    attachments = shmslot::Attachments();
    near = shmslot::Channel();
    far = shmslot::Channel();
    CHECK(again.ref().map_id == ref.map_id && again.data()[99] == std::byte('r'));
    CHECK(later.data()[99] == std::byte('r'));
    CHECK(mapped.release());
    CHECK_IS(mapped.release(), stale);
    CHECK(mapped.data() == nullptr && mapped.size() == 0);

    // An empty channel is not the absence of a channel.
    CHECK_IS(shmslot::Attachments::create(far), invalid);
}

// An empty object returns a code from every call.
static void empty_objects_answer()
{
    shmslot::Segment segment;
    shmslot::Writer writer;
    shmslot::Reader reader;
    shmslot::Channel channel;
    shmslot::Listener listener;
    shmslot::Registry registry;
    shmslot::Attachments attachments;
    CHECK(!segment && !writer && !reader && !channel && !listener && !registry && !attachments);
    CHECK_IS(segment.writer(), invalid);
    CHECK_IS(segment.reader(), invalid);
    CHECK_IS(segment.info(), invalid);
    CHECK_IS(segment.participants(), invalid);
    CHECK_IS(segment.counters(), invalid);
    CHECK_IS(segment.readers(), invalid);
    CHECK_IS(segment.writers(), invalid);
    CHECK_IS(segment.deaths(), invalid);
    CHECK_IS(segment.path(), invalid);
    CHECK_IS(segment.fd(), invalid);
    CHECK_IS(segment.recover(), invalid);
    CHECK_IS(writer.reserve(1, no_wait), invalid);
    CHECK_IS(writer.write("", 0, no_wait), invalid);
    CHECK_IS(writer.interrupt(), invalid);
    CHECK_IS(reader.read(), invalid);
    CHECK_IS(reader.wait(no_wait), invalid);
    CHECK_IS(reader.index(), invalid);
    CHECK_IS(shmslot::wait_any({reader.get()}, no_wait), invalid);
    CHECK_IS(channel.send_segment(segment, no_wait), invalid);
    CHECK_IS(channel.recv_segment(no_wait), invalid);
    CHECK_IS(listener.accept(no_wait), invalid);
    CHECK_IS(registry.alloc(1, no_wait), invalid);
    CHECK_IS(registry.add(channel, no_wait), invalid);
    CHECK_IS(shmslot::Lease().retain(), invalid);
    CHECK_IS(attachments.resolve({}), invalid);
    CHECK_IS(attachments.drain(), invalid);
    for (auto &&sample : reader) CHECK(!sample);
}

CHECK_MAIN()
{
    RUN(loans_end());
    RUN(loans_end_with_their_writer());
    RUN(places_are_used_again());
    RUN(samples_end());
    RUN(samples_may_be_marked_by_another_thread());
    RUN(payload_pointers_are_enough());
    RUN(regions_end());
    RUN(empty_objects_answer());
}
