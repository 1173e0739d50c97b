//! Descriptors that become readable when a file is accessed.
//!
//! The kernel tells whoever watches a file of reads through a descriptor, of closes and of changes
//! of its facts; it tells nothing of accesses to memory that is mapped. So one process wakes others
//! by reading one byte of a file that they watch, and its death wakes them, because the kernel
//! closes its files. Nobody needs to be found, asked or named for that.
#![allow(unsafe_code)] // System calls on a descriptor that may not be ours any more.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::clock::{Deadline, monotonic_ns, timespec};
use super::descriptor;
use super::errno::{failed, failed_at_link};
use super::kept::KeptFd;
use crate::error::{Code, Error, Result};

/// What is told of a watched file. A change of its facts may be the loss of its name, and so is a
/// move.
const EVENTS: u32 = libc::IN_ACCESS | libc::IN_CLOSE_WRITE | CHANGES;
/// Those that say that something else than the contents has changed.
const CHANGES: u32 = libc::IN_ATTRIB | libc::IN_MOVE_SELF;

/// Bytes that one read takes. An event of a file has 16, and the kernel keeps 16384 by default.
const BUFFER: usize = 4096;

/// Lets the kernel tell everybody who watches the file of this descriptor; false if it told nobody.
///
/// If the program has closed the number, that is seen. If it has put another file in its place, one
/// byte of that file is read. That takes nothing from a pipe, a socket or a terminal, because a read
/// at an offset fails there. It is the bare call, because the wrapper of the C library ends a thread
/// that is cancelled.
pub(crate) fn touch(file: RawFd) -> bool {
    let mut byte = 0u8;
    // SAFETY: room for one byte. Nothing depends on what is read.
    let read = unsafe { libc::syscall(libc::SYS_pread64, file, &raw mut byte, 1usize, 0i64) };
    // The kernel tells of no read that gets nothing.
    read > 0
}

/// What was told of a watched file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The number that [`FileWatch::add`] returned; `None`: more was told than the kernel keeps, so
    /// that anything may have happened to any file.
    pub(crate) watch: Option<i32>,
    /// A descriptor was closed through which the file could be written: a process may have died.
    pub(crate) closed: bool,
    /// Something else than the contents has changed, perhaps its names.
    pub(crate) changed: bool,
}

/// What has ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Readable,
    TimeOver,
    Signalled,
}

/// A descriptor that is readable while something was told of the files that it watches.
#[derive(Debug)]
pub(crate) struct FileWatch {
    inotify: KeptFd,
}

impl FileWatch {
    /// One that watches nothing yet.
    pub(crate) fn new() -> Result<FileWatch> {
        let made = descriptor::inotify().map_err(|errno| match errno {
            Errno::EMFILE => Error::new(Code::Sys)
                .errno(errno as i32)
                .about(
                    "this user has no inotify instance left, or this process no descriptor \
                     (fs.inotify.max_user_instances, RLIMIT_NOFILE)",
                )
                .advice("raise that limit, or use one set for all readers and writers"),
            errno => failed(errno, "making a descriptor for an event loop (inotify_init1)"),
        })?;
        let inotify =
            KeptFd::new(made, "of an event loop").map_err(|error| error.about("looking at it"))?;
        Ok(FileWatch { inotify })
    }

    /// Its number, for an event loop.
    pub(crate) fn number(&self) -> RawFd {
        self.inotify.number()
    }

    /// Watches one more file, and returns the number by which it is told of. A file that is watched
    /// already keeps its number.
    pub(crate) fn add(&self, file: &OwnedFd) -> Result<i32> {
        // Follows the link of /proc on purpose: it leads to the open file.
        let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        // SAFETY: the path ends in a NUL and outlives the call.
        let added = unsafe { libc::inotify_add_watch(self.number(), path.as_ptr().cast(), EVENTS) };
        Errno::result(added).map_err(|errno| match errno {
            Errno::ENOSPC => Error::new(Code::Sys)
                .errno(errno as i32)
                .about("this user has no inotify watch left (fs.inotify.max_user_watches)")
                .advice("raise that limit"),
            Errno::EBADF | Errno::EINVAL => self.lost(),
            errno => failed_at_link(errno, "watching the file of the segment"),
        })
    }

    /// Stops watching a file.
    pub(crate) fn remove(&self, watch: i32) {
        // SAFETY: takes and returns integers. It fails only if the program has closed the number.
        unsafe { libc::inotify_rm_watch(self.number(), watch) };
    }

    /// Reads all that was told, and so makes the descriptor unreadable until more is. Nothing of
    /// what was there before is left, because the kernel merges an equal event with it, and then
    /// wakes nobody; what others add meanwhile is read, too, or wakes whoever waits.
    pub(crate) fn drain(&self, mut each: impl FnMut(Told)) -> Result<()> {
        let mut buffer = [0u8; BUFFER];
        let mut left = None;
        loop {
            // SAFETY: as many writable bytes. The bare call, as in `touch`.
            let read = unsafe {
                libc::syscall(libc::SYS_read, self.number(), buffer.as_mut_ptr(), buffer.len())
            };
            let read = match Errno::result(read) {
                Ok(read) => read as usize,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(self.lost()),
            };
            let mut rest = buffer.get(..read).unwrap_or(&[]);
            while !rest.is_empty() {
                let (told, next) = parse(rest).ok_or_else(|| self.lost())?;
                each(told);
                rest = next;
            }
            // The kernel gives as many events as fit, and each of these has the same size.
            if read < buffer.len() {
                return Ok(());
            }
            // Others may add to it as fast as it is read here, so that is not awaited for ever.
            left = match left {
                None => Some(self.backlog()),
                Some(left) => Some(left.saturating_sub(read)),
            };
            if left == Some(0) {
                return Ok(());
            }
        }
    }

    /// How many bytes there are to read.
    fn backlog(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: stores one integer, which outlives the call.
        unsafe { libc::ioctl(self.number(), libc::FIONREAD, &raw mut bytes) };
        usize::try_from(bytes).unwrap_or(0)
    }

    /// Whether there is something to read now, without waiting.
    pub(crate) fn is_readable(&self) -> bool {
        self.poll(Some(0)) == Polled::Readable
    }

    /// Sleeps until there is something to read, or a signal handler has run.
    pub(crate) fn poll(&self, deadline: Deadline) -> Polled {
        let mut left = deadline.map(|deadline| timespec(deadline.saturating_sub(monotonic_ns())));
        // The kernel stores there what is left of the time.
        let left = left.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let mut told = libc::pollfd { fd: self.number(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry, and a time that is null or outlives the call; the signal mask
        // stays as it is. The last argument is the size of a signal mask, which is not there.
        let count =
            unsafe { libc::syscall(libc::SYS_ppoll, &raw mut told, 1usize, left, 0usize, 8usize) };
        match Errno::result(count) {
            Ok(0) => Polled::TimeOver,
            Err(Errno::EINTR) => Polled::Signalled,
            // An error, too, is told by the read that follows.
            Ok(_) | Err(_) => Polled::Readable,
        }
    }

    #[cold]
    fn lost(&self) -> Error {
        let number = self.number();
        Error::new(Code::DescriptorLost)
            .about(format_args!("the program closed, read or replaced descriptor {number}"))
            .with_numbers([u64::try_from(number).unwrap_or(0), 0, 0])
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.unproved().as_fd()
    }
}

/// The first event of a buffer, and what comes after it; `None` if it is none.
fn parse(bytes: &[u8]) -> Option<(Told, &[u8])> {
    let field = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let (watch, mask, name) = (field(0)? as i32, field(4)?, field(12)? as usize);
    let size = size_of::<libc::inotify_event>();
    let rest = bytes.get(size.checked_add(name)?..)?;
    let is_known = mask & (libc::IN_Q_OVERFLOW | libc::IN_IGNORED | libc::IN_UNMOUNT | EVENTS) != 0;
    let told = Told {
        watch: (mask & libc::IN_Q_OVERFLOW == 0).then_some(watch),
        closed: mask & (libc::IN_CLOSE_WRITE | libc::IN_Q_OVERFLOW) != 0,
        changed: mask & (CHANGES | libc::IN_Q_OVERFLOW) != 0,
    };
    is_known.then_some((told, rest))
}
