// Receives from two segments, with a timer beside them, in Asio, standalone or of Boost.
// Usage: asio FIRST SECOND
#ifdef USE_BOOST
#include <boost/asio.hpp>
namespace asio = boost::asio;
using error_code = boost::system::error_code;
#else
#include <asio.hpp>
using error_code = asio::error_code;
#endif
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <shmslot.hpp>
#include <utility>

struct Source {
    shmslot::Segment segment;
    shmslot::Reader reader;
    asio::posix::stream_descriptor descriptor;
    unsigned long got = 0;
    bool over = false;

    Source(asio::io_context &loop, const char *name)
        : segment(or_throw(shmslot::Segment::attach(name))), reader(or_throw(segment.reader())),
          descriptor(loop)
    {
        or_throw(reader.end_waits({true, false, false}));
        descriptor.assign(or_throw(reader.fd()));
        wait();
    }
    // Asio would close the descriptor, which is the reader's.
    ~Source() { descriptor.release(); }

    void wait()
    {
        descriptor.async_wait(descriptor.wait_read, [this](const error_code &error) {
            if (error) return;
            for (;;) {
                auto result = reader.read();
                if (result.code() == shmslot::Code::again) return wait();
                over = result.code() == shmslot::Code::no_writers;
                if (over) return;
                or_throw(std::move(result)); // the sample is marked at once
                got++;
            }
        });
    }
};

int main(int count, char **arguments)
{
    if (count != 3) return 2;
    asio::io_context loop;
    Source first(loop, arguments[1]), second(loop, arguments[2]);
    asio::steady_timer timer(loop);
    unsigned long ticks = 0;
    std::function<void(const error_code &)> tick = [&](const error_code &error) {
        if (error) return;
        ticks++;
        if (first.over && second.over) return;
        timer.expires_after(std::chrono::milliseconds(1));
        timer.async_wait(tick);
    };
    tick(error_code());
    loop.run();
    std::printf("%lu %lu\n", first.got, second.got);
    return ticks > 0 ? 0 : 1;
}
