//! What an error number of the kernel means for the caller.
#![forbid(unsafe_code)]

use nix::errno::Errno;

use crate::error::{Code, Error};

/// Whatever the kernel says of a descriptor or of memory: either something is used up, or nobody expects it.
pub(super) fn failed(errno: Errno, about: &'static str) -> Error {
    let code = match errno {
        // EAGAIN: memory that would be locked as it is mapped, beyond RLIMIT_MEMLOCK.
        Errno::ENOMEM | Errno::ENOSPC | Errno::EDQUOT | Errno::ENOBUFS | Errno::EAGAIN => Code::NoMemory,
        _ => Code::Sys,
    };
    Error::with_errno(code, errno as i32, about)
}

/// What the kernel says of a name that the caller gave.
pub(super) fn failed_at_name(errno: Errno, about: &'static str) -> Error {
    let code = match errno {
        Errno::ENOENT | Errno::ENOTDIR => Code::NotFound,
        Errno::EEXIST => Code::Exists,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Code::Permission,
        Errno::EISDIR | Errno::ENXIO => Code::NotAFile,
        Errno::ENAMETOOLONG | Errno::ELOOP => Code::BadName,
        _ => return failed(errno, about),
    };
    Error::with_errno(code, errno as i32, about)
}

/// The same of a link in /proc/self/fd, which leads to an open file.
pub(super) fn failed_at_link(errno: Errno, about: &'static str) -> Error {
    match errno {
        Errno::ENOENT => Error::with_errno(Code::NotSupported, errno as i32, "/proc is not mounted"),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            Error::with_errno(Code::Permission, errno as i32, about)
        }
        _ => failed(errno, about),
    }
}
