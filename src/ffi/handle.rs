//! What every opaque handle has.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a caught panic made a handle unusable.
#[derive(Default)]
pub(crate) struct Health {
    poisoned: AtomicBool,
}

impl Health {
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }
}

/// A type that stands behind an opaque handle. Any thread may use it, so it is `Sync`, and calls
/// from several threads do not race on the handle itself.
///
/// They could race on a payload, when two threads copy into the same one. The header leaves that to
/// the caller:
/// - if both use the same loan. The caller passes the loan, and the payload is its alone until the
///   loan ends, so this is a race between two uses of memory that the caller was given.
/// - if both were given the same slot. On a segment with several writers a reserve claims its slot
///   by compare-exchange, so this cannot happen. On a single-writer segment it stores plainly, and
///   the header allows one thread at a time (`shmslot_writer`, `shmslot_ref_reserve`).
///
/// Rust callers cannot be told, so there the types rule it out: see [`Writer`](crate::Writer).
pub(crate) trait Handle: Send + Sync {
    fn health(&self) -> &Health;
}
