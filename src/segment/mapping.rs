//! From a mapped file to a typed view of it, after every size in it was checked against the file.
#![allow(unsafe_code)] // Makes memory typed.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use crate::atomics::{AtomicU64, Chime};
use crate::error::{Code, Result};
use crate::layout::{
    self, Claim, Geometry, HOT_OFFSET, HotWords, Offsets, ParticipantRow, ReaderRow, RegionRow,
    SlotLine, Slots,
};
use crate::protocol::shape::Shape;
use crate::protocol::table::Table;
use crate::segment::options::AttachOptions;
use crate::segment::participants::Rows;
use crate::sys;
use crate::sys::mapping::{Advice, Span};

pub(super) fn map_private(offsets: &Offsets) -> Result<Span> {
    let map = Span::new(None, offsets.total, offsets.fixed_size, true)?;
    dump_only_control(&map, offsets);
    Ok(map)
}

/// Maps the file of a segment; `populate` is how its pages are made present.
pub(super) fn map_file(
    fd: &OwnedFd,
    offsets: &Offsets,
    options: &AttachOptions,
    populate: Advice,
) -> Result<Span> {
    let map = Span::new(Some(fd.as_fd()), offsets.total, offsets.fixed_size, !options.observer)?;
    dump_only_control(&map, offsets);
    if !options.observer {
        // The first touch of a page on the data path costs as much as 20 to 70 samples. Kernels
        // before 5.14 do not know this advice, and there pages are mapped when they are touched.
        let early = if options.prefault { offsets.fixed_size } else { offsets.control_size };
        map.advise(0, early as usize, populate);
    }
    Ok(map)
}

/// Payloads may be secret and large, and a core dump that reads the room of regions would fill it.
fn dump_only_control(map: &Span, offsets: &Offsets) {
    let control = whole_pages(offsets.control_size);
    map.advise(control, map.len().saturating_sub(control), Advice::DontDump);
}

/// The end of the pages of the control part. Pages may be larger than the layout's; then the first
/// payloads share one with the control part.
pub(super) fn whole_pages(control_size: u64) -> usize {
    (control_size as usize).next_multiple_of(sys::page_size())
}

/// The hot words of a segment that is not attached to, for a process that changes a rare state and
/// rings.
pub(super) struct HotPage(Span);

impl HotPage {
    /// Of a file that `check_file` has found to be a whole segment.
    pub(super) fn of(fd: &OwnedFd) -> Result<HotPage> {
        Ok(HotPage(Span::new(Some(fd.as_fd()), layout::PAGE, layout::PAGE, true)?))
    }

    pub(super) fn words(&self) -> &HotWords {
        // SAFETY: the hot words lie inside the first page, aligned for their type, and consist of
        // atomics, for which every bit pattern is valid. The mapping lives as long as the
        // reference.
        unsafe { &*self.0.start().as_ptr().wrapping_add(HOT_OFFSET as usize).cast::<HotWords>() }
    }
}

/// Where the payloads of all slots are. Every sample needs its address twice, so what is the same
/// for all is added once.
pub(super) struct Payloads {
    first: NonNull<u8>,
    stride: usize,
}

// SAFETY: an address, valid for all threads.
unsafe impl Send for Payloads {}
// SAFETY: as above; the users of the memory coordinate their accesses.
unsafe impl Sync for Payloads {}

impl Payloads {
    /// The payload of a slot; of one that does not exist, an address that is not to be used.
    #[inline(always)]
    pub(super) fn of_slot(&self, slot: u32) -> *mut u8 {
        self.first.as_ptr().wrapping_add((slot as usize).wrapping_mul(self.stride))
    }
}

/// A mapped segment, and the typed view of it.
pub(super) struct MappedSegment {
    // All point into `span`. They are returned only with the lifetime of a reference to this.
    table: Table<'static>,
    rows: Rows<'static>,
    payloads: Payloads,
    span: Span,
    /// The table points to it, too. Not a box, which would have to be the only way to it.
    chime: Arc<Chime>,
}

impl MappedSegment {
    /// A read-only mapping can be viewed, too, but an attempt to change a word of it ends the
    /// process: [`Attachment`](super::attachment::Attachment) refuses such calls of observers.
    pub(super) fn new(span: Span, geometry: &Geometry, offsets: &Offsets) -> Result<MappedSegment> {
        if geometry.offsets() != Some(*offsets) || (span.len() as u64) < offsets.total {
            return Err(Code::Corrupt.into());
        }
        let base = span.start().as_ptr();
        let slots = geometry.slot_count as usize;
        let at = |offset: u64| base.wrapping_add(offset as usize);
        // It wakes nobody until the file is known.
        let chime = Arc::new(Chime::of(-1));
        let vacancy_words = layout::vacancy_words(geometry.slot_count) as usize;
        // SAFETY: `Geometry::offsets` places the parts one after another inside `offsets.total`
        // bytes, which the span has, each aligned for its type from the page-aligned base. Each type
        // consists of atomics alone, for which every bit pattern is valid and which others may
        // change at any time. The references do not outlive the span and the chime, because they
        // leave this value only with the lifetime of a reference to it.
        let (table, rows) = unsafe {
            let table = Table {
                shape: Shape::new(geometry),
                hot: &*at(HOT_OFFSET).cast::<HotWords>(),
                slots: Slots::new(
                    slice::from_raw_parts(at(offsets.lines).cast::<SlotLine>(), slots),
                    slice::from_raw_parts(at(offsets.claims).cast::<Claim>(), slots),
                )
                .ok_or(Code::Corrupt)?,
                vacancy: slice::from_raw_parts(
                    at(offsets.vacancy).cast::<AtomicU64>(),
                    vacancy_words,
                ),
                regions: slice::from_raw_parts(
                    at(offsets.region_rows).cast::<RegionRow>(),
                    geometry.region_count as usize,
                ),
                audiences: slice::from_raw_parts(at(offsets.audiences).cast::<AtomicU64>(), slots),
                readers: slice::from_raw_parts(
                    at(layout::READERS_OFFSET).cast::<ReaderRow>(),
                    geometry.max_readers as usize,
                ),
                chime: &*Arc::as_ptr(&chime),
            };
            let rows = Rows {
                anteroom: &*at(layout::ANTEROOM_OFFSET).cast::<ParticipantRow>(),
                participants: slice::from_raw_parts(
                    at(layout::PARTICIPANTS_OFFSET).cast::<ParticipantRow>(),
                    geometry.max_participants as usize,
                ),
            };
            (table, rows)
        };
        let payloads = Payloads {
            first: NonNull::new(at(offsets.payload)).ok_or(Code::Corrupt)?,
            // It fits, because the offsets of all slots do.
            stride: offsets.payload_stride as usize,
        };
        Ok(MappedSegment { table, rows, payloads, span, chime })
    }

    /// The payloads of the slots.
    #[inline(always)]
    pub(super) fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    /// The shared words of the protocol.
    #[inline(always)]
    pub(super) fn table(&self) -> &Table<'_> {
        &self.table
    }

    /// What wakes those who watch the file.
    pub(super) fn chime(&self) -> &Chime {
        &self.chime
    }

    /// The rows of the participants.
    pub(super) fn rows(&self) -> Rows<'_> {
        self.rows
    }

    /// The memory.
    #[inline(always)]
    pub(super) fn span(&self) -> &Span {
        &self.span
    }
}
