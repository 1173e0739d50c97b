//! Locks that the kernel releases when the open file is gone, for whatever reason.
#![allow(unsafe_code)] // `flock` structs, and `flock` as the kernel defines it.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg};

use super::errno::failed;
use crate::error::Result;

/// Locks a range of bytes for this open file; false if another open file has locked any of it. The
/// kernel releases the lock when the last descriptor of this open file is gone, for whatever
/// reason.
pub(crate) fn lock(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    set_lock(fd, libc::F_WRLCK, offset, len)
}

/// As [`lock`], but others can share this lock, while nobody else can have an exclusive one. It
/// also works on a file that is open for reading only. `len` 0 means up to the last possible byte.
pub(crate) fn lock_shared(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    set_lock(fd, libc::F_RDLCK, offset, len)
}

/// Unlocks a range.
pub(crate) fn unlock(fd: &OwnedFd, offset: u64, len: u64) {
    let range = byte_range(libc::F_UNLCK, offset, len);
    // Unlocking a range of an open file has no failure that a caller could act on.
    let _ = fcntl::fcntl(fd, FcntlArg::F_OFD_SETLK(&range));
}

fn set_lock(fd: &OwnedFd, kind: libc::c_int, offset: u64, len: u64) -> Result<bool> {
    match fcntl::fcntl(fd, FcntlArg::F_OFD_SETLK(&byte_range(kind, offset, len))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(failed(errno, "locking")),
    }
}

/// Whether any other open file has an exclusive [lock] in the range. Read locks do not count,
/// because a process that may only read could take them.
pub(crate) fn is_locked(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    is_in_the_way(fd, libc::F_RDLCK, offset, len).map_err(|errno| failed(errno, "locking"))
}

/// Whether such a lock would conflict with that of another open file. Locks of this open file do
/// not conflict.
pub(super) fn is_in_the_way(
    fd: &OwnedFd,
    kind: libc::c_int,
    offset: u64,
    len: u64,
) -> std::result::Result<bool, Errno> {
    let mut range = byte_range(kind, offset, len);
    fcntl::fcntl(fd, FcntlArg::F_OFD_GETLK(&mut range))?;
    Ok(range.l_type != libc::F_UNLCK as libc::c_short)
}

/// Any lock of another open file in the range, by its start and length; 0 means up to the last
/// possible byte.
pub(crate) fn any_lock(fd: &OwnedFd, offset: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let mut range = byte_range(libc::F_WRLCK, offset, len);
    fcntl::fcntl(fd, FcntlArg::F_OFD_GETLK(&mut range))
        .map_err(|errno| failed(errno, "locking"))?;
    let found = range.l_type != libc::F_UNLCK as libc::c_short;
    Ok(found.then_some((range.l_start as u64, range.l_len as u64)))
}

fn byte_range(kind: libc::c_int, offset: u64, len: u64) -> libc::flock {
    // SAFETY: all-zero is a valid flock, a plain struct of integers.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = offset as libc::off_t;
    range.l_len = len as libc::off_t;
    range
}

/// Locks a whole file or directory, as long as it is open; false if another open file has it
/// locked.
pub(crate) fn lock_whole(fd: &OwnedFd) -> Result<bool> {
    // SAFETY: takes and returns integers.
    match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => Ok(false),
        Err(errno) => Err(failed(errno, "locking the folder of the name")),
    }
}
