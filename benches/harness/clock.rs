//! A clock that is cheap enough to be read once per round, and equal in all processes.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every processor of this architecture has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn ticks() -> u64 {
    // SAFETY: writes to a local that lives.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// Reads the clock after all earlier instructions are complete. Otherwise the processor may read it
/// before a short measured part is over.
pub(crate) fn ticks_when_done() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    ticks()
}

/// How long a tick is. The first call takes a while; children inherit the result.
pub(crate) fn nanoseconds_per_tick() -> f64 {
    static LENGTH: OnceLock<f64> = OnceLock::new();
    *LENGTH.get_or_init(|| {
        let (start, first) = (Instant::now(), ticks());
        while start.elapsed() < Duration::from_millis(50) {}
        let passed = ticks() - first;
        start.elapsed().as_nanos() as f64 / passed as f64
    })
}

pub(crate) fn nanoseconds(ticks: u64) -> f64 {
    ticks as f64 * nanoseconds_per_tick()
}

pub(crate) fn in_ticks(duration: Duration) -> u64 {
    (duration.as_nanos() as f64 / nanoseconds_per_tick()) as u64
}

/// Passes time without a system call.
pub(crate) fn spin(duration: Duration) {
    let end = ticks() + in_ticks(duration);
    while ticks() < end {
        std::hint::spin_loop();
    }
}
