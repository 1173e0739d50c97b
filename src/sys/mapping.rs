//! Memory of a file, mapped: pointers into it that were checked against its length, and copies in
//! and out.
#![allow(unsafe_code)] // Copies to and from memory that is no Rust reference.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::mman::{self, ProtFlags};

use super::errno::failed;
use super::machine::page_size;
use crate::error::{Code, Error, Result};

/// A range of addresses of this process with a segment's memory behind it, mapped as long as the
/// value lives.
#[derive(Debug)]
pub(crate) struct Span {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a range of addresses, valid for all threads.
unsafe impl Send for Span {}
// SAFETY: as above; the users of the memory coordinate their accesses.
unsafe impl Sync for Span {}

impl Span {
    /// Maps the first `len` bytes of a file that is at least that long, or private memory. The part
    /// behind `used` takes memory only when it is used, even in a process that locks all its
    /// mappings (`mlockall`), because locking would fill it.
    pub(crate) fn new(
        fd: Option<BorrowedFd<'_>>,
        len: u64,
        used: u64,
        writable: bool,
    ) -> Result<Span> {
        let too_large = |_| too_large("segment", len);
        let len = usize::try_from(len).map_err(too_large)?;
        // A partial page counts as a whole page.
        let used = usize::try_from(used).map_err(too_large)?.next_multiple_of(page_size()).min(len);
        let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let raw = fd.map_or(-1, |fd| fd.as_raw_fd());
        let kind = match fd {
            Some(_) => libc::MAP_SHARED,
            // The part behind `used` must not count as used memory yet.
            None if used < len => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            None => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        };
        let map = |at: *mut u8, len: usize, access: libc::c_int, kind: libc::c_int| {
            // SAFETY: a new mapping at an address that the kernel chooses, or over a part of one
            // that only this function knows.
            let start = unsafe { libc::mmap(at.cast(), len, access, kind, raw, 0) };
            if start == libc::MAP_FAILED {
                Err(failed(Errno::last(), "mapping the segment"))
            } else {
                Ok(start)
            }
        };
        // The kernel does not fill a range without access when it maps it, so the range can be
        // unlocked first.
        let first_access = if used < len { libc::PROT_NONE } else { access };
        let start = map(std::ptr::null_mut(), len, first_access, kind)?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(Code::NoMemory)?;
        let span = Span { start, len };
        if used < len {
            // SAFETY: inside the span.
            let room = unsafe { start.add(used) };
            // SAFETY: inside the span. If it fails, the range was not locked.
            unsafe { libc::munlock(room.as_ptr().cast(), len - used) };
            span.protect(used, writable)?;
            map(start.as_ptr(), used, access, kind | libc::MAP_FIXED)?;
        }
        Ok(span)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives advice about a range, as far as it lies inside. Kernels that do not know the advice,
    /// or do not follow it, ignore it.
    pub(crate) fn advise(&self, offset: usize, len: usize, advice: Advice) {
        let offset = offset.min(self.len);
        let len = len.min(self.len - offset);
        let advice = match advice {
            Advice::Populate => libc::MADV_POPULATE_WRITE,
            // For reading, the kernel maps sixteen pages at once. They can be written to as well,
            // because no file system has to know; but a processor that leaves it to the kernel to
            // mark a page as written would fault at the first write.
            Advice::PopulateKnown if cfg!(target_arch = "x86_64") => libc::MADV_POPULATE_READ,
            Advice::PopulateKnown => libc::MADV_POPULATE_WRITE,
            Advice::DontDump => libc::MADV_DONTDUMP,
        };
        if len > 0 {
            // SAFETY: inside the span; no advice changes a byte of it.
            unsafe { libc::madvise(self.start.as_ptr().wrapping_add(offset).cast(), len, advice) };
        }
    }

    /// The address of `offset` and the length from there to `end`, both limited to what is mapped.
    fn range(&self, offset: usize, end: usize) -> (NonNull<u8>, usize) {
        let end = end.min(self.len);
        let offset = offset.min(end);
        // SAFETY: inside the span, or one past its last byte.
        (unsafe { self.start.add(offset) }, end - offset)
    }

    /// Sets whether the pages from `offset`, which begins a page, to the end are writable. A write
    /// to a page that is not writable faults.
    pub(crate) fn protect(&self, offset: usize, writable: bool) -> Result<()> {
        let (start, len) = self.range(offset, self.len);
        let access = if writable {
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
        } else {
            ProtFlags::PROT_READ
        };
        // SAFETY: inside the span. It changes access, and no byte.
        unsafe { mman::mprotect(start.cast(), len, access) }
            .map_err(|errno| failed(errno, "changing the protection of pages"))
    }

    /// Asks for huge pages in the first `end` bytes; returns how many bytes are in huge pages now.
    pub(crate) fn collapse(&self, end: usize) -> usize {
        /// Since Linux 6.1; the libc crate declares it for glibc only.
        const MADV_COLLAPSE: libc::c_int = 25;
        const HUGE: usize = 2 << 20;
        let before = self.start.as_ptr().addr().next_multiple_of(HUGE) - self.start.as_ptr().addr();
        let (start, len) = self.range(before, end);
        let whole = len / HUGE * HUGE;
        if whole == 0 {
            return 0;
        }
        // SAFETY: inside the span; collapsing changes no byte of it.
        let result = unsafe { libc::madvise(start.as_ptr().cast(), whole, MADV_COLLAPSE) };
        if result == 0 { whole } else { 0 }
    }

    /// Gives the pages of a range of private memory back to the system; they read as zeros
    /// afterwards.
    ///
    /// # Safety
    /// No code relies on the bytes of the range.
    pub(crate) unsafe fn discard(&self, offset: usize, len: usize) -> Result<()> {
        let (start, len) = self.range(offset, offset.saturating_add(len));
        // SAFETY: inside the span, and the caller guarantees that its bytes are not needed.
        unsafe { mman::madvise(start.cast(), len, mman::MmapAdvise::MADV_DONTNEED) }
            .map_err(|errno| failed(errno, "releasing memory"))
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and not used any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn too_large(what: &str, len: u64) -> Error {
    Error::new(Code::NoMemory)
        .about(format_args!("a {what} of {len} bytes does not fit the address space"))
        .with_numbers([len, 0, 0])
}

/// Advice about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Make all pages present and writable now.
    Populate,
    /// As [`Populate`](Advice::Populate), where most pages have been used by others.
    PopulateKnown,
    /// Exclude it from core dumps.
    DontDump,
}

/// A file, or its start, in this process's memory, as long as the value lives.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps the first `len` bytes of a file that is at least that long.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: u64, writable: bool) -> Result<Mapping> {
        let mut options = MmapOptions::new();
        options.len(usize::try_from(len).map_err(|_| too_large("region", len))?);
        let map = if writable { options.map_raw(&fd) } else { options.map_raw_read_only(&fd) };
        let map = map.map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            failed(errno, format_args!("mapping a region of {len} bytes")).with_numbers([len, 0, 0])
        })?;
        Ok(Mapping { map, writable })
    }

    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The address of these bytes, if all of them are mapped.
    pub(crate) fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // It fits a usize, because the length of the mapping does.
        (end <= self.len()).then(|| self.map.as_mut_ptr().wrapping_add(offset as usize))
    }

    /// An aligned word of the mapping, if all of it is mapped. In a read-only mapping it can only
    /// be loaded.
    pub(crate) fn word(&self, offset: u64) -> Option<&AtomicU32> {
        let at = self.at(offset, size_of::<AtomicU32>() as u64)?.cast::<AtomicU32>();
        // SAFETY: inside the mapping, which lives as long as `self`, and aligned; every bit pattern
        // is a valid atomic, and other processes may change it at any time.
        at.is_aligned().then(|| unsafe { &*at })
    }

    /// Copies into the mapping; false if the range leaves it, or if it is read-only. The caller
    /// ensures that no other thread of this process writes there.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(start) = self.at(offset, bytes.len() as u64).filter(|_| self.writable) else {
            return false;
        };
        // SAFETY: inside a writable mapping, which lives as long as `self`; a private slice cannot
        // overlap it.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }

    /// Copies from the mapping; false if the range leaves it.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Some(start) = self.at(offset, buffer.len() as u64) else { return false };
        // SAFETY: inside the mapping, which lives as long as `self`; a private slice cannot overlap
        // it.
        unsafe { buffer.as_mut_ptr().copy_from_nonoverlapping(start, buffer.len()) };
        true
    }
}
