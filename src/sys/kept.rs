//! Descriptors that are kept from one call to the next.
//!
//! A descriptor is a number that the program can reuse: after `closefrom`, or a `dup2` onto it, it
//! means another file, or none. So a kept descriptor is proved to be ours before it is used, and
//! before it is closed.
#![allow(unsafe_code)] // Decides whether a number is still ours to close.

use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::stat;

use super::errno::failed;
use super::lock::{is_in_the_way, lock_shared};
use super::machine::random_id;
use super::mapping::Mapping;
use crate::error::{Code, Error, Result};

/// A descriptor, and the facts that show whether its number still means its file.
pub(crate) struct KeptFd {
    /// Not owned any more once it is lost.
    fd: ManuallyDrop<OwnedFd>,
    /// Device and inode.
    identity: (u64, u64),
    /// A byte of the file that no other open file can lock: the program may have opened the same
    /// file again under this number.
    own_byte: Option<u64>,
    /// Keeps the open file, and its lock, when the number is gone.
    pin: Option<Mapping>,
    /// The owner, for errors: "of the segment".
    whose: &'static str,
    lost: AtomicBool,
}

impl KeptFd {
    pub(crate) fn new(fd: OwnedFd, whose: &'static str) -> Result<KeptFd> {
        let facts = stat::fstat(&fd).map_err(|errno| failed(errno, "looking at the descriptor"))?;
        Ok(KeptFd::known(fd, (facts.st_dev, facts.st_ino), whose))
    }

    /// As above, if the caller knows the identity of the file.
    pub(crate) fn known(fd: OwnedFd, identity: (u64, u64), whose: &'static str) -> KeptFd {
        let fd = ManuallyDrop::new(fd);
        KeptFd { fd, identity, own_byte: None, pin: None, whose, lost: AtomicBool::new(false) }
    }

    /// Identifies this open file by its lock on a byte from now on. The file is mapped, which keeps
    /// it and its lock when the number is gone.
    pub(crate) fn know_by(&mut self, locked: u64) {
        self.own_byte = Some(locked);
    }

    /// Identifies it by a lock that nobody else asks for, on some byte behind `base`.
    pub(crate) fn mark(&mut self, base: u64) -> Result<()> {
        let byte = base + (random_id()? >> 8);
        // In one of 2^56 cases another file has that byte; then this one is identified by its inode
        // alone.
        if lock_shared(&self.fd, byte, 1)? {
            self.own_byte = Some(byte);
        }
        Ok(())
    }

    /// As [`mark`](KeptFd::mark), for a file that is not mapped otherwise.
    pub(crate) fn mark_and_pin(&mut self, base: u64) -> Result<()> {
        self.pin = Some(Mapping::new(self.fd.as_fd(), 1, false)?);
        self.mark(base)
    }

    /// The descriptor, proved to be ours at this moment.
    pub(crate) fn proved(&self) -> Result<&OwnedFd> {
        // Relaxed: a thread that does not see it yet finds out by itself.
        if !self.lost.load(Ordering::Relaxed) && self.is_ours()? {
            return Ok(&self.fd);
        }
        self.lost.store(true, Ordering::Relaxed);
        let (number, whose) = (self.number(), self.whose);
        Err(Error::new(Code::DescriptorLost)
            .about(format_args!("the program closed or replaced descriptor {number} {whose}"))
            .with_numbers([u64::try_from(number).unwrap_or(0), 0, 0]))
    }

    /// The descriptor, whatever its number means now: for questions whose answer is proved
    /// afterwards, and for the call that has just made it.
    pub(crate) fn unproved(&self) -> &OwnedFd {
        &self.fd
    }

    /// Device and inode of the file that it meant at first.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Its number, whatever that means now.
    pub(crate) fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn is_ours(&self) -> Result<bool> {
        let told = match stat::fstat(self.fd.as_fd()) {
            Ok(facts) if (facts.st_dev, facts.st_ino) != self.identity => return Ok(false),
            Ok(_) => self
                .own_byte
                .map_or(Ok(false), |byte| is_in_the_way(&self.fd, libc::F_WRLCK, byte, 1)),
            Err(errno) => Err(errno),
        };
        match told {
            Ok(another_has_it) => Ok(!another_has_it),
            Err(Errno::EBADF) => Ok(false),
            Err(errno) => Err(failed(errno, "looking at the descriptor")),
        }
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        // Also closed if the proof itself fails, because nothing shows that it is not ours. Such a
        // failure is not the program's fault, and the descriptor would otherwise stay open.
        let lost = *self.lost.get_mut() || self.is_ours() == Ok(false);
        if !lost {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

impl fmt::Debug for KeptFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}
