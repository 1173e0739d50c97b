//! The reference operations, for middleware that tracks its readers itself.
//!
//! Readers are numbers that the caller assigns, from 0. A slot is reserved for a mask of active
//! readers, and counts as free when none of them is owed its sample. The unread bit of a reader
//! protects its sample until the reader marks it, so these operations exist only on segments
//! without drop-oldest.
#![deny(unsafe_code)] // Declares unsafe functions; there is no unsafe block.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{Code, Error, HotResult, Result};
use crate::layout::MAX_READERS;
use crate::protocol::order::FIRST;
use crate::protocol::reference::{self, Known, Life};
use crate::protocol::rows;
use crate::protocol::table::Table;
use crate::protocol::words::Token;
use crate::protocol::words::{Bit, Loan, Place, Reserved, Wanted};
use crate::segment::Segment;
use crate::segment::payload::Bytes;
use crate::writer::{AnyThread, Core, OneThread, user_header_too_large};

/// A slot in one of its generations: reserved, or published. It is stale as soon as that generation
/// is over.
///
/// It consists of two numbers, which may be stored anywhere and sent to another process:
/// [`Ref::segment_id`] and [`Ref::token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ref {
    segment_id: u64,
    token: Token,
}

impl Ref {
    /// The reference with these numbers; stale if no slot in any generation has this token.
    #[inline(always)]
    pub fn new(segment_id: u64, token: u64) -> Result<Ref> {
        Ok(Ref::of_numbers(segment_id, token)?)
    }

    /// The same with a bare code, as all that frequent calls of C use.
    #[inline(always)]
    pub(crate) fn of_numbers(segment_id: u64, token: u64) -> HotResult<Ref> {
        Ok(Ref { segment_id, token: Token::from_number(token)? })
    }

    /// The segment that it belongs to.
    pub fn segment_id(self) -> u64 {
        self.segment_id
    }

    /// Its slot.
    pub fn slot(self) -> u32 {
        self.token.slot()
    }

    /// Its slot and generation: the number that C uses.
    pub fn token(self) -> u64 {
        self.token.number()
    }
}

/// What is known about a published slot besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefHeader {
    /// Its place in the order of all samples; the first is 1.
    pub sequence: u64,
    /// Length of the payload in bytes.
    pub len: u64,
    /// The readers that have not marked it, reader i as bit i.
    pub unread: u64,
    /// The readers that it was committed for, which its reserve named. None if it was not made by a
    /// reserve of this kind.
    pub audience: u64,
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    pub timestamp_ns: u64,
}

/// The reference operations on one segment.
///
/// A plain `Reference` may move to another thread, and is used by one thread at a time. A
/// [`SharedReference`] is `Sync`: any number of threads may use it at once, as in C.
///
/// # Why two
///
/// A [`Ref`] may be copied, so two threads could give one loan to `commit_copy`, and both would
/// copy into its payload at once. With a plain `Reference` they cannot, so its
/// [`Reference::commit_copy`] and [`Reference::write_user_header`] are safe; with a shared one the
/// caller must prevent it. On a single-writer segment, a reserve claims its slot by a plain store,
/// and two threads could even get one slot, so such a segment has no shared one.
pub struct Reference<Threads = OneThread> {
    /// Opened by the first reserve: a process that only reads takes no writer's place, and does not
    /// count as one.
    writer: OnceLock<Core>,
    segment: Segment,
    /// Where each reader's oldest unread sample may be.
    cursors: [AtomicU64; MAX_READERS as usize],
    threads: PhantomData<Threads>,
}

/// The reference operations for any number of threads at once.
pub type SharedReference = Reference<AnyThread>;

// The fields are `Sync`, so the marker alone decides.
const _: () = {
    const fn is_sync<T: Sync>() {}
    is_sync::<SharedReference>();
};

impl<Threads> fmt::Debug for Reference<Threads> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl Segment {
    /// The reference operations, for one thread at a time. They become a writer of the segment with
    /// the first reserve; on a single-writer segment, the only one.
    pub fn reference(&self) -> Result<Reference> {
        Reference::new(self)
    }

    /// The reference operations for any number of threads at once. A single-writer segment has
    /// none: [`Code::NotSupported`].
    pub fn shared_reference(&self) -> Result<SharedReference> {
        self.check_shareable()?;
        Reference::new(self)
    }
}

impl Reference {
    /// Copies `bytes` to the start of the user header of a reserved slot.
    pub fn write_user_header(&self, reference: Ref, bytes: &[u8]) -> Result<()> {
        self.fill_user_header(reference, bytes)
    }

    /// Copies `bytes` into a reserved slot and publishes it; returns its sequence.
    pub fn commit_copy(&self, reference: Ref, bytes: &[u8]) -> Result<u64> {
        Ok(self.commit_from(reference, bytes.into())?)
    }
}

impl SharedReference {
    /// Copies `bytes` to the start of the user header of a reserved slot.
    ///
    /// # Safety
    /// No other thread uses this loan or its user header during the call.
    #[expect(unsafe_code, reason = "the caller rules out a race between two copies of one Ref")]
    pub unsafe fn write_user_header(&self, reference: Ref, bytes: &[u8]) -> Result<()> {
        self.fill_user_header(reference, bytes)
    }

    /// Copies `bytes` into a reserved slot and publishes it; returns its sequence.
    ///
    /// # Safety
    /// No other thread uses this loan or its payload during the call.
    #[expect(unsafe_code, reason = "the caller rules out a race between two copies of one Ref")]
    pub unsafe fn commit_copy(&self, reference: Ref, bytes: &[u8]) -> Result<u64> {
        Ok(self.commit_from(reference, bytes.into())?)
    }
}

impl<Threads> Reference<Threads> {
    /// For C, where the header says which threads may reserve.
    pub(crate) fn new(segment: &Segment) -> Result<Reference<Threads>> {
        if segment.inner().shape().drop_oldest {
            return Err(Error::new(Code::NotSupported)
                .about("the reference operations need a policy that does not drop samples")
                .advice("create the segment with SHMSLOT_POLICY_BLOCK or SHMSLOT_POLICY_FAIL"));
        }
        Ok(Reference {
            writer: OnceLock::new(),
            segment: segment.clone(),
            cursors: [const { AtomicU64::new(FIRST) }; MAX_READERS as usize],
            threads: PhantomData,
        })
    }

    /// Reserves a slot whose sample no reader of `active_readers` is owed.
    #[inline(always)]
    pub fn reserve(&self, active_readers: u64) -> Result<Ref> {
        let writer = self.become_writer()?;
        Ok(self.reference_to(self.reserve_by(writer, active_readers)?))
    }

    /// Frequent calls pass single numbers, which fit registers, and have short common paths; rare
    /// cases are out of line.
    #[inline(always)]
    pub(crate) fn reserve_token(&self, active: u64) -> HotResult<Token> {
        self.reserve_by(self.become_writer()?, active)
    }

    #[inline(always)]
    fn reserve_by(&self, writer: &Core, active: u64) -> HotResult<Token> {
        writer.count_loan()?;
        self.reserve_counted(writer, active).inspect_err(|_| writer.uncount_loan())
    }

    #[inline(always)]
    fn reserve_counted(&self, writer: &Core, active: u64) -> HotResult<Token> {
        let inner = self.segment.inner();
        let table = inner.table()?;
        self.name_all(table, active)?;
        let len = table.shape.capacity;
        let token = match writer.try_claim_free(table, len) {
            Some(token) => token,
            None => self.reserve_contended(table, writer, active)?,
        };
        // Relaxed: a process that reads it has seen that the slot was reserved, as for everything
        // of this generation.
        table.audience(token.slot())?.store(active, Ordering::Relaxed);
        Ok(token)
    }

    #[cold]
    fn reserve_contended(&self, table: &Table<'_>, writer: &Core, active: u64) -> HotResult<Token> {
        let attempt = || self.reserve_somewhere(table, writer, active, Wanted::AnySlot);
        let found = match attempt()? {
            // A dead process may have what is not free.
            None if self.segment.inner().recover_if_due()? => attempt()?,
            found => found,
        };
        let loan = found.ok_or(Code::NoFreeSlot)?;
        let reserved = Reserved::new(table.shape.capacity, Place::Slot(loan.slot));
        table.claim(loan.slot)?.aux.store(reserved.0, Ordering::Relaxed);
        Ok(Token::new(loan.slot, loan.generation))
    }

    /// Any slot that no active reader needs, or one whose sample has a region.
    fn reserve_somewhere(
        &self,
        table: &Table<'_>,
        writer: &Core,
        active: u64,
        wanted: Wanted,
    ) -> HotResult<Option<Loan>> {
        if wanted == Wanted::AnySlot {
            if let Some(loan) = writer.claim_free(table)? {
                return Ok(Some(loan));
            }
        }
        reference::claim_ignoring(table, writer.owner(), wanted, active)
    }

    /// Reserves room for up to `len` bytes: as [`Reference::reserve`] if they fit a slot; otherwise
    /// a slot and a region, which is free again when the slot is.
    pub fn reserve_large(&self, active_readers: u64, len: usize) -> Result<Ref> {
        if len as u64 <= self.segment.inner().shape().capacity {
            return self.reserve(active_readers);
        }
        let writer = self.become_writer()?;
        let table = self.segment.inner().table()?;
        self.name_all(table, active_readers)?;
        let slot = |wanted| self.reserve_somewhere(table, writer, active_readers, wanted);
        let token = writer.reserve_large(table, len as u64, Some(Duration::ZERO), slot).map_err(
            |error| match error.code() {
                code @ (Code::NoFreeSlot | Code::TooLarge) => writer.explain(code, len),
                _ => error,
            },
        )?;
        // Relaxed: as in `reserve_counted`.
        table.audience(token.slot())?.store(active_readers, Ordering::Relaxed);
        Ok(self.reference_to(token))
    }

    /// The payload of a reserved slot, and how many bytes were reserved.
    #[inline(always)]
    pub fn data_ptr(&self, reference: Ref) -> Result<(*mut u8, usize)> {
        Ok(self.data_inline(reference)?)
    }

    #[inline(always)]
    pub(crate) fn data_inline(&self, reference: Ref) -> HotResult<(*mut u8, usize)> {
        let (_, place, room) = self.loan(reference)?;
        Ok((self.segment.inner().payload(place), room as usize))
    }

    /// The user header of a reserved slot, and its size; null and 0 if the segment has none.
    pub fn data_user_header(&self, reference: Ref) -> Result<(*mut u8, usize)> {
        let (token, ..) = self.loan(reference)?;
        Ok(self.user_header(token.slot()))
    }

    fn fill_user_header(&self, reference: Ref, bytes: &[u8]) -> Result<()> {
        let (token, ..) = self.loan(reference)?;
        if self.opened()?.segment().fill_user_header(token.slot(), bytes.into()) {
            Ok(())
        } else {
            Err(user_header_too_large(
                bytes.len(),
                self.segment.inner().geometry().user_header_size,
            ))
        }
    }

    pub(crate) fn commit_from(&self, reference: Ref, bytes: Bytes<'_>) -> HotResult<u64> {
        let (token, place, room) = self.loan(reference)?;
        if bytes.len() as u64 > room {
            return Err(Code::TooLarge);
        }
        // It fits, because it is not longer than what was reserved.
        self.opened()?.segment().fill(place, bytes);
        self.commit_token(token, bytes.len())
    }

    /// Publishes the first `len` bytes of a reserved slot; returns its sequence.
    #[inline(always)]
    pub fn commit_in_place(&self, reference: Ref, len: usize) -> Result<u64> {
        Ok(self.commit_token(self.token(reference)?, len)?)
    }

    #[inline(never)]
    fn commit_token(&self, token: Token, len: usize) -> HotResult<u64> {
        self.commit_inline(token, len)
    }

    /// Out of line for callers in Rust, so that it is not compiled into each of them. A function of
    /// C inlines the body, because it would feel one more call; so do the look and the mark.
    #[inline(always)]
    pub(crate) fn commit_inline(&self, token: Token, len: usize) -> HotResult<u64> {
        let inner = self.segment.inner();
        let table = inner.table()?;
        let allowed = u64::MAX >> (64 - inner.geometry().max_readers);
        // The mask of its reserve if it is a loan, which the commit checks.
        let audience = table.audience(token.slot()).map_err(|_| Code::Stale)?;
        let readers = audience.load(Ordering::Relaxed) & allowed;
        self.opened()?.commit_named(token, len as u64, readers)
    }

    /// Gives a reserved slot back.
    pub fn discard(&self, reference: Ref) -> Result<()> {
        Ok(self.opened()?.discard_token(self.token(reference)?)?)
    }

    /// The oldest sample that a reader has not marked; `None` if there is none. The call returns it
    /// until it is marked.
    #[inline(always)]
    pub fn next_unread(&self, reader: u32) -> Result<Option<Ref>> {
        match self.unread(reader) {
            Ok(token) => Ok(Some(self.reference_to(token))),
            Err(Code::Again) => Ok(None),
            Err(code) => Err(code.into()),
        }
    }

    /// As above, with `Again` if there is none.
    #[inline(never)]
    fn unread(&self, reader: u32) -> HotResult<Token> {
        self.unread_inline(reader)
    }

    #[inline(always)]
    pub(crate) fn unread_inline(&self, reader: u32) -> HotResult<Token> {
        let table = self.segment.inner().table()?;
        let bit = self.bit_of(table, reader)?;
        let word = self.cursors.get(reader as usize).ok_or(Code::BadIndex)?;
        let mut cursor = word.load(Ordering::Relaxed);
        let found = reference::next_unread(table, bit, &mut cursor)?;
        // Relaxed: two threads that look for one reader repeat a few steps at worst.
        word.store(cursor, Ordering::Relaxed);
        found.map(|Life { slot, generation }| Token::new(slot, generation)).ok_or(Code::Again)
    }

    /// The sample that is published in a slot, whoever it is for, unread or read by all; `None` if
    /// there is none. It stays until the slot is reserved again, which is possible as soon as the
    /// readers that a reserve names have marked it. If all have, a payload in a region may be gone
    /// earlier: then the slot still has the sample, and reading it is stale.
    pub fn published(&self, slot: u32) -> Result<Option<Ref>> {
        let life = reference::published_in(self.segment.inner().table()?, slot)?;
        Ok(life.map(|Life { slot, generation }| self.reference_to(Token::new(slot, generation))))
    }

    /// The payload of a published slot, and its length. It stays valid while some active reader has
    /// not marked it.
    #[inline(always)]
    pub fn read_ptr(&self, reference: Ref) -> Result<(*const u8, usize)> {
        Ok(self.read_inline(reference)?)
    }

    #[inline(always)]
    pub(crate) fn read_inline(&self, reference: Ref) -> HotResult<(*const u8, usize)> {
        let inner = self.segment.inner();
        let table = inner.table()?;
        let life = self.life(reference)?;
        let extent = reference::extent(table, life)?;
        Ok((inner.payload(table.place(life.slot, extent)?), extent.len() as usize))
    }

    /// The user header of a published slot, and its size; null and 0 if the segment has none. It
    /// stays valid as the payload does.
    pub fn read_user_header(&self, reference: Ref) -> Result<(*const u8, usize)> {
        reference::check(self.segment.inner().table()?, self.life(reference)?)?;
        let (header, size) = self.user_header(reference.slot());
        Ok((header, size))
    }

    /// Copies the user header of a published slot, up to the length of `buffer`; returns how many
    /// bytes.
    ///
    /// # Safety
    /// As for [`Reference::read_copy`].
    #[expect(unsafe_code, reason = "the caller rules out a race with a writer of this process")]
    pub unsafe fn copy_user_header(&self, reference: Ref, buffer: &mut [u8]) -> Result<usize> {
        let inner = self.segment.inner();
        reference::check(inner.table()?, self.life(reference)?)?;
        let len = inner.user_header_bytes(reference.slot()).copy_to(buffer);
        // As in `read_copy`.
        reference::check_still(inner.table()?, self.life(reference)?)?;
        Ok(len)
    }

    fn user_header(&self, slot: u32) -> (*mut u8, usize) {
        let inner = self.segment.inner();
        (inner.user_header(slot), inner.geometry().user_header_size as usize)
    }

    /// Copies a published slot into `buffer`, which must be large enough; returns what is known
    /// about it.
    ///
    /// If another process reserves the slot and writes to it during the copy, the result is
    /// [`Code::Stale`], and `buffer` has bytes of both samples.
    ///
    /// # Safety
    /// No thread of *this* process writes to the slot during the call: that would be a data race,
    /// which is undefined in Rust even if its result is discarded. This holds if all writing
    /// threads reserve with a mask that names a reader which has not marked the sample before the
    /// call ends.
    #[expect(unsafe_code, reason = "the caller rules out a race with a writer of this process")]
    pub unsafe fn read_copy(&self, reference: Ref, buffer: &mut [u8]) -> Result<RefHeader> {
        let (place, header) = self.look(reference)?;
        let target = buffer.get_mut(..header.len as usize).ok_or(Code::TooLarge)?;
        self.segment.inner().payload_bytes(place, target.len()).copy_to(target);
        // The copied bytes belong to one sample only if the slot is still in this generation, and
        // has its region.
        reference::check_payload_still(
            self.segment.inner().table()?,
            self.life(reference)?,
            place,
        )?;
        Ok(header)
    }

    /// What is known about a published slot.
    pub fn header(&self, reference: Ref) -> Result<RefHeader> {
        Ok(self.look(reference)?.1)
    }

    /// The place of a published payload, and what is known about it.
    fn look(&self, reference: Ref) -> Result<(Place, RefHeader)> {
        let inner = self.segment.inner();
        let table = inner.table()?;
        let Known { sequence, extent, unread, audience, aux } =
            reference::look(table, self.life(reference)?)?;
        let place = table.place(reference.token.slot(), extent)?;
        let timestamp_ns = if inner.geometry().timestamps { aux } else { 0 };
        Ok((place, RefHeader { sequence, len: extent.len(), unread, audience, timestamp_ns }))
    }

    /// Marks a published slot as read by one reader; stale if the reader had already marked it.
    #[inline(always)]
    pub fn mark_read(&self, reference: Ref, reader: u32) -> Result<()> {
        Ok(self.mark_token(self.token(reference)?, reader)?)
    }

    #[inline(never)]
    fn mark_token(&self, token: Token, reader: u32) -> HotResult<()> {
        self.mark_inline(token, reader)
    }

    #[inline(always)]
    pub(crate) fn mark_inline(&self, token: Token, reader: u32) -> HotResult<()> {
        let table = self.segment.inner().table()?;
        let bit = self.bit_of(table, reader)?;
        let life = Life { slot: token.slot(), generation: token.generation() };
        let sequence = reference::mark_read(table, life, bit)?;
        // This sample is not owed any more, and nothing before it is: the next search begins after
        // it.
        if let Some(cursor) = self.cursors.get(reader as usize) {
            if cursor.load(Ordering::Relaxed) == sequence {
                cursor.store(sequence.wrapping_add(1), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Marks everything as read by one reader that is gone. A joining reader may get its index,
    /// until a caller uses the index again.
    pub fn mark_reader_disconnected(&self, reader: u32) -> Result<()> {
        let inner = self.segment.inner();
        let participant = inner.writable()?;
        let disconnect = || reference::disconnect(inner.table()?, reader, participant);
        // Another participant is already doing this, and may be dead; then recovery completes it.
        if !disconnect()? && inner.recover()? > 0 {
            disconnect()?;
        }
        Ok(())
    }

    /// Names these readers.
    #[inline(always)]
    fn name_all(&self, table: &Table<'_>, readers: u64) -> HotResult<()> {
        match reference::name_all(table, readers) {
            Ok(true) => Ok(()),
            Ok(false) | Err(Code::BadIndex) => self.name_again(table, readers),
            Err(code) => Err(code),
        }
    }

    /// Whoever gives one of them up, has it, or expels it may be dead: then recovery makes it free.
    /// Otherwise a number that is being given up counts as named, and what is committed for it now
    /// is owed to nobody; the other two are errors.
    #[cold]
    fn name_again(&self, table: &Table<'_>, readers: u64) -> HotResult<()> {
        self.segment.inner().recover_if_due()?;
        reference::name_all(table, readers).map(drop)
    }

    /// The bit of a reader with a number that the caller assigned.
    #[inline(always)]
    fn bit_of(&self, table: &Table<'_>, reader: u32) -> HotResult<Bit> {
        self.segment.inner().own_row()?;
        if rows::name(table, reader) != Ok(true) {
            self.name_again(table, 1u64.checked_shl(reader).ok_or(Code::BadIndex)?)?;
        }
        Ok(Bit::of_reader(reader))
    }

    #[inline(always)]
    pub(crate) fn reference_to(&self, token: Token) -> Ref {
        Ref { segment_id: self.segment.inner().geometry().segment_id, token }
    }

    /// The slot and the generation that a reference of this segment names.
    #[inline(always)]
    pub(crate) fn token(&self, Ref { segment_id, token }: Ref) -> HotResult<Token> {
        if segment_id == self.segment.inner().geometry().segment_id {
            Ok(token)
        } else {
            Err(Code::Stale)
        }
    }

    #[inline(always)]
    fn life(&self, reference: Ref) -> HotResult<Life> {
        let token = self.token(reference)?;
        Ok(Life { slot: token.slot(), generation: token.generation() })
    }

    /// A loan of its writer, the place of its payload, and how many bytes were reserved.
    #[inline(always)]
    fn loan(&self, reference: Ref) -> HotResult<(Token, Place, u64)> {
        let token = self.token(reference)?;
        let reserved = self.opened()?.reservation(token)?;
        let inner = self.segment.inner();
        if reserved.is_in_slot() {
            // Slots are reserved as a whole.
            return Ok((token, Place::Slot(token.slot()), inner.shape().capacity));
        }
        let place = reserved.place(token.slot());
        Ok((token, place, reserved.len().min(inner.table()?.room(place)?)))
    }

    /// The writer that the first reserve opens.
    #[inline(always)]
    fn become_writer(&self) -> Result<&Core> {
        if let Some(writer) = self.writer.get() { Ok(writer) } else { self.open_writer() }
    }

    #[cold]
    fn open_writer(&self) -> Result<&Core> {
        // A forked child ends here, because it may find the lock taken by a thread that it does not
        // have.
        let opened = Core::open(Arc::clone(self.segment.inner()))?;
        // Another thread may have been faster; then this writer is closed again.
        Ok(self.writer.get_or_init(|| opened))
    }

    /// Its writer; a handle that never reserved has none, and no loan.
    #[inline(always)]
    fn opened(&self) -> HotResult<&Core> {
        match self.writer.get() {
            Some(writer) => Ok(writer),
            None => self.segment.inner().table().and(Err(Code::Stale)),
        }
    }
}
