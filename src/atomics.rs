//! The only door to atomics, fences, the futex and the chime: the real ones; those of `models/`, built on
//! loom, under `--cfg loom`; or those of `simulator/`, under `--cfg shmslot_sim`.
//!
//! The protocol uses these names only, so the source that ships is the source that is modelled and
//! simulated.
#![forbid(unsafe_code)]

#[cfg(any(loom, shmslot_sim))]
pub(crate) use crate::modelled::{
    AtomicU8, AtomicU32, AtomicU64, Chime, FutexWord, Ordering, fence, spin_loop,
};
#[cfg(not(any(loom, shmslot_sim)))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(any(loom, shmslot_sim)))]
use core::sync::atomic::{AtomicBool, AtomicI32};
#[cfg(not(any(loom, shmslot_sim)))]
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// A sequentially consistent fence for a place where the thread's last read-modify-write lies
/// between the accesses that must be ordered.
///
/// On x86-64 that instruction was already a full barrier, whether it succeeded or not, so only the
/// compiler must be restrained; the difference is 2 to 3 ns on every commit and mark. Elsewhere
/// this is the fence itself. The simulated machine is an x86-64, whatever it runs on.
#[inline(always)]
pub(crate) fn fence_after_rmw() {
    #[cfg(all(any(target_arch = "x86_64", shmslot_sim), not(loom)))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(any(target_arch = "x86_64", shmslot_sim), not(loom))))]
    fence(Ordering::SeqCst);
}

/// The cheap half of a pair of fences: it keeps the compiler from moving an access over it, and
/// costs no instruction. It orders a store before a load only against a [`heavy_fence`] in another
/// thread.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(not(loom))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Whose threads a [`heavy_fence`] reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of processes that have asked for it ([`crate::sys::register_for_fences`]). It takes
    /// microseconds.
    Registered,
    /// Those of the whole system. It takes milliseconds.
    Everybody,
}

/// The expensive half: every running thread in reach passes a sequentially consistent fence before
/// this returns. False if the system cannot do that.
pub(crate) fn heavy_fence(reach: Reach) -> bool {
    #[cfg(not(any(loom, shmslot_sim)))]
    return match reach {
        Reach::Registered => crate::sys::fence_registered(),
        Reach::Everybody => crate::sys::fence_everybody(),
    };
    #[cfg(any(loom, shmslot_sim))]
    let _ = reach;
    #[cfg(loom)]
    fence(Ordering::SeqCst);
    #[cfg(shmslot_sim)]
    crate::modelled::fence_everybody();
    #[cfg(any(loom, shmslot_sim))]
    true
}

/// Waits about a millisecond.
pub(crate) fn nap() {
    #[cfg(not(any(loom, shmslot_sim)))]
    std::thread::sleep(core::time::Duration::from_millis(1));
    #[cfg(any(loom, shmslot_sim))]
    spin_loop();
}

/// A moment of the monotonic clock, in nanoseconds; `None` is never.
#[cfg(any(loom, shmslot_sim))]
pub(crate) type Deadline = Option<u64>;
#[cfg(not(any(loom, shmslot_sim)))]
pub(crate) use crate::sys::Deadline;

/// A 32-bit word on which processes can sleep.
#[cfg(not(any(loom, shmslot_sim)))]
#[repr(transparent)]
pub(crate) struct FutexWord(pub(crate) AtomicU32);

#[cfg(not(any(loom, shmslot_sim)))]
impl FutexWord {
    /// Sleeps while the word is `expected`; true if a signal handler ended that.
    pub(crate) fn sleep(&self, expected: u32, deadline: Deadline) -> bool {
        crate::sys::futex_wait(&self.0, expected, deadline)
    }

    /// Sleeps while every word has its expected value; true if a signal handler ended that.
    pub(crate) fn sleep_any(words: &[(&FutexWord, u32)], deadline: Deadline) -> bool {
        let words: Vec<_> = words.iter().map(|(word, expected)| (&word.0, *expected)).collect();
        crate::sys::futex_wait_any(&words, deadline)
    }

    /// Wakes every sleeper.
    pub(crate) fn wake_all(&self) {
        crate::sys::futex_wake_all(&self.0);
    }
}

/// Wakes whoever watches the file of a segment, by an access to it. The kernel makes the descriptors
/// of all watchers readable.
#[cfg(not(any(loom, shmslot_sim)))]
pub(crate) struct Chime {
    /// A descriptor of the file, which its owner keeps open as long as this is used; -1: nobody can
    /// watch it.
    file: AtomicI32,
    /// Whether what this process does to the file may be told to nobody.
    is_left_to_others: AtomicBool,
}

#[cfg(not(any(loom, shmslot_sim)))]
impl Chime {
    /// Of the file that has this descriptor.
    pub(crate) fn of(file: i32) -> Chime {
        Chime { file: AtomicI32::new(file), is_left_to_others: AtomicBool::new(false) }
    }

    /// From now on a ring counts as one that told nobody, so that the next ringer makes up for it.
    pub(crate) fn leave_to_others(&self) {
        // Relaxed: no other thread of this process has the segment yet.
        self.is_left_to_others.store(true, Ordering::Relaxed);
    }

    /// Of a file that is known only now.
    pub(crate) fn set(&self, file: i32) {
        // Release: pairs with `ring`. Whoever sees a bell armed by a process that watches this file
        // sees the file, because it was set before.
        self.file.store(file, Ordering::Release);
    }

    /// False if those who watch could not be told.
    pub(crate) fn ring(&self) -> bool {
        let file = self.file.load(Ordering::Acquire);
        file < 0 || crate::sys::touch(file) && !self.is_left_to_others.load(Ordering::Relaxed)
    }
}
