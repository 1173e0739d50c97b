//! Locks that the kernel gives back when the open file is gone, however that comes about.
#![allow(unsafe_code)] // `flock` structs, and `flock` as the kernel has it.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg};

use super::errno::failed;
use crate::error::Result;

/// Locks a range of bytes for this open file; false if another open file has any of it. The kernel gives the lock back when
/// the last descriptor of this open file is gone, however that comes about.
pub(crate) fn lock(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    set_lock(fd, libc::F_WRLCK, offset, len)
}

/// The same, up to the last byte there can be if `len` is 0, also of a file that is open for reading only: others may share the
/// lock, but nobody has [`lock`] meanwhile.
pub(crate) fn lock_shared(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    set_lock(fd, libc::F_RDLCK, offset, len)
}

/// Gives a locked range back.
pub(crate) fn unlock(fd: &OwnedFd, offset: u64, len: u64) {
    let range = byte_range(libc::F_UNLCK, offset, len);
    // Unlocking a range of an open file cannot fail for a reason that anybody could act on.
    let _ = fcntl::fcntl(fd, FcntlArg::F_OFD_SETLK(&range));
}

fn set_lock(fd: &OwnedFd, kind: libc::c_int, offset: u64, len: u64) -> Result<bool> {
    match fcntl::fcntl(fd, FcntlArg::F_OFD_SETLK(&byte_range(kind, offset, len))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(failed(errno, "locking")),
    }
}

/// Whether any other open file has [locked](lock) in the range. Read locks do not count: who may only read could have taken
/// them.
pub(crate) fn is_locked(fd: &OwnedFd, offset: u64, len: u64) -> Result<bool> {
    is_in_the_way(fd, libc::F_RDLCK, offset, len).map_err(|errno| failed(errno, "locking"))
}

/// Whether a lock of that kind would have to wait for another open file's. Its own are in nobody's way here.
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

/// A lock of whatever kind that another open file has in the range, by its start and length; 0 is up to the last byte.
pub(crate) fn any_lock(fd: &OwnedFd, offset: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let mut range = byte_range(libc::F_WRLCK, offset, len);
    fcntl::fcntl(fd, FcntlArg::F_OFD_GETLK(&mut range)).map_err(|errno| failed(errno, "locking"))?;
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

/// Locks a file as a whole, or a folder, for as long as it is open; false if another open file has it locked so.
pub(crate) fn lock_whole(fd: &OwnedFd) -> Result<bool> {
    // SAFETY: takes and returns integers.
    match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => Ok(false),
        Err(errno) => Err(failed(errno, "locking the folder of the name")),
    }
}
