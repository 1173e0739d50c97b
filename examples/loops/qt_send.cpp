// Sends numbers, and waits for free slots in Qt, while a timer goes on.
// Usage: qt_send SEGMENT COUNT
// Without this Qt makes macros of `forever` and `slots`, which are names of this library.
#define QT_NO_KEYWORDS
#include <QCoreApplication>
#include <QSocketNotifier>
#include <QTimer>
#include <cstdlib>
#include <shmslot.hpp>
#include <utility>

struct Sender {
    shmslot::Segment segment;
    shmslot::Writer writer;
    QSocketNotifier notifier;
    unsigned long next = 0, last;

    Sender(const char *name, unsigned long count)
        : segment(or_throw(shmslot::Segment::attach(name))), writer(or_throw(segment.writer())),
          notifier(or_throw(writer.fd()), QSocketNotifier::Read), last(count)
    {
        QObject::connect(&notifier, &QSocketNotifier::activated, [this] { send(); });
    }

    void send()
    {
        while (next < last) { // until no slot is free, which arms it
            auto result = writer.write(&next, sizeof next, shmslot::no_wait);
            if (result.code() == shmslot::Code::no_free_slot) return;
            or_throw(std::move(result));
            next++;
        }
        notifier.setEnabled(false);
    }
};

int main(int count, char **arguments)
{
    QCoreApplication application(count, arguments);
    if (count != 3) return 2;
    Sender sender(arguments[1], std::strtoul(arguments[2], nullptr, 10));
    unsigned long ticks = 0;
    QTimer timer;
    QObject::connect(&timer, &QTimer::timeout, [&] {
        ticks++;
        if (sender.next == sender.last) application.quit();
    });
    timer.start(1);
    application.exec();
    return ticks > 0 ? 0 : 1;
}
