//! Hints to the processor's caches, and copies that go past them. None of it changes what a program means.
#![allow(unsafe_code)] // Instructions that the language has no word for.

/// Copies with stores that do not go through the caches, where the processor has such.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`, and the two do not overlap.
pub(crate) unsafe fn copy_nontemporal(to: *mut u8, from: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        const STEP: usize = size_of::<__m128i>();
        let head = to.align_offset(STEP).min(len);
        let steps = (len - head) / STEP;
        let tail = head + steps * STEP;
        // SAFETY: head, steps and tail are the bytes that the caller vouches for, one behind the other; the steps begin on
        // a border of their size. Every x86-64 processor has these instructions.
        unsafe {
            to.copy_from_nonoverlapping(from, head);
            for step in 0..steps {
                let at = head + step * STEP;
                _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(from.add(at).cast()));
            }
            to.add(tail).copy_from_nonoverlapping(from.add(tail), len - tail);
            // Such stores are not ordered with the store that publishes them, unless they are told to be.
            _mm_sfence();
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller vouches for both.
    unsafe {
        to.copy_from_nonoverlapping(from, len);
    }
}

/// Asks for the cache line of an address, which will be read soon. A hint: it changes nothing.
#[inline(always)]
pub(crate) fn prefetch_read(address: *const u8) {
    // SAFETY: a prefetch never faults, wherever it points, and both processors have had it from their beginning.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// The same for an address that will be written soon.
#[inline(always)]
pub(crate) fn prefetch_write(address: *mut u8) {
    // SAFETY: as above; x86-64 processors that do not know `prefetchw` take it for one that does nothing.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}
