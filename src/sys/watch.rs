//! Sleeping until a name appears in a directory.
//!
//! The kernel reports new names, if it can be asked. That fails if no descriptor is left, or no
//! inotify instance or watch of the user's; if the system call is refused; or if the process may
//! search the directory but not read it. In these cases this file pauses between checks.
#![allow(unsafe_code)] // System calls on a descriptor that may not be ours any more.

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat;

use super::clock::{Deadline, monotonic_ns, nanoseconds, timespec};
use super::descriptor;
use super::errno::failed_at_name;
use super::file::path_bytes;
use super::kept::KeptFd;
use crate::error::{Code, Error, Result};

/// The reported events: a new name, and the end of the directory itself. Adding a watch again under
/// the same name changes nothing, unless that name now leads elsewhere.
const EVENTS: u32 = libc::IN_CREATE
    | libc::IN_MOVED_TO
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;

/// The longest sleep: the kernel does not report what another machine does in the directory, nor
/// that a directory above it was moved.
const LONGEST: Duration = Duration::from_secs(1);

/// How many reads of reported events are made between two checks.
const MOST_READS: u32 = 64;

/// The first and the longest pause where the kernel cannot be asked.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// One thread's wait for a name in a directory: it arms the watch, checks for the name, and sleeps.
pub(crate) struct Watch {
    directory: CString,
    /// `None` where the kernel cannot be asked.
    inotify: Option<KeptFd>,
    pause: Duration,
}

impl Watch {
    pub(crate) fn new(directory: &Path) -> Result<Watch> {
        let directory = CString::new(path_bytes(directory)).map_err(|_| Code::BadName)?;
        let inotify = descriptor::inotify().ok().and_then(|fd| KeptFd::new(fd, "of a wait").ok());
        Ok(Watch { directory, inotify, pause: FIRST_PAUSE })
    }

    /// From now on, a new name in the directory ends the next sleep. Fails if the directory does
    /// not exist.
    pub(crate) fn arm(&mut self) -> Result<()> {
        const ABOUT: &str = "watching the directory of the name";
        if let Some(inotify) = &self.inotify {
            let number = inotify.number();
            // SAFETY: the path is a string that ends in a NUL and outlives the call.
            let watched =
                unsafe { libc::inotify_add_watch(number, self.directory.as_ptr(), EVENTS) };
            match Errno::result(watched) {
                Ok(_) => {
                    forget_events(number);
                    return Ok(());
                }
                Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                    return Err(failed_at_name(errno, ABOUT));
                }
                // Also if the program has closed the number, or put another file in its place;
                // nothing was read from that file.
                Err(_) => self.inotify = None,
            }
        }
        match stat::stat(self.directory.as_c_str()) {
            Ok(facts) if facts.st_mode & libc::S_IFMT == libc::S_IFDIR => Ok(()),
            Ok(_) => Err(failed_at_name(Errno::ENOTDIR, ABOUT)),
            Err(errno) => Err(failed_at_name(errno, ABOUT)),
        }
    }

    /// Whether a call that failed this way should be tried again: it found no descriptor left, and
    /// this watch has released one.
    pub(crate) fn gives_way_to(&mut self, error: &Error) -> bool {
        matches!(error.os_errno(), libc::EMFILE | libc::ENFILE) && self.inotify.take().is_some()
    }

    /// Sleeps until a name appears after the watch was armed, or wakes earlier: the caller checks
    /// again, and checks the clock.
    pub(crate) fn sleep(&mut self, deadline: Deadline) {
        let longest = if self.inotify.is_some() { LONGEST } else { self.pause };
        let left = deadline.map_or(u64::MAX, |deadline| deadline.saturating_sub(monotonic_ns()));
        let left = left.min(nanoseconds(longest));
        let Some(inotify) = &self.inotify else {
            std::thread::sleep(Duration::from_nanos(left));
            self.pause = LONGEST_PAUSE.min(2 * self.pause);
            return;
        };
        let mut told = libc::pollfd { fd: inotify.number(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry, and a time that outlives the call; the signal mask stays as it
        // is.
        let count = unsafe { libc::ppoll(&mut told, 1, &timespec(left), std::ptr::null()) };
        if !matches!(Errno::result(count), Ok(_) | Err(Errno::EINTR)) {
            self.inotify = None;
        }
    }
}

/// Reads what the kernel has reported so far. The descriptor never waits.
fn forget_events(number: libc::c_int) {
    let mut events = [0u8; 4096];
    // Others may create names as fast as they are read here. An event that is left ends a sleep
    // early.
    for _ in 0..MOST_READS {
        // SAFETY: as many writable bytes. If no events are left, it fails.
        if unsafe { libc::read(number, events.as_mut_ptr().cast(), events.len()) } <= 0 {
            break;
        }
    }
}
