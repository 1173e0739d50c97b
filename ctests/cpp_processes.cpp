// Two processes: typed samples both ways, the slots of a segment that another writes, a segment and
// a region over a channel, a death, and a fork.
#include "check.hpp"

using shmslot::Code;
using shmslot::forever;
using shmslot::no_wait;
using shmslot::TypedSegment;

namespace {

constexpr std::uint64_t rounds = 20000;

struct Ping {
    static constexpr const char *shmslot_type_name = "test.Ping";
    std::uint64_t number;
    std::uint64_t square;
};

struct Pong {
    static constexpr const char *shmslot_type_name = "test.Pong";
    std::uint64_t number;
};

struct Names {
    const char *ping;
    const char *pong;
};

} // namespace

static shmslot::Options blocking()
{
    shmslot::Options options;
    options.slot_count = 8;
    options.policy = shmslot::Policy::block;
    return options;
}

// Answers until the end of all writers.
static int answer(int link, void *argument)
{
    const auto &names = *static_cast<const Names *>(argument);
    const auto pings = MUST(TypedSegment<Ping>::attach(names.ping));
    const auto pongs = MUST(TypedSegment<Pong>::attach(names.pong));
    CHECK_IS(TypedSegment<Pong>::attach(names.ping), type_mismatch);
    auto reader = MUST(pings.reader());
    auto writer = MUST(pongs.writer());
    say(link);
    hear(link); // there is a writer now
    CHECK(reader.untyped().end_waits({true, false, false}));
    std::uint64_t expected = 1;
    for (;;) {
        const auto waited = reader.wait(forever);
        if (waited.code() == Code::no_writers) break;
        CHECK_IS(waited, ok);
        auto samples = reader.available();
        for (auto &&ping : samples) {
            CHECK_U64(ping->number, expected);
            CHECK_U64(ping->square, expected * expected);
            CHECK(writer.write({expected++}, forever));
        }
        CHECK(samples.ended_by() == Code::again);
    }
    CHECK_U64(expected, rounds + 1);
    return 0;
}

static void typed_samples_go_both_ways()
{
    const Name ping("cpp-ping");
    const Name pong("cpp-pong");
    const auto pings = MUST(TypedSegment<Ping>::create(ping.text, blocking()));
    const auto pongs = MUST(TypedSegment<Pong>::create(pong.text, blocking()));
    auto reader = MUST(pongs.reader());
    Names names = {ping.text, pong.text};
    const child peer = start_child(answer, &names);
    hear(peer.link);
    auto writer = MUST(pings.writer());
    say(peer.link);

    std::uint64_t answered = 0;
    for (std::uint64_t i = 1; i <= rounds; ++i) {
        auto loan = MUST(writer.reserve(forever, Ping{i, i * i}));
        CHECK_U64(MUST(loan.commit()), i);
        // else both would wait for space
        for (auto &&one : reader) CHECK_U64(one->number, ++answered);
    }
    writer = shmslot::TypedWriter<Ping>();
    while (answered < rounds) {
        CHECK(reader.wait(forever));
        for (auto &&one : reader) CHECK_U64(one->number, ++answered);
    }
    CHECK_CHILD(peer);
}

// Reads the contents of the slots, as a reader does that tracks slots itself.
static int scan(int link, void *argument)
{
    const auto segment = MUST(shmslot::Segment::attach(static_cast<const char *>(argument)));
    const auto count = static_cast<std::uint32_t>(MUST(segment.slot_count()));
    say(link);
    hear(link); // there are samples now
    std::uint64_t sum = 0;
    for (std::uint32_t slot = 0; slot < count; ++slot) {
        const auto found = segment.ref_published(slot);
        if (!found) {
            CHECK_IS(found, again);
            continue;
        }
        const auto header = MUST(segment.ref_read_header(*found));
        CHECK_U64(header.len, header.sequence);
        CHECK_U64(header.audience, header.sequence & 1);
        CHECK_U64(MUST(segment.ref_read_ptr(*found)).size, header.len);
        sum += header.sequence;
        if (header.unread != 0) CHECK(segment.ref_mark_read(*found, 0));
        CHECK_U64(MUST(segment.ref_read_header(*found)).unread, 0);
    }
    CHECK_U64(sum, 1 + 2 + 3);
    return 0;
}

static void slots_are_scanned()
{
    const Name name("cpp-scan");
    shmslot::Options options;
    options.slot_count = 5;
    const auto segment = MUST(shmslot::Segment::create(name.text, options));
    const child peer = start_child(scan, const_cast<char *>(name.text));
    hear(peer.link);
    for (std::uint64_t i = 1; i <= 3; ++i) {
        const auto ref = MUST(segment.ref_reserve(i & 1));
        CHECK_U64(MUST(segment.ref_commit_copy(ref, "abc", i)), i);
    }
    const auto reserved = MUST(segment.ref_reserve(1));
    say(peer.link);
    CHECK_CHILD(peer);
    CHECK(segment.ref_discard(reserved));
    CHECK_IS(segment.ref_next_unread(0), again);
}

// Receives a segment and a reference to a region, and answers with the sum of the bytes.
static int sum_up(int link, void *)
{
    auto channel = MUST(shmslot::Channel::from_fd(link));
    auto attachments = MUST(shmslot::Attachments::create(channel));
    const auto segment = MUST(channel.recv_segment(forever));
    auto references = MUST(segment.reader(1));
    auto sums = MUST(segment.writer());
    CHECK(references.wait(forever));
    shmslot::RegionRef ref;
    {
        const auto sample = MUST(references.read());
        CHECK(sample.size() == sizeof ref);
        memcpy(&ref, sample.data(), sizeof ref);
    }
    const auto mapped = MUST(attachments.resolve_wait(ref, forever));
    std::uint64_t sum = 0;
    for (const std::byte byte : mapped) sum += std::to_integer<std::uint64_t>(byte);
    CHECK(sums.write(&sum, sizeof sum, forever));
    return 0;
}

static void regions_and_segments_cross()
{
    shmslot::Options options;
    options.history = 1;
    const auto segment = MUST(shmslot::Segment::create_anonymous(options));
    auto writer = MUST(segment.writer());
    const child peer = start_child(sum_up, nullptr);
    auto channel = MUST(shmslot::Channel::from_fd(peer.link));
    auto registry = MUST(shmslot::Registry::create());
    CHECK(registry.add(channel, forever));

    auto lease = MUST(registry.alloc(1000, forever));
    for (std::byte &byte : lease) byte = std::byte(3);
    const auto ref = lease.ref();
    CHECK(writer.write(&ref, sizeof ref, forever));
    auto reader = MUST(segment.reader());
    CHECK(channel.send_segment(segment, forever));
    CHECK(reader.wait(forever));
    std::uint64_t sum = 0;
    memcpy(&sum, MUST(reader.read()).data(), sizeof sum);
    CHECK_U64(sum, 3000);
    CHECK_CHILD(peer);
}

// Dies with a loan, a held sample and an unread one.
static int die(int link, void *argument)
{
    const auto segment = MUST(shmslot::Segment::attach(static_cast<const char *>(argument)));
    auto reader = MUST(segment.reader());
    auto writer = MUST(segment.writer());
    const auto loan = MUST(writer.reserve(1, no_wait));
    say(link);
    CHECK(reader.wait(forever));
    const auto sample = MUST(reader.read());
    CHECK(sample && loan);
    say(link);
    for (;;) (void)pause();
}

static void the_dead_give_back()
{
    const Name name("cpp-death");
    shmslot::Options options;
    options.slot_count = 4;
    const auto segment = MUST(shmslot::Segment::create(name.text, options));
    auto writer = MUST(segment.writer());
    auto survivor = MUST(segment.reader());
    CHECK(survivor.end_waits({false, true, false}));
    const child peer = start_child(die, const_cast<char *>(name.text));
    hear(peer.link);
    CHECK(writer.write("a", 1, no_wait));
    hear(peer.link);
    CHECK(writer.write("b", 1, no_wait));
    for (auto &&sample : survivor) CHECK(sample.size() == 1);
    CHECK_U64(free_slots(segment), 1);

    CHECK(kill(peer.pid, SIGKILL) == 0);
    CHECK_U64(static_cast<std::uint64_t>(end_child(peer)), 128 + SIGKILL);
    CHECK_IS(survivor.wait(forever), peer_dead);
    CHECK_U64(free_slots(segment), 4);
    CHECK_U64(MUST(segment.participants()).size(), 1);
}

struct Inherited {
    shmslot::Segment segment{};
    shmslot::Writer writer{};
    shmslot::Reader reader{};
    shmslot::Loan loan{};
    shmslot::Sample sample{};
};

// What a child inherits returns FORKED, and its destruction there takes nothing from the parent.
static int destroy_inherited(int, void *argument)
{
    auto &inherited = *static_cast<Inherited *>(argument);
    CHECK_IS(inherited.writer.reserve(1, no_wait), forked);
    CHECK_IS(inherited.reader.read(), forked);
    CHECK_IS(inherited.loan.commit(1), forked);
    const auto anew = MUST(shmslot::Segment::attach_fd(MUST(inherited.segment.fd())));
    CHECK_U64(free_slots(anew), 2);
    inherited.loan = shmslot::Loan();
    inherited.sample = shmslot::Sample();
    inherited.reader = shmslot::Reader();
    inherited.writer = shmslot::Writer();
    inherited.segment = shmslot::Segment();
    CHECK_U64(free_slots(anew), 2);
    return 0;
}

static void forks_take_nothing()
{
    shmslot::Options options;
    options.slot_count = 4;
    Inherited mine;
    mine.segment = MUST(shmslot::Segment::create_anonymous(options));
    mine.writer = MUST(mine.segment.writer());
    mine.reader = MUST(mine.segment.reader());
    CHECK(mine.writer.write("x", 1, no_wait));
    mine.sample = MUST(mine.reader.read());
    mine.loan = MUST(mine.writer.reserve(1, no_wait));
    CHECK_U64(static_cast<std::uint64_t>(run_child(destroy_inherited, &mine)), 0);
    CHECK(mine.sample.data()[0] == std::byte('x'));
    CHECK(mine.loan.commit(1));
    CHECK(mine.sample.mark());
    CHECK(mine.reader.read());
}

CHECK_MAIN()
{
    RUN(typed_samples_go_both_ways());
    RUN(slots_are_scanned());
    RUN(regions_and_segments_cross());
    RUN(the_dead_give_back());
    RUN(forks_take_nothing());
}
