//! The async reader of `examples/rust`: dropping a future loses neither the reader nor a sample.

#[path = "../examples/rust/async_reader.rs"]
#[allow(unreachable_pub)] // It is to be copied into a program.
mod async_reader;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use async_reader::AsyncReader;
use shmslot::{CreateOptions, Segment};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        std::thread::park();
    }
}

#[test]
fn a_dropped_future_loses_nothing() {
    let options = CreateOptions { slot_count: 4, slot_capacity: 8, ..CreateOptions::default() };
    let segment = Segment::create_local(&options).expect("create");
    let samples = AsyncReader::new(segment.reader(0).expect("reader"));
    let writer = segment.writer().expect("writer");
    for round in 1..=200_u64 {
        // Some of these waits are still to begin when their futures are dropped, some sleep.
        for _ in 0..round % 4 {
            let mut next = Box::pin(samples.next());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            if round % 3 == 0 {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        }
        if round % 2 == 0 {
            writer.write(&round.to_le_bytes(), None).expect("write");
            assert_eq!(block_on(samples.next()).expect("a sample").sequence(), round);
        } else {
            // The future waits already.
            let mut next = Box::pin(samples.next());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            writer.write(&round.to_le_bytes(), None).expect("write");
            assert_eq!(block_on(next).expect("a sample").sequence(), round);
        }
    }
    // All threads let go of the reader: it is this handle's alone, and leaves with it.
    while Arc::strong_count(&samples) > 1 {
        std::thread::yield_now();
    }
    drop(samples);
    assert_eq!(segment.info().expect("not forked").readers, 0);
}
