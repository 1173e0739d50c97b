//! Channels: how they are made, and segments that go over them.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::options::Options;
use crate::region::link::{ABOUT_SOCKET, Link, Sent};
use crate::region::{is_shortage, too_late};
use crate::segment::Segment;
use crate::sys::socket::{self, Bell, Connected, Ready};
use crate::sys::{self, Birth, Deadline, KeptFd};
use crate::waiting::{deadline_of, until_not_busy};

/// Whom a channel is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChannelOptions {
    /// Also with a process of another user.
    pub any_owner: bool,
    /// Also map regions whose files are not sealed. If the sender cuts such a file, touching it raises SIGBUS.
    pub unsealed: bool,
}

/// A connection that carries the descriptors of regions and segments. Cheap to clone; any thread. It is closed with the
/// last clone, the registries it was added to and the attachments made of it.
#[derive(Clone)]
pub struct Channel {
    link: Arc<Link>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("fd", &self.fd().ok()).finish_non_exhaustive()
    }
}

/// Connections of users who are not admitted that are closed between two looks at the clock: more than wait at a
/// listener, so that who does not wait comes by them, and who never stops to connect does not keep the caller.
const REFUSED_AT_ONCE: u32 = 1 << 13;
/// How often a name that a dead process has left is taken over before it counts as taken.
const NAME_RACES: u32 = 4;

/// Listens at a path where a dead process has left its file.
///
/// Who takes such a file away has the folder locked from before it looks whether the file is dead until it listens itself:
/// else it would take the file of somebody who has done the same a moment before. Who only listens locks nothing: the kernel
/// does not let two have one name, and a bind that fails for the name has waited for the one that has it.
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

impl Channel {
    /// Two ends of a new connection, one of which is to be inherited, or to be used in this process.
    pub fn pair(options: &ChannelOptions) -> Result<(Channel, Channel)> {
        let (one, other) = socket::pair()?;
        Ok((Channel::from_fd(one, options)?, Channel::from_fd(other, options)?))
    }

    /// Over a connected unix socket that came from elsewhere: seqpacket, or also datagram (which never tells that the
    /// other end is gone) or stream.
    pub fn from_fd(socket: OwnedFd, options: &ChannelOptions) -> Result<Channel> {
        Channel::with_bell(sys::keep(socket)?, Bell::new()?, options)
    }

    fn with_bell(socket: OwnedFd, bell: Bell, options: &ChannelOptions) -> Result<Channel> {
        Ok(Channel { link: Arc::new(Link::new(socket, bell, options)?) })
    }

    /// Waits for connections at an absolute path, or at an abstract name that begins with '@'. A socket file that a dead
    /// process has left there is replaced.
    pub fn listen(name: &str, options: &ChannelOptions) -> Result<Listener> {
        let mode = if options.any_owner { 0o666 } else { 0o600 };
        let socket = match socket::listen(name, mode) {
            Err(error)
                if error.code() == Code::Exists && name.starts_with('/') && socket::is_abandoned(name) =>
            {
                take_over(name, mode)?
            }
            made => made?,
        };
        let file = if name.starts_with('/') { socket::file_of(name) } else { None };
        Ok(Listener {
            birth: Birth::of_this_process()?,
            socket: KeptFd::new(socket, ABOUT_SOCKET)?,
            name: name.to_owned(),
            file,
            options: options.clone(),
        })
    }

    /// Connects to a listener; waits as long as too many others wait for it.
    pub fn connect(name: &str, options: &ChannelOptions, timeout: Option<Duration>) -> Result<Channel> {
        // First, so that the listener does not see a connection come and go.
        let bell = Bell::new()?;
        match socket::connect(name, deadline_of(timeout))? {
            Connected::To(socket) => Channel::with_bell(socket, bell, options),
            Connected::Crowded => Err(too_late(timeout).into()),
            Connected::Nobody => Err(Error::about(Code::NotFound, "nobody listens at the channel's name")),
        }
    }

    /// To be polled: ready to read when a message is there or the other end is gone. Not to be read from.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.link.fd()
    }

    /// Sends the descriptor of a segment, which must be sealed: [`Segment::create_anonymous`] makes such.
    pub fn send_segment(&self, segment: &Segment, timeout: Option<Duration>) -> Result<()> {
        self.link.here()?;
        let fd = segment.fd()?;
        if !sys::is_size_sealed(fd) {
            return Err(Error::about(Code::NotSealed, "the segment has a name; send that"));
        }
        let length = segment.inner().offsets().total;
        let deadline = deadline_of(timeout);
        while self.link.send_segment(length, fd)? == Sent::Full {
            self.wait_for_room(None, timeout, deadline)?;
        }
        Ok(())
    }

    /// Attaches to the next segment that the other side has sent. It stays the next if this process has no memory or no
    /// descriptor for it now.
    pub fn recv_segment(&self, options: &Options, timeout: Option<Duration>) -> Result<Segment> {
        let deadline = deadline_of(timeout);
        loop {
            let events = self.link.events();
            if let Some(file) = self.link.next_segment()? {
                return match Segment::attach_fd(file.as_fd(), options) {
                    Err(error) if is_shortage(&error) => {
                        self.link.put_back_segment(file);
                        Err(error)
                    }
                    done => done,
                };
            }
            if timeout == Some(Duration::ZERO) || !self.link.wait(events, deadline)? {
                return Err(too_late(timeout).into());
            }
        }
    }

    pub(super) fn wait_for_room(
        &self,
        bell: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<()> {
        if timeout == Some(Duration::ZERO) || !self.link.wait_for_room(bell, deadline)? {
            return Err(Error::about(too_late(timeout), "the other end of a channel does not read"));
        }
        Ok(())
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn is(&self, other: &Channel) -> bool {
        Arc::ptr_eq(&self.link, &other.link)
    }
}

/// Waits for connections. Its socket file goes away with it.
pub struct Listener {
    birth: Birth,
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
    /// The next connection. Those of users whom the options do not admit are closed and not told of.
    pub fn accept(&self, timeout: Option<Duration>) -> Result<Channel> {
        if !self.birth.is_here() {
            return Err(Code::Forked.into());
        }
        let deadline = deadline_of(timeout);
        let mut refused = 0;
        while socket::wait(&[(self.fd()?, Ready::ToRead)], deadline)? {
            // First, so that no connection is lost for want of it.
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
        Err(too_late(timeout).into())
    }

    /// To be polled: ready to read when somebody has connected.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.socket.proved()?.as_fd())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.birth.is_here() && self.file.is_some() && self.file == socket::file_of(&self.name) {
            // Nobody could act on a failure; the next listener replaces what is left.
            let _ = sys::unlink_file(self.name.as_ref());
        }
    }
}
