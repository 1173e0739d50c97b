//! Facts about the machine and this process.
#![allow(unsafe_code)] // Numbers that only the C library provides.

use nix::errno::Errno;
use nix::unistd;

use super::errno::failed;
use crate::error::Result;

/// This process's effective user.
pub(crate) fn effective_uid() -> u32 {
    unistd::geteuid().as_raw()
}

/// Size of the pages for which the kernel sets access.
pub(crate) fn page_size() -> usize {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// All memory and swap of the machine, in bytes.
pub(crate) fn machine_memory() -> u64 {
    // SAFETY: all-zero is a valid sysinfo, a plain struct of integers, which the call fills.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&mut info);
        info
    };
    info.totalram.saturating_add(info.totalswap).saturating_mul(u64::from(info.mem_unit))
}

/// Whether the calling thread may run on more than one processor.
pub(crate) fn several_processors() -> bool {
    // SAFETY: an all-zero set is valid; the calls write inside it, and read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        // The call fails if the machine has more processors than such a set can name.
        libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 || libc::CPU_COUNT(&set) > 1
    }
}

/// A random number that is not zero.
pub(crate) fn random_id() -> Result<u64> {
    let mut bytes = [0u8; 8];
    loop {
        // SAFETY: the buffer is writable for its length.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        // So few bytes arrive all at once, or not at all.
        match Errno::result(got) {
            Ok(_) => return Ok(u64::from_ne_bytes(bytes) | 1),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno, "getting random bytes")),
        }
    }
}
