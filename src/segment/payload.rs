//! The places of payloads and user headers, and copies to and from them.
#![allow(unsafe_code)] // Copies to and from memory that is no Rust reference.

use std::marker::PhantomData;

use crate::atomics::Ordering;
use crate::cache;
use crate::error::Result;
use crate::protocol::region;
use crate::protocol::words::{Place, Reserved};
use crate::segment::attachment::Attachment;
use crate::segment::mapping::whole_pages;
use crate::segment::writable::Writable;

/// Copies of so many bytes bypass the caches if that was requested. Smaller ones are read before
/// they leave the caches.
const STREAM_FROM: usize = 1 << 16;

impl Attachment {
    /// The payload at a place of this segment.
    #[inline(always)]
    pub(crate) fn payload(&self, place: Place) -> *mut u8 {
        match place {
            Place::Slot(slot) => self.payload_in_slot(slot),
            Place::Region(region) => self.payload_in_region(region),
        }
    }

    /// The payload of a slot.
    #[inline(always)]
    pub(crate) fn payload_in_slot(&self, slot: u32) -> *mut u8 {
        self.mapped.payloads().of_slot(slot)
    }

    /// In line, although few samples are that large: while a program of another crate calls a
    /// function, the compiler keeps whatever that program drops in memory.
    #[inline(always)]
    fn payload_in_region(&self, region: u32) -> *mut u8 {
        let offset = self.offsets.regions + u64::from(region) * self.offsets.region_stride;
        // It fits a usize, because the offsets of all regions do.
        self.mapped.span().start().as_ptr().wrapping_add(offset as usize)
    }

    /// The payload of a loan that was reserved for so many bytes.
    #[inline(always)]
    pub(crate) fn payload_of_loan(&self, slot: u32, len: u64) -> *mut u8 {
        if len <= self.shape().capacity {
            self.payload_in_slot(slot)
        } else {
            self.payload(self.place_of_loan(slot, len))
        }
    }

    /// The place of a loan that was reserved for so many bytes.
    #[inline(always)]
    pub(crate) fn place_of_loan(&self, slot: u32, len: u64) -> Place {
        if len <= self.geometry.slot_capacity {
            Place::Slot(slot)
        } else {
            self.region_of_loan(slot)
        }
    }

    #[cold]
    fn region_of_loan(&self, slot: u32) -> Place {
        let reserved = self
            .mapped
            .table()
            .claim(slot)
            .map(|claim| Reserved(claim.aux.load(Ordering::Relaxed)));
        match reserved.map(|reserved| reserved.place(slot)) {
            Ok(Place::Region(region)) if region < self.geometry.region_count => {
                Place::Region(region)
            }
            // The word was overwritten. Any region will do, as long as it exists.
            _ => Place::Region(0),
        }
    }

    /// The user header of a slot, or null if there are none.
    #[inline]
    pub(crate) fn user_header(&self, slot: u32) -> *mut u8 {
        if self.offsets.user_header_stride == 0 {
            return std::ptr::null_mut();
        }
        let offset = self.offsets.user_headers + u64::from(slot) * self.offsets.user_header_stride;
        self.mapped.span().start().as_ptr().wrapping_add(offset as usize)
    }

    /// The capacity of a place in the mapping; 0 if the place does not exist.
    fn room(&self, place: Place) -> usize {
        let room = match place {
            Place::Slot(slot) if slot < self.geometry.slot_count => self.geometry.slot_capacity,
            Place::Region(region) if region < self.geometry.region_count => {
                self.geometry.max_payload
            }
            Place::Slot(_) | Place::Region(_) => 0,
        };
        room as usize
    }

    /// The size of a slot's user header in the mapping; 0 if the slot does not exist.
    fn user_header_room(&self, slot: u32) -> usize {
        if slot < self.geometry.slot_count { self.geometry.user_header_size as usize } else { 0 }
    }

    /// The first `len` bytes of a payload, or all if it has less.
    pub(crate) fn payload_bytes(&self, place: Place, len: usize) -> Bytes<'_> {
        let len = len.min(self.room(place));
        // SAFETY: the place has as many bytes; they stay mapped and readable as long as `self`.
        unsafe { Bytes::from_raw(self.payload(place), len) }
    }

    /// The user header of a slot.
    pub(crate) fn user_header_bytes(&self, slot: u32) -> Bytes<'_> {
        // SAFETY: as in `payload_bytes`.
        unsafe { Bytes::from_raw(self.user_header(slot), self.user_header_room(slot)) }
    }

    /// The slot whose payload starts at this address, and its place: in a region, if the slot still
    /// has that region.
    pub(crate) fn slot_of(&self, payload: *const u8) -> Option<(u32, Place)> {
        let offset = payload.addr().checked_sub(self.mapped.span().start().as_ptr().addr())? as u64;
        let nth = |start: u64, stride: u64, count: u32| {
            let distance = offset.checked_sub(start)?;
            let number = u32::try_from(distance / stride).ok()?;
            (distance % stride == 0 && number < count).then_some(number)
        };
        if offset < self.offsets.fixed_size {
            let slot =
                nth(self.offsets.payload, self.offsets.payload_stride, self.geometry.slot_count)?;
            return Some((slot, Place::Slot(slot)));
        }
        if self.geometry.region_count == 0 {
            return None;
        }
        let region =
            nth(self.offsets.regions, self.offsets.region_stride, self.geometry.region_count)?;
        Some((region::slot_of(self.mapped.table(), region)?, Place::Region(region)))
    }

    /// Payloads and user headers are read-only in a process until it opens a writer: a stray store
    /// of a reader faults instead of corrupting what others read.
    pub(super) fn protect_payload(&self, writable: bool) -> Result<()> {
        let control = whole_pages(self.offsets.control_size);
        if control >= self.mapped.span().len() {
            return Ok(());
        }
        // Access is removed only at attach, before any pointer is given out.
        self.mapped.span().protect(control, writable)
    }
}

impl Writable {
    /// Copies to the start of a payload that this writer has on loan; false if they are too many.
    pub(crate) fn fill(&self, place: Place, bytes: Bytes<'_>) -> bool {
        let fits = bytes.len <= self.room(place);
        if fits && bytes.len > 0 {
            let payload = self.payload(place);
            let apart = payload.addr().abs_diff(bytes.start.addr()) >= bytes.len;
            // SAFETY: the source is readable, as `Bytes` guarantees. The place has as many bytes,
            // and they are writable since the writer was opened. The two may overlap, unless they
            // were seen not to.
            unsafe {
                if self.stream_copies && bytes.len >= STREAM_FROM && apart {
                    cache::copy_nontemporal(payload, bytes.start, bytes.len);
                } else {
                    payload.copy_from(bytes.start, bytes.len);
                }
            }
        }
        fits
    }

    /// Copies to the start of the user header of a slot that this writer has on loan; false if they
    /// are too many.
    pub(crate) fn fill_user_header(&self, slot: u32, bytes: Bytes<'_>) -> bool {
        let fits = bytes.len <= self.user_header_room(slot);
        if fits && bytes.len > 0 {
            // SAFETY: as in `fill`.
            unsafe { self.user_header(slot).copy_from(bytes.start, bytes.len) };
        }
        fits
    }
}

/// Readable bytes that may be shared memory: a payload or user header, or bytes of a C caller,
/// which may pass a payload.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    start: *const u8,
    len: usize,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { start: bytes.as_ptr(), len: bytes.len(), lives: PhantomData }
    }
}

impl Bytes<'_> {
    /// # Safety
    /// `len` bytes at `start` are readable for the lifetime of the value; if `len` is 0, `start`
    /// may be anything.
    pub(crate) unsafe fn from_raw(start: *const u8, len: usize) -> Self {
        Bytes { start, len, lives: PhantomData }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Copies the first bytes into `buffer`, up to its length, and returns how many.
    pub(crate) fn copy_to(self, buffer: &mut [u8]) -> usize {
        let len = self.len.min(buffer.len());
        if len > 0 {
            // SAFETY: both have as many bytes, and nothing overlaps a slice that is borrowed
            // mutably.
            unsafe { buffer.as_mut_ptr().copy_from_nonoverlapping(self.start, len) };
        }
        len
    }
}
