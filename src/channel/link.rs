//! One connection: messages of 16 bytes, each with one descriptor, and the reasons why it is
//! broken.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::channel::is_shortage;
use crate::channel::message::{Announced, MESSAGE, SEGMENT, decode, encode};
use crate::channel::options::ChannelOptions;
use crate::error::{Code, Error, Result};
use crate::layout;
use crate::sys::socket::{self, Bell, Foreign, Kind, Ready};
use crate::sys::{self, Deadline, ForkGuard, KeptFd};

/// How many messages of one kind are kept, with their descriptors, while the other kind is wanted.
const KEPT: usize = 64;

/// Describes the socket in errors.
pub(crate) const OF_CHANNEL: &str = "of the channel";

/// Why no more messages arrive.
#[derive(Clone)]
struct Broken {
    reason: Error,
    /// The other side has closed in good order: what it had sent stays valid.
    ended: bool,
}

#[derive(Default)]
struct Inbox {
    regions: VecDeque<Announced>,
    segments: VecDeque<Foreign>,
    /// A message that is not in a queue yet: a part of one on a stream, or one whose file could not
    /// be inspected.
    bytes: [u8; MESSAGE],
    have: usize,
    file: Option<Foreign>,
    broken: Option<Broken>,
    /// How many events there have been; waiting threads compare it.
    events: u64,
    /// One thread sleeps on the socket, on behalf of all that wait.
    watched: bool,
}

/// The other end closed in good order.
fn ended() -> Error {
    Error::new(Code::ChannelBroken).about("the other end of the channel is closed")
}

fn not_received(errno: Errno) -> Error {
    Error::new(Code::Sys).errno(errno as i32).about("receiving from the channel failed")
}

impl Inbox {
    /// Refuses to receive while the limit of kept messages of one kind is reached.
    fn check_room(&self) -> Result<()> {
        let full = |count: usize, what| {
            let error = Error::new(Code::Again).about(format_args!("{count} {what}"));
            Err(error.with_numbers([count as u64, 0, 0]))
        };
        if self.regions.len() >= KEPT {
            return full(self.regions.len(), "regions must be drained first");
        }
        if self.segments.len() >= KEPT {
            return full(self.segments.len(), "segments must be received first");
        }
        Ok(())
    }
}

/// Whether a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// The other side has not read earlier messages.
    Full,
}

pub(crate) struct Link {
    birth: ForkGuard,
    socket: KeptFd,
    kind: Kind,
    options: ChannelOptions,
    inbox: Mutex<Inbox>,
    /// The inbox has changed, or no thread watches the socket.
    changed: Condvar,
    /// Rung when the inbox changes while a thread sleeps on the socket.
    bell: Bell,
    /// Why nothing can be sent any more.
    mute: Mutex<Option<Error>>,
}

impl Link {
    /// A link over a socket of any kind; refuses peers that the options do not admit. The caller
    /// makes the bell first, before it takes anything that would be lost without one.
    pub(crate) fn new(socket: OwnedFd, bell: Bell, options: &ChannelOptions) -> Result<Link> {
        let kind = socket::kind(socket.as_fd())?;
        let peer = socket::peer_uid(socket.as_fd())?;
        if peer != sys::effective_uid() && !options.any_owner {
            let own = sys::effective_uid();
            return Err(Error::new(Code::Permission)
                .about(format_args!(
                    "this is user {own}, and the other end of the channel is user {peer}"
                ))
                .advice("use SHMSLOT_FLAG_ANY_OWNER if you trust that user")
                .with_numbers([own.into(), peer.into(), 0]));
        }
        Ok(Link {
            birth: ForkGuard::of_this_process()?,
            socket: KeptFd::new(socket, OF_CHANNEL)?,
            kind,
            options: options.clone(),
            inbox: Mutex::default(),
            changed: Condvar::new(),
            bell,
            mute: Mutex::new(None),
        })
    }

    pub(crate) fn here(&self) -> Result<()> {
        if self.birth.same_process() { Ok(()) } else { Err(Code::Forked.into()) }
    }

    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.socket.proved()?.as_fd())
    }

    // A panic cannot have left the inbox in a bad state, because it holds only whole messages.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one message; does not wait.
    pub(crate) fn send(&self, message: &[u8; MESSAGE], passed: BorrowedFd<'_>) -> Result<Sent> {
        self.here()?;
        let mut mute = self.mute.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &*mute {
            return Err(reason.clone());
        }
        let reason = loop {
            match socket::send(self.fd()?, message, passed) {
                Ok(MESSAGE) => return Ok(Sent::Yes),
                // A stream does not split so few bytes; if it did, the rest could not be sent.
                Ok(_) => {
                    break Error::new(Code::ChannelBroken)
                        .about("the kernel sent a part of a message");
                }
                Err(Errno::EAGAIN) => return Ok(Sent::Full),
                Err(Errno::EINTR) => {}
                Err(errno @ (Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM)) => {
                    return Err(Error::new(Code::NoMemory)
                        .errno(errno as i32)
                        .about("too many descriptors or messages are in flight")
                        .advice("let the receivers read, then try again"));
                }
                Err(errno) => {
                    break Error::new(Code::ChannelBroken)
                        .errno(errno as i32)
                        .about("the other end of the channel is closed");
                }
            }
        };
        *mute = Some(reason.clone());
        Err(reason)
    }

    /// Sends a segment's descriptor.
    pub(crate) fn send_segment(&self, length: u64, file: BorrowedFd<'_>) -> Result<Sent> {
        self.send(&encode(SEGMENT, layout::LAYOUT_VERSION, length), file)
    }

    /// Sleeps until more can be sent, or until the given bell rings; false if the deadline came
    /// first.
    pub(crate) fn wait_for_room(
        &self,
        bell: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<bool> {
        let socket = (self.fd()?, Ready::ToWrite);
        match bell {
            Some(bell) => socket::wait(&[socket, (bell, Ready::ToRead)], deadline),
            None => socket::wait(&[socket], deadline),
        }
    }

    /// The next region that the other side has announced, if there is one now, and the number of
    /// events so far.
    pub(crate) fn next_region(&self) -> Result<Option<Announced>> {
        self.next(|inbox| inbox.regions.pop_front())
    }

    /// The next segment that the other side has sent, if there is one now.
    pub(crate) fn next_segment(&self) -> Result<Option<Foreign>> {
        self.next(|inbox| inbox.segments.pop_front())
    }

    fn next<T>(&self, mut pop: impl FnMut(&mut Inbox) -> Option<T>) -> Result<Option<T>> {
        self.here()?;
        let mut inbox = self.inbox();
        loop {
            if let Some(found) = pop(&mut inbox) {
                return Ok(Some(found));
            }
            if !self.receive(&mut inbox)? {
                return Ok(None);
            }
        }
    }

    /// Puts a region back as the next one, because there was no memory to map it.
    pub(crate) fn put_back(&self, region: Announced) {
        self.inbox().regions.push_front(region);
    }

    /// Puts a segment back as the next one, because this process could not attach to it.
    pub(crate) fn put_back_segment(&self, file: Foreign) {
        let mut inbox = self.inbox();
        inbox.segments.push_front(file);
        // Another thread may have found nothing meanwhile.
        self.happened(&mut inbox);
    }

    /// The number of events so far, to be passed to `wait`.
    pub(crate) fn events(&self) -> u64 {
        self.inbox().events
    }

    /// Reports an event that waiting threads must examine.
    pub(crate) fn announce(&self) {
        self.happened(&mut self.inbox());
    }

    fn happened(&self, inbox: &mut Inbox) {
        inbox.events = inbox.events.wrapping_add(1);
        if inbox.watched {
            self.bell.ring();
        }
        self.changed.notify_all();
    }

    /// The reason why this channel's messages are not trusted any more, if there is one.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.inbox()
            .broken
            .as_ref()
            .filter(|broken| !broken.ended)
            .map(|broken| broken.reason.clone())
    }

    /// Makes the channel unusable, because the other side violated the protocol.
    pub(crate) fn poison(&self, reason: Error) -> Error {
        self.end(&mut self.inbox(), reason, false)
    }

    fn end(&self, inbox: &mut Inbox, reason: Error, ended: bool) -> Error {
        let reason = reason.with_code(Code::ChannelBroken);
        inbox.file = None;
        inbox.broken = Some(Broken { reason: reason.clone(), ended });
        if !ended {
            inbox.regions.clear();
            inbox.segments.clear();
            *self.mute.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
            // So that the other side is told, and a thread that polls the descriptor wakes.
            if let Ok(socket) = self.fd() {
                socket::shut_down(socket);
                socket::empty(socket, self.kind);
            }
        }
        self.happened(inbox);
        reason
    }

    /// Takes one message from the socket into the inbox; false if there is none.
    fn receive(&self, inbox: &mut Inbox) -> Result<bool> {
        if let Some(broken) = &inbox.broken {
            return Err(broken.reason.clone());
        }
        inbox.check_room()?;
        while inbox.have < MESSAGE {
            if !self.receive_part(inbox)? {
                return Ok(false);
            }
        }
        self.admit(inbox).map(|()| true)
    }

    /// Takes a whole message into the inbox, or a part of one from a stream; false if there is
    /// none.
    fn receive_part(&self, inbox: &mut Inbox) -> Result<bool> {
        let mut buffer = [0; 2 * MESSAGE];
        let wanted = if self.kind == Kind::Stream { MESSAGE - inbox.have } else { buffer.len() };
        let Some(window) = buffer.get_mut(..wanted) else { return Ok(false) };
        let Some(seen) = self.peek(window)? else { return Ok(false) };
        let fds = match seen.fds {
            Ok(fds) => fds,
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => return Err(self.end(inbox, error, false)),
        };
        if seen.cut && fds.is_empty() {
            // It stays in the socket until there is room.
            return Err(Error::new(Code::Sys)
                .errno(libc::EMFILE)
                .about("no descriptor is left for the next message, which stays in the channel")
                .advice("close some, or raise RLIMIT_NOFILE (ulimit -n)"));
        }
        if seen.cut {
            return Err({
                let count = fds.len();
                self.reject(
                    inbox,
                    format_args!("a message with more than {count} descriptors, not 1"),
                    count,
                )
            });
        }
        if seen.len == 0 && fds.is_empty() && self.is_over()? {
            return Err(match inbox.have {
                0 => self.end(inbox, ended(), true),
                have => self.reject(
                    inbox,
                    format_args!(
                        "the other end closed after {have} of {MESSAGE} bytes of a message"
                    ),
                    have,
                ),
            });
        }
        let carried = match socket::take(self.fd()?, seen.len.min(wanted)) {
            Ok(carried) => carried,
            // Another process that shares this socket was faster.
            Err(Errno::EAGAIN) => return Ok(false),
            Err(errno) => return Err(not_received(errno)),
        };
        if self.kind != Kind::Stream && seen.len != MESSAGE {
            return Err(self.reject(
                inbox,
                format_args!("a message of {} bytes, not {MESSAGE}", seen.len),
                seen.len,
            ));
        }
        for (target, byte) in
            inbox.bytes.iter_mut().skip(inbox.have).zip(buffer.iter().take(seen.len))
        {
            *target = *byte;
        }
        inbox.have += seen.len;
        if carried {
            // Checked before the end of the message: one that never ends would keep them all open.
            let count = fds.len() + usize::from(inbox.file.is_some());
            if count > 1 {
                return Err(self.reject_count(inbox, count));
            }
            inbox.file = fds.into_iter().next().or(inbox.file.take());
        }
        Ok(true)
    }

    /// Whether nothing will arrive any more, for a socket whose queue is empty.
    fn is_over(&self) -> Result<bool> {
        Ok(match self.kind {
            Kind::Stream => true,
            Kind::Packets => socket::has_hung_up(self.fd()?),
            Kind::Datagrams => false,
        })
    }

    /// Breaks the channel because of a message that violates the protocol.
    fn reject(&self, inbox: &mut Inbox, what: impl fmt::Display, number: usize) -> Error {
        let reason =
            Error::new(Code::ChannelBroken).about(what).with_numbers([number as u64, 0, 0]);
        self.end(inbox, reason, false)
    }

    fn reject_count(&self, inbox: &mut Inbox, count: usize) -> Error {
        self.reject(inbox, format_args!("a message with {count} descriptors, not 1"), count)
    }

    /// Moves the complete message into its queue. It stays where it is if its file cannot be
    /// inspected now.
    fn admit(&self, inbox: &mut Inbox) -> Result<()> {
        let Some(file) = inbox.file.take() else {
            return Err(self.reject_count(inbox, 0));
        };
        let (map_id, generation, length) = decode(&inbox.bytes);
        if map_id == SEGMENT {
            inbox.segments.push_back(file);
        } else {
            let unsealed = self.options.unsealed;
            match file.proved().and_then(|fd| Announced::check(map_id, length, fd, unsealed)) {
                Ok(facts) => {
                    inbox.regions.push_back(Announced { map_id, generation, length, file, facts });
                }
                Err(error) if is_shortage(&error) => {
                    inbox.file = Some(file);
                    return Err(error);
                }
                // The program closed it between two parts of the message; the other side is not to
                // blame.
                Err(error) if error.code() == Code::DescriptorLost => {
                    inbox.have = 0;
                    return Err(error);
                }
                Err(error) => return Err(self.end(inbox, error, false)),
            }
        }
        inbox.have = 0;
        self.happened(inbox);
        Ok(())
    }

    /// Peeks at the first message of the socket; `None` if there is none.
    fn peek(&self, window: &mut [u8]) -> Result<Option<socket::Seen>> {
        let mut resets = 0;
        loop {
            match socket::peek(self.fd()?, self.kind, window) {
                Ok(seen) => return Ok(Some(seen)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                // The other side has closed without reading everything. The kernel reports that
                // once, before what it had sent.
                Err(Errno::ECONNRESET) if resets < 2 => resets += 1,
                Err(errno) => return Err(not_received(errno)),
            }
        }
    }

    /// Sleeps until there are more events than `seen`, or a message arrives; false if the deadline
    /// came first.
    ///
    /// Several threads may wait while others receive. One thread watches the socket for all of
    /// them, and the bell wakes it when another thread has received what it was waiting for.
    pub(crate) fn wait(&self, seen: u64, deadline: Deadline) -> Result<bool> {
        let mut inbox = self.inbox();
        loop {
            // First, because the deadline also holds for a thread that receives one message after
            // the other, and never the right one.
            let left = deadline.map(|deadline| deadline.saturating_sub(sys::monotonic_ns()));
            if left == Some(0) {
                return Ok(false);
            }
            if inbox.events != seen || inbox.broken.is_some() {
                return Ok(true);
            }
            if !inbox.watched {
                break;
            }
            inbox = match left {
                Some(left) => {
                    let waited = self.changed.wait_timeout(inbox, Duration::from_nanos(left));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
        inbox.watched = true;
        drop(inbox);
        let woken = self.fd().and_then(|socket| {
            socket::wait(&[(socket, Ready::ToRead), (self.bell.fd()?, Ready::ToRead)], deadline)
        });
        let mut inbox = self.inbox();
        inbox.watched = false;
        self.bell.silence();
        // Another thread watches from now on.
        self.changed.notify_all();
        woken
    }
}
