//! Hints to the processor's caches, and copies that bypass them. None of it changes the meaning of
//! a program.
#![allow(unsafe_code)] // The language has no words for these instructions.

/// Copies with stores that bypass the caches, where the processor has such stores.
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
        // SAFETY: head, steps and tail are the caller's bytes, one after the other; each step
        // begins on a multiple of its size. Every x86-64 processor has these instructions.
        unsafe {
            to.copy_from_nonoverlapping(from, head);
            for step in 0..steps {
                let at = head + step * STEP;
                _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(from.add(at).cast()));
            }
            to.add(tail).copy_from_nonoverlapping(from.add(tail), len - tail);
            // Without this fence, such stores are not ordered before the store that publishes them.
            _mm_sfence();
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller guarantees both ranges.
    unsafe {
        to.copy_from_nonoverlapping(from, len);
    }
}

/// Prefetches the cache line of an address that will be read soon. A hint: it changes nothing.
#[inline(always)]
pub(crate) fn prefetch_read(address: *const u8) {
    // SAFETY: a prefetch never faults, whatever the address, and all processors of both kinds have
    // it.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "prefetcht0 [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// Prefetches the cache line of an address that will be written soon.
#[inline(always)]
pub(crate) fn prefetch_write(address: *mut u8) {
    // SAFETY: as above; x86-64 processors without `prefetchw` execute it as a no-op.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "prefetchw [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "prfm pstl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}
