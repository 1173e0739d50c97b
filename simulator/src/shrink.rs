//! Makes a failing run smaller as long as it fails in the same way: fewer operations, faults and
//! switches, and no store buffers if it fails without them.

use crate::case::{Case, Planned};
use crate::machine::Machine;
use crate::scheduler::{Scheduler, Turn};

/// Most runs that are tried.
const TRIES: u32 = 30_000;

/// A run that fails, and the order of its steps.
pub(crate) struct Failing {
    pub(crate) case: Case,
    pub(crate) turns: Vec<Turn>,
    pub(crate) broken: String,
}

impl Failing {
    /// The run of the machine's case in its own order, which was seen to fail; `None` if it does
    /// not fail.
    pub(crate) fn record(machine: &'static Machine) -> Option<Failing> {
        let case = machine.case.borrow().clone();
        let mut scheduler = Scheduler::of_pace(case.pace, case.seed);
        scheduler.taken = Some(Vec::new());
        let broken = machine.run(scheduler)?;
        Some(Failing { case, turns: machine.taken(), broken })
    }

    fn size(&self) -> usize {
        let plans: usize = self.case.plans.iter().map(Vec::len).sum();
        let faults =
            self.case.plans.iter().flatten().filter(|planned| planned.fault.is_some()).count();
        plans + faults + self.turns.len()
    }

    pub(crate) fn operations(&self) -> usize {
        self.case.plans.iter().map(Vec::len).sum()
    }
}

/// The smallest run that was found to break the same property.
pub(crate) fn shrink(machine: &'static Machine, failing: Failing) -> Failing {
    let mut shrinker = Shrinker { machine, best: failing, tries: 0 };
    loop {
        let before = shrinker.best.size();
        shrinker.drop_buffers();
        shrinker.drop_plans();
        shrinker.drop_operations();
        shrinker.drop_faults();
        shrinker.drop_turns();
        shrinker.shorten_turns();
        if shrinker.best.size() >= before || shrinker.tries >= TRIES {
            return shrinker.best;
        }
    }
}

struct Shrinker {
    machine: &'static Machine,
    best: Failing,
    tries: u32,
}

impl Shrinker {
    /// Whether this run breaks the same property; then it is the best one.
    fn accepts(&mut self, case: Case, turns: Vec<Turn>) -> bool {
        if self.tries >= TRIES {
            return false;
        }
        self.tries += 1;
        let Some((broken, taken)) = repeat(self.machine, &case, turns) else { return false };
        let same = kind(&broken) == kind(&self.best.broken);
        let failing = Failing { case, turns: taken, broken };
        if same && failing.size() <= self.best.size() {
            self.best = failing;
        }
        same
    }

    fn drop_buffers(&mut self) {
        if self.best.case.longest_delay > 0 {
            let case = Case { longest_delay: 0, ..self.best.case.clone() };
            self.accepts(case, self.best.turns.clone());
        }
    }

    fn drop_plans(&mut self) {
        for process in 0..self.best.case.plans.len() {
            if !self.best.case.plans[process].is_empty() {
                let mut case = self.best.case.clone();
                case.plans[process].clear();
                self.accepts(case, self.best.turns.clone());
            }
        }
    }

    fn drop_operations(&mut self) {
        for process in 0..self.best.case.plans.len() {
            let plan = |best: &Failing| best.case.plans[process].clone();
            self.drop_parts(plan, |best, plan: Vec<Planned>| {
                let mut case = best.case.clone();
                case.plans[process] = plan;
                (case, best.turns.clone())
            });
        }
    }

    fn drop_turns(&mut self) {
        self.drop_parts(|best| best.turns.clone(), |best, turns| (best.case.clone(), turns));
    }

    /// Removes smaller and smaller parts of a list of the best run, where it fails without them.
    fn drop_parts<T: Clone>(
        &mut self,
        list: impl Fn(&Failing) -> Vec<T>,
        with: impl Fn(&Failing, Vec<T>) -> (Case, Vec<Turn>),
    ) {
        let mut part = list(&self.best).len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            loop {
                let mut shorter = list(&self.best);
                if from >= shorter.len() {
                    break;
                }
                shorter.drain(from..(from + part).min(shorter.len()));
                let (case, turns) = with(&self.best, shorter);
                let before = self.best.size();
                if !self.accepts(case, turns) || self.best.size() >= before {
                    from += part;
                }
            }
            part /= 2;
        }
    }

    fn drop_faults(&mut self) {
        for process in 0..self.best.case.plans.len() {
            for at in 0..self.best.case.plans[process].len() {
                if self.best.case.plans[process][at].fault.is_some() {
                    let mut case = self.best.case.clone();
                    case.plans[process][at].fault = None;
                    self.accepts(case, self.best.turns.clone());
                }
            }
        }
    }

    /// Lets each turn continue until its process cannot: then the next turn was no preemption. A
    /// drain continues until the buffer is empty.
    fn shorten_turns(&mut self) {
        let mut at = 0;
        while at < self.best.turns.len() {
            let mut turns = self.best.turns.clone();
            turns[at].steps = u32::MAX;
            self.accepts(self.best.case.clone(), turns);
            at += 1;
        }
    }
}

/// Runs a case in a given order, as far as it is possible; returns how it failed, and in which
/// order.
pub(crate) fn repeat(
    machine: &'static Machine,
    case: &Case,
    turns: Vec<Turn>,
) -> Option<(String, Vec<Turn>)> {
    machine.case.borrow_mut().clone_from(case);
    let mut scheduler = Scheduler::repeating(turns);
    scheduler.taken = Some(Vec::new());
    let broken = machine.run(scheduler);
    let taken = machine.taken();
    broken.map(|broken| (broken, taken))
}

/// What was broken, without its numbers.
fn kind(broken: &str) -> String {
    let without = broken.trim_start_matches(|c: char| c != ':').to_string();
    let text = if without.is_empty() { broken } else { &without };
    text.chars().filter(|c| c.is_alphabetic() || *c == ' ').take(40).collect()
}
