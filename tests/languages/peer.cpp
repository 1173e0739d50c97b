// The C++ peer of tests/languages.rs, which has the jobs and ways: peer JOB WAY COUNT NAME.
#include <shmslot.hpp>

#include <cstdio>
#include <sstream>
#include <string>
#include <unistd.h>

using namespace std::chrono_literals;
using shmslot::no_wait;
using shmslot::or_throw;

#define CHECK(holds)                                                          \
    do {                                                                      \
        if (!(holds)) {                                                       \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #holds); \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

namespace {

// Longer than anything takes, so that a hanging program ends.
constexpr auto patient = 100s;

constexpr std::uint64_t capacity = 64;
constexpr std::uint64_t largest = std::uint64_t(3) << 20;

void say(const std::string &line)
{
    printf("> %s\n", line.c_str());
    fflush(stdout);
}

std::string hear()
{
    char line[100];
    CHECK(fgets(line, sizeof line, stdin) != nullptr);
    line[strcspn(line, "\n")] = '\0';
    return line;
}

// ---- payloads ----

std::uint64_t large_len(std::uint64_t i)
{
    const std::uint64_t step = i * 7 % 20;
    return 100 + (largest - 100) * step * step / 19 / 19;
}

std::uint64_t sample_len(std::uint64_t i)
{
    return i % 100 == 0 ? large_len(i / 100) : i * 16 % 80;
}

std::byte byte_of(std::uint64_t i, std::uint64_t at)
{
    return static_cast<std::byte>(i * 31 + at + (at >> 12));
}

template <class Bytes>
void fill(Bytes &bytes, std::uint64_t i)
{
    std::uint64_t at = 0;
    for (std::byte &byte : bytes) byte = byte_of(i, at++);
}

template <class Bytes>
void check_bytes(const Bytes &bytes, std::uint64_t i)
{
    std::uint64_t at = 0;
    for (const std::byte byte : bytes) CHECK(byte == byte_of(i, at++));
}

// ---- segments ----

shmslot::Options options_of_samples()
{
    shmslot::Options options;
    options.slot_count = 7;
    options.slot_capacity = capacity;
    options.user_header_size = 8;
    options.policy = shmslot::Policy::block;
    options.max_payload = largest;
    options.region_count = 3;
    return options;
}

shmslot::Channel inherited()
{
    return or_throw(shmslot::Channel::from_fd(STDIN_FILENO));
}

// Makes a segment, or attaches to that of the other side.
shmslot::Segment segment_by(const std::string &way, const char *name)
{
    auto segment = or_throw(way == "create"   ? shmslot::Segment::create(name, options_of_samples())
                            : way == "attach" ? shmslot::Segment::attach(name)
                            : way == "send"   ? shmslot::Segment::create_anonymous(options_of_samples())
                                              : inherited().recv_segment(patient));
    const auto info = or_throw(segment.info());
    CHECK(info.slot_capacity == capacity && info.max_payload == largest);
    return segment;
}

void read_all(const std::string &way, std::uint64_t count, const char *name)
{
    const auto segment = segment_by(way, name);
    auto reader = or_throw(segment.reader());
    or_throw(reader.end_waits({false, true}));
    if (way == "send") or_throw(inherited().send_segment(segment, patient));
    say("ready");
    for (std::uint64_t i = 0; i < count;) {
        or_throw(reader.wait(patient));
        for (auto &&sample : reader) {
            CHECK(sample.sequence() == ++i);
            CHECK(sample.size() == sample_len(i));
            check_bytes(sample, i);
            std::uint64_t number = 0;
            memcpy(&number, sample.user_header(), sizeof number);
            CHECK(number == i);
        }
    }
}

void write_all(const std::string &way, std::uint64_t count, const char *name)
{
    const auto segment = segment_by(way, name);
    auto writer = or_throw(segment.writer());
    if (way != "receive") { // otherwise the reader has joined before it sent the segment
        say("ready");
        CHECK(hear() == "go");
    }
    for (std::uint64_t i = 1; i <= count; ++i) {
        auto loan = or_throw(writer.reserve(sample_len(i), patient));
        fill(loan, i);
        memcpy(loan.user_header(), &i, sizeof i);
        CHECK(or_throw(loan.commit()) == i);
    }
}

// ---- regions ----

void lease_all(std::uint64_t count, const char *name)
{
    auto registry = or_throw(shmslot::Registry::create());
    {
        auto listener = or_throw(shmslot::Listener::listen(name));
        say("listening");
        auto channel = or_throw(listener.accept(patient));
        or_throw(registry.add(channel, patient));
    }
    // One lease is written while the other side reads the previous one.
    shmslot::Lease before;
    for (std::uint64_t i = 1; i <= count; ++i) {
        auto lease = or_throw(registry.alloc(large_len(i), patient));
        fill(lease, i);
        const auto ref = lease.ref();
        say(std::to_string(ref.map_id) + " " + std::to_string(ref.generation) + " " + std::to_string(ref.offset) + " " +
            std::to_string(ref.len));
        if (before) CHECK(hear() == "done");
        before = std::move(lease);
    }
    CHECK(hear() == "done");
    before = shmslot::Lease();
    CHECK(or_throw(registry.info()).leases == 0);
}

void map_all(std::uint64_t count, const char *name)
{
    auto channel = or_throw(shmslot::Channel::connect(name, patient));
    auto attachments = or_throw(shmslot::Attachments::create(channel));
    for (std::uint64_t i = 1; i <= count; ++i) {
        shmslot::RegionRef ref;
        std::istringstream words(hear());
        CHECK(words >> ref.map_id >> ref.generation >> ref.offset >> ref.len);
        CHECK(ref.len == large_len(i));
        {
            const auto mapped = or_throw(attachments.resolve_wait(ref, patient));
            CHECK(mapped.size() == ref.len);
            check_bytes(mapped, i);
        }
        say("done");
    }
}

// ---- failures ----

// Stands for a type of 8 or 16 bytes with this name in any language.
template <std::size_t size>
struct Probe {
    static constexpr const char *shmslot_type_name = "languages.Probe";
    char bytes[size];
};

struct Other {
    static constexpr const char *shmslot_type_name = "languages.Other";
    char bytes[8];
};

void occupy(const char *name)
{
    shmslot::Options options;
    options.single_writer = true;
    options.slot_count = 2;
    options.max_readers = 1;
    options.max_participants = 2;
    const auto segment = or_throw(shmslot::TypedSegment<Probe<8>>::create(name, options));
    const auto writer = or_throw(segment.writer());
    const auto reader = or_throw(segment.reader());
    say("ready");
    CHECK(hear() == "go");
}

template <class T>
void tell(const char *what, const shmslot::Result<T> &result)
{
    say(std::string(what) + " " + std::to_string(static_cast<int>(result.code())));
}

void fail_all(const char *name)
{
    using Segment = shmslot::TypedSegment<Probe<8>>;
    const std::string missing = std::string(name) + "-missing";
    tell("missing", shmslot::Segment::attach(missing.c_str()));
    tell("name", shmslot::Segment::attach("a/b"));
    tell("exists", shmslot::Segment::create(name));
    tell("size", shmslot::TypedSegment<Probe<16>>::attach(name));
    tell("type", shmslot::TypedSegment<Other>::attach(name));
    {
        const auto segment = or_throw(Segment::attach(name));
        tell("crowded", Segment::attach(name));
        tell("writer", segment.writer());
        tell("reader", segment.reader());
        tell("history", segment.reader(1));
    }
    shmslot::AttachOptions look;
    look.observer = true;
    tell("look", or_throw(Segment::attach(name, look)).writer());
    tell("unlink", shmslot::Segment::unlink(missing.c_str()));

    auto options = options_of_samples();
    options.policy = shmslot::Policy::fail;
    options.slot_count = 2;
    const auto own = or_throw(shmslot::Segment::create_local(options));
    auto writer = or_throw(own.writer());
    auto reader = or_throw(own.reader());
    tell("empty", reader.read());
    tell("wait", reader.wait(no_wait));
    tell("large", writer.reserve(largest + 1, no_wait));
    auto loan = or_throw(writer.reserve(1, no_wait));
    const auto second = or_throw(writer.reserve(1, no_wait));
    tell("full", writer.reserve(1, no_wait));
    tell("long", loan.commit(2));
    or_throw(reader.interrupt());
    tell("interrupt", reader.wait(shmslot::forever));

    auto [one, other] = or_throw(shmslot::Channel::pair());
    auto attachments = or_throw(shmslot::Attachments::create(one));
    tell("unknown", attachments.resolve({1, 1, 0, 1}));
    other = shmslot::Channel();
    tell("broken", attachments.resolve({1, 1, 0, 1}));
}

} // namespace

int main(int argc, char **argv)
{
    alarm(static_cast<unsigned>(patient.count()));
    CHECK(argc == 5);
    const std::string job = argv[1];
    const std::string way = argv[2];
    const std::uint64_t count = std::stoull(argv[3]);
    const char *name = argv[4];
    try {
        if (job == "read") {
            read_all(way, count, name);
        } else if (job == "write") {
            write_all(way, count, name);
        } else if (job == "lease") {
            lease_all(count, name);
        } else if (job == "map") {
            map_all(count, name);
        } else if (job == "occupy") {
            occupy(name);
        } else {
            CHECK(job == "fail");
            fail_all(name);
        }
    } catch (const std::exception &exception) {
        fprintf(stderr, "%s %s: %s\n", job.c_str(), way.c_str(), exception.what());
        return 1;
    }
    return 0;
}
