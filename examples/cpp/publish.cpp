// publish NAME COUNT: sends that many poses on a circle through the segment NAME, once a reader has
// joined.
#include "pose.hpp"

#include <shmslot.hpp>

#include <cmath>
#include <cstdio>

using namespace std::chrono_literals;
using shmslot::or_throw;
using Poses = shmslot::TypedSegment<Pose>;

namespace {

void publish(const Poses &poses, long count)
{
    auto writer = or_throw(poses.writer());
    or_throw(writer.untyped().wait_readers(1, shmslot::forever));
    for (long i = 0; i < count; ++i) {
        const double angle = 0.01 * static_cast<double>(i);
        auto pose = or_throw(writer.reserve(10s)); // the object is made in the slot
        pose->x = std::cos(angle);
        pose->y = std::sin(angle);
        pose->heading = angle;
        or_throw(pose.commit()); // had it thrown before, the slot would have been given back
    }
}

} // namespace

int main(int argc, char **argv)
{
    const long count = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 0;
    if (count < 1) {
        std::fputs("usage: publish NAME COUNT\n", stderr);
        return 2;
    }
    try {
        shmslot::Options options;
        options.policy = shmslot::Policy::block;
        // The first of the two programs makes it.
        publish(or_throw(Poses::open(argv[1], options)), count);
        or_throw(shmslot::Segment::unlink(argv[1])); // who has joined stays
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "publish: %s\n", exception.what());
        return 1;
    }
    return 0;
}
