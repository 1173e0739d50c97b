//! Chooses the process that makes the next step.

use crate::case::MAX_PROCESSES;
use crate::random::{self, Random};

/// Every process that can be scheduled, and the one that recovers at the end.
pub(crate) const SCHEDULED: usize = MAX_PROCESSES + 1;

/// The number of a process, plus this: a drain of its buffer, as a choice beside the steps of
/// processes.
pub(crate) const DRAINS: usize = 16;
const STEPS: u32 = (1 << SCHEDULED) - 1;

/// How a run chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Switches to a random other process, before one step in so many.
    Uniform(u32),
    /// Runs the process with the highest priority; so many times, at some of the first steps, the
    /// running one gets the lowest (PCT).
    Priorities { changes: u32, among: u32 },
}

/// One process for so many steps, or so many drains of its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) process: u8,
    pub(crate) steps: u32,
}

const MAX_CHANGES: usize = 8;

pub(crate) struct Scheduler {
    random: Random,
    choice: Choice,
    /// What was chosen, if that is recorded.
    pub(crate) taken: Option<Vec<Turn>>,
}

enum Choice {
    Uniform {
        stay_below: u32,
    },
    Priorities {
        of: [i32; SCHEDULED],
        lowest: i32,
        changes: [u64; MAX_CHANGES],
        step: u64,
    },
    /// In the order of another run, as far as that is possible.
    Repeated {
        turns: Vec<Turn>,
        at: usize,
        left: u32,
    },
}

impl Scheduler {
    pub(crate) fn of_pace(pace: Pace, seed: u64) -> Scheduler {
        let mut random = Random::new(!seed);
        let choice = match pace {
            Pace::Uniform(one_of) => Choice::Uniform { stay_below: u32::MAX - u32::MAX / one_of },
            Pace::Priorities { changes, among } => {
                let mut of = std::array::from_fn(|index| index as i32);
                for last in (1..SCHEDULED).rev() {
                    of.swap(last, random.below(last as u32 + 1) as usize);
                }
                let mut points = [u64::MAX; MAX_CHANGES];
                for point in points.iter_mut().take(changes as usize) {
                    *point = u64::from(random.below(among.max(1)));
                }
                Choice::Priorities { of, lowest: -1, changes: points, step: 0 }
            }
        };
        Scheduler { random, choice, taken: None }
    }

    pub(crate) fn repeating(turns: Vec<Turn>) -> Scheduler {
        let choice = Choice::Repeated { turns, at: 0, left: 0 };
        Scheduler { random: Random::new(0), choice, taken: None }
    }

    /// One of the processes in `able`, of which there is at least one; `running` made the last
    /// step. In the order of another run it may be a drain; other drains come when they are due.
    #[inline]
    pub(crate) fn choose(&mut self, able: u32, running: usize) -> usize {
        let ready = able & STEPS;
        let chosen = match &mut self.choice {
            Choice::Uniform { stay_below } => {
                let number = self.random.next();
                if ready >> running & 1 != 0 && (number as u32) < *stay_below {
                    running
                } else {
                    nth_of(ready, random::scale((number >> 32) as u32, ready.count_ones()))
                }
            }
            Choice::Priorities { of, lowest, changes, step } => {
                *step += 1;
                if changes.contains(step) {
                    of[running] = *lowest;
                    *lowest -= 1;
                }
                (0..SCHEDULED)
                    .filter(|p| ready >> p & 1 != 0)
                    .max_by_key(|p| of[*p])
                    .unwrap_or(running)
            }
            Choice::Repeated { turns, at, left } => repeat(turns, at, left, able, running),
        };
        self.note(chosen);
        chosen
    }

    /// As `choose`, after a step that leads to nothing until another process makes one.
    pub(crate) fn choose_another(&mut self, able: u32, running: usize) -> usize {
        let others = able & !(1 << running);
        if let Choice::Priorities { of, lowest, .. } = &mut self.choice {
            of[running] = *lowest;
            *lowest -= 1;
        }
        self.choose(if others & STEPS == 0 { able } else { others }, running)
    }

    /// For how many steps a store waits in its buffer, if nothing else drains it: for less than a
    /// power of two, of which each up to the one of `longest` is equally likely. `None`: until the
    /// other run drained it.
    pub(crate) fn delay(&mut self, longest: u32) -> Option<u64> {
        if matches!(self.choice, Choice::Repeated { .. }) {
            return None;
        }
        let number = self.random.next();
        let below = 1 << random::scale(number as u32, longest + 1);
        Some(random::scale((number >> 32) as u32, below).into())
    }

    /// A drain that was due.
    pub(crate) fn drains(&mut self, process: usize) {
        self.note(DRAINS + process);
    }

    #[inline]
    fn note(&mut self, chosen: usize) {
        let Some(taken) = &mut self.taken else { return };
        match taken.last_mut() {
            Some(turn) if turn.process == chosen as u8 => turn.steps += 1,
            _ => taken.push(Turn { process: chosen as u8, steps: 1 }),
        }
    }
}

/// The process of the `n`th set bit.
fn nth_of(mut ready: u32, n: u32) -> usize {
    for _ in 0..n {
        ready &= ready - 1;
    }
    ready.trailing_zeros() as usize
}

fn repeat(turns: &[Turn], at: &mut usize, left: &mut u32, able: u32, running: usize) -> usize {
    // `left` are the steps of the turn before `at`.
    loop {
        if *left > 0 {
            let process = usize::from(turns[*at - 1].process);
            if able >> process & 1 != 0 {
                *left -= 1;
                return process;
            }
        }
        let Some(turn) = turns.get(*at) else { break };
        *left = turn.steps;
        *at += 1;
    }
    if able >> running & 1 != 0 { running } else { (able & STEPS).trailing_zeros() as usize }
}
