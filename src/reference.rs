//! The reference slot model, for middleware that keeps the books of readers itself.
//!
//! Readers are numbers that the caller gives out, from 0. A slot is reserved against a mask of active readers; it
//! counts as free when none of those has it unread. Protection of what a reader looks at is its unread bit, which
//! stays until it is marked, so these operations exist on segments without drop-oldest only.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::attachment::{Bytes, copy_out};
use crate::error::{Code, Error, Result};
use crate::layout::MAX_READERS;
use crate::protocol::order::{self, FIRST, Owed, Position};
use crate::protocol::words::{Audience, Bit, Ctl, Entry, Extent, Marks, Place, Reserved};
use crate::protocol::{hold, loan, members};
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
        let allowed = u64::MAX >> (64 - self.segment.inner().geometry().max_readers);
        if active_readers & !allowed != 0 {
            return Err(Code::BadIndex.into());
        }
        let owner = self.writer.owner();
        // Members, and readers that have left with samples in hand.
        let rows = members::taken_rows(table);
        let waited_for = Audience::of_readers(active_readers | rows, true);
        let found = match loan::reserve_home(table, owner)? {
            Some(loan) => Some(loan),
            None => match loan::reserve_vacant(table, owner)? {
                Some(loan) => Some(loan),
                None => loan::reserve_unneeded(table, owner, waited_for)?,
            },
        };
        let loan = found.ok_or(Code::NoFreeSlot)?;
        self.segment.inner().note_named(active_readers);
        let reserved = Reserved::new(table.shape.capacity, Place::Slot(loan.slot));
        // Nobody looks at the extent of a loaned slot, so the mask waits there for the commit.
        table.line(loan.slot)?.extent.store(active_readers, Ordering::Relaxed);
        table.claim(loan.slot)?.aux.store(reserved.0, Ordering::Relaxed);
        Ok(self.reference_of(loan.slot, loan.generation))
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
        let bit = self.bit_of(reader)?;
        let table = self.segment.inner().table()?;
        let cursor = self.cursors.get(reader as usize).ok_or(Code::BadIndex)?;
        let tail = order::settled_tail(table)?;
        let oldest = tail.saturating_sub(2 * u64::from(table.shape.slots)).max(FIRST);
        // It only ever grows past samples that are not owed to this reader, and those never become owed to it.
        let start = cursor.load(Ordering::Relaxed).max(oldest);
        let mut place = Position::of(&table.shape, start);
        while place.sequence < tail {
            if let Some(reference) = self.unread_at(place, bit)? {
                cursor.store(place.sequence, Ordering::Relaxed);
                return Ok(Some(reference));
            }
            place = place.next(&table.shape);
        }
        cursor.store(place.sequence, Ordering::Relaxed);
        Ok(None)
    }

    fn unread_at(&self, place: Position, bit: Bit) -> Result<Option<Ref>> {
        let table = self.segment.inner().table()?;
        let entry: Entry = place.look(table)?;
        if !entry.compare(place.sequence).is_eq() {
            return Ok(None);
        }
        // Before the marks: unread after this, the slot was in this life.
        let ctl = Ctl(table.claim(entry.slot())?.ctl.load(Ordering::Acquire));
        let marks = table.line(entry.slot())?.marks.get(bit.word).ok_or(Code::Corrupt)?;
        let seen = Marks(marks.load(Ordering::Acquire));
        if !seen.is_of(place.sequence) || seen.0 & bit.owed == 0 {
            return Ok(None);
        }
        Ok(Some(self.reference_of(entry.slot(), ctl.generation())))
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
        fence(Ordering::Acquire);
        self.check_published(reference)?;
        Ok(header)
    }

    /// What is known of a published slot.
    pub fn header(&self, reference: Ref) -> Result<RefHeader> {
        Ok(self.look(reference)?.1)
    }

    /// Where a published payload is, and what is known of it.
    fn look(&self, reference: Ref) -> Result<(Place, RefHeader)> {
        self.check_published(reference)?;
        let inner = self.segment.inner();
        let table = inner.table()?;
        let line = table.line(reference.slot)?;
        let extent = Extent(line.extent.load(Ordering::Relaxed));
        let marks = line.marks.iter().take(table.shape.mark_words).enumerate();
        let unread =
            marks.fold(0, |all, (word, marks)| all | Marks(marks.load(Ordering::Acquire)).readers(word).0);
        let timestamp_ns = match inner.geometry().timestamps {
            true => table.claim(reference.slot)?.aux.load(Ordering::Relaxed),
            false => 0,
        };
        let header = RefHeader {
            sequence: line.sequence.load(Ordering::Relaxed),
            len: extent.len(),
            unread: Audience(unread).readers(),
            timestamp_ns,
        };
        // What was read above belongs together only if the slot is still in this life.
        fence(Ordering::Acquire);
        self.check_published(reference)?;
        let place = table.place(reference.slot, extent)?;
        Ok((place, header))
    }

    /// Marks a published slot as read by one reader; stale if it had marked it already.
    pub fn mark_read(&self, reference: Ref, reader: u32) -> Result<()> {
        let bit = self.bit_of(reader)?;
        let table = self.segment.inner().table()?;
        let line = table.line(reference.slot).map_err(|_| Code::Stale)?;
        let sequence = line.sequence.load(Ordering::Relaxed);
        // The sequence is that of this life only if the slot is still in it.
        fence(Ordering::Acquire);
        self.check_published(reference)?;
        Ok(hold::mark(table, reference.slot, bit.word, bit.owed, sequence)?)
    }

    /// Marks everything as read by one reader.
    pub fn mark_reader_disconnected(&self, reader: u32) -> Result<()> {
        let bit = self.bit_of(reader)?;
        members::disconnect(self.segment.inner().table()?, bit);
        Ok(())
    }

    fn reference_of(&self, slot: u32, generation: u64) -> Ref {
        Ref { segment_id: self.segment.inner().geometry().segment_id, slot, generation }
    }

    fn loan(&self, reference: Ref) -> Result<Token> {
        let token = Token::new(reference.slot, reference.generation);
        let ours = reference.segment_id == self.segment.inner().geometry().segment_id;
        if !ours || !self.writer.has_loan(token)? {
            return Err(Code::Stale.into());
        }
        Ok(token)
    }

    fn check_published(&self, reference: Ref) -> Result<()> {
        let inner = self.segment.inner();
        let ours = reference.segment_id == inner.geometry().segment_id;
        if !ours || !loan::is_published(inner.table()?, reference.slot, reference.generation) {
            return Err(Code::Stale.into());
        }
        Ok(())
    }

    /// The bit of a reader that the caller numbers, which no joined reader has.
    fn bit_of(&self, reader: u32) -> Result<Bit> {
        let inner = self.segment.inner();
        let rows = members::taken_rows(inner.table()?);
        if reader >= inner.geometry().max_readers || rows >> reader & 1 != 0 {
            return Err(Code::BadIndex.into());
        }
        Ok(Bit::of_reader(reader))
    }
}
