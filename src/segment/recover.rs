//! Cleaning up after the dead, and when to look for them.
#![forbid(unsafe_code)]

use std::sync::{MutexGuard, PoisonError};

use crate::atomics::Ordering;
use crate::error::{Code, Result};
use crate::protocol::{recovery, rows};
use crate::segment::attachment::Attachment;
use crate::segment::participants::Look;
use crate::sys;

/// How often those who wait look for the dead, in nanoseconds: they may be waiting for one of them.
pub(crate) const SLICE: u64 = 200_000_000;

impl Attachment {
    /// Cleans up after participants that are dead; how many they were.
    pub(crate) fn recover(&self) -> Result<u32> {
        // Before the lock: in a forked child, another thread may have it for ever.
        self.table()?;
        // The guarded value is empty: a panic cannot have spoiled it.
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::Whole)
    }

    /// The same after some of them.
    pub(super) fn recover_some(&self) -> Result<u32> {
        let alone = self.recovering.lock().unwrap_or_else(PoisonError::into_inner);
        self.recover_alone(&alone, Look::Bounded)
    }

    /// The same in a thread that keeps others of this process from it.
    fn recover_alone(&self, _alone: &MutexGuard<'_, ()>, look: Look) -> Result<u32> {
        // Hot calls and waits come here, too.
        let _whole = sys::Uncancelled::new();
        let table = self.table()?;
        let asked = &table.hot.lifecycle.0.asked;
        let claimed = self.participants.claim_dead(look, asked, rows::participants(table))?;
        if claimed.dead.count() == 0 {
            return Ok(0);
        }
        // Before the sweep counts them: whoever learns of a death from the count finds who it was.
        claimed.record(|participant| rows::rows_of(table, participant));
        recovery::sweep(table, &claimed.dead)?;
        claimed.free_rows();
        // After the rows: a reader that waits for the end of all writers looks at them.
        recovery::announce(table);
        Ok(claimed.dead.count())
    }

    /// The same for calls that find no way on and would rather look for the dead than fail or sleep; true if it
    /// is worth to try again. Looking takes system calls, so it is done once a millisecond at most, and at most a
    /// sixteenth of the time goes into it.
    pub(crate) fn recover_if_due(&self) -> std::result::Result<bool, Code> {
        let began = sys::monotonic_ns();
        if began < self.next_look.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // Another thread is at it: who does not want to wait does not wait for that either.
        let Ok(alone) = self.recovering.try_lock() else { return Ok(false) };
        let recovered = match self.recover_alone(&alone, Look::Bounded) {
            // Nobody can be found dead any more: whoever waits for that would wait in vain. It is due again at once, so that
            // each call says so.
            Err(error) if error.code() == Code::DescriptorLost => return Err(Code::DescriptorLost),
            // Whatever else goes wrong here is not what the caller asked for.
            recovered => recovered.unwrap_or(0),
        };
        let now = sys::monotonic_ns();
        let pause = (now - began).saturating_mul(16).max(1_000_000);
        // Relaxed: a guess about time; two threads that look at once do no harm.
        self.next_look.store(now.saturating_add(pause), Ordering::Relaxed);
        Ok(recovered > 0)
    }

    /// The same for those who wait: of all that do, one looks, once in [`SLICE`].
    pub(crate) fn recover_each_slice(&self) -> std::result::Result<(), Code> {
        let now = sys::monotonic_ns();
        let looked = &self.table.hot.lifecycle.0.looked;
        // Relaxed: a guess about time. Whatever stands there, a look is due again when it is not from the last slice.
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
