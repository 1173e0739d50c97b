// Failures: results, errors with and without detail, exceptions on request, and timeouts.
#include "check.hpp"

#include <limits>
#include <memory>

using namespace std::chrono_literals;
using shmslot::Code;
using shmslot::Error;
using shmslot::Result;
using shmslot::Timeout;

static void every_code_is_the_same()
{
    // The C constants are an enum without gaps; the C++ ones have the same numbers, as the
    // library's texts say.
    for (int number = SHMSLOT_E_RETIRED; number <= SHMSLOT_OK; ++number) {
        CHECK(strcmp(shmslot::text(static_cast<Code>(number)), shmslot_strerror(number)) == 0);
    }
    CHECK(static_cast<int>(Code::type_mismatch) == SHMSLOT_E_TYPE_MISMATCH);
    CHECK(strstr(shmslot::text(static_cast<Code>(-9999)), "newer version") != nullptr);
    CHECK(shmslot::version() == SHMSLOT_VERSION);
}

static void cold_calls_tell_more()
{
    const Name name("cpp-errors");
    const auto missing = shmslot::Segment::attach(name.text);
    CHECK_IS(missing, not_found);
    CHECK(!missing.has_value());
    const Error &error = missing.error();
    CHECK(error.numbers() == (std::array<std::uint64_t, 3>{}));
    CHECK(error.os_errno() == ENOENT);
    CHECK(strstr(error.text(), name.text) != nullptr);

    // Nothing is lost on the way, and a copy has the same contents.
    shmslot_segment *raw = nullptr;
    shmslot_error detail;
    CHECK_CODE(shmslot_segment_attach(name.text, nullptr, &raw, &detail), SHMSLOT_E_NOT_FOUND);
    CHECK(strcmp(detail.text, error.text()) == 0);
    Error copy = error;
    CHECK(strcmp(copy.text(), error.text()) == 0 && copy.os_errno() == ENOENT);
    detail.numbers[0] = 1;
    detail.numbers[1] = 2;
    detail.numbers[2] = UINT64_MAX;
    copy = Error(detail);
    const Error again = copy;
    CHECK(again.numbers() == (std::array<std::uint64_t, 3>{1, 2, UINT64_MAX}));
    CHECK(Error(Code::invalid, "about").numbers() == (std::array<std::uint64_t, 3>{}));
    copy = Error(Code::again);
    CHECK(copy.numbers() == (std::array<std::uint64_t, 3>{}));
    CHECK(copy.os_errno() == 0 && strcmp(copy.text(), shmslot::text(Code::again)) == 0);

    shmslot::Options options;
    options.slot_count = std::numeric_limits<std::uint32_t>::max();
    const auto refused = shmslot::Segment::create(name.text, options);
    CHECK_IS(refused, bad_options);
    CHECK(strstr(refused.error().text(), "slot_count") != nullptr);
    CHECK_IS(shmslot::Segment::unlink(name.text), not_found);
    CHECK_IS(shmslot::Segment::create(nullptr), invalid);
    CHECK_IS(shmslot::Segment::create("a/b"), bad_name);

    // A text that is too long is cut and still ends.
    const std::string longer(1000, 'x');
    CHECK(strlen(Error(Code::invalid, longer).text()) == sizeof detail.text - 1);
}

static void hot_calls_have_a_text_too()
{
    const auto segment = MUST(shmslot::Segment::create_local());
    auto reader = MUST(segment.reader());
    const auto nothing = reader.read();
    CHECK_IS(nothing, again);
    CHECK(strcmp(nothing.error().text(), shmslot_strerror(SHMSLOT_E_AGAIN)) == 0);
    CHECK(nothing.error().os_errno() == 0);
}

static void results_own_what_they_hold()
{
    using Owner = std::unique_ptr<int>;
    Result<Owner> result = std::make_unique<int>(7);
    CHECK(result && **result == 7 && result->get() != nullptr);
    CHECK_IS(result, ok);
    Result<Owner> moved = std::move(result);
    CHECK(moved && **moved == 7);
    CHECK(result && *result == nullptr); // NOLINT(bugprone-use-after-move)
    moved = Error(Code::timeout);
    CHECK_IS(moved, timeout);
    moved = moved.error();
    CHECK_IS(moved, timeout);
    moved = Result<Owner>(std::make_unique<int>(8));
    CHECK(*std::move(moved).value_or(nullptr) == 8);
    CHECK(Result<Owner>(Code::again).value_or(nullptr) == nullptr);
    CHECK(Result<void>());
    CHECK(!Result<void>(Code::again));
    *Result<void>();
}

static int told_to = -1;

static void tell(const char *text) { CHECK(write(told_to, text, strlen(text)) > 0); }

// A failure has no value. A program that takes it anyway is stopped, with or without exceptions,
// after its handler got the text.
template <class Use>
static void aborts(Use use, const char *want)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    told_to = ends[1];
    const pid_t victim = fork();
    CHECK(victim >= 0);
    if (victim == 0) {
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); // no core file
        use();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(victim, &status, 0) == victim);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    close(ends[1]);
    char text[300] = {};
    CHECK(read(ends[0], text, sizeof text - 1) >= 0);
    close(ends[0]);
    CHECK(strcmp(text, want) == 0);
}

static void misuse_is_stopped()
{
    aborts([] { (void)*Result<int>(Code::again); }, "");
    CHECK(shmslot::set_abort_handler(tell) == nullptr);
    const char *no_error = "the error of a success was asked for";
    aborts([] { (void)*Result<int>(Code::again); }, shmslot::text(Code::again));
    aborts([] { (void)*Result<int>(shmslot::Error(Code::sys, "the disk is gone")); },
           "the disk is gone");
    aborts([] { (void)Result<int>(1).error(); }, no_error);
    aborts([] { *Result<void>(Code::again); }, shmslot::text(Code::again));
    aborts([] { (void)Result<void>().error(); }, no_error);
    CHECK(shmslot::set_abort_handler(nullptr) == tell);
}

static void exceptions_are_on_request()
{
    const Name name("cpp-throws");
    try {
        shmslot::or_throw(shmslot::Segment::attach(name.text));
        CHECK(false); // it must have thrown
    } catch (const shmslot::Exception &exception) {
        CHECK(exception.code() == Code::not_found);
        CHECK(exception.error().os_errno() == ENOENT);
        CHECK(strstr(exception.what(), name.text) != nullptr);
    }
    try {
        shmslot::or_throw(shmslot::Reader().wait(shmslot::no_wait));
        CHECK(false); // it must have thrown
    } catch (const std::exception &exception) {
        CHECK(strcmp(exception.what(), shmslot::text(Code::invalid)) == 0);
    }
    try {
        const auto segment = shmslot::or_throw(shmslot::Segment::create_local());
        auto writer = shmslot::or_throw(segment.writer());
        CHECK_U64(shmslot::or_throw(writer.write("x", 1, shmslot::no_wait)), 1);
        shmslot::or_throw(writer.wait_space(shmslot::no_wait));
    } catch (const std::exception &) {
        CHECK(false); // nothing has failed
    }
}

static void timeouts_are_durations()
{
    constexpr auto longest = std::numeric_limits<std::int64_t>::max();
    static_assert(Timeout(5ns).ns() == 5);
    static_assert(Timeout(3s).ns() == 3'000'000'000);
    static_assert(Timeout(-1ns).ns() == 0, "not C's -1");
    static_assert(Timeout(std::chrono::hours::min()).ns() == 0);
    static_assert(Timeout(std::chrono::hours::max()).ns() == longest);
    static_assert(Timeout(std::chrono::nanoseconds::max()).ns() == longest);
    static_assert(Timeout(std::chrono::duration<double>(0.5)).ns() == 500'000'000);
    static_assert(Timeout(std::chrono::duration<double>(1e30)).ns() == longest);
    static_assert(Timeout(std::chrono::duration<std::int64_t, std::pico>(1)).ns() == 1,
                  "rounded up");
    static_assert(Timeout(std::chrono::duration<std::int64_t, std::pico>(2000)).ns() == 2);
    static_assert(shmslot::no_wait.ns() == 0 && shmslot::forever.ns() == -1);
    const double not_a_number = std::numeric_limits<double>::quiet_NaN();
    CHECK(Timeout(std::chrono::duration<double>(not_a_number)).ns() == 0);

    const auto segment = MUST(shmslot::Segment::create_local());
    auto reader = MUST(segment.reader());
    const auto before = std::chrono::steady_clock::now();
    CHECK_IS(reader.wait(20ms), timeout);
    const auto after = std::chrono::steady_clock::now();
    CHECK(after - before >= 20ms);
    CHECK_IS(reader.wait(before - after), again); // a deadline that has passed
}

CHECK_MAIN()
{
    RUN(every_code_is_the_same());
    RUN(cold_calls_tell_more());
    RUN(hot_calls_have_a_text_too());
    RUN(results_own_what_they_hold());
    RUN(misuse_is_stopped());
    RUN(exceptions_are_on_request());
    RUN(timeouts_are_durations());
}
