/// @file
/// shmslot for C++17 and later: the calls of shmslot.h with owners that clean up, typed samples,
/// and ranges.
///
/// - Contract: shmslot.h says what each call does, and its rules hold here: threads, timeouts,
///   forks, deaths. This file says what C++ adds. bindings/README.md has the table of both.
/// - Failures are returned as Result, which holds a value or an Error. Nothing here throws, and
///   -fno-exceptions and -fno-rtti work; or_throw() turns failures into exceptions where these are
///   enabled, call by call. It is a function and not a macro or mode, so translation units with and
///   without exceptions mix, and so do C++17, 20 and 23: every class is the same in all. Only
///   std::string and std::vector, where they are returned, may throw std::bad_alloc as always.
/// - Ownership: all owners are move-only. A moved-from owner is empty: its calls return
///   Code::invalid or Code::stale, its pointers are null, its destruction does nothing. Owners may
///   be destroyed in any order: a Sample, Samples, a Lease and Mapped bytes stay valid without the
///   object that they came from; a Loan, and Loans, end with their Writer and are empty from then
///   on. Destroying an object while another thread uses it is a race, as in C.
/// - Bytes: Loan, Sample, Lease and Mapped are contiguous ranges of std::byte: data() and size(),
///   and in C++20 they convert to std::span. Loans and Samples are ranges of such ranges.
#ifndef SHMSLOT_HPP
#define SHMSLOT_HPP

#include <shmslot_events.h>
#include <shmslot_pool.h>
#include <shmslot_reference.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef __cpp_exceptions
#include <exception>
#endif

static_assert(SHMSLOT_VERSION_MAJOR == 0 && SHMSLOT_VERSION_MINOR == 2,
              "shmslot.hpp and shmslot.h are of different versions");

/// Passes messages between the processes of one machine through shared memory, without a daemon.
namespace shmslot {

// ---- failures ----

/// The kind of a failure, SHMSLOT_E_... of shmslot.h; a newer library may have more of them.
enum class Code : int {
    /// Success.
    ok = SHMSLOT_OK,
    /// An argument is impossible, or the object is empty.
    invalid = SHMSLOT_E_INVALID,
    /// Memory is exhausted.
    no_memory = SHMSLOT_E_NO_MEMORY,
    /// A system call failed; Error::os_errno tells which way.
    sys = SHMSLOT_E_SYS,
    /// A live segment already has this name.
    exists = SHMSLOT_E_EXISTS,
    /// No segment has this name.
    not_found = SHMSLOT_E_NOT_FOUND,
    /// It belongs to somebody else, or may not be opened.
    permission = SHMSLOT_E_PERMISSION,
    /// The file was not made by this library.
    not_a_segment = SHMSLOT_E_NOT_A_SEGMENT,
    /// Another layout version, byte order or feature set.
    layout_version = SHMSLOT_E_LAYOUT_VERSION,
    /// The segment carries another type.
    type_mismatch = SHMSLOT_E_TYPE_MISMATCH,
    /// The segment contradicts itself.
    corrupt = SHMSLOT_E_CORRUPT,
    /// Nothing to read now.
    again = SHMSLOT_E_AGAIN,
    /// The deadline passed.
    timeout = SHMSLOT_E_TIMEOUT,
    /// The wait was ended by an interrupt call.
    interrupted = SHMSLOT_E_INTERRUPTED,
    /// Every slot is loaned, held or unread.
    no_free_slot = SHMSLOT_E_NO_FREE_SLOT,
    /// The payload is larger than any.
    too_large = SHMSLOT_E_TOO_LARGE,
    /// It was used already, or is of another segment.
    stale = SHMSLOT_E_STALE,
    /// As many readers as possible are joined.
    no_reader_slot = SHMSLOT_E_NO_READER_SLOT,
    /// Not with this kind of segment, or on this system.
    not_supported = SHMSLOT_E_NOT_SUPPORTED,
    /// A defect in the library was caught.
    panic = SHMSLOT_E_PANIC,
    /// The name is malformed.
    bad_name = SHMSLOT_E_BAD_NAME,
    /// A timeout below -1; Timeout never is.
    bad_timeout = SHMSLOT_E_BAD_TIMEOUT,
    /// An option is out of its range.
    bad_options = SHMSLOT_E_BAD_OPTIONS,
    /// A reader index is out of range or somebody else's.
    bad_index = SHMSLOT_E_BAD_INDEX,
    /// More bytes committed than were reserved.
    bad_length = SHMSLOT_E_BAD_LENGTH,
    /// The path names a directory, socket, pipe or device.
    not_a_file = SHMSLOT_E_NOT_A_FILE,
    /// The file is shorter than its header says.
    truncated = SHMSLOT_E_TRUNCATED,
    /// The descriptor lacks seals.
    not_sealed = SHMSLOT_E_NOT_SEALED,
    /// A single-writer segment already has its writer.
    writer_exists = SHMSLOT_E_WRITER_EXISTS,
    /// As many participants as possible are attached.
    no_participant_slot = SHMSLOT_E_NO_PARTICIPANT_SLOT,
    /// This reader already holds that sample.
    held = SHMSLOT_E_HELD,
    /// The file is empty.
    empty = SHMSLOT_E_EMPTY,
    /// This writer has as many loans out as its limit allows.
    loan_limit = SHMSLOT_E_LOAN_LIMIT,
    /// The handle was made before a fork, by the parent.
    forked = SHMSLOT_E_FORKED,
    /// A process that was attached died.
    peer_dead = SHMSLOT_E_PEER_DEAD,
    /// No process has a writer open.
    no_writers = SHMSLOT_E_NO_WRITERS,
    /// No region of this number and generation is known.
    unknown_mapping = SHMSLOT_E_UNKNOWN_MAPPING,
    /// A reference reaches beyond the end of its region.
    out_of_bounds = SHMSLOT_E_OUT_OF_BOUNDS,
    /// Offset and length are more than 64 bits together.
    overflow = SHMSLOT_E_OVERFLOW,
    /// The other end is gone, or said what no channel says.
    channel_broken = SHMSLOT_E_CHANNEL_BROKEN,
    /// Another process has begun to take the name away, and has not finished.
    name_busy = SHMSLOT_E_NAME_BUSY,
    /// The program has closed or replaced a descriptor of the library.
    descriptor_lost = SHMSLOT_E_DESCRIPTOR_LOST,
    /// The segment that is there does not give what is asked.
    options_mismatch = SHMSLOT_E_OPTIONS_MISMATCH,
    /// The segment has lost its name.
    retired = SHMSLOT_E_RETIRED,
    /// This reader holds as many samples as the segment allows.
    held_limit = SHMSLOT_E_HELD_LIMIT,
    /// More readers than one wait takes.
    too_many = SHMSLOT_E_TOO_MANY,
    /// Another process ended the membership of this reader.
    expelled = SHMSLOT_E_EXPELLED,
};

/// What a code means and what to do, in one line; never null. Threads: any. shmslot_strerror.
[[nodiscard]] inline const char *text(Code code) noexcept
{
    return shmslot_strerror(static_cast<int>(code));
}

/// The version of the library that is running; SHMSLOT_VERSION is that of the header. Threads: any.
/// shmslot_version.
[[nodiscard]] inline std::uint32_t version() noexcept { return shmslot_version(); }

/// A failure: its code, and, for calls that take a shmslot_error, a text, its numbers and the
/// kernel's error number. Plain data.
class Error {
public:
    /// A failure of which only the code is known.
    explicit Error(Code code) noexcept
    {
        // The rest of the text is not cleared: a reader that polls makes an error each time that it
        // finds nothing.
        told_.code = static_cast<int>(code);
        told_.os_errno = 0;
        for (std::uint64_t &number : told_.numbers) number = 0;
        told_.text[0] = '\0';
    }

    /// The error that a C call has filled.
    explicit Error(const shmslot_error &told) noexcept { set(told); }

    /// A failure with a text of the caller's.
    Error(Code code, std::string_view about) noexcept : Error(code) { set_text(about); }

    /// A failure that this header has found. The format takes two numbers, each as %llu.
    Error(Code code, const char *format, std::uint64_t wanted, std::uint64_t found) noexcept
        : Error(code)
    {
        told_.numbers[0] = wanted;
        told_.numbers[1] = found;
        std::snprintf(told_.text, sizeof told_.text, format,
                      static_cast<unsigned long long>(wanted),
                      static_cast<unsigned long long>(found));
    }

    /// A copy.
    Error(const Error &other) noexcept { set(other.told_); }

    /// A copy.
    Error &operator=(const Error &other) noexcept
    {
        if (this != &other) set(other.told_);
        return *this;
    }

    /// Nothing to do.
    ~Error() = default;

    /// The kind of failure.
    [[nodiscard]] Code code() const noexcept { return static_cast<Code>(told_.code); }

    /// The kernel's error number (errno), or 0.
    [[nodiscard]] int os_errno() const noexcept { return told_.os_errno; }

    /// The numbers in the text, in their order, or 0; docs/guide.md says which they are for each
    /// code.
    [[nodiscard]] std::array<std::uint64_t, 3> numbers() const noexcept
    {
        return {told_.numbers[0], told_.numbers[1], told_.numbers[2]};
    }

    /// What happened, its subject if that is known, and what to do; never null. Valid as long as
    /// this object.
    [[nodiscard]] const char *text() const noexcept
    {
        return told_.text[0] != '\0' ? told_.text : shmslot_strerror(told_.code);
    }

private:
    void set(const shmslot_error &told) noexcept
    {
        told_.code = told.code;
        told_.os_errno = told.os_errno;
        for (std::size_t i = 0; i < std::size(told.numbers); i++)
            told_.numbers[i] = told.numbers[i];
        set_text(told.text);
    }

    void set_text(std::string_view text) noexcept
    {
        const std::size_t len =
            text.size() < sizeof told_.text ? text.size() : sizeof told_.text - 1;
        std::memcpy(told_.text, text.data(), len);
        told_.text[len] = '\0';
    }

    union { // a member that is not set before a call writes to it
        shmslot_error told_;
    };
};

/// What is called with the text of a failure whose value is taken, before std::abort.
using AbortHandler = void (*)(const char *text);

/// For this header.
namespace detail {

/// The handler of all translation units.
inline std::atomic<AbortHandler> abort_handler{nullptr};

/// Ends the process. Not inlined, so that a debugger and a core dump show the text in this frame.
[[noreturn, gnu::noinline, gnu::cold]] inline void abort_with(const char *text) noexcept
{
    // Acquire: pairs with set_abort_handler.
    const AbortHandler handler = abort_handler.load(std::memory_order_acquire);
    if (handler != nullptr) handler(text);
    std::abort();
}

} // namespace detail

/// Sets what is called when the value of a failed Result is taken, or the error of a success: to
/// log the text, say. The process ends by std::abort when it returns, and by std::terminate if it
/// throws. Null calls nothing, as in the beginning: this header prints nothing by itself. Returns
/// the one before. Threads: any.
inline AbortHandler set_abort_handler(AbortHandler handler) noexcept
{
    return detail::abort_handler.exchange(handler, std::memory_order_acq_rel);
}

/// A value, or the Error that was in its way. Must be looked at. To take the value of a failure, or
/// the error of a success, ends the process: see set_abort_handler. Ask first, or use or_throw,
/// which throws the text. Threads: as the value.
template <class T>
class [[nodiscard]] Result {
public:
    /// What it holds on success.
    using value_type = T;

    /// A success.
    Result(T value) noexcept : has_value_(true), value_(std::move(value)) {}

    /// A success whose value is constructed in place from these arguments.
    template <class... Arguments>
    explicit Result(std::in_place_t, Arguments &&...arguments) noexcept
        : has_value_(true), value_(std::forward<Arguments>(arguments)...)
    {
    }

    /// A failure.
    Result(const Error &error) noexcept : has_value_(false), error_(error) {}

    /// A failure of which only the code is known.
    Result(Code code) noexcept : has_value_(false), error_(code) {}

    /// Takes the other's content; the other keeps a moved-from value, or the same error.
    Result(Result &&other) noexcept : has_value_(other.has_value_) { take(other); }

    /// Destroys its content, and takes the other's.
    Result &operator=(Result &&other) noexcept
    {
        if (this != &other) {
            destroy();
            has_value_ = other.has_value_;
            take(other);
        }
        return *this;
    }

    /// Destroys its content; it is a failure from now on.
    Result &operator=(const Error &error) noexcept
    {
        if (!has_value_) {
            error_ = error; // it may be this one's own
            return *this;
        }
        destroy();
        ::new (static_cast<void *>(&error_)) Error(error);
        has_value_ = false;
        return *this;
    }

    /// Move-only, as its content usually is.
    Result(const Result &) = delete;
    /// Move-only.
    Result &operator=(const Result &) = delete;

    /// Destroys its content.
    ~Result() { destroy(); }

    /// Whether it is a success.
    [[nodiscard]] bool has_value() const noexcept { return has_value_; }

    /// Whether it is a success.
    [[nodiscard]] explicit operator bool() const noexcept { return has_value_; }

    /// Code::ok, or the code of the failure.
    [[nodiscard]] Code code() const noexcept { return has_value_ ? Code::ok : error_.code(); }

    /// The failure.
    [[nodiscard]] const Error &error() const noexcept
    {
        if (has_value_) detail::abort_with("the error of a success was asked for");
        return error_;
    }

    /// The value.
    [[nodiscard]] T &operator*() & noexcept { return checked(); }
    /// The value.
    [[nodiscard]] const T &operator*() const & noexcept
    {
        return const_cast<Result *>(this)->checked();
    }
    /// The value, to be moved from.
    [[nodiscard]] T &&operator*() && noexcept { return std::move(checked()); }
    /// The value.
    [[nodiscard]] T *operator->() noexcept { return &checked(); }
    /// The value.
    [[nodiscard]] const T *operator->() const noexcept { return &**this; }

    /// The value, or another one if it is a failure.
    [[nodiscard]] T value_or(T other) && noexcept
    {
        return has_value_ ? std::move(value_) : std::move(other);
    }

private:
    T &checked() noexcept
    {
        if (!has_value_) detail::abort_with(error_.text());
        return value_;
    }

    // The value is moved out of the other.
    void take(Result &other) noexcept
    {
        if (has_value_) {
            ::new (static_cast<void *>(&value_)) T(std::move(other.value_));
        } else {
            ::new (static_cast<void *>(&error_)) Error(other.error_);
        }
    }

    void destroy() noexcept
    {
        if (has_value_) value_.~T();
    }

    bool has_value_;
    union {
        T value_;
        Error error_;
    };
};

/// Success, or an Error. It must not be ignored.
template <>
class [[nodiscard]] Result<void> {
public:
    /// What it holds on success.
    using value_type = void;

    /// A success.
    Result() noexcept : error_(Code::ok) {}
    /// A failure; or a success, if that is the code.
    Result(const Error &error) noexcept : error_(error) {}
    /// A failure of which only the code is known; or a success, if that is the code.
    Result(Code code) noexcept : error_(code) {}

    /// Whether it is a success.
    [[nodiscard]] bool has_value() const noexcept { return error_.code() == Code::ok; }
    /// Whether it is a success.
    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }
    /// Code::ok, or the code of the failure.
    [[nodiscard]] Code code() const noexcept { return error_.code(); }
    /// The failure.
    [[nodiscard]] const Error &error() const noexcept
    {
        if (has_value()) detail::abort_with("the error of a success was asked for");
        return error_;
    }
    /// Nothing, of a success.
    void operator*() const noexcept
    {
        if (!has_value()) detail::abort_with(error_.text());
    }

private:
    Error error_;
};

#ifdef __cpp_exceptions

/// A failure as an exception. Only where exceptions are enabled.
class Exception : public std::exception {
public:
    /// An exception for this failure.
    explicit Exception(const Error &error) noexcept : error_(error) {}
    /// Error::text of the failure.
    [[nodiscard]] const char *what() const noexcept override { return error_.text(); }
    /// The failure.
    [[nodiscard]] const Error &error() const noexcept { return error_; }
    /// The kind of failure.
    [[nodiscard]] Code code() const noexcept { return error_.code(); }

private:
    Error error_;
};

/// The value of a success; throws Exception for a failure:
/// `auto segment = or_throw(Segment::open("cam"));`. Only where exceptions are enabled.
template <class T>
T or_throw(Result<T> &&result)
{
    if (!result) throw Exception(result.error());
    return *std::move(result);
}

#endif

// ---- time ----

/// How long a call may wait: any std::chrono duration, no_wait or forever. A fraction of a
/// nanosecond counts as one. A negative duration counts as zero, so that `deadline - now` is right
/// after the deadline. A duration that is too long counts as the longest one.
class Timeout {
public:
    /// At most this long.
    template <class Rep, class Period>
    constexpr Timeout(std::chrono::duration<Rep, Period> duration) noexcept
        : ns_(nanoseconds_of(duration))
    {
    }

    /// Without limit.
    [[nodiscard]] static constexpr Timeout unlimited() noexcept { return Timeout(-1); }

    /// The form for C calls: nanoseconds, or -1 for no limit.
    [[nodiscard]] constexpr std::int64_t ns() const noexcept { return ns_; }

private:
    explicit constexpr Timeout(std::int64_t ns) noexcept : ns_(ns) {}

    template <class Rep, class Period>
    static constexpr std::int64_t
    nanoseconds_of(std::chrono::duration<Rep, Period> duration) noexcept
    {
        using Nanoseconds = std::chrono::duration<std::int64_t, std::nano>;
        using Duration = std::chrono::duration<Rep, Period>;
        constexpr double longest_s = 9.2e9;           // 2^63 ns are a little more
        if (!(duration > Duration::zero())) return 0; // also what is not a number
        if (std::chrono::duration<double>(duration).count() >= longest_s)
            return std::numeric_limits<std::int64_t>::max();
        const auto whole = std::chrono::duration_cast<Nanoseconds>(duration);
        return whole.count() + (whole < duration ? 1 : 0);
    }

    std::int64_t ns_;
};

/// Does not wait.
inline constexpr Timeout no_wait = std::chrono::nanoseconds(0);
/// Waits without limit.
inline constexpr Timeout forever = Timeout::unlimited();

// ---- options and plain data ----

/// What a reserve does that finds nothing free.
enum class Policy : std::uint32_t {
    /// As block; open takes a segment of whatever policy.
    unspecified = 0,
    /// It waits until a reader has marked enough.
    block = SHMSLOT_POLICY_BLOCK,
    /// It fails at once, whatever its timeout: it never waits.
    fail = SHMSLOT_POLICY_FAIL,
    /// It takes the oldest unread sample that nobody holds.
    drop_oldest = SHMSLOT_POLICY_DROP_OLDEST,
};

/// What to do when the name belongs to a segment that nobody is attached to any more.
enum class IfOrphaned : std::uint32_t {
    replace = SHMSLOT_ORPHANED_REPLACE, ///< Give its name to the new one.
    adopt = SHMSLOT_ORPHANED_ADOPT,     ///< Attach to it as it is, if it gives what is asked.
    refuse = SHMSLOT_ORPHANED_REFUSE,   ///< Fail with Code::exists.
};

/// For Options::spin_ns: a wait does not poll, it sleeps at once.
inline constexpr std::uint32_t spin_none = SHMSLOT_SPIN_NONE;
/// For RegistryOptions::max_idle: no region is kept without leases.
inline constexpr std::uint64_t idle_none = SHMSLOT_IDLE_NONE;

/// How to make or open a segment; shmslot_options. Zero is the default of each field.
struct Options {
    /// Number of slots; default 64.
    std::uint32_t slot_count = 0;
    /// Payload bytes of a slot; default 4096, or the size of the type.
    std::uint64_t slot_capacity = 0;
    /// Alignment of each payload in bytes; default 64, or the type's.
    std::uint32_t payload_align = 0;
    /// Bytes of user header beside each slot.
    std::uint32_t user_header_size = 0;
    /// Readers that may be joined at once; default 15.
    std::uint32_t max_readers = 0;
    /// Processes that may be attached at once; default 64.
    std::uint32_t max_participants = 0;
    /// Samples kept for readers that join later.
    std::uint32_t history = 0;
    /// What a reserve does that finds nothing free.
    Policy policy = Policy::unspecified;
    /// Permission bits of a named segment; default 0600.
    std::uint32_t mode = 0;
    /// What to do with a segment that nobody is attached to.
    IfOrphaned if_orphaned = IfOrphaned::replace;
    /// How long a wait polls, or spin_none; default 10000.
    std::uint32_t spin_ns = 0;
    /// Loans that one writer may have out at once; default no limit.
    std::uint32_t max_loans = 0;
    /// Payloads in regions that may be there at once.
    std::uint32_t region_count = 0;
    /// Samples that one reader may hold at once; default no limit.
    std::uint32_t max_held = 0;
    /// Largest payload of all; default slot_capacity, no regions.
    std::uint64_t max_payload = 0;
    /// Identity of the sample type; all zero is none.
    std::array<std::uint8_t, 16> type_hash = {};
    /// Name of the sample type, at most 63 bytes; read during the call.
    const char *type_name = nullptr;
    /// One writer at a time; cheaper.
    bool single_writer = false;
    /// Each commit notes the monotonic time.
    bool timestamps = false;
    /// The name goes with the last participant.
    bool ephemeral = false;
    /// Map all pages at once.
    bool prefault = false;
    /// Ask for huge pages.
    bool huge_pages = false;
    /// Large copies into payloads go around the caches.
    bool stream_copies = false;
    /// Open: take what is there with whatever numbers it has.
    bool any_geometry = false;
    /// Open: also another user's segment, or one with a loosened mode.
    bool any_owner = false;
};

/// How to attach to a segment; shmslot_attach_options. Zero is the default of each field.
struct AttachOptions {
    /// Identity that the sample type must have; all zero is any.
    std::array<std::uint8_t, 16> type_hash = {};
    /// Name that the sample type must have; read during the call.
    const char *type_name = nullptr;
    /// How long a wait polls; 1 is not at all, default 10000.
    std::uint32_t spin_ns = 0;
    /// Loans that one writer may have out at once; default no limit.
    std::uint32_t max_loans = 0;
    /// Map all pages at once.
    bool prefault = false;
    /// Ask for huge pages.
    bool huge_pages = false;
    /// Large copies into payloads go around the caches.
    bool stream_copies = false;
    /// Attach to another user's segment, or one with a loosened mode.
    bool any_owner = false;
    /// Map read-only and join nothing.
    bool observer = false;
};

/// The geometry of a segment, and its use at this moment.
using Info = shmslot_info;
/// A process that is attached to a segment, or that died while it was.
using Participant = shmslot_participant;
/// The use of the slots of a segment at this moment.
using Counters = shmslot_counters;
/// The samples of one reader at this moment.
using ReaderCounters = shmslot_reader_counters;
/// The loans of one writer at this moment.
using WriterCounters = shmslot_writer_counters;
/// A process that died while it was attached.
using Death = shmslot_death;
/// A segment as it is found in a directory.
using SegmentEntry = shmslot_segment_entry;
/// A slot in one of its generations, for the reference operations. Plain data.
using Ref = shmslot_ref;
/// What is known about a published slot besides its bytes.
using RefHeader = shmslot_ref_header;
/// The state of a registry at this moment.
using PoolInfo = shmslot_pool_info;

/// What ends waits besides what they wait for. Writers and segments accept signal and retired.
struct EndWaits {
    /// No process has a writer open, and everything was read: Code::no_writers.
    bool no_writers = false;
    /// A process that was attached died: Code::peer_dead, once each time.
    bool peer_dead = false;
    /// The segment has lost its name: Code::retired.
    bool retired = false;
    /// A signal handler has run in the thread that sleeps: Code::interrupted.
    bool signal = false;
};

/// How a channel is made.
struct ChannelOptions {
    bool any_owner = false; ///< Also with a process of another user at the other end.
    bool unsealed = false;  ///< Also map regions whose files are not sealed.
};

/// How a registry makes regions; shmslot_registry_options. Zero is the default of each field.
struct RegistryOptions {
    std::uint32_t align = 0;       ///< Alignment of each lease in bytes; default 64.
    std::uint64_t region_size = 0; ///< Bytes of a region; default 1 MiB.
    std::uint64_t max_idle = 0;    ///< Most bytes of idle regions, or idle_none; default 64 MiB.
    std::uint64_t max_bytes = 0;   ///< Most bytes of all regions together; default no limit.
    /// The receivers are other software and may write to regions; see
    /// SHMSLOT_FLAG_FOREIGN_RECEIVERS.
    bool foreign_receivers = false;
};

/// What a receiver needs to find the bytes of a lease. Plain data without padding, the same in all
/// processes of a machine.
struct RegionRef {
    std::uint32_t map_id = 0;     ///< The region.
    std::uint32_t generation = 0; ///< Which use of the region.
    std::uint64_t offset = 0;     ///< Where in the region.
    std::uint64_t len = 0;        ///< How many bytes.
};
static_assert(sizeof(RegionRef) == 24, "a region reference has no padding");

// ---- types ----

/// The identity of a sample type in Options::type_hash. Bytes 0 to 7: FNV-1a of the name's bytes in
/// 64 bits; bytes 8 to 15: the size of the type in bytes. Both little-endian.
constexpr std::array<std::uint8_t, 16> type_hash(std::string_view name, std::uint64_t size) noexcept
{
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const char byte : name) {
        hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
    }
    std::array<std::uint8_t, 16> bytes = {};
    for (std::size_t at = 0; at < 8; ++at) {
        bytes[at] = static_cast<std::uint8_t>(hash >> (8 * at));
        bytes[8 + at] = static_cast<std::uint8_t>(size >> (8 * at));
    }
    return bytes;
}

/// The name of a sample type in all programs. Give your own type a member
/// `static constexpr const char *shmslot_type_name = "acme.Pose";`, or specialise this template for
/// a type that you cannot change:
///
///     template <> struct shmslot::TypeName<Pose> { static constexpr const char *value =
///     "acme.Pose"; };
///
/// The name is given and not derived, because compilers, namespaces and renamings change what they
/// call a type. Change the name when the meaning of the bytes changes. The second parameter is
/// always void.
template <class T, class = void>
struct TypeName {
    static_assert(!sizeof(T), "this type has no shmslot_type_name; see shmslot::TypeName");
    /// At most 63 bytes.
    static constexpr const char *value = "";
};

/// The name that a type gives itself.
template <class T>
struct TypeName<T, std::void_t<decltype(T::shmslot_type_name)>> {
    /// At most 63 bytes.
    static constexpr const char *value = T::shmslot_type_name;
};

namespace detail {

/// The name of T with "[]" behind it, cut at 63 bytes.
template <class T>
constexpr std::array<char, 64> array_name() noexcept
{
    std::array<char, 64> text = {};
    std::size_t len = 0;
    for (const char byte : std::string_view(TypeName<T>::value)) {
        if (len < text.size() - 3) text[len++] = byte;
    }
    text[len++] = '[';
    text[len] = ']';
    return text;
}

template <class T>
inline constexpr std::array<char, 64> array_name_of = array_name<T>();

} // namespace detail

/// The name of samples that are arrays of T: that of T with "[]" behind it. T's has 61 bytes at
/// most.
template <class T>
struct TypeName<T[], void> {
    /// At most 63 bytes.
    static constexpr const char *value = detail::array_name_of<T>.data();
};

/// The name of T.
template <class T>
inline constexpr const char *type_name_of = TypeName<T>::value;

/// The identity of T: type_hash of its name and size; of arrays T[], the size of one item.
template <class T>
inline constexpr std::array<std::uint8_t, 16> type_hash_of =
    type_hash(type_name_of<T>, sizeof(std::remove_extent_t<T>));

class Segment;
class Writer;
class Reader;
class Channel;
class Registry;
class Attachments;

/// When the descriptor of a reader or a writer is armed.
enum class Arm : std::uint32_t {
    when_nothing_is_there = 0,     ///< By each call that finds nothing.
    on_request = SHMSLOT_FD_MANUAL ///< By arm() only.
};

/// For this header.
namespace detail {

/// Closes handles; for std::unique_ptr.
struct Close {
    /// Closes it.
    void operator()(shmslot_segment *handle) const noexcept { shmslot_segment_close(handle); }
    /// Leaves.
    void operator()(shmslot_reader *handle) const noexcept { shmslot_reader_leave(handle); }
    /// Closes it.
    void operator()(shmslot_set *handle) const noexcept { shmslot_set_close(handle); }
    /// Closes it.
    void operator()(shmslot_trigger *handle) const noexcept { shmslot_trigger_close(handle); }
    /// Closes it.
    void operator()(shmslot_channel *handle) const noexcept { shmslot_channel_close(handle); }
    /// Closes it.
    void operator()(shmslot_registry *handle) const noexcept { shmslot_registry_close(handle); }
    /// Closes it.
    void operator()(shmslot_attachments *handle) const noexcept
    {
        shmslot_attachments_close(handle);
    }
};

/// A handle that is closed once.
template <class Handle>
using Owner = std::unique_ptr<Handle, Close>;

/// For members that a C call is about to write.
struct Unwritten {};

/// An object that a handle gave out, to be ended once by End. Its handle shows whether it is still
/// owned.
template <class Plain, class Handle, int (*End)(Handle *, const Plain *)>
class Owned {
public:
    /// Nothing, all zero.
    Owned() noexcept : plain_() {}
    /// Nothing, to be written and owned, or destroyed.
    explicit Owned(Unwritten /* tag */) noexcept {}
    /// Takes it from the other.
    Owned(Owned &&other) noexcept
        : plain_(other.plain_), handle_(std::exchange(other.handle_, nullptr))
    {
    }
    /// Ends what it had, and takes it from the other.
    Owned &operator=(Owned &&other) noexcept
    {
        if (this != &other) {
            static_cast<void>(end());
            plain_ = other.plain_;
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    /// Owned once.
    Owned(const Owned &) = delete;
    /// Owned once.
    Owned &operator=(const Owned &) = delete;
    /// Ends it.
    ~Owned() { static_cast<void>(end()); }

    /// What it is; or was, when it is not owned any more.
    [[nodiscard]] const Plain &operator*() const noexcept { return plain_; }
    /// The same.
    [[nodiscard]] const Plain *operator->() const noexcept { return &plain_; }
    /// The handle that it came from; null if it is not owned.
    [[nodiscard]] Handle *handle() const noexcept { return handle_; }

    /// Where a call of the handle writes to, before own().
    [[nodiscard]] Plain *blank() noexcept { return &plain_; }
    /// What was written is owned from now on.
    void own(Handle *handle) noexcept { handle_ = handle; }
    /// Leaves it to others to end it; the handle that it came from.
    Handle *forget() noexcept { return std::exchange(handle_, nullptr); }

    /// It is over, whatever the result: a second attempt would not succeed either.
    [[nodiscard]] Code end() noexcept
    {
        if (handle_ == nullptr) return Code::stale;
        return static_cast<Code>(End(std::exchange(handle_, nullptr), &plain_));
    }

private:
    union { // a member that is not set before a call writes to it
        Plain plain_;
    };
    Handle *handle_ = nullptr;
};

/// A writer's handle, shared by the Writer and its loans: it says whether the writer is still open.
struct WriterShare {
    /// Null once the writer is closed.
    std::atomic<shmslot_writer *> writer{nullptr};
    /// The Writer, and its loans.
    std::atomic<std::size_t> owners{1};
};

/// The handle; null if there is none, or it is closed.
[[nodiscard]] inline shmslot_writer *writer_of(const WriterShare *share) noexcept
{
    // Acquire: pairs with CloseWriter.
    return share != nullptr ? share->writer.load(std::memory_order_acquire) : nullptr;
}

/// One owner more. Null is none.
inline void keep(WriterShare *share) noexcept
{
    if (share == nullptr) return;
    share->owners.fetch_add(1, std::memory_order_relaxed); // the caller is one already
}

/// One owner less. Null is none.
inline void let_go(WriterShare *share) noexcept
{
    // Release: pairs with the acquire of the last owner, which frees what the others have used.
    if (share != nullptr && share->owners.fetch_sub(1, std::memory_order_acq_rel) == 1)
        delete share;
}

/// Closes a writer; for std::unique_ptr.
struct CloseWriter {
    /// Closes it. Its loans are discarded, and find that out.
    void operator()(WriterShare *share) const noexcept
    {
        shmslot_writer_close(share->writer.exchange(nullptr, std::memory_order_acq_rel));
        let_go(share);
    }
};

/// Discards a loan, unless its writer is closed, which has discarded it.
inline int discard(WriterShare *share, const shmslot_loan *loan) noexcept
{
    shmslot_writer *writer = writer_of(share);
    const int code = writer != nullptr ? shmslot_slot_discard(writer, loan) : SHMSLOT_E_STALE;
    let_go(share);
    return code;
}

/// Room for many objects that one handle gives out, allocated once, and those in it that are not
/// ended yet. View is one of them, and ends them.
template <class View, class Handle>
class Batch {
public:
    /// No room.
    Batch() noexcept = default;
    /// Room for so many.
    explicit Batch(std::size_t capacity) noexcept : items_(room(capacity)), capacity_(capacity) {}
    /// Takes room and content of the other.
    Batch(Batch &&other) noexcept { swap(other); }
    /// Ends what it had, and takes room and content of the other.
    Batch &operator=(Batch &&other) noexcept
    {
        Batch taken(std::move(other));
        swap(taken);
        return *this;
    }
    /// Owned once.
    Batch(const Batch &) = delete;
    /// Owned once.
    Batch &operator=(const Batch &) = delete;
    /// Ends what is left.
    ~Batch() { static_cast<void>(end_all()); }

    /// How many there is room for; 0 if there was no memory.
    [[nodiscard]] std::size_t capacity() const noexcept
    {
        return items_ != nullptr ? capacity_ : 0;
    }
    /// How many are in it.
    [[nodiscard]] std::size_t size() const noexcept { return View::is_out(handle_) ? count_ : 0; }
    /// Whether there are none.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// The first one.
    [[nodiscard]] View *begin() noexcept { return items_.get() + first_; }
    /// The first one.
    [[nodiscard]] const View *begin() const noexcept { return items_.get() + first_; }
    /// Behind the last one.
    [[nodiscard]] View *end() noexcept { return begin() + size(); }
    /// Behind the last one.
    [[nodiscard]] const View *end() const noexcept { return begin() + size(); }
    /// One of them; at is less than size().
    [[nodiscard]] View &operator[](std::size_t at) noexcept { return begin()[at]; }
    /// One of them; at is less than size().
    [[nodiscard]] const View &operator[](std::size_t at) const noexcept { return begin()[at]; }

protected:
    /// Ends what is left, and then owns what a call of the handle writes: how many.
    template <class Call>
    [[nodiscard]] Result<std::size_t> fill(Handle *handle, std::size_t most, Call call) noexcept
    {
        static_cast<void>(end_all());
        if (capacity_ == 0) return Code::invalid;
        if (items_ == nullptr) return Code::no_memory;
        const int count = call(&items_[0].plain_, std::min(most, capacity_));
        if (count < 0) return static_cast<Code>(count);
        first_ = 0;
        count_ = static_cast<std::size_t>(count);
        handle_ = count != 0 ? handle : nullptr;
        return count_;
    }

    /// The first count are ended; the handle if that were all.
    [[nodiscard]] Handle *forget(std::size_t count) noexcept
    {
        first_ += count;
        count_ -= count;
        return count_ == 0 ? std::exchange(handle_, nullptr) : nullptr;
    }

    /// They are over, whatever the result, as View::end gives it: a second attempt would not
    /// succeed either.
    int end_all() noexcept
    {
        if (handle_ == nullptr) return 0;
        return View::end(std::exchange(handle_, nullptr), begin(), std::exchange(count_, 0));
    }

    /// The handle that they came from; null if there are none.
    [[nodiscard]] Handle *handle() const noexcept { return handle_; }

private:
    static View *room(std::size_t capacity) noexcept
    {
        if (capacity > static_cast<std::size_t>(-1) / sizeof(View)) return nullptr;
        return new (std::nothrow) View[capacity];
    }

    void swap(Batch &other) noexcept
    {
        std::swap(items_, other.items_);
        std::swap(capacity_, other.capacity_);
        std::swap(first_, other.first_);
        std::swap(count_, other.count_);
        std::swap(handle_, other.handle_);
    }

    std::unique_ptr<View[]> items_{};
    std::size_t capacity_ = 0;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    Handle *handle_ = nullptr;
};

/// For calls that take as many as they can.
inline constexpr std::size_t all = static_cast<std::size_t>(-1);

/// As the C calls take it.
[[nodiscard]] constexpr std::uint32_t bits(EndWaits when) noexcept
{
    return (when.no_writers ? SHMSLOT_END_NO_WRITERS : 0U) |
           (when.peer_dead ? SHMSLOT_END_PEER_DEAD : 0U) | (when.signal ? SHMSLOT_END_SIGNAL : 0U) |
           (when.retired ? SHMSLOT_END_RETIRED : 0U);
}

/// A result without a value, of a C call that returns 0.
[[nodiscard]] inline Result<void> done(int code) noexcept
{
    return code < 0 ? static_cast<Code>(code) : Code::ok;
}
/// The same, with what the call has told of a failure.
[[nodiscard]] inline Result<void> done(int code, const shmslot_error &told) noexcept
{
    return code < 0 ? Result<void>(Error(told)) : Result<void>();
}

/// A result of a C call that returns a number from 0.
[[nodiscard]] inline Result<int> number(int code) noexcept
{
    return code < 0 ? Result<int>(static_cast<Code>(code)) : Result<int>(code);
}
/// The same, with what the call has told of a failure.
[[nodiscard]] inline Result<int> number(int code, const shmslot_error &told) noexcept
{
    return code < 0 ? Result<int>(Error(told)) : Result<int>(code);
}

/// A result of a C call that returns 0 or 1.
[[nodiscard]] inline Result<bool> truth(int code) noexcept
{
    return code < 0 ? Result<bool>(static_cast<Code>(code)) : Result<bool>(code != 0);
}

/// The number of a descriptor that a C call tells.
template <class Call>
[[nodiscard]] Result<int> descriptor(Call call) noexcept
{
    int fd = -1;
    shmslot_error told;
    if (call(&fd, &told) < 0) return Error(told);
    return fd;
}

/// A result of a C call that writes one value.
template <class T, class Call>
[[nodiscard]] Result<T> written(Call call) noexcept
{
    T value{};
    const int code = call(&value);
    if (code < 0) return static_cast<Code>(code);
    return value;
}

/// The result of a call that fills an empty T and tells how that went: written in place and
/// returned without a copy.
template <class T, class Call>
[[nodiscard]] Result<T> filled(Call call) noexcept
{
    Result<T> result(std::in_place, Unwritten());
    const Code code = call(*result);
    if (code != Code::ok) result = Error(code);
    return result;
}

/// The owner of what a C call has made.
template <class T, class Handle, class Call>
[[nodiscard]] Result<T> made(Call call) noexcept
{
    Handle *handle = nullptr;
    shmslot_error told;
    if (call(&handle, &told) < 0) return Error(told);
    return T(Owner<Handle>(handle));
}

/// Options as C has them.
[[nodiscard]] inline shmslot_options c_options(const Options &options) noexcept
{
    shmslot_options c = SHMSLOT_OPTIONS_INIT;
    c.flags = (options.single_writer ? SHMSLOT_FLAG_SINGLE_WRITER : 0U) |
              (options.timestamps ? SHMSLOT_FLAG_TIMESTAMPS : 0U) |
              (options.ephemeral ? SHMSLOT_FLAG_EPHEMERAL : 0U) |
              (options.prefault ? SHMSLOT_FLAG_PREFAULT : 0U) |
              (options.huge_pages ? SHMSLOT_FLAG_HUGE_PAGES : 0U) |
              (options.stream_copies ? SHMSLOT_FLAG_STREAM_COPIES : 0U) |
              (options.any_owner ? SHMSLOT_FLAG_ANY_OWNER : 0U) |
              (options.any_geometry ? SHMSLOT_FLAG_ANY_GEOMETRY : 0U);
    c.slot_count = options.slot_count;
    c.payload_align = options.payload_align;
    c.slot_capacity = options.slot_capacity;
    c.user_header_size = options.user_header_size;
    c.max_readers = options.max_readers;
    c.max_participants = options.max_participants;
    c.history = options.history;
    c.policy = static_cast<std::uint32_t>(options.policy);
    c.mode = options.mode;
    c.if_orphaned = static_cast<std::uint32_t>(options.if_orphaned);
    c.spin_ns = options.spin_ns;
    c.max_loans = options.max_loans;
    c.region_count = options.region_count;
    c.max_held = options.max_held;
    c.max_payload = options.max_payload;
    std::memcpy(c.type_hash, options.type_hash.data(), sizeof c.type_hash);
    c.type_name = options.type_name;
    return c;
}

/// The same of attach.
[[nodiscard]] inline shmslot_attach_options c_options(const AttachOptions &options) noexcept
{
    shmslot_attach_options c = SHMSLOT_ATTACH_OPTIONS_INIT;
    c.flags = (options.prefault ? SHMSLOT_FLAG_PREFAULT : 0U) |
              (options.huge_pages ? SHMSLOT_FLAG_HUGE_PAGES : 0U) |
              (options.stream_copies ? SHMSLOT_FLAG_STREAM_COPIES : 0U) |
              (options.any_owner ? SHMSLOT_FLAG_ANY_OWNER : 0U) |
              (options.observer ? SHMSLOT_FLAG_OBSERVER : 0U);
    c.spin_ns = options.spin_ns;
    c.max_loans = options.max_loans;
    std::memcpy(c.type_hash, options.type_hash.data(), sizeof c.type_hash);
    c.type_name = options.type_name;
    return c;
}

/// Options of a channel as C has them.
[[nodiscard]] inline std::uint32_t c_flags(ChannelOptions options) noexcept
{
    return (options.any_owner ? SHMSLOT_FLAG_ANY_OWNER : 0U) |
           (options.unsealed ? SHMSLOT_FLAG_UNSEALED : 0U);
}

/// The object in these bytes; null if there are none.
template <class T, class Byte>
[[nodiscard]] T *object(Byte *bytes) noexcept
{
    return bytes != nullptr ? std::launder(reinterpret_cast<T *>(bytes)) : nullptr;
}

} // namespace detail

// ---- writers ----

/// A slot reserved and not yet committed: a range of writable bytes. Destruction discards it. It
/// ends with its Writer and is empty from then on. Threads: one at a time; as its Writer for
/// commit, discard and destruction.
class Loan {
public:
    /// None.
    Loan() noexcept = default;
    /// For this header: to be written by a call.
    explicit Loan(detail::Unwritten tag) noexcept : owned_(tag) {}

    /// The payload, aligned as the segment says; null if there is none any more.
    [[nodiscard]] std::byte *data() noexcept
    {
        return is_out() ? static_cast<std::byte *>(owned_->data) : nullptr;
    }
    /// The bytes that were reserved; 0 if there is none any more.
    [[nodiscard]] std::size_t size() const noexcept { return is_out() ? owned_->len : 0; }
    /// The first byte.
    [[nodiscard]] std::byte *begin() noexcept { return data(); }
    /// Behind the last byte.
    [[nodiscard]] std::byte *end() noexcept { return data() + size(); }
    /// The slot's user header, as many bytes as Info::user_header_size says; null if it has none.
    [[nodiscard]] std::byte *user_header() noexcept
    {
        return is_out() ? static_cast<std::byte *>(owned_->user_header) : nullptr;
    }
    /// Whether it can still be committed.
    [[nodiscard]] explicit operator bool() const noexcept { return is_out(); }

    /// Publishes the first len bytes; the sequence of the sample. It is empty after success, and as
    /// it was after a failure. shmslot_slot_commit.
    Result<std::uint64_t> commit(std::size_t len) noexcept
    {
        shmslot_writer *writer = detail::writer_of(owned_.handle());
        if (writer == nullptr) return Code::stale;
        std::uint64_t sequence = 0;
        const int code = shmslot_slot_commit(writer, &*owned_, len, &sequence);
        if (code < 0) return static_cast<Code>(code);
        detail::let_go(owned_.forget());
        return sequence;
    }
    /// Publishes all of it.
    Result<std::uint64_t> commit() noexcept { return commit(size()); }

    /// Gives the slot back unpublished; empty afterwards. shmslot_slot_discard.
    Result<void> discard() noexcept { return owned_.end(); }

    /// Leaves it to whoever has the payload pointer, which is returned: Writer::commit_ptr,
    /// discard_ptr, loan_from_ptr.
    std::byte *detach() noexcept
    {
        std::byte *payload = data();
        detail::let_go(owned_.forget());
        return payload;
    }

private:
    friend class Writer;
    [[nodiscard]] bool is_out() const noexcept
    {
        return detail::writer_of(owned_.handle()) != nullptr;
    }

    detail::Owned<shmslot_loan, detail::WriterShare, detail::discard> owned_{};
};

/// One of Loans: a range of writable bytes. It is valid until the Loans commits, discards or
/// reserves.
class LoanView {
public:
    /// It stays in its Loans.
    LoanView(const LoanView &) = delete;
    /// It stays in its Loans.
    LoanView &operator=(const LoanView &) = delete;
    /// Nothing to do: its Loans discards it.
    ~LoanView() = default;

    /// The payload, aligned as the segment says.
    [[nodiscard]] std::byte *data() noexcept { return static_cast<std::byte *>(plain_.data); }
    /// The bytes that a commit publishes: those that were reserved, unless resize said otherwise.
    [[nodiscard]] std::size_t size() const noexcept { return plain_.len; }
    /// The first byte.
    [[nodiscard]] std::byte *begin() noexcept { return data(); }
    /// Behind the last byte.
    [[nodiscard]] std::byte *end() noexcept { return data() + size(); }
    /// The slot's user header, as many bytes as Info::user_header_size says; null if it has none.
    [[nodiscard]] std::byte *user_header() noexcept
    {
        return static_cast<std::byte *>(plain_.user_header);
    }

    /// A commit shall publish the first len bytes. If that is more than were reserved, the commit
    /// of this loan fails with Code::bad_length.
    void resize(std::size_t len) noexcept { plain_.len = len; }

private:
    friend class Loans;
    template <class, class>
    friend class detail::Batch;
    LoanView() noexcept {}

    static bool is_out(const detail::WriterShare *share) noexcept
    {
        return detail::writer_of(share) != nullptr;
    }

    // Discards them, unless their writer is closed, which has discarded them; 0, or the first
    // failure.
    static int end(detail::WriterShare *share, const LoanView *loans, std::size_t count) noexcept
    {
        shmslot_writer *writer = detail::writer_of(share);
        int result = writer != nullptr ? SHMSLOT_OK : SHMSLOT_E_STALE;
        for (std::size_t at = 0; writer != nullptr && at < count; ++at) {
            const int code = shmslot_slot_discard(writer, &loans[at].plain_);
            if (result == SHMSLOT_OK) result = code;
        }
        detail::let_go(share);
        return result;
    }

    union { // a member that is not set before a call writes to it
        shmslot_loan plain_;
    };
};
static_assert(sizeof(LoanView) == sizeof(shmslot_loan), "the C calls take an array of them");

/// Many loans of one Writer, and the memory for them, which is allocated once and used again. A
/// contiguous range of LoanView: `for (auto &loan : loans)`. Destruction discards those that are
/// left. It ends with its Writer and is empty from then on. Threads: one at a time; as its Writer
/// for commit, discard and destruction.
class Loans : public detail::Batch<LoanView, detail::WriterShare> {
public:
    /// None, and no room: Writer::reserve_many answers Code::invalid.
    Loans() noexcept = default;
    /// None, and room for so many. If there is no memory for them, capacity() is 0 and
    /// Writer::reserve_many answers Code::no_memory.
    explicit Loans(std::size_t capacity) noexcept : Batch(capacity) {}

    /// Publishes all, in order; how many. If that is less than size(), the next one cannot be
    /// committed: it and those after it are left, now as the first ones, and a commit that begins
    /// with it fails and says why. ret_sequences, if not null, has room for the sequences of all,
    /// of which the first ones are written. shmslot_slot_commit_many.
    Result<std::size_t> commit(std::uint64_t *ret_sequences = nullptr) noexcept
    {
        return commit_first(size(), ret_sequences);
    }

    /// The same of the first count only; Code::invalid if there are fewer.
    Result<std::size_t> commit_first(std::size_t count,
                                     std::uint64_t *ret_sequences = nullptr) noexcept
    {
        if (handle() != nullptr && !LoanView::is_out(handle())) return Code::stale;
        if (count > size()) return Code::invalid;
        if (count == 0) return count;
        const int done = shmslot_slot_commit_many(detail::writer_of(handle()), &begin()->plain_,
                                                  nullptr, count, ret_sequences);
        if (done < 0) return static_cast<Code>(done);
        const auto committed = static_cast<std::size_t>(done);
        detail::let_go(forget(committed));
        return committed;
    }

    /// Gives the slots of those that are left back unpublished; empty afterwards.
    /// shmslot_slot_discard.
    Result<void> discard() noexcept { return detail::done(end_all()); }

private:
    friend class Writer;
};

/// Reserves slots and commits them. Destruction closes it, which discards the loans that are out.
/// Threads: any at once; on a single-writer segment one at a time. Segment::writer makes it.
class Writer {
public:
    /// None; its calls answer Code::invalid.
    Writer() noexcept = default;

    /// Reserves up to len bytes. shmslot_slot_reserve.
    Result<Loan> reserve(std::size_t len, Timeout timeout) noexcept
    {
        return detail::filled<Loan>([&](Loan &loan) { return fill(loan, len, timeout); });
    }

    /// Discards what is left in loans, and reserves as many as there is room for, but not more than
    /// most, each for up to len bytes; how many. Waits only for the first of them.
    /// shmslot_slot_reserve_many.
    Result<std::size_t> reserve_many(Loans &loans, std::size_t len, Timeout timeout,
                                     std::size_t most = detail::all) noexcept
    {
        const auto reserve = [&](shmslot_loan *ret_loans, std::size_t capacity) {
            return shmslot_slot_reserve_many(get(), len, timeout.ns(), ret_loans, capacity);
        };
        auto reserved = loans.fill(share_.get(), most, reserve);
        detail::keep(loans.handle());
        return reserved;
    }

    /// Reserves, copies and commits; the sequence. shmslot_slot_write.
    Result<std::uint64_t> write(const void *bytes, std::size_t len, Timeout timeout) noexcept
    {
        return detail::written<std::uint64_t>([&](std::uint64_t *ret) {
            return shmslot_slot_write(get(), bytes, len, timeout.ns(), ret);
        });
    }

    /// The same with the content of a std::vector, std::array, std::string_view, std::span and the
    /// like.
    template <class Range,
              class Item = std::remove_pointer_t<decltype(std::declval<const Range &>().data())>>
    Result<std::uint64_t> write(const Range &range, Timeout timeout) noexcept
    {
        static_assert(std::is_trivially_copyable_v<Item>,
                      "what has pointers or owners in it means nothing elsewhere");
        return write(range.data(), range.size() * sizeof(Item), timeout);
    }

    /// Waits until a slot can be had. shmslot_wait_space.
    Result<void> wait_space(Timeout timeout) noexcept
    {
        return detail::done(shmslot_wait_space(get(), timeout.ns()));
    }

    /// Waits until count readers or more are joined; each of them reads what is committed then.
    /// shmslot_wait_readers.
    Result<void> wait_readers(std::uint32_t count, Timeout timeout) noexcept
    {
        shmslot_error told;
        const int code = shmslot_wait_readers(get(), count, timeout.ns(), &told);
        return detail::done(code, told);
    }

    /// Ends one wait of this writer with Code::interrupted. Threads: any, and signal handlers.
    /// shmslot_writer_interrupt.
    Result<void> interrupt() noexcept { return detail::done(shmslot_writer_interrupt(get())); }

    /// Why a call of this writer has just failed with this code, in numbers; len is what it wanted
    /// to reserve or write. Threads: any. shmslot_writer_explain.
    [[nodiscard]] Error explain(Code code, std::size_t len = 0) const noexcept
    {
        shmslot_error told;
        const int result =
            shmslot_writer_explain(get(), static_cast<int>(code), len, nullptr, &told);
        return result < 0 ? Error(static_cast<Code>(result)) : Error(told);
    }

    /// What ends reserves and waits of this writer beside what they wait for, from now on. Threads:
    /// any. shmslot_writer_end_waits.
    Result<void> end_waits(EndWaits when) noexcept
    {
        return detail::done(shmslot_writer_end_waits(get(), detail::bits(when)));
    }

    /// The descriptor for event loops: readable when there may be a slot to reserve. It belongs to the
    /// writer. Reserve with no_wait until Code::no_free_slot, which arms it, then wait for it.
    /// shmslot_writer_fd.
    Result<int> fd(Arm when = Arm::when_nothing_is_there) noexcept
    {
        return detail::descriptor([&](int *ret, shmslot_error *told) {
            return shmslot_writer_fd(get(), static_cast<std::uint32_t>(when), ret, told);
        });
    }
    /// Arms the descriptor, and looks once more: whether there may be a slot to reserve.
    /// shmslot_writer_fd_arm.
    Result<bool> arm() noexcept { return detail::truth(shmslot_writer_fd_arm(get())); }

    /// The readers that keep the slots which this writer would take next, reader i as bit i.
    /// Threads: any. shmslot_writer_blockers.
    Result<std::uint64_t> blockers() noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_writer_blockers(get(), ret); });
    }

    /// Commits the loan whose payload begins at data; no Loan may own it. shmslot_slot_commit_ptr.
    Result<std::uint64_t> commit_ptr(const void *data, std::size_t len) noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_slot_commit_ptr(get(), data, len, ret); });
    }

    /// Discards the loan whose payload begins at data; no Loan may own it.
    /// shmslot_slot_discard_ptr.
    Result<void> discard_ptr(const void *data) noexcept
    {
        return detail::done(shmslot_slot_discard_ptr(get(), data));
    }

    /// Owns the loan whose payload begins at data, after Loan::detach. shmslot_loan_from_ptr.
    Result<Loan> loan_from_ptr(const void *data) noexcept
    {
        return detail::filled<Loan>([&](Loan &loan) {
            return give(loan, shmslot_loan_from_ptr(get(), data, loan.owned_.blank()));
        });
    }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return share_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_writer *get() const noexcept { return detail::writer_of(share_.get()); }

private:
    friend class Segment;
    explicit Writer(detail::WriterShare *share) noexcept : share_(share) {}

    template <class, class>
    friend class TypedWriter;

    // Reserves into an empty loan.
    Code fill(Loan &loan, std::size_t len, Timeout timeout) noexcept
    {
        return give(loan, shmslot_slot_reserve(get(), len, timeout.ns(), loan.owned_.blank()));
    }

    // Makes what a call has written to a loan the loan's own, unless it failed.
    Code give(Loan &loan, int code) noexcept
    {
        if (code < 0) return static_cast<Code>(code);
        detail::keep(share_.get());
        loan.owned_.own(share_.get());
        return Code::ok;
    }

    std::unique_ptr<detail::WriterShare, detail::CloseWriter> share_{};
};

// ---- readers ----

/// A held sample: a range of bytes that cannot change or move. Destruction marks it. It may outlive
/// its Reader. Threads: one at a time; ending it: any.
class Sample {
public:
    /// None.
    Sample() noexcept = default;
    /// For this header: to be written by a call.
    explicit Sample(detail::Unwritten tag) noexcept : owned_(tag) {}

    /// The payload, aligned as the segment says; null if there is none any more.
    [[nodiscard]] const std::byte *data() const noexcept
    {
        return owned_.handle() != nullptr ? static_cast<const std::byte *>(owned_->data) : nullptr;
    }
    /// Length of the payload in bytes.
    [[nodiscard]] std::size_t size() const noexcept
    {
        return owned_.handle() != nullptr ? owned_->len : 0;
    }
    /// The first byte.
    [[nodiscard]] const std::byte *begin() const noexcept { return data(); }
    /// Behind the last byte.
    [[nodiscard]] const std::byte *end() const noexcept { return data() + size(); }
    /// Its place in the order of all samples of the segment; the first is 1.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return owned_->sequence; }
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    [[nodiscard]] std::uint64_t timestamp_ns() const noexcept { return owned_->timestamp_ns; }
    /// The slot's user header, as many bytes as Info::user_header_size says; null if it has none.
    [[nodiscard]] const std::byte *user_header() const noexcept
    {
        return owned_.handle() != nullptr ? static_cast<const std::byte *>(owned_->user_header)
                                          : nullptr;
    }
    /// The same for all samples of one writer, and different from those of the others that are
    /// open.
    [[nodiscard]] std::uint32_t writer_id() const noexcept { return owned_->writer_id; }
    /// The slot that it is in.
    [[nodiscard]] std::uint32_t slot() const noexcept { return owned_->slot; }
    /// Whether it is held.
    [[nodiscard]] explicit operator bool() const noexcept { return owned_.handle() != nullptr; }

    /// Lets go of it; empty afterwards. shmslot_slot_mark.
    Result<void> mark() noexcept { return owned_.end(); }

    /// Leaves it to whoever has the payload pointer, which is returned: Reader::mark_ptr,
    /// Reader::sample_from_ptr.
    const std::byte *detach() noexcept
    {
        const std::byte *payload = data();
        owned_.forget();
        return payload;
    }

private:
    friend class Reader;
    template <class, class>
    friend class TypedReader;

    detail::Owned<shmslot_sample, shmslot_reader, shmslot_slot_mark> owned_{};
};

/// One of Samples: a range of bytes that cannot change or move. It is valid until the Samples marks
/// or reads.
class SampleView {
public:
    /// It stays in its Samples.
    SampleView(const SampleView &) = delete;
    /// It stays in its Samples.
    SampleView &operator=(const SampleView &) = delete;
    /// Nothing to do: its Samples marks it.
    ~SampleView() = default;

    /// The payload, aligned as the segment says.
    [[nodiscard]] const std::byte *data() const noexcept
    {
        return static_cast<const std::byte *>(plain_.data);
    }
    /// Length of the payload in bytes.
    [[nodiscard]] std::size_t size() const noexcept { return plain_.len; }
    /// The first byte.
    [[nodiscard]] const std::byte *begin() const noexcept { return data(); }
    /// Behind the last byte.
    [[nodiscard]] const std::byte *end() const noexcept { return data() + size(); }
    /// Its place in the order of all samples of the segment; the first is 1.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return plain_.sequence; }
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    [[nodiscard]] std::uint64_t timestamp_ns() const noexcept { return plain_.timestamp_ns; }
    /// The slot's user header, as many bytes as Info::user_header_size says; null if it has none.
    [[nodiscard]] const std::byte *user_header() const noexcept
    {
        return static_cast<const std::byte *>(plain_.user_header);
    }
    /// The same for all samples of one writer, and different from those of the others that are
    /// open.
    [[nodiscard]] std::uint32_t writer_id() const noexcept { return plain_.writer_id; }
    /// The slot that it is in.
    [[nodiscard]] std::uint32_t slot() const noexcept { return plain_.slot; }

private:
    template <class, class>
    friend class detail::Batch;
    SampleView() noexcept {}

    static bool is_out(const shmslot_reader *reader) noexcept { return reader != nullptr; }

    // Marks them; how many, or the last failure if that is none. One that is not held any more does
    // not keep those after it from being marked.
    static int end(shmslot_reader *reader, const SampleView *samples, std::size_t count) noexcept
    {
        int marked = 0;
        int failure = SHMSLOT_OK;
        for (std::size_t at = 0; at < count;) {
            const int code = shmslot_slot_mark_many(reader, &samples[at].plain_, count - at);
            if (code > 0) {
                marked += code;
                at += static_cast<std::size_t>(code);
            } else {
                failure = code;
                ++at;
            }
        }
        return marked != 0 ? marked : failure;
    }

    union { // a member that is not set before a call writes to it
        shmslot_sample plain_;
    };
};
static_assert(sizeof(SampleView) == sizeof(shmslot_sample), "the C calls take an array of them");

/// Many held samples of one Reader, in order, and the memory for them, which is allocated once and
/// used again. A contiguous range of SampleView:
///
///     shmslot::Samples samples(32);
///     while (reader.read_many(samples))
///         for (const auto &sample : samples) use(sample.data(), sample.size());
///
/// Destruction marks those that are left. It may outlive its Reader. Threads: one at a time; ending
/// it: any.
class Samples : public detail::Batch<SampleView, shmslot_reader> {
public:
    /// None, and no room: Reader::read_many answers Code::invalid.
    Samples() noexcept = default;
    /// None, and room for so many. If there is no memory for them, capacity() is 0 and
    /// Reader::read_many answers Code::no_memory.
    explicit Samples(std::size_t capacity) noexcept : Batch(capacity) {}

    /// Lets go of all; how many. Empty afterwards. shmslot_slot_mark_many.
    Result<std::size_t> mark() noexcept
    {
        const int marked = end_all();
        if (marked < 0) return static_cast<Code>(marked);
        return static_cast<std::size_t>(marked);
    }

private:
    friend class Reader;
};

/// The samples that a reader finds until there is none, for a loop:
/// `for (auto &&sample : reader.available())`. Each sample is marked at the end of its round,
/// unless the loop moves it away.
template <class ReaderType, class SampleType>
class Available {
public:
    /// Behind the last one.
    struct End {};

    /// Reads on with each step. An input iterator: one pass, and each sample is taken once.
    class Iterator {
    public:
        using iterator_concept = std::input_iterator_tag;  ///< For C++20.
        using iterator_category = std::input_iterator_tag; ///< One pass.
        using value_type = SampleType;                     ///< A sample.
        using difference_type = std::ptrdiff_t;            ///< As of pointers.
        using reference = SampleType;                      ///< Given away by value.
        using pointer = void;                              ///< None.

        /// At the first one, which is read now. ended_by, if not null, learns why there are no
        /// more.
        Iterator(ReaderType *reader, Code *ended_by) noexcept
            : reader_(reader), ended_by_(ended_by), sample_()
        {
            ++*this;
        }
        /// Takes the other's place, and its sample.
        Iterator(Iterator &&) noexcept = default;
        /// Takes the other's place, and its sample.
        Iterator &operator=(Iterator &&) noexcept = default;
        /// A sample is taken once.
        Iterator(const Iterator &) = delete;
        /// A sample is taken once.
        Iterator &operator=(const Iterator &) = delete;
        /// Marks a sample that was not taken.
        ~Iterator() = default;

        /// The sample, which is the caller's from now on.
        [[nodiscard]] SampleType operator*() const noexcept { return std::move(sample_); }

        /// Reads the next one; one that was not taken is marked.
        Iterator &operator++() noexcept
        {
            sample_ = SampleType();
            const Code code = reader_->fill(sample_);
            at_end_ = code != Code::ok;
            if (at_end_ && ended_by_ != nullptr) *ended_by_ = code;
            return *this;
        }
        /// The same; what comes back has the sample of before.
        Iterator operator++(int) noexcept
        {
            Iterator before = std::move(*this);
            ++*this;
            return before;
        }

        /// Whether there are no more.
        [[nodiscard]] friend bool operator==(const Iterator &iterator, End) noexcept
        {
            return iterator.at_end_;
        }
        /// Whether there is one.
        [[nodiscard]] friend bool operator!=(const Iterator &iterator, End) noexcept
        {
            return !iterator.at_end_;
        }

    private:
        ReaderType *reader_;
        Code *ended_by_;
        mutable SampleType sample_; // an input iterator gives away what it points to
        bool at_end_ = false;
    };

    /// The samples of this reader, which stays where it is meanwhile.
    explicit Available(ReaderType &reader) noexcept : reader_(&reader) {}

    /// Reads the first one.
    [[nodiscard]] Iterator begin() noexcept { return Iterator(reader_, &ended_by_); }
    /// Behind the last one.
    [[nodiscard]] End end() const noexcept { return {}; }
    /// Why the last loop found no more: Code::again is the usual answer. Code::ok before the end.
    [[nodiscard]] Code ended_by() const noexcept { return ended_by_; }

private:
    ReaderType *reader_;
    Code ended_by_ = Code::ok;
};

/// Reads the samples of a segment in the order of their sequence. Destruction leaves; held samples
/// stay valid. Threads: one at a time; interrupting, and marking samples: any. Segment::reader
/// makes it.
class Reader {
public:
    /// None; its calls answer Code::invalid.
    Reader() noexcept = default;

    /// Takes the next sample; Code::again if there is none yet. shmslot_slot_read.
    Result<Sample> read() noexcept
    {
        return detail::filled<Sample>([&](Sample &sample) { return fill(sample); });
    }

    /// Marks what is left in samples, and takes as many of the next ones as are there and there is
    /// room for, but not more than most; how many. Code::again if there is none yet.
    /// shmslot_slot_read_many.
    Result<std::size_t> read_many(Samples &samples, std::size_t most = detail::all) noexcept
    {
        return samples.fill(get(), most, [&](shmslot_sample *ret_samples, std::size_t capacity) {
            return shmslot_slot_read_many(get(), ret_samples, capacity);
        });
    }

    /// Takes the newest sample, and does not move the reader. shmslot_slot_peek_latest.
    Result<Sample> peek_latest() noexcept
    {
        return detail::filled<Sample>([&](Sample &sample) { return fill_latest(sample); });
    }

    /// The samples that are there, for a loop that wants to know why it ended.
    [[nodiscard]] Available<Reader, Sample> available() noexcept
    {
        return Available<Reader, Sample>(*this);
    }
    /// The first sample that is there: `for (auto &&sample : reader)`. Ends at any failure; see
    /// available().
    [[nodiscard]] Available<Reader, Sample>::Iterator begin() noexcept { return {this, nullptr}; }
    /// Behind the last one.
    [[nodiscard]] Available<Reader, Sample>::End end() const noexcept { return {}; }

    /// Waits until there is a sample. shmslot_wait.
    Result<void> wait(Timeout timeout) noexcept
    {
        return detail::done(shmslot_wait(get(), timeout.ns()));
    }

    /// Ends one wait of this reader with Code::interrupted. Threads: any, and signal handlers.
    /// shmslot_reader_interrupt.
    Result<void> interrupt() noexcept { return detail::done(shmslot_reader_interrupt(get())); }

    /// Why a call of this reader has just failed with this code, in numbers. Threads: any.
    /// shmslot_reader_explain.
    [[nodiscard]] Error explain(Code code) const noexcept
    {
        shmslot_error told;
        const int result = shmslot_reader_explain(get(), static_cast<int>(code), nullptr, &told);
        return result < 0 ? Error(static_cast<Code>(result)) : Error(told);
    }

    /// What ends waits of this reader beside samples, from now on. Threads: any.
    /// shmslot_reader_end_waits.
    Result<void> end_waits(EndWaits when) noexcept
    {
        return detail::done(shmslot_reader_end_waits(get(), detail::bits(when)));
    }

    /// The descriptor for event loops: readable when there may be something to read. It belongs to
    /// the reader. Read until Code::again, which arms it, then wait for it. shmslot_reader_fd.
    Result<int> fd(Arm when = Arm::when_nothing_is_there) noexcept
    {
        return detail::descriptor([&](int *ret, shmslot_error *told) {
            return shmslot_reader_fd(get(), static_cast<std::uint32_t>(when), ret, told);
        });
    }
    /// Arms the descriptor, and looks once more: whether there is something to read.
    /// shmslot_reader_fd_arm.
    Result<bool> arm() noexcept { return detail::truth(shmslot_reader_fd_arm(get())); }

    /// How many samples Policy::drop_oldest has taken away. Threads: any. shmslot_reader_lost.
    Result<std::uint64_t> lost() const noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_reader_lost(get(), ret); });
    }

    /// The reader's bit in masks of readers. Threads: any. shmslot_reader_index.
    Result<int> index() const noexcept { return detail::number(shmslot_reader_index(get())); }

    /// Marks the sample whose payload begins at data; no Sample and no Samples may own it. Threads:
    /// any. shmslot_slot_mark_ptr.
    Result<void> mark_ptr(const void *data) noexcept
    {
        return detail::done(shmslot_slot_mark_ptr(get(), data));
    }

    /// Owns the sample whose payload begins at data, after Sample::detach. Threads: any.
    /// shmslot_sample_from_ptr.
    Result<Sample> sample_from_ptr(const void *data) noexcept
    {
        return detail::filled<Sample>([&](Sample &sample) {
            return give(sample, shmslot_sample_from_ptr(get(), data, sample.owned_.blank()));
        });
    }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_reader *get() const noexcept { return handle_.get(); }

private:
    friend class Segment;
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Reader(detail::Owner<shmslot_reader> handle) noexcept : handle_(std::move(handle)) {}

    template <class, class>
    friend class Available;
    template <class, class>
    friend class TypedReader;

    // Reads into an empty sample.
    Code fill(Sample &sample) noexcept
    {
        return give(sample, shmslot_slot_read(get(), sample.owned_.blank()));
    }
    Code fill_latest(Sample &sample) noexcept
    {
        return give(sample, shmslot_slot_peek_latest(get(), sample.owned_.blank()));
    }

    // Makes what a call has written to a sample the sample's own, unless it failed.
    Code give(Sample &sample, int code) noexcept
    {
        if (code < 0) return static_cast<Code>(code);
        sample.owned_.own(get());
        return Code::ok;
    }

    detail::Owner<shmslot_reader> handle_{};
};

/// Waits until one of count readers has a sample, of whatever segments; which one, the lowest of
/// several. The array has Reader::get of each. Threads: as the readers. shmslot_wait_any.
inline Result<std::size_t> wait_any(shmslot_reader *const *readers, std::size_t count,
                                    Timeout timeout) noexcept
{
    return detail::written<std::size_t>(
        [&](std::size_t *ret) { return shmslot_wait_any(readers, count, timeout.ns(), ret); });
}

/// The same: `wait_any({left.get(), right.get()}, timeout)`.
inline Result<std::size_t> wait_any(std::initializer_list<shmslot_reader *> readers,
                                    Timeout timeout) noexcept
{
    return wait_any(readers.begin(), readers.size(), timeout);
}

// ---- segments ----

/// An attachment of this process to a segment. Destruction closes it; writers, readers and samples
/// of it may live longer. Threads: any.
class Segment {
public:
    /// None; its calls answer Code::invalid.
    Segment() noexcept = default;

    /// Makes a segment under a name. shmslot_segment_create.
    static Result<Segment> create(const char *name, const Options &options = {}) noexcept
    {
        return from(options,
                    [name](const shmslot_options *c, shmslot_segment **ret, shmslot_error *reterr) {
                        return shmslot_segment_create(name, c, ret, reterr);
                    });
    }

    /// Makes a segment without a name, in a sealed memory file. shmslot_segment_create_anonymous.
    static Result<Segment> create_anonymous(const Options &options = {}) noexcept
    {
        return from(options, shmslot_segment_create_anonymous);
    }

    /// Makes a segment in private memory of this process. shmslot_segment_create_local.
    static Result<Segment> create_local(const Options &options = {}) noexcept
    {
        return from(options, shmslot_segment_create_local);
    }

    /// Attaches to the segment of this name. shmslot_segment_attach.
    static Result<Segment> attach(const char *name, const AttachOptions &options = {}) noexcept
    {
        return from(options, [name](const shmslot_attach_options *c, shmslot_segment **ret,
                                    shmslot_error *reterr) {
            return shmslot_segment_attach(name, c, ret, reterr);
        });
    }

    /// The same, and waits for the name to appear. shmslot_segment_attach_wait.
    static Result<Segment> attach_wait(const char *name, Timeout timeout,
                                       const AttachOptions &options = {}) noexcept
    {
        return from(options, [=](const shmslot_attach_options *c, shmslot_segment **ret,
                                 shmslot_error *reterr) {
            return shmslot_segment_attach_wait(name, c, timeout.ns(), ret, reterr);
        });
    }

    /// Attaches to the segment behind a descriptor, which stays the caller's.
    /// shmslot_segment_attach_fd.
    static Result<Segment> attach_fd(int fd, const AttachOptions &options = {}) noexcept
    {
        return from(options, [fd](const shmslot_attach_options *c, shmslot_segment **ret,
                                  shmslot_error *reterr) {
            return shmslot_segment_attach_fd(fd, c, ret, reterr);
        });
    }

    /// Attaches to the segment of this name if it gives what is asked, or creates it. ret_created,
    /// if not null, is set on success: whether this call created it. shmslot_segment_open.
    static Result<Segment> open(const char *name, const Options &options = {},
                                bool *ret_created = nullptr) noexcept
    {
        return from(options,
                    [=](const shmslot_options *c, shmslot_segment **ret, shmslot_error *reterr) {
                        const int code = shmslot_segment_open(name, c, ret, reterr);
                        if (code >= 0 && ret_created != nullptr) *ret_created = code > 0;
                        return code;
                    });
    }

    /// Takes the name of a segment away. shmslot_segment_unlink.
    static Result<void> unlink(const char *name) noexcept
    {
        shmslot_error told;
        const int code = shmslot_segment_unlink(name, &told);
        return detail::done(code, told);
    }

    /// The segments of a directory; null is the system's. shmslot_segment_list.
    static Result<std::vector<SegmentEntry>> list(const char *directory = nullptr)
    {
        std::vector<SegmentEntry> found;
        for (std::size_t count = 0;; found.resize(count)) { // more may have come meanwhile
            shmslot_error told;
            const int code = shmslot_segment_list(directory, found.data(), sizeof(SegmentEntry),
                                                  found.size(), &count, &told);
            if (code < 0) return Error(told);
            if (count <= found.size()) {
                found.resize(count);
                return found;
            }
        }
    }

    /// Unlinks the segments of a directory that no process uses; how many.
    /// shmslot_segment_unlink_dead.
    static Result<std::uint32_t> unlink_dead(const char *directory = nullptr) noexcept
    {
        std::uint32_t removed = 0;
        shmslot_error told;
        if (shmslot_segment_unlink_dead(directory, &removed, &told) < 0) return Error(told);
        return removed;
    }

    /// Opens a writer. shmslot_writer_open; also Code::no_memory.
    Result<Writer> writer() const noexcept
    {
        auto *share = new (std::nothrow) detail::WriterShare;
        if (share == nullptr) return Code::no_memory;
        shmslot_writer *handle = nullptr;
        shmslot_error told;
        if (shmslot_writer_open(get(), &handle, &told) < 0) {
            detail::let_go(share);
            return Error(told);
        }
        share->writer.store(handle, std::memory_order_relaxed); // nobody else knows it yet
        return Writer(share);
    }

    /// Joins as a reader, and sees up to history retained samples first. shmslot_reader_join.
    Result<Reader> reader(std::uint32_t history = 0) const noexcept
    {
        return detail::made<Reader, shmslot_reader>(
            [&](shmslot_reader **ret, shmslot_error *reterr) {
                return shmslot_reader_join(get(), history, ret, reterr);
            });
    }

    /// What it is made of and how it is used. shmslot_segment_info.
    Result<Info> info() const noexcept
    {
        return detail::written<Info>(
            [&](Info *ret) { return shmslot_segment_info(get(), ret, sizeof *ret); });
    }

    /// Whether its name leads to it still, however it may have lost it. shmslot_segment_is_named.
    Result<bool> is_named() const noexcept
    {
        const int code = shmslot_segment_is_named(get());
        if (code < 0) return static_cast<Code>(code);
        return code != 0;
    }

    /// Every process that is attached, or died and has not been recovered.
    /// shmslot_segment_participants.
    Result<std::vector<Participant>> participants() const
    {
        return list<Participant>(shmslot_segment_participants);
    }

    /// What its slots are used for now; also for an observer. shmslot_segment_counters.
    Result<Counters> counters() const noexcept
    {
        return detail::written<Counters>(
            [&](Counters *ret) { return shmslot_segment_counters(get(), ret, sizeof *ret); });
    }

    /// What each reader has now; also for an observer. shmslot_segment_readers.
    Result<std::vector<ReaderCounters>> readers() const
    {
        return list<ReaderCounters>(shmslot_segment_readers);
    }

    /// The writers that have loans out now; also for an observer. shmslot_segment_writers.
    Result<std::vector<WriterCounters>> writers() const
    {
        return list<WriterCounters>(shmslot_segment_writers);
    }

    /// Who died while attached, the latest first. shmslot_segment_deaths.
    Result<std::vector<Death>> deaths() const { return list<Death>(shmslot_segment_deaths); }

    /// Cleans up after processes that died; how many they were. shmslot_segment_recover.
    Result<int> recover() const noexcept
    {
        shmslot_error told;
        const int code = shmslot_segment_recover(get(), &told);
        return detail::number(code, told);
    }

    /// Ends the membership of a reader that lives. shmslot_segment_expel.
    Result<void> expel(const ReaderCounters &reader) const noexcept
    {
        shmslot_error told;
        const int code = shmslot_segment_expel(get(), reader.index, reader.generation, &told);
        return detail::done(code, told);
    }

    /// Gives unused memory of regions back to the system; how many bytes. shmslot_segment_trim.
    Result<std::uint64_t> trim() const noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_segment_trim(get(), ret); });
    }

    /// A descriptor to be passed on, which stays the segment's. shmslot_segment_fd.
    Result<int> fd() const noexcept { return detail::number(shmslot_segment_fd(get())); }

    /// The absolute path of a named segment, "" for one without a name. shmslot_segment_path.
    Result<std::string> path() const
    {
        std::size_t len = 0;
        int code = shmslot_segment_path(get(), nullptr, 0, &len);
        if (code < 0) return static_cast<Code>(code);
        std::string path(len + 1, '\0');
        code = shmslot_segment_path(get(), path.data(), path.size(), &len);
        if (code < 0) return static_cast<Code>(code);
        path.resize(len);
        return path;
    }

    /// The number of slots. shmslot_segment_slot_count.
    Result<std::uint64_t> slot_count() const noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_segment_slot_count(get(), ret); });
    }

    /// The distance between the payloads of two slots in bytes. shmslot_segment_slot_total_size.
    Result<std::uint64_t> slot_total_size() const noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_segment_slot_total_size(get(), ret); });
    }

    /// The payload bytes of a slot. shmslot_segment_slot_capacity.
    Result<std::uint64_t> slot_capacity() const noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_segment_slot_capacity(get(), ret); });
    }

    /// A number that changes with the next commit, discard or mark. shmslot_segment_generation.
    Result<std::uint32_t> generation() const noexcept
    {
        return detail::written<std::uint32_t>(
            [&](std::uint32_t *ret) { return shmslot_segment_generation(get(), ret); });
    }

    /// What ends wait_for_change of this handle beside a change, from now on.
    /// shmslot_segment_end_waits.
    Result<void> end_waits(EndWaits when) const noexcept
    {
        return detail::done(shmslot_segment_end_waits(get(), detail::bits(when)));
    }

    /// Sleeps until the generation is no longer last; the new one. shmslot_segment_wait_for_change.
    Result<std::uint32_t> wait_for_change(std::uint32_t last, Timeout timeout) const noexcept
    {
        return detail::written<std::uint32_t>([&](std::uint32_t *ret) {
            return shmslot_segment_wait_for_change(get(), last, timeout.ns(), ret);
        });
    }

    /// Reserves a slot that no reader of the mask has unread. The ref_ calls are for middleware
    /// that tracks its readers itself: a Ref is plain data, and nothing ends by itself.
    /// shmslot_ref_reserve.
    Result<Ref> ref_reserve(std::uint64_t active_readers) const noexcept
    {
        return detail::written<Ref>(
            [&](Ref *ret) { return shmslot_ref_reserve(get(), active_readers, ret); });
    }

    /// Reserves room for up to len bytes: as ref_reserve if a slot takes them, and else a slot and
    /// a region. shmslot_ref_reserve_large.
    Result<Ref> ref_reserve_large(std::uint64_t active_readers, std::size_t len) const noexcept
    {
        Ref ref;
        shmslot_error told;
        if (shmslot_ref_reserve_large(get(), active_readers, len, &ref, &told) < 0)
            return Error(told);
        return ref;
    }

    /// A place in memory, and how many bytes there are.
    struct Room {
        std::byte *data = nullptr; ///< Where.
        std::size_t size = 0;      ///< How many.
    };
    /// A place in memory that is only read, and how many bytes there are.
    struct Bytes {
        const std::byte *data = nullptr; ///< Where.
        std::size_t size = 0;            ///< How many.
    };

    /// The payload of a reserved slot. shmslot_ref_data_ptr.
    Result<Room> ref_data_ptr(const Ref &ref) const noexcept
    {
        void *data = nullptr;
        std::size_t size = 0;
        const int code = shmslot_ref_data_ptr(get(), &ref, &data, &size);
        if (code < 0) return static_cast<Code>(code);
        return Room{static_cast<std::byte *>(data), size};
    }

    /// The user header of a reserved slot; nothing if the segment has none.
    /// shmslot_ref_data_user_header.
    Result<Room> ref_data_user_header(const Ref &ref) const noexcept
    {
        void *data = nullptr;
        std::size_t size = 0;
        const int code = shmslot_ref_data_user_header(get(), &ref, &data, &size);
        if (code < 0) return static_cast<Code>(code);
        return Room{static_cast<std::byte *>(data), size};
    }

    /// Copies len bytes into a reserved slot and publishes it; the sequence.
    /// shmslot_ref_commit_copy.
    Result<std::uint64_t> ref_commit_copy(const Ref &ref, const void *bytes,
                                          std::size_t len) const noexcept
    {
        return detail::written<std::uint64_t>([&](std::uint64_t *ret) {
            return shmslot_ref_commit_copy(get(), &ref, bytes, len, ret);
        });
    }

    /// Publishes the first len bytes of a reserved slot; the sequence. shmslot_ref_commit_in_place.
    Result<std::uint64_t> ref_commit_in_place(const Ref &ref, std::size_t len) const noexcept
    {
        return detail::written<std::uint64_t>(
            [&](std::uint64_t *ret) { return shmslot_ref_commit_in_place(get(), &ref, len, ret); });
    }

    /// Gives a reserved slot back. shmslot_ref_discard.
    Result<void> ref_discard(const Ref &ref) const noexcept
    {
        return detail::done(shmslot_ref_discard(get(), &ref));
    }

    /// The oldest sample that a reader has not marked. shmslot_ref_next_unread.
    Result<Ref> ref_next_unread(std::uint32_t reader_index) const noexcept
    {
        return detail::written<Ref>(
            [&](Ref *ret) { return shmslot_ref_next_unread(get(), reader_index, ret); });
    }

    /// The sample that is published in a slot, for whomever it is, read or not; Code::again if
    /// there is none. shmslot_ref_published.
    Result<Ref> ref_published(std::uint32_t slot) const noexcept
    {
        return detail::written<Ref>(
            [&](Ref *ret) { return shmslot_ref_published(get(), slot, ret); });
    }

    /// The payload of a published slot. shmslot_ref_read_ptr.
    Result<Bytes> ref_read_ptr(const Ref &ref) const noexcept
    {
        const void *data = nullptr;
        std::size_t size = 0;
        const int code = shmslot_ref_read_ptr(get(), &ref, &data, &size);
        if (code < 0) return static_cast<Code>(code);
        return Bytes{static_cast<const std::byte *>(data), size};
    }

    /// The user header of a published slot; nothing if the segment has none.
    /// shmslot_ref_read_user_header.
    Result<Bytes> ref_read_user_header(const Ref &ref) const noexcept
    {
        const void *data = nullptr;
        std::size_t size = 0;
        const int code = shmslot_ref_read_user_header(get(), &ref, &data, &size);
        if (code < 0) return static_cast<Code>(code);
        return Bytes{static_cast<const std::byte *>(data), size};
    }

    /// What is known of a published slot. shmslot_ref_read_header.
    Result<RefHeader> ref_read_header(const Ref &ref) const noexcept
    {
        return detail::written<RefHeader>(
            [&](RefHeader *ret) { return shmslot_ref_read_header(get(), &ref, ret); });
    }

    /// Copies a published slot into a buffer; what is known of it, its length included.
    /// shmslot_ref_read_copy.
    Result<RefHeader> ref_read_copy(const Ref &ref, void *buffer, std::size_t size) const noexcept
    {
        return detail::written<RefHeader>([&](RefHeader *ret) {
            return shmslot_ref_read_copy(get(), &ref, ret, buffer, size, nullptr);
        });
    }

    /// Marks a published slot as read by one reader. shmslot_ref_mark_read.
    Result<void> ref_mark_read(const Ref &ref, std::uint32_t reader_index) const noexcept
    {
        return detail::done(shmslot_ref_mark_read(get(), &ref, reader_index));
    }

    /// Marks everything as read by one reader, which is gone. shmslot_ref_mark_reader_disconnected.
    Result<void> ref_mark_reader_disconnected(std::uint32_t reader_index) const noexcept
    {
        return detail::done(shmslot_ref_mark_reader_disconnected(get(), reader_index));
    }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_segment *get() const noexcept { return handle_.get(); }

private:
    friend class Channel;
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Segment(detail::Owner<shmslot_segment> handle) noexcept : handle_(std::move(handle)) {}

    template <class T, class Call>
    Result<std::vector<T>> list(Call call) const
    {
        std::vector<T> found;
        for (std::size_t count = 0;; found.resize(count)) { // more may have come meanwhile
            const int code = call(get(), found.data(), sizeof(T), found.size(), &count);
            if (code < 0) return static_cast<Code>(code);
            if (count <= found.size()) {
                found.resize(count);
                return found;
            }
        }
    }

    template <class AnyOptions, class Call>
    static Result<Segment> from(const AnyOptions &options, Call call) noexcept
    {
        const auto c = detail::c_options(options);
        return detail::made<Segment, shmslot_segment>(
            [&](shmslot_segment **ret, shmslot_error *reterr) { return call(&c, ret, reterr); });
    }

    detail::Owner<shmslot_segment> handle_{};
};

// ---- wait sets ----

/// How the descriptor of a set behaves.
enum class Readable : std::uint32_t {
    level = 0,              ///< As long as something is to be told.
    edge = SHMSLOT_SET_EDGE ///< Only when something new happens: wait until there is nothing.
};

/// What a set tells of.
enum class What : std::uint32_t {
    data = SHMSLOT_EVENT_DATA,      ///< Read until there is nothing.
    space = SHMSLOT_EVENT_SPACE,    ///< Reserve with no_wait until there is nothing.
    change = SHMSLOT_EVENT_CHANGE,  ///< A segment has changed.
    trigger = SHMSLOT_EVENT_TRIGGER ///< A trigger was fired.
};

/// What an event tells.
inline What what(const shmslot_event &event) noexcept { return static_cast<What>(event.what); }

/// Makes a set tell something, from any thread or signal handler. Set::trigger makes it; destruction
/// closes it, before or after the set.
class Trigger {
public:
    /// None; its calls answer Code::invalid.
    Trigger() noexcept = default;
    /// Makes the set tell of it, once. shmslot_trigger_fire.
    Result<void> fire() const noexcept { return detail::done(shmslot_trigger_fire(get())); }
    /// The C handle.
    [[nodiscard]] shmslot_trigger *get() const noexcept { return handle_.get(); }

private:
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Trigger(detail::Owner<shmslot_trigger> handle) noexcept : handle_(std::move(handle)) {}

    detail::Owner<shmslot_trigger> handle_{};
};

/// Readers, writers, segments and triggers behind one descriptor. Threads: one at a time, for the set
/// and its members. Destruction closes it and lets the members go.
class Set {
public:
    /// None; its calls answer Code::invalid.
    Set() noexcept = default;

    /// Makes a set without members. shmslot_set_create.
    static Result<Set> create(Readable readable = Readable::level) noexcept
    {
        return detail::made<Set, shmslot_set>([&](shmslot_set **ret, shmslot_error *reterr) {
            return shmslot_set_create(static_cast<std::uint32_t>(readable), ret, reterr);
        });
    }

    /// Adds a reader under a number of its own. shmslot_set_add_reader.
    Result<void> add(const Reader &reader, std::uint64_t cookie) noexcept
    {
        shmslot_error told;
        return detail::done(shmslot_set_add_reader(get(), reader.get(), cookie, &told), told);
    }
    /// Adds a writer. shmslot_set_add_writer.
    Result<void> add(const Writer &writer, std::uint64_t cookie) noexcept
    {
        shmslot_error told;
        return detail::done(shmslot_set_add_writer(get(), writer.get(), cookie, &told), told);
    }
    /// Adds a segment. shmslot_set_add_segment.
    Result<void> add(const Segment &segment, std::uint64_t cookie) noexcept
    {
        shmslot_error told;
        return detail::done(shmslot_set_add_segment(get(), segment.get(), cookie, &told), told);
    }
    /// Adds a trigger. shmslot_set_add_trigger.
    Result<Trigger> trigger(std::uint64_t cookie) noexcept
    {
        return detail::made<Trigger, shmslot_trigger>(
            [&](shmslot_trigger **ret, shmslot_error *reterr) {
                return shmslot_set_add_trigger(get(), cookie, ret, reterr);
            });
    }
    /// Removes what has this number. shmslot_set_remove.
    Result<void> remove(std::uint64_t cookie) noexcept
    {
        return detail::done(shmslot_set_remove(get(), cookie));
    }

    /// The descriptor for event loops. It belongs to the set. shmslot_set_fd.
    Result<int> fd() const noexcept { return detail::number(shmslot_set_fd(get())); }
    /// Tells what may have happened: how many events were written, 0 if the time is over.
    /// shmslot_set_wait.
    Result<int> wait(Timeout timeout, shmslot_event *events, std::size_t most) noexcept
    {
        return detail::number(shmslot_set_wait(get(), timeout.ns(), events, most));
    }
    /// Ends one wait. Threads: any. shmslot_set_interrupt.
    Result<void> interrupt() noexcept { return detail::done(shmslot_set_interrupt(get())); }
    /// The C handle.
    [[nodiscard]] shmslot_set *get() const noexcept { return handle_.get(); }

private:
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Set(detail::Owner<shmslot_set> handle) noexcept : handle_(std::move(handle)) {}

    detail::Owner<shmslot_set> handle_{};
};

// ---- channels and regions ----

/// A connection that carries descriptors of regions and segments. Destruction closes it; registries
/// and attachments that use it keep the connection. Threads: any.
class Channel {
public:
    /// None; its calls answer Code::invalid.
    Channel() noexcept = default;

    /// Makes two ends of a connection. shmslot_channel_pair.
    static Result<std::pair<Channel, Channel>> pair(ChannelOptions options = {}) noexcept
    {
        shmslot_channel *one = nullptr;
        shmslot_channel *other = nullptr;
        shmslot_error told;
        if (shmslot_channel_pair(detail::c_flags(options), &one, &other, &told) < 0)
            return Error(told);
        return std::pair(Channel(detail::Owner<shmslot_channel>(one)),
                         Channel(detail::Owner<shmslot_channel>(other)));
    }

    /// Connects to a listener. shmslot_channel_connect.
    static Result<Channel> connect(const char *name, Timeout timeout,
                                   ChannelOptions options = {}) noexcept
    {
        return detail::made<Channel, shmslot_channel>(
            [&](shmslot_channel **ret, shmslot_error *reterr) {
                return shmslot_channel_connect(name, detail::c_flags(options), timeout.ns(), ret,
                                               reterr);
            });
    }

    /// Makes a channel of a connected unix socket; the descriptor stays the caller's.
    /// shmslot_channel_from_fd.
    static Result<Channel> from_fd(int fd, ChannelOptions options = {}) noexcept
    {
        return detail::made<Channel, shmslot_channel>(
            [&](shmslot_channel **ret, shmslot_error *reterr) {
                return shmslot_channel_from_fd(fd, detail::c_flags(options), ret, reterr);
            });
    }

    /// The descriptor, to be polled for input and not to be read. It stays the channel's.
    /// shmslot_channel_fd.
    Result<int> fd() const noexcept { return detail::number(shmslot_channel_fd(get())); }

    /// Sends the descriptor of an anonymous segment. shmslot_channel_send_segment.
    Result<void> send_segment(const Segment &segment, Timeout timeout) noexcept
    {
        shmslot_error told;
        const int code = shmslot_channel_send_segment(get(), segment.get(), timeout.ns(), &told);
        return detail::done(code, told);
    }

    /// Attaches to the next segment that the other end has sent. shmslot_channel_recv_segment.
    Result<Segment> recv_segment(Timeout timeout, const AttachOptions &options = {}) noexcept
    {
        return Segment::from(options, [&](const shmslot_attach_options *c, shmslot_segment **ret,
                                          shmslot_error *reterr) {
            return shmslot_channel_recv_segment(get(), c, timeout.ns(), ret, reterr);
        });
    }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_channel *get() const noexcept { return handle_.get(); }

private:
    friend class Listener;
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Channel(detail::Owner<shmslot_channel> handle) noexcept : handle_(std::move(handle)) {}

    detail::Owner<shmslot_channel> handle_{};
};

/// Waits for connections at a name. Destruction closes it and removes its socket file. Threads:
/// any.
class Listener {
public:
    /// None; its calls answer Code::invalid.
    Listener() noexcept = default;

    /// Listens at an absolute path, or at '@' and an abstract name. shmslot_channel_listen.
    static Result<Listener> listen(const char *name, ChannelOptions options = {}) noexcept
    {
        return detail::made<Listener, shmslot_channel>(
            [&](shmslot_channel **ret, shmslot_error *reterr) {
                return shmslot_channel_listen(name, detail::c_flags(options), ret, reterr);
            });
    }

    /// The next connection. shmslot_channel_accept.
    Result<Channel> accept(Timeout timeout) noexcept
    {
        return detail::made<Channel, shmslot_channel>(
            [&](shmslot_channel **ret, shmslot_error *reterr) {
                return shmslot_channel_accept(get(), timeout.ns(), ret, reterr);
            });
    }

    /// The descriptor, to be polled for input. It stays the listener's. shmslot_channel_fd.
    Result<int> fd() const noexcept { return detail::number(shmslot_channel_fd(get())); }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_channel *get() const noexcept { return handle_.get(); }

private:
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Listener(detail::Owner<shmslot_channel> handle) noexcept : handle_(std::move(handle))
    {
    }

    detail::Owner<shmslot_channel> handle_{};
};

/// Memory on lease in a region: a range of writable bytes. Destruction releases it; it may outlive
/// its Registry. Threads: one at a time; ending it: any.
class Lease {
public:
    /// None.
    Lease() noexcept = default;
    /// For this header: to be written by a call.
    explicit Lease(detail::Unwritten tag) noexcept : owned_(tag) {}

    /// The memory, aligned as the registry says; null if there is none any more.
    [[nodiscard]] std::byte *data() noexcept
    {
        return owned_.handle() != nullptr ? static_cast<std::byte *>(owned_->data) : nullptr;
    }
    /// The bytes that were asked for.
    [[nodiscard]] std::size_t size() const noexcept
    {
        return owned_.handle() != nullptr ? owned_->len : 0;
    }
    /// The first byte.
    [[nodiscard]] std::byte *begin() noexcept { return data(); }
    /// Behind the last byte.
    [[nodiscard]] std::byte *end() noexcept { return data() + size(); }
    /// The whole region that contains the memory; only the memory belongs to the lease.
    [[nodiscard]] std::byte *region() noexcept
    {
        return owned_.handle() != nullptr ? static_cast<std::byte *>(owned_->region) : nullptr;
    }
    /// Bytes of the region.
    [[nodiscard]] std::size_t region_size() const noexcept
    {
        return owned_.handle() != nullptr ? owned_->region_len : 0;
    }
    /// The reference to send to the receiver.
    [[nodiscard]] RegionRef ref() const noexcept
    {
        return {owned_->map_id, owned_->generation, owned_->offset, owned_->len};
    }
    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return owned_.handle() != nullptr; }

    /// One more owner of this lease, which ends with the last of them, for example one for each
    /// receiver. shmslot_region_retain.
    Result<Lease> retain() const noexcept
    {
        const int code = shmslot_region_retain(owned_.handle(), &*owned_);
        if (code < 0) return static_cast<Code>(code);
        Result<Lease> result(std::in_place);
        *result->owned_.blank() = *owned_;
        result->owned_.own(owned_.handle());
        return result;
    }

    /// Releases it; empty afterwards. shmslot_region_release.
    Result<void> release() noexcept { return owned_.end(); }

private:
    friend class Registry;

    detail::Owned<shmslot_lease, shmslot_registry, shmslot_region_release> owned_{};
};

/// Leases memory in mapped regions, for payloads outside the slots; docs/regions.md has the rules.
/// Destruction closes it; leases remain. Threads: any.
class Registry {
public:
    /// None; its calls answer Code::invalid.
    Registry() noexcept = default;

    /// Makes a registry. shmslot_registry_create.
    static Result<Registry> create(const RegistryOptions &options = {}) noexcept
    {
        shmslot_registry_options c = SHMSLOT_REGISTRY_OPTIONS_INIT;
        c.align = options.align;
        c.region_size = options.region_size;
        c.max_idle = options.max_idle;
        c.max_bytes = options.max_bytes;
        c.flags = options.foreign_receivers ? SHMSLOT_FLAG_FOREIGN_RECEIVERS : 0;
        return detail::made<Registry, shmslot_registry>(
            [&](shmslot_registry **ret, shmslot_error *reterr) {
                return shmslot_registry_create(&c, ret, reterr);
            });
    }

    /// Announces regions on this channel from now on. shmslot_registry_add.
    Result<void> add(Channel &channel, Timeout timeout) noexcept
    {
        shmslot_error told;
        const int code = shmslot_registry_add(get(), channel.get(), timeout.ns(), &told);
        return detail::done(code, told);
    }

    /// Stops announcing regions on this channel. shmslot_registry_remove.
    Result<void> remove(Channel &channel) noexcept
    {
        return detail::done(shmslot_registry_remove(get(), channel.get()));
    }

    /// Unmaps all regions without leases now; returns how many. shmslot_registry_reclaim.
    Result<int> reclaim() noexcept { return detail::number(shmslot_registry_reclaim(get())); }

    /// Its state at this moment. shmslot_registry_info.
    Result<PoolInfo> info() const noexcept
    {
        return detail::written<PoolInfo>(
            [&](PoolInfo *ret) { return shmslot_registry_info(get(), ret, sizeof *ret); });
    }

    /// Leases memory for len bytes. removed_channels, if not null, receives on success how many
    /// channels were removed because their other ends are gone. shmslot_region_alloc.
    Result<Lease> alloc(std::size_t len, Timeout timeout, int *removed_channels = nullptr) noexcept
    {
        Result<Lease> result(std::in_place);
        shmslot_error told;
        const int removed =
            shmslot_region_alloc(get(), len, timeout.ns(), result->owned_.blank(), &told);
        if (removed < 0) {
            result = Error(told);
            return result;
        }
        if (removed_channels != nullptr) *removed_channels = removed;
        result->owned_.own(get());
        return result;
    }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_registry *get() const noexcept { return handle_.get(); }

private:
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Registry(detail::Owner<shmslot_registry> handle) noexcept : handle_(std::move(handle))
    {
    }

    detail::Owner<shmslot_registry> handle_{};
};

/// Bytes of a sender's region, mapped here: a range of bytes. They may change once the sender's
/// lease ends. Destruction releases them; they may outlive their Attachments. Threads: one at a
/// time; ending them: any.
class Mapped {
public:
    /// None.
    Mapped() noexcept = default;
    /// For this header: to be written by a call.
    explicit Mapped(detail::Unwritten tag) noexcept : owned_(tag) {}

    /// Where they are; null if there are none any more.
    [[nodiscard]] const std::byte *data() const noexcept
    {
        return owned_.handle() != nullptr ? static_cast<const std::byte *>(owned_->data) : nullptr;
    }
    /// How many.
    [[nodiscard]] std::size_t size() const noexcept
    {
        return owned_.handle() != nullptr ? owned_->len : 0;
    }
    /// The first byte.
    [[nodiscard]] const std::byte *begin() const noexcept { return data(); }
    /// Behind the last byte.
    [[nodiscard]] const std::byte *end() const noexcept { return data() + size(); }
    /// The whole region that contains them.
    [[nodiscard]] const std::byte *region() const noexcept
    {
        return owned_.handle() != nullptr ? static_cast<const std::byte *>(owned_->region)
                                          : nullptr;
    }
    /// Bytes of the region.
    [[nodiscard]] std::size_t region_size() const noexcept
    {
        return owned_.handle() != nullptr ? owned_->region_len : 0;
    }
    /// Whether there are any.
    [[nodiscard]] explicit operator bool() const noexcept { return owned_.handle() != nullptr; }

    /// Releases them; empty afterwards. shmslot_attachments_release.
    Result<void> release() noexcept { return owned_.end(); }

private:
    friend class Attachments;

    detail::Owned<shmslot_mapped, shmslot_attachments, shmslot_attachments_release> owned_{};
};

/// Regions of one sender that are mapped here for reading. Destruction closes it; resolved bytes
/// stay mapped. Threads: any.
class Attachments {
public:
    /// None; its calls answer Code::invalid.
    Attachments() noexcept = default;

    /// Attachments of what comes over a channel. shmslot_attachments_create.
    static Result<Attachments> create(Channel &channel) noexcept
    {
        if (!channel) return Code::invalid; // to C it would mean "without a channel"
        return create(channel.get(), 0);
    }

    /// Attachments without a channel, for attach_fd. Of the options only unsealed is used.
    static Result<Attachments> create(ChannelOptions options = {}) noexcept
    {
        return create(nullptr, detail::c_flags(options));
    }

    /// Maps every region that has arrived; returns how many. Never waits.
    /// shmslot_attachments_drain.
    Result<int> drain() noexcept
    {
        shmslot_error told;
        const int code = shmslot_attachments_drain(get(), &told);
        return detail::number(code, told);
    }

    /// Resolves a reference. Never waits. shmslot_attachments_resolve.
    Result<Mapped> resolve(const RegionRef &ref) noexcept
    {
        return mapped([&](shmslot_mapped *ret, shmslot_error *reterr) {
            return shmslot_attachments_resolve(get(), ref.map_id, ref.generation, ref.offset,
                                               ref.len, ret, reterr);
        });
    }

    /// Resolves a reference, and sleeps until the region is known.
    /// shmslot_attachments_resolve_wait.
    Result<Mapped> resolve_wait(const RegionRef &ref, Timeout timeout) noexcept
    {
        return mapped([&](shmslot_mapped *ret, shmslot_error *reterr) {
            return shmslot_attachments_resolve_wait(get(), ref.map_id, ref.generation, ref.offset,
                                                    ref.len, timeout.ns(), ret, reterr);
        });
    }

    /// Maps a region whose descriptor arrived by other means; the caller keeps the descriptor.
    /// shmslot_attachments_attach_fd.
    Result<void> attach_fd(std::uint32_t map_id, std::uint32_t generation, std::uint64_t length,
                           int fd) noexcept
    {
        shmslot_error told;
        const int code =
            shmslot_attachments_attach_fd(get(), map_id, generation, length, fd, &told);
        return detail::done(code, told);
    }

    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// The C handle, which stays this object's; null if there is none.
    [[nodiscard]] shmslot_attachments *get() const noexcept { return handle_.get(); }

private:
    template <class T, class Handle, class Call>
    friend Result<T> detail::made(Call call) noexcept;
    explicit Attachments(detail::Owner<shmslot_attachments> handle) noexcept
        : handle_(std::move(handle))
    {
    }

    static Result<Attachments> create(shmslot_channel *channel, std::uint32_t flags) noexcept
    {
        return detail::made<Attachments, shmslot_attachments>(
            [&](shmslot_attachments **ret, shmslot_error *reterr) {
                return shmslot_attachments_create(channel, flags, ret, reterr);
            });
    }

    template <class Call>
    Result<Mapped> mapped(Call call) noexcept
    {
        Result<Mapped> result(std::in_place);
        shmslot_error told;
        if (call(result->owned_.blank(), &told) < 0) {
            result = Error(told);
            return result;
        }
        result->owned_.own(get());
        return result;
    }

    detail::Owner<shmslot_attachments> handle_{};
};

// ---- typed ----

namespace detail {

/// Begins the life of the user header's object, as `H header;` does.
template <class H>
void begin_header(Loan &loan) noexcept
{
    if constexpr (!std::is_void_v<H>) {
        static_assert(std::is_nothrow_default_constructible_v<H>, "a header that throws");
        ::new (static_cast<void *>(loan.user_header())) H;
    }
}

/// What every typed loan has.
template <class H>
class LoanBase {
public:
    /// The user header, which was made as `H header;` makes it.
    template <class Header = H>
    [[nodiscard]] Header &user_header() noexcept
    {
        return *object<Header>(loan_.user_header());
    }
    /// Whether it can still be committed.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(loan_); }
    /// Gives the slot back without publishing it.
    Result<void> discard() noexcept { return loan_.discard(); }
    /// The bytes, and the user header.
    [[nodiscard]] Loan &untyped() noexcept { return loan_; }

protected:
    LoanBase() noexcept = default;
    explicit LoanBase(Unwritten tag) noexcept : loan_(tag) {}

    Loan loan_{};
};

/// What every typed sample has.
template <class H>
class SampleBase {
public:
    /// The user header.
    template <class Header = H>
    [[nodiscard]] const Header &user_header() const noexcept
    {
        return *object<const Header>(sample_.user_header());
    }
    /// Whether it is held.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(sample_); }
    /// Releases it.
    Result<void> mark() noexcept { return sample_.mark(); }
    /// Its place in the order of all samples of the segment; the first is 1.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return sample_.sequence(); }
    /// The untyped sample, with all its other calls.
    [[nodiscard]] Sample &untyped() noexcept { return sample_; }

protected:
    SampleBase() noexcept = default;
    explicit SampleBase(Unwritten tag) noexcept : sample_(tag) {}

    Sample sample_{};
};

/// Whether a sample of len bytes is a T; an array has any number of items.
template <class T>
[[nodiscard]] constexpr bool fits(std::size_t len) noexcept
{
    if constexpr (std::is_array_v<T>) {
        return len % sizeof(std::remove_extent_t<T>) == 0;
    } else {
        return len == sizeof(T);
    }
}

} // namespace detail

/// A Loan that is an object of type T, with a user header of type H unless that is void. Ends as a
/// Loan does.
template <class T, class H = void>
class TypedLoan : public detail::LoanBase<H> {
    using Base = detail::LoanBase<H>;
    using Base::loan_;

public:
    /// None.
    TypedLoan() noexcept = default;
    /// For this header: to be written by a call.
    explicit TypedLoan(detail::Unwritten tag) noexcept : Base(tag) {}

    /// The object; null if there is none any more.
    [[nodiscard]] T *get() noexcept { return detail::object<T>(loan_.data()); }
    /// The object.
    [[nodiscard]] T &operator*() noexcept { return *get(); }
    /// The object.
    [[nodiscard]] T *operator->() noexcept { return get(); }

    /// Publishes the object; returns the sequence of the sample. See Loan::commit.
    Result<std::uint64_t> commit() noexcept { return loan_.commit(sizeof(T)); }
};

/// A Loan that is an array of T, of as many items as were reserved.
template <class T, class H>
class TypedLoan<T[], H> : public detail::LoanBase<H> {
    using Base = detail::LoanBase<H>;
    using Base::loan_;

public:
    /// None.
    TypedLoan() noexcept = default;
    /// For this header: to be written by a call.
    explicit TypedLoan(detail::Unwritten tag) noexcept : Base(tag) {}

    /// The items; null if there are none any more.
    [[nodiscard]] T *data() noexcept { return detail::object<T>(loan_.data()); }
    /// How many.
    [[nodiscard]] std::size_t size() const noexcept { return loan_.size() / sizeof(T); }
    /// The first item.
    [[nodiscard]] T *begin() noexcept { return data(); }
    /// Behind the last item.
    [[nodiscard]] T *end() noexcept { return data() + size(); }
    /// An item; at is less than size().
    [[nodiscard]] T &operator[](std::size_t at) noexcept { return data()[at]; }

    /// Publishes all items; returns the sequence of the sample. See Loan::commit.
    Result<std::uint64_t> commit() noexcept { return loan_.commit(size() * sizeof(T)); }
    /// Publishes the first count items; more than were reserved are Code::bad_length.
    Result<std::uint64_t> commit(std::size_t count) noexcept
    {
        if (loan_ && count > size()) return Code::bad_length;
        return loan_.commit(loan_ ? count * sizeof(T) : 0);
    }
};

/// A Writer of objects of type T, which are made in place, with user headers of type H unless that
/// is void. Threads: as Writer. TypedSegment::writer makes it.
template <class T, class H = void>
class TypedWriter {
public:
    /// None; its calls answer Code::invalid.
    TypedWriter() noexcept = default;

    /// Reserves a slot and constructs an object in it from these arguments; without arguments as
    /// `T object;` does, which leaves members without an initialiser as they are in the slot.
    template <class... Arguments>
    Result<TypedLoan<T, H>> reserve(Timeout timeout, Arguments &&...arguments) noexcept
    {
        static_assert(std::is_nothrow_constructible_v<T, Arguments...>,
                      "T cannot be made of these without throwing");
        return detail::filled<TypedLoan<T, H>>([&](TypedLoan<T, H> &typed) {
            const Code code = writer_.fill(typed.untyped(), sizeof(T), timeout);
            if (code != Code::ok) return code;
            detail::begin_header<H>(typed.untyped());
            if constexpr (sizeof...(arguments) == 0) {
                ::new (static_cast<void *>(typed.untyped().data())) T;
            } else {
                ::new (static_cast<void *>(typed.untyped().data()))
                    T(std::forward<Arguments>(arguments)...);
            }
            return code;
        });
    }

    /// Reserves, copies and commits; returns the sequence. For samples without a user header.
    template <class Header = H>
    Result<std::uint64_t> write(const T &object, Timeout timeout) noexcept
    {
        static_assert(std::is_void_v<Header>, "reserve, fill object and header, and commit");
        return writer_.write(std::addressof(object), sizeof(T), timeout);
    }

    /// Everything else that a writer can do.
    [[nodiscard]] Writer &untyped() noexcept { return writer_; }
    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(writer_); }

private:
    template <class, class>
    friend class TypedSegment;
    explicit TypedWriter(Writer writer) noexcept : writer_(std::move(writer)) {}

    Writer writer_{};
};

/// A Writer of arrays of T. Threads: as Writer. TypedSegment::writer makes it.
template <class T, class H>
class TypedWriter<T[], H> {
public:
    /// None; its calls answer Code::invalid.
    TypedWriter() noexcept = default;

    /// Reserves room for count items, and makes each as `T item;` does, which leaves members
    /// without an initialiser as they are in the slot. Code::too_large if they do not fit.
    Result<TypedLoan<T[], H>> reserve(std::size_t count, Timeout timeout) noexcept
    {
        static_assert(std::is_nothrow_default_constructible_v<T>, "an item that throws");
        if (count > static_cast<std::size_t>(-1) / sizeof(T)) return Code::too_large;
        return detail::filled<TypedLoan<T[], H>>([&](TypedLoan<T[], H> &typed) {
            const Code code = writer_.fill(typed.untyped(), count * sizeof(T), timeout);
            if (code != Code::ok) return code;
            detail::begin_header<H>(typed.untyped());
            for (std::size_t at = 0; at < count; ++at) {
                ::new (static_cast<void *>(typed.untyped().data() + at * sizeof(T))) T;
            }
            return code;
        });
    }

    /// Reserves, copies count items and commits; returns the sequence. For samples without a user
    /// header.
    template <class Header = H>
    Result<std::uint64_t> write(const T *items, std::size_t count, Timeout timeout) noexcept
    {
        static_assert(std::is_void_v<Header>, "reserve, fill items and header, and commit");
        if (count > static_cast<std::size_t>(-1) / sizeof(T)) return Code::too_large;
        return writer_.write(static_cast<const void *>(items), count * sizeof(T), timeout);
    }

    /// Everything else that a writer can do.
    [[nodiscard]] Writer &untyped() noexcept { return writer_; }
    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(writer_); }

private:
    template <class, class>
    friend class TypedSegment;
    explicit TypedWriter(Writer writer) noexcept : writer_(std::move(writer)) {}

    Writer writer_{};
};

/// A Sample that is an object of type T, with a user header of type H unless that is void. Ends as
/// a Sample does.
template <class T, class H = void>
class TypedSample : public detail::SampleBase<H> {
    using Base = detail::SampleBase<H>;
    using Base::sample_;

public:
    /// None.
    TypedSample() noexcept = default;
    /// For this header: to be written by a call.
    explicit TypedSample(detail::Unwritten tag) noexcept : Base(tag) {}

    /// The object; null if there is none any more.
    [[nodiscard]] const T *get() const noexcept { return detail::object<const T>(sample_.data()); }
    /// The object.
    [[nodiscard]] const T &operator*() const noexcept { return *get(); }
    /// The object.
    [[nodiscard]] const T *operator->() const noexcept { return get(); }
};

/// A Sample that is an array of T.
template <class T, class H>
class TypedSample<T[], H> : public detail::SampleBase<H> {
    using Base = detail::SampleBase<H>;
    using Base::sample_;

public:
    /// None.
    TypedSample() noexcept = default;
    /// For this header: to be written by a call.
    explicit TypedSample(detail::Unwritten tag) noexcept : Base(tag) {}

    /// The items; null if there are none any more.
    [[nodiscard]] const T *data() const noexcept { return detail::object<const T>(sample_.data()); }
    /// How many.
    [[nodiscard]] std::size_t size() const noexcept { return sample_.size() / sizeof(T); }
    /// The first item.
    [[nodiscard]] const T *begin() const noexcept { return data(); }
    /// Behind the last item.
    [[nodiscard]] const T *end() const noexcept { return data() + size(); }
    /// An item; at is less than size().
    [[nodiscard]] const T &operator[](std::size_t at) const noexcept { return data()[at]; }
};

/// A Reader of objects of type T, or of arrays if that is an array type. Threads: as Reader.
/// TypedSegment::reader makes it.
template <class T, class H = void>
class TypedReader {
public:
    /// None; its calls answer Code::invalid.
    TypedReader() noexcept = default;

    /// Takes the next object; Code::again if there is none yet. A sample whose length is not that
    /// of a T, or of whole items, which only an untyped writer can have made, is marked, and the
    /// call returns Code::type_mismatch.
    Result<TypedSample<T, H>> read() noexcept
    {
        return detail::filled<TypedSample<T, H>>(
            [&](TypedSample<T, H> &typed) { return fill(typed); });
    }
    /// Takes the newest object, and does not move the reader. See Reader::peek_latest.
    Result<TypedSample<T, H>> peek_latest() noexcept
    {
        return detail::filled<TypedSample<T, H>>([&](TypedSample<T, H> &typed) {
            return checked(typed, reader_.fill_latest(typed.untyped()));
        });
    }

    /// The available objects, for a loop that must know why it ended.
    [[nodiscard]] Available<TypedReader, TypedSample<T, H>> available() noexcept
    {
        return Available<TypedReader, TypedSample<T, H>>(*this);
    }
    /// The first available object: `for (auto &&object : reader)`. Ends at any failure; see
    /// available().
    [[nodiscard]] typename Available<TypedReader, TypedSample<T, H>>::Iterator begin() noexcept
    {
        return {this, nullptr};
    }
    /// Behind the last one.
    [[nodiscard]] typename Available<TypedReader, TypedSample<T, H>>::End end() const noexcept
    {
        return {};
    }

    /// Waits until there is an object.
    Result<void> wait(Timeout timeout) noexcept { return reader_.wait(timeout); }
    /// Everything else that a reader can do.
    [[nodiscard]] Reader &untyped() noexcept { return reader_; }
    /// The C handle, for wait_any.
    [[nodiscard]] shmslot_reader *get() const noexcept { return reader_.get(); }
    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(reader_); }

private:
    template <class, class>
    friend class TypedSegment;
    explicit TypedReader(Reader reader) noexcept : reader_(std::move(reader)) {}

    template <class, class>
    friend class Available;

    // Reads into an empty sample.
    Code fill(TypedSample<T, H> &typed) noexcept
    {
        return checked(typed, reader_.fill(typed.untyped()));
    }

    // Releases a sample that is no T.
    static Code checked(TypedSample<T, H> &typed, Code code) noexcept
    {
        if (code != Code::ok || detail::fits<T>(typed.untyped().size())) return code;
        typed = TypedSample<T, H>();
        return Code::type_mismatch;
    }

    Reader reader_{};
};

/// A segment of objects of type T, which is trivially copyable and has a TypeName. If T is an array
/// type, as float[], each sample is an array of any number of items, which a slot, or max_payload,
/// must have room for. H is the type of the user headers, if not void. A program that attaches with
/// another name or size gets Code::type_mismatch, in every language. Threads: any.
template <class T, class H = void>
class TypedSegment {
    using Item = std::remove_extent_t<T>;
    // A void header is replaced by a type that passes all checks.
    using Header = std::conditional_t<std::is_void_v<H>, char, H>;
    static constexpr std::uint32_t header_size =
        std::is_void_v<H> ? 0 : static_cast<std::uint32_t>(sizeof(Header));
    static_assert(std::is_trivially_copyable_v<Header> &&
                      std::is_same_v<Header, std::remove_cv_t<Header>>,
                  "what has pointers or owners in it means nothing in another process");
    static_assert(sizeof(Header) <= 256 && alignof(Header) <= 64,
                  "user headers have 256 bytes, aligned to 64");
    static_assert(!std::is_array_v<T> || std::extent_v<T> == 0,
                  "T[N] is a struct with such a member");
    static_assert(std::is_trivially_copyable_v<Item>,
                  "what has pointers or owners in it means nothing in another process");
    static_assert(std::is_same_v<Item, std::remove_cv_t<Item>>,
                  "a sample is written by one side and read by the other");
    static_assert(alignof(Item) <= 4096, "payloads are aligned to 4096 bytes at most");
    static_assert(!std::string_view(type_name_of<T>).empty() &&
                      std::string_view(type_name_of<Item>).size() <= (std::is_array_v<T> ? 61 : 63),
                  "a type name has 1 to 63 bytes");

public:
    /// None; its calls answer Code::invalid.
    TypedSegment() noexcept = default;

    /// Makes a segment under a name. The type's identity is set here, and room for it if the
    /// options do not.
    static Result<TypedSegment> create(const char *name, const Options &options = {}) noexcept
    {
        return make(options, [name](const Options &typed) { return Segment::create(name, typed); });
    }
    /// Makes a segment without a name.
    static Result<TypedSegment> create_anonymous(const Options &options = {}) noexcept
    {
        return make(options, [](const Options &typed) { return Segment::create_anonymous(typed); });
    }
    /// Makes a segment in private memory of this process.
    static Result<TypedSegment> create_local(const Options &options = {}) noexcept
    {
        return make(options, [](const Options &typed) { return Segment::create_local(typed); });
    }
    /// Attaches to the segment with this name.
    static Result<TypedSegment> attach(const char *name, const AttachOptions &options = {}) noexcept
    {
        return of(Segment::attach(name, typed(options)));
    }
    /// As attach, but waits for the name to appear.
    static Result<TypedSegment> attach_wait(const char *name, Timeout timeout,
                                            const AttachOptions &options = {}) noexcept
    {
        return of(Segment::attach_wait(name, timeout, typed(options)));
    }
    /// Attaches to the segment behind a descriptor, which the caller keeps.
    static Result<TypedSegment> attach_fd(int fd, const AttachOptions &options = {}) noexcept
    {
        return of(Segment::attach_fd(fd, typed(options)));
    }
    /// Attaches to the next segment that the other end of a channel has sent.
    static Result<TypedSegment> receive(Channel &channel, Timeout timeout,
                                        const AttachOptions &options = {}) noexcept
    {
        return of(channel.recv_segment(timeout, typed(options)));
    }
    /// Attaches to the segment of this name, or creates it; see Segment::open.
    static Result<TypedSegment> open(const char *name, const Options &options = {},
                                     bool *ret_created = nullptr) noexcept
    {
        return make(options,
                    [=](const Options &typed) { return Segment::open(name, typed, ret_created); });
    }

    /// Opens a writer.
    Result<TypedWriter<T, H>> writer() const noexcept
    {
        auto writer = segment_.writer();
        if (!writer) return writer.error();
        return TypedWriter<T, H>(*std::move(writer));
    }
    /// Joins as a reader, and sees up to history retained objects first.
    Result<TypedReader<T, H>> reader(std::uint32_t history = 0) const noexcept
    {
        auto reader = segment_.reader(history);
        if (!reader) return reader.error();
        return TypedReader<T, H>(*std::move(reader));
    }

    /// Everything else that a segment can do.
    [[nodiscard]] Segment &untyped() noexcept { return segment_; }
    /// The untyped segment, with all its other calls.
    [[nodiscard]] const Segment &untyped() const noexcept { return segment_; }
    /// Whether there is one.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(segment_); }

private:
    explicit TypedSegment(Segment segment) noexcept : segment_(std::move(segment)) {}

    static Options typed(Options options) noexcept
    {
        if (options.slot_capacity == 0 && !std::is_array_v<T>) options.slot_capacity = sizeof(Item);
        if (options.user_header_size == 0) options.user_header_size = header_size;
        if (options.payload_align < alignof(Item) && alignof(Item) > 64)
            options.payload_align = alignof(Item);
        options.type_hash = type_hash_of<T>;
        options.type_name = type_name_of<T>;
        return options;
    }

    // Without the name, because a program that makes the segment may omit it; the hash depends on
    // it.
    static AttachOptions typed(AttachOptions options) noexcept
    {
        options.type_hash = type_hash_of<T>;
        return options;
    }

    template <class Make>
    static Result<TypedSegment> make(const Options &options, Make make_one) noexcept
    {
        const Options complete = typed(options);
        if (!std::is_void_v<H> && complete.user_header_size != header_size) {
            return Error(Code::bad_options,
                         "the user header's type has %llu bytes, and user_header_size is %llu; "
                         "leave that at 0",
                         header_size, complete.user_header_size);
        }
        const std::uint64_t room = std::max(complete.slot_capacity, complete.max_payload);
        // 0: arrays with the default capacity, which `of` compares.
        if (complete.slot_capacity != 0 && room < sizeof(Item)) {
            return Error(Code::bad_options,
                         "the type has %llu bytes, and slot_capacity and max_payload allow %llu; "
                         "leave them at 0, or ask for more",
                         sizeof(Item), room);
        }
        return of(make_one(complete));
    }

    // The hash was compared. What remains to be checked are mistakes of a program that computed it
    // by hand.
    static Result<TypedSegment> of(Result<Segment> segment) noexcept
    {
        if (!segment) return segment.error();
        const auto info = segment->info();
        if (!info) return info.error();
        const std::uint64_t room = std::max(info->slot_capacity, info->max_payload);
        if (room < sizeof(Item)) {
            return Error(Code::type_mismatch,
                         "the type has %llu bytes, and the segment's payloads at most %llu; "
                         "build both sides from one type definition",
                         sizeof(Item), room);
        }
        if (info->payload_align % alignof(Item) != 0) {
            return Error(Code::type_mismatch,
                         "the type is aligned to %llu bytes, and the segment's payloads to %llu; "
                         "build both sides from one type definition",
                         alignof(Item), info->payload_align);
        }
        if (!std::is_void_v<H> && info->user_header_size != header_size) {
            return Error(Code::type_mismatch,
                         "the user header's type has %llu bytes, and the segment's user headers "
                         "%llu; build both sides from one type definition",
                         header_size, info->user_header_size);
        }
        return TypedSegment(*std::move(segment));
    }

    Segment segment_{};
};

} // namespace shmslot

#endif
