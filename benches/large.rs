//! Large payloads: in regions and in slots, compared with a copy between private buffers, and with
//! one through plain shared memory.
//!
//! `cargo bench --bench large` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Measures with raw memory and fork.

use std::cell::Cell;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::shmslot::{
    AttachOptions, Attachments, Channel, ChannelOptions, CreateOptions, Policy, Registry,
    RegistryOptions, Segment,
};

use harness::measures::{StreamLimit, one_thread_beside_copy, streaming};
use harness::place::{Place, SharedMemory};
use harness::process::{Side, pair, pin};
use harness::rows::{Aim, Row, Settings, crossing, keep, median, place, run, staying};
use harness::shmslot::{Shmslot, never_asleep, options};
use harness::transport::Touch;
use payload::{
    Home, Source, Table, Work, one_thread, raw_copy, raw_copy_and_sum, receive, row, segment, send,
    table,
};

mod harness;
mod payload;

/// Words of 64 KiB and of 1 MiB.
const MIDDLE: usize = (64 << 10) / 8;
const LARGE: usize = (1 << 20) / 8;

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

/// Runs `there` on the second processor, and `here` on the first; what that measured.
fn apart(place: &Place, there: impl FnOnce(), here: impl FnOnce() -> f64) -> f64 {
    // Each of the two processes has its own.
    let sides = Cell::new(Some((there, here)));
    let well = pair(place, |meeting| {
        let (there, here) = sides.take().expect("one side");
        match meeting.side {
            Side::Here => place.put(0, here()),
            Side::There => there(),
        }
    });
    assert!(well, "one of the processes failed");
    place.get(0)
}

/// Half a round trip, payload written on one side and read on the other. `send` and `receive` are
/// those of this side.
fn ping_pong(
    place: &Place,
    len: usize,
    mut send: impl FnMut(&Source),
    mut receive: impl FnMut() -> u64,
) -> f64 {
    let blocks = payload::blocks(len, Work::WrittenAndRead, 1000, |source| {
        send(source.expect("written"));
        receive()
    });
    blocks.iter().for_each(|&block| place.note(block as u64));
    median(blocks) / 2.0
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
fn raw_one_way(place: &Place, len: usize) -> f64 {
    const STOP: u64 = u64::MAX;
    let shared = SharedMemory::new(4096 + 2 * len);
    let payload = |way: usize| shared.start().wrapping_add(4096 + way * len);
    let put = |way: usize, source: &Source| {
        // SAFETY: inside the mapping; the other side looks there after the flag only.
        unsafe { payload(way).copy_from_nonoverlapping(source.bytes.as_ptr(), len) };
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
        Some(payload::sum(unsafe { std::slice::from_raw_parts(payload(way), len) }))
    };
    let source = Source::new(len);
    let (mut here, mut there) = (0, 0);
    apart(
        place,
        || pong(&source, || get(0, &mut there), |source| put(1, source)),
        || {
            let took = ping_pong(
                place,
                len,
                |source| put(0, source),
                || get(1, &mut here).expect("an answer"),
            );
            shared.word(0).store(STOP, Ordering::Release);
            took
        },
    )
}

/// Through two segments, one each way; both sides poll.
fn one_way(place: &Place, home: Home, len: usize) -> f64 {
    let (there, back) = (segment(home, len, true), segment(home, len, true));
    let source = Source::new(len);
    let go = SharedMemory::new(4096);
    apart(
        place,
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
            let (there, back) = (attach(&there), attach(&back));
            // An answer comes only after the first payload.
            let answers = back.reader(0).expect("a reader");
            let writer = there.writer().expect("a writer");
            while go.word(0).load(Ordering::Acquire) == 0 {
                spin_loop();
            }
            let took = ping_pong(
                place,
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

/// Slots, or regions, of a segment in which few are in use at a time: payloads come back to those
/// that are warm.
const MANY: u32 = 32;

/// Where payloads of `W` words lie, in a segment of [`MANY`].
fn warm<const W: usize>(home: Home, policy: Policy) -> Shmslot {
    let options = options::<W>(false, policy, MANY);
    Shmslot::new(never_asleep(match home {
        Home::Slot => options,
        Home::Region => CreateOptions {
            slot_capacity: 64,
            max_payload: 8 * W as u64,
            region_count: MANY,
            ..options
        },
    }))
}

fn warm_rows<const W: usize>(place: &'static Place, time: Duration, size: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (home, name) in [(Home::Slot, "slots"), (Home::Region, "regions")] {
        rows.push(staying(format!("one thread, {size}, {MANY} {name}"), Aim::None, move || {
            one_thread_beside_copy::<W, _>(place, time, || warm::<W>(home, Policy::Fail))
        }));
        rows.push(crossing(
            format!("streaming 1 → 1, {size}, {MANY} {name}"),
            Aim::None,
            move || {
                let segment = || warm::<W>(home, Policy::Block);
                streaming::<W, _>(place, time, segment, StreamLimit::Copy, Touch::Whole)
            },
        ));
    }
    rows
}

fn main() {
    let settings = Settings::from_args(false);
    let (quick, rounds) = (settings.quick, settings.rounds.min(7));
    pin(0);
    let place = place();
    let tables = [
        Table {
            title: "one thread, payload untouched",
            raw: row("in a slot of that size", |len| one_thread(Home::Slot, Work::Untouched, len)),
            rows: vec![row("in a region", |len| one_thread(Home::Region, Work::Untouched, len))],
            rounds,
            quick,
            crosses: false,
        },
        Table {
            title: "one thread, payload written and read",
            raw: row("copy and sum, private buffers", raw_copy_and_sum),
            rows: vec![
                row("copy alone, private buffers", raw_copy),
                row("in a region", |len| one_thread(Home::Region, Work::WrittenAndRead, len)),
                row("in a slot of that size", |len| {
                    one_thread(Home::Slot, Work::WrittenAndRead, len)
                }),
                row("first use of a region", |len| first_use(First::Whole, false, len)),
                row("of that, reserve", |len| first_use(First::Reserve, false, len)),
                row("first use, PREFAULT", |len| first_use(First::Whole, true, len)),
                row("of that, reserve", |len| first_use(First::Reserve, true, len)),
                row("first read through another mapping", |len| {
                    first_use(First::ReadElsewhere, false, len)
                }),
            ],
            rounds,
            quick,
            crosses: false,
        },
        Table {
            title: "one way between two processes, written and read",
            raw: row("shared memory and a flag", move |len| raw_one_way(place, len)),
            rows: vec![
                row("in a region", move |len| one_way(place, Home::Region, len)),
                row("in a slot of that size", move |len| one_way(place, Home::Slot, len)),
            ],
            rounds: settings.rounds, // more, because each state gets a part of them
            quick,
            crosses: true,
        },
        Table {
            title: "over a channel, payload untouched",
            raw: row("a region used again, in its next generation", |len| {
                over_a_channel(false, len)
            }),
            rows: vec![row("a new region each time", |len| over_a_channel(true, len))],
            rounds,
            quick,
            crosses: false,
        },
    ];
    let mut text = String::new();
    for wanted in tables.iter().filter(|table| settings.wants(table.title)) {
        let table = table(wanted, place);
        print!("{table}");
        text += &table;
    }
    if !text.is_empty() {
        keep(&settings, "large", &text);
    }
    let mut rows = warm_rows::<MIDDLE>(place, settings.time, "64 KiB");
    rows.extend(warm_rows::<LARGE>(place, settings.time, "1 MiB"));
    run(&settings, place, "warm memory, written and read", "warm", rows);
}
