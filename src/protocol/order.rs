//! The order: how a sample gets its sequence, and where a sequence is found.
//!
//! Sequence s has its place in line s mod n, entry (s / n) mod 2. The exchange of that entry
//! publishes it, in one step. Two laps of entries are necessary and sufficient: a reader is owed at
//! most n samples, and if it joins while commits are under way, up to n - 1 samples that are not
//! owed to it may lie between them.

use core::cmp;
use core::num::NonZeroU64;

use super::bounds::StepBudget;
use super::shape::Shape;
use super::table::Table;
use super::words::Entry;
use crate::atomics::{AtomicU64, Ordering};
use crate::error::Code;

/// The first sequence of a segment; 0 means none.
pub(crate) const FIRST: u64 = 1;

/// No reader joins from this sequence on, which no honest segment reaches in centuries: so no reader
/// comes to a sequence that does not fit a token of a sample.
pub(crate) const LATEST_JOIN: u64 = 1 << 61;

/// A sequence that an honest process can have reached: not 0, and less than 2^63.
#[inline(always)]
pub(crate) fn honest(sequence: u64) -> Option<NonZeroU64> {
    if sequence as i64 > 0 { NonZeroU64::new(sequence) } else { None }
}

/// A sequence and its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) line: u32,
    pub(crate) lap: u32,
}

impl Position {
    #[inline(always)]
    pub(crate) fn of(shape: &Shape, sequence: u64) -> Position {
        let (line, lap) = match shape.shift {
            Some(shift) => (shape.home_of_plain(sequence), (sequence >> shift) as u32),
            None => divide(sequence, shape.slots),
        };
        Position { sequence, line, lap: lap & 1 }
    }

    /// The place of the next sequence, computed without a division.
    #[inline]
    pub(crate) fn next(self, shape: &Shape) -> Position {
        let wraps = self.line + 1 >= shape.slots;
        Position {
            sequence: self.sequence.wrapping_add(1),
            line: if wraps { 0 } else { self.line + 1 },
            lap: self.lap ^ u32::from(wraps),
        }
    }

    #[inline]
    pub(crate) fn entry<'a>(self, table: &'a Table<'_>) -> Result<&'a AtomicU64, Code> {
        let line = table.line(self.line)?;
        line.entry.get(self.lap as usize).ok_or(Code::Corrupt)
    }

    /// The entry at this place. Acquire: pairs with the exchange in `Sample::publish_among`, so
    /// everything that the writer stored for the sample is visible after it.
    #[inline]
    pub(crate) fn look(self, table: &Table<'_>) -> Result<Entry, Code> {
        Ok(Entry(self.entry(table)?.load(Ordering::Acquire)))
    }
}

/// The entry of a sequence.
#[inline(always)]
pub(crate) fn entry_of<'t>(
    table: &'t Table<'_>,
    shape: &Shape,
    sequence: u64,
) -> Result<&'t AtomicU64, Code> {
    match shape.shift {
        Some(_) => Ok(table.slots.entry_at_home(sequence)),
        None => Position::of(shape, sequence).entry(table),
    }
}

/// Out of line, so that the common case does not pay for the registers of a division.
#[inline(never)]
fn divide(sequence: u64, slots: u32) -> (u32, u32) {
    let slots = u64::from(slots);
    ((sequence % slots) as u32, (sequence / slots) as u32)
}

/// The sequence that the next sample gets, as far as this thread can see.
pub(crate) fn tail(table: &Table<'_>) -> u64 {
    // Acquire: pairs with the exchanges in `advance_to` and with the stores of single writers, so the
    // entries before it are visible.
    table.hot.tail.0.load(Ordering::Acquire)
}

/// Moves the tail past `sequence`, which is published.
pub(crate) fn advance(table: &Table<'_>, sequence: u64) {
    advance_to(table, sequence, sequence.wrapping_add(1));
}

/// Moves the tail from `seen` to `sequence`, before which everything is published.
pub(crate) fn advance_to(table: &Table<'_>, seen: u64, sequence: u64) {
    let tail = &table.hot.tail.0;
    // AcqRel: pairs with `tail`. Failure means that another process has moved it.
    let _ = tail.compare_exchange(seen, sequence, Ordering::AcqRel, Ordering::Relaxed);
}

/// The tail after all samples that are already published, whoever published them.
pub(crate) fn settled_tail(table: &Table<'_>) -> Result<u64, Code> {
    settle_tail(table, &mut StepBudget::of_retries())
}

/// The sequence that the next sample gets, by loads alone; in a corrupt order, one that the tail
/// says.
pub(crate) fn next_sequence(table: &Table<'_>) -> u64 {
    let mut steps = StepBudget::of_retries();
    let mut sequence = tail(table);
    while steps.take().is_ok() {
        match Position::of(&table.shape, sequence).look(table).map(|entry| entry.compare(sequence))
        {
            Ok(cmp::Ordering::Equal) => sequence = sequence.wrapping_add(1),
            // Two laps have passed meanwhile.
            Ok(cmp::Ordering::Greater) => sequence = tail(table),
            Ok(cmp::Ordering::Less) | Err(_) => break,
        }
    }
    sequence
}

/// As [`settled_tail`], within the budget of a longer call.
pub(crate) fn settle_tail(table: &Table<'_>, steps: &mut StepBudget) -> Result<u64, Code> {
    loop {
        steps.take()?;
        let sequence = tail(table);
        if Position::of(&table.shape, sequence).look(table)?.compare(sequence)
            != cmp::Ordering::Equal
        {
            return Ok(sequence);
        }
        advance(table, sequence);
    }
}
