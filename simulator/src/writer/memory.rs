//! What a writer remembers, and when it tries to make the segment calm again.

use std::cell::Cell;

use crate::machine::Machine;
use crate::protocol::calm::{Guess, Memory};
use crate::protocol::order;
use crate::protocol::slot;
use crate::protocol::table::Table;

/// What a writer remembers of a segment that can be calm, as the `CalmWriter` of the library.
pub(super) struct CalmWriter {
    pub(super) memory: Memory,
    /// The sequence after its own last one.
    next: Cell<u64>,
    /// How many more commits are expected to meet other writers.
    contended: Cell<u32>,
    lag: u64,
    patience: Cell<u32>,
    most_patience: u32,
}

impl CalmWriter {
    /// Fewer than in the library, so that a run goes to both sides of it.
    const CONTENDED: u32 = 3;

    pub(super) fn new(machine: &Machine) -> CalmWriter {
        let patience = machine.case.borrow().patience;
        let slots = u64::from(machine.world.shape().slots);
        CalmWriter {
            memory: Memory::new(),
            next: Cell::new(0),
            contended: Cell::new(0),
            lag: (slots / 4).clamp(1, 16),
            patience: Cell::new(patience),
            most_patience: patience,
        }
    }

    pub(super) fn next(&self, tail: u64) -> u64 {
        self.next.get().max(tail)
    }

    pub(super) fn guess(&self) -> Guess {
        let lag = if self.contended.get() != 0 { 1 } else { self.lag };
        Guess { next: self.next.get(), lag }
    }

    /// Notes the last sequence of as many commits.
    pub(super) fn note(&self, table: &Table<'_>, sequence: u64, commits: u64) {
        let next = sequence + 1;
        let met = next != self.next.replace(next) + commits;
        if met || self.contended.get() != 0 {
            order::advance(table, sequence);
            let left = self.contended.get().saturating_sub(1);
            self.contended.set(if met { CalmWriter::CONTENDED } else { left });
        }
    }

    /// After as many commits that were not calm.
    pub(super) fn settle(&self, table: &Table<'_>, commits: u32) {
        let left = self.patience.get().saturating_sub(commits);
        self.patience.set(left);
        if left == 0 {
            self.patience.set(self.most_patience);
            table.attention().settle(|| !slot::anybody_listens(table));
        }
    }
}
