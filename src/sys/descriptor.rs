//! Every descriptor that this library makes or receives comes from this file.
//!
//! The numbers 0, 1 and 2 belong to the standard streams, even while those are closed: a `printf`
//! writes to the file that has the number, and a daemon puts `/dev/null` over it. The kernel gives
//! out the lowest free number, so a descriptor that gets one of these is moved at once.
#![allow(unsafe_code)] // Ownership of what the kernel has just made.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg, OFlag};
use nix::sys::memfd::{self, MFdFlags};
use nix::sys::stat::Mode;

type Result<T> = std::result::Result<T, Errno>;

/// The lowest number that is not reserved by convention.
const FIRST: libc::c_int = libc::STDERR_FILENO + 1;

/// Owns the descriptor that a system call has returned, if the call succeeded.
///
/// # Safety
/// `made` is -1, or a descriptor that the kernel has just made and that nothing else owns.
unsafe fn own(made: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: guaranteed by the caller.
    keep(unsafe { OwnedFd::from_raw_fd(Errno::result(made)?) })
}

/// Takes ownership of a descriptor, and moves it if a standard stream has its number.
pub(super) fn keep(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST { Ok(fd) } else { duplicate(fd.as_fd()) }
}

/// Another descriptor of this open file.
pub(super) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let made = fcntl::fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST)).map_err(|errno| match errno {
        // The process's limit does not allow such a number.
        Errno::EINVAL => Errno::EMFILE,
        errno => errno,
    })?;
    // SAFETY: just made, and not below FIRST.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

pub(super) fn open<P: nix::NixPath + ?Sized>(
    path: &P,
    flags: OFlag,
    mode: Mode,
) -> Result<OwnedFd> {
    keep(fcntl::open(path, flags | OFlag::O_CLOEXEC, mode)?)
}

pub(super) fn memory_file(name: &CStr, flags: MFdFlags) -> Result<OwnedFd> {
    keep(memfd::memfd_create(name, flags | MFdFlags::MFD_CLOEXEC)?)
}

/// Close-on-exec by default.
pub(super) fn process(pid: libc::pid_t) -> Result<OwnedFd> {
    // SAFETY: takes and returns integers; the result fits an int, as every descriptor does.
    unsafe { own(libc::syscall(libc::SYS_pidfd_open, pid, 0) as libc::c_int) }
}

/// Reports changes in directories; reads never wait.
pub(super) fn inotify() -> Result<OwnedFd> {
    // SAFETY: takes and returns integers.
    unsafe { own(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK)) }
}

/// The read end and the write end; neither ever waits.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
    Errno::result(made)?;
    // SAFETY: both were just made.
    let (read, write) = unsafe { (own(ends[0]), own(ends[1])) };
    Ok((read?, write?))
}

pub(super) fn socket(kind: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: takes and returns integers.
    unsafe { own(libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0)) }
}

pub(super) fn socket_pair(kind: libc::c_int) -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    let made =
        unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
    Errno::result(made)?;
    // SAFETY: both were just made.
    let (one, other) = unsafe { (own(ends[0]), own(ends[1])) };
    Ok((one?, other?))
}

pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let nobody = std::ptr::null_mut();
    // Makes sure that it can be moved: a connection that was accepted and cannot be kept is lost.
    let room = duplicate(listener)?;
    // SAFETY: the address of the other side is not requested.
    let made = unsafe {
        libc::accept4(listener.as_raw_fd(), nobody, std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    };
    let made = Errno::result(made);
    drop(room);
    // SAFETY: just made.
    unsafe { own(made?) }
}

/// What arrived on a socket.
pub(super) struct Received {
    /// Bytes, or the length of the whole message if that was requested.
    pub(super) len: usize,
    /// Its descriptors; an error if they cannot all be kept, and then none is.
    pub(super) fds: Result<Vec<OwnedFd>>,
    /// The kernel made fewer descriptors than were sent.
    pub(super) cut: bool,
}

/// Receives into the buffers that the message names.
///
/// # Safety
/// The buffers of `message` are writable for their lengths.
pub(super) unsafe fn receive(
    socket: BorrowedFd<'_>,
    message: &mut libc::msghdr,
    flags: libc::c_int,
) -> Result<Received> {
    // SAFETY: the caller guarantees the buffers.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), message, flags | libc::MSG_CMSG_CLOEXEC) };
    // On failure there is no ancillary data.
    let len = Errno::result(got)? as usize;
    Ok(Received { len, fds: descriptors(message), cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Takes ownership of every descriptor that arrived with a message.
fn descriptors(message: &libc::msghdr) -> Result<Vec<OwnedFd>> {
    /// Since Linux 6.5; arrives only on sockets where the program asked for it.
    const SCM_PIDFD: libc::c_int = 4;
    let mut found = Vec::new();
    // SAFETY: the kernel has filled the ancillary buffer, which still lives, and stored its length;
    // the macros stay inside. Each descriptor in it was just made for this process, and is owned
    // once.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(this) = header.as_ref() {
            // The length has 32 bits in musl, and 64 in glibc.
            let bytes = (this.cmsg_len as u64).saturating_sub(u64::from(libc::CMSG_LEN(0)));
            let first = libc::CMSG_DATA(header).cast::<libc::c_int>();
            let count = bytes as usize / size_of::<libc::c_int>();
            match (this.cmsg_level, this.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    found.extend((0..count).map(|at| own(first.wrapping_add(at).read_unaligned())));
                }
                (libc::SOL_SOCKET, SCM_PIDFD) if count == 1 && first.read_unaligned() >= 0 => {
                    drop(own(first.read_unaligned()));
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    // Collected first, so that each is owned and closed even if another one failed.
    found.into_iter().collect()
}
