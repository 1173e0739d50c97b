//! The file of an attachment as what others watch: an access to it wakes them.
#![forbid(unsafe_code)]

use std::sync::{MutexGuard, PoisonError};

use crate::atomics::Ordering;
use crate::error::Result;
use crate::segment::attachment::Attachment;
use crate::sys::{self, FileWatch, KeptFd};

impl Attachment {
    /// Adds the file of the segment to a watch, and returns its number there.
    ///
    /// A local segment has no file until somebody waits for one: then it gets one of a single byte,
    /// which only this process knows.
    pub(crate) fn watch_file(&self, watch: &FileWatch) -> Result<i32> {
        if let Some(file) = self.fd()? {
            return watch.add(file);
        }
        let mut own = self.own_file();
        let file = match own.take() {
            Some(file) => file,
            None => {
                let made = sys::anonymous_file(c"shmslot-events")?.opened_again()?;
                // One byte to read, because a read that gets nothing is not told.
                sys::set_size(&made.fd, 0, 1)?;
                KeptFd::known(made.fd, made.identity, "of the events of a local segment")
            }
        };
        self.mapped.chime().set(file.number());
        let added = file.proved().and_then(|file| watch.add(file));
        *own = Some(file);
        added
    }

    fn own_file(&self) -> MutexGuard<'_, Option<KeptFd>> {
        // The value is whole at every moment, so a panic cannot have corrupted it.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who watches the file, as a ring does.
    pub(crate) fn chime(&self) {
        // A descriptor that was lost is told by the calls that need it.
        let _ = self.mapped.chime().ring();
    }

    /// For a process whose accesses to the file may be told to nobody.
    pub(super) fn leave_chimes_to_others(&self) {
        self.mapped.chime().leave_to_others();
    }

    /// Makes the next [`lost_its_name`](Attachment::lost_its_name) look, because the kernel has
    /// told that something about the file has changed.
    pub(crate) fn look_at_name_soon(&self) {
        // A count is earlier than every moment of the clock, and no two are the same: a look that
        // began before this does not replace it. Relaxed: the count alone matters.
        let count = self.name_changes.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.next_name_look.store(count, Ordering::Relaxed);
    }

    /// A close was told, and whether its process is dead could not be found out.
    pub(crate) fn keep_close_pending(&self) {
        // Relaxed: the flag alone matters.
        self.close_pending.store(true, Ordering::Relaxed);
    }

    /// Whether there is such a close; the caller finds out.
    pub(crate) fn has_close_pending(&self) -> bool {
        // Relaxed: as above.
        self.close_pending.swap(false, Ordering::Relaxed)
    }
}
