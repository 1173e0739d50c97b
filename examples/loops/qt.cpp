// Receives from two segments, with a timer beside them, in Qt. Usage: qt FIRST SECOND
// Without this Qt makes macros of `forever` and `slots`, which are names of this library.
#define QT_NO_KEYWORDS
#include <QCoreApplication>
#include <QSocketNotifier>
#include <QTimer>
#include <cstdio>
#include <shmslot.hpp>

struct Source {
    shmslot::Segment segment;
    shmslot::Reader reader;
    QSocketNotifier notifier;
    unsigned long got = 0;
    bool over = false;

    explicit Source(const char *name)
        : segment(or_throw(shmslot::Segment::attach(name))), reader(or_throw(segment.reader())),
          notifier(or_throw(reader.fd()), QSocketNotifier::Read)
    {
        or_throw(reader.end_waits({true, false, false}));
        QObject::connect(&notifier, &QSocketNotifier::activated, [this] { receive(); });
    }

    void receive()
    {
        shmslot::Code why = shmslot::Code::ok;
        for (auto result = reader.read();; result = reader.read()) {
            why = result.code();
            if (!result) break;
            got++; // the sample is marked when the next one takes its place
        }
        over = why == shmslot::Code::no_writers;
        notifier.setEnabled(!over);
    }
};

int main(int count, char **arguments)
{
    QCoreApplication application(count, arguments);
    if (count != 3) return 2;
    Source first(arguments[1]), second(arguments[2]);
    unsigned long ticks = 0;
    QTimer timer;
    QObject::connect(&timer, &QTimer::timeout, [&] {
        ticks++;
        if (first.over && second.over) application.quit();
    });
    timer.start(1);
    application.exec();
    std::printf("%lu %lu\n", first.got, second.got);
    return ticks > 0 ? 0 : 1;
}
