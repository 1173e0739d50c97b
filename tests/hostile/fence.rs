//! Segments whose mappings lie exactly between two pages that fault.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr;

use shmslot::{Result, Segment};

use super::calls::geometry_of;

/// The offset of the segment's number in the header.
const SEGMENT_ID_AT: usize = 48;

/// Two ranges without access, each a page or more, and between them the mapping of a segment, which
/// unmaps itself.
pub(crate) struct Fence {
    below: Range<usize>,
    inside: Range<usize>,
    above: Range<usize>,
}

/// The kernel aligns mappings of this size and more to it, and wants as much room beside them.
const HUGE: usize = 2 << 20;

/// Holes that the kernel may pass over, because another thread was faster or a gap above just fits.
const TRIES: usize = 32;

fn page() -> usize {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("pages have a size")
}

/// Reserves a range of addresses without access; `None` if there is none of this size.
fn reserve(size: usize) -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses replaces nothing.
    let place = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    (place != libc::MAP_FAILED).then(|| place.addr())
}

/// Gives back what [`reserve`] took.
fn release(place: usize, size: usize) {
    // SAFETY: only called with pages that `reserve` returned and to which nothing else has a
    // pointer.
    let result = unsafe { libc::munmap(ptr::with_exposed_provenance_mut(place), size) };
    assert_eq!(result, 0, "munmap");
}

/// Makes a segment of `size` bytes, which is mapped once, between two guard pages. `make` may be
/// called again.
pub(crate) fn fenced(
    size: usize,
    make: impl Fn() -> Result<Segment>,
) -> Result<(Segment, Option<Fence>)> {
    let size = size.next_multiple_of(page());
    let mut passed_over = Vec::new();
    let mut made = Err(shmslot::Code::NoMemory.into());
    for _ in 0..TRIES {
        let Some(fence) = Fence::around_hole(size) else {
            // Too large for this machine, and probably for the segment, too.
            made = make().map(|segment| (segment, None));
            break;
        };
        let Ok(segment) = make().map_err(|error| made = Err(error)) else { break };
        if fence.holds(&segment) {
            made = Ok((segment, Some(fence.closed())));
            break;
        }
        // The kernel preferred another gap, which is filled now.
        drop((fence, segment));
        // A page less than a multiple of HUGE fits any gap, as a file's mapping does.
        let plug = if size < HUGE { size } else { size - page() };
        passed_over.extend(reserve(plug).map(|place| (place, plug)));
        assert!(passed_over.len() < TRIES, "no mapping falls between its guard pages");
    }
    passed_over.into_iter().for_each(|(place, plug)| release(place, plug));
    made
}

impl Fence {
    /// Guard pages around a hole of exactly `size` bytes. The kernel maps from the top down, at the
    /// highest gap that fits, and a moment ago that was here.
    fn around_hole(size: usize) -> Option<Fence> {
        let slack = if size < HUGE { 0 } else { HUGE };
        let whole = size.checked_add(2 * page() + 2 * slack)?;
        let low = reserve(whole)?;
        let start = if slack == 0 { low + page() } else { (low + page()).next_multiple_of(HUGE) };
        if size > 0 {
            release(start, size + slack);
        }
        Some(Fence {
            below: low..start,
            // At the top of the hole.
            inside: start + slack..start + slack + size,
            above: start + slack + size..low + whole,
        })
    }

    /// Closes the gap that is left below a mapping which begins where it should.
    fn closed(mut self) -> Fence {
        let gap = self.inside.start - self.below.end;
        if gap > 0 {
            let flags = libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE;
            let place = ptr::with_exposed_provenance_mut(self.below.end);
            // SAFETY: replaces nothing.
            let closed = unsafe { libc::mmap(place, gap, libc::PROT_NONE, flags, -1, 0) };
            assert_eq!(closed.addr(), self.below.end, "the gap below the mapping is free");
            self.below.end = self.inside.start;
        }
        self
    }

    /// Where the segment is.
    pub(crate) fn inside(&self) -> Range<usize> {
        self.inside.clone()
    }

    /// Whether `segment` is mapped here. No mapping replaces another, so from its start it reaches
    /// the upper guard.
    fn holds(&self, segment: &Segment) -> bool {
        // Through the kernel, because nothing at all may be mapped here: then this fails and does
        // not fault.
        let memory = File::open("/proc/self/mem").expect("this process may look at its own memory");
        let mut id = [0; 8];
        let found =
            memory.read_exact_at(&mut id, (self.inside.start + SEGMENT_ID_AT) as u64).is_ok();
        found && u64::from_le_bytes(id) == geometry_of(segment).segment_id
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        release(self.below.start, self.below.len());
        release(self.above.start, self.above.len());
    }
}
