//! The reference slot model, for middleware that keeps the books of readers itself.
//!
//! Readers are numbers that the caller gives out, from 0. A slot is reserved against a mask of active readers; it
//! counts as free when none of those has it unread. Protection of what a reader looks at is its unread bit, which
//! stays until it is marked, so these operations exist on segments without drop-oldest only.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::attachment::{Bytes, copy_out};
use crate::error::{Code, Error, Result};
use crate::layout::MAX_READERS;
use crate::protocol::order::{FIRST, Owed};
use crate::protocol::reference::{self, Known, Life};
use crate::protocol::words::{Place, Reserved};
use crate::segment::Segment;
use crate::writer::{Token, Writer};

/// A slot in one of its lives: reserved, or published. Stale as soon as that life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ref {
    pub(crate) segment_id: u64,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// What is known of a published slot beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefHeader {
    /// Its place in the order of all samples; the first is 1.
    pub sequence: u64,
    /// Length of the payload in bytes.
    pub len: u64,
    /// The readers that have not marked it, reader i as bit i.
    pub unread: u64,
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    pub timestamp_ns: u64,
}

/// The reference operations on one segment. One thread at a time, like the writer that it contains.
pub struct Reference {
    writer: Writer,
    segment: Segment,
    /// Where each reader's oldest unread sample may be.
    cursors: [AtomicU64; MAX_READERS as usize],
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl Segment {
    /// The reference operations. On a single-writer segment this is its writer.
    pub fn reference(&self) -> Result<Reference> {
        if self.inner().shape().drop_oldest {
            return Err(Error::about(Code::NotSupported, "drop-oldest takes samples that a reader looks at"));
        }
        Ok(Reference {
            writer: self.writer()?,
            segment: self.clone(),
            cursors: [const { AtomicU64::new(FIRST) }; MAX_READERS as usize],
        })
    }
}

impl Reference {
    /// Reserves a slot that no reader of `active_readers` has unread.
    pub fn reserve(&self, active_readers: u64) -> Result<Ref> {
        let table = self.segment.inner().table()?;
        let found = reference::reserve(table, self.writer.owner(), active_readers)?;
        let loan = found.ok_or(Code::NoFreeSlot)?;
        self.segment.inner().note_named(active_readers);
        let reserved = Reserved::new(table.shape.capacity, Place::Slot(loan.slot));
        // Nobody looks at the extent of a loaned slot, so the mask waits there for the commit.
        table.line(loan.slot)?.extent.store(active_readers, Ordering::Relaxed);
        table.claim(loan.slot)?.aux.store(reserved.0, Ordering::Relaxed);
        Ok(self.reference_of(Life { slot: loan.slot, generation: loan.generation }))
    }

    /// The payload of a reserved slot, and how much it takes.
    pub fn data_ptr(&self, reference: Ref) -> Result<(*mut u8, usize)> {
        let token = self.loan(reference)?;
        let capacity = self.segment.inner().shape().capacity;
        Ok((self.segment.inner().payload(Place::Slot(token.slot())), capacity as usize))
    }

    /// Copies `bytes` into a reserved slot and publishes it; its sequence.
    pub fn commit_copy(&self, reference: Ref, bytes: &[u8]) -> Result<u64> {
        self.commit_from(reference, bytes.into())
    }

    pub(crate) fn commit_from(&self, reference: Ref, bytes: Bytes<'_>) -> Result<u64> {
        let token = self.loan(reference)?;
        if !self.segment.inner().fill(Place::Slot(token.slot()), bytes) {
            return Err(Code::TooLarge.into());
        }
        self.commit_in_place(reference, bytes.len())
    }

    /// Publishes the first `len` bytes of a reserved slot; its sequence.
    pub fn commit_in_place(&self, reference: Ref, len: usize) -> Result<u64> {
        let token = self.loan(reference)?;
        let table = self.segment.inner().table()?;
        let allowed = u64::MAX >> (64 - self.segment.inner().geometry().max_readers);
        let readers = table.line(token.slot())?.extent.load(Ordering::Relaxed) & allowed;
        Ok(self.writer.commit_to(token, len as u64, Owed::Named(readers))?)
    }

    /// Gives a reserved slot back.
    pub fn discard(&self, reference: Ref) -> Result<()> {
        let token = self.loan(reference)?;
        Ok(self.writer.discard_token(token)?)
    }

    /// The oldest sample that a reader has not marked; `None` if there is none. It stays the answer until it is
    /// marked.
    pub fn next_unread(&self, reader: u32) -> Result<Option<Ref>> {
        let table = self.segment.inner().table()?;
        let bit = reference::bit_of(table, reader)?;
        let word = self.cursors.get(reader as usize).ok_or(Code::BadIndex)?;
        let mut cursor = word.load(Ordering::Relaxed);
        let found = reference::next_unread(table, bit, &mut cursor)?;
        // Relaxed: two threads that look for one reader go back a little at worst.
        word.store(cursor, Ordering::Relaxed);
        Ok(found.map(|life| self.reference_of(life)))
    }

    /// The sample that is published in a slot, unread or read by all; `None` if there is none.
    pub fn published(&self, slot: u32) -> Result<Option<Ref>> {
        let life = reference::published_in(self.segment.inner().table()?, slot)?;
        Ok(life.map(|life| self.reference_of(life)))
    }

    /// The payload of a published slot, and its length. It stays valid while some active reader has not marked it.
    pub fn read_ptr(&self, reference: Ref) -> Result<(*const u8, usize)> {
        let (place, header) = self.look(reference)?;
        Ok((self.segment.inner().payload(place), header.len as usize))
    }

    /// Copies a published slot into `buffer`, which must be large enough; what is known of it.
    pub fn read_copy(&self, reference: Ref, buffer: &mut [u8]) -> Result<RefHeader> {
        let (place, header) = self.look(reference)?;
        let target = buffer.get_mut(..header.len as usize).ok_or(Code::TooLarge)?;
        copy_out(self.segment.inner().payload(place), target);
        // What was copied is one sample only if the slot is still in this life.
        reference::check_still(self.segment.inner().table()?, self.life(reference)?)?;
        Ok(header)
    }

    /// What is known of a published slot.
    pub fn header(&self, reference: Ref) -> Result<RefHeader> {
        Ok(self.look(reference)?.1)
    }

    /// Where a published payload is, and what is known of it.
    fn look(&self, reference: Ref) -> Result<(Place, RefHeader)> {
        let inner = self.segment.inner();
        let table = inner.table()?;
        let Known { sequence, extent, unread, aux } = reference::look(table, self.life(reference)?)?;
        let place = table.place(reference.slot, extent)?;
        let timestamp_ns = if inner.geometry().timestamps { aux } else { 0 };
        Ok((place, RefHeader { sequence, len: extent.len(), unread, timestamp_ns }))
    }

    /// Marks a published slot as read by one reader; stale if it had marked it already.
    pub fn mark_read(&self, reference: Ref, reader: u32) -> Result<()> {
        let table = self.segment.inner().table()?;
        let bit = reference::bit_of(table, reader)?;
        Ok(reference::mark_read(table, self.life(reference)?, bit)?)
    }

    /// Marks everything as read by one reader, which is gone. Its index is free for a reader that joins, until it is
    /// used again.
    pub fn mark_reader_disconnected(&self, reader: u32) -> Result<()> {
        Ok(reference::disconnect(self.segment.inner().table()?, reader)?)
    }

    fn reference_of(&self, Life { slot, generation }: Life) -> Ref {
        Ref { segment_id: self.segment.inner().geometry().segment_id, slot, generation }
    }

    /// The slot and the life that a reference of this segment names.
    fn life(&self, Ref { segment_id, slot, generation }: Ref) -> Result<Life> {
        if segment_id != self.segment.inner().geometry().segment_id {
            return Err(Code::Stale.into());
        }
        Ok(Life { slot, generation })
    }

    fn loan(&self, reference: Ref) -> Result<Token> {
        let Life { slot, generation } = self.life(reference)?;
        let token = Token::new(slot, generation);
        if !self.writer.has_loan(token)? {
            return Err(Code::Stale.into());
        }
        Ok(token)
    }
}
