//! Who is owed samples: readers join and leave.

use super::hold::{self, Cursor, Want};
use super::order::{self, FIRST, Position};
use super::slot;
use super::words::{Audience, Bit};
use super::{RETRY_LIMIT, Table};
use crate::atomics::{Ordering, fence, fence_after_rmw, spin_loop};
use crate::error::Code;
use crate::layout::{ReaderRow, SlotLine};

/// Phases of a reader row, in its lowest bits; then the participant, then the pins.
const FREE: u64 = 0;
const JOINED: u64 = 1;
/// Has left, but still has samples in hand.
const DRAINING: u64 = 2;
const PHASE_BITS: u32 = 8;
const PHASE: u64 = (1 << PHASE_BITS) - 1;
/// A writer is cleaning up after the row's former reader: nobody may take the row for the moment.
const ONE_PIN: u64 = 1 << 32;
const PINS: u64 = !(ONE_PIN - 1);

/// A reader that is a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) index: u32,
    pub(crate) bit: Bit,
}

/// Takes a reader row and makes its reader a member. It starts at the samples that come from now on, or at up to
/// `history` retained ones before them.
pub(crate) fn join(table: &Table<'_>, participant: u32, history: u32) -> Result<(Member, Cursor), Code> {
    let index = take_row(table, participant)?;
    let member = Member { index, bit: Bit::of_reader(index) };
    match become_member(table, member, history) {
        Ok(cursor) => Ok((member, cursor)),
        Err(code) => {
            // Only a broken order gets here. Nothing of the membership stays.
            leave(table, member, participant, 0);
            give_row_back(table, member);
            Err(code)
        }
    }
}

fn become_member(table: &Table<'_>, Member { index, bit }: Member, history: u32) -> Result<Cursor, Code> {
    table.hot.active.0.fetch_or(1 << index, Ordering::AcqRel);
    // Either a commit sees the bit, or the tail below is at most its sequence. Pairs with the exchange and the
    // fence in `order::commit`.
    fence_after_rmw();
    let joined_at = order::settled_tail(table)?;
    let start = joined_at.saturating_sub(u64::from(history)).max(FIRST);
    // A commit that saw the row's previous reader may have left it a bit behind that one's sweep.
    for (slot, line) in (0..).zip(table.lines) {
        slot::release_reader(table, slot, line, bit, |marks, sequence| {
            let older = sequence.map_or(marks.is_before(joined_at), |sequence| sequence < joined_at);
            if older { bit.owed | bit.held } else { 0 }
        });
    }
    let mut place = Position::of(&table.shape, start);
    while place.sequence < joined_at {
        let entry = place.look(table)?;
        if entry.compare(place.sequence).is_eq() {
            hold::hold(table, entry.slot(), bit, place.sequence, Want::Owed)?;
        }
        place = place.next(&table.shape);
    }
    let place = Position::of(&table.shape, start);
    Ok(Cursor { place, since: joined_at, adopts: history > 0, lost: 0 })
}

/// Rows are given from the top, because callers of the reference operations count theirs from 0.
fn take_row(table: &Table<'_>, participant: u32) -> Result<u32, Code> {
    let mine = u64::from(participant) << PHASE_BITS | JOINED;
    for _ in 0..RETRY_LIMIT {
        match try_row(table, mine) {
            Row::Taken(index) => return Ok(index),
            Row::None => break,
            // Its writer is a few steps from done, unless it was stopped right here.
            Row::Pinned => spin_loop(),
        }
    }
    Err(Code::NoReaderSlot)
}

/// What a walk over the rows found.
enum Row {
    Taken(u32),
    Pinned,
    None,
}

fn try_row(table: &Table<'_>, mine: u64) -> Row {
    let mut found = Row::None;
    for (index, row) in table.readers.iter().enumerate().rev() {
        // AcqRel: pairs with the release in `give_row_back`.
        match row.state.compare_exchange(FREE, mine, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Row::Taken(index as u32),
            Err(state) if state & PHASE == FREE => found = Row::Pinned,
            Err(_) => {}
        }
    }
    found
}

/// Moves a row on, whatever pins it has. Release: pairs with the acquire in `try_row`.
fn set_row(row: &ReaderRow, state: u64) {
    // Never fails: the closure always returns a state.
    let _ = row.state.fetch_update(Ordering::Release, Ordering::Relaxed, |seen| Some(seen & PINS | state));
}

/// Clears the marks that a commit has set for readers which left before it was published.
///
/// Their rows must not be taken by others in between: a reader that joins with history may have this very sample in hand by
/// the very bit that is to be cleared. So each row is pinned first. If it is a member's again, that one joined after the
/// publication, and has cleared or taken the bit as its own.
#[cold]
pub(crate) fn forgive_departed(table: &Table<'_>, line: &SlotLine, sequence: u64, left: u64) {
    for (index, row) in (0u32..).zip(table.readers).filter(|(index, _)| left >> index & 1 != 0) {
        // AcqRel: pairs with the exchange in `try_row`; one of the two comes first.
        let state = row.state.fetch_add(ONE_PIN, Ordering::AcqRel);
        // Lossless, what a reader that left still has in hand it has by this very bit. Its cursor was stored before its
        // row was set to draining.
        let in_hand = !table.shape.drop_oldest
            && state & PHASE == DRAINING
            && sequence < row.cursor.load(Ordering::Relaxed);
        if state & PHASE != JOINED && !in_hand {
            slot::forgive(line, sequence, Audience::of_readers(1 << index, false), table.shape.mark_words);
        }
        // Release: who takes the row comes after the clearing.
        row.state.fetch_sub(ONE_PIN, Ordering::AcqRel);
    }
}

/// Ends a membership. What the reader has not read is given back; what it has in hand stays, until it is marked.
/// The row stays taken as long.
pub(crate) fn leave(table: &Table<'_>, member: Member, participant: u32, cursor: u64) {
    if let Some(row) = table.readers.get(member.index as usize) {
        // Relaxed: released with the state, for `forgive_departed`.
        row.cursor.store(cursor, Ordering::Relaxed);
        set_row(row, u64::from(participant) << PHASE_BITS | DRAINING);
    }
    table.hot.active.0.fetch_and(!(1 << member.index), Ordering::AcqRel);
    // Either a commit sees the bit gone and clears the mark that it has set, or the sweep below sees the mark.
    // Pairs with the fence in `order::commit`.
    fence_after_rmw();
    for (slot, line) in (0..).zip(table.lines) {
        slot::release_reader(table, slot, line, member.bit, |_, sequence| {
            // Lossless, an owed sample before the cursor is one in hand, and its slot stands still.
            let in_hand = !table.shape.drop_oldest && sequence.is_some_and(|sequence| sequence < cursor);
            if in_hand { 0 } else { member.bit.owed }
        });
    }
}

/// The rows that readers have, as bits: joined, or left with samples in hand.
pub(crate) fn taken_rows(table: &Table<'_>) -> u64 {
    // Acquire: pairs with the release in `set_row`.
    let taken = |row: &ReaderRow| u64::from(row.state.load(Ordering::Acquire) & PHASE != FREE);
    table.readers.iter().enumerate().fold(0, |rows, (index, row)| rows | taken(row) << index)
}

/// Frees the row of a reader that has left and has nothing in hand any more.
pub(crate) fn give_row_back(table: &Table<'_>, member: Member) {
    if let Some(row) = table.readers.get(member.index as usize) {
        set_row(row, FREE);
    }
}

/// Clears every mark of a reader whose books the caller keeps, and that is gone.
pub(crate) fn disconnect(table: &Table<'_>, bit: Bit) {
    for (slot, line) in (0..).zip(table.lines) {
        slot::release_reader(table, slot, line, bit, |_, _| bit.owed | bit.held);
    }
    fence(Ordering::SeqCst);
    super::bell::Bell(&table.hot.bells.0.change).ring();
}
