//! Regions: room for payloads that are too large for a slot.
//!
//! A region is leased to one generation of one slot, from reserve on. The slot's words show when
//! that lease is over: a later generation, a loan that was given back, or a sample that nobody is
//! owed or holds any more. So nobody returns a region, no reader writes to its row, and what a dead
//! process had leased is free as soon as its slots are.

use super::slot::is_clear;
use super::table::Table;
use super::words::{Ctl, Loan, Phase};
use crate::atomics::{Ordering, fence};
use crate::error::Code;
use crate::layout::bits::lease as bits;

/// A lease word: state, number of a slot or participant, and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease(u64);

/// Not leased since its memory was given back.
const NONE: Lease = Lease(0);
/// Leased to a generation of a slot.
const LEASED: u64 = 1;
/// A participant is giving its memory back.
const EMPTYING: u64 = 2;

impl Lease {
    fn of(slot: u32, generation: u64) -> Lease {
        Lease(
            bits::GENERATION.put(generation)
                | bits::NUMBER.put(slot.into())
                | bits::STATE.put(LEASED),
        )
    }

    fn emptying(participant: u32) -> Lease {
        Lease(bits::NUMBER.put(participant.into()) | bits::STATE.put(EMPTYING))
    }

    fn state(self) -> u64 {
        bits::STATE.get(self.0)
    }

    fn number(self) -> u32 {
        bits::NUMBER.get(self.0) as u32
    }

    /// Whether the generation that has the region is over. Acquire, as in `loan::claim`: its
    /// readers are done with the bytes.
    fn is_over(self, table: &Table<'_>) -> Result<bool, Code> {
        match self.state() {
            LEASED => {
                let slot = self.number();
                let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
                // A slot that is free or has no marks stays so until its next generation, because
                // only commits set marks.
                Ok(ctl.generation() != bits::GENERATION.get(self.0)
                    || match ctl.phase() {
                        Some(Phase::Free) => true,
                        Some(Phase::Published) => is_clear(table.line(slot)?, &table.shape),
                        _ => false,
                    })
            }
            EMPTYING => Ok(false),
            _ => Ok(self == NONE),
        }
    }
}

/// The slot that a region is leased to.
pub(crate) fn slot_of(table: &Table<'_>, region: u32) -> Option<u32> {
    let lease = Lease(table.regions.get(region as usize)?.lease.load(Ordering::Relaxed));
    (lease.state() == LEASED).then_some(lease.number())
}

/// Checks that a region is still leased to this generation of a slot; stale otherwise. It is for
/// callers without a mark: what they read from the region before this, followed by an acquire
/// fence, belongs to this generation. Pairs with the fence in `exchange`.
#[cold]
pub(crate) fn check_lease(
    table: &Table<'_>,
    region: u32,
    slot: u32,
    generation: u64,
) -> Result<(), Code> {
    let row = table.regions.get(region as usize).ok_or(Code::Corrupt)?;
    // Relaxed: ordered by the caller's fence.
    let lease = Lease(row.lease.load(Ordering::Relaxed));
    if lease == Lease::of(slot, generation) { Ok(()) } else { Err(Code::Stale) }
}

/// The best free region for so many bytes: the one with enough memory and the least excess, or, if
/// none has enough, the one with the most. So a steady load uses few regions, whose pages are warm.
fn best(table: &Table<'_>, len: u64) -> Result<Option<(u32, Lease)>, Code> {
    let mut best: Option<((u8, u64), u32, Lease)> = None;
    for (region, row) in (0u32..).zip(table.regions) {
        let lease = Lease(row.lease.load(Ordering::Acquire));
        if lease.is_over(table)? {
            let allocated = row.allocated.load(Ordering::Relaxed);
            let rank = if allocated >= len { (0, allocated) } else { (1, u64::MAX - allocated) };
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, region, lease));
            }
        }
    }
    Ok(best.map(|(_, region, lease)| (region, lease)))
}

/// How many regions are in use. What cannot be told counts as used.
pub(crate) fn in_use(table: &Table<'_>) -> u32 {
    let is_free = |lease: Lease| lease.is_over(table).unwrap_or(false);
    let used =
        table.regions.iter().filter(|row| !is_free(Lease(row.lease.load(Ordering::Acquire))));
    used.count() as u32
}

/// Whether some region is free.
pub(crate) fn any_free(table: &Table<'_>) -> Result<bool, Code> {
    Ok(best(table, 0)?.is_some())
}

/// Leases a region to a loan of this thread; `None` if none is free.
pub(crate) fn lease(table: &Table<'_>, loan: Loan, len: u64) -> Result<Option<u32>, Code> {
    // The loop ends: each writer that takes a region away meanwhile leases it to a generation of a
    // slot.
    for _ in 0..=table.regions.len() {
        let Some((region, over)) = best(table, len)? else { return Ok(None) };
        if exchange(table, region, over, Lease::of(loan.slot, loan.generation)) {
            return Ok(Some(region));
        }
    }
    Ok(None)
}

/// Takes a region out of use to give its memory back; false if it is not free.
pub(crate) fn begin_emptying(
    table: &Table<'_>,
    region: u32,
    participant: u32,
) -> Result<bool, Code> {
    let row = table.regions.get(region as usize).ok_or(Code::Corrupt)?;
    let lease = Lease(row.lease.load(Ordering::Acquire));
    if !lease.is_over(table)? || !exchange(table, region, lease, Lease::emptying(participant)) {
        return Ok(false);
    }
    // Before the memory is given back. A kill after this leaves a region with more memory than it
    // records.
    row.allocated.store(0, Ordering::Relaxed);
    Ok(true)
}

/// Puts a region back into use that this thread, or a dead participant, was emptying.
pub(crate) fn end_emptying(table: &Table<'_>, region: u32, participant: u32) {
    exchange(table, region, Lease::emptying(participant), NONE);
}

/// The regions that a participant was emptying.
pub(crate) fn emptied_by(table: &Table<'_>, participant: u32) -> impl Iterator<Item = u32> {
    let mine = Lease::emptying(participant);
    (0u32..)
        .zip(table.regions)
        .filter(move |(_, row)| row.lease.load(Ordering::Relaxed) == mine.0)
        .map(|(region, _)| region)
}

fn exchange(table: &Table<'_>, region: u32, from: Lease, to: Lease) -> bool {
    // AcqRel: pairs with itself, so one of two writers gets the region, and sees what the other
    // stored about it.
    let exchanged = table.regions.get(region as usize).is_some_and(|row| {
        row.lease.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    });
    // A process that sees anything written to the region after this also sees that the former lease
    // is over. Pairs with the acquire fence before `check_lease`.
    fence(Ordering::Release);
    exchanged
}
