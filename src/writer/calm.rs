//! What a writer remembers of a segment that can be calm, and when it tries to make it calm again.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::protocol::calm::{Guess, Memory};
use crate::protocol::order;
use crate::protocol::slot;
use crate::protocol::table::Table;

/// What a writer remembers of a segment that can be calm. Threads that share the writer may see
/// older values, and then do a little more.
pub(super) struct CalmWriter {
    pub(super) memory: Memory,
    /// The sequence after its own last one: guesses where the order ends.
    next: AtomicU64,
    /// How many more commits are expected to meet other writers. Then each moves the tail at once,
    /// because the others guess their home slots by it.
    contended: AtomicU32,
    /// How far the tail may fall behind otherwise, and at this moment.
    most_lag: u64,
    lag: AtomicU64,
    /// Commits until it tries to make an alert segment calm.
    patience: AtomicU32,
}

impl CalmWriter {
    /// So many commits look for other writers after one was met.
    const CONTENDED: u32 = 64;
    /// So many commits pass a real fence before one tries to save the others theirs: a sleeper that
    /// comes after that pays a system call.
    const PATIENCE: u32 = 1024;
    const MOST_LAG: u64 = 16;

    pub(super) fn new(slots: u32) -> CalmWriter {
        let most_lag = u64::from(slots / 4).clamp(1, CalmWriter::MOST_LAG);
        CalmWriter {
            memory: Memory::new(),
            next: AtomicU64::new(0),
            contended: AtomicU32::new(0),
            most_lag,
            lag: AtomicU64::new(most_lag),
            patience: AtomicU32::new(CalmWriter::PATIENCE),
        }
    }

    /// The next sequence, as far as the tail and this writer know.
    #[inline(always)]
    pub(super) fn next(&self, tail: u64) -> u64 {
        self.next.load(Ordering::Relaxed).max(tail)
    }

    /// Moves the tail to where this writer knows that it is, for searches that begin there.
    pub(super) fn move_tail(&self, table: &Table<'_>) {
        let tail = order::tail(table);
        // Acquire: as in `guess`.
        let next = self.next.load(Ordering::Acquire);
        if next > tail {
            order::advance_to(table, tail, next);
        }
    }

    #[inline(always)]
    pub(super) fn guess(&self) -> Guess {
        // Acquire: pairs with the release in `note`. A thread that moves the tail past a sample of
        // another thread releases that sample's entry with it.
        let next = self.next.load(Ordering::Acquire);
        // Relaxed: either is right.
        Guess { next, lag: self.lag.load(Ordering::Relaxed) }
    }

    /// Notes the last sequence of as many commits.
    #[inline(always)]
    pub(super) fn note(&self, table: &Table<'_>, sequence: u64, commits: u64) {
        let next = sequence.wrapping_add(1);
        let met = next != self.next.load(Ordering::Relaxed).wrapping_add(commits);
        // Release: pairs with the acquire in `guess`.
        self.next.store(next, Ordering::Release);
        if met || self.contended.load(Ordering::Relaxed) != 0 {
            self.meet_others(table, met, sequence, commits);
        }
    }

    #[inline(never)]
    fn meet_others(&self, table: &Table<'_>, met: bool, sequence: u64, commits: u64) {
        order::advance(table, sequence);
        let left = self.contended.load(Ordering::Relaxed).saturating_sub(commits as u32);
        let left = if met { CalmWriter::CONTENDED } else { left };
        self.contended.store(left, Ordering::Relaxed);
        self.lag.store(if left == 0 { self.most_lag } else { 1 }, Ordering::Relaxed);
    }

    /// After as many commits that were not calm.
    pub(super) fn settle(&self, table: &Table<'_>, commits: u32) {
        let left = self.patience.load(Ordering::Relaxed).saturating_sub(commits);
        self.patience.store(left, Ordering::Relaxed);
        if left == 0 || table.attention().asks_for_help() {
            self.patience.store(CalmWriter::PATIENCE, Ordering::Relaxed);
            table.attention().settle(|| !slot::anybody_listens(table));
        }
    }
}
