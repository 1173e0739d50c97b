//! Unix sockets that carry descriptors, and waiting on descriptors.
//!
//! No call here blocks but `wait` and `connect`, and none raises SIGPIPE. Every descriptor that comes in is
//! close-on-exec and owned from the first moment.
#![allow(unsafe_code)] // Ancillary data, which std does not wrap and nix loses when it is cut.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::clock::{Deadline, monotonic_ns, timespec};
use super::descriptor;
use super::errno::{failed, failed_at_name};
use super::kept::KeptFd;
use crate::error::{Code, Error, Result};

/// What the kernel makes of the bytes of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages, with an end.
    Packets,
    /// Messages; nobody tells that the other side is gone.
    Datagrams,
    /// Bytes, with an end.
    Stream,
}

fn check(result: libc::c_int, about: &'static str) -> Result<libc::c_int> {
    Errno::result(result).map_err(|errno| failed(errno, about))
}

/// A descriptor that somebody has sent, of whatever. It may wait here for long, so it is proved to
/// be the one that came. To close it does not wait for what a socket was told to linger for.
#[derive(Debug)]
pub(crate) struct Foreign(KeptFd);

impl Foreign {
    /// Known by its inode alone: what is locked through it counts as locked by whoever has sent it.
    pub(crate) fn new(fd: OwnedFd) -> Result<Foreign> {
        KeptFd::new(fd, "that came over a channel").map(Foreign)
    }

    /// The descriptor, proved to be the one that came.
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
        // SAFETY: a live linger and its size. It fails for what is no socket, which stays "off".
        let got = unsafe {
            let value = std::ptr::from_mut(&mut linger).cast();
            libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_LINGER, value, &mut size)
        };
        if got == 0 && linger.l_onoff != 0 {
            linger.l_onoff = 0;
            // SAFETY: as above. What fails leaves the socket as it was.
            unsafe {
                let value = std::ptr::from_ref(&linger).cast();
                libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_LINGER, value, size)
            };
        }
    }
}

/// Two connected sockets.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    descriptor::socket_pair(libc::SOCK_SEQPACKET).map_err(|errno| failed(errno, "making a pair of sockets"))
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

/// What kind of unix socket this is.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<Kind> {
    let foreign = || Error::new(Code::Invalid).about("the descriptor is not a connected unix socket");
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

/// Who was at the other end when the two were connected.
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
        // The kernel wants room for a NUL behind a path.
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
    descriptor::socket(libc::SOCK_SEQPACKET | flags).map_err(|errno| failed(errno, "making a socket"))
}

/// A listening socket of this name, whose file, if it has one, has this mode from the first moment. `Exists` if the
/// name is taken.
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
        Err(errno) => return Err(failed_at_name(errno, format_args!("naming the channel {name:?}"))),
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

/// What came of an attempt to connect.
pub(crate) enum Connected {
    To(OwnedFd),
    /// As many wait at the listener as it lets.
    Crowded,
    /// Nobody listens; the name may be there still.
    Nobody,
}

/// Connects to a listening socket; waits until its queue has room.
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
            Err(Errno::ECONNREFUSED) => Ok(Connected::Nobody),
            Err(errno) => Err(failed_at_name(errno, format_args!("connecting to {name:?}"))),
        };
    }
}

/// Whether a socket file is left from a process that is gone: nobody listens there any more.
pub(crate) fn is_abandoned(name: &str) -> bool {
    let Ok(address) = Address::new(name) else { return false };
    // Of another type, so that a listener which lives sees no connection come and go. What listens there may be of this
    // type and not ours: that is not waited for.
    let Ok(socket) = descriptor::socket(libc::SOCK_STREAM | libc::SOCK_NONBLOCK) else { return false };
    let (start, size) = address.raw();
    // SAFETY: an address and its size.
    let result = Errno::result(unsafe { libc::connect(socket.as_raw_fd(), start, size) });
    // A file that is no socket refuses, too.
    result == Err(Errno::ECONNREFUSED) && file_of(name).is_some()
}

/// Device and inode of the socket file of this name, if there is one.
pub(crate) fn file_of(name: &str) -> Option<(u64, u64)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let facts = std::fs::symlink_metadata(name).ok()?;
    facts.file_type().is_socket().then(|| (facts.dev(), facts.ino()))
}

/// How long a connect may block. Nothing else here does.
fn set_send_limit(socket: &OwnedFd, deadline: Deadline) -> Result<()> {
    // Zero would mean without limit, so what is over becomes the shortest that there is.
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
    // SAFETY: takes and returns integers. A socket that is not connected any more needs no end.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Room for ancillary data: of the descriptors of a message the kernel makes as many as fit here, drops the rest and says
/// so. One is wanted.
#[repr(C, align(8))]
struct Ancillary([u8; 256]);

/// Sends bytes with one descriptor; how many bytes went.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    passed: BorrowedFd<'_>,
) -> std::result::Result<usize, Errno> {
    let mut ancillary = Ancillary([0; 256]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let size = size_of::<libc::c_int>() as libc::c_uint;
    // SAFETY: all-zero is a valid msghdr. Its parts live until the call is over; the first ancillary header and one int
    // behind it lie inside the aligned buffer of 256 bytes, of which the length is told.
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

/// What stands first in the queue of a socket.
pub(crate) struct Seen {
    /// Its length, which may be more than the buffer has.
    pub(crate) len: usize,
    /// Duplicates of the descriptors that came with it; or why one of them cannot be looked at, and
    /// then there is none.
    pub(crate) fds: Result<Vec<Foreign>>,
    /// The kernel made fewer descriptors than were sent: too many, or this process has as many as it may.
    pub(crate) cut: bool,
}

/// Looks at what stands first in the queue and leaves it there: whoever has no room for its descriptor can come again.
pub(crate) fn peek(fd: BorrowedFd<'_>, kind: Kind, buffer: &mut [u8]) -> std::result::Result<Seen, Errno> {
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
    // SAFETY: the parts of the message live until the call is over, and are writable for their lengths.
    let got = unsafe { descriptor::receive(fd, &mut message, flags) }?;
    let cut = got.cut || got.fds.is_err();
    // All of them before the first error is looked at: those behind it are closed as foreign ones, too.
    let fds: Vec<_> = got.fds.unwrap_or_default().into_iter().map(Foreign::new).collect();
    Ok(Seen { len: got.len, fds: fds.into_iter().collect(), cut })
}

/// Takes what stands first out of the queue: of a stream so many bytes, else the whole message. The descriptors that it
/// carries are closed, unless there are duplicates from a `peek`. Whether it carried any: on a stream a peek whose window
/// ends where one part ends brings those of the part behind it, too.
pub(crate) fn take(fd: BorrowedFd<'_>, len: usize) -> std::result::Result<bool, Errno> {
    let mut ancillary = Ancillary([0; 256]);
    let mut bytes = [0u8; 64];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len.min(bytes.len()) };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    // SAFETY: the parts of the message live until the call is over, and are writable for their lengths.
    let got = unsafe { descriptor::receive(fd, &mut message, libc::MSG_DONTWAIT) }?;
    Ok(got.cut || got.fds.map_or(true, |fds| !fds.is_empty()))
}

/// Takes and closes everything that stands in the queue of a socket that was shut down, so that nothing comes after it.
/// What a queue still has when its socket is closed, the kernel closes, lingering sockets too.
pub(crate) fn empty(fd: BorrowedFd<'_>, kind: Kind) {
    /// The kernel's limit of what one message carries, in bytes of ancillary data.
    const MOST: usize = 253 * size_of::<libc::c_int>() + 256;
    /// More than there can be; so that it ends.
    const MESSAGES: u32 = 1 << 16;
    #[repr(C, align(8))]
    struct Everything([u8; MOST]);

    let mut ancillary = Everything([0; MOST]);
    let mut bytes = [0u8; 256];
    // From here on every message says who sent it, so that one of nothing is told from the end. In a stream there are none,
    // and its end says so, too.
    let on: libc::c_int = 1;
    // SAFETY: a live int and its size. Without it the end comes at the first message of nothing.
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
        // SAFETY: the parts of the message live until the call is over, and are writable for their lengths.
        match unsafe { descriptor::receive(fd, &mut message, libc::MSG_DONTWAIT) } {
            Ok(got) if got.len == 0 && (kind == Kind::Stream || message.msg_controllen == 0) => return,
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

/// Sleeps until one of the descriptors is ready, or in a state that never changes; false if the deadline came first.
pub(crate) fn wait(fds: &[(BorrowedFd<'_>, Ready)], deadline: Deadline) -> Result<bool> {
    let events = |ready| if ready == Ready::ToRead { libc::POLLIN } else { libc::POLLOUT };
    let mut set: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, ready)| libc::pollfd { fd: fd.as_raw_fd(), events: events(*ready), revents: 0 })
        .collect();
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_sub(monotonic_ns())));
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set is as long as told; `left` is null or outlives the call; the signal mask stays as it is.
        let count =
            unsafe { libc::ppoll(set.as_mut_ptr(), set.len() as libc::nfds_t, left, std::ptr::null()) };
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
    unsafe { libc::poll(&mut end, 1, 0) == 1 && end.revents & (libc::POLLHUP | libc::POLLRDHUP) != 0 }
}

/// Ready to be read from a `ring` to the next `silence`: a pipe, because that has an inode of its own and can be told from
/// what the program puts in its place, as no two of the kernel's event counters can.
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

    /// To be waited for.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.read.proved()?.as_fd())
    }

    /// Makes it ready, unless the program took it away.
    pub(crate) fn ring(&self) {
        let Ok(write) = self.write.proved() else { return };
        // SAFETY: one readable byte. It can only fail because it rings already.
        unsafe { libc::write(write.as_raw_fd(), c"!".as_ptr().cast(), 1) };
    }

    /// Makes it not ready.
    pub(crate) fn silence(&self) {
        let Ok(read) = self.read.proved() else { return };
        let mut rings = [0u8; 256];
        loop {
            // SAFETY: as many writable bytes. It can only fail because it does not ring.
            let got = unsafe { libc::read(read.as_raw_fd(), rings.as_mut_ptr().cast(), rings.len()) };
            if got < rings.len() as libc::ssize_t {
                return;
            }
        }
    }
}
