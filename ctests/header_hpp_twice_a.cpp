// The C++ header may be included twice, and from two translation units of different standards, with
// and without exceptions: each accepts the objects of the other.
#include <shmslot.hpp>
#include <shmslot.hpp>

shmslot::Segment made_by_b();
shmslot::Result<shmslot::Sample> read_by_b(shmslot::Reader &reader);
bool b_understands(const shmslot::Error &error);

#ifndef __cpp_exceptions
#error "this one has exceptions"
#endif

int main()
{
    try {
        const auto segment = made_by_b();
        auto writer = or_throw(segment.writer());
        auto reader = or_throw(segment.reader());
        if (read_by_b(reader).code() != shmslot::Code::again) return 1;
        or_throw(writer.write("x", 1, shmslot::no_wait));
        if (or_throw(read_by_b(reader)).size() != 1) return 2;
        auto loan = or_throw(writer.reserve(1, shmslot::no_wait));
        writer = shmslot::Writer();
        if (loan) return 3;
        or_throw(read_by_b(reader));
    } catch (const shmslot::Exception &exception) {
        return b_understands(exception.error()) ? 0 : 4;
    }
    return 5;
}
