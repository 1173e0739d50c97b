//! Waiting for connections at a name.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::channel::connection::Channel;
use crate::channel::link::OF_CHANNEL;
use crate::channel::options::ChannelOptions;
use crate::error::{Code, Result};
use crate::segment::name::until_not_busy;
use crate::sys::socket::{self, Bell, Ready};
use crate::sys::{self, ForkGuard, KeptFd};
use crate::wait::{deadline_of, timeout_code};

/// How many connections of users that are not admitted are closed between two checks of the clock.
/// It exceeds a listener's backlog, so that a call that does not wait gets past them, and a user
/// that never stops connecting does not block the caller.
const REFUSED_AT_ONCE: u32 = 1 << 13;
/// How often a name that a dead process has left is taken over before it counts as taken.
const NAME_RACES: u32 = 4;

/// Listens at a path where a dead process has left its file.
///
/// A process that removes such a file locks the directory, from before it checks that the file is
/// dead until it listens itself. Otherwise it could remove the file of another process that did
/// this a moment earlier. A process that only listens locks nothing: the kernel does not let two
/// sockets have one name, and a bind that fails because the name is taken has waited for the other
/// one.
fn take_over(name: &str, mode: u32) -> Result<OwnedFd> {
    let folder = Path::new(name).parent().ok_or(Code::BadName)?;
    let folder = sys::open_folder(folder)?;
    until_not_busy(|| sys::lock_whole(&folder))?;
    let mut attempt = 0;
    loop {
        match socket::listen(name, mode) {
            Err(error) if error.code() == Code::Exists && attempt < NAME_RACES => {
                let before = socket::file_of(name);
                if !socket::is_abandoned(name) {
                    return Err(error);
                }
                if before == socket::file_of(name) {
                    sys::unlink_file(name.as_ref())?;
                }
                attempt += 1;
            }
            made => return made,
        }
    }
}

/// Waits for connections. It removes its socket file when it is dropped.
pub struct Listener {
    birth: ForkGuard,
    socket: KeptFd,
    name: String,
    /// Device and inode of the socket file.
    file: Option<(u64, u64)>,
    options: ChannelOptions,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Listener {
    /// Waits for connections at an absolute path, or at an abstract name that begins with '@'. A
    /// socket file that a dead process has left there is replaced.
    pub fn bind(name: &str, options: &ChannelOptions) -> Result<Listener> {
        let mode = if options.any_owner { 0o666 } else { 0o600 };
        let socket = match socket::listen(name, mode) {
            Err(error)
                if error.code() == Code::Exists
                    && name.starts_with('/')
                    && socket::is_abandoned(name) =>
            {
                take_over(name, mode)?
            }
            made => made?,
        };
        let file = if name.starts_with('/') { socket::file_of(name) } else { None };
        Ok(Listener {
            birth: ForkGuard::of_this_process()?,
            socket: KeptFd::new(socket, OF_CHANNEL)?,
            name: name.to_owned(),
            file,
            options: options.clone(),
        })
    }

    /// The next connection. Connections of users that the options do not admit are silently closed.
    pub fn accept(&self, timeout: Option<Duration>) -> Result<Channel> {
        if !self.birth.same_process() {
            return Err(Code::Forked.into());
        }
        let deadline = deadline_of(timeout);
        let mut refused = 0;
        while socket::wait(&[(self.fd()?, Ready::ToRead)], deadline)? {
            // First, so that no connection is lost for lack of one.
            let bell = Bell::new()?;
            let Some(socket) = socket::accept(self.fd()?)? else { continue };
            match Channel::with_bell(socket, bell, &self.options) {
                Err(error) if error.code() == Code::Permission => refused += 1,
                made => return made,
            }
            if refused % REFUSED_AT_ONCE == 0
                && deadline.is_some_and(|deadline| deadline <= sys::monotonic_ns())
            {
                break;
            }
        }
        Err(timeout_code(timeout).into())
    }

    /// A descriptor for poll: readable when a peer has connected.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.socket.proved()?.as_fd())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.birth.same_process()
            && self.file.is_some()
            && self.file == socket::file_of(&self.name)
        {
            // No caller could act on a failure; the next listener replaces the file.
            let _ = sys::unlink_file(self.name.as_ref());
        }
    }
}
