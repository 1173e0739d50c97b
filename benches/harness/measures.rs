//! What is measured of a transport: one way, streams, wakes, system calls, one thread, setting up.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clock::{in_ticks, spin, ticks};
use super::limits::{self, Futex};
use super::place::{MOST_TURNS, Place, await_value};
use super::process::{Meeting, Side, alone, counted_pair, pair};
use super::rows::{Figures, Sample, middle};
use super::state::State;
use super::transport::{Receiver, Sender, Touch, Transport};

fn poll<const W: usize>(receiver: &mut impl Receiver<W>, touch: Touch) -> u64 {
    loop {
        if let Some(value) = receiver.receive(touch) {
            return value;
        }
        spin_loop();
    }
}

/// Both ends of this side of two directions.
fn open<const W: usize, T: Transport<W>>(
    meeting: &Meeting<'_>,
    [there, back]: &[T; 2],
) -> (T::Sender, T::Receiver) {
    let (mine, other) = match meeting.side {
        Side::Here => (there, back),
        Side::There => (back, there),
    };
    let sender = mine.sender();
    meeting.meet();
    let receiver = other.receiver();
    meeting.meet();
    (sender, receiver)
}

const STOP: u64 = u64::MAX;

/// Turns of a payload that goes and comes back; their ticks, without a tenth to warm up.
fn ping_pong<const W: usize>(
    meeting: &Meeting<'_>,
    sender: &mut impl Sender<W>,
    receiver: &mut impl Receiver<W>,
    touch: Touch,
    time: Duration,
) -> Vec<u32> {
    meeting.meet();
    if meeting.side == Side::There {
        loop {
            let value = poll(receiver, touch);
            sender.send(value, touch);
            if value == STOP {
                return Vec::new();
            }
        }
    }
    let mut turns = vec![0; MOST_TURNS];
    let mut last = ticks();
    let end = last + in_ticks(time);
    let mut count = 0;
    while count < MOST_TURNS && last < end {
        sender.send(count as u64, touch);
        assert_eq!(poll(receiver, touch), count as u64, "another payload came back");
        let now = ticks();
        turns[count] = (now - last).min(u64::from(u32::MAX)) as u32;
        last = now;
        count += 1;
    }
    sender.send(STOP, touch);
    assert_eq!(poll(receiver, touch), STOP);
    turns.truncate(count);
    // Every buffer must have been touched, too.
    turns.drain(..(count / 10).max(8).min(count - 1));
    turns
}

/// What a figure is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    Nothing,
    /// The probes right beside it.
    Hop,
    /// The figure measured right before it in the same two processes; for one way, payloads of
    /// equal size through plain shared memory.
    Beside,
}

mod results {
    pub(super) const BEFORE: usize = 0;
    pub(super) const AFTER: usize = 1;
    pub(super) const LIMIT: usize = 2;
}

/// Leaves the probes right before and right after in `place`.
pub(crate) fn put_probes(place: &Place, [before, after]: [f64; 2]) {
    place.put(results::BEFORE, before);
    place.put(results::AFTER, after);
}

/// The sample whose probes, and limit if there is one, are in `place`.
pub(crate) fn sample(place: &Place, figures: Figures, against: Against) -> Sample {
    let [before, after] = [results::BEFORE, results::AFTER].map(|at| place.get(at));
    let limit = match against {
        Against::Nothing => None,
        Against::Hop => Some(f64::midpoint(before, after)),
        Against::Beside => Some(place.get(results::LIMIT)),
    };
    let interrupted = place.is_interrupted();
    Sample { state: State::agreed(before, after), figures, limit, interrupted }
}

/// One way, while both sides poll: half of a round trip.
pub(crate) fn one_way<const W: usize, T: Transport<W>>(
    place: &Place,
    time: Duration,
    prepare: impl Fn() -> T,
    against: Against,
    touch: Touch,
) -> Option<Sample> {
    let lanes = [prepare(), prepare()];
    let raw = (against == Against::Beside).then(|| [0, 1].map(|_| limits::Memory::new::<W>()));
    let well = pair(place, |meeting| {
        let (mut sender, mut receiver) = open(meeting, &lanes);
        let before = meeting.probe();
        if let Some(raw) = &raw {
            let (mut raw_sender, mut raw_receiver) = open::<W, _>(meeting, raw);
            let mut turns =
                ping_pong::<W>(meeting, &mut raw_sender, &mut raw_receiver, touch, time / 2);
            if meeting.side == Side::Here {
                turns.sort_unstable();
                place.put(results::LIMIT, middle(&turns) / 2.0);
            }
        }
        let turns = ping_pong::<W>(meeting, &mut sender, &mut receiver, touch, time);
        let after = meeting.probe();
        if meeting.side == Side::Here {
            put_probes(place, [before, after]);
            turns.iter().for_each(|&turn| place.note(u64::from(turn)));
        }
        meeting.meet();
    });
    well.then(|| sample(place, Figures::of_turns(place.noted(), 2.0), against))
}

/// How many payloads of a stream the sender times together: several times as many as are under way
/// at once.
const fn block<const W: usize>() -> u64 {
    match W {
        0..=64 => 2048,
        65..=512 => 256,
        _ => 16,
    }
}

/// What a stream is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamLimit {
    /// The raw line stream.
    Lines,
    /// A stream of equal payloads through plain shared memory.
    Copy,
}

/// Payloads from one side to the other, one after another, as fast as possible; nobody sleeps and
/// nothing is lost. Returns the sender's blocks, in sixteenths of a tick for each payload; nothing
/// on the other side.
fn stream<const W: usize, T: Transport<W>>(
    meeting: &Meeting<'_>,
    lane: &T,
    touch: Touch,
    time: Duration,
) -> Vec<u32> {
    let [sent, received] = [0, 1].map(|at| &meeting.place.said[at].0);
    let mut blocks = Vec::new();
    if meeting.side == Side::Here {
        sent.store(0, Ordering::Relaxed);
        received.store(0, Ordering::Relaxed);
        let mut sender = lane.sender();
        meeting.meet();
        meeting.meet();
        let mut total = 0;
        let mut last = ticks();
        let (warm, end) = (last + in_ticks(time / 10), last + in_ticks(time));
        // At least one block is recorded, however long the first took.
        while last < end || total == block::<W>() {
            (total..total + block::<W>()).for_each(|value| sender.send(value, touch));
            let (now, first) = (ticks(), total == 0);
            total += block::<W>();
            if last >= warm || (now >= end && !first) {
                // Sixteenths of a tick, because a payload may take only a few.
                blocks.push(((now - last) * 16 / block::<W>()).min(u64::from(u32::MAX)) as u32);
            }
            last = now;
        }
        sender.flush();
        sent.store(total, Ordering::Release);
        await_value(received, total);
    } else {
        meeting.meet();
        let mut receiver = lane.receiver();
        meeting.meet();
        let (mut count, mut sum) = (0, 0_u64);
        // The total is announced after the last payload was sent, and is never 0.
        while count == 0 || sent.load(Ordering::Acquire) != count {
            match receiver.receive(touch) {
                Some(value) => {
                    count += 1;
                    sum = sum.wrapping_add(value);
                }
                None => spin_loop(),
            }
        }
        assert_eq!(sum, count * (count - 1) / 2, "lost or changed");
        received.store(count, Ordering::Release);
    }
    meeting.meet();
    blocks
}

/// A stream from one side to the other. The timed rounds are the sender's blocks.
pub(crate) fn streaming<const W: usize, T: Transport<W>>(
    place: &Place,
    time: Duration,
    prepare: impl Fn() -> T,
    against: StreamLimit,
    touch: Touch,
) -> Option<Sample> {
    let lane = prepare();
    let lines = limits::LineStream::new();
    let copy = (against == StreamLimit::Copy).then(limits::Memory::new::<W>);
    let well = pair(place, |meeting| {
        let before = meeting.probe();
        let limit = match &copy {
            None => lines.run(meeting, time / 4),
            Some(copy) => {
                let mut blocks = stream::<W, _>(meeting, copy, touch, time / 2);
                blocks.sort_unstable();
                if blocks.is_empty() { 0.0 } else { middle(&blocks) / 16.0 }
            }
        };
        let blocks = stream::<W, _>(meeting, &lane, touch, time);
        let after = meeting.probe();
        if meeting.side == Side::Here {
            put_probes(place, [before, after]);
            place.put(results::LIMIT, limit);
            blocks.into_iter().for_each(|block| place.note(block.into()));
        }
        meeting.meet();
    });
    well.then(|| sample(place, Figures::of_turns(place.noted(), 16.0), Against::Beside))
}

/// Rounds with a sleeping receiver: from right before the send, a fixed time after the receiver
/// announced that it would sleep, until it has the payload. The receiving side returns the ticks of
/// each round.
fn wakes<const W: usize>(
    meeting: &Meeting<'_>,
    sender: Option<&mut impl Sender<W>>,
    receiver: Option<&mut impl Receiver<W>>,
    asleep: Duration,
    turns: usize,
    touch: Touch,
) -> Vec<u32> {
    let [ready, stamp] = [2, 3].map(|at| &meeting.place.said[at].0);
    meeting.meet();
    if let Some(sender) = sender {
        for turn in 1..=turns {
            await_value(ready, turn as u64);
            spin(asleep);
            let now = ticks();
            stamp.store(now, Ordering::Release);
            sender.send(now, touch);
        }
        await_value(ready, 0);
        return Vec::new();
    }
    let receiver = receiver.expect("one of the two");
    let times = (1..=turns).map(|turn| {
        ready.store(turn as u64, Ordering::Release);
        let value = receiver.receive_asleep(touch);
        let now = ticks();
        assert_eq!(value, stamp.load(Ordering::Acquire), "another payload came");
        now.saturating_sub(value).min(u64::from(u32::MAX)) as u32
    });
    let times = times.collect();
    ready.store(0, Ordering::Release);
    times
}

/// How often this process has given up its processor voluntarily.
fn sleeps() -> i64 {
    // SAFETY: writes to a local that lives.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_nvcsw
    }
}

/// One way to a receiver that sleeps, beside a raw futex.
pub(crate) fn wake<const W: usize, T: Transport<W>>(
    place: &Place,
    asleep: Duration,
    turns: usize,
    prepare: impl Fn() -> T,
) -> Option<Sample> {
    wake_beside::<W, T, _>(place, asleep, turns, prepare, Futex::new)
}

/// One way to a receiver that sleeps, beside another transport in the same two processes, A B A B.
pub(crate) fn wake_beside<const W: usize, T: Transport<W>, R: Transport<W>>(
    place: &Place,
    asleep: Duration,
    turns: usize,
    prepare: impl Fn() -> T,
    prepare_limit: impl Fn() -> R,
) -> Option<Sample> {
    const BLOCKS: usize = 4;
    let lane = prepare();
    let raw_lane = prepare_limit();
    let well = pair(place, |meeting| {
        let mut probes = [0.0; 2];
        let (mut times, mut raw_times) = (Vec::new(), Vec::new());
        let (mut sender, mut receiver) = (None, None);
        if meeting.side == Side::Here {
            sender = Some((raw_lane.sender(), lane.sender()));
        }
        meeting.meet();
        if meeting.side == Side::There {
            receiver = Some((raw_lane.receiver(), lane.receiver()));
        }
        meeting.meet();
        meeting.begin();
        probes[0] = meeting.probe();
        let slept = sleeps();
        for _ in 0..BLOCKS {
            let (raw, own) = (sender.as_mut(), receiver.as_mut());
            let (raw_sender, sender) =
                raw.map_or((None, None), |(raw, own)| (Some(raw), Some(own)));
            let (raw_receiver, receiver) =
                own.map_or((None, None), |(raw, own)| (Some(raw), Some(own)));
            let count = turns / BLOCKS;
            raw_times.extend(wakes::<W>(
                meeting,
                raw_sender,
                raw_receiver,
                asleep,
                count,
                Touch::First,
            ));
            times.extend(wakes::<W>(meeting, sender, receiver, asleep, count, Touch::First));
        }
        let slept = sleeps() - slept;
        probes[1] = meeting.probe();
        if meeting.side == Side::There {
            assert!(
                slept as usize >= 2 * turns * 9 / 10,
                "it slept only {slept} times of {}",
                2 * turns
            );
            raw_times.sort_unstable();
            place.put(results::LIMIT, middle(&raw_times));
            times.iter().for_each(|&time| place.note(u64::from(time)));
        } else {
            put_probes(place, probes);
        }
        meeting.meet();
    });
    well.then(|| sample(place, Figures::of_turns(place.noted(), 1.0), Against::Beside))
}

/// System calls of both sides for each payload to a receiver that sleeps.
pub(crate) fn calls_per_wake<const W: usize, T: Transport<W>>(
    place: &Place,
    prepare: impl Fn() -> T,
) -> Option<f64> {
    const TURNS: usize = 100;
    // Under a tracer it takes longer to fall asleep.
    const ASLEEP: Duration = Duration::from_micros(500);
    let lane = prepare();
    let calls = counted_pair(place, |meeting| {
        let (mut sender, mut receiver) = (None, None);
        if meeting.side == Side::Here {
            sender = Some(lane.sender());
        }
        meeting.meet();
        if meeting.side == Side::There {
            receiver = Some(lane.receiver());
        }
        for (turns, counts) in [(10, 0), (TURNS, 1), (1, 0)] {
            meeting.meet();
            place.counting.0.store(counts, Ordering::Release);
            wakes::<W>(meeting, sender.as_mut(), receiver.as_mut(), ASLEEP, turns, Touch::First);
            meeting.meet();
        }
    });
    calls.map(|calls| calls as f64 / TURNS as f64)
}

/// System calls of both sides for each payload that goes one way while both poll.
pub(crate) fn calls_per_payload<const W: usize, T: Transport<W>>(
    place: &Place,
    prepare: impl Fn() -> T,
) -> Option<f64> {
    const TURNS: u64 = 500;
    let lanes = [prepare(), prepare()];
    let calls = counted_pair(place, |meeting| {
        let (mut sender, mut receiver) = open(meeting, &lanes);
        for (turns, counts) in [(20, 0), (TURNS, 1), (1, 0)] {
            meeting.meet();
            place.counting.0.store(counts, Ordering::Release);
            for turn in 0..turns {
                if meeting.side == Side::Here {
                    sender.send(turn, Touch::First);
                }
                assert_eq!(poll(&mut receiver, Touch::First), turn);
                if meeting.side == Side::There {
                    sender.send(turn, Touch::First);
                }
            }
            meeting.meet();
        }
    });
    calls.map(|calls| calls as f64 / (2 * TURNS) as f64)
}

/// Tells how long rounds of one thread took, in sixteenths of a tick; so many are timed together.
/// Each is given its number.
pub(crate) fn turns(
    time: Duration,
    block: u64,
    mut note: impl FnMut(u64),
    mut turn: impl FnMut(u64),
) {
    let mut next = 0;
    let mut end = ticks() + in_ticks(time / 5);
    for counts in [false, true] {
        while ticks() < end {
            let start = ticks();
            for _ in 0..block {
                turn(next);
                next += 1;
            }
            if counts {
                note((ticks() - start) * 16 / block);
            }
        }
        end = ticks() + in_ticks(time);
    }
}

/// One thread sends and receives a payload in turn, while it keeps room for so many payloads. Means
/// of 256 rounds.
fn there_and_back<const W: usize, T: Transport<W>>(
    lane: &T,
    time: Duration,
    touch: Touch,
    kept: usize,
    note: impl FnMut(u64),
) {
    let (mut sender, mut receiver) = (lane.sender(), lane.receiver());
    if kept > 0 {
        sender.keep(kept);
    }
    let block = if W > 512 || kept > 64 { 4 } else { 256 };
    turns(time, block, note, |value| {
        sender.send(value, touch);
        assert_eq!(poll(&mut receiver, touch), value);
    });
}

fn staying(figures: Figures, limit: Option<f64>) -> Sample {
    Sample { state: None, figures, limit, interrupted: false }
}

/// The sample of one thread whose rounds are in `place`, in sixteenths of a tick, because a round
/// may take only a few.
pub(crate) fn staying_sample(place: &Place, limit: Option<f64>) -> Sample {
    staying(Figures::of_turns(place.noted(), 16.0), limit)
}

/// One thread on both sides.
pub(crate) fn one_thread<const W: usize, T: Transport<W>>(
    place: &Place,
    time: Duration,
    prepare: impl Fn() -> T,
    touch: Touch,
    kept: usize,
) -> Option<Sample> {
    let lane = prepare();
    let note = |round| place.note(round);
    let well = alone(place, || there_and_back::<W, _>(&lane, time, touch, kept, note));
    well.then(|| staying_sample(place, None))
}

/// As [`one_thread`], compared with equal payloads through plain memory, which are measured before.
pub(crate) fn one_thread_beside_copy<const W: usize, T: Transport<W>>(
    place: &Place,
    time: Duration,
    prepare: impl Fn() -> T,
) -> Option<Sample> {
    let (lane, copy) = (prepare(), limits::Memory::new::<W>());
    let well = alone(place, || {
        let mut rounds = Vec::new();
        there_and_back::<W, _>(&copy, time / 2, Touch::Whole, 0, |round| rounds.push(round as u32));
        rounds.sort_unstable();
        place.put(results::LIMIT, middle(&rounds) / 16.0);
        there_and_back::<W, _>(&lane, time, Touch::Whole, 0, |round| place.note(round));
    });
    well.then(|| staying_sample(place, Some(place.get(results::LIMIT))))
}

/// From nothing to the first payload received, by one thread.
pub(crate) fn set_up<const W: usize, T: Transport<W>>(
    place: &Place,
    times: usize,
    prepare: impl Fn() -> T,
) -> Option<Sample> {
    let well = alone(place, || {
        for time in 0..times as u64 {
            let start = Instant::now();
            let lane = prepare();
            let (mut sender, mut receiver) = (lane.sender(), lane.receiver());
            sender.send(time, Touch::Whole);
            assert_eq!(poll(&mut receiver, Touch::Whole), time);
            place.note(in_ticks(start.elapsed()));
        }
    });
    well.then(|| staying(Figures::of_turns(place.noted(), 1.0), None))
}
