//! The meaning of the kernel's error numbers for the caller.
#![forbid(unsafe_code)]

use std::fmt::Display;

use nix::errno::Errno;

use crate::error::{Code, Error};

/// An error about a descriptor or memory: either a resource is exhausted, or it is unexpected.
pub(super) fn failed(errno: Errno, doing: impl Display) -> Error {
    let code = match errno {
        // EAGAIN: mapping would lock more memory than RLIMIT_MEMLOCK allows.
        Errno::ENOMEM | Errno::ENOSPC | Errno::EDQUOT | Errno::ENOBUFS | Errno::EAGAIN => {
            Code::NoMemory
        }
        _ => Code::Sys,
    };
    failure(code, errno, doing)
}

fn failure(code: Code, errno: Errno, doing: impl Display) -> Error {
    Error::new(code).errno(errno as i32).about(format_args!("{doing} failed"))
}

/// An error about a name that the caller gave.
pub(super) fn failed_at_name(errno: Errno, doing: impl Display) -> Error {
    let code = match errno {
        Errno::ENOENT | Errno::ENOTDIR => Code::NotFound,
        Errno::EEXIST => Code::Exists,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Code::Permission,
        Errno::EISDIR | Errno::ENXIO => Code::NotAFile,
        Errno::ENAMETOOLONG | Errno::ELOOP => Code::BadName,
        _ => return failed(errno, doing),
    };
    failure(code, errno, doing)
}

/// An error about a link in /proc/self/fd, which leads to an open file.
pub(super) fn failed_at_link(errno: Errno, doing: impl Display) -> Error {
    match errno {
        Errno::ENOENT => Error::new(Code::NotSupported)
            .errno(errno as i32)
            .about("/proc is not mounted")
            .advice("mount it"),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => failure(Code::Permission, errno, doing),
        _ => failed(errno, doing),
    }
}
