//! Registries: memory in regions, on lease for payloads of any size.

use std::ffi::{c_int, c_void};

use crate::error::Result;
use crate::ffi::arguments::{InSized, from_c};
use crate::ffi::boundary;
use crate::ffi::channel::shmslot_channel;
use crate::ffi::given::Given;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::options::unknown_flags;
use crate::ffi::plain::Plain;
use crate::pool::{Lease, PoolInfo, Registry, RegistryOptions};
use crate::sys::Uncancelled;

/// Gives out memory in mapped regions, for payloads beside the slots; docs/regions.md has the
/// rules. Threads: any.
pub struct shmslot_registry {
    registry: Registry,
    leases: Given<Lease>,
    health: Health,
}

impl Handle for shmslot_registry {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// Registry flag: receivers are not of this library. They may map regions to write to them, and
/// each generation is announced. A process that gets a region can then change any byte of it at any
/// time.
pub const SHMSLOT_FLAG_FOREIGN_RECEIVERS: u32 = 1;

/// max_idle: no region is kept without leases.
pub const SHMSLOT_IDLE_NONE: u64 = 1;

/// How a registry makes regions. Begin with SHMSLOT_REGISTRY_OPTIONS_INIT; zero is the default of
/// each field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_registry_options {
    /// sizeof(shmslot_registry_options); SHMSLOT_REGISTRY_OPTIONS_INIT fills it.
    pub struct_size: u32,
    /// Alignment of each lease in bytes, a power of two from 64 to 4096; default 64.
    pub align: u32,
    /// Bytes of a region; default 1 MiB. A larger payload gets a region of its own size.
    pub region_size: u64,
    /// Most bytes of regions without leases that are kept for reuse, or SHMSLOT_IDLE_NONE; default
    /// 64 MiB.
    pub max_idle: u64,
    /// Most bytes of all regions together, without a page for each; default no limit.
    pub max_bytes: u64,
    /// 0, or SHMSLOT_FLAG_FOREIGN_RECEIVERS.
    pub flags: u64,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_registry_options {}

/// What a registry has at this moment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_pool_info {
    /// Bytes of all regions.
    pub bytes: u64,
    /// Bytes of those that are kept without leases.
    pub idle_bytes: u64,
    /// Leases that are out.
    pub leases: u64,
    /// Regions.
    pub regions: u32,
    /// Channels that regions are announced on.
    pub channels: u32,
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_pool_info {}

impl From<PoolInfo> for shmslot_pool_info {
    fn from(info: PoolInfo) -> shmslot_pool_info {
        let PoolInfo { bytes, idle_bytes, leases, regions, channels } = info;
        shmslot_pool_info { bytes, idle_bytes, leases, regions, channels }
    }
}

/// Memory on lease. map_id, generation, offset and len are what to send to the receiver. Plain
/// data: it may be copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_lease {
    /// The memory, aligned as the registry says; writable for len bytes until the last release.
    pub data: *mut c_void,
    /// The bytes that were asked for.
    pub len: u64,
    /// Where in the region.
    pub offset: u64,
    /// The region.
    pub map_id: u32,
    /// Which use of the region.
    pub generation: u32,
    /// The whole region that data lies in, of which only data is the lease's; mapped as that is.
    pub region: *mut c_void,
    /// Bytes of it.
    pub region_len: u64,
    /// For the library.
    pub token: u64,
}

// SAFETY: integers and a pointer.
unsafe impl Plain for shmslot_lease {}

fn registry_options(input: &InSized<'_, shmslot_registry_options>) -> Result<RegistryOptions> {
    let default = RegistryOptions::default();
    let Some(given) = input.take()? else { return Ok(default) };
    let unknown = given.flags & !u64::from(SHMSLOT_FLAG_FOREIGN_RECEIVERS);
    if unknown != 0 {
        return Err(unknown_flags(unknown));
    }
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    Ok(RegistryOptions {
        region_size: or(given.region_size, default.region_size),
        align: if given.align == 0 { default.align } else { given.align },
        max_idle: match given.max_idle {
            0 => default.max_idle,
            SHMSLOT_IDLE_NONE => 0,
            bytes => bytes,
        },
        max_bytes: given.max_bytes,
        foreign_receivers: given.flags & u64::from(SHMSLOT_FLAG_FOREIGN_RECEIVERS) != 0,
    })
}

/// Makes a registry; regions come with the first lease.
/// options: NULL for all defaults. ret_registry: close it with shmslot_registry_close. reterr: NULL
/// or filled on failure.
/// Threads: any. Errors: INVALID, BAD_OPTIONS, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_registry_create(
    options: *const shmslot_registry_options,
    ret_registry: *mut *mut shmslot_registry,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(options: InSized, ret_registry: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_registry.present()?;
        let registry = Registry::new(&registry_options(&options)?)?;
        let handle =
            shmslot_registry { registry, leases: Given::default(), health: Health::default() };
        boundary::hand_out(&ret_registry, handle)?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes the registry and its part in its channels; NULL is fine. Leases that are out stay, and
/// are released with the same registry pointer; it dies with the last of them, or now if there is
/// none.
/// Threads: any, once, while no call but releases uses the registry. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_registry_close(registry: *mut shmslot_registry) {
    from_c!(registry: HandleRef);
    let close = |handle: &shmslot_registry| {
        handle.registry.close();
        // A forked child releases nothing, and must not look at locks that other threads had.
        handle.registry.here().is_err() || handle.leases.close()
    };
    // SAFETY: the header allows this once, and only releases from then on. If nothing is out, or in
    // a forked child, no release follows that would use the handle.
    unsafe { boundary::leave(registry, close) };
}

/// Announces regions on this channel from now on, beginning with those that have leases. A channel
/// may be in one registry on each side, and closed afterwards: the registry keeps it. Adding it
/// twice changes nothing.
/// timeout_ns: how long to wait while the other end does not read. Signals do not end the wait.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0)
/// or TIMEOUT, CHANNEL_BROKEN, NO_MEMORY (also too many descriptors under way), SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_registry_add(
    registry: *mut shmslot_registry,
    channel: *mut shmslot_channel,
    timeout_ns: i64,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(registry: HandleRef, channel: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        let (handle, channel) = (registry.open()?, channel.open()?.connected()?);
        handle.registry.add(channel, boundary::timeout(timeout_ns)?)?;
        Ok(SHMSLOT_OK)
    })
}

/// Announces nothing more on this channel; its other end keeps what it mapped. Threads: any.
/// Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_registry_remove(
    registry: *mut shmslot_registry,
    channel: *mut shmslot_channel,
) -> c_int {
    from_c!(registry: HandleRef, channel: HandleRef);
    boundary::with_system(&registry, |handle| {
        handle.registry.remove(channel.open()?.connected()?)?;
        Ok(SHMSLOT_OK)
    })
}

/// What the registry has at this moment. size: sizeof(shmslot_pool_info). Threads: any. Errors:
/// INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_registry_info(
    registry: *mut shmslot_registry,
    ret_state: *mut shmslot_pool_info,
    size: usize,
) -> c_int {
    from_c!(registry: HandleRef, ret_state[size]: OutSized);
    boundary::with(&registry, |handle| {
        ret_state.give(&handle.registry.info()?.into())?;
        Ok(SHMSLOT_OK)
    })
}

/// Unmaps and closes all regions without leases now, whatever max_idle; returns how many. Threads:
/// any. Errors: INVALID.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_registry_reclaim(registry: *mut shmslot_registry) -> c_int {
    from_c!(registry: HandleRef);
    boundary::with_system(&registry, |handle| {
        Ok(c_int::try_from(handle.registry.reclaim()?).unwrap_or(c_int::MAX))
    })
}

/// Leases memory for len bytes, in a region that all channels of the registry have been told of:
/// send the lease's numbers to the receivers in any way. Returns how many channels were
/// removed since the last success because their other ends are gone, usually 0.
/// timeout_ns: how long to wait while the other end does not read. ret_lease: ends with
/// shmslot_region_release.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, BAD_TIMEOUT, NO_MEMORY (also
/// max_bytes, too many descriptors under way), AGAIN (timeout 0) or TIMEOUT (another end does not
/// read), SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_region_alloc(
    registry: *mut shmslot_registry,
    len: usize,
    timeout_ns: i64,
    ret_lease: *mut shmslot_lease,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(registry: HandleRef, ret_lease: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_lease.present()?;
        let handle = registry.open()?;
        let lease = handle.registry.alloc(len, boundary::timeout(timeout_ns)?)?;
        let given = shmslot_lease {
            data: lease.as_ptr().cast(),
            len: len as u64,
            offset: lease.offset(),
            map_id: lease.map_id(),
            generation: lease.generation(),
            region: lease.region_ptr().cast(),
            region_len: lease.region_len(),
            token: handle.leases.add(lease),
        };
        ret_lease.give(given)?;
        Ok(c_int::try_from(handle.registry.take_removed()?.len()).unwrap_or(c_int::MAX))
    })
}

/// One more release is due before the lease ends, as for each receiver. Threads: any. Errors:
/// INVALID, STALE. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_region_retain(
    registry: *mut shmslot_registry,
    lease: *const shmslot_lease,
) -> c_int {
    from_c!(registry: HandleRef, lease: In);
    boundary::with(&registry, |handle| {
        handle.registry.here()?;
        handle.leases.retain(lease.take()?.token)?;
        Ok(SHMSLOT_OK)
    })
}

/// Ends one use of the lease. After the last release nobody may look at its memory any more, here
/// or in a receiver. Also after shmslot_registry_close. Threads: any. Errors: INVALID, STALE. Since
/// 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_region_release(
    registry: *mut shmslot_registry,
    lease: *const shmslot_lease,
) -> c_int {
    from_c!(registry: HandleRef, lease: In);
    let _whole = Uncancelled::new();
    let release = |handle: &shmslot_registry| {
        handle.registry.here()?;
        handle.leases.release(lease.take()?.token)
    };
    // SAFETY: true for the last release after closing only. The header forbids any use after that.
    unsafe { boundary::give_back(registry, release) }
}
