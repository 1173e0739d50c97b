//! The monotonic clock.
#![allow(unsafe_code)] // The clock as the kernel defines it.

use std::time::Duration;

/// A moment of the monotonic clock, in nanoseconds; `None` is never.
pub(crate) type Deadline = Option<u64>;

/// Nanoseconds of the monotonic clock; no system call where the kernel provides a vDSO.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub(super) fn timespec(deadline: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (deadline / 1_000_000_000) as _,
        tv_nsec: (deadline % 1_000_000_000) as libc::c_long,
    }
}

/// A duration in nanoseconds, capped at the largest number.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
