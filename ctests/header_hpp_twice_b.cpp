// The other half of header_hpp_twice_a.cpp.
#include <shmslot.hpp>

#ifdef __cpp_exceptions
#error "this one has none"
#endif

shmslot::Segment made_by_b();
shmslot::Result<shmslot::Sample> read_by_b(shmslot::Reader &reader);
bool b_understands(const shmslot::Error &error);

shmslot::Segment made_by_b()
{
    return *shmslot::Segment::create_local();
}

shmslot::Result<shmslot::Sample> read_by_b(shmslot::Reader &reader)
{
    return reader.read();
}

bool b_understands(const shmslot::Error &error)
{
    return error.code() == shmslot::Code::again &&
           error.text() == shmslot::text(shmslot::Code::again);
}
