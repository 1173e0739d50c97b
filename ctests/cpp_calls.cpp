// Every call that the other C++ tests do not use: it returns what the C call returns.
#include "check.hpp"

#include <algorithm>
#include <cstring>
#include <poll.h>

using namespace std::chrono_literals;
using shmslot::Code;
using shmslot::forever;
using shmslot::no_wait;

static void options_arrive()
{
    shmslot::Options options;
    options.slot_count = 5;
    options.slot_capacity = 100;
    options.payload_align = 128;
    options.user_header_size = 16;
    options.max_readers = 3;
    options.max_participants = 7;
    options.history = 2;
    options.policy = shmslot::Policy::block;
    options.mode = 0640;
    options.region_count = 4;
    options.max_payload = 4096;
    options.type_hash = shmslot::type_hash("test.options", 1);
    options.type_name = "test.options";
    options.single_writer = true;
    options.timestamps = true;
    options.prefault = true;
    const Name name("cpp-options");
    const auto segment = MUST(shmslot::Segment::create(name.text, options));
    const auto info = MUST(segment.info());
    CHECK(info.slot_count == 5 && info.slot_capacity == 100 && info.payload_align == 128);
    CHECK(info.user_header_size == 16 && info.max_readers == 3 && info.max_participants == 7 &&
          info.history == 2);
    CHECK(info.policy == SHMSLOT_POLICY_BLOCK && info.mode == 0640 && info.region_count == 4 &&
          info.max_payload == 4096);
    CHECK(memcmp(info.type_hash, options.type_hash.data(), 16) == 0 &&
          strcmp(info.type_name, "test.options") == 0);
    CHECK(info.flags == (SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS));
    CHECK_U64(MUST(segment.slot_count()), 5);
    CHECK_U64(MUST(segment.slot_capacity()), 100);
    CHECK(MUST(segment.slot_total_size()) % 128 == 0);
    CHECK(MUST(segment.path()) == std::string(CHECK_SHM_DIR "/shmslot.") + name.text);
    CHECK(MUST(MUST(shmslot::Segment::create_local()).path()).empty());

    auto writer = MUST(segment.writer());
    CHECK_IS(segment.writer(), writer_exists);
    auto reader = MUST(segment.reader());
    auto loan = MUST(writer.reserve(3000, no_wait)); // in a region
    memset(loan.data(), 'l', loan.size());
    memcpy(loan.user_header(), "0123456789abcdef", 16);
    CHECK_U64(MUST(loan.commit()), 1);
    {
        const auto sample = MUST(reader.read());
        CHECK(sample.size() == 3000 && sample.data()[2999] == std::byte('l') &&
              sample.timestamp_ns() > 0);
        CHECK(memcmp(sample.user_header(), "0123456789abcdef", 16) == 0);
        CHECK(sample.slot() < 5);
    }
    // Retained while it is history; after two more samples its memory can be given back.
    CHECK_U64(MUST(segment.trim()), 0);
    for (int i = 0; i < 2; ++i) CHECK(writer.write("", 0, no_wait));
    CHECK(MUST(segment.trim()) >= 3000);

    // Attaching has options of its own.
    shmslot::AttachOptions look;
    look.observer = true;
    const auto looking = MUST(shmslot::Segment::attach_wait(name.text, shmslot::forever, look));
    CHECK_IS(looking.writer(), not_supported);
    CHECK_IS(looking.reader(), not_supported);
    shmslot::AttachOptions limit;
    limit.max_loans = 1;
    limit.any_owner = true;
    writer = shmslot::Writer();
    const auto limited = MUST(shmslot::Segment::attach(name.text, limit));
    auto one = MUST(limited.writer());
    const auto out = MUST(one.reserve(1, no_wait));
    CHECK_IS(one.reserve(1, no_wait), loan_limit);

    shmslot::Options more;
    more.max_readers = 63;
    const auto refused = shmslot::Segment::open(name.text, more);
    CHECK_IS(refused, options_mismatch);
    CHECK(refused.error().numbers()[0] == 63);
    more.any_geometry = true;
    bool created = true;
    CHECK(shmslot::Segment::open(name.text, more, &created));
    CHECK(!created);

    CHECK(MUST(segment.is_named()));
    const auto segments = MUST(shmslot::Segment::list());
    CHECK(std::any_of(segments.begin(), segments.end(), [&](const shmslot::SegmentEntry &entry) {
        return std::strcmp(entry.name, name.text) == 0 && entry.state == SHMSLOT_STATE_ALIVE;
    }));
    CHECK_IS(shmslot::Segment::unlink_dead("/nowhere/at/all"), not_found);
    CHECK(shmslot::Segment::unlink(name.text));
    CHECK(!MUST(segment.is_named()));
    CHECK_U64(MUST(segment.info()).retired, 1);
    CHECK_IS(shmslot::Segment::attach_wait(name.text, 1ms), timeout);
    options.if_orphaned = shmslot::IfOrphaned::refuse;
    const auto again = MUST(shmslot::Segment::create(name.text, options));
    CHECK_IS(shmslot::Segment::create(name.text, options), exists);
}

static void participants_are_listed()
{
    const auto segment = MUST(shmslot::Segment::create_anonymous());
    const auto other = MUST(shmslot::Segment::attach_fd(MUST(segment.fd())));
    const auto writer = MUST(segment.writer());
    const auto reader = MUST(other.reader());
    const auto found = MUST(segment.participants());
    CHECK(found.size() == 2);
    for (const auto &one : found)
        CHECK(one.pid == static_cast<std::uint32_t>(getpid()) && one.alive == 1);
    CHECK(found[0].writers == 1 && found[0].readers == 0);
    CHECK(found[1].writers == 0 && found[1].readers == std::uint64_t(1) << MUST(reader.index()));
    CHECK(MUST(segment.recover()) == 0);
    CHECK(MUST(segment.deaths()).empty());
}

static void readers_are_expelled()
{
    const auto segment = MUST(shmslot::Segment::create_anonymous());
    auto reader = MUST(segment.reader());
    const auto listed = MUST(segment.readers());
    CHECK(listed.size() == 1 && listed[0].kind == SHMSLOT_READER_JOINED);
    CHECK(segment.expel(listed[0]));
    CHECK_IS(reader.read(), expelled);
    CHECK_IS(reader.wait(no_wait), expelled);
    CHECK(reader.explain(shmslot::Code::expelled).code() == shmslot::Code::expelled);
    CHECK(MUST(segment.readers())[0].kind == SHMSLOT_READER_EXPELLED);
    shmslot::ReaderCounters later = listed[0];
    later.generation++;
    CHECK_IS(segment.expel(later), not_found);
}

static void slots_are_counted()
{
    shmslot::Options options;
    options.slot_count = 4;
    const auto segment = MUST(shmslot::Segment::create_local(options));
    auto writer = MUST(segment.writer());
    const auto reader = MUST(segment.reader());
    CHECK(writer.write("x", 1, no_wait));
    const auto loan = MUST(writer.reserve(1, no_wait));
    const auto counted = MUST(segment.counters());
    CHECK(counted.free == 2 && counted.unread == 1 && counted.loaned == 1 && counted.held == 0);
    const auto readers = MUST(segment.readers());
    CHECK(readers.size() == 1 && readers[0].kind == SHMSLOT_READER_JOINED && readers[0].lag == 1);
    CHECK(readers[0].index == static_cast<std::uint32_t>(MUST(reader.index())));
    const auto writers = MUST(segment.writers());
    CHECK(writers.size() == 1 && writers[0].loans == 1);
}

static void history_is_joined()
{
    shmslot::Options options;
    options.history = 3;
    options.slot_count = 8;
    const auto segment = MUST(shmslot::Segment::create_local(options));
    auto writer = MUST(segment.writer());
    for (int i = 1; i <= 5; ++i) CHECK(writer.write(&i, sizeof i, no_wait));
    auto from_now = MUST(segment.reader());
    auto from_before = MUST(segment.reader(2));
    CHECK_IS(segment.reader(4), bad_options);
    CHECK_IS(from_now.read(), again);
    CHECK_U64(MUST(from_before.read()).sequence(), 4);
    const auto latest = MUST(from_now.peek_latest());
    CHECK_U64(latest.sequence(), 5);
    CHECK_IS(from_now.peek_latest(), held);
}

static void who_blocks_is_told()
{
    shmslot::Options options;
    options.slot_count = 2;
    const auto segment = MUST(shmslot::Segment::create_local(options));
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    CHECK_U64(MUST(writer.blockers()), 0);
    CHECK(writer.wait_space(no_wait));
    CHECK(writer.wait_readers(1, shmslot::forever));
    CHECK_IS(writer.wait_readers(2, no_wait), again);
    for (int i = 0; i < 2; ++i) CHECK(writer.write("", 0, no_wait));
    CHECK_IS(writer.write("", 0, no_wait), no_free_slot);
    CHECK_IS(writer.wait_space(no_wait), again);
    CHECK_U64(MUST(writer.blockers()), std::uint64_t(1) << MUST(reader.index()));
    CHECK_IS(writer.reserve(std::size_t(1) << 20, no_wait), too_large);
}

static void losses_are_counted()
{
    shmslot::Options options;
    options.slot_count = 2;
    options.policy = shmslot::Policy::drop_oldest;
    const auto segment = MUST(shmslot::Segment::create_local(options));
    auto writer = MUST(segment.writer());
    auto reader = MUST(segment.reader());
    for (int i = 0; i < 5; ++i) CHECK(writer.write("", 0, no_wait));
    CHECK_U64(MUST(reader.read()).sequence(), 4);
    CHECK_U64(MUST(reader.lost()), 3);
}

static void *interrupt_reader(void *argument)
{
    CHECK(static_cast<shmslot::Reader *>(argument)->interrupt());
    return nullptr;
}

static void waits_end()
{
    shmslot::Options options;
    options.slot_count = 1;
    options.policy = shmslot::Policy::block;
    const auto left_segment = MUST(shmslot::Segment::create_local(options));
    const auto right_segment = MUST(shmslot::Segment::create_local(options));
    auto left = MUST(left_segment.reader());
    auto right = MUST(right_segment.reader());
    auto writer = MUST(right_segment.writer());

    CHECK_IS(shmslot::wait_any({left.get(), right.get()}, no_wait), again);
    CHECK(writer.write("", 0, no_wait));
    CHECK(right.wait(no_wait));
    CHECK(MUST(shmslot::wait_any({left.get(), right.get()}, forever)) == 1);
    const std::vector<shmslot_reader *> both = {right.get(), left.get()};
    CHECK(MUST(shmslot::wait_any(both.data(), both.size(), forever)) == 0);

    // A descriptor is readable while there may be something, and quiet after a call that found
    // nothing.
    const int reading = MUST(left.fd()), writing = MUST(writer.fd(shmslot::Arm::on_request));
    CHECK(reading > 2 && writing > 2 && reading != writing);
    CHECK(MUST(left.fd()) == reading);
    CHECK(!MUST(writer.arm())); // the one slot is owed
    CHECK(!MUST(left.arm()));
    CHECK(MUST(right.fd()) != reading && MUST(right.arm())); // it has not read

    // An interrupt ends the current wait or the next one.
    const auto thread = start_thread(interrupt_reader, &left);
    CHECK_IS(left.wait(forever), interrupted);
    end_thread(thread);
    CHECK(writer.interrupt());
    CHECK_IS(writer.reserve(0, forever), interrupted); // the one slot is owed

    // A set tells of several, until each has said that there is nothing.
    auto set = MUST(shmslot::Set::create());
    auto third = MUST(right_segment.reader());
    const auto trigger = MUST(set.trigger(2));
    shmslot_event events[4];
    CHECK(MUST(set.fd()) > 2);
    CHECK(set.add(third, 1));
    CHECK_IS(set.add(right_segment, 1), exists);
    CHECK_IS(set.add(right, 3), invalid); // it has a descriptor of its own
    CHECK(set.add(right_segment, 3));
    CHECK(MUST(set.wait(forever, events, 4)) == 2);
    CHECK(trigger.fire());
    CHECK_IS(third.read(), again);
    CHECK(MUST(set.wait(forever, events, 4)) == 1);
    CHECK(events[0].cookie == 2);
    CHECK(shmslot::what(events[0]) == shmslot::What::trigger);
    CHECK(MUST(set.wait(no_wait, events, 4)) == 0);
    CHECK(set.remove(1) && set.remove(2) && set.remove(3));
    CHECK(set.interrupt());
    CHECK_IS(set.wait(forever, events, 4), interrupted);
    third = shmslot::Reader();

    // The end of all writers also ends a wait, once everything is read.
    CHECK(right.end_waits({true, false, false}));
    writer = shmslot::Writer();
    CHECK(right.wait(forever));
    CHECK(right.read());
    CHECK_IS(right.wait(forever), no_writers);
}

static void changes_are_seen()
{
    const auto segment = MUST(shmslot::Segment::create_local());
    auto writer = MUST(segment.writer());
    const auto before = MUST(segment.generation());
    CHECK_IS(segment.wait_for_change(before, no_wait), again);
    CHECK(writer.write("", 0, no_wait));
    const auto after = MUST(segment.wait_for_change(before, forever));
    CHECK(after != before && after == MUST(segment.generation()));
}

static void reference_operations()
{
    const auto segment = MUST(shmslot::Segment::create_local());
    const std::uint32_t me = 0;
    const auto copied = MUST(segment.ref_reserve(1));
    CHECK_U64(MUST(segment.ref_commit_copy(copied, "copied", 6)), 1);
    const auto placed = MUST(segment.ref_reserve(1));
    const auto room = MUST(segment.ref_data_ptr(placed));
    CHECK(room.size == MUST(segment.slot_capacity()));
    memcpy(room.data, "placed", 6);
    CHECK_U64(MUST(segment.ref_commit_in_place(placed, 6)), 2);
    const auto discarded = MUST(segment.ref_reserve(1));
    CHECK(segment.ref_discard(discarded));
    CHECK_IS(segment.ref_discard(discarded), stale);

    const auto first = MUST(segment.ref_next_unread(me));
    const auto bytes = MUST(segment.ref_read_ptr(first));
    CHECK(bytes.size == 6 && memcmp(bytes.data, "copied", 6) == 0);
    CHECK(segment.ref_mark_read(first, me));
    CHECK_IS(segment.ref_mark_read(first, me), stale);
    const auto second = MUST(segment.ref_next_unread(me));
    char buffer[8];
    CHECK_U64(MUST(segment.ref_read_header(second)).len, 6);
    CHECK(MUST(segment.ref_published(1)).token == copied.token ||
          MUST(segment.ref_published(2)).token == copied.token);
    CHECK_IS(segment.ref_published(0xffffff), invalid);
    const auto header = MUST(segment.ref_read_copy(second, buffer, sizeof buffer));
    CHECK(header.sequence == 2 && header.len == 6 && header.unread == 1 &&
          memcmp(buffer, "placed", 6) == 0);
    CHECK_IS(segment.ref_read_copy(second, buffer, 3), too_large);
    CHECK(segment.ref_mark_reader_disconnected(me));
    CHECK_IS(segment.ref_next_unread(me), again);
    CHECK_IS(segment.ref_next_unread(99), bad_index);
}

static void large_references()
{
    shmslot::Options options;
    options.slot_capacity = 64;
    options.max_payload = 5000;
    options.user_header_size = 8;
    const auto segment = MUST(shmslot::Segment::create_local(options));
    const auto loan = MUST(segment.ref_reserve_large(1, 5000));
    CHECK_U64(MUST(segment.ref_data_ptr(loan)).size, 5000);
    const auto header = MUST(segment.ref_data_user_header(loan));
    CHECK_U64(header.size, 8);
    memcpy(header.data, "headline", 8);
    CHECK_IS(segment.ref_read_user_header(loan), stale);
    CHECK_U64(MUST(segment.ref_commit_in_place(loan, 5000)), 1);
    CHECK_U64(MUST(segment.ref_read_ptr(loan)).size, 5000);
    const auto seen = MUST(segment.ref_read_user_header(loan));
    CHECK(seen.size == 8 && memcmp(seen.data, "headline", 8) == 0);
    CHECK_IS(segment.ref_data_user_header(loan), stale);
    CHECK_IS(segment.ref_reserve_large(1, 5001), too_large);
}

static void channels_connect()
{
    char name[64];
    snprintf(name, sizeof name, "@cpp-calls-%ld", static_cast<long>(getpid()));
    auto listener = MUST(shmslot::Listener::listen(name));
    CHECK_IS(shmslot::Listener::listen(name), exists);
    CHECK_IS(listener.accept(no_wait), again);
    auto near = MUST(shmslot::Channel::connect(name, forever));
    pollfd ready = {MUST(listener.fd()), POLLIN, 0};
    CHECK(poll(&ready, 1, -1) == 1);
    auto far = MUST(listener.accept(forever));
    listener = shmslot::Listener();
    CHECK_IS(shmslot::Channel::connect(name, no_wait), not_found);

    const auto segment = MUST(shmslot::Segment::create_anonymous());
    CHECK_IS(far.recv_segment(no_wait), again);
    CHECK(near.send_segment(segment, forever));
    const auto received = MUST(far.recv_segment(forever));
    CHECK(MUST(received.info()).segment_id == MUST(segment.info()).segment_id);

    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK(shmslot::Channel::from_fd(ends[0]));
    CHECK_IS(shmslot::Channel::from_fd(-1), invalid);
    (void)close(ends[0]);
    (void)close(ends[1]);

    near = shmslot::Channel();
    const auto broken = far.recv_segment(forever);
    CHECK_IS(broken, channel_broken);
}

static void regions_are_managed()
{
    shmslot::RegistryOptions options;
    options.align = 256;
    options.region_size = 4096;
    options.max_idle = shmslot::idle_none;
    options.max_bytes = 8192;
    auto registry = MUST(shmslot::Registry::create(options));
    auto [near, far] = MUST(shmslot::Channel::pair());
    CHECK(registry.add(near, forever));
    CHECK_U64(MUST(registry.info()).channels, 1);
    auto attachments = MUST(shmslot::Attachments::create(far));
    auto first = MUST(registry.alloc(10, forever));
    const auto second = MUST(registry.alloc(10, forever));
    CHECK(second.ref().offset == first.ref().offset + 256);
    CHECK_IS(registry.alloc(8193, forever), no_memory);
    CHECK(MUST(attachments.drain()) == 1);

    CHECK(first.region() + first.ref().offset == first.data() && first.region_size() == 4096);
    auto place = MUST(attachments.resolve(first.ref()));
    CHECK(place.region() + first.ref().offset == place.data() && place.region_size() == 4096);
    CHECK(place.release());
    CHECK(MUST(registry.reclaim()) == 0);
    auto beyond = first.ref();
    beyond.offset = 4096;
    CHECK_IS(attachments.resolve(beyond), out_of_bounds);
    beyond.offset = ~std::uint64_t(0);
    CHECK_IS(attachments.resolve(beyond), overflow);
    auto unknown = first.ref();
    unknown.map_id += 1;
    CHECK_IS(attachments.resolve(unknown), unknown_mapping);
    CHECK_IS(attachments.resolve_wait(unknown, 1ms), timeout);

    CHECK(registry.remove(near));
    CHECK_U64(MUST(registry.info()).channels, 0);
    CHECK(registry.add(near, forever));
    far = shmslot::Channel();
    attachments = shmslot::Attachments();
    int removed = 0;
    // a new region, and nobody there to be told
    const auto third = MUST(registry.alloc(4096, forever, &removed));
    CHECK(removed == 1);

    // A region made by hand: any sealed memory file.
    const auto anonymous = MUST(shmslot::Segment::create_anonymous());
    auto by_hand = MUST(shmslot::Attachments::create());
    CHECK(by_hand.attach_fd(3, 0, 64, MUST(anonymous.fd())));
    CHECK(MUST(by_hand.resolve({3, 0, 0, 64})).size() == 64);
    CHECK_IS(by_hand.attach_fd(4, 0, 0, MUST(anonymous.fd())), invalid);
}

CHECK_MAIN()
{
    RUN(options_arrive());
    RUN(participants_are_listed());
    RUN(readers_are_expelled());
    RUN(slots_are_counted());
    RUN(history_is_joined());
    RUN(who_blocks_is_told());
    RUN(losses_are_counted());
    RUN(waits_end());
    RUN(changes_are_seen());
    RUN(reference_operations());
    RUN(large_references());
    RUN(channels_connect());
    RUN(regions_are_managed());
}
