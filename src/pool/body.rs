//! The memory of a region, and the page after it where the sender stores the region's generation.
//!
//! From that page a receiver learns of each reuse of the region without a message. A receiver that
//! does not know the page does not see it, because it lies after the bytes that the message
//! announces.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::sys;
use crate::sys::mapping::Mapping;

/// The start of the page. The generation follows, a little-endian word of four bytes.
const MAGIC: [u8; 8] = *b"SHMSLOTG";

/// A region in this process's memory, as long as the value lives.
pub(super) struct Body {
    map: Mapping,
    /// Bytes of the region, without the page.
    len: u64,
    /// Whether the page exists.
    has_page: bool,
}

impl Body {
    /// Makes a region: a file, fully allocated, mapped writable here, and sealed before another
    /// process can see it. `len` is a multiple of the page size.
    pub(super) fn make(len: u64, others_may_write: bool) -> Result<(OwnedFd, Body)> {
        let size = len.saturating_add(sys::page_size() as u64);
        let file = new_file(size)?;
        let map = Mapping::new(file.as_fd(), size, true)?;
        sys::seal_for_readers(file.as_fd(), others_may_write)?;
        let has_page = map.write(len, &MAGIC);
        Ok((file, Body { map, len, has_page }))
    }

    /// Maps the first `len` bytes of a file that a peer has sent, and the page if there is one. It
    /// looks for the page only in a file of `size` bytes that nobody can truncate.
    pub(super) fn attach(file: BorrowedFd<'_>, len: u64, size: u64) -> Result<Body> {
        let page = sys::page_size() as u64;
        let with_page = len.saturating_add(page);
        if len % page != 0 || size < with_page || !sys::is_size_sealed(file) {
            return Ok(Body { map: Mapping::new(file, len, false)?, len, has_page: false });
        }
        let map = Mapping::new(file, with_page, false)?;
        let mut magic = [0; MAGIC.len()];
        let has_page = map.read(len, &mut magic) && magic == MAGIC;
        Ok(Body { map, len, has_page })
    }

    /// Bytes of the region.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that are mapped.
    pub(super) fn mapped(&self) -> u64 {
        self.map.len()
    }

    /// The address of these bytes, if they all lie in the region.
    pub(super) fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        if end <= self.len { self.map.at(offset, len) } else { None }
    }

    /// Copies into the region; false if the range leaves it. As [`Mapping::write`].
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        self.at(offset, bytes.len() as u64).is_some() && self.map.write(offset, bytes)
    }

    /// Copies from the region; false if the range leaves it.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self.at(offset, buffer.len() as u64).is_some() && self.map.read(offset, buffer)
    }

    fn word(&self) -> Option<&AtomicU32> {
        self.map.word(self.len + MAGIC.len() as u64).filter(|_| self.has_page)
    }

    /// The generation that its sender has stored, if there is one.
    pub(super) fn generation(&self) -> Option<u32> {
        // Acquire: pairs with `begin`; a process that has a reference sees the generation in which
        // it was given out, or a later one.
        self.word().map(|word| u32::from_le(word.load(Ordering::Acquire)))
    }

    /// Stores a new generation, before anything in it is given out.
    pub(super) fn begin(&self, generation: u32) {
        if let Some(word) = self.word() {
            // Release: pairs with `generation`.
            word.store(generation.to_le(), Ordering::Release);
        }
    }
}

/// An anonymous file, fully allocated.
fn new_file(size: u64) -> Result<OwnedFd> {
    let file = sys::anonymous_file(c"shmslot-region")?;
    sys::check_memory_limit(size)?;
    sys::set_size(&file.fd, size, size)?;
    Ok(file.fd)
}

/// The file announced in place of a retired region: a single page, sealed.
pub(super) fn tombstone() -> Result<OwnedFd> {
    let file = new_file(sys::page_size() as u64)?;
    sys::seal_for_readers(file.as_fd(), true)?;
    Ok(file)
}
