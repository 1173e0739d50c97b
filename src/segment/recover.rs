//! Recovery: when to look for dead participants, and what to do for them.
#![forbid(unsafe_code)]

use std::sync::{MutexGuard, PoisonError};

use crate::atomics::Ordering;
use crate::error::{Code, Result};
use crate::protocol::{recovery, rows};
use crate::segment::attachment::Attachment;
use crate::segment::participants::Look;
use crate::sys;

/// How often waiting processes look for the dead, in nanoseconds, because they may be waiting for
/// one of them.
pub(crate) const SLICE: u64 = 200_000_000;

impl Attachment {
    /// Recovers dead participants, and returns how many there were.
    pub(crate) fn recover(&self) -> Result<u32> {
        // Before the lock: in a forked child, another thread may hold it for ever.
        self.table()?;
        // The guarded value is empty, so a panic cannot have corrupted it.
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::Whole)
    }

    /// The same after the kernel has told that a process closed the file.
    pub(crate) fn recover_closed(&self) -> Result<u32> {
        self.table()?;
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::AfterClose)
    }

    /// Whether anybody else is attached, or was and is not recovered.
    pub(crate) fn has_peers(&self) -> bool {
        self.participants().count() > 1
    }

    /// Recovers some of them.
    pub(super) fn recover_some(&self) -> Result<u32> {
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::Bounded)
    }

    /// Recovers in a thread that excludes the others of this process.
    fn recover_alone(&self, _alone: &MutexGuard<'_, ()>, look: Look) -> Result<u32> {
        // Hot calls and waits call this, too.
        let _whole = sys::Uncancelled::new();
        let table = self.table()?;
        let asked = &table.hot.lifecycle.0.asked;
        let claimed = self.participants().claim_dead(look, asked, rows::participants(table))?;
        if claimed.dead.count() == 0 {
            return Ok(0);
        }
        // Before the sweep counts them: a process that learns of a death from the count finds the
        // record.
        claimed.record(|participant| rows::rows_of(table, participant))?;
        recovery::sweep(table, &claimed.dead)?;
        claimed.free_rows()?;
        // After the rows, because a reader that waits for the end of all writers checks them.
        recovery::announce(table);
        Ok(claimed.dead.count())
    }

    /// For calls that would otherwise fail or sleep; true if it is worth trying again. A look makes
    /// system calls, so it is made at most once per millisecond, and takes at most a sixteenth of
    /// the time.
    pub(crate) fn recover_if_due(&self) -> std::result::Result<bool, Code> {
        let began = sys::monotonic_ns();
        if began < self.next_look.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // Another thread is recovering; a call that does not wait must not wait for that either.
        let Ok(alone) = self.recovering.try_lock() else { return Ok(false) };
        let recovered = match self.recover_alone(&alone, Look::Bounded) {
            // Nobody can be found dead any more, and a call that waits for that would wait in vain.
            // The next look is due at once, so that each call says so.
            Err(error) if error.code() == Code::DescriptorLost => return Err(Code::DescriptorLost),
            // The caller did not ask for recovery, so its other errors are not reported.
            recovered => recovered.unwrap_or(0),
        };
        let now = sys::monotonic_ns();
        let pause = (now - began).saturating_mul(16).max(1_000_000);
        // Relaxed: an estimate of time; two threads that look at once do no harm.
        self.next_look.store(now.saturating_add(pause), Ordering::Relaxed);
        Ok(recovered > 0)
    }

    /// For waiting processes: of all of them one looks, once in [`SLICE`].
    pub(crate) fn recover_each_slice(&self) -> std::result::Result<(), Code> {
        let now = sys::monotonic_ns();
        let looked = &self.mapped.table().hot.lifecycle.0.looked;
        // Relaxed: an estimate of time. Whatever the value, a look is due again when it is not from
        // the last slice.
        let last = looked.load(Ordering::Relaxed);
        if now.wrapping_sub(last) >= SLICE
            && looked.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.recover_if_due().inspect_err(|_| {
                // Others can look, and this slice is theirs.
                let _ = looked.compare_exchange(now, last, Ordering::Relaxed, Ordering::Relaxed);
            })?;
        }
        Ok(())
    }
}
