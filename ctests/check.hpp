// What the C++ tests need in addition to check.h: taking the value of a result or reporting why
// there is none, and comparing codes.
#ifndef SHMSLOT_CTESTS_CHECK_HPP
#define SHMSLOT_CTESTS_CHECK_HPP

#include "check.h"

#include <shmslot.hpp>

#define MUST(call) check_must((call), __FILE__, __LINE__, #call)
#define CHECK_IS(result, want)                                                                     \
    check_is((result).code(), shmslot::Code::want, __FILE__, __LINE__, #result, #want)

template <class T>
T check_must(shmslot::Result<T> &&result, const char *file, int line, const char *expression)
{
    if (!result) {
        fprintf(stderr, "%s:%d: %s: %s\n", file, line, expression, result.error().text());
        check_leave();
    }
    return *std::move(result);
}

inline void check_is(shmslot::Code got, shmslot::Code want, const char *file, int line,
                     const char *expression, const char *name)
{
    if (got != want) check_fail_code(file, line, expression, static_cast<int>(got), name);
}

/* A unique segment name that is removed at exit; see unique_name. */
struct Name {
    char text[64];
    explicit Name(const char *tag) { unique_name(text, sizeof text, tag); }
};

/* How many slots can be reserved now: those that are neither on loan nor owed nor held. */
inline std::uint64_t free_slots(const shmslot::Segment &segment)
{
    shmslot::Writer writer = MUST(segment.writer());
    std::vector<shmslot::Loan> loans;
    for (;;) {
        auto loan = writer.reserve(0, shmslot::no_wait);
        if (!loan) {
            CHECK_IS(loan, no_free_slot);
            return loans.size();
        }
        loans.push_back(*std::move(loan));
    }
}

#endif
