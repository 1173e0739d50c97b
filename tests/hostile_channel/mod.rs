//! A peer of a channel that sends anything, for the fuzz target and the test.
//!
//! The input is a script: the kind of socket, then messages, each with its bytes and its
//! descriptors.
#![allow(unsafe_code, reason = "sockets and files as an enemy makes them")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use shmslot::{AttachOptions, Attachments, Channel, ChannelOptions, Code};

/// Takes numbers from the front of a script.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (these, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        these
    }
}

fn own(raw: libc::c_int) -> OwnedFd {
    assert!(raw >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just made by the kernel, and not owned by anything else.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// The descriptors that a script may send.
struct Things(Vec<OwnedFd>);

impl Things {
    fn new() -> Things {
        let file = |pages: i64, seals: libc::c_int| {
            let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
            // SAFETY: a name that ends in a NUL; then calls on our own descriptor.
            unsafe {
                let file = own(libc::memfd_create(c"hostile".as_ptr(), flags));
                assert_eq!(libc::ftruncate(file.as_raw_fd(), pages * 4096), 0);
                assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals), 0);
                file
            }
        };
        let sealed = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        let mut ends = [-1; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        let [pipe, _other] = ends.map(own);
        let folder = std::fs::File::open("/").expect("a folder");
        // A page after the first one with a generation, as honest senders have it.
        let paged = file(2, sealed);
        let page = [*b"SHMSLOTG", [3, 0, 0, 0, 0, 0, 0, 0]].concat();
        // SAFETY: readable bytes and their number.
        let written =
            unsafe { libc::pwrite(paged.as_raw_fd(), page.as_ptr().cast(), page.len(), 4096) };
        assert_eq!(written, page.len() as isize);
        Things(vec![
            file(1, sealed),
            file(3, sealed),
            file(0, sealed),
            file(1, 0),
            pipe,
            folder.into(),
            paged,
        ])
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[libc::c_int]) {
    let mut control = [0u64; 40];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let size = std::mem::size_of_val(fds) as u32;
    // SAFETY: all parts of the message live until the call is over, and the buffer has room for 64
    // descriptors.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(header)
                .cast::<libc::c_int>()
                .copy_from_nonoverlapping(fds.as_ptr(), fds.len());
        }
        libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
}

/// Plays a script to a channel, which is drained and asked for references and segments meanwhile;
/// returns how many references were resolved.
pub(crate) fn play(script: &[u8]) -> usize {
    let mut script = Script(script);
    let shape = script.byte().unwrap_or(0);
    let kind = [libc::SOCK_SEQPACKET, libc::SOCK_DGRAM, libc::SOCK_STREAM][usize::from(shape % 3)];
    let options = ChannelOptions { unsealed: shape & 0x80 != 0, ..ChannelOptions::default() };
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    let made =
        unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    let hostile = own(ends[0]);
    let channel = Channel::from_fd(own(ends[1]), &options).expect("a unix socket of this user");
    let attachments = Attachments::new(Some(&channel), &options).expect("attachments");
    let things = Things::new();
    let mut broken = None;
    let mut resolved = 0;
    while let Some(action) = script.byte() {
        let count = match action % 4 {
            0..3 => 1,
            _ => usize::from(script.byte().unwrap_or(0) % 64),
        };
        let fds: Vec<libc::c_int> = (0..count)
            .map(|at| things.0[(usize::from(action >> 4) + at) % things.0.len()].as_raw_fd())
            .collect();
        let mut bytes = script.bytes(16).to_vec();
        if action & 4 != 0 {
            // A nearly valid message goes further than a completely wrong one.
            bytes.resize(16, 0);
            bytes[1..4].fill(0);
            bytes[5..8].fill(0);
            bytes[9] &= 0x1F;
            bytes[10..16].fill(0);
        }
        send(&hostile, &bytes, &fds);
        let number = |at: usize| u32::from(bytes.get(at).copied().unwrap_or(0));
        let outcome =
            attachments.resolve(number(0), number(4), u64::from(number(1)), u64::from(number(8)));
        if let Ok(place) = &outcome {
            assert_eq!(place.to_vec().len(), place.len());
            resolved += 1;
        }
        let now = Some(std::time::Duration::ZERO);
        let drained = attachments
            .drain()
            .and_then(|_| channel.recv_segment(&AttachOptions::default(), now).map(drop));
        match &drained {
            // The reason stays.
            Err(error) if error.code() == Code::ChannelBroken => {
                assert_eq!(*broken.get_or_insert(error.clone()), *error);
            }
            _ => {}
        }
        assert!(broken.is_none() || drained.is_err(), "it works again");
    }
    resolved
}
