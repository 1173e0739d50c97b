//! The name of an attachment: whether it still leads to the segment, and when it is removed with
//! it.
#![forbid(unsafe_code)]

use crate::atomics::Ordering;
use crate::error::{Code, Error, Result};
use crate::layout::RETIRED;
use crate::segment::attachment::Attachment;
use crate::segment::name;
use crate::segment::recover::SLICE;
use crate::sys;

impl Attachment {
    /// Whether a call of this library has recorded that the segment has lost its name.
    pub(crate) fn is_retired(&self) -> bool {
        // Acquire: pairs with the store in `name::retire`.
        self.mapped.table().hot.lifecycle.0.retired.load(Ordering::Acquire) == RETIRED
    }

    /// Whether the name through which this process attached still leads to the segment.
    pub(crate) fn is_named(&self) -> Result<bool> {
        let table = self.table()?;
        let (Some(path), Some(kept)) = (&self.path, self.membership.fd()) else {
            return Err(Error::new(Code::NotSupported).about("the segment has no name"));
        };
        // By its identity at the attach: the mapping keeps the inode from being reused for another
        // file.
        if name::leads_to(path, kept.identity())? {
            return Ok(true);
        }
        // It may have moved to where this process cannot see it; then only this process knows.
        if !self.is_retired()
            && self.own_row().is_ok()
            && kept.proved().is_ok_and(name::has_lost_all_names)
        {
            name::retire(table.hot, table.chime);
        }
        Ok(false)
    }

    /// As [`is_named`](Attachment::is_named) for waits, which must not check the file system each
    /// time.
    pub(crate) fn lost_its_name(&self) -> bool {
        if self.is_retired() {
            return true;
        }
        let now = sys::monotonic_ns();
        // Relaxed: a guess about time; two threads that look at once do no harm.
        let due = self.next_name_look.load(Ordering::Relaxed);
        if self.path.is_none() || now < due {
            return false;
        }
        // Waits come here, too.
        let _whole = sys::Uncancelled::new();
        // A path that cannot be checked proves nothing.
        let lost = matches!(self.is_named(), Ok(false));
        if !lost {
            // Not if another look became due meanwhile, because the name was lost after this one.
            let next = now.saturating_add(SLICE);
            let _ = self.next_name_look.compare_exchange(
                due,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        lost
    }

    /// Removes the name of an ephemeral segment if this was its last participant, which has given
    /// its row back.
    pub(super) fn give_up_name(&self) {
        if let (Some(path), Ok(Some(fd))) = (&self.path, self.fd()) {
            // Closing cannot fail. If the name stays, the next process that uses it removes it.
            let _ = name::take_if_dead(path, fd, self.geometry.max_participants);
        }
    }
}
