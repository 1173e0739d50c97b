// Boost.Interprocess' message queue, as C functions.
#include <boost/interprocess/ipc/message_queue.hpp>

#include <cstddef>

namespace ipc = boost::interprocess;

// Nothing may be thrown into the caller: each answers NULL or false instead.
template <typename Result, typename Body>
static Result or_else(Result otherwise, Body body) noexcept
{
    try {
        return body();
    } catch (...) {
        return otherwise;
    }
}

extern "C" ipc::message_queue *boost_queue_create(const char *name, std::size_t count, std::size_t size)
{
    return or_else<ipc::message_queue *>(
        nullptr, [&] { return new ipc::message_queue(ipc::create_only, name, count, size); });
}

extern "C" ipc::message_queue *boost_queue_open(const char *name)
{
    return or_else<ipc::message_queue *>(nullptr, [&] { return new ipc::message_queue(ipc::open_only, name); });
}

extern "C" bool boost_queue_try_send(ipc::message_queue *queue, const void *bytes, std::size_t size)
{
    return or_else(false, [&] { return queue->try_send(bytes, size, 0); });
}

extern "C" bool boost_queue_try_receive(ipc::message_queue *queue, void *bytes, std::size_t size)
{
    ipc::message_queue::size_type received;
    unsigned priority;
    return or_else(false, [&] { return queue->try_receive(bytes, size, received, priority) && received == size; });
}

extern "C" bool boost_queue_receive(ipc::message_queue *queue, void *bytes, std::size_t size)
{
    ipc::message_queue::size_type received;
    unsigned priority;
    return or_else(false, [&] {
        queue->receive(bytes, size, received, priority);
        return received == size;
    });
}

extern "C" void boost_queue_close(ipc::message_queue *queue)
{
    delete queue;
}

extern "C" void boost_queue_remove(const char *name)
{
    ipc::message_queue::remove(name);
}
