//! A memory fence in every thread of the system.
#![allow(unsafe_code)] // A system call that no crate wraps.

/// Every thread that is running passes a full fence before this returns, which takes milliseconds
/// (`benches/recovery.rs` measures a call that contains it); one that is not running passes one when it is scheduled. False if the kernel does not offer it
/// (it does not beside isolated processors, `nohz_full`), or a sandbox refuses it.
pub(crate) fn fence_everybody() -> bool {
    // SAFETY: the call takes numbers and accesses no memory of this process.
    unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 }
}
