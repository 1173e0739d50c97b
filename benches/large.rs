//! The third table: payloads larger than a slot, compared with a copy between private buffers and
//! with slots of that size.
//!
//! `cargo bench --bench large` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Measures with raw memory and fork.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shmslot::{
    AttachOptions, Attachments, Channel, ChannelOptions, Registry, RegistryOptions, Segment,
};

use harness::place::SharedMemory;
use harness::process::{fork, join, pin};
use harness::rows::{Settings, median};
use payload::{
    Home, Source, Work, one_thread, raw_copy, raw_copy_and_sum, receive, row, segment, send,
};

mod harness;
mod payload;

fn attach(segment: &Segment) -> Segment {
    let options = AttachOptions { prefault: true, ..AttachOptions::default() };
    Segment::attach_fd(segment.fd().expect("anonymous"), &options).expect("attach")
}

/// The first payload that a region has ever had.
#[derive(Clone, Copy)]
enum First {
    /// Reserve alone, where the memory comes from.
    Reserve,
    /// From reserve to mark, written and read.
    Whole,
    /// Read and mark alone, through another mapping, as in another process.
    ReadElsewhere,
}

fn first_use(what: First, prefault: bool, len: usize) -> f64 {
    let source = Source::new(len);
    let once = |_| {
        let segment = segment(Home::Region, len, prefault);
        let elsewhere = attach(&segment);
        let writer = segment.writer().expect("a writer");
        let reader = match what {
            First::ReadElsewhere => elsewhere.reader(0),
            _ => segment.reader(0),
        }
        .expect("a reader");
        let start = Instant::now();
        let mut loan = writer.reserve(len, Some(Duration::ZERO)).expect("a slot");
        let reserved = start.elapsed();
        loan.copy_from(&source.bytes).expect("room");
        loan.commit(len).expect("a commit");
        let committed = start.elapsed();
        assert_eq!(receive(&reader, true), source.sum);
        let whole = start.elapsed();
        let took = match what {
            First::Reserve => reserved,
            First::Whole => whole,
            First::ReadElsewhere => whole - committed,
        };
        took.as_nanos() as f64
    };
    median((0..((4 << 20) / len).clamp(1, 16)).map(once).collect())
}

/// Runs `there` in a child on the second processor and `here` on the first.
fn with_child<T>(there: impl FnOnce(), here: impl FnOnce() -> T) -> T {
    let child = fork(1, there);
    let result = here();
    assert!(join(&[child]), "the other process failed");
    result
}

/// Half a round trip, payload written on one side and read on the other. `send` and `receive` are
/// those of this side.
fn ping_pong(len: usize, mut send: impl FnMut(&Source), mut receive: impl FnMut() -> u64) -> f64 {
    payload::per_turn(len, Work::WrittenAndRead, 1000, |source| {
        send(source.expect("written"));
        receive()
    }) / 2.0
}

/// The other side: answers until it is told to end.
fn pong(source: &Source, mut receive: impl FnMut() -> Option<u64>, mut send: impl FnMut(&Source)) {
    while let Some(sum) = receive() {
        assert_eq!(sum, source.sum);
        send(source);
    }
}

/// Copied into shared memory and summed up there, with one flag each way: nothing that is shared
/// can be faster.
fn raw_one_way(len: usize) -> f64 {
    const STOP: u64 = u64::MAX;
    let shared = SharedMemory::new(4096 + 2 * len);
    let place = |way: usize| shared.start().wrapping_add(4096 + way * len);
    let put = |way: usize, source: &Source| {
        // SAFETY: inside the mapping; the other side looks there after the flag only.
        unsafe { place(way).copy_from_nonoverlapping(source.bytes.as_ptr(), len) };
        let flag = shared.word(way);
        flag.store(flag.load(Ordering::Relaxed) + 1, Ordering::Release);
    };
    let get = |way: usize, turn: &mut u64| {
        *turn += 1;
        loop {
            match shared.word(way).load(Ordering::Acquire) {
                STOP => return None,
                now if now == *turn => break,
                _ => spin_loop(),
            }
        }
        // SAFETY: inside the mapping; the other side writes there after the next flag only.
        Some(payload::sum(unsafe { std::slice::from_raw_parts(place(way), len) }))
    };
    let source = Source::new(len);
    let (mut here, mut there) = (0, 0);
    with_child(
        || pong(&source, || get(0, &mut there), |source| put(1, source)),
        || {
            let took =
                ping_pong(len, |source| put(0, source), || get(1, &mut here).expect("an answer"));
            shared.word(0).store(STOP, Ordering::Release);
            took
        },
    )
}

/// Through two segments, one each way; both sides poll.
fn one_way(home: Home, len: usize) -> f64 {
    let (there, back) = (segment(home, len, true), segment(home, len, true));
    let answers = back.reader(0).expect("a reader");
    let source = Source::new(len);
    let go = SharedMemory::new(4096);
    with_child(
        || {
            let (there, back) = (attach(&there), attach(&back));
            let reader = there.reader(0).expect("a reader");
            let writer = back.writer().expect("a writer");
            go.word(0).store(1, Ordering::Release);
            let next = || loop {
                match reader.read().expect("a read") {
                    // An empty sample ends it.
                    Some(sample) if sample.is_empty() => return None,
                    Some(sample) => {
                        // SAFETY: in hand, so nobody writes to it; that many bytes long.
                        let bytes =
                            unsafe { std::slice::from_raw_parts(sample.as_ptr(), sample.len()) };
                        return Some(payload::sum(bytes));
                    }
                    None => spin_loop(),
                }
            };
            pong(&source, next, |source| send(&writer, len, Some(source)));
        },
        || {
            let writer = there.writer().expect("a writer");
            while go.word(0).load(Ordering::Acquire) == 0 {
                spin_loop();
            }
            let took = ping_pong(
                len,
                |source| send(&writer, len, Some(source)),
                || black_box(receive(&answers, true)),
            );
            writer.write(&[], Some(Duration::ZERO)).expect("a slot");
            took
        },
    )
}

/// A lease in a registry's region, resolved at the other end of a channel and released, both ends
/// in one thread. Every region new: made, announced, received, mapped, and taken away again.
fn over_a_channel(every_region_new: bool, len: usize) -> f64 {
    let max_idle = if every_region_new { 0 } else { u64::MAX };
    let registry = Registry::new(&RegistryOptions {
        region_size: len as u64,
        max_idle,
        ..RegistryOptions::default()
    })
    .expect("a registry");
    let (near, far) = Channel::pair(&ChannelOptions::default()).expect("a channel");
    registry.add(&near, None).expect("it is open");
    let attachments =
        Attachments::new(Some(&far), &ChannelOptions::default()).expect("attachments");
    let once = |_| {
        let start = Instant::now();
        // More than a region of the usual size: it gets one of its own.
        let lease = registry.alloc(len + 1, None).expect("memory");
        let place = (lease.map_id(), lease.generation(), lease.offset());
        let mapped = attachments
            .resolve_wait(place.0, place.1, place.2, lease.len() as u64, None)
            .expect("announced");
        black_box(mapped.as_ptr());
        drop((mapped, lease));
        start.elapsed().as_nanos() as f64
    };
    median((0..33).map(once).collect())
}

fn main() {
    let rounds = if Settings::from_args(false).quick { 1 } else { 7 };
    pin(0);
    let before = payload::load();
    payload::table(
        "one thread, payload untouched",
        ("in a slot of that size", |len| one_thread(Home::Slot, Work::Untouched, len)),
        &[row("in a region", |len| one_thread(Home::Region, Work::Untouched, len))],
        rounds,
    );
    payload::table(
        "one thread, payload written and read",
        ("copy and sum, private buffers", raw_copy_and_sum),
        &[
            row("copy alone, private buffers", raw_copy),
            row("in a region", |len| one_thread(Home::Region, Work::WrittenAndRead, len)),
            row("in a slot of that size", |len| one_thread(Home::Slot, Work::WrittenAndRead, len)),
            row("first use of a region", |len| first_use(First::Whole, false, len)),
            row("of that, reserve", |len| first_use(First::Reserve, false, len)),
            row("first use, PREFAULT", |len| first_use(First::Whole, true, len)),
            row("of that, reserve", |len| first_use(First::Reserve, true, len)),
            row("first read through another mapping", |len| {
                first_use(First::ReadElsewhere, false, len)
            }),
        ],
        rounds,
    );
    payload::table(
        "one way between two processes, written and read",
        ("shared memory and a flag", raw_one_way),
        &[
            row("in a region", |len| one_way(Home::Region, len)),
            row("in a slot of that size", |len| one_way(Home::Slot, len)),
        ],
        // It needs two processors, which others want, too: more rounds, which cost little here.
        3 * rounds,
    );
    payload::table(
        "over a channel, payload untouched",
        ("a region used again, in its next generation", |len| over_a_channel(false, len)),
        &[row("a new region each time", |len| over_a_channel(true, len))],
        rounds,
    );
    println!("Load average {before} before, {} after.", payload::load());
}
