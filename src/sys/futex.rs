//! Sleeping on 32-bit words that processes share.
#![allow(unsafe_code)] // System calls that no crate wraps.

use std::sync::atomic::AtomicU32;

use nix::errno::Errno;

use super::clock::{Deadline, monotonic_ns, timespec};

/// Sleeps while `word` is `expected`. Not FUTEX_PRIVATE: the waker may be another process.
/// WAIT_BITSET, because that form takes an absolute monotonic deadline. True if a signal handler
/// ended it. The call says nothing else about why it woke: callers check again, and check the
/// clock.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> bool {
    let until = deadline.map(timespec);
    let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is a live, aligned u32; `until` is null or points to a timespec that
    // outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            until,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    result < 0 && Errno::last() == Errno::EINTR
}

/// Wakes every sleeper of `word`, in any process.
pub(crate) fn futex_wake_all(word: &AtomicU32) {
    // SAFETY: the word is a live, aligned u32; the call only uses its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// The largest number of words for [`futex_wait_any`], which is the kernel's limit.
pub(crate) const FUTEX_WAIT_ANY_MAX: usize = 128;

/// How long one of several words is slept on, where the kernel cannot sleep on all, in nanoseconds.
const ONE_OF_SEVERAL: u64 = 1_000_000;

/// Sleeps while every word has its expected value. Kernels before 5.16 cannot do that, and some
/// sandboxes refuse it: there it sleeps on the first word alone, for a short time. It returns what
/// [`futex_wait`] does.
pub(crate) fn futex_wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> bool {
    let waiters: Vec<libc::futex_waitv> = words
        .iter()
        .map(|(word, expected)| {
            // SAFETY: all-zero is a valid futex_waitv, a plain struct of integers.
            let mut waiter: libc::futex_waitv = unsafe { std::mem::zeroed() };
            waiter.val = u64::from(*expected);
            waiter.uaddr = word.as_ptr() as u64;
            waiter.flags = libc::FUTEX2_SIZE_U32 as u32;
            waiter
        })
        .collect();
    let until = deadline.map(timespec);
    let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `waiters` has as many entries as the count says, each with the address of a live u32;
    // `until` is null or points to a timespec that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len(),
            0,
            until,
            libc::CLOCK_MONOTONIC,
        )
    };
    match (Errno::result(result), words.first()) {
        (Err(Errno::EINTR), _) => true,
        (Ok(_) | Err(Errno::ETIMEDOUT | Errno::EAGAIN), _) | (Err(_), None) => false,
        (Err(_), Some((word, expected))) => {
            let soon = monotonic_ns().saturating_add(ONE_OF_SEVERAL);
            futex_wait(word, *expected, Some(deadline.map_or(soon, |deadline| deadline.min(soon))))
        }
    }
}
