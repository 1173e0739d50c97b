// Sends numbers, and waits for free slots in Asio, standalone or of Boost, while a timer goes on.
// Usage: asio_send SEGMENT COUNT
#ifdef USE_BOOST
#include <boost/asio.hpp>
namespace asio = boost::asio;
using error_code = boost::system::error_code;
#else
#include <asio.hpp>
using error_code = asio::error_code;
#endif
#include <chrono>
#include <cstdlib>
#include <functional>
#include <shmslot.hpp>
#include <utility>

struct Sender {
    shmslot::Segment segment;
    shmslot::Writer writer;
    asio::posix::stream_descriptor descriptor;
    unsigned long next = 0, last;

    Sender(asio::io_context &loop, const char *name, unsigned long count)
        : segment(or_throw(shmslot::Segment::attach(name))), writer(or_throw(segment.writer())),
          descriptor(loop, or_throw(writer.fd())), last(count)
    {
        wait();
    }
    // Asio would close the descriptor, which is the writer's.
    ~Sender() { descriptor.release(); }

    void wait()
    {
        descriptor.async_wait(descriptor.wait_read, [this](const error_code &error) {
            if (error) return;
            while (next < last) { // until no slot is free, which arms it
                auto result = writer.write(&next, sizeof next, shmslot::no_wait);
                if (result.code() == shmslot::Code::no_free_slot) return wait();
                or_throw(std::move(result));
                next++;
            }
        });
    }
};

int main(int count, char **arguments)
{
    if (count != 3) return 2;
    asio::io_context loop;
    Sender sender(loop, arguments[1], std::strtoul(arguments[2], nullptr, 10));
    asio::steady_timer timer(loop);
    unsigned long ticks = 0;
    std::function<void(const error_code &)> tick = [&](const error_code &error) {
        if (error) return;
        ticks++;
        if (sender.next == sender.last) return;
        timer.expires_after(std::chrono::milliseconds(1));
        timer.async_wait(tick);
    };
    tick(error_code());
    loop.run();
    return ticks > 0 ? 0 : 1;
}
