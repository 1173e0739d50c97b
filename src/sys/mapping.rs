//! Memory of a file, mapped: pointers into it that were checked against its length, and copies in and out.
#![allow(unsafe_code)] // One of the three places: copies to and from memory that is no Rust reference.

use std::os::fd::BorrowedFd;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg, SealFlag};

use super::linux::{failed, size_seals};
use crate::error::{Code, Error, Result};

/// A file, or its start, in this process's memory, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps the first `len` bytes of a file that has as many.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: u64, writable: bool) -> Result<Mapping> {
        let too_large = || Error::with_numbers(Code::NoMemory, "a region of # bytes", [len, 0, 0]);
        let mut options = MmapOptions::new();
        options.len(usize::try_from(len).map_err(|_| too_large())?);
        let map = if writable { options.map_raw(&fd) } else { options.map_raw_read_only(&fd) };
        let map = map.map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            failed(errno, "mapping a region")
        })?;
        Ok(Mapping { map, writable })
    }

    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Where these bytes are, if all of them are mapped.
    pub(crate) fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // It fits a usize, since the length of the mapping does.
        (end <= self.len()).then(|| self.map.as_mut_ptr().wrapping_add(offset as usize))
    }

    /// Copies into the mapping; false if that would end outside, or if it is read-only. The caller sees to it that no
    /// other thread of this process writes there.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(start) = self.at(offset, bytes.len() as u64).filter(|_| self.writable) else { return false };
        // SAFETY: inside a writable mapping, which lives as long as `self`; a private slice cannot overlap it.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }

    /// Copies from the mapping; false if that would begin or end outside.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Some(start) = self.at(offset, buffer.len() as u64) else { return false };
        // SAFETY: inside the mapping, which lives as long as `self`; a private slice cannot overlap it.
        unsafe { buffer.as_mut_ptr().copy_from_nonoverlapping(start, buffer.len()) };
        true
    }
}

/// Forbids to shrink, to grow and to unseal, and where the kernel knows it (5.1) to map the file writable once more: what
/// is mapped so already stays.
pub(crate) fn seal_for_readers(fd: BorrowedFd<'_>) -> Result<()> {
    let all = size_seals() | SealFlag::F_SEAL_FUTURE_WRITE;
    fcntl::fcntl(fd, FcntlArg::F_ADD_SEALS(all))
        .or_else(|_| fcntl::fcntl(fd, FcntlArg::F_ADD_SEALS(size_seals())))
        .map(drop)
        .map_err(|errno| failed(errno, "sealing a region"))
}

/// Another descriptor of the same open file, close-on-exec.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0)), "the descriptor"))
}
