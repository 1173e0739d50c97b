//! The census: counts what each slot is used for, for an observer, or for a writer that finds
//! nothing free.
//!
//! It only loads, in one walk over all slots without retries, so it disturbs no other process and
//! always ends. In a segment at rest the numbers are exact. Each slot is loaded at a moment of its
//! own, so while others run the sums may be off by what they change meanwhile; but each slot is
//! counted exactly once.

use super::rows;
use super::shape::Shape;
use super::slot;
use super::table::Table;
use super::words::{Audience, Ctl, Owner, Phase};
use crate::atomics::Ordering;
use crate::layout::{MAX_READERS, SlotLine};

/// Slots by their use. Each is counted once, so the sum is the number of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Free for the next reserve.
    pub(crate) free: u32,
    /// On loan, being committed, or being taken away: a writer has it.
    pub(crate) loaned: u32,
    /// Some reader has not read its sample, and nobody holds it.
    pub(crate) unread: u32,
    /// Some reader holds its sample.
    pub(crate) held: u32,
    /// Only history keeps its sample.
    pub(crate) retained: u32,
}

impl Slots {
    fn add(&mut self, slot: &Use) {
        let count = match slot {
            Use::Free => &mut self.free,
            Use::Loaned(_) => &mut self.loaned,
            Use::Sample(sample) if sample.held != 0 => &mut self.held,
            Use::Sample(sample) if sample.unread != 0 => &mut self.unread,
            Use::Sample(_) => &mut self.retained,
        };
        *count += 1;
    }
}

/// The samples of one reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Samples that it has not read.
    pub(crate) unread: u32,
    /// Samples that it holds.
    pub(crate) held: u32,
    /// Sequence and slot of the oldest of these.
    pub(crate) oldest_held: Option<(u64, u32)>,
}

/// What keeps a writer from getting a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Obstacles {
    pub(crate) slots: Slots,
    /// Of the slots on loan, those of the writer that asks.
    pub(crate) own_loans: u32,
    /// Readers that have not read some sample, reader i as bit i.
    pub(crate) unread_by: u64,
    /// Readers that hold some sample.
    pub(crate) held_by: u64,
}

/// Counts what each slot is used for.
pub(crate) fn slots(table: &Table<'_>) -> Slots {
    let mut counted = Slots::default();
    walk(table, |_, slot| counted.add(&slot));
    counted
}

/// Counts the samples of each reader, by its index.
pub(crate) fn readers(table: &Table<'_>) -> [Tally; MAX_READERS as usize] {
    let mut tallies = [Tally::default(); MAX_READERS as usize];
    walk(table, |slot, seen| {
        let Use::Sample(sample) = seen else { return };
        each_of(sample.unread | sample.held, |reader| {
            let Some(tally) = tallies.get_mut(reader as usize) else { return };
            tally.unread += (sample.unread >> reader & 1) as u32;
            if sample.held >> reader & 1 != 0 {
                tally.held += 1;
                if tally.oldest_held.is_none_or(|(oldest, _)| sample.sequence < oldest) {
                    tally.oldest_held = Some((sample.sequence, slot));
                }
            }
        });
    });
    tallies
}

/// Calls `see` with the owner of each loaned slot.
pub(crate) fn loans(table: &Table<'_>, mut see: impl FnMut(Owner)) {
    walk(table, |_, slot| {
        if let Use::Loaned(owner) = slot {
            see(owner);
        }
    });
}

/// What keeps the writer `owner` from getting a slot.
pub(crate) fn obstacles(table: &Table<'_>, owner: Owner) -> Obstacles {
    let mut found = Obstacles::default();
    walk(table, |_, slot| {
        found.slots.add(&slot);
        match slot {
            Use::Loaned(other) => found.own_loans += u32::from(other == owner),
            Use::Sample(sample) => {
                found.unread_by |= sample.unread;
                found.held_by |= sample.held;
            }
            Use::Free => {}
        }
    });
    found
}

/// The use of a slot.
enum Use {
    Free,
    Loaned(Owner),
    Sample(Sample),
}

/// A sample that is kept; if no reader keeps it, history does.
struct Sample {
    /// The largest number if the slot is just changing.
    sequence: u64,
    /// Readers that have not read it, reader i as bit i.
    unread: u64,
    /// Readers that hold it. One that has only peeked is in both sets.
    held: u64,
}

fn walk(table: &Table<'_>, mut see: impl FnMut(u32, Use)) {
    // In a lossless segment, a reader holds those of its unmarked samples that are before its
    // cursor.
    let mut cursors = [0; MAX_READERS as usize];
    if !table.shape.drop_oldest {
        for (cursor, row) in cursors.iter_mut().zip(table.readers) {
            *cursor = rows::look(row).map_or(0, |seen| seen.cursor.unwrap_or(0));
        }
    }
    for ((slot, line), claim) in (0u32..).zip(table.slots.lines()).zip(table.slots.claims()) {
        // Acquire: the marks below are not older than the phase.
        let ctl = Ctl(claim.ctl.load(Ordering::Acquire));
        let used = match ctl.phase() {
            Some(Phase::Free) => Use::Free,
            Some(Phase::Published) => {
                sample_of(line, &table.shape, &cursors).map_or(Use::Free, Use::Sample)
            }
            _ => Use::Loaned(ctl.owner()),
        };
        see(slot, used);
    }
}

/// What keeps the sample of a line; `None` if nothing does.
fn sample_of(line: &SlotLine, shape: &Shape, cursors: &[u64]) -> Option<Sample> {
    // Relaxed: a count uses nothing that this word guards.
    let sequence = line.sequence.load(Ordering::Relaxed);
    let (mut owed, mut held, mut settled) = (Audience(0), Audience(0), true);
    for (word, marks) in line.marks.iter().take(shape.mark_words).enumerate() {
        let seen = slot::load_marks(line, shape, marks);
        owed.0 |= seen.owed(word).0;
        held.0 |= seen.held(word).0;
        settled &= seen.is_clear() || seen.is_of(sequence);
    }
    if owed.0 | held.0 == 0 {
        return None;
    }
    let sequence = if settled { sequence } else { u64::MAX };
    let mut read = 0;
    each_of(owed.readers(), |reader| {
        let before = cursors.get(reader as usize).is_some_and(|cursor| sequence < *cursor);
        read |= u64::from(before) << reader;
    });
    Some(Sample { sequence, unread: owed.readers() & !read, held: held.readers() | read })
}

/// Calls `see` with the number of each bit that is set.
fn each_of(mut bits: u64, mut see: impl FnMut(u32)) {
    while bits != 0 {
        see(bits.trailing_zeros());
        bits &= bits - 1;
    }
}
