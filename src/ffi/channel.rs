//! Channels: unix sockets that carry the descriptors of regions and segments.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;

use crate::channel::{Channel, ChannelOptions, Listener};
use crate::error::{Code, Error, HotResult, Result};
use crate::ffi::arguments::{Out, from_c};
use crate::ffi::boundary;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::options::{
    SHMSLOT_FLAG_ANY_OWNER, attach_options, shmslot_attach_options, unknown_flags,
};
use crate::ffi::segment::{self, shmslot_segment};
use crate::sys;

/// Channel and attachments flag: also map regions whose files are not sealed. If the sender cuts
/// such a file, touching it raises SIGBUS.
pub const SHMSLOT_FLAG_UNSEALED: u32 = 64;

/// A connection that carries descriptors of regions and segments, or waits for connections; a call
/// that is for the other of the two says INVALID. Threads: any.
pub struct shmslot_channel {
    end: End,
    health: Health,
}

enum End {
    Connected(Channel),
    Listening(Listener),
}

impl Handle for shmslot_channel {
    fn health(&self) -> &Health {
        &self.health
    }
}

impl shmslot_channel {
    pub(crate) fn connected(&self) -> Result<&Channel> {
        match &self.end {
            End::Connected(channel) => Ok(channel),
            End::Listening(_) => {
                Err(Error::new(Code::Invalid).about("this is a listener, not a connected channel"))
            }
        }
    }

    fn listening(&self) -> Result<&Listener> {
        match &self.end {
            End::Listening(listener) => Ok(listener),
            End::Connected(_) => {
                Err(Error::new(Code::Invalid).about("this is a connected channel, not a listener"))
            }
        }
    }
}

/// Makes a handle and gives it to the caller.
fn hand_out(ret_channel: &Out<'_, *mut shmslot_channel>, end: End) -> HotResult<()> {
    boundary::hand_out(ret_channel, shmslot_channel { end, health: Health::default() })
}

/// What flags of a channel, or of attachments, mean.
pub(crate) fn channel_options(flags: u32) -> Result<ChannelOptions> {
    let unknown = flags & !(SHMSLOT_FLAG_ANY_OWNER | SHMSLOT_FLAG_UNSEALED);
    if unknown != 0 {
        return Err(unknown_flags(unknown.into()));
    }
    Ok(ChannelOptions {
        any_owner: flags & SHMSLOT_FLAG_ANY_OWNER != 0,
        unsealed: flags & SHMSLOT_FLAG_UNSEALED != 0,
    })
}

/// Makes two ends of a connection: pass shmslot_channel_fd of one to a child, which makes a channel
/// of it with shmslot_channel_from_fd, and close it here.
/// flags: 0, or SHMSLOT_FLAG_ANY_OWNER (also with another user's process), SHMSLOT_FLAG_UNSEALED.
/// ret_...: close both. reterr: NULL or filled on failure. Threads: any. Errors: INVALID,
/// BAD_OPTIONS, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_pair(
    flags: u32,
    ret_one: *mut *mut shmslot_channel,
    ret_other: *mut *mut shmslot_channel,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(ret_one: Out, ret_other: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_one.present()?;
        ret_other.present()?;
        let (one, other) = Channel::pair(&channel_options(flags)?)?;
        hand_out(&ret_one, End::Connected(one))?;
        hand_out(&ret_other, End::Connected(other))?;
        Ok(SHMSLOT_OK)
    })
}

/// Waits for connections at a name: an absolute path of at most 107 bytes, or '@' and an abstract
/// name. A socket file that a dead process has left there is replaced; closing the channel removes
/// it.
/// Flags as in shmslot_channel_pair; they hold for the connections. ret_listener: close it with
/// shmslot_channel_close.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, BAD_OPTIONS, BAD_NAME, EXISTS,
/// NOT_FOUND (no such directory), PERMISSION, NAME_BUSY, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_listen(
    name: *const c_char,
    flags: u32,
    ret_listener: *mut *mut shmslot_channel,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, ret_listener: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_listener.present()?;
        let listener = Listener::bind(name.name()?, &channel_options(flags)?)?;
        hand_out(&ret_listener, End::Listening(listener))?;
        Ok(SHMSLOT_OK)
    })
}

/// The next connection. One of another user is silently closed, unless the listener has
/// SHMSLOT_FLAG_ANY_OWNER. Signals do not end the wait.
/// timeout_ns: nanoseconds, 0 not to wait, -1 for no limit. reterr: NULL or filled on failure.
/// Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, NO_MEMORY, SYS. Since
/// 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_accept(
    listener: *mut shmslot_channel,
    timeout_ns: i64,
    ret_channel: *mut *mut shmslot_channel,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(listener: HandleRef, ret_channel: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_channel.present()?;
        let timeout = boundary::timeout(timeout_ns)?;
        let channel = listener.open()?.listening()?.accept(timeout)?;
        hand_out(&ret_channel, End::Connected(channel))?;
        Ok(SHMSLOT_OK)
    })
}

/// Connects to a listener. timeout_ns: how long to wait while its backlog is full; signals do not
/// end that.
/// Otherwise as shmslot_channel_listen and shmslot_channel_accept; also NOT_FOUND (nobody listens),
/// PERMISSION (another user does). Threads: any. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_connect(
    name: *const c_char,
    flags: u32,
    timeout_ns: i64,
    ret_channel: *mut *mut shmslot_channel,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(name: Text, ret_channel: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_channel.present()?;
        let timeout = boundary::timeout(timeout_ns)?;
        let channel = Channel::connect(name.name()?, &channel_options(flags)?, timeout)?;
        hand_out(&ret_channel, End::Connected(channel))?;
        Ok(SHMSLOT_OK)
    })
}

/// Makes a channel of a connected unix socket, inherited or received: seqpacket, stream, or
/// datagram, which never tells that the other end is gone. The descriptor stays the caller's, who
/// closes it after the call.
/// Flags and ret_channel as in shmslot_channel_pair. reterr: NULL or filled on failure. Threads:
/// any. Errors: INVALID (no such socket), BAD_OPTIONS, PERMISSION (another user at the other end),
/// NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_from_fd(
    fd: c_int,
    flags: u32,
    ret_channel: *mut *mut shmslot_channel,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(fd: Fd, ret_channel: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_channel.present()?;
        let options = channel_options(flags)?;
        let channel = Channel::from_fd(sys::duplicate(fd.get()?)?, &options)?;
        hand_out(&ret_channel, End::Connected(channel))?;
        Ok(SHMSLOT_OK)
    })
}

/// The channel's descriptor, to be polled for input and not to be read: a message or a connection
/// is there, or the end. It stays the channel's. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_fd(channel: *const shmslot_channel) -> c_int {
    from_c!(channel: HandleRef);
    boundary::with(&channel, |channel| {
        Ok(match &channel.end {
            End::Connected(channel) => channel.fd()?.as_raw_fd(),
            End::Listening(listener) => listener.fd()?.as_raw_fd(),
        })
    })
}

/// Sends the descriptor of a segment made by shmslot_segment_create_anonymous; the other end
/// attaches to it.
/// timeout_ns: how long to wait while the other end does not read. Signals do not end the wait.
/// reterr: NULL or filled on failure.
/// Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, CHANNEL_BROKEN,
/// NOT_SEALED (a named one), NOT_SUPPORTED (a local one), NO_MEMORY (also too many descriptors
/// under way), SYS, and those of shmslot_segment_fd. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_send_segment(
    channel: *mut shmslot_channel,
    segment: *const shmslot_segment,
    timeout_ns: i64,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(channel: HandleRef, segment: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        let (channel, segment) = (channel.open()?.connected()?, segment.open()?);
        channel.send_segment(&segment.segment, boundary::timeout(timeout_ns)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Attaches to the next segment that the other end has sent. Regions that come before it are kept
/// for the attachments. Signals do not end the wait.
/// options and errors as in shmslot_segment_attach_fd, after which the message is gone, but not for
/// want of memory or descriptors; also BAD_TIMEOUT, AGAIN (timeout 0, or 64 regions wait), TIMEOUT,
/// CHANNEL_BROKEN. Threads: any. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_recv_segment(
    channel: *mut shmslot_channel,
    options: *const shmslot_attach_options,
    timeout_ns: i64,
    ret_segment: *mut *mut shmslot_segment,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(channel: HandleRef, options: InSized, ret_segment: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_segment.present()?;
        let options = attach_options(&options)?;
        let channel = channel.open()?.connected()?;
        segment::hand_out(
            &ret_segment,
            channel.recv_segment(&options, boundary::timeout(timeout_ns)?)?,
        )?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes the handle; NULL is fine. The connection ends with the registries and attachments that
/// use it. Threads: any, once. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_channel_close(channel: *mut shmslot_channel) {
    from_c!(channel: HandleRef);
    // SAFETY: the header allows this once, and no use from then on.
    unsafe { boundary::close(channel) };
}
