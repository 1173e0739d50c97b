// The program again, through the C++ header.
#include <shmslot.hpp>

int main()
{
    const auto segment = shmslot::Segment::create_anonymous();
    if (!segment) return 1;
    auto reader = segment->reader();
    auto writer = segment->writer();
    if (!reader || !writer || !writer->write("hello", 5, shmslot::no_wait)) return 2;
    for (auto &&sample : *reader)
        return sample.size() == 5 && shmslot::version() == SHMSLOT_VERSION ? 0 : 3;
    return 4;
}
