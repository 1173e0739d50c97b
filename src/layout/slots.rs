//! The slots of a segment: the line and the claim of each.
#![allow(unsafe_code)] // One check serves for both tables.

use super::words::{Claim, SlotLine};
use crate::atomics::AtomicU64;

/// The lines and the claims of all slots.
#[derive(Clone, Copy)]
pub(crate) struct Slots<'a> {
    // Of one length, and not empty.
    lines: &'a [SlotLine],
    claims: &'a [Claim],
    /// 2^k - 1 for the largest k for which all such numbers are slots. It is one less than the
    /// number of slots if that is a power of two.
    mask: u32,
    /// The lowest bit above the mask. In a sequence it is that of the lap.
    lap: u64,
}

/// The words of one slot.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) line: &'a SlotLine,
    pub(crate) claim: &'a Claim,
}

impl<'a> Slots<'a> {
    /// `None` if there are no slots, or more lines than claims or the other way round.
    pub(crate) fn new(lines: &'a [SlotLine], claims: &'a [Claim]) -> Option<Slots<'a>> {
        let count = u32::try_from(lines.len()).ok()?;
        let mask = (1_u32 << count.checked_ilog2()?) - 1;
        let lap = u64::from(mask) + 1;
        (lines.len() == claims.len()).then_some(Slots { lines, claims, mask, lap })
    }

    pub(crate) fn lines(&self) -> &'a [SlotLine] {
        self.lines
    }

    pub(crate) fn claims(&self) -> &'a [Claim] {
        self.claims
    }

    /// The slot with this number, which may come from shared memory.
    #[inline(always)]
    pub(crate) fn get(&self, slot: u32) -> Option<Slot<'a>> {
        let line = self.lines.get(slot as usize)?;
        // SAFETY: `new` made sure that there are as many claims as lines.
        let claim = unsafe { self.claims.get_unchecked(slot as usize) };
        Some(Slot { line, claim })
    }

    /// The number of the home slot of a sequence, and the slot, if the number of slots is a power of
    /// two; otherwise any.
    #[inline(always)]
    pub(crate) fn home(&self, sequence: u64) -> (u32, Slot<'a>) {
        let slot = sequence as u32 & self.mask;
        // SAFETY: `new` made sure that every number up to the mask is a slot.
        let line = unsafe { self.lines.get_unchecked(slot as usize) };
        // SAFETY: as above.
        let claim = unsafe { self.claims.get_unchecked(slot as usize) };
        (slot, Slot { line, claim })
    }

    /// The entry of a sequence, if the number of slots is a power of two; otherwise any.
    #[inline(always)]
    pub(crate) fn entry_at_home(&self, sequence: u64) -> &'a AtomicU64 {
        let (_, Slot { line, .. }) = self.home(sequence);
        let [even, odd] = &line.entry;
        if sequence & self.lap == 0 { even } else { odd }
    }
}
