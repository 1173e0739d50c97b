//! One end of a channel, and the segments that are sent over it.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::channel::is_shortage;
use crate::channel::link::{Link, Sent};
use crate::channel::options::ChannelOptions;
use crate::error::{Code, Error, Result};
use crate::segment::AttachOptions;
use crate::segment::Segment;
use crate::sys::socket::{self, Bell, Connected};
use crate::sys::{self, Deadline};
use crate::wait::{deadline_of, timeout_code};

/// A connection that carries the descriptors of regions and segments. Cheap to clone; any thread.
/// It is closed when the last clone, the registries it was added to and the attachments made from
/// it are gone.
#[derive(Clone)]
pub struct Channel {
    link: Arc<Link>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("fd", &self.fd().ok()).finish_non_exhaustive()
    }
}

impl Channel {
    /// Makes a new connection and returns both ends, for a child that inherits one, or for use
    /// within this process.
    pub fn pair(options: &ChannelOptions) -> Result<(Channel, Channel)> {
        let (one, other) = socket::pair()?;
        Ok((Channel::from_fd(one, options)?, Channel::from_fd(other, options)?))
    }

    /// A channel over a connected unix socket from elsewhere: seqpacket, or also stream or datagram
    /// (which does not report the end of the other side).
    pub fn from_fd(socket: OwnedFd, options: &ChannelOptions) -> Result<Channel> {
        Channel::with_bell(sys::keep(socket)?, Bell::new()?, options)
    }

    pub(super) fn with_bell(
        socket: OwnedFd,
        bell: Bell,
        options: &ChannelOptions,
    ) -> Result<Channel> {
        Ok(Channel { link: Arc::new(Link::new(socket, bell, options)?) })
    }

    /// Connects to a listener; waits while its backlog is full.
    pub fn connect(
        name: &str,
        options: &ChannelOptions,
        timeout: Option<Duration>,
    ) -> Result<Channel> {
        // First, so that the listener does not see a connection appear and disappear.
        let bell = Bell::new()?;
        match socket::connect(name, deadline_of(timeout))? {
            Connected::To(socket) => Channel::with_bell(socket, bell, options),
            Connected::Crowded => Err(timeout_code(timeout).into()),
            Connected::Nobody => Err(Error::new(Code::NotFound)
                .about(format_args!("nobody listens at {name:?}"))
                .advice("start the listener first, or check the name")),
        }
    }

    /// A descriptor for poll: readable when a message has arrived or the other end is gone. Do not
    /// read from it.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.link.fd()
    }

    /// Sends the descriptor of a segment, which must be sealed, as those of
    /// [`Segment::create_anonymous`] are.
    pub fn send_segment(&self, segment: &Segment, timeout: Option<Duration>) -> Result<()> {
        self.link.here()?;
        let fd = segment.fd()?;
        if !sys::is_size_sealed(fd) {
            return Err(Error::new(Code::NotSealed)
                .about("the segment is a named file, which is not sealed")
                .advice("send its name, or make it with shmslot_segment_create_anonymous"));
        }
        let length = segment.inner().offsets().total;
        let deadline = deadline_of(timeout);
        while self.link.send_segment(length, fd)? == Sent::Full {
            self.wait_for_room(None, timeout, deadline)?;
        }
        Ok(())
    }

    /// Attaches to the next segment that the other side has sent. If this process has no memory or
    /// descriptor for it now, it stays the next.
    pub fn recv_segment(
        &self,
        options: &AttachOptions,
        timeout: Option<Duration>,
    ) -> Result<Segment> {
        let deadline = deadline_of(timeout);
        loop {
            let events = self.link.events();
            if let Some(file) = self.link.next_segment()? {
                return match file.proved().and_then(|fd| Segment::attach_fd(fd, options)) {
                    Err(error) if is_shortage(&error) => {
                        self.link.put_back_segment(file);
                        Err(error)
                    }
                    done => done,
                };
            }
            if timeout == Some(Duration::ZERO) || !self.link.wait(events, deadline)? {
                return Err(timeout_code(timeout).into());
            }
        }
    }

    pub(crate) fn wait_for_room(
        &self,
        bell: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<()> {
        if timeout == Some(Duration::ZERO) || !self.link.wait_for_room(bell, deadline)? {
            return Err(Error::new(timeout_code(timeout))
                .about("the other end of the channel does not read"));
        }
        Ok(())
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn is(&self, other: &Channel) -> bool {
        Arc::ptr_eq(&self.link, &other.link)
    }
}
