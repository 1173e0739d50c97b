//! Many readers who all sleep, and the one commit that wakes them; beside a raw futex that as many
//! sleep on.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::shmslot::{CreateOptions, Policy};

use super::clock::{spin, ticks};
use super::limits::Futex;
use super::place::{Place, SharedMemory};
use super::process::{fork, hop, is_asleep, join};
use super::rows::{Figures, Sample, middle};
use super::shmslot::{Shmslot, asleep_at_once, options};
use super::state::State;
use super::syscalls;
use super::transport::{Receiver, Sender, Touch, Transport, fill};

const WORDS: usize = 8;

/// How long everybody sleeps before the commit.
const ASLEEP: Duration = Duration::from_micros(20);

/// The writer on the first processor, and all readers on the second.
struct Sleepers<'a> {
    place: &'a Place,
    lane: Shmslot,
    futex: Futex,
    /// The process of each reader, and the turn it waits for.
    processes: SharedMemory,
    waits_for: SharedMemory,
    readers: usize,
    turns: u64,
}

impl Sleepers<'_> {
    fn new(place: &Place, readers: usize, turns: u64) -> Sleepers<'_> {
        let options = CreateOptions {
            max_readers: 63,
            max_participants: 65, // the creator and the writer, too
            ..options::<WORDS>(false, Policy::Fail, 64)
        };
        Sleepers {
            place,
            lane: Shmslot::new(asleep_at_once(options)),
            futex: Futex::new(),
            processes: SharedMemory::new(128 * readers),
            waits_for: SharedMemory::new(128 * readers),
            readers,
            turns,
        }
    }

    /// Each turn is one wake by the futex and one by a commit.
    fn sleep(&self, index: usize) {
        let mut reader = Transport::<WORDS>::receiver(&self.lane);
        let mut futex = Transport::<WORDS>::receiver(&self.futex);
        self.processes.word(index).store(u64::from(std::process::id()), Ordering::Release);
        let waits_for = self.waits_for.word(index);
        for turn in 1..=self.turns {
            waits_for.store(2 * turn, Ordering::Release);
            let value = Receiver::<WORDS>::receive_asleep(&mut futex, Touch::First);
            assert_eq!(value, turn, "another wake");
            waits_for.store(2 * turn + 1, Ordering::Release);
            let value = Receiver::<WORDS>::receive_asleep(&mut reader, Touch::First);
            assert_eq!(value, turn, "another sample");
        }
    }

    /// Returns when every reader waits for this and sleeps.
    fn await_asleep(&self, turn: u64) {
        for index in 0..self.readers {
            while self.waits_for.word(index).load(Ordering::Acquire) != turn {
                spin_loop();
            }
            let process = self.processes.word(index).load(Ordering::Acquire);
            while !is_asleep(process as libc::pid_t) {
                spin_loop();
            }
        }
        spin(ASLEEP);
    }

    /// Notes the ticks of each commit, and returns those of each raw wake. System calls are counted
    /// during commits.
    fn wake(&self) -> Vec<u32> {
        let writer = Transport::<WORDS>::sender(&self.lane);
        let mut futex = Transport::<WORDS>::sender(&self.futex);
        let mut raw_wakes = Vec::new();
        for turn in 1..=self.turns {
            self.await_asleep(2 * turn);
            let start = ticks();
            Sender::<WORDS>::send(&mut futex, turn, Touch::First);
            raw_wakes.push((ticks() - start).min(u64::from(u32::MAX)) as u32);
            self.await_asleep(2 * turn + 1);
            let mut loan = writer.reserve(8 * WORDS, None).expect("a slot");
            // SAFETY: a loan of that many bytes.
            unsafe { fill::<WORDS>(loan.as_mut_ptr().cast(), turn, Touch::First) };
            self.place.counting.0.store(1, Ordering::Release);
            let start = ticks();
            loan.commit(8 * WORDS).expect("a commit");
            let took = ticks() - start;
            self.place.counting.0.store(0, Ordering::Release);
            self.place.note(took);
        }
        raw_wakes
    }

    fn fork_readers(&self, before: impl Fn()) -> Vec<libc::pid_t> {
        let child = |index| {
            fork(1, || {
                before();
                self.sleep(index);
            })
        };
        (0..self.readers).map(child).collect()
    }
}

/// The commit alone, compared with the wake of a raw futex.
pub(crate) fn waking_commit(place: &Place, readers: usize, turns: u64) -> Option<Sample> {
    let before = hop(place);
    place.clear();
    let sleepers = Sleepers::new(place, readers, turns);
    let mut children = sleepers.fork_readers(|| ());
    children.push(fork(0, || {
        let mut raw_wakes = sleepers.wake();
        raw_wakes.sort_unstable();
        place.put(0, middle(&raw_wakes));
    }));
    let well = join(&children);
    let (commits, limit) = (place.noted(), place.get(0));
    let state = State::agreed(before, hop(place));
    well.then(|| Sample {
        state,
        figures: Figures::of_turns(commits, 1.0),
        limit: Some(limit),
        interrupted: false,
    })
}

/// System calls of the writer for each commit that wakes so many.
pub(crate) fn calls_per_waking_commit(place: &Place, readers: usize) -> Option<f64> {
    const TURNS: u64 = 10;
    place.clear();
    let sleepers = Sleepers::new(place, readers, TURNS);
    let writer = fork(0, || {
        syscalls::await_tracer();
        sleepers.wake();
    });
    let mut children = vec![writer];
    children.extend(sleepers.fork_readers(syscalls::await_tracer));
    syscalls::count(place, &children).map(|calls| calls.first as f64 / TURNS as f64)
}
