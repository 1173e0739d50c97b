//! The two clocks: that of commits, and that of calendars.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the clock that commits store; it does not run backwards.
pub(crate) fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970.
pub(crate) fn realtime_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// What is added to a monotonic time to make it a time since 1970, at this moment.
pub(crate) fn realtime_offset_ns() -> i64 {
    realtime_ns().wrapping_sub(monotonic_ns()) as i64
}

fn read(clock: ClockId) -> u64 {
    // Every Linux has these two clocks.
    clock_gettime(clock).map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
