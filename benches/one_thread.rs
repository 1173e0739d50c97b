//! The cost of the calls in one thread: against the number of slots, at every fill level, against
//! readers, and through C.
//!
//! `cargo bench --bench one_thread` prints Markdown. The method is in `benches/README.md`.

#![allow(unsafe_code)] // Processes are forked.

use std::hint::black_box;

use ::shmslot::{Code, CreateOptions, Policy, Reader, Segment, Writer};

use harness::batches::{BATCH, Batches};
use harness::clock::ticks;
use harness::measures::{one_thread, staying_sample};
use harness::place::Place;
use harness::process::{alone, pin};
use harness::rows::{Aim, Row, Sample, Settings, place, run, staying};
use harness::shmslot::{Shmslot, ThroughC, options};
use harness::transport::{Receiver, Sender, Touch, Transport};

mod harness;

const WORDS: usize = 8;
const PAYLOAD: usize = 8 * WORDS;

/// Turns that are timed as one.
const BLOCK: u64 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    AllFree,
    HalfHeld,
    AllButOneHeld,
    NoneFree,
}

impl Fill {
    const ALL: [(Fill, &str); 4] = [
        (Fill::AllFree, "all free"),
        (Fill::HalfHeld, "half held"),
        (Fill::AllButOneHeld, "all but one held"),
        (Fill::NoneFree, "none free"),
    ];

    /// Samples that a reader holds.
    fn held(self, slots: u32) -> u32 {
        match self {
            Fill::AllFree => 0,
            Fill::HalfHeld => slots / 2,
            Fill::AllButOneHeld => slots - 1,
            Fill::NoneFree => slots,
        }
    }
}

/// How many rounds later a sample is marked. Then the slot that a writer got last is not free yet.
const LATE: usize = 4;

/// When a sample of a round is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    AtOnce,
    /// [`LATE`] rounds later.
    Late,
}

impl Mark {
    const ALL: [(Mark, &str); 2] = [
        (Mark::AtOnce, "reserve + commit + read + mark"),
        (Mark::Late, "reserve + commit + read, mark 4 rounds later"),
    ];
}

fn mode(single_writer: bool) -> &'static str {
    if single_writer { "single writer" } else { "many writers" }
}

/// Leaves in `place` what each block of turns took, in sixteenths of a tick a turn.
fn note(place: &Place, ticks: u64, turns: u64) {
    place.note(ticks * 16 / turns);
}

/// Ticks of a block of rounds. The addresses that a caller needs must not be optimised away: a
/// black box around the handles would move them through memory.
fn turns(writer: &Writer, reader: &Reader) -> u64 {
    let start = ticks();
    for _ in 0..BLOCK {
        let mut loan = writer.reserve(PAYLOAD, None).expect("a slot");
        black_box(loan.as_mut_ptr());
        loan.commit(PAYLOAD).expect("a commit");
        black_box(reader.read().expect("a read").expect("a sample").as_ptr());
    }
    ticks() - start
}

/// As `turns`, with samples that are marked later.
fn late_turns<'r>(
    writer: &Writer,
    reader: &'r Reader,
    held: &mut [Option<::shmslot::Sample<'r>>; LATE],
) -> u64 {
    let start = ticks();
    for _ in 0..BLOCK as usize / LATE {
        for place in held.iter_mut() {
            let mut loan = writer.reserve(PAYLOAD, None).expect("a slot");
            black_box(loan.as_mut_ptr());
            loan.commit(PAYLOAD).expect("a commit");
            let sample = reader.read().expect("a read").expect("a sample");
            black_box(sample.as_ptr());
            *place = Some(sample);
        }
    }
    ticks() - start
}

/// Ticks of a block of reserves that find nothing.
fn failing_reserves(writer: &Writer) -> u64 {
    let start = ticks();
    for _ in 0..BLOCK {
        let full = writer.reserve(PAYLOAD, None).expect_err("nothing is free");
        assert_eq!(full.code(), Code::NoFreeSlot);
    }
    ticks() - start
}

#[derive(Clone, Copy)]
struct Case {
    single_writer: bool,
    slots: u32,
    fill: Fill,
    mark: Mark,
}

fn measured(place: &Place, case: Case, least_turns: u64) -> Option<Sample> {
    let options = options::<WORDS>(case.single_writer, Policy::Fail, case.slots);
    let well = alone(place, || {
        let segment = Segment::create_anonymous(&options).expect("a segment");
        let reader = segment.reader(0).expect("a reader");
        let writer = segment.writer().expect("a writer");
        let hold = |_| {
            writer.write(&[0; PAYLOAD], None).expect("a slot");
            reader.read().expect("a read").expect("a sample")
        };
        let hands: Vec<_> = (0..case.fill.held(case.slots)).map(hold).collect();
        let mut late = [const { None }; LATE];
        // Enough that every slot has its turn.
        let blocks = u64::from(case.slots).clamp(least_turns, 1 << 20) / BLOCK;
        for block in 0..blocks + blocks / 4 {
            let ticks = match (case.fill, case.mark) {
                (Fill::NoneFree, _) => failing_reserves(&writer),
                (_, Mark::AtOnce) => turns(&writer, &reader),
                (_, Mark::Late) => late_turns(&writer, &reader, &mut late),
            };
            if block >= blocks / 4 {
                note(place, ticks, BLOCK);
            }
        }
        black_box(&hands);
    });
    well.then(|| staying_sample(place, None))
}

/// Reserve and commit, each in blocks of `BATCH`; between them the readers read, which is not
/// timed.
fn commit_to_readers(place: &Place, policy: Policy, readers: u32, blocks: u64) -> Option<Sample> {
    const BATCH: u64 = 32;
    let options = CreateOptions { max_readers: 63, ..options::<WORDS>(false, policy, 64) };
    let well = alone(place, || {
        let segment = Segment::create_anonymous(&options).expect("a segment");
        let readers: Vec<_> = (0..readers).map(|_| segment.reader(0).expect("a reader")).collect();
        let writer = segment.writer().expect("a writer");
        for block in 0..blocks {
            let start = ticks();
            for _ in 0..BATCH {
                let loan = writer.reserve(PAYLOAD, None).expect("a slot");
                loan.commit(PAYLOAD).expect("a commit");
            }
            if block >= blocks / 8 {
                note(place, ticks() - start, BATCH);
            }
            if policy != Policy::DropOldest {
                for reader in &readers {
                    let read = std::iter::from_fn(|| reader.read().expect("a read"));
                    assert_eq!(read.count() as u64, BATCH, "every reader gets every sample");
                }
            }
        }
    });
    well.then(|| staying_sample(place, None))
}

fn empty_polls(place: &Place, slots: u32, blocks: u64) -> Option<Sample> {
    let options = options::<WORDS>(false, Policy::Fail, slots);
    let well = alone(place, || {
        let segment = Segment::create_anonymous(&options).expect("a segment");
        let reader = segment.reader(0).expect("a reader");
        for _ in 0..blocks {
            let start = ticks();
            for _ in 0..BLOCK {
                assert!(reader.read().expect("a read").is_none());
            }
            note(place, ticks() - start, BLOCK);
        }
    });
    well.then(|| staying_sample(place, None))
}

/// One of the calls of a round, or two of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    ReserveAndDiscard,
    Reserve,
    Commit,
    Read,
    Mark,
}

impl Call {
    const ALL: [(Call, &str); 5] = [
        (Call::ReserveAndDiscard, "reserve + discard"),
        (Call::Reserve, "reserve"),
        (Call::Commit, "commit"),
        (Call::Read, "read"),
        (Call::Mark, "mark"),
    ];
}

/// A call many times in a row, because one alone is shorter than two looks at the clock. Between
/// these blocks the other calls of as many rounds are made.
fn in_a_row(place: &Place, single_writer: bool, call: Call, blocks: u64) -> Option<Sample> {
    const ROW: usize = 128;
    let options = options::<WORDS>(single_writer, Policy::Fail, 2 * ROW as u32);
    let well = alone(place, || {
        let segment = Segment::create_anonymous(&options).expect("a segment");
        let reader = segment.reader(0).expect("a reader");
        let writer = segment.writer().expect("a writer");
        let reserve = || {
            let mut loan = writer.reserve(PAYLOAD, None).expect("a slot");
            black_box(loan.as_mut_ptr());
            loan
        };
        let (mut loans, mut samples) = (Vec::with_capacity(ROW), Vec::with_capacity(ROW));
        for block in 0..blocks {
            let timed = |timed: Call, calls: &mut dyn FnMut()| {
                let start = ticks();
                calls();
                if timed == call && block >= blocks / 8 {
                    note(place, ticks() - start, ROW as u64);
                }
            };
            timed(Call::ReserveAndDiscard, &mut || (0..ROW).for_each(|_| reserve().discard()));
            timed(Call::Reserve, &mut || loans.extend((0..ROW).map(|_| reserve())));
            timed(Call::Commit, &mut || {
                loans.drain(..).for_each(|loan| _ = loan.commit(PAYLOAD).expect("a commit"));
            });
            timed(Call::Read, &mut || {
                let read = |_| reader.read().expect("a read").expect("a sample");
                samples.extend((0..ROW).map(read));
            });
            timed(Call::Mark, &mut || samples.clear());
        }
    });
    well.then(|| staying_sample(place, None))
}

/// Each call by itself. A call that takes many samples at once is to be compared with these.
fn calls(place: &'static Place, quick: bool) -> Vec<Row> {
    let blocks = if quick { 1 << 9 } else { 1 << 11 };
    let mut rows = Vec::new();
    for single_writer in [true, false] {
        for (call, name) in Call::ALL {
            let name = format!("{name}, 128 in a row, {}, 256 slots", mode(single_writer));
            let measure = move || in_a_row(place, single_writer, call, blocks);
            rows.push(staying(name, Aim::None, measure));
        }
    }
    rows
}

/// Batches through Rust or C: each is sent, received, checked and marked as a whole.
fn in_batches<T: Transport<WORDS>>(
    place: &Place,
    prepare: impl Fn() -> T,
    blocks: u64,
) -> Option<Sample> {
    let lane = prepare();
    let well = alone(place, || {
        let (mut sender, mut receiver) = (lane.sender(), lane.receiver());
        let mut next = 0;
        for block in 0..blocks {
            let start = ticks();
            for value in next..next + BATCH as u64 {
                sender.send(value, Touch::Whole);
            }
            for value in next..next + BATCH as u64 {
                assert_eq!(receiver.receive(Touch::Whole), Some(value));
            }
            next += BATCH as u64;
            if block >= blocks / 8 {
                note(place, ticks() - start, BATCH as u64);
            }
        }
    });
    well.then(|| staying_sample(place, None))
}

fn batches(place: &'static Place, quick: bool) -> Vec<Row> {
    let blocks = if quick { 1 << 11 } else { 1 << 13 };
    let mut rows = Vec::new();
    for single_writer in [true, false] {
        let lane = move || Shmslot::new(options::<WORDS>(single_writer, Policy::Fail, 256));
        let name = |by| format!("batches of {BATCH} through {by}, {}", mode(single_writer));
        let measure = move || in_batches(place, || Batches(lane()), blocks);
        rows.push(staying(name("Rust"), Aim::None, measure));
        let measure = move || in_batches(place, || Batches(ThroughC(lane())), blocks);
        rows.push(staying(name("C"), Aim::None, measure));
    }
    rows
}

/// The round at every fill level, against the number of slots.
fn fill_levels(place: &'static Place, quick: bool) -> Vec<Row> {
    let least_turns = if quick { 1 << 13 } else { 1 << 16 };
    let counts: &[u32] =
        if quick { &[8, 64, 1024, 16_384] } else { &[8, 64, 1024, 16_384, 131_072, 1 << 20] };
    let mut rows = Vec::new();
    for single_writer in [true, false] {
        let most = if single_writer { 16.0 } else { 22.0 };
        for (fill, level) in Fill::ALL {
            for (mark, calls) in Mark::ALL {
                let (calls, aim) = match (fill, mark) {
                    (Fill::NoneFree, Mark::AtOnce) => ("reserve that fails", Aim::None),
                    (Fill::NoneFree, Mark::Late) => continue,
                    (Fill::AllFree, Mark::AtOnce) => (calls, Aim::Nanoseconds(most)),
                    _ => (calls, Aim::None),
                };
                for &slots in counts {
                    let free = slots - fill.held(slots);
                    if mark == Mark::Late && free as usize <= LATE {
                        continue;
                    }
                    let case = Case { single_writer, slots, fill, mark };
                    let name =
                        |level| format!("{calls}, {}, {level}, {slots} slots", mode(single_writer));
                    let aim = match fill {
                        Fill::HalfHeld | Fill::AllButOneHeld => Aim::Row(name("all free"), 1.3),
                        _ => aim.clone(),
                    };
                    let name = name(level);
                    rows.push(staying(name, aim, move || measured(place, case, least_turns)));
                }
            }
        }
    }
    rows
}

/// The round of a checked payload through Rust and through C, and of a large one that is not
/// touched.
fn boundaries(place: &'static Place, settings: &Settings) -> Vec<Row> {
    let time = settings.time;
    let mut rows = Vec::new();
    for single in [true, false] {
        let [rust, c] =
            ["Rust", "C ABI"].map(|by| format!("a turn through {by}, {}, 64 slots", mode(single)));
        let options = move || options::<WORDS>(single, Policy::Fail, 64);
        let turn = move || {
            one_thread::<WORDS, _>(place, time, || Shmslot::new(options()), Touch::First, 0)
        };
        rows.push(staying(rust.clone(), Aim::None, turn));
        let turn = move || {
            one_thread::<WORDS, _>(
                place,
                time,
                || ThroughC(Shmslot::new(options())),
                Touch::First,
                0,
            )
        };
        rows.push(staying(c, Aim::Above(rust, 6.0), turn));
    }
    const MIB: usize = (1 << 20) / 8;
    let large = |single| options::<MIB>(single, Policy::Fail, 64);
    rows.push(staying(
        "a turn of 1 MiB, only its first word touched, single writer, 64 slots",
        Aim::Row(rows[0].name.clone(), 1.0),
        move || one_thread::<MIB, _>(place, time, || Shmslot::new(large(true)), Touch::First, 0),
    ));
    rows
}

fn readers(place: &'static Place, quick: bool) -> Vec<Row> {
    let blocks = if quick { 1 << 10 } else { 1 << 12 };
    let mut rows = Vec::new();
    for (policy, name) in
        [(Policy::Fail, "that read all"), (Policy::DropOldest, "that never read, drop-oldest")]
    {
        let row_name = |readers| format!("reserve + commit, {readers} readers {name}");
        // The samples of a reader that never reads are taken away, which costs more than having no
        // reader.
        let base = if policy == Policy::DropOldest { 1 } else { 0 };
        for readers in [0, 1, 4, 15, 63] {
            let aim = match readers {
                0 => Aim::None,
                _ if readers == base => Aim::Beside(row_name(0)),
                _ => Aim::Row(row_name(base), 1.3),
            };
            let measure = move || commit_to_readers(place, policy, readers, blocks);
            rows.push(staying(row_name(readers), aim, measure));
        }
    }
    rows
}

fn polls(place: &'static Place, quick: bool) -> Vec<Row> {
    let blocks = if quick { 1 << 10 } else { 1 << 13 };
    let row = |slots| {
        let name = format!("poll that finds nothing, {slots} slots");
        staying(name, Aim::Nanoseconds(5.0), move || empty_polls(place, slots, blocks))
    };
    [8, 1024, 131_072].map(row).into()
}

fn main() {
    pin(0);
    let settings = Settings::from_args(false);
    let place = place();
    let mut rows = boundaries(place, &settings);
    rows.extend(polls(place, settings.quick));
    rows.extend(calls(place, settings.quick));
    rows.extend(batches(place, settings.quick));
    rows.extend(readers(place, settings.quick));
    rows.extend(fill_levels(place, settings.quick));
    run(&settings, place, "one thread", "one_thread", rows);
}
