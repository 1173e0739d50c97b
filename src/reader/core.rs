//! The core of a reader: a membership, and the samples that it holds.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::cache;
use crate::error::{Code, Error, HotResult, Packed, Result};
use crate::events::{Arm, Descriptor, InSet, Waiter, sleep_until_told};
use crate::layout::RECEIPTS;
use crate::layout::bits::Field;
use crate::protocol::calm::{self, Marked, Right};
use crate::protocol::hold::{self, Cursor, Step};
use crate::protocol::members;
use crate::protocol::order::Position;
use crate::protocol::rows::{self, Member};
use crate::protocol::shape::{Any, Calm, Dropping, Kind, KindOf};
use crate::protocol::slot;
use crate::protocol::table::Table;
use crate::protocol::words::{Extent, Place};
use crate::segment::attachment::Attachment;
use crate::sys;
use crate::wait::{EndWaits, Interrupter, WaitFor, deadline_of, interrupt, sleep_until, spin};

/// Which bit says that a reader holds a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The owed bit: the sample was read, on a segment where owed samples cannot be taken away.
    Owed = 0,
    /// The held bit: the sample was read where they can, or peeked.
    Held = 1,
    /// No bit any more: another token has it now.
    Moved = 2,
}

/// A held sample, as its token describes it. It has two numbers, because two are passed in
/// registers. A struct of three is passed by its address, which keeps the caller's sample in
/// memory, and each move of it there costs more than the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampleToken {
    /// The sequence, with the hold in the two bits above it. Above the slot it would cost more: the
    /// compiler stores such a word in two halves, and a load of the whole then waits for both.
    sequence_and_hold: u64,
    /// As wide as the other, because padding would be copied through memory.
    slot: u64,
}

impl SampleToken {
    const HOLD: Field = Field::new(62, 2);
    const SEQUENCE: Field = Field::new(0, 62);

    /// Of a sample that was read from a cursor, which is less than 2^62.
    #[inline(always)]
    fn read_at(slot: u32, cursor: u64) -> SampleToken {
        const { assert!(Hold::Owed as u64 == 0) };
        SampleToken { sequence_and_hold: cursor, slot: slot.into() }
    }

    #[inline(always)]
    pub(crate) fn new(slot: u32, sequence: u64, hold: Hold) -> SampleToken {
        let hold = SampleToken::HOLD.put(hold as u64);
        let sequence_and_hold = SampleToken::SEQUENCE.cut(sequence) | hold;
        SampleToken { sequence_and_hold, slot: slot.into() }
    }

    /// The sequence of a sample that was read, by a reader that reads `next` next; `None` if it was
    /// not. One that was not read yet is not held, whatever the caller passes.
    #[inline(always)]
    fn read_before(self, next: u64) -> Option<u64> {
        // A sample that was read is `Owed`, which is 0; the others look like later ones.
        (self.sequence_and_hold < next).then_some(self.sequence_and_hold)
    }

    /// Whether a sample can have this sequence.
    #[inline(always)]
    pub(crate) fn is_sequence(number: u64) -> bool {
        SampleToken::HOLD.is_above(number)
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        self.slot as u32
    }

    #[inline(always)]
    pub(crate) fn sequence(self) -> u64 {
        SampleToken::SEQUENCE.get(self.sequence_and_hold)
    }

    /// The same of a sample whose hold is known to be `Owed`.
    #[inline(always)]
    pub(crate) fn owed_sequence(self) -> u64 {
        self.sequence_and_hold
    }

    #[inline(always)]
    pub(crate) fn hold(self) -> Hold {
        match SampleToken::HOLD.get(self.sequence_and_hold) {
            0 => Hold::Owed,
            1 => Hold::Held,
            _ => Hold::Moved,
        }
    }
}

/// The kind of segments whose reads are short. Who writes does not matter to a reader.
pub(super) type CalmKind = Calm<false>;

/// A held sample, and what is known about it besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldSample {
    pub(crate) taken: SampleToken,
    /// Its place is one of the segment, and its length fits it.
    pub(crate) extent: Extent,
}

impl HeldSample {
    /// Where its payload is.
    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        self.extent.place(self.taken.slot())
    }
}

/// What is left to do of a read that is not the common case.
#[repr(u8)]
#[derive(Clone, Copy)]
pub(crate) enum Rest {
    /// Everything: nothing has changed.
    All,
    /// The reader was expelled while it took a sample: see [`Core::give_up`].
    GiveUp,
}

/// What a read out of line has found, in two numbers, which are returned in registers: a slot and an
/// extent, or a code.
#[derive(Clone, Copy)]
pub(crate) struct Next {
    /// Numbers of codes are negative.
    slot_or_code: i64,
    extent: Extent,
}

impl Next {
    #[inline(always)]
    fn of(found: HotResult<(u32, Extent)>) -> Next {
        match found {
            Ok((slot, extent)) => Next { slot_or_code: slot.into(), extent },
            Err(code) => Next { slot_or_code: code.number().into(), extent: Extent(0) },
        }
    }

    /// The sample, which its reader has just taken; `Again` if there is none.
    #[inline(always)]
    pub(crate) fn taken(self, reader: &Core) -> HotResult<HeldSample> {
        match u32::try_from(self.slot_or_code) {
            Ok(slot) => Ok(HeldSample { taken: reader.read_last(slot), extent: self.extent }),
            Err(_) => Err(self.code()),
        }
    }

    #[cold]
    #[inline(never)]
    fn code(self) -> Code {
        Packed::of_number(self.slot_or_code).to_code()
    }
}

/// A membership. It lives until its reader has left and everything that it read is marked; then the
/// row is free for another.
pub(crate) struct Core {
    pub(super) segment: Arc<Attachment>,
    pub(super) member: Member,
    kind: KindOf,
    /// Whether reads and marks are short: samples are not taken away and not counted.
    pub(super) quick: bool,
    /// Whether reads are: until there is a descriptor, which a read that finds nothing arms.
    reads_quickly: AtomicBool,
    /// What it waits behind in an event loop.
    waiter: Waiter,
    /// Which receipts are its own; if a mark is not short, a number that no receipt has.
    receipt: u32,
    /// The cursor, less than 2^62. It is atomic because marks from other threads load it. Only the
    /// reading thread stores it.
    pub(super) sequence: AtomicU64,
    since: u64,
    adopts: bool,
    lost: AtomicU64,
    /// The segment's limit of samples that one reader holds at once; 0: none, and then they are not
    /// counted.
    max_held: u32,
    /// How what it reads is held under the policy of the segment.
    hold: Hold,
    /// Samples that it holds. Counted up by the thread that reads, and down by those that mark.
    held: AtomicI32,
    interrupted: Arc<AtomicBool>,
    /// What else ends its waits, and the deaths that it already knows.
    end_without_writers: AtomicBool,
    end_at_deaths: AtomicBool,
    end_at_retirement: AtomicBool,
    end_at_signals: AtomicBool,
    known_deaths: AtomicU32,
    /// Whether the last poll found nothing: a hint for prefetching, so all accesses are relaxed.
    waiting: AtomicBool,
}

impl Core {
    pub(crate) fn join(segment: Arc<Attachment>, history: u32) -> Result<Core> {
        let participant = segment.writable()?;
        let table = segment.table()?;
        if history > segment.geometry().history {
            let kept = segment.geometry().history;
            return Err(Error::new(Code::BadOptions)
                .about(format_args!(
                    "{history} retained samples were asked for, and the segment keeps {kept}"
                ))
                .advice("ask for fewer, or create the segment with a larger history")
                .with_numbers([history.into(), 0, kept.into()]));
        }
        let (member, cursor) = match members::join(table, participant, history) {
            // One of the rows may belong to a dead reader. It may be free now, whoever recovered
            // it.
            Err(Code::NoReaderSlot) => {
                segment.recover()?;
                members::join(table, participant, history)?
            }
            joined => joined?,
        };
        let deaths = table.hot.lifecycle.0.deaths.load(Ordering::Acquire);
        let max_held = segment.geometry().max_held;
        let kind = table.shape.kind();
        let quick = table.shape.receipts && max_held == 0;
        let hold = if table.shape.drop_oldest { Hold::Held } else { Hold::Owed };
        let core = Core {
            quick,
            reads_quickly: AtomicBool::new(quick),
            waiter: Waiter::default(),
            receipt: if quick { member.index } else { u32::MAX },
            kind,
            segment,
            member,
            sequence: AtomicU64::new(SampleToken::SEQUENCE.cut(cursor.place.sequence)),
            since: cursor.since,
            adopts: cursor.adopts,
            lost: AtomicU64::new(0),
            max_held,
            hold,
            held: AtomicI32::new(0),
            interrupted: Arc::default(),
            end_without_writers: AtomicBool::new(false),
            end_at_deaths: AtomicBool::new(false),
            end_at_retirement: AtomicBool::new(false),
            end_at_signals: AtomicBool::new(false),
            known_deaths: AtomicU32::new(deaths),
            waiting: AtomicBool::new(false),
        };
        Ok(core)
    }

    pub(crate) fn segment(&self) -> &Arc<Attachment> {
        &self.segment
    }

    pub(crate) fn index(&self) -> u32 {
        self.member.index
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Stores how far it has come; false if it was expelled.
    #[inline(always)]
    pub(super) fn set_sequence(&self, table: &Table<'_>, sequence: u64) -> bool {
        // Relaxed: a thread that marks a sample got it from the thread that read it. Only a corrupt
        // order has a longer sequence.
        self.sequence.store(SampleToken::SEQUENCE.cut(sequence), Ordering::Relaxed);
        rows::move_cursor(table, self.member, sequence)
    }

    fn cursor(&self, table: &Table<'_>) -> Cursor {
        Cursor {
            place: Position::of(&table.shape, self.sequence.load(Ordering::Relaxed)),
            since: self.since,
            adopts: self.adopts,
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// The same with all of its cursor.
    fn set_cursor(&self, table: &Table<'_>, cursor: Cursor) -> bool {
        let joined = self.set_sequence(table, cursor.place.sequence);
        if let Some(row) = table.readers.get(self.member.index as usize).filter(|_| joined) {
            self.lost.store(cursor.lost, Ordering::Relaxed);
            // Relaxed: for tools.
            row.lost.store(cursor.lost, Ordering::Relaxed);
        }
        joined
    }

    /// The next sample, which is held from now on, in the common case; otherwise what
    /// [`Core::next_slowly`] is to do.
    #[inline(always)]
    pub(crate) fn try_next(&self) -> std::result::Result<Option<HeldSample>, Rest> {
        let table = self.segment.table().map_err(|_| Rest::All)?;
        // Relaxed: only the reading thread stores it.
        if !self.reads_quickly.load(Ordering::Relaxed) {
            return Err(Rest::All);
        }
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.prefetch_next(table, sequence);
        match hold::step::<CalmKind>(table, self.member.bit, sequence) {
            Ok(Step::Empty) => {
                self.set_waiting(true);
                if rows::is_still_joined(table, self.member) { Ok(None) } else { Err(Rest::All) }
            }
            Ok(Step::Sample(slot, extent)) if extent.is_plain(table.shape.capacity) => {
                self.set_waiting(false);
                if !rows::move_cursor(table, self.member, sequence.wrapping_add(1)) {
                    return Err(Rest::GiveUp);
                }
                // Relaxed: a thread that marks a sample got it from the thread that read it.
                self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
                Ok(Some(HeldSample { taken: SampleToken::read_at(slot, sequence), extent }))
            }
            // The slow path finds the error again.
            _ => Err(Rest::All),
        }
    }

    /// The next sample, for any segment and whatever is found.
    #[inline(never)]
    pub(crate) fn next_slowly(&self, rest: Rest) -> Next {
        Next::of(match rest {
            Rest::All => self.find_slowly(),
            Rest::GiveUp => self.give_up_read(),
        })
    }

    #[cold]
    fn give_up_read(&self) -> HotResult<(u32, Extent)> {
        let table = self.segment.table()?;
        Err(self.give_up(table, self.sequence.load(Ordering::Relaxed), None))
    }

    #[inline(always)]
    fn find_slowly(&self) -> HotResult<(u32, Extent)> {
        let table = self.segment.table()?;
        let slot = match self.next_slot(table)? {
            Some(slot) => slot,
            None if self.waiter.is_used() => self.find_or_arm(table)?,
            None => return self.none_yet(table),
        };
        self.extent_just_read(table, slot)
    }

    /// The extent of a sample to which this reader has just moved, with its slot.
    #[inline(always)]
    fn extent_just_read(&self, table: &Table<'_>, slot: u32) -> HotResult<(u32, Extent)> {
        let extent = extent_of(table, slot)?;
        match table.place(slot, extent) {
            Ok(_) => Ok((slot, extent)),
            Err(code) => Err(self.refuse(self.read_last(slot), code)),
        }
    }

    /// Moves to the next sample, and takes it. It arms nothing, and tells no end.
    pub(super) fn take_next(&self, table: &Table<'_>) -> HotResult<HeldSample> {
        let slot = self.next_slot(table)?.ok_or(Code::Again)?;
        let (slot, extent) = self.extent_just_read(table, slot)?;
        Ok(HeldSample { taken: self.read_last(slot), extent })
    }

    /// Arms what it waits behind, and looks again, for a sample and for an end; the slot of a sample.
    #[cold]
    #[inline(never)]
    fn find_or_arm(&self, table: &Table<'_>) -> HotResult<u32> {
        let mut found = None;
        if !self.waiter.arm_if_any(&self.segment, WaitFor::Data)? {
            // It may have been in a set that it has left.
            self.reads_quickly.store(self.quick, Ordering::Relaxed);
        } else {
            found = self.next_slot(table)?;
            if found.is_none() {
                if let Some(end) = self.end()? {
                    // What came before the end is read first.
                    found = self.next_slot(table)?;
                    if found.is_none() {
                        let told = self.tell(end)?;
                        if told == Code::PeerDead {
                            // There may be another end to tell.
                            self.waiter.has_found(&self.segment);
                        }
                        return Err(told);
                    }
                }
            }
            if found.is_some() {
                self.waiter.has_found(&self.segment);
            }
        }
        match found {
            Some(slot) => Ok(slot),
            None => self.none_yet(table),
        }
    }

    /// There is nothing to read now.
    fn none_yet<T>(&self, table: &Table<'_>) -> HotResult<T> {
        self.check_joined(table)?;
        Err(Code::Again)
    }

    /// The descriptor for an event loop; made at the first call.
    pub(crate) fn descriptor(&self, arm: Arm) -> Result<&Descriptor> {
        self.segment.writable()?;
        let descriptor = self.waiter.descriptor(&self.segment, arm)?;
        let reads_quickly = self.quick && !self.waiter.arms_itself();
        self.reads_quickly.store(reads_quickly, Ordering::Relaxed);
        Ok(descriptor)
    }

    /// Becomes a member of a set.
    pub(crate) fn enter(&self, member: &Arc<InSet>) -> Result<()> {
        self.waiter.enter(member)?;
        self.reads_quickly.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Arms what it waits behind; whether there is something to read all the same.
    pub(crate) fn arm(&self) -> HotResult<bool> {
        self.segment.table()?;
        self.waiter.arm(&self.segment, WaitFor::Data)?;
        let found = ready_or_over(&[self]);
        match found {
            Ok(Some(_)) => self.waiter.has_found(&self.segment),
            // There may be another end to tell.
            Err(Code::PeerDead) => self.segment.chime(),
            Ok(None) | Err(_) => {}
        }
        Ok(found?.is_some())
    }

    #[inline(always)]
    fn check_joined(&self, table: &Table<'_>) -> HotResult<()> {
        match rows::is_still_joined(table, self.member) {
            true => Ok(()),
            false => Err(rows::why_not_joined(table, self.member)),
        }
    }

    /// Moves to the next sample; returns its slot.
    #[inline(always)]
    fn next_slot(&self, table: &Table<'_>) -> HotResult<Option<u32>> {
        if self.max_held != 0 { self.next_within_limit(table) } else { self.find_next(table) }
    }

    #[cold]
    #[inline(never)]
    fn next_within_limit(&self, table: &Table<'_>) -> HotResult<Option<u32>> {
        self.check_joined(table)?;
        self.may_hold()?;
        let found = self.find_next(table)?;
        if found.is_some() {
            self.count_held();
        }
        Ok(found)
    }

    /// Whether this reader may hold one more sample.
    #[inline(always)]
    fn may_hold(&self) -> HotResult<()> {
        // Relaxed: a thread that knows that a sample was marked, from the marking thread or from
        // the segment, has synchronized with the mark, and the count was lowered before that.
        let full = self.max_held != 0 && self.held_count() >= self.max_held;
        if full { Err(Code::HeldLimit) } else { Ok(()) }
    }

    /// Samples that it holds; 0 if there is no limit. While a mark is tried of what is not held, it
    /// is one too low.
    pub(super) fn held_count(&self) -> u32 {
        u32::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The sequence that it reads next.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn count_held(&self) {
        if self.max_held != 0 {
            // Relaxed: a number, and nothing that it guards.
            self.held.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn find_next(&self, table: &Table<'_>) -> HotResult<Option<u32>> {
        let stepped = match self.kind {
            KindOf::CalmAlone | KindOf::CalmAmong => {
                match self.reads_quickly.load(Ordering::Relaxed) {
                    true => Ok((0, Step::Irregular)), // it was tried
                    false => self.step::<CalmKind>(table),
                }
            }
            KindOf::Dropping => self.step::<Dropping>(table),
            KindOf::Any => self.step::<Any>(table),
        };
        match stepped {
            Ok((_, Step::Sample(slot, _))) => return Ok(Some(slot)),
            Ok((_, Step::Empty)) => return Ok(None),
            // The code below finds the error again.
            Ok((_, Step::Irregular)) | Err(_) => {}
        }
        self.check_joined(table)?;
        let mut cursor = self.cursor(table);
        let before = cursor.place.sequence;
        let found = hold::next(table, self.member.bit, &mut cursor);
        if !self.set_cursor(table, cursor) {
            return Err(self.give_up(table, before, found.ok().flatten()));
        }
        self.set_waiting(found == Ok(None));
        found
    }

    /// The reader was expelled while it took a sample, so it does not hold that; returns the error.
    ///
    /// Its cursor goes back to where it was, because what is before it is held; on its way it may
    /// have passed samples that were owed to it, as nobody waits for an expelled reader. And an
    /// expeller may have taken the cursor that goes back for the last one, so the reader itself
    /// releases what it does not hold.
    #[cold]
    #[inline(never)]
    pub(super) fn give_up(&self, table: &Table<'_>, before: u64, found: Option<u32>) -> Code {
        let taken = self.sequence.load(Ordering::Relaxed).wrapping_sub(1);
        self.set_sequence(table, before);
        if let Some(slot) = found.filter(|_| table.shape.drop_oldest) {
            // It has just taken the sample, so it holds it by this bit.
            let bit = self.member.bit;
            let _ = hold::mark(table, slot, bit.word, bit.held, taken);
        }
        members::release_all_unread(table, self.member, before);
        rows::why_not_joined(table, self.member)
    }

    /// The fast path to the next sample, and its sequence.
    #[inline(always)]
    fn step<K: Kind>(&self, table: &Table<'_>) -> HotResult<(u64, Step)> {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.prefetch_next(table, sequence);
        let step = hold::step::<K>(table, self.member.bit, sequence)?;
        self.set_waiting(matches!(step, Step::Empty));
        if let Step::Sample(slot, _) = step {
            if !self.set_sequence(table, sequence.wrapping_add(1)) {
                return Err(self.give_up(table, sequence, Some(slot)));
            }
        }
        Ok((sequence, step))
    }

    /// Prefetches the payload that is likely to be next while its entry is in transit, so that the
    /// two lines arrive together. Not at the first poll after a sample, because a writer that is
    /// about to fill the payload would have to take the line back.
    #[inline(always)]
    fn prefetch_next(&self, table: &Table<'_>, sequence: u64) {
        if self.waiting.load(Ordering::Relaxed) {
            let home = Position::of(&table.shape, sequence).line;
            cache::prefetch_read(self.segment.payload(Place::Slot(home)));
        }
    }

    /// Stores whether a poll found nothing.
    #[inline(always)]
    pub(super) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// The sample that was read last, and the bit by which it is held under this policy.
    #[inline(always)]
    fn read_last(&self, slot: u32) -> SampleToken {
        let sequence = self.sequence.load(Ordering::Relaxed).wrapping_sub(1);
        SampleToken::new(slot, sequence, self.hold)
    }

    /// Whether a read would find a sample.
    pub(crate) fn is_ready(&self) -> HotResult<bool> {
        Ok(self.seek()?.is_some())
    }

    /// Moves to the next sample without taking it; returns its slot.
    pub(super) fn seek(&self) -> HotResult<Option<u32>> {
        let table = self.segment.table()?;
        self.check_joined(table)?;
        let mut cursor = self.cursor(table);
        let before = cursor.place.sequence;
        self.prefetch_next(table, cursor.place.sequence);
        let found = hold::seek(table, self.member.bit, &mut cursor);
        if !self.set_cursor(table, cursor) {
            return Err(self.give_up(table, before, None));
        }
        self.set_waiting(found == Ok(None));
        found
    }

    pub(crate) fn peek_latest(&self) -> HotResult<Option<HeldSample>> {
        let table = self.segment.table()?;
        self.check_joined(table)?;
        self.may_hold()?;
        let cursor = self.sequence.load(Ordering::Relaxed);
        let Some((slot, sequence)) = hold::peek_latest(table, self.member.bit, cursor)? else {
            self.check_joined(table)?;
            return Ok(None);
        };
        self.count_held();
        let taken = SampleToken::new(slot, sequence, Hold::Held);
        if !rows::is_still_joined(table, self.member) {
            return Err(self.refuse(taken, rows::why_not_joined(table, self.member)));
        }
        self.show(table, taken, extent_of(table, slot)?)
    }

    /// Releases a sample; stale if this reader does not hold it. `right`: whether another thread may
    /// try the same at this moment.
    #[inline(always)]
    pub(crate) fn mark(&self, taken: SampleToken, right: Right) -> HotResult<()> {
        match self.try_mark(taken, right) {
            Some((_, Marked::Done)) => Ok(()),
            Some((table, Marked::Watched)) => calm::mark_with_attention(table, taken.slot()),
            _ => self.mark_slowly(taken, right),
        }
    }

    /// The same in the common case, without what is rare; `None` in all others, and then nothing has
    /// changed.
    #[inline(always)]
    pub(crate) fn try_mark(
        &self,
        taken: SampleToken,
        right: Right,
    ) -> Option<(&Table<'_>, Marked)> {
        let table = self.segment.table().ok()?;
        let sequence = self.read_sequence(taken)?;
        // One look at this number says both that marks are short and that it has a receipt.
        let receipt = self.receipt;
        if receipt as usize >= RECEIPTS {
            return None;
        }
        let bit = &self.member.bit;
        Some((table, calm::try_mark(table, taken.slot(), receipt, bit, sequence, right)))
    }

    /// The sequence of a sample that was read, and not peeked.
    #[inline(always)]
    pub(super) fn read_sequence(&self, taken: SampleToken) -> Option<u64> {
        taken.read_before(self.sequence.load(Ordering::Relaxed))
    }

    #[inline(never)]
    fn mark_slowly(&self, taken: SampleToken, right: Right) -> HotResult<()> {
        let table = self.segment.table()?;
        if self.read_sequence(taken).is_none() && taken.hold() != Hold::Held {
            return Err(Code::Stale);
        }
        // Counted before it is marked: the reader may learn of the mark through the segment, by a
        // sample that a writer has put into the slot, and must not find the limit reached then. So
        // it may hold one more than the limit while a mark is under way.
        if self.max_held != 0 {
            // Release: ordered before the mark, which releases as well; as `may_hold` says.
            self.held.fetch_sub(1, Ordering::Release);
        }
        let (slot, sequence) = (taken.slot(), taken.sequence());
        let Member { index, bit, .. } = self.member;
        let marked = match taken.hold() {
            Hold::Owed if table.shape.receipts => {
                calm::mark(table, slot, index, bit, sequence, right)
            }
            Hold::Owed => hold::mark(table, slot, bit.word, bit.owed, sequence),
            _ => hold::mark(table, slot, bit.word, bit.held, sequence),
        };
        if marked.is_err() {
            self.count_held();
        }
        marked
    }

    /// Marks a sample that its caller alone has. Out of line, so that it is not compiled into every
    /// place where a sample ends.
    #[inline(never)]
    pub(super) fn mark_own(&self, taken: SampleToken) -> HotResult<()> {
        self.mark(taken, Right::Sole)
    }

    /// The held sample whose payload starts at this address. If it is held twice, by a read and by
    /// a peek, the read comes first.
    pub(crate) fn held_at(&self, payload: *const u8) -> HotResult<SampleToken> {
        let table = self.segment.table()?;
        let (slot, place) = self.segment.slot_of(payload).ok_or(Code::Stale)?;
        let line = table.line(slot)?;
        let sequence = line.sequence.load(Ordering::Relaxed);
        let bit = self.member.bit;
        let marks = line.marks.get(bit.word).ok_or(Code::Corrupt)?;
        let seen = slot::load_marks(line, &table.shape, marks);
        let read = seen.0 & bit.owed != 0 && sequence < self.sequence.load(Ordering::Relaxed);
        if Extent(line.extent.load(Ordering::Relaxed)).place(slot) != place {
            return Err(Code::Stale);
        }
        let hold = match (
            seen.is_of(sequence),
            read && !table.shape.drop_oldest,
            seen.0 & bit.held != 0,
        ) {
            (true, true, _) => Hold::Owed,
            (true, false, true) => Hold::Held,
            _ => return Err(Code::Stale),
        };
        Ok(SampleToken::new(slot, sequence, hold))
    }

    /// What is known about a held sample; corrupt if it was overwritten.
    pub(crate) fn facts(&self, taken: SampleToken) -> HotResult<HeldSample> {
        let table = self.segment.table()?;
        facts_by(table, taken, extent_of(table, taken.slot())?)
    }

    /// A sample just taken, with what is known about it.
    #[inline(always)]
    fn show(
        &self,
        table: &Table<'_>,
        taken: SampleToken,
        extent: Extent,
    ) -> HotResult<Option<HeldSample>> {
        match facts_by(table, taken, extent) {
            Ok(held) => Ok(Some(held)),
            Err(code) => Err(self.refuse(taken, code)),
        }
    }

    /// It cannot be returned, so it is released; the first error is the one to report. It is
    /// marked by its bit, because a reader whose samples are tokens stores no receipts.
    #[cold]
    #[inline(never)]
    fn refuse(&self, taken: SampleToken, code: Code) -> Code {
        let _ = self.mark(taken, Right::Token);
        code
    }

    /// Monotonic time of the commit of a held sample in nanoseconds, 0 if the segment keeps none.
    pub(crate) fn timestamp_ns(&self, taken: SampleToken) -> u64 {
        if !self.segment.shape().timestamps {
            return 0;
        }
        let table = self.segment.table();
        // Relaxed: a held sample does not change.
        let time_in = |table: &Table<'_>| {
            table.claim(taken.slot()).map(|claim| claim.aux.load(Ordering::Relaxed))
        };
        table.and_then(time_in).unwrap_or(0)
    }

    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        wait_any(&[self], timeout).map(drop)
    }

    pub(crate) fn interrupt(&self) -> HotResult<()> {
        interrupt(&self.segment, &self.interrupted, WaitFor::Data)
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        Interrupter::new(&self.segment, &self.interrupted, WaitFor::Data)
    }

    pub(crate) fn end_waits(&self, when: EndWaits) -> HotResult<()> {
        self.segment.table()?;
        self.end_without_writers.store(when.no_writers, Ordering::Relaxed);
        self.end_at_deaths.store(when.peer_dead, Ordering::Relaxed);
        self.end_at_retirement.store(when.retired, Ordering::Relaxed);
        self.end_at_signals.store(when.signal, Ordering::Relaxed);
        self.waiter.look_again(&self.segment);
        Ok(())
    }

    /// Why a wait that finds nothing should still end.
    fn end(&self) -> HotResult<Option<Code>> {
        // Acquire: pairs with `recovery::sweep`; what the dead had committed is visible.
        let deaths = self.segment.table()?.hot.lifecycle.0.deaths.load(Ordering::Acquire);
        if self.end_at_deaths.load(Ordering::Relaxed)
            && self.known_deaths.load(Ordering::Relaxed) != deaths
        {
            return Ok(Some(Code::PeerDead));
        }
        if self.end_at_retirement.load(Ordering::Relaxed) && self.segment.lost_its_name() {
            return Ok(Some(Code::Retired));
        }
        let over = self.end_without_writers.load(Ordering::Relaxed) && !self.segment.any_writers();
        Ok(over.then_some(Code::NoWriters))
    }

    /// Records an end that is being returned.
    fn tell(&self, end: Code) -> HotResult<Code> {
        if end == Code::PeerDead {
            let deaths = self.segment.table()?.hot.lifecycle.0.deaths.load(Ordering::Relaxed);
            self.known_deaths.store(deaths, Ordering::Relaxed);
        }
        Ok(end)
    }

    /// Releases everything that is not held.
    pub(crate) fn leave(&self) {
        let cursor = self.sequence.load(Ordering::Relaxed);
        if let Ok(table) = self.segment.table() {
            // It joined, so it has a row, and leaving cannot fail.
            let _ = members::leave(table, self.member, cursor);
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Ok(table) = self.segment.table() {
            // As in `leave`.
            let _ = rows::give_row_back(table, self.member);
        }
    }
}

#[inline(always)]
fn facts_by(table: &Table<'_>, taken: SampleToken, extent: Extent) -> HotResult<HeldSample> {
    table.place(taken.slot(), extent)?;
    Ok(HeldSample { taken, extent })
}

/// Length, place and writer of a held sample. Relaxed: it does not change, and the entry was loaded
/// with acquire.
pub(super) fn extent_of(table: &Table<'_>, slot: u32) -> HotResult<Extent> {
    Ok(Extent(table.line(slot)?.extent.load(Ordering::Relaxed)))
}

/// The first of several readers that has a sample.
fn first_ready(readers: &[&Core]) -> HotResult<Option<usize>> {
    for (index, reader) in readers.iter().enumerate() {
        if reader.is_ready()? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The same; and if none has, the first reason to end a wait.
fn ready_or_over(readers: &[&Core]) -> HotResult<Option<usize>> {
    // Checked before the reasons to end a wait, and after them: an end is returned only when
    // everything that came before it was read.
    if let Some(index) = first_ready(readers)? {
        return Ok(Some(index));
    }
    for reader in readers {
        if let Some(end) = reader.end()? {
            return match first_ready(readers)? {
                Some(index) => Ok(Some(index)),
                None => Err(reader.tell(end)?),
            };
        }
    }
    Ok(None)
}

/// Waits until one of several readers has a sample; returns which. They may belong to different
/// segments.
pub(crate) fn wait_any(readers: &[&Core], timeout: Option<Duration>) -> Result<usize> {
    if readers.is_empty() {
        return Err(Error::new(Code::Invalid).about("there is no reader to wait for"));
    }
    let ready = || first_ready(readers);
    let ready_or_over = || ready_or_over(readers);
    if let Some(index) = ready_or_over()? {
        return Ok(index);
    }
    if timeout == Some(Duration::ZERO) {
        return Err(Code::Again.into());
    }
    let deadline = deadline_of(timeout);
    let longest = readers.iter().map(|reader| reader.segment.spin()).max().unwrap_or_default();
    if let Some(index) = spin(timeout.map_or(longest, |timeout| timeout.min(longest)), ready)? {
        return Ok(index);
    }
    // A wait of one reader allocates no memory.
    let (one, several): ([&Attachment; 1], Vec<&Attachment>);
    let segments: &[&Attachment] = match readers {
        [reader] => {
            one = [&*reader.segment];
            &one
        }
        _ => {
            several = readers.iter().map(|reader| &*reader.segment).collect();
            &several
        }
    };
    let interrupted = |signalled| {
        readers.iter().any(|reader| {
            reader.interrupted.swap(false, Ordering::Acquire)
                || signalled && reader.end_at_signals.load(Ordering::Relaxed)
        })
    };
    if segments.len() > sys::FUTEX_WAIT_ANY_MAX {
        return sleep_until_told(segments, WaitFor::Data, deadline, ready_or_over, interrupted);
    }
    Ok(sleep_until(segments, WaitFor::Data, deadline, ready_or_over, interrupted)?)
}

#[cfg(test)]
#[allow(clippy::expect_used)] // A failure is a panic.
mod tests {
    use std::sync::atomic::Ordering;

    use crate::segment::{CreateOptions, Segment};
    use crate::set::{Readable, Set};

    #[test]
    fn a_reader_that_has_left_a_set_reads_quickly_again() {
        let segment = Segment::create_anonymous(&CreateOptions::default()).expect("made");
        let reader = segment.reader(0).expect("joined");
        let is_quick = || reader.core().reads_quickly.load(Ordering::Relaxed);
        let finds_nothing = || reader.read().expect("sound").is_none();
        assert!(is_quick());
        let set = Set::new(Readable::default()).expect("made");
        set.add_reader(&reader, 1).expect("added");
        assert!(finds_nothing() && !is_quick());
        set.remove(1).expect("it is there");
        assert!(finds_nothing() && is_quick());
        set.add_reader(&reader, 1).expect("added");
        drop(set);
        assert!(finds_nothing() && is_quick());
    }
}
