//! The memory of regions: allocated when a payload needs it, and given back.
#![allow(unsafe_code)] // Regions of private memory are emptied.

use crate::atomics::{Ordering, fence};
use crate::error::{Code, Result};
use crate::protocol::region;
use crate::segment::attachment::Attachment;
use crate::sys;
use crate::sys::mapping::Advice;

/// Regions get memory in multiples of this.
const REGION_STEP: u64 = 1 << 16;

impl Attachment {
    /// Ensures that the first `len` bytes of a region leased by this thread have memory.
    pub(crate) fn provide(&self, region: u32, len: u64) -> Result<()> {
        let row = self.mapped.table().regions.get(region as usize).ok_or(Code::Corrupt)?;
        // Relaxed: the previous holder stored it before this thread leased the region.
        let before = row.allocated.load(Ordering::Relaxed);
        if before >= len {
            return Ok(());
        }
        let _whole = sys::Uncancelled::new();
        let start = self.offsets.regions + u64::from(region) * self.offsets.region_stride;
        let size = len.next_multiple_of(REGION_STEP).min(self.offsets.region_stride);
        if let Some(fd) = self.fd()? {
            let allocate = || {
                sys::check_memory_limit(size.saturating_sub(before))?;
                sys::allocate(fd, start, size)
            };
            let allocated = match allocate() {
                // Free regions may have the memory that this one lacks.
                Err(error) if error.code() == Code::NoMemory => {
                    let _ = self.trim();
                    allocate()
                }
                done => done,
            };
            allocated.inspect_err(|_| {
                // It does not keep what it got; this is recorded first, as in
                // `region::begin_emptying`. The first error is the one to report.
                row.allocated.store(0, Ordering::Relaxed);
                let _ = sys::deallocate(fd, start, size);
            })?;
        }
        if self.prefault {
            self.mapped.span().advise(start as usize, size as usize, Advice::Populate);
        }
        row.allocated.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the memory of all free regions back to the system, and returns how many bytes that
    /// was.
    pub(crate) fn trim(&self) -> Result<u64> {
        let participant = self.writable()?;
        let mut given_back = 0;
        for (region, row) in (0u32..).zip(self.mapped.table().regions) {
            let allocated = row.allocated.load(Ordering::Relaxed);
            // Even if nothing is recorded, because a process that died in between has left memory
            // there.
            if !region::begin_emptying(self.mapped.table(), region, participant)? {
                continue;
            }
            let start = self.offsets.regions + u64::from(region) * self.offsets.region_stride;
            let emptied = match self.fd() {
                Err(lost) => Err(lost),
                Ok(Some(fd)) => sys::deallocate(fd, start, self.offsets.region_stride),
                // SAFETY: a whole region of private memory, which nobody uses while it is being
                // emptied.
                Ok(None) => unsafe {
                    self.mapped.span().discard(start as usize, self.offsets.region_stride as usize)
                },
            };
            region::end_emptying(self.mapped.table(), region, participant);
            // A writer may have found it taken and gone to sleep.
            fence(Ordering::SeqCst);
            self.mapped.table().space_bell().ring();
            emptied?;
            given_back += allocated.min(self.offsets.region_stride);
        }
        Ok(given_back)
    }

    /// Memory of all regions, in bytes.
    pub(crate) fn region_bytes(&self) -> u64 {
        let stride = self.offsets.region_stride;
        self.mapped
            .table()
            .regions
            .iter()
            .map(|row| row.allocated.load(Ordering::Relaxed).min(stride))
            .sum()
    }
}
