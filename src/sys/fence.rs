//! A memory fence in every thread of a system, or of the processes that have asked for it.
#![allow(unsafe_code)] // A system call that no crate wraps.

use libc::{c_int, c_long};

/// From now on [`fence_registered`] of any process reaches the threads of this one. False if the
/// kernel does not offer it, or a sandbox refuses it. It may be called again, and costs nothing
/// more than the call then.
pub(crate) fn register_for_fences() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
}

/// Every thread that is running in a registered process passes a full fence before this returns,
/// which takes microseconds; one that is not running passes one when it is scheduled. False as
/// above.
pub(crate) fn fence_registered() -> bool {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED)
}

/// The same with every thread of the system, which takes milliseconds (`benches/recovery.rs`
/// measures a call that contains it). False as above; beside isolated processors (`nohz_full`) the
/// kernel does not offer it.
pub(crate) fn fence_everybody() -> bool {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL)
}

fn membarrier(command: c_int) -> bool {
    const NO_FLAGS: c_long = 0;
    const NO_PROCESSOR: c_long = 0;
    // SAFETY: the call takes numbers and accesses no memory of this process.
    unsafe {
        libc::syscall(libc::SYS_membarrier, c_long::from(command), NO_FLAGS, NO_PROCESSOR) == 0
    }
}
