//! Attachments: regions of a sender, mapped to be read.

use std::ffi::{c_int, c_void};

use crate::error::Result;
use crate::ffi::boundary::{self, Handle, Health};
use crate::ffi::channel::{borrow, channel_options, shmslot_channel};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::plain::Plain;
use crate::ffi::region::Given;
use crate::pool::{Attachments, Mapped};
use crate::sys;

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

/// Bytes of a region. They change once the sender's lease ends; tell the sender when you are done. Plain data.
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

/// Makes attachments of what comes over a channel; one for each channel, which may be closed afterwards.
/// channel: NULL if all descriptors come by other means. flags: 0, or SHMSLOT_UNSEALED for shmslot_attachments_attach_fd;
/// for the rest those of the channel count. ret_attachments: close it with shmslot_attachments_close. reterr: NULL or
/// filled on failure. Threads: any. Errors: INVALID, BAD_OPTIONS, NO_MEMORY, SYS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_create(
    channel: *mut shmslot_channel,
    flags: u32,
    ret_attachments: *mut *mut shmslot_attachments,
    reterr: *mut shmslot_error,
) -> c_int {
    boundary::without_handle(reterr, || {
        boundary::present(ret_attachments)?;
        let channel = if channel.is_null() { None } else { Some(boundary::open(channel)?.connected()?) };
        let attachments = Attachments::new(channel, &channel_options(flags)?)?;
        let handle = shmslot_attachments { attachments, mapped: Given::default(), health: Health::default() };
        boundary::give(ret_attachments, Box::into_raw(Box::new(handle)))?;
        Ok(SHMSLOT_OK)
    })
}

/// Maps every region that has come; returns how many. Never waits. To be called when shmslot_channel_fd is ready: it also
/// lets go of regions that the sender has given up.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, CHANNEL_BROKEN (ever after; the detail says why),
/// NO_MEMORY (a region waits for it; the others are mapped), SYS (EMFILE); AGAIN (64 segments wait). Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_drain(
    attachments: *mut shmslot_attachments,
    reterr: *mut shmslot_error,
) -> c_int {
    boundary::without_handle(reterr, || {
        let count = boundary::open(attachments)?.attachments.drain()?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

/// Where a reference points to: the numbers of the sender's lease. Never waits, and drains the channel only if the region
/// is not known yet.
/// ret_mapped: mapped until shmslot_attachments_release. reterr: NULL or filled on failure. Threads: any. Errors: INVALID,
/// UNKNOWN_MAPPING, OUT_OF_BOUNDS, OVERFLOW, CHANNEL_BROKEN; and those of shmslot_attachments_drain. Since 0.1.
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
    resolve(attachments, ret_mapped, reterr, |attachments| {
        attachments.resolve(map_id, generation, offset, len)
    })
}

/// The same, and sleeps on the channel until the region is known: for references that travel faster than descriptors.
/// UNKNOWN_MAPPING if the time is over before. timeout_ns: nanoseconds from 0, or -1 for no limit.
/// Else as shmslot_attachments_resolve; also BAD_TIMEOUT. Threads: any. Since 0.1.
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
    resolve(attachments, ret_mapped, reterr, |attachments| {
        attachments.resolve_wait(map_id, generation, offset, len, boundary::timeout(timeout_ns)?)
    })
}

fn resolve(
    attachments: *mut shmslot_attachments,
    ret_mapped: *mut shmslot_mapped,
    reterr: *mut shmslot_error,
    find: impl FnOnce(&Attachments) -> Result<Mapped>,
) -> c_int {
    boundary::without_handle(reterr, || {
        boundary::present(ret_mapped)?;
        let handle = boundary::open(attachments)?;
        let mapped = find(&handle.attachments)?;
        let (data, len) = (mapped.as_ptr().cast(), mapped.len() as u64);
        let (region, region_len) = (mapped.region_ptr().cast(), mapped.region_len());
        let token = handle.mapped.add(mapped);
        boundary::give(ret_mapped, shmslot_mapped { data, len, region, region_len, token })?;
        Ok(SHMSLOT_OK)
    })
}

/// Lets go of resolved bytes, also after shmslot_attachments_close. Threads: any. Errors: INVALID, STALE. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_release(
    attachments: *mut shmslot_attachments,
    mapped: *const shmslot_mapped,
) -> c_int {
    let mut last = false;
    let released = boundary::with_system(attachments, |handle| {
        handle.attachments.here()?;
        let (mapped, was_last) = handle.mapped.release(boundary::take(mapped)?.token)?;
        drop(mapped);
        last = was_last;
        Ok(SHMSLOT_OK)
    });
    if last {
        // SAFETY: made by `shmslot_attachments_create`, closed, and the last of what was out has just come back: that
        // happens once.
        boundary::silently(|| drop(unsafe { Box::from_raw(attachments) }));
    }
    released
}

/// Maps a region whose descriptor came by other means. The descriptor stays the caller's. A region that is known already,
/// or in a newer generation, stays as it is.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID (also length 0, a map_id of 2^32 - 1, or more than
/// docs/regions.md allows), NOT_A_FILE, NOT_SEALED, TRUNCATED (length is more than the file has), NO_MEMORY, SYS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_attach_fd(
    attachments: *mut shmslot_attachments,
    map_id: u32,
    generation: u32,
    length: u64,
    fd: c_int,
    reterr: *mut shmslot_error,
) -> c_int {
    boundary::without_handle(reterr, || {
        let handle = boundary::open(attachments)?;
        let file = sys::duplicate(borrow(fd)?)?;
        handle.attachments.attach_fd(map_id, generation, length, file)?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes the attachments; NULL is fine. Bytes that were resolved stay mapped, and are released with the same pointer; it
/// dies with the last of them, or now if there are none.
/// Threads: any, once, while no call but releases uses it. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_attachments_close(attachments: *mut shmslot_attachments) {
    // SAFETY: NULL, or made by `shmslot_attachments_create` and by the header's word closed once.
    let Some(handle) = (unsafe { attachments.as_ref() }) else { return };
    boundary::silently(|| {
        handle.attachments.close();
        // A forked child releases nothing, and must not look at locks that other threads had.
        if handle.attachments.here().is_err() || handle.mapped.close() {
            // SAFETY: as above, and nothing is out that would be released later.
            drop(unsafe { Box::from_raw(attachments) });
        }
    });
}
