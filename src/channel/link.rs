//! One connection: messages of 16 bytes with one descriptor each, in and out, and when it is of no use any more.
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

/// Messages of one sort that are kept, with their descriptors, while the other sort is wanted.
const KEPT: usize = 64;

/// What an error says of the socket.
pub(crate) const OF_CHANNEL: &str = "of the channel";

/// Why nothing comes in any more.
#[derive(Clone)]
struct Broken {
    reason: Error,
    /// The other side has closed in good order: what it had sent stays good.
    ended: bool,
}

#[derive(Default)]
struct Inbox {
    regions: VecDeque<Announced>,
    segments: VecDeque<Foreign>,
    /// A message that is not in a queue yet: a part of one of a stream, or one whose file could not be looked at.
    bytes: [u8; MESSAGE],
    have: usize,
    file: Option<Foreign>,
    broken: Option<Broken>,
    /// How many things have happened here; who waits compares.
    events: u64,
    /// A thread sleeps on the socket, for all that wait.
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
    /// Refuses to receive while as much waits of one sort as may.
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

/// Whether a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// The other side has not read what it was sent before.
    Full,
}

pub(crate) struct Link {
    birth: ForkGuard,
    socket: KeptFd,
    kind: Kind,
    options: ChannelOptions,
    inbox: Mutex<Inbox>,
    /// Something happened in the inbox, or nobody watches the socket.
    changed: Condvar,
    /// Rung when something happens in the inbox while a thread sleeps on the socket.
    bell: Bell,
    /// Why nothing can be sent any more.
    mute: Mutex<Option<Error>>,
}

impl Link {
    /// Over a socket that may be anything; refuses peers that the options do not admit. The bell comes from the caller, who
    /// has it before anything is taken that would be lost without one.
    pub(crate) fn new(socket: OwnedFd, bell: Bell, options: &ChannelOptions) -> Result<Link> {
        let kind = socket::kind(socket.as_fd())?;
        let peer = socket::peer_uid(socket.as_fd())?;
        if peer != sys::effective_uid() && !options.any_owner {
            let own = sys::effective_uid();
            return Err(Error::new(Code::Permission)
                .about(format_args!("this is user {own}, and the other end of the channel is user {peer}"))
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

    // A panic cannot have left the inbox half changed in a way that matters: it holds whole messages.
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
                // A stream never cuts so few bytes; if it did, the rest would have no place to go.
                Ok(_) => break Error::new(Code::ChannelBroken).about("the kernel sent a part of a message"),
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

    /// Sleeps until more can be sent, or a bell rings that may be given; false if the deadline came first.
    pub(crate) fn wait_for_room(&self, bell: Option<BorrowedFd<'_>>, deadline: Deadline) -> Result<bool> {
        let socket = (self.fd()?, Ready::ToWrite);
        match bell {
            Some(bell) => socket::wait(&[socket, (bell, Ready::ToRead)], deadline),
            None => socket::wait(&[socket], deadline),
        }
    }

    /// The next region that the other side has announced, if there is one now; and how much has happened so far.
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

    /// Puts a region back, as the next, that could not be mapped for want of memory.
    pub(crate) fn put_back(&self, region: Announced) {
        self.inbox().regions.push_front(region);
    }

    /// The same for a segment that could not be attached to.
    pub(crate) fn put_back_segment(&self, file: Foreign) {
        let mut inbox = self.inbox();
        inbox.segments.push_front(file);
        // Another thread may have found nothing meanwhile.
        self.happened(&mut inbox);
    }

    /// How much has happened so far, to be told to `wait`.
    pub(crate) fn events(&self) -> u64 {
        self.inbox().events
    }

    /// Something happened that those who wait will want to look at.
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

    /// Whether what came over this channel is to be believed: the reason if it is not.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.inbox().broken.as_ref().filter(|broken| !broken.ended).map(|broken| broken.reason.clone())
    }

    /// The channel is of no use any more: the other side does not keep to the rules.
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
            // So that the other side knows, and whoever polls the descriptor looks.
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

    /// Takes a whole message into the inbox, or a part of one from a stream; false if there is none.
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
            // It stays in the queue until there is room.
            return Err(Error::new(Code::Sys)
                .errno(libc::EMFILE)
                .about("no descriptor is left for the next message, which stays in the channel")
                .advice("close some, or raise RLIMIT_NOFILE (ulimit -n)"));
        }
        if seen.cut {
            return Err({
                let count = fds.len();
                self.reject(inbox, format_args!("a message with more than {count} descriptors, not 1"), count)
            });
        }
        if seen.len == 0 && fds.is_empty() && self.is_over()? {
            return Err(match inbox.have {
                0 => self.end(inbox, ended(), true),
                have => {
                    let what =
                        format_args!("the other end closed after {have} of {MESSAGE} bytes of a message");
                    self.reject(inbox, what, have)
                }
            });
        }
        let carried = match socket::take(self.fd()?, seen.len.min(wanted)) {
            Ok(carried) => carried,
            // Another process that has this socket, too, was faster.
            Err(Errno::EAGAIN) => return Ok(false),
            Err(errno) => return Err(not_received(errno)),
        };
        if self.kind != Kind::Stream && seen.len != MESSAGE {
            let what = format_args!("a message of {} bytes, not {MESSAGE}", seen.len);
            return Err(self.reject(inbox, what, seen.len));
        }
        for (target, byte) in inbox.bytes.iter_mut().skip(inbox.have).zip(buffer.iter().take(seen.len)) {
            *target = *byte;
        }
        inbox.have += seen.len;
        if carried {
            // Not at the end of the message: one that never ends would keep them all open.
            let count = fds.len() + usize::from(inbox.file.is_some());
            if count > 1 {
                return Err(self.reject_count(inbox, count));
            }
            inbox.file = fds.into_iter().next().or(inbox.file.take());
        }
        Ok(true)
    }

    /// Whether nothing will come any more, of a socket in which nothing stands.
    fn is_over(&self) -> Result<bool> {
        Ok(match self.kind {
            Kind::Stream => true,
            Kind::Packets => socket::has_hung_up(self.fd()?),
            Kind::Datagrams => false,
        })
    }

    /// Ends the channel for something that no channel sends.
    fn reject(&self, inbox: &mut Inbox, what: impl fmt::Display, number: usize) -> Error {
        let reason = Error::new(Code::ChannelBroken).about(what).with_numbers([number as u64, 0, 0]);
        self.end(inbox, reason, false)
    }

    fn reject_count(&self, inbox: &mut Inbox, count: usize) -> Error {
        self.reject(inbox, format_args!("a message with {count} descriptors, not 1"), count)
    }

    /// Takes the message that is complete into its queue. It stays as it is if its file cannot be looked at now.
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
                // The program took it away between two parts of the message, which the other side
                // is not to blame for.
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

    /// What stands first in the socket, which stays there; `None` if nothing does.
    fn peek(&self, window: &mut [u8]) -> Result<Option<socket::Seen>> {
        let mut resets = 0;
        loop {
            match socket::peek(self.fd()?, self.kind, window) {
                Ok(seen) => return Ok(Some(seen)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                // The other side has closed without reading everything. That is told once, before what it had sent.
                Err(Errno::ECONNRESET) if resets < 2 => resets += 1,
                Err(errno) => return Err(not_received(errno)),
            }
        }
    }

    /// Sleeps until more has happened than `seen`, or something stands in the socket; false if the deadline came first.
    ///
    /// Several threads may wait, and others receive meanwhile: one thread watches the socket for all, and the bell tells
    /// it when somebody else has taken what it was waiting for.
    pub(crate) fn wait(&self, seen: u64, deadline: Deadline) -> Result<bool> {
        let mut inbox = self.inbox();
        loop {
            // First of all: whoever is sent one thing after the other, and never the right one, has a deadline, too.
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
        // Another one watches from now on.
        self.changed.notify_all();
        woken
    }
}
