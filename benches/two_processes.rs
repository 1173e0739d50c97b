//! What crosses from one process to another: one way, streaming, waking, crowds, and with noisy
//! neighbours.
//!
//! `cargo bench --bench two_processes` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Processes are forked.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::shmslot::{Code, CreateOptions, Policy, Reader, Writer};

use harness::batches::{BATCH, Batches};
use harness::clock::{in_ticks, nanoseconds, ticks};
use harness::limits::{Futex, Memory};
use harness::measures::{Against, StreamLimit, one_way, put_probes, sample, streaming, wake};
use harness::place::Place;
use harness::process::{Side, fork, hop, join, kill, pair, pin};
use harness::rows::{Aim, Figures, Row, Sample, Settings, crossing, place, run};
use harness::shmslot::{Shmslot, ThroughC, asleep_at_once, never_asleep, options};
use harness::sleepers::waking_commit;
use harness::state::State;
use harness::transport::{Receiver, Sender, Touch, fill};

mod harness;

const SMALL: usize = 8;
const PAGE: usize = 4096 / 8;
const MIDDLE: usize = (64 << 10) / 8;
const LARGE: usize = (1 << 20) / 8;

fn mode(single_writer: bool) -> &'static str {
    if single_writer { "single writer" } else { "many writers" }
}

/// As many slots as a ring of plain memory has for payloads of that size.
fn slots<const W: usize>() -> u32 {
    if W > PAGE { 4 } else { 64 }
}

fn one_way_row<const W: usize>(
    place: &'static Place,
    time: Duration,
    (size, single, policy, touch): (&str, bool, Policy, Touch),
    (against, aim): (Against, Aim),
) -> Row {
    let policy_name = if policy == Policy::DropOldest { "drop-oldest" } else { "lossless" };
    let what = if touch == Touch::Whole { "written and read" } else { "untouched" };
    let name = format!("one way, {size}, {what}, {}, {policy_name}", mode(single));
    let segment = move || Shmslot::new(options::<W>(single, policy, slots::<W>()));
    crossing(name, aim, move || one_way::<W, _>(place, time, segment, against, touch))
}

fn one_ways(place: &'static Place, time: Duration) -> Vec<Row> {
    use Against::{Beside, Hop};
    use Policy::{DropOldest, Fail};
    use Touch::{First, Whole};
    vec![
        one_way_row::<SMALL>(place, time, ("64 B", true, Fail, Whole), (Hop, Aim::Limits(1.4))),
        one_way_row::<SMALL>(place, time, ("64 B", false, Fail, Whole), (Hop, Aim::Limits(1.9))),
        one_way_row::<SMALL>(
            place,
            time,
            ("64 B", true, DropOldest, Whole),
            (Hop, Aim::Limits(1.6)),
        ),
        one_way_row::<SMALL>(
            place,
            time,
            ("64 B", false, DropOldest, Whole),
            (Hop, Aim::Limits(2.1)),
        ),
        crossing(
            "one way, 64 B, written and read, single writer, lossless, C ABI",
            Aim::None,
            move || {
                let segment = || ThroughC(Shmslot::new(options::<SMALL>(true, Fail, 64)));
                one_way::<SMALL, _>(place, time, segment, Hop, Whole)
            },
        ),
        one_way_row::<PAGE>(place, time, ("4 KiB", true, Fail, Whole), (Beside, Aim::Limits(1.4))),
        one_way_row::<PAGE>(place, time, ("4 KiB", false, Fail, Whole), (Beside, Aim::Limits(1.4))),
        one_way_row::<MIDDLE>(place, time, ("64 KiB", true, Fail, Whole), (Beside, Aim::None)),
        one_way_row::<LARGE>(place, time, ("1 MiB", true, Fail, Whole), (Beside, Aim::Limits(1.2))),
        one_way_row::<LARGE>(
            place,
            time,
            ("1 MiB", false, Fail, Whole),
            (Beside, Aim::Limits(1.2)),
        ),
        one_way_row::<SMALL>(place, time, ("64 B", true, Fail, First), (Hop, Aim::None)),
        one_way_row::<PAGE>(place, time, ("4 KiB", true, Fail, First), (Hop, Aim::None)),
        one_way_row::<MIDDLE>(place, time, ("64 KiB", true, Fail, First), (Hop, Aim::None)),
        one_way_row::<LARGE>(place, time, ("1 MiB", true, Fail, First), (Hop, Aim::None)),
    ]
}

fn wakes(place: &'static Place, quick: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let cases =
        [("asleep for 20 µs", 20, 400, Aim::Limits(1.15)), ("idle for 500 µs", 500, 80, Aim::None)];
    for (since, microseconds, turns, aim) in cases {
        let turns = if quick { turns / 4 } else { turns };
        for single in [true, false] {
            let segment =
                move || Shmslot::new(asleep_at_once(options::<SMALL>(single, Policy::Fail, 64)));
            let asleep = Duration::from_micros(microseconds);
            let name = format!("wake of a reader {since}, {}", mode(single));
            rows.push(crossing(name, aim.clone(), move || {
                wake::<SMALL, _>(place, asleep, turns, segment)
            }));
        }
        let name = format!("wake of a raw futex {since}");
        let asleep = Duration::from_micros(microseconds);
        rows.push(crossing(name, Aim::None, move || {
            wake::<SMALL, _>(place, asleep, turns, Futex::new)
        }));
    }
    rows
}

/// One commit that wakes many.
fn waking_commits(place: &'static Place, quick: bool) -> Vec<Row> {
    let turns = if quick { 20 } else { 60 };
    let row = |readers| {
        let name = format!("commit that wakes {readers} sleeping readers");
        crossing(name, Aim::None, move || waking_commit(place, readers, turns))
    };
    [1, 15, 63].map(row).into()
}

fn streams(place: &'static Place, time: Duration) -> Vec<Row> {
    let row = |single, most| {
        let segment =
            move || Shmslot::new(never_asleep(options::<SMALL>(single, Policy::Block, 64)));
        let name = format!("streaming 1 → 1, 64 B, {}, lossless", mode(single));
        crossing(name, Aim::Limits(most), move || {
            streaming::<SMALL, _>(place, time, segment, StreamLimit::Lines, Touch::Whole)
        })
    };
    let batches = |single, by: &str, most| {
        let segment =
            move || Shmslot::new(never_asleep(options::<SMALL>(single, Policy::Block, 256)));
        let name =
            format!("streaming 1 → 1, 64 B, {}, batches of {BATCH} through {by}", mode(single));
        let through_c = by == "C";
        crossing(name, Aim::Limits(most), move || match through_c {
            true => {
                let segment = || Batches(ThroughC(segment()));
                streaming::<SMALL, _>(place, time, segment, StreamLimit::Lines, Touch::Whole)
            }
            false => {
                let segment = || Batches(segment());
                streaming::<SMALL, _>(place, time, segment, StreamLimit::Lines, Touch::Whole)
            }
        })
    };
    vec![
        row(true, 3.5),
        row(false, 8.0),
        batches(true, "Rust", 4.0),
        batches(false, "Rust", 8.0),
        batches(true, "C", 4.0),
        batches(false, "C", 8.0),
    ]
}

/// Tells the payloads of the second writer from those of the first.
const SECOND: u64 = 1 << 63;

/// The last payload that was read of each writer.
struct Progress {
    last: [Option<u64>; 2],
    policy: Policy,
}

impl Progress {
    /// Reads what is there, up to a segment of it: the other side may write as fast as this reads.
    fn drain(&mut self, reader: &mut Reader) {
        for _ in 0..CONTENDED_SLOTS {
            let Some(value) = Receiver::<SMALL>::receive(reader, Touch::Whole) else { return };
            let last = &mut self.last[usize::from(value & SECOND != 0)];
            let (number, expected) = (value & !SECOND, last.map_or(0, |last| last + 1));
            match self.policy {
                Policy::DropOldest => assert!(number >= expected, "out of order"),
                _ => assert_eq!(number, expected, "lost or out of order"),
            }
            *last = Some(number);
        }
    }
}

const CONTENDED_SLOTS: u32 = 64;

/// Writes a payload if there is room at once; its sequence number.
fn write_at_once(writer: &Writer, value: u64) -> Option<u64> {
    match writer.reserve(8 * SMALL, Some(Duration::ZERO)) {
        Ok(mut loan) => {
            // SAFETY: a loan of that many bytes.
            unsafe { fill::<SMALL>(loan.as_mut_ptr().cast(), value, Touch::Whole) };
            Some(loan.commit(8 * SMALL).expect("a commit"))
        }
        Err(full) => {
            assert_eq!(full.code(), Code::NoFreeSlot);
            None
        }
    }
}

/// Two processes write to one segment, both as fast as they can. The first of them also reads what
/// both have written, because a third process would take one of the two processors away. The figure
/// is the time for each sample of the two, over blocks of at least 256. Where one of them wrote
/// next to nothing of a block, they did not contend, and the block does not count.
fn contended(place: &'static Place, time: Duration, policy: Policy) -> Option<Sample> {
    const BLOCK: u64 = 256;
    let lane = Shmslot::new(never_asleep(options::<SMALL>(false, policy, CONTENDED_SLOTS)));
    let well = pair(place, |meeting| {
        let [end, over] = [0, 1].map(|at| &place.said[at].0);
        let mut writer = lane.attach().writer().expect("a writer");
        let before = meeting.probe();
        if meeting.side == Side::There {
            meeting.meet();
            for value in SECOND.. {
                if end.load(Ordering::Acquire) != 0 {
                    break;
                }
                Sender::<SMALL>::send(&mut writer, value, Touch::Whole);
            }
            over.store(1, Ordering::Release);
            meeting.probe();
            return;
        }
        let mut reader = lane.attach().reader(0).expect("a reader");
        let mut progress = Progress { last: [None; 2], policy };
        meeting.meet();
        let mut last = ticks();
        let (warm, finish) = (last + in_ticks(time / 10), last + in_ticks(time));
        // Own samples, and those of both, now and at the end of the last block.
        let (mut value, mut own, mut counted) = (0, 0, 0);
        while last < finish {
            let mut sequence = counted;
            for _ in 0..CONTENDED_SLOTS / 4 {
                let Some(written) = write_at_once(&writer, value) else { break };
                value += 1;
                sequence = written;
            }
            progress.drain(&mut reader);
            if sequence - counted >= BLOCK {
                let now = ticks();
                let (mine, both) = (value - own, sequence - counted);
                if last >= warm && (both / 16..=both / 16 * 15).contains(&mine) {
                    place.note((now - last) * 16 / both);
                }
                (last, own, counted) = (now, value, sequence);
            }
        }
        end.store(1, Ordering::Release);
        // The other side may be waiting for room.
        while over.load(Ordering::Acquire) == 0 {
            progress.drain(&mut reader);
        }
        put_probes(place, [before, meeting.probe()]);
    });
    well.then(|| match place.noted() {
        // They never wrote at the same time, which counts as an interruption.
        none if none.is_empty() => sample(place, Figures::one(0.0), Against::Hop),
        blocks => sample(place, Figures::of_turns(blocks, 16.0), Against::Hop),
    })
}

fn contentions(place: &'static Place, time: Duration) -> Vec<Row> {
    let row = |(policy, name): (Policy, &str)| {
        let name = format!("2 writers contend, 64 B, {name}");
        crossing(name, Aim::None, move || contended(place, 2 * time, policy))
    };
    [(Policy::Block, "lossless"), (Policy::DropOldest, "drop-oldest")].map(row).into()
}

/// Streams of several writers, all on the first processor, to several readers, all on the second,
/// who sleep when they have nothing to do; every reader gets every sample. The figure is the time
/// for each sample, however many get it.
fn crowd(place: &'static Place, writers: u64, readers: u64, each: u64) -> Option<Sample> {
    let before = hop(place);
    let options =
        CreateOptions { max_readers: 15, ..options::<SMALL>(writers == 1, Policy::Block, 64) };
    let lane = Shmslot::new(options);
    let [arrived, done] = [0, 1].map(|at| &place.said[at].0);
    place.clear();
    let gather = || {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < writers + readers {
            std::thread::yield_now();
        }
    };
    let read = || {
        let mut reader = lane.attach().reader(0).expect("a reader");
        gather();
        let (mut sum, total) = (0_u64, writers * each);
        for _ in 0..total {
            sum = sum.wrapping_add(Receiver::<SMALL>::receive_asleep(&mut reader, Touch::Whole));
        }
        assert_eq!(sum, total * (total - 1) / 2, "lost or changed");
        done.fetch_add(1, Ordering::AcqRel);
    };
    let write = |first: u64| {
        let mut writer = lane.attach().writer().expect("a writer");
        gather();
        let start = ticks();
        for value in first * each..(first + 1) * each {
            Sender::<SMALL>::send(&mut writer, value, Touch::Whole);
        }
        if first == 0 {
            while done.load(Ordering::Acquire) < readers {
                std::thread::yield_now();
            }
            place.put(0, nanoseconds(ticks() - start) / (writers * each) as f64);
        }
    };
    let mut children: Vec<_> = (0..readers).map(|_| fork(1, read)).collect();
    children.extend((0..writers).map(|first| fork(0, || write(first))));
    let well = join(&children);
    let figure = place.get(0);
    let state = State::agreed(before, hop(place));
    // More processes than processors wait for these in any case.
    well.then(|| Sample { state, figures: Figures::one(figure), limit: None, interrupted: false })
}

fn crowds(place: &'static Place, quick: bool) -> Vec<Row> {
    let each = if quick { 5_000 } else { 40_000 };
    let row = |(writers, readers): (u64, u64)| {
        let name = format!(
            "streaming {writers} → {readers}, 64 B, lossless, more processes than processors"
        );
        crossing(name, Aim::None, move || crowd(place, writers, readers, each / writers))
    };
    [(1, 4), (1, 8), (4, 1), (4, 4)].map(row).into()
}

/// Measures while one busy process on each processor takes its share of it.
fn beside_noise(measure: impl Fn() -> Option<Sample>) -> Option<Sample> {
    let noise = || {
        loop {
            spin_loop();
        }
    };
    let neighbours = [fork(0, noise), fork(1, noise)];
    let sample = measure();
    neighbours.into_iter().for_each(kill);
    // That is what is measured here.
    Some(Sample { interrupted: false, ..sample? })
}

fn noisy(place: &'static Place, time: Duration) -> Vec<Row> {
    let time = 5 * time;
    let asleep = Duration::from_micros(20);
    let segment = || Shmslot::new(options::<SMALL>(true, Policy::Fail, 64));
    let sleepy = || Shmslot::new(asleep_at_once(options::<SMALL>(true, Policy::Fail, 64)));
    vec![
        crossing("2 noisy neighbours: one way, 64 B, single writer", Aim::None, move || {
            beside_noise(|| one_way::<SMALL, _>(place, time, segment, Against::Hop, Touch::Whole))
        }),
        crossing("2 noisy neighbours: one way, 64 B, plain memory", Aim::None, move || {
            beside_noise(|| {
                one_way::<SMALL, _>(place, time, Memory::new::<SMALL>, Against::Hop, Touch::Whole)
            })
        }),
        crossing("2 noisy neighbours: wake of a reader asleep for 20 µs", Aim::None, move || {
            beside_noise(|| wake::<SMALL, _>(place, asleep, 80, sleepy))
        }),
        crossing(
            "2 noisy neighbours: wake of a raw futex asleep for 20 µs",
            Aim::None,
            move || beside_noise(|| wake::<SMALL, _>(place, asleep, 80, Futex::new)),
        ),
    ]
}

fn main() {
    pin(0);
    let settings = Settings::from_args(false);
    let place = place();
    let mut rows = one_ways(place, settings.time);
    rows.extend(streams(place, settings.time));
    rows.extend(contentions(place, settings.time));
    rows.extend(wakes(place, settings.quick));
    rows.extend(waking_commits(place, settings.quick));
    rows.extend(crowds(place, settings.quick));
    rows.extend(noisy(place, settings.time));
    run(&settings, place, "two processes", "two_processes", rows);
}
