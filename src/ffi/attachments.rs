//! Attachments: the regions of a sender, mapped to be read.

use std::ffi::{c_int, c_void};

use crate::error::Result;
use crate::ffi::arguments::{HandleRef, Out, from_c};
use crate::ffi::boundary;
use crate::ffi::channel::{channel_options, shmslot_channel};
use crate::ffi::given::Given;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::plain::Plain;
use crate::pool::{Attachments, Mapped};
use crate::sys::{self, Uncancelled};

/// Regions of one sender that are mapped here, to be read. Threads: any.
pub struct shmslot_attachments {
    attachments: Attachments,
    mapped: Given<Mapped>,
    health: Health,
}

impl Handle for shmslot_attachments {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// Bytes of a region. They change once the sender's lease ends; tell the sender when you are done.
/// Plain data.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_mapped {
    /// Where they are; readable for len bytes until the release.
    pub data: *const c_void,
    /// How many.
    pub len: u64,
    /// The whole region that they lie in; mapped as they are.
    pub region: *const c_void,
    /// Bytes of it.
    pub region_len: u64,
    /// For the library.
    pub token: u64,
}

// SAFETY: integers and a pointer.
unsafe impl Plain for shmslot_mapped {}

/// Makes attachments that map the regions announced on a channel. A channel has at most one, and
/// may be closed afterwards.
/// channel: NULL if all descriptors come by other means. flags: 0, or SHMSLOT_FLAG_UNSEALED for
/// shmslot_attachments_attach_fd; for the rest those of the channel count. ret_attachments: close
/// it with shmslot_attachments_close. reterr: NULL or filled on failure. Threads: any. Errors:
/// INVALID, BAD_OPTIONS, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_create(
    channel: *mut shmslot_channel,
    flags: u32,
    ret_attachments: *mut *mut shmslot_attachments,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(channel: HandleRef, ret_attachments: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_attachments.present()?;
        let channel = channel.open_if_any()?.map(shmslot_channel::connected).transpose()?;
        let attachments = Attachments::new(channel, &channel_options(flags)?)?;
        let handle = shmslot_attachments {
            attachments,
            mapped: Given::default(),
            health: Health::default(),
        };
        boundary::hand_out(&ret_attachments, handle)?;
        Ok(SHMSLOT_OK)
    })
}

/// Maps every region that has arrived; returns how many. Never waits. To be called when
/// shmslot_channel_fd is ready: it also unmaps regions that the sender has retired.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, CHANNEL_BROKEN (permanently;
/// the detail says why), NO_MEMORY (a region waits for it; the others are mapped), SYS (EMFILE);
/// AGAIN (64 segments wait). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_drain(
    attachments: *mut shmslot_attachments,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(attachments: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        let count = attachments.open()?.attachments.drain()?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

/// The bytes that a reference, the numbers of the sender's lease, points to. Never waits, and
/// drains the
/// channel only if the region is not known yet.
/// ret_mapped: mapped until shmslot_attachments_release. reterr: NULL or filled on failure.
/// Threads: any. Errors: INVALID, UNKNOWN_MAPPING, OUT_OF_BOUNDS, OVERFLOW, CHANNEL_BROKEN; and
/// those of shmslot_attachments_drain. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_resolve(
    attachments: *mut shmslot_attachments,
    map_id: u32,
    generation: u32,
    offset: u64,
    len: u64,
    ret_mapped: *mut shmslot_mapped,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(attachments: HandleRef, ret_mapped: Out, reterr: Out);
    resolve(attachments, ret_mapped, reterr, |attachments| {
        attachments.resolve(map_id, generation, offset, len)
    })
}

/// Resolves as shmslot_attachments_resolve does, but sleeps on the channel until the region is
/// known: for references that travel faster than descriptors. UNKNOWN_MAPPING if it cannot be known
/// any more. Signals do not end it.
/// timeout_ns: nanoseconds, 0 not to wait, -1 for no limit. Otherwise as
/// shmslot_attachments_resolve; also BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT. Threads: any. Since
/// 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_resolve_wait(
    attachments: *mut shmslot_attachments,
    map_id: u32,
    generation: u32,
    offset: u64,
    len: u64,
    timeout_ns: i64,
    ret_mapped: *mut shmslot_mapped,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(attachments: HandleRef, ret_mapped: Out, reterr: Out);
    resolve(attachments, ret_mapped, reterr, |attachments| {
        attachments.resolve_wait(map_id, generation, offset, len, boundary::timeout(timeout_ns)?)
    })
}

fn resolve(
    attachments: HandleRef<'_, shmslot_attachments>,
    ret_mapped: Out<'_, shmslot_mapped>,
    reterr: Out<'_, shmslot_error>,
    find: impl FnOnce(&Attachments) -> Result<Mapped>,
) -> c_int {
    boundary::without_handle(reterr, || {
        ret_mapped.present()?;
        let handle = attachments.open()?;
        let mapped = find(&handle.attachments)?;
        let (data, len) = (mapped.as_ptr().cast(), mapped.len() as u64);
        let (region, region_len) = (mapped.region_ptr().cast(), mapped.region_len());
        let token = handle.mapped.add(mapped);
        ret_mapped.give(shmslot_mapped { data, len, region, region_len, token })?;
        Ok(SHMSLOT_OK)
    })
}

/// Releases resolved bytes, also after shmslot_attachments_close. Threads: any. Errors: INVALID,
/// STALE. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_release(
    attachments: *mut shmslot_attachments,
    mapped: *const shmslot_mapped,
) -> c_int {
    from_c!(attachments: HandleRef, mapped: In);
    let _whole = Uncancelled::new();
    let release = |handle: &shmslot_attachments| {
        handle.attachments.here()?;
        handle.mapped.release(mapped.take()?.token)
    };
    // SAFETY: true for the last release after closing only. The header forbids any use after that.
    unsafe { boundary::give_back(attachments, release) }
}

/// Maps a region whose descriptor came by other means. The descriptor stays the caller's. A region
/// that is known already, or in a newer generation, stays as it is.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID (also length 0, a map_id of
/// 2^32 - 1, or more than docs/regions.md allows), NOT_A_FILE, NOT_SEALED, TRUNCATED (length is
/// more than the file has), NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_attach_fd(
    attachments: *mut shmslot_attachments,
    map_id: u32,
    generation: u32,
    length: u64,
    fd: c_int,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(attachments: HandleRef, fd: Fd, reterr: Out);
    boundary::without_handle(reterr, || {
        let handle = attachments.open()?;
        let file = sys::duplicate(fd.get()?)?;
        handle.attachments.attach_fd(map_id, generation, length, file)?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes the attachments; NULL is fine. Bytes that were resolved stay mapped, and are released
/// with the same pointer; it dies with the last of them, or now if there are none.
/// Threads: any, once, while no call but releases uses it. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_close(attachments: *mut shmslot_attachments) {
    from_c!(attachments: HandleRef);
    let close = |handle: &shmslot_attachments| {
        handle.attachments.close();
        // A forked child releases nothing, and must not look at locks that other threads had.
        handle.attachments.here().is_err() || handle.mapped.close()
    };
    // SAFETY: the header allows this once, and only releases from then on. If nothing is out, or in
    // a forked child, no release follows that would use the handle.
    unsafe { boundary::leave(attachments, close) };
}
