//! Tells a process from the children that it forks, and keeps what holds for one process only.
#![allow(unsafe_code)] // One page that is never unmapped.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::errno::Errno;

use super::errno::failed;
use super::machine::page_size;
use super::process::Known;
use crate::error::Result;

/// Tells the process that created this value from a child that was forked since. A check costs one
/// load.
pub(crate) struct ForkGuard {
    word: &'static AtomicU32,
    stamp: u32,
}

/// The contents of a page that the kernel wipes in a forked child.
#[repr(C)]
pub(super) struct Wiped {
    /// For [`ForkGuard`].
    stamp: AtomicU32,
    /// The identity of this process.
    pub(super) known: Known,
}

static WIPED: AtomicPtr<Wiped> = AtomicPtr::new(std::ptr::null_mut());
/// The last stamp that this process, or one that it was forked from, has given.
static LAST_STAMP: AtomicU32 = AtomicU32::new(0);

impl ForkGuard {
    /// A guard for what belongs to this process.
    pub(crate) fn of_this_process() -> Result<ForkGuard> {
        let word = &wiped()?.stamp;
        // Relaxed: a fork orders it, and among threads each stamp gives the same answer.
        let seen = word.load(Ordering::Relaxed);
        if seen != 0 {
            return Ok(ForkGuard { word, stamp: seen });
        }
        // The first guard in this process. Zero means wiped, so it is not used as a stamp.
        let fresh = LAST_STAMP.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        let stamp = match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(other_thread) => other_thread,
        };
        Ok(ForkGuard { word, stamp })
    }

    /// Whether this is still the process that created the guard.
    #[inline(always)]
    pub(crate) fn same_process(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.stamp
    }
}

/// The page, made at the first call. It lives as long as the process.
pub(super) fn wiped() -> Result<&'static Wiped> {
    let known = WIPED.load(Ordering::Acquire);
    let page = if known.is_null() { make_wiped()? } else { known };
    // SAFETY: aligned, large enough, and never unmapped once it is stored; the type consists of
    // atomics, for which every bit pattern is valid.
    Ok(unsafe { &*page })
}

fn make_wiped() -> Result<*mut Wiped> {
    let len = page_size();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(failed(Errno::last(), "mapping private memory"));
    }
    // SAFETY: the page just mapped.
    if unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) } != 0 {
        let error = failed(Errno::last(), "detecting forks");
        // SAFETY: the page just mapped, which nothing else uses.
        unsafe { libc::munmap(page, len) };
        return Err(error);
    }
    let made = page.cast::<Wiped>();
    // AcqRel: a thread that finds the address finds a mapped page.
    match WIPED.compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(made),
        Err(other_thread) => {
            // SAFETY: the page just mapped, which nothing else uses.
            unsafe { libc::munmap(page, len) };
            Ok(other_thread)
        }
    }
}
