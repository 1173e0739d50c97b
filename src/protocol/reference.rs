//! The reference operations: the caller gives readers their numbers, and says at each reserve which of them are active.
//!
//! A slot is free for such a reserve when no active reader has it unread. So a sample that is unread may outlive any
//! number of newer ones, which were for others: the order is where it is looked for first, and its slot is where it
//! is found when its entry is overwritten. These operations exist on lossless segments only, where what a reader has
//! not marked stays as it is.

use core::cmp;

use super::bell::Bell;
use super::bounds::{RETRY_LIMIT, StepBudget};
use super::order::{self, Position};
use super::rows::{self, Parting};
use super::table::Table;
use super::words::{Audience, Bit, Ctl, Entry, Extent, Loan, Marks, Owner, Phase, Place, Wanted};
use super::{hold, loan, region, slot};
use crate::atomics::{Ordering, fence};
use crate::error::Code;

/// A slot in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// What is known of a published slot beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) sequence: u64,
    pub(crate) extent: Extent,
    /// Readers that have not marked it.
    pub(crate) unread: u64,
    /// Readers that its reserve named.
    pub(crate) audience: u64,
    /// The word beside the claim: the time of its commit, if the segment keeps times.
    pub(crate) aux: u64,
}

/// Sees to it that the numbers of these readers are the callers'. Each time anew: another may have given one up. False if one
/// is just being given up, by a participant that may be dead.
#[inline(always)]
pub(crate) fn name_all(table: &Table<'_>, readers: u64) -> Result<bool, Code> {
    if readers.checked_shr(table.readers.len() as u32).unwrap_or(0) != 0 {
        return Err(Code::BadIndex);
    }
    let mut all = true;
    let mut left = readers;
    while left != 0 {
        all &= rows::name(table, left.trailing_zeros())?;
        left &= left - 1;
    }
    Ok(all)
}

/// Takes a slot that no reader of `active` has unread, where none is wholly free.
pub(crate) fn claim_ignoring(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    active: u64,
) -> Result<Option<Loan>, Code> {
    // Beside the active ones, members, and readers that have left and still hold samples.
    let waited_for = Audience::of_readers(active | rows::taken_rows(table), true);
    loan::claim_ignoring(table, owner, wanted, waited_for)
}

/// The oldest sample that is owed to a reader. Nothing that is owed to it comes before `cursor`, which is moved on.
///
/// The order is walked from the cursor, each entry once. Where an entry is overwritten, two laps of newer samples have
/// been published, and what it led to may still be unread: then all slots are looked at instead.
#[inline(always)]
pub(crate) fn next_unread(table: &Table<'_>, reader: Bit, cursor: &mut u64) -> Result<Option<Life>, Code> {
    let mut steps = StepBudget::of_laps(&table.shape);
    let mut place = Position::of(&table.shape, *cursor);
    loop {
        steps.take()?;
        let entry = place.look(table)?;
        match entry.compare(place.sequence) {
            cmp::Ordering::Less => return Ok(None),
            cmp::Ordering::Equal => {
                if let Some(life) = owed_at(table, entry.slot(), reader, place.sequence)? {
                    return Ok(Some(life));
                }
                // It was for others, or is marked; neither changes any more.
                place = place.next(&table.shape);
            }
            cmp::Ordering::Greater => {
                let tail = order::settle_tail(table, &mut steps)?;
                if let Some((life, sequence)) = oldest_owed(table, reader, tail)? {
                    *cursor = sequence;
                    return Ok(Some(life));
                }
                place = Position::of(&table.shape, tail);
            }
        }
        *cursor = place.sequence;
    }
}

/// The life of a slot, if that is owed to a reader as the sample `sequence`, which is published.
#[inline(always)]
fn owed_at(table: &Table<'_>, slot: u32, reader: Bit, sequence: u64) -> Result<Option<Life>, Code> {
    // Before the marks: unread after this, the slot was in this life.
    let life = life_of(table, slot)?;
    let marks = table.line(slot)?.marks.get(reader.word).ok_or(Code::Corrupt)?;
    let seen = Marks(marks.load(Ordering::Acquire));
    let owed = seen.is_of(sequence) && seen.0 & reader.owed != 0;
    Ok(owed.then_some(life))
}

/// The oldest sample before `tail` that is owed to a reader, and its sequence. Looks at every slot.
///
/// A sample that was published before this began, and that its reader has not marked, stands in its slot all the time,
/// so it is seen. What is published meanwhile has `tail` or a later sequence, and is left to the order.
#[cold]
fn oldest_owed(table: &Table<'_>, reader: Bit, tail: u64) -> Result<Option<(Life, u64)>, Code> {
    let mut oldest: Option<(Life, u64)> = None;
    for (slot, line) in (0u32..).zip(table.lines) {
        let sequence = line.sequence.load(Ordering::Relaxed);
        let earlier = sequence < oldest.map_or(tail, |(_, sequence)| sequence);
        if !earlier || !is_out(table, life_of(table, slot)?)? {
            continue;
        }
        if let Some(life) = owed_at(table, slot, reader, sequence)? {
            oldest = Some((life, sequence));
        }
    }
    Ok(oldest)
}

/// Whether the sample of a life is published, and that life not over.
fn is_out(table: &Table<'_>, life: Life) -> Result<bool, Code> {
    let ctl_word = &table.claim(life.slot)?.ctl;
    for _ in 0..RETRY_LIMIT {
        // Acquire: pairs with the store of Publishing in `commit::publish`, so that the sequence below is none of an
        // earlier life.
        let ctl = Ctl(ctl_word.load(Ordering::Acquire));
        if ctl.generation() != life.generation {
            return Ok(false);
        }
        match ctl.phase() {
            // Reclaiming: whoever takes it may put it back; its marks say how far that is.
            Some(Phase::Published | Phase::Confirmed | Phase::Reclaiming) => return Ok(true),
            Some(Phase::Publishing) => {
                // Its writer may have prepared the slot for a sequence that another sample got.
                let sequence = table.line(life.slot)?.sequence.load(Ordering::Relaxed);
                let entry = Position::of(&table.shape, sequence).look(table)?;
                if entry == Entry::new(sequence, life.slot) {
                    return Ok(true);
                }
                // Acquire, after the entry: who overwrote it has confirmed the commit before, if it was published.
                if Ctl(ctl_word.load(Ordering::Acquire)) == ctl {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Err(Code::Corrupt)
}

/// What is published in a slot. It may be read by all, and be gone with the next reserve.
pub(crate) fn published_in(table: &Table<'_>, slot: u32) -> Result<Option<Life>, Code> {
    let life = life_of(table, slot).map_err(|_| Code::Invalid)?;
    Ok(is_out(table, life)?.then_some(life))
}

/// The life that a slot is in. Acquire: what is read of the slot after this is none of an earlier life.
fn life_of(table: &Table<'_>, slot: u32) -> Result<Life, Code> {
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
    Ok(Life { slot, generation: ctl.generation() })
}

/// What is known of a published slot; stale if it is not, or not in this life.
pub(crate) fn look(table: &Table<'_>, life: Life) -> Result<Known, Code> {
    check(table, life)?;
    let line = table.line(life.slot)?;
    let extent = Extent(line.extent.load(Ordering::Relaxed));
    let audience = if extent.is_named() { table.audience(life.slot)?.load(Ordering::Relaxed) } else { 0 };
    let known = Known {
        sequence: line.sequence.load(Ordering::Relaxed),
        extent,
        audience,
        unread: slot::marks_left(line, table.shape.mark_words).readers(),
        aux: table.claim(life.slot)?.aux.load(Ordering::Relaxed),
    };
    check_still(table, life)?;
    Ok(known)
}

/// How long the payload of a published slot is and where; stale if it is not, or not in this life, or
/// if its region is another's by now.
#[inline(always)]
pub(crate) fn extent(table: &Table<'_>, life: Life) -> Result<Extent, Code> {
    check(table, life)?;
    let extent = Extent(table.line(life.slot)?.extent.load(Ordering::Relaxed));
    check_payload_still(table, life, extent.place(life.slot))?;
    Ok(extent)
}

/// That a slot is published, in this life.
#[inline(always)]
pub(crate) fn check(table: &Table<'_>, life: Life) -> Result<(), Code> {
    // Acquire: pairs with the release of Published in `commit::commit`.
    let ctl = Ctl(table.claim(life.slot).map_err(|_| Code::Stale)?.ctl.load(Ordering::Acquire));
    let is_usual = ctl.phase() == Some(Phase::Published) && ctl.generation() == life.generation;
    if is_usual { Ok(()) } else { check_thoroughly(table, life) }
}

#[cold]
fn check_thoroughly(table: &Table<'_>, life: Life) -> Result<(), Code> {
    if is_out(table, life)? { Ok(()) } else { Err(Code::Stale) }
}

/// The same after something was read from it, which belongs to this life then. Pairs with the fence in
/// `loan::begin_life`.
#[inline(always)]
pub(crate) fn check_still(table: &Table<'_>, life: Life) -> Result<(), Code> {
    fence(Ordering::Acquire);
    check(table, life)
}

/// The same for its payload, which is there: a region may be another's as soon as nobody is owed its
/// sample, and the slot be in this life all the time.
#[inline(always)]
pub(crate) fn check_payload_still(table: &Table<'_>, life: Life, place: Place) -> Result<(), Code> {
    check_still(table, life)?;
    match place {
        Place::Slot(_) => Ok(()),
        Place::Region(region) => region::check_lease(table, region, life.slot, life.generation),
    }
}

/// Marks a published slot as read by one reader, and tells its sequence; stale if it had marked it already.
#[inline(always)]
pub(crate) fn mark_read(table: &Table<'_>, life: Life, reader: Bit) -> Result<u64, Code> {
    let line = table.line(life.slot).map_err(|_| Code::Stale)?;
    let sequence = line.sequence.load(Ordering::Relaxed);
    // The sequence is that of this life only if the slot is still in it.
    check_still(table, life)?;
    hold::mark(table, life.slot, reader.word, reader.owed, sequence)?;
    Ok(sequence)
}

/// Marks everything as read by one reader, which is gone. Its number may be a joined reader's from here on. False if a
/// participant is at that already, which may be dead.
pub(crate) fn disconnect(table: &Table<'_>, reader: u32, participant: u32) -> Result<bool, Code> {
    match rows::begin_parting(table, reader, participant)? {
        Parting::Begun => {}
        Parting::Over => return Ok(true),
        Parting::Busy => return Ok(false),
    }
    let bit = Bit::of_reader(reader);
    for (slot, line) in (0..).zip(table.lines) {
        slot::release_reader(table, slot, line, bit, |_, _| bit.owed | bit.held);
    }
    rows::end_parting(table, reader);
    fence(Ordering::SeqCst);
    Bell(&table.hot.bells.0.change).ring();
    Ok(true)
}
