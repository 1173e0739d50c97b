// Typed segments: objects in place, one identity in all programs, and a program with another type
// is refused.
#include "check.hpp"

using namespace std::chrono_literals;
using shmslot::Code;
using shmslot::no_wait;
using shmslot::TypedSegment;

namespace {

struct Pose {
    static constexpr const char *shmslot_type_name = "test.Pose";
    double x = 1.5;
    double y = 2.5;
    std::uint32_t id = 7;
};

// The same name, another size.
struct LongerPose {
    static constexpr const char *shmslot_type_name = Pose::shmslot_type_name;
    double x, y, z;
    std::uint32_t id;
};

// The same size, another name.
struct Twist {
    static constexpr const char *shmslot_type_name = "test.Twist";
    double x, y;
    std::uint32_t id;
};

struct alignas(256) Wide {
    static constexpr const char *shmslot_type_name = "test.Wide";
    char bytes[300];
};

struct NoDefault {
    static constexpr const char *shmslot_type_name = "test.NoDefault";
    int value;
    explicit NoDefault(int start) noexcept : value(start + 1) {}
};

// A type that cannot be changed gets its name from outside.
struct Foreign {
    std::uint8_t byte;
};

} // namespace

template <>
struct shmslot::TypeName<Foreign> {
    static constexpr const char *value = "test.Foreign";
};

static_assert(sizeof(Pose) == sizeof(Twist));

// The algorithm, written independently: FNV-1a of "test.Foreign", then the size.
static void identity_is_the_documented_one()
{
    constexpr auto hash = shmslot::type_hash_of<Foreign>;
    static_assert(hash[8] == 1, "a constant of the compiler");
    CHECK(hash == shmslot::type_hash("test.Foreign", 1));
    std::uint64_t fnv = 14695981039346656037U;
    for (const char *at = "test.Foreign"; *at != '\0'; ++at)
        fnv = (fnv ^ std::uint64_t(*at)) * 1099511628211U;
    std::uint64_t halves[2];
    memcpy(halves, hash.data(), sizeof halves);
    CHECK_U64(halves[0], fnv);
    CHECK_U64(halves[1], 1);
    // The published value for "foobar".
    constexpr auto known = shmslot::type_hash("foobar", 0x0102030405060708);
    memcpy(halves, known.data(), sizeof halves);
    CHECK_U64(halves[0], 0x85944171f73967e8);
    CHECK_U64(halves[1], 0x0102030405060708);
    CHECK(strcmp(shmslot::type_name_of<Pose>, "test.Pose") == 0);
}

static void objects_are_made_in_place()
{
    const auto segment = MUST(TypedSegment<Pose>::create_local());
    const auto info = MUST(segment.untyped().info());
    CHECK_U64(info.slot_capacity, sizeof(Pose));
    CHECK(strcmp(info.type_name, "test.Pose") == 0);
    CHECK(memcmp(info.type_hash, shmslot::type_hash_of<Pose>.data(), 16) == 0);

    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    auto loan = MUST(writer.reserve(no_wait));
    CHECK(loan->x == 1.5 && loan->y == 2.5 && loan->id == 7); // its initialisers ran
    loan->id = 8;
    CHECK_U64(MUST(loan.commit()), 1);
    CHECK(!loan && loan.get() == nullptr);
    CHECK_U64(MUST(writer.write(Pose{3, 4, 9}, no_wait)), 2);

    auto first = MUST(reader.read());
    CHECK(first->x == 1.5 && (*first).id == 8 && first.sequence() == 1);
    auto second = MUST(reader.read());
    CHECK(second->x == 3 && second->id == 9);
    CHECK(first.mark());
    CHECK(!first && first.get() == nullptr);
    CHECK_IS(reader.read(), again);

    // A loan may be abandoned: nothing was published.
    { const auto left = MUST(writer.reserve(no_wait)); }
    CHECK_IS(reader.read(), again);

    const auto others = MUST(TypedSegment<NoDefault>::create_local());
    auto makes = MUST(others.writer());
    auto reads = MUST(others.reader());
    auto made = MUST(makes.reserve(no_wait, 41));
    CHECK(made->value == 42);
    CHECK(made.discard());
    CHECK(MUST(makes.reserve(no_wait, 1)).commit());
    CHECK(MUST(reads.read())->value == 2);
}

static void alignment_and_room_are_the_types()
{
    const auto segment = MUST(TypedSegment<Wide>::create_local());
    auto writer = MUST(segment.writer());
    for (int i = 0; i < 3; ++i) {
        auto loan = MUST(writer.reserve(no_wait));
        CHECK(reinterpret_cast<std::uintptr_t>(loan.get()) % alignof(Wide) == 0);
        CHECK(loan.commit());
    }

    shmslot::Options small;
    small.slot_capacity = sizeof(Wide) - 1;
    const Name name("cpp-small");
    CHECK_IS(TypedSegment<Wide>::create(name.text, small), bad_options);
    CHECK_IS(shmslot::Segment::attach(name.text), not_found); // nothing was left behind

    // A type that exceeds a slot travels in regions.
    small.max_payload = sizeof(Wide);
    const auto large = MUST(TypedSegment<Wide>::create_anonymous(small));
    auto large_writer = MUST(large.writer());
    auto large_reader = MUST(large.reader());
    auto loan = MUST(large_writer.reserve(no_wait));
    memset(loan->bytes, 'w', sizeof loan->bytes);
    CHECK(loan.commit());
    CHECK(MUST(large_reader.read())->bytes[299] == 'w');
}

static void other_types_are_refused()
{
    const Name name("cpp-typed");
    bool created = false;
    const auto opened = MUST(TypedSegment<Pose>::open(name.text, {}, &created));
    CHECK(created);
    CHECK(TypedSegment<Pose>::open(name.text, {}, &created));
    CHECK(!created);
    CHECK(TypedSegment<Pose>::attach(name.text));
    CHECK(shmslot::Segment::attach(name.text)); // who names no type may look

    CHECK_IS(TypedSegment<LongerPose>::attach(name.text), type_mismatch);
    CHECK_IS(TypedSegment<Twist>::attach(name.text), type_mismatch);
    CHECK_IS(TypedSegment<Twist>::open(name.text), type_mismatch);
    CHECK_IS(TypedSegment<Twist>::attach_fd(MUST(opened.untyped().fd())), not_sealed);
    CHECK_IS(TypedSegment<Pose>::create(name.text), exists);

    const auto anonymous = MUST(TypedSegment<Pose>::create_anonymous());
    const int fd = MUST(anonymous.untyped().fd());
    CHECK(TypedSegment<Pose>::attach_fd(fd));
    CHECK_IS(TypedSegment<Twist>::attach_fd(fd), type_mismatch);
    CHECK_IS(TypedSegment<Twist>::attach_fd(MUST(MUST(shmslot::Segment::create_anonymous()).fd())),
             type_mismatch);

    auto [near, far] = MUST(shmslot::Channel::pair());
    CHECK(near.send_segment(anonymous.untyped(), shmslot::forever));
    CHECK_IS(TypedSegment<Twist>::receive(far, shmslot::forever), type_mismatch);
    CHECK(near.send_segment(anonymous.untyped(), shmslot::forever));
    CHECK(TypedSegment<Pose>::receive(far, shmslot::forever));

    // A C program that computes this identity is accepted, and one whose capacity is wrong is not.
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    memcpy(options.type_hash, shmslot::type_hash_of<Pose>.data(), 16);
    shmslot_attach_options wanted = SHMSLOT_ATTACH_OPTIONS_INIT;
    memcpy(wanted.type_hash, options.type_hash, 16);
    shmslot_segment *raw = nullptr;
    CHECK_OK(shmslot_segment_attach(name.text, &wanted, &raw, nullptr));
    shmslot_segment_close(raw);
    options.slot_capacity = sizeof(Pose) - 1;
    CHECK_OK(shmslot_segment_create_anonymous(&options, &raw, nullptr));
    const auto lying = TypedSegment<Pose>::attach_fd(shmslot_segment_fd(raw));
    CHECK_IS(lying, type_mismatch);
    CHECK(strstr(lying.error().text(), "payloads at most") != nullptr);
    shmslot_segment_close(raw);
}

// An untyped writer can write samples that are no Pose: the reader of poses never returns one as a
// Pose, and continues.
static void samples_of_another_length_are_refused()
{
    auto segment = MUST(TypedSegment<Pose>::create_local());
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    CHECK(writer.untyped().write("short", 5, no_wait));
    CHECK(writer.write(Pose{1, 2, 3}, no_wait));
    CHECK_IS(reader.read(), type_mismatch);
    CHECK_U64(free_slots(segment.untyped()), 63); // the short one was marked
    CHECK(MUST(reader.read())->id == 3);

    CHECK(writer.untyped().write("short", 5, no_wait));
    CHECK_IS(reader.peek_latest(), type_mismatch);
    CHECK_IS(reader.read(), type_mismatch); // peeking has not moved the reader
    CHECK_IS(reader.read(), again);
}

struct Stamp {
    std::uint64_t source = 5;
    std::uint32_t kind = 6;
};

struct Mark {
    std::uint64_t where;
};

using Stamped = TypedSegment<Pose, Stamp>;
using Marked = TypedSegment<Pose, Mark>;
using StampedArrays = TypedSegment<Pose[], Stamp>;

static void user_headers_have_a_type()
{
    const auto segment = MUST(Stamped::create_anonymous());
    CHECK_U64(MUST(segment.untyped().info()).user_header_size, sizeof(Stamp));
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    auto loan = MUST(writer.reserve(no_wait));
    CHECK(loan.user_header().source == 5 && loan.user_header().kind == 6); // its initialisers ran
    loan.user_header().source = 77;
    CHECK(loan.commit());
    auto sample = MUST(reader.read());
    CHECK(sample->id == 7 && sample.user_header().source == 77 && sample.user_header().kind == 6);
    CHECK(sample.mark());

    const int fd = MUST(segment.untyped().fd());
    CHECK(TypedSegment<Pose>::attach_fd(fd)); // a program that does not want the headers
    CHECK(Stamped::attach_fd(fd));
    const auto other = Marked::attach_fd(fd);
    CHECK_IS(other, type_mismatch);
    CHECK(strcmp(other.error().text(),
                 "the user header's type has 8 bytes, and the segment's user headers 16; "
                 "build both sides from one type definition") == 0);
    CHECK(other.error().numbers()[0] == 8 && other.error().numbers()[1] == 16);
    shmslot::Options narrow;
    narrow.user_header_size = 4;
    CHECK_IS(Stamped::create_local(narrow), bad_options);
}

static void samples_can_be_arrays()
{
    shmslot::Options options;
    options.slot_capacity = 10 * sizeof(Pose);
    const auto segment = MUST(TypedSegment<Pose[]>::create_anonymous(options));
    const auto info = MUST(segment.untyped().info());
    CHECK(strcmp(info.type_name, "test.Pose[]") == 0);
    CHECK(memcmp(info.type_hash, shmslot::type_hash("test.Pose[]", sizeof(Pose)).data(), 16) == 0);
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());

    auto loan = MUST(writer.reserve(10, no_wait));
    CHECK_U64(loan.size(), 10);
    std::uint32_t number = 0;
    for (Pose &pose : loan) {
        CHECK(pose.x == 1.5 && pose.id == 7); // its initialisers ran
        pose.id = ++number;
    }
    CHECK_IS(loan.commit(11), bad_length);
    CHECK_IS(loan.commit(static_cast<std::size_t>(-1)), bad_length);
    CHECK_U64(MUST(loan.commit(3)), 1);
    CHECK(!loan && loan.size() == 0);
    CHECK_IS(loan.commit(0), stale);
    const Pose two[2] = {{1, 2, 11}, {3, 4, 12}};
    CHECK_U64(MUST(writer.write(two, 2, no_wait)), 2);
    CHECK_U64(MUST(writer.write(nullptr, 0, no_wait)), 3);

    auto three = MUST(reader.read());
    CHECK_U64(three.size(), 3);
    CHECK(three[0].id == 1 && three[2].id == 3 && three.end() - three.begin() == 3);
    auto pair = MUST(reader.read());
    CHECK(pair.size() == 2 && pair[1].id == 12);
    CHECK_U64(MUST(reader.read()).size(), 0);
    CHECK_IS(reader.read(), again);

    CHECK_IS(writer.reserve(11, no_wait), too_large);
    CHECK_IS(writer.reserve(static_cast<std::size_t>(-1) / sizeof(Pose) + 1, no_wait), too_large);
    CHECK_IS(writer.write(two, static_cast<std::size_t>(-1) / sizeof(Pose) + 2, no_wait),
             too_large);

    // One item, and an array of items, are two types.
    const int fd = MUST(segment.untyped().fd());
    CHECK_IS(TypedSegment<Pose>::attach_fd(fd), type_mismatch);
    CHECK_IS(TypedSegment<Twist[]>::attach_fd(fd), type_mismatch);
    CHECK(TypedSegment<Pose[]>::attach_fd(fd));

    // Bytes that are no whole items.
    CHECK(writer.untyped().write("half an item", 12, no_wait));
    CHECK_IS(reader.read(), type_mismatch);
    CHECK_IS(reader.read(), again);
    CHECK_U64(MUST(writer.write(two, 1, no_wait)), 5);
    for (auto &&poses : reader) CHECK(poses.size() == 1 && poses[0].id == 11);

    const auto both = MUST(StampedArrays::create_local());
    CHECK_U64(MUST(both.untyped().info()).slot_capacity, 4096); // the default
    auto stamps = MUST(both.writer());
    auto reads = MUST(both.reader());
    auto stamped = MUST(stamps.reserve(4, no_wait));
    stamped.user_header().kind = 9;
    CHECK(stamped.commit());
    const auto read = MUST(reads.read());
    CHECK(read.size() == 4 && read.user_header().kind == 9 && read.user_header().source == 5);
}

CHECK_MAIN()
{
    RUN(identity_is_the_documented_one());
    RUN(objects_are_made_in_place());
    RUN(alignment_and_room_are_the_types());
    RUN(other_types_are_refused());
    RUN(samples_of_another_length_are_refused());
    RUN(user_headers_have_a_type());
    RUN(samples_can_be_arrays());
}
