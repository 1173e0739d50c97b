// subscribe NAME: reads the poses that publish.cpp sends through the segment NAME, until it ends.
// Without exceptions.
#include "pose.hpp"

#include <shmslot.hpp>

#include <cmath>
#include <cstdio>

using namespace std::chrono_literals;
using shmslot::Code;
using Poses = shmslot::TypedSegment<Pose>;

namespace {

int fail(const char *what, const shmslot::Error &error)
{
    std::fprintf(stderr, "subscribe: %s: %s\n", what, error.text());
    return 1;
}

int receive(shmslot::TypedReader<Pose> &reader)
{
    long count = 0;
    double worst = 0;
    for (auto timeout = 30s;; timeout = 10s) {
        const auto waited = reader.wait(timeout);
        if (waited.code() == Code::no_writers) break;
        if (!waited) return fail("wait", waited.error());
        auto poses = reader.available();
        for (auto &&pose : poses) { // each is marked at the end of its round
            worst = std::fmax(worst, std::fabs(std::hypot(pose->x, pose->y) - 1));
            ++count;
        }
        if (poses.ended_by() != Code::again) return fail("read", shmslot::Error(poses.ended_by()));
        // The publisher is there now; from here on, end when it ends.
        const auto ends = reader.untyped().end_waits({true, false});
        if (!ends) return fail("end_waits", ends.error());
    }
    std::printf("%ld poses, at most %g beside the circle\n", count, worst);
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fputs("usage: subscribe NAME\n", stderr);
        return 2;
    }
    shmslot::Options options;
    options.policy = shmslot::Policy::block;
    const auto poses = Poses::open(argv[1], options); // whoever comes first makes it
    if (!poses) return fail(argv[1], poses.error());
    auto reader = poses->reader();
    if (!reader) return fail("join", reader.error());
    return receive(*reader);
}
