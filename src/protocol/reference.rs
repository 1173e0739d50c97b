//! The reference operations: the caller assigns the numbers of readers, and names the active ones
//! at each reserve.
//!
//! A slot is free for such a reserve when no active reader is still owed its sample. So any number
//! of newer samples, which are for other readers, may pass one that is unread. A reader looks for
//! its sample in the order first, and in the slots when its entry is overwritten. These operations
//! exist on lossless segments only, where a sample that is not marked does not change.

use core::cmp;

use super::bounds::{RETRY_LIMIT, StepBudget};
use super::order::{self, Position};
use super::rows::{self, Parting};
use super::table::Table;
use super::words::{Audience, Bit, Ctl, Entry, Extent, Loan, Marks, Owner, Phase, Place, Wanted};
use super::{hold, loan, region, slot};
use crate::atomics::{Ordering, fence};
use crate::error::Code;

/// A slot in one of its generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// What is known about a published slot besides its bytes.
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

/// Names these readers, in each call anew, because another caller may have given one up. False if
/// one of them is being given up, by a participant that may be dead.
#[inline(always)]
pub(crate) fn name_all(table: &Table<'_>, readers: u64) -> Result<bool, Code> {
    if readers.checked_shr(table.readers.len() as u32).unwrap_or(0) != 0 {
        return Err(Code::BadIndex);
    }
    let mut left = readers;
    while left != 0 {
        if !rows::is_named(table, left.trailing_zeros()) {
            return name_each(table, readers);
        }
        left &= left - 1;
    }
    Ok(true)
}

#[cold]
#[inline(never)]
fn name_each(table: &Table<'_>, readers: u64) -> Result<bool, Code> {
    let mut all = true;
    let mut left = readers;
    while left != 0 {
        all &= rows::name(table, left.trailing_zeros())?;
        left &= left - 1;
    }
    Ok(all)
}

/// Claims a slot that no reader of `active` needs, when no slot is completely free.
pub(crate) fn claim_ignoring(
    table: &Table<'_>,
    owner: Owner,
    wanted: Wanted,
    active: u64,
) -> Result<Option<Loan>, Code> {
    // Besides the active ones: members, and readers that have left and still hold samples.
    let waited_for = Audience::of_readers(active | rows::taken_rows(table), true);
    loan::claim_ignoring(table, owner, wanted, waited_for)
}

/// The oldest sample that is owed to a reader. `cursor` is a sequence before which nothing is owed
/// to it; this call moves the cursor.
///
/// The search walks the order from the cursor, and visits each entry once. If an entry is
/// overwritten, two laps of newer samples have been published, and its sample may still be unread.
/// In that case the search visits all slots.
#[inline(always)]
pub(crate) fn next_unread(
    table: &Table<'_>,
    reader: Bit,
    cursor: &mut u64,
) -> Result<Option<Life>, Code> {
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
                // The sample was for other readers, or is marked, and neither changes again.
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

/// The generation of a slot, if its sample is the published `sequence` and is owed to a reader.
#[inline(always)]
fn owed_at(table: &Table<'_>, slot: u32, reader: Bit, sequence: u64) -> Result<Option<Life>, Code> {
    // Loaded before the marks: if the sample is unread after this, the slot was in this generation.
    let life = life_of(table, slot)?;
    let marks = table.line(slot)?.marks.get(reader.word).ok_or(Code::Corrupt)?;
    let seen = Marks(marks.load(Ordering::Acquire));
    let owed = seen.is_of(sequence) && seen.0 & reader.owed != 0;
    Ok(owed.then_some(life))
}

/// The oldest sample before `tail` that is owed to a reader, and its sequence. Visits every slot.
///
/// A sample that was published before this call, and that its reader has not marked, is in its slot
/// all the time, so this call sees it. A sample that is published meanwhile has sequence `tail` or
/// a later one, and is found in the order.
#[cold]
fn oldest_owed(table: &Table<'_>, reader: Bit, tail: u64) -> Result<Option<(Life, u64)>, Code> {
    let mut oldest: Option<(Life, u64)> = None;
    for (slot, line) in (0u32..).zip(table.slots.lines()) {
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

/// Whether the sample of a generation is published, and the generation is not over.
fn is_out(table: &Table<'_>, life: Life) -> Result<bool, Code> {
    let ctl_word = &table.claim(life.slot)?.ctl;
    for _ in 0..RETRY_LIMIT {
        // Acquire: pairs with the store of Publishing in `Sample::prepare`, so the sequence below
        // is not of an earlier generation.
        let ctl = Ctl(ctl_word.load(Ordering::Acquire));
        if ctl.generation() != life.generation {
            return Ok(false);
        }
        match ctl.phase() {
            // Reclaiming: the writer that takes it may put it back, and the marks say for whom.
            Some(Phase::Published | Phase::Confirmed | Phase::Reclaiming) => return Ok(true),
            Some(Phase::Publishing) => {
                // Its writer may have prepared the slot for a sequence that another sample got.
                let sequence = table.line(life.slot)?.sequence.load(Ordering::Relaxed);
                let entry = Position::of(&table.shape, sequence).look(table)?;
                if entry == Entry::new(sequence, life.slot) {
                    return Ok(true);
                }
                // Acquire, after the entry: if the commit was published, the writer that overwrote
                // its entry confirmed it before.
                if Ctl(ctl_word.load(Ordering::Acquire)) == ctl {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Err(Code::Corrupt)
}

/// The sample that is published in a slot. Anyone may read it, and the next reserve may reuse it.
pub(crate) fn published_in(table: &Table<'_>, slot: u32) -> Result<Option<Life>, Code> {
    let life = life_of(table, slot).map_err(|_| Code::Invalid)?;
    Ok(is_out(table, life)?.then_some(life))
}

/// The generation of a slot now. Acquire: what is read of the slot after this is not of an earlier
/// one.
fn life_of(table: &Table<'_>, slot: u32) -> Result<Life, Code> {
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
    Ok(Life { slot, generation: ctl.generation() })
}

/// What is known about a published slot; stale if it is not published, or not in this generation.
pub(crate) fn look(table: &Table<'_>, life: Life) -> Result<Known, Code> {
    check(table, life)?;
    let line = table.line(life.slot)?;
    let extent = Extent(line.extent.load(Ordering::Relaxed));
    let audience =
        if extent.is_named() { table.audience(life.slot)?.load(Ordering::Relaxed) } else { 0 };
    let known = Known {
        sequence: line.sequence.load(Ordering::Relaxed),
        extent,
        audience,
        unread: slot::marks_left(line, &table.shape).readers(),
        aux: table.claim(life.slot)?.aux.load(Ordering::Relaxed),
    };
    check_still(table, life)?;
    Ok(known)
}

/// The length and place of the payload of a published slot; stale if the slot is not published, or
/// not in this generation, or if its region has another lease by now.
#[inline(always)]
pub(crate) fn extent(table: &Table<'_>, life: Life) -> Result<Extent, Code> {
    check(table, life)?;
    let extent = Extent(table.line(life.slot)?.extent.load(Ordering::Relaxed));
    check_payload_still(table, life, extent.place(life.slot))?;
    Ok(extent)
}

/// Checks that a slot is published, in this generation.
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

/// Checks that again after a read from the slot, which then belongs to this generation. Pairs with
/// the fence in `loan::begin_life`.
#[inline(always)]
pub(crate) fn check_still(table: &Table<'_>, life: Life) -> Result<(), Code> {
    fence(Ordering::Acquire);
    check(table, life)
}

/// Checks that again for a payload at `place`. A region may be leased again as soon as nobody is
/// owed its sample, while the slot stays in this generation.
#[inline(always)]
pub(crate) fn check_payload_still(table: &Table<'_>, life: Life, place: Place) -> Result<(), Code> {
    check_still(table, life)?;
    match place {
        Place::Slot(_) => Ok(()),
        Place::Region(region) => region::check_lease(table, region, life.slot, life.generation),
    }
}

/// Marks a published slot as read by one reader, and returns its sequence; stale if the reader had
/// already marked it.
#[inline(always)]
pub(crate) fn mark_read(table: &Table<'_>, life: Life, reader: Bit) -> Result<u64, Code> {
    let line = table.line(life.slot).map_err(|_| Code::Stale)?;
    let sequence = line.sequence.load(Ordering::Relaxed);
    // The sequence belongs to this generation only if the slot is still in it.
    check_still(table, life)?;
    hold::mark(table, life.slot, reader.word, reader.owed, sequence)?;
    Ok(sequence)
}

/// Marks everything as read by one reader that is gone. A joining reader may get its number from
/// then on. False if another participant, which may be dead, is already doing this.
pub(crate) fn disconnect(table: &Table<'_>, reader: u32, participant: u32) -> Result<bool, Code> {
    let row = match rows::begin_parting(table, reader, participant)? {
        Parting::Begun(row) => row,
        Parting::Over => return Ok(true),
        Parting::Busy => return Ok(false),
    };
    let bit = Bit::of_reader(reader);
    for (slot, line) in (0..).zip(table.slots.lines()) {
        slot::release_reader(table, slot, line, bit, |_, _| bit.owed | bit.held);
    }
    rows::end_parting(row);
    fence(Ordering::SeqCst);
    table.change_bell().ring();
    Ok(true)
}
