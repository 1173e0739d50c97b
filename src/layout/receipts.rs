//! Receipts: how a reader says in one plain store that it is done with a sample.
#![allow(unsafe_code)] // One view of words that no other view is used of.

use super::words::SlotLine;
use crate::atomics::AtomicU8;

/// How many readers can have receipts. Models have few readers, and each word costs them time.
pub(crate) const RECEIPTS: usize = if cfg!(loom) { 2 } else { 15 };

/// The receipts of one slot, one byte for each reader. Segments that use them have them in place of
/// the second and the third word of marks.
#[repr(C)]
pub(crate) struct Receipts {
    /// Reader i has marked the sample of this turn, if its receipt is this turn; 0 if it has none.
    pub(crate) by: [AtomicU8; RECEIPTS],
    /// Differs from one sample of the slot to the next; 0 before the first.
    pub(crate) turn: AtomicU8,
}

impl SlotLine {
    /// The receipts of this slot, in a segment that uses them.
    #[inline(always)]
    pub(crate) fn receipts(&self) -> &Receipts {
        #[cfg(loom)]
        return &self.receipts;
        #[cfg(not(loom))]
        {
            // SAFETY: behind its first word, the array has 24 bytes, and the receipts take 16 with
            // an alignment of 1. All are atomics, for which any bytes are valid, and the reference
            // lives no longer than that of the line. A segment that uses receipts has one word of
            // marks, so nothing accesses these bytes as words.
            unsafe { &*self.marks.as_ptr().add(1).cast::<Receipts>() }
        }
    }
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Receipts>() == 16 && offset_of!(Receipts, turn) == 15);
    // The second and the third word of marks are there.
    assert!(
        offset_of!(SlotLine, marks) + 8 + size_of::<Receipts>() <= offset_of!(SlotLine, sequence)
    );
};
