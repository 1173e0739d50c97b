//! The shared words of one segment, as the protocol uses them.

use super::attention::Attention;
use super::bell::{self, Bell};
use super::shape::Shape;
use super::words::{Extent, Place};
use crate::atomics::{AtomicU64, Chime};
use crate::error::Code;
use crate::layout::{Claim, HotWords, ReaderRow, RegionRow, SlotLine, Slots};

/// A checked view of the shared words of one segment.
pub(crate) struct Table<'a> {
    pub(crate) shape: Shape,
    pub(crate) hot: &'a HotWords,
    pub(crate) slots: Slots<'a>,
    pub(crate) vacancy: &'a [AtomicU64],
    pub(crate) readers: &'a [ReaderRow],
    pub(crate) regions: &'a [RegionRow],
    pub(crate) audiences: &'a [AtomicU64],
    /// Not a shared word: how this process wakes who waits for a descriptor.
    pub(crate) chime: &'a Chime,
}

impl<'a> Table<'a> {
    /// Rung when a sample is published.
    #[inline(always)]
    pub(crate) fn data_bell(&self) -> Bell<'a> {
        Bell::new(&self.hot.bells.0.data, self.chime)
    }

    /// Rung when a slot or a region is released, or a reader joins.
    #[inline(always)]
    pub(crate) fn space_bell(&self) -> Bell<'a> {
        Bell::new(&self.hot.bells.0.space, self.chime)
    }

    /// Rung at each commit, discard and mark.
    #[inline(always)]
    pub(crate) fn change_bell(&self) -> Bell<'a> {
        Bell::new(&self.hot.bells.0.change, self.chime)
    }

    /// Rings those of the three that are armed.
    pub(crate) fn ring_all(&self) {
        bell::ring_all(&self.hot.bells.0, self.chime);
    }

    /// Whether commits and marks must look for others.
    #[inline(always)]
    pub(crate) fn attention(&self) -> Attention<'_> {
        Attention(&self.hot.attention.0)
    }

    /// The line of a slot, whose number may come from shared memory.
    #[inline]
    pub(crate) fn line(&self, slot: u32) -> Result<&SlotLine, Code> {
        self.slots.lines().get(slot as usize).ok_or(Code::Corrupt)
    }

    /// The row of a reader. There is one for each member and for each index that callers may name.
    #[inline(always)]
    pub(crate) fn reader(&self, index: u32) -> Result<&ReaderRow, Code> {
        self.readers.get(index as usize).ok_or(Code::BadIndex)
    }

    /// The capacity of a place, whose number may come from shared memory.
    #[inline(always)]
    pub(crate) fn room(&self, place: Place) -> Result<u64, Code> {
        match place {
            Place::Slot(_) => Ok(self.shape.capacity),
            Place::Region(region) if (region as usize) < self.regions.len() => {
                Ok(self.shape.max_payload)
            }
            Place::Region(_) => Err(Code::Corrupt),
        }
    }

    /// The place of a sample's payload; corrupt if the place does not exist, or is too small.
    #[inline(always)]
    pub(crate) fn place(&self, slot: u32, extent: Extent) -> Result<Place, Code> {
        if extent.is_plain(self.shape.capacity) {
            return Ok(Place::Slot(slot));
        }
        self.unusual_place(slot, extent)
    }

    #[cold]
    #[inline(never)]
    fn unusual_place(&self, slot: u32, extent: Extent) -> Result<Place, Code> {
        let place = extent.place(slot);
        if extent.len() > self.room(place)? { Err(Code::Corrupt) } else { Ok(place) }
    }

    /// The named readers of a slot's sample, if its extent says that there are any.
    #[inline(always)]
    pub(crate) fn audience(&self, slot: u32) -> Result<&AtomicU64, Code> {
        self.audiences.get(slot as usize).ok_or(Code::Corrupt)
    }

    /// The claim of a slot, whose number may come from shared memory.
    #[inline]
    pub(crate) fn claim(&self, slot: u32) -> Result<&Claim, Code> {
        self.slots.claims().get(slot as usize).ok_or(Code::Corrupt)
    }
}
