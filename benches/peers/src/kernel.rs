//! The kernel's means: a pipe, and unix sockets. Payloads are copied in and out.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::harness::transport::{Receiver, Sender, Touch, Transport, check, fill};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pipe,
    Stream,
    SeqPacket,
}

/// Both ends, which both processes inherit.
pub(crate) struct Lane {
    from: OwnedFd,
    to: OwnedFd,
}

/// Room for a payload of 1 MiB and more, so that it goes at once where that is possible.
const ROOM: i32 = 4 << 20;

impl Lane {
    pub(crate) fn new(kind: Kind) -> Lane {
        let mut ends = [-1; 2];
        // SAFETY: room for two descriptors, which are owned from then on; a local is read.
        unsafe {
            let made = match kind {
                Kind::Pipe => libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC),
                Kind::Stream => {
                    libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr())
                }
                Kind::SeqPacket => {
                    libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr())
                }
            };
            assert_eq!(made, 0, "{}", io::Error::last_os_error());
            let [from, to] = ends;
            if kind == Kind::Pipe {
                libc::fcntl(to, libc::F_SETPIPE_SZ, 1 << 20);
            } else {
                let room = ROOM;
                let (room, size) = ((&raw const room).cast(), size_of::<i32>() as u32);
                // Only root gets so much; others get what the system allows.
                if libc::setsockopt(to, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, room, size) != 0 {
                    libc::setsockopt(to, libc::SOL_SOCKET, libc::SO_SNDBUF, room, size);
                }
            }
            Lane { from: OwnedFd::from_raw_fd(from), to: OwnedFd::from_raw_fd(to) }
        }
    }
}

/// An end and a private payload.
pub(crate) struct End<const W: usize> {
    fd: OwnedFd,
    blocks: bool,
    payload: Box<[u64]>,
    /// Bytes of the payload that have come already.
    done: usize,
}

impl<const W: usize> End<W> {
    fn new(fd: &OwnedFd) -> End<W> {
        let mut end = End {
            fd: fd.try_clone().expect("a descriptor"),
            blocks: true,
            payload: vec![0; W].into(),
            done: 0,
        };
        end.block(false);
        end
    }

    fn block(&mut self, blocks: bool) {
        if self.blocks != blocks {
            self.blocks = blocks;
            let flags = if blocks { 0 } else { libc::O_NONBLOCK };
            // SAFETY: takes numbers only.
            assert_eq!(unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_SETFL, flags) }, 0);
        }
    }
}

/// Bytes that went, or None if none could go now.
fn progress(result: isize) -> Option<usize> {
    if result >= 0 {
        assert_ne!(result, 0, "the other side is gone");
        return Some(result as usize);
    }
    let error = io::Error::last_os_error();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    None
}

impl<const W: usize> Transport<W> for Lane {
    type Sender = End<W>;
    type Receiver = End<W>;

    fn sender(&self) -> End<W> {
        End::new(&self.to)
    }

    fn receiver(&self) -> End<W> {
        End::new(&self.from)
    }
}

impl<const W: usize> Sender<W> for End<W> {
    fn send(&mut self, value: u64, touch: Touch) {
        let payload = self.payload.as_mut_ptr();
        // SAFETY: W words of its own.
        unsafe { fill::<W>(payload, value, touch) };
        let mut done = 0;
        while done < 8 * W {
            // SAFETY: the rest of the payload.
            let went = unsafe {
                libc::write(self.fd.as_raw_fd(), payload.byte_add(done).cast(), 8 * W - done)
            };
            done += progress(went).unwrap_or(0);
        }
    }
}

impl<const W: usize> Receiver<W> for End<W> {
    fn receive(&mut self, touch: Touch) -> Option<u64> {
        let payload = self.payload.as_mut_ptr();
        while self.done < 8 * W {
            // SAFETY: the rest of the payload.
            let came = unsafe {
                libc::read(
                    self.fd.as_raw_fd(),
                    payload.byte_add(self.done).cast(),
                    8 * W - self.done,
                )
            };
            self.done += progress(came)?;
        }
        self.done = 0;
        // SAFETY: W words of its own.
        Some(unsafe { check::<W>(payload, touch) })
    }

    fn sleep(&mut self) {
        unreachable!("a blocking read sleeps");
    }

    fn receive_asleep(&mut self, touch: Touch) -> u64 {
        self.block(true);
        self.receive(touch).expect("it blocks")
    }
}
