//! Unix sockets that carry descriptors, and waiting on descriptors.
//!
//! Only `wait` and `connect` block, and no call raises SIGPIPE. Each descriptor that arrives is
//! close-on-exec, and owned from the first moment.
#![allow(unsafe_code)] // Ancillary data, which std does not wrap and nix loses when it is cut.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::clock::{Deadline, monotonic_ns, timespec};
use super::descriptor;
use super::errno::{failed, failed_at_name};
use super::kept::KeptFd;
use crate::error::{Code, Error, Result};

/// The type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages, and an end that is reported.
    Packets,
    /// Messages; the end of the other side is not reported.
    Datagrams,
    /// Bytes, and an end that is reported.
    Stream,
}

fn check(result: libc::c_int, about: &'static str) -> Result<libc::c_int> {
    Errno::result(result).map_err(|errno| failed(errno, about))
}

/// A descriptor of any kind that a peer has sent. It may be kept for long, so each use proves that
/// it is still the one that arrived. Closing it does not wait, even for a socket with SO_LINGER.
#[derive(Debug)]
pub(crate) struct Foreign(KeptFd);

impl Foreign {
    /// Identified by its inode alone: a lock through it would count as a lock of the sender.
    pub(crate) fn new(fd: OwnedFd) -> Result<Foreign> {
        KeptFd::new(fd, "that came over a channel").map(Foreign)
    }

    /// The descriptor, proved to be the one that arrived.
    pub(crate) fn proved(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.0.proved()?.as_fd())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let Ok(fd) = self.proved() else { return };
        let mut linger = libc::linger { l_onoff: 0, l_linger: 0 };
        let mut size = size_of::<libc::linger>() as libc::socklen_t;
        let raw = fd.as_raw_fd();
        // SAFETY: a live linger and its size. For a file that is not a socket it fails, and `off`
        // stays.
        let got = unsafe {
            let value = std::ptr::from_mut(&mut linger).cast();
            libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_LINGER, value, &mut size)
        };
        if got == 0 && linger.l_onoff != 0 {
            linger.l_onoff = 0;
            // SAFETY: as above. If it fails, the socket is unchanged.
            unsafe {
                let value = std::ptr::from_ref(&linger).cast();
                libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_LINGER, value, size)
            };
        }
    }
}

/// Two connected sockets.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    descriptor::socket_pair(libc::SOCK_SEQPACKET)
        .map_err(|errno| failed(errno, "making a pair of sockets"))
}

fn number_option(fd: BorrowedFd<'_>, option: libc::c_int) -> Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: a live int and its size.
    let got = unsafe {
        let target = std::ptr::from_mut(&mut value).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, target, &mut size)
    };
    check(got, "looking at the socket").map(|_| value)
}

/// The type of this unix socket.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<Kind> {
    let foreign =
        || Error::new(Code::Invalid).about("the descriptor is not a connected unix socket");
    if number_option(fd, libc::SO_DOMAIN).map_err(|_| foreign())? != libc::AF_UNIX
        || number_option(fd, libc::SO_ACCEPTCONN)? != 0
    {
        return Err(foreign());
    }
    match number_option(fd, libc::SO_TYPE)? {
        libc::SOCK_SEQPACKET => Ok(Kind::Packets),
        libc::SOCK_DGRAM => Ok(Kind::Datagrams),
        libc::SOCK_STREAM => Ok(Kind::Stream),
        _ => Err(foreign()),
    }
}

/// The user at the other end when the two were connected.
pub(crate) fn peer_uid(fd: BorrowedFd<'_>) -> Result<u32> {
    // SAFETY: all-zero is a valid ucred, a plain struct of integers.
    let mut peer: libc::ucred = unsafe { zeroed() };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: a live ucred and its size.
    let got = unsafe {
        let target = std::ptr::from_mut(&mut peer).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, target, &mut size)
    };
    check(got, "asking for the peer's user")?;
    Ok(peer.uid)
}

/// An address: a path, or after '@' an abstract name.
struct Address {
    address: libc::sockaddr_un,
    size: libc::socklen_t,
}

impl Address {
    fn new(name: &str) -> Result<Address> {
        let bad = || {
            let len = name.len();
            Error::new(Code::BadName)
                .about(format_args!("{name:?}, of {len} bytes, cannot name a channel"))
                .advice("use an absolute path, or '@' and more, of at most 107 bytes")
                .with_numbers([len as u64, 107, 0])
        };
        let bytes = name.as_bytes();
        // SAFETY: all-zero is a valid sockaddr_un, a plain struct of integers.
        let mut address: libc::sockaddr_un = unsafe { zeroed() };
        if !name.starts_with(['/', '@']) || name.len() < 2 || bytes.contains(&0) {
            return Err(bad());
        }
        let room = address.sun_path.len();
        // The kernel needs room for a NUL after a path.
        if bytes.len() >= room {
            return Err(bad());
        }
        for (target, byte) in address.sun_path.iter_mut().zip(bytes) {
            *target = *byte as libc::c_char;
        }
        if let (true, Some(first)) = (name.starts_with('@'), address.sun_path.first_mut()) {
            *first = 0;
        }
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let end = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len();
        let nul = usize::from(name.starts_with('/'));
        Ok(Address { address, size: (end + nul) as libc::socklen_t })
    }

    fn raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        (std::ptr::from_ref(&self.address).cast(), self.size)
    }
}

fn new_socket(flags: libc::c_int) -> Result<OwnedFd> {
    descriptor::socket(libc::SOCK_SEQPACKET | flags)
        .map_err(|errno| failed(errno, "making a socket"))
}

/// A listening socket with this name. If it has a file, the file has this mode from the first
/// moment. `Exists` if the name is taken.
pub(crate) fn listen(name: &str, mode: u32) -> Result<OwnedFd> {
    let address = Address::new(name)?;
    let socket = new_socket(libc::SOCK_NONBLOCK)?;
    // Linux gives the file the mode that the socket has.
    super::set_mode(&socket, mode)?;
    let (start, size) = address.raw();
    // SAFETY: an address and its size.
    match Errno::result(unsafe { libc::bind(socket.as_raw_fd(), start, size) }) {
        Ok(_) => {}
        Err(errno @ Errno::EADDRINUSE) => {
            return Err(Error::new(Code::Exists)
                .errno(errno as i32)
                .about(format_args!("a listener has the name {name:?}"))
                .advice("connect to it, or choose another name"));
        }
        Err(errno) => {
            return Err(failed_at_name(errno, format_args!("naming the channel {name:?}")));
        }
    }
    // SAFETY: takes and returns integers.
    check(unsafe { libc::listen(socket.as_raw_fd(), libc::SOMAXCONN) }, "listening")?;
    Ok(socket)
}

/// A connection that waits at a listening socket, if there is one.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match descriptor::accept(listener) {
        Ok(accepted) => Ok(Some(accepted)),
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
        Err(errno) => Err(failed(errno, "accepting a connection")),
    }
}

/// The result of an attempt to connect.
pub(crate) enum Connected {
    To(OwnedFd),
    /// The listener's backlog is full.
    Crowded,
    /// Nobody listens; the name may still exist.
    Nobody,
}

/// Connects to a listening socket; waits while its backlog is full.
pub(crate) fn connect(name: &str, deadline: Deadline) -> Result<Connected> {
    let address = Address::new(name)?;
    let socket = new_socket(0)?;
    loop {
        set_send_limit(&socket, deadline)?;
        let (start, size) = address.raw();
        // SAFETY: an address and its size.
        return match Errno::result(unsafe { libc::connect(socket.as_raw_fd(), start, size) }) {
            Ok(_) => Ok(Connected::To(socket)),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Ok(Connected::Crowded),
            Err(Errno::ECONNREFUSED | Errno::ENOENT | Errno::ENOTDIR) => Ok(Connected::Nobody),
            Err(errno) => Err(failed_at_name(errno, format_args!("connecting to {name:?}"))),
        };
    }
}

/// Whether a socket file was left by a process that is gone: nobody listens there any more.
pub(crate) fn is_abandoned(name: &str) -> bool {
    let Ok(address) = Address::new(name) else { return false };
    // Of another type, so that a living listener of ours does not see a connection appear and
    // disappear. A foreign listener may be of this type; the call does not wait for it.
    let Ok(socket) = descriptor::socket(libc::SOCK_STREAM | libc::SOCK_NONBLOCK) else {
        return false;
    };
    let (start, size) = address.raw();
    // SAFETY: an address and its size.
    let result = Errno::result(unsafe { libc::connect(socket.as_raw_fd(), start, size) });
    // A file that is not a socket refuses, too.
    result == Err(Errno::ECONNREFUSED) && file_of(name).is_some()
}

/// Device and inode of the socket file with this name, if there is one.
pub(crate) fn file_of(name: &str) -> Option<(u64, u64)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let facts = std::fs::symlink_metadata(name).ok()?;
    facts.file_type().is_socket().then(|| (facts.dev(), facts.ino()))
}

/// How long a connect may block. Nothing else here blocks.
fn set_send_limit(socket: &OwnedFd, deadline: Deadline) -> Result<()> {
    // Zero would mean no limit, so a deadline in the past becomes the shortest limit.
    let left = deadline.map(|deadline| deadline.saturating_sub(monotonic_ns()).max(1000));
    let limit = left.map(timespec);
    let limit = libc::timeval {
        tv_sec: limit.map_or(0, |limit| limit.tv_sec),
        tv_usec: limit.map_or(0, |limit| limit.tv_nsec / 1000) as _,
    };
    let size = size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: a live timeval and its size.
    let set = unsafe {
        let value = std::ptr::from_ref(&limit).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, value, size)
    };
    check(set, "connecting").map(drop)
}

/// Ends the connection for both sides; what was sent before can still be read.
pub(crate) fn shut_down(fd: BorrowedFd<'_>) {
    // SAFETY: takes and returns integers. It may fail for a socket that is not connected any more.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Room for ancillary data. The kernel makes as many of a message's descriptors as fit here, drops
/// the others, and reports it. One is expected.
#[repr(C, align(8))]
struct Ancillary([u8; 256]);

/// Sends bytes with one descriptor; returns how many bytes were sent.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    passed: BorrowedFd<'_>,
) -> std::result::Result<usize, Errno> {
    let mut ancillary = Ancillary([0; 256]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let size = size_of::<libc::c_int>() as libc::c_uint;
    // SAFETY: all-zero is a valid msghdr. Its parts live until the call is over. The first
    // ancillary header and one int after it lie inside the aligned buffer of 256 bytes, whose
    // length is given.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(passed.as_raw_fd());
        libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    Errno::result(sent).map(|sent| sent as usize)
}

/// The first message in a socket's queue.
pub(crate) struct Seen {
    /// Its length, which may exceed the buffer.
    pub(crate) len: usize,
    /// Duplicates of its descriptors; an error if one of them cannot be inspected, and then there
    /// are none.
    pub(crate) fds: Result<Vec<Foreign>>,
    /// The kernel made fewer descriptors than were sent: there were too many, or this process is at
    /// its limit.
    pub(crate) cut: bool,
}

/// Reads the first message and leaves it in the queue, so a caller without room for its descriptor
/// can try again.
pub(crate) fn peek(
    fd: BorrowedFd<'_>,
    kind: Kind,
    buffer: &mut [u8],
) -> std::result::Result<Seen, Errno> {
    let mut ancillary = Ancillary([0; 256]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let whole_length = if kind == Kind::Stream { 0 } else { libc::MSG_TRUNC };
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | whole_length;
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    // SAFETY: the parts of the message live until the call is over, and are writable for their
    // lengths.
    let got = unsafe { descriptor::receive(fd, &mut message, flags) }?;
    let cut = got.cut || got.fds.is_err();
    // All of them are owned before the first error is examined, so the others are closed as foreign
    // ones, too.
    let fds: Vec<_> = got.fds.unwrap_or_default().into_iter().map(Foreign::new).collect();
    Ok(Seen { len: got.len, fds: fds.into_iter().collect(), cut })
}

/// Removes the first message from the queue, or so many bytes of a stream. Its descriptors are
/// closed, except for duplicates from a `peek`. Returns whether it carried any: on a stream, a peek
/// whose window ends at the end of one part also shows the descriptors of the next part.
pub(crate) fn take(fd: BorrowedFd<'_>, len: usize) -> std::result::Result<bool, Errno> {
    let mut ancillary = Ancillary([0; 256]);
    let mut bytes = [0u8; 64];
    let mut part =
        libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len.min(bytes.len()) };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    // SAFETY: the parts of the message live until the call is over, and are writable for their
    // lengths.
    let got = unsafe { descriptor::receive(fd, &mut message, libc::MSG_DONTWAIT) }?;
    Ok(got.cut || got.fds.map_or(true, |fds| !fds.is_empty()))
}

/// Removes and closes everything in the queue of a socket that was shut down. What is still in the
/// queue when the socket is closed, the kernel closes, including lingering sockets.
pub(crate) fn empty(fd: BorrowedFd<'_>, kind: Kind) {
    /// The largest ancillary data of one message, by the kernel's limit, in bytes.
    const MOST: usize = 253 * size_of::<libc::c_int>() + 256;
    /// More than a queue can have, so that the loop ends.
    const MESSAGES: u32 = 1 << 16;
    #[repr(C, align(8))]
    struct Everything([u8; MOST]);

    let mut ancillary = Everything([0; MOST]);
    let mut bytes = [0u8; 256];
    // From now on each message names its sender, which tells an empty message from the end. A
    // stream has no empty messages, but it names the sender at its end, too.
    let on: libc::c_int = 1;
    // SAFETY: a live int and its size. If it fails, an empty message counts as the end.
    unsafe {
        let value = std::ptr::from_ref(&on).cast();
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, value, size)
    };
    for _ in 0..MESSAGES {
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.0.as_mut_ptr().cast();
        message.msg_controllen = ancillary.0.len() as _;
        // SAFETY: the parts of the message live until the call is over, and are writable for their
        // lengths.
        match unsafe { descriptor::receive(fd, &mut message, libc::MSG_DONTWAIT) } {
            Ok(got) if got.len == 0 && (kind == Kind::Stream || message.msg_controllen == 0) => {
                return;
            }
            Ok(got) => got.fds.into_iter().flatten().for_each(|fd| drop(Foreign::new(fd))),
            Err(Errno::ECONNRESET) => {}
            Err(_) => return,
        }
    }
}

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    ToRead,
    ToWrite,
}

/// Sleeps until one of the descriptors is ready, or in a state that never changes; false if the
/// deadline came first.
pub(crate) fn wait(fds: &[(BorrowedFd<'_>, Ready)], deadline: Deadline) -> Result<bool> {
    let events = |ready| if ready == Ready::ToRead { libc::POLLIN } else { libc::POLLOUT };
    let mut set: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, ready)| libc::pollfd { fd: fd.as_raw_fd(), events: events(*ready), revents: 0 })
        .collect();
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_sub(monotonic_ns())));
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the length of the set is given; `left` is null or outlives the call; the signal
        // mask stays as it is.
        let count = unsafe {
            libc::ppoll(set.as_mut_ptr(), set.len() as libc::nfds_t, left, std::ptr::null())
        };
        match Errno::result(count) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno, "waiting on a channel")),
        }
    }
}

/// Whether the other side of a connection is gone.
pub(crate) fn has_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut end = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one live pollfd; does not wait.
    unsafe {
        libc::poll(&mut end, 1, 0) == 1 && end.revents & (libc::POLLHUP | libc::POLLRDHUP) != 0
    }
}

/// Readable from a `ring` to the next `silence`. It is a pipe, because a pipe has an inode of its
/// own, so it can be told from a file that the program puts in its place; the kernel's event
/// counters share one inode.
#[derive(Debug)]
pub(crate) struct Bell {
    read: KeptFd,
    write: KeptFd,
}

impl Bell {
    pub(crate) fn new() -> Result<Bell> {
        let (read, write) = descriptor::pipe().map_err(|errno| failed(errno, "making a pipe"))?;
        let about = "descriptor # of a bell";
        Ok(Bell { read: KeptFd::new(read, about)?, write: KeptFd::new(write, about)? })
    }

    /// The descriptor to wait for.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.read.proved()?.as_fd())
    }

    /// Makes it readable, unless the program took the descriptor away.
    pub(crate) fn ring(&self) {
        let Ok(write) = self.write.proved() else { return };
        // SAFETY: one readable byte. It fails only if the pipe is already readable.
        unsafe { libc::write(write.as_raw_fd(), c"!".as_ptr().cast(), 1) };
    }

    /// Makes it not readable.
    pub(crate) fn silence(&self) {
        let Ok(read) = self.read.proved() else { return };
        let mut rings = [0u8; 256];
        loop {
            // SAFETY: as many writable bytes. It fails only if the pipe is not readable.
            let got =
                unsafe { libc::read(read.as_raw_fd(), rings.as_mut_ptr().cast(), rings.len()) };
            if got < rings.len() as libc::ssize_t {
                return;
            }
        }
    }
}
