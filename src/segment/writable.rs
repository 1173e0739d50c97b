//! An attachment with a writer open, and whether any process has one.
#![forbid(unsafe_code)]

use std::ops::Deref;
use std::sync::{Arc, PoisonError};

use crate::atomics::{Ordering, fence};
use crate::error::{Code, Error, Result};
use crate::protocol::bounds::RACE_LIMIT;
use crate::segment::attachment::Attachment;

/// An attachment with a writer open, until this is dropped. While it exists, the process may write
/// to payloads.
pub(crate) struct Writable {
    segment: Arc<Attachment>,
    number: u32,
}

impl Writable {
    pub(crate) fn open(segment: Arc<Attachment>) -> Result<Writable> {
        let number = segment.add_writer()?;
        Ok(Writable { segment, number })
    }

    /// Its number among the writers of its participant.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Deref for Writable {
    type Target = Arc<Attachment>;

    #[inline(always)]
    fn deref(&self) -> &Arc<Attachment> {
        &self.segment
    }
}

impl Drop for Writable {
    /// A forked child does not touch its parent's writers.
    fn drop(&mut self) {
        if self.segment.table().is_ok() {
            self.segment.remove_writer(self.number);
        }
    }
}

impl Attachment {
    /// Whether any process has a writer open.
    pub(crate) fn any_writers(&self) -> bool {
        let opened = &self.mapped.table().hot.lifecycle.0.opened;
        for _ in 0..RACE_LIMIT {
            // Acquire: pairs with `add_writer`; a process that sees a count sees the writers that
            // it counts.
            let before = opened.load(Ordering::Acquire);
            if self.mapped.rows().any_writers() {
                return true;
            }
            // A writer may have been opened in a row that was already passed, and only then the
            // last one in a later row closed. A process that sees that one closed sees the other
            // counted.
            if opened.load(Ordering::Acquire) == before {
                return false;
            }
        }
        // A writer was opened during each of these looks.
        true
    }

    /// Gives a new writer its number, and the process write access to payloads.
    fn add_writer(&self) -> Result<u32> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if !writers.payload_writable {
            self.protect_payload(true)?;
            writers.payload_writable = true;
        }
        let number = writers.take().ok_or_else(|| {
            Error::new(Code::NoMemory)
                .about("4096 writers of this attachment are open")
                .advice("close some")
        })?;
        self.participants().set_writers(writers.count())?;
        // Release: pairs with `any_writers`.
        self.mapped.table().hot.lifecycle.0.opened.fetch_add(1, Ordering::Release);
        Ok(number)
    }

    fn remove_writer(&self, number: u32) {
        self.forget_writer(number);
        // Readers may wait for the end of all writers. Pairs with the fence in `Bell::announce`.
        fence(Ordering::SeqCst);
        self.mapped.table().data_bell().ring();
    }

    fn forget_writer(&self, number: u32) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.free(number);
        // It cannot fail: the writer was opened, so this process has a row.
        let _ = self.participants().set_writers(writers.count());
    }
}
