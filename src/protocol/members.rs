//! Membership: readers join and leave.

use core::ops::Range;

use super::bounds::RETRY_LIMIT;
use super::hold::{self, Cursor};
use super::order::{self, FIRST, Position};
use super::rows::{Member, change, give_row_back, take_row, why_not_joined};
use super::slot;
use super::table::Table;
use super::words::{Bit, RowPhase};
use crate::atomics::{Ordering, fence, spin_loop};
use crate::error::Code;
use crate::layout::{ReaderRow, SlotLine};

/// Takes a reader row and makes its reader a member. The reader starts with the next sample, or
/// with up to `history` retained samples before it.
pub(crate) fn join(
    table: &Table<'_>,
    participant: u32,
    history: u32,
) -> Result<(Member, Cursor), Code> {
    let (member, row) = take_row(table, participant)?;
    let joined = become_member(table, member, history).and_then(|cursor| {
        announce(table, row, member, &cursor)?;
        Ok((member, cursor))
    });
    if joined.is_err() {
        // The order is corrupt, or the reader was expelled already. Nothing of the membership
        // remains.
        end_membership(table, member, row, 0);
        let _ = give_row_back(table, member);
    }
    joined
}

fn become_member(
    table: &Table<'_>,
    Member { index, bit, .. }: Member,
    history: u32,
) -> Result<Cursor, Code> {
    table.hot.active.0.fetch_or(1 << index, Ordering::AcqRel);
    // Either a commit sees the bit, or its sequence is before the tail loaded below. Pairs with the
    // fences in `commit::commit` and `calm::commit`.
    table.attention().tell();
    let joined_at = order::settled_tail(table)?;
    if joined_at >= order::LATEST_JOIN {
        return Err(Code::Corrupt);
    }
    let start = joined_at.saturating_sub(u64::from(history)).max(FIRST);
    // A commit that saw the row's previous reader may have left a bit for it after that reader's
    // sweep.
    for (slot, line) in (0..).zip(table.slots.lines()) {
        slot::release_reader(table, slot, line, bit, |marks, sequence| {
            let older =
                sequence.map_or(marks.is_before(joined_at), |sequence| sequence < joined_at);
            if older { bit.owed | bit.held } else { 0 }
        });
    }
    let start = take_history(table, bit, start..joined_at)?;
    let place = Position::of(&table.shape, start);
    Ok(Cursor { place, since: joined_at, adopts: history > 0, lost: 0 })
}

/// Takes retained samples for a reader that joins, the newest first; returns the first sequence
/// that it is to look at. Commits meanwhile push the oldest out of history. The reader gets none
/// that is older than one which was pushed out, so what it gets has no hole, except where a commit
/// is under way.
fn take_history(table: &Table<'_>, bit: Bit, range: Range<u64>) -> Result<u64, Code> {
    let joined_at = range.end;
    let mut patience = RETRY_LIMIT;
    for sequence in range.clone().rev() {
        let entry = Position::of(&table.shape, sequence).look(table)?;
        if !entry.compare(sequence).is_eq() {
            return Ok(sequence.wrapping_add(1));
        }
        // Its writer is a few steps from done, unless it is stopped here. In that case the sample is
        // left for later. A later commit in this slot does not count: then the sample is gone.
        let is_under_way = || slot::is_committing_sequence(table, entry.slot(), sequence);
        while is_under_way()? && patience > 0 {
            patience -= 1;
            spin_loop();
        }
        let take = || hold::claim_retained(table, entry.slot(), bit, sequence, joined_at);
        // Again, because the commit may have ended between two looks.
        if !take()? && !is_under_way()? && !take()? {
            return Ok(sequence.wrapping_add(1));
        }
    }
    Ok(range.start)
}

/// Wakes writers that wait for readers. This comes last: what they commit then is behind the tail
/// that this reader has seen.
fn announce(
    table: &Table<'_>,
    row: &ReaderRow,
    member: Member,
    cursor: &Cursor,
) -> Result<(), Code> {
    // Relaxed: released with the state.
    row.cursor.store(cursor.place.sequence, Ordering::Relaxed);
    row.lost.store(cursor.lost, Ordering::Relaxed);
    if !change(row, member.joined.with(RowPhase::Joining), member.joined) {
        return Err(why_not_joined(table, member));
    }
    // Pairs with the fence in `Bell::announce`.
    fence(Ordering::SeqCst);
    table.space_bell().ring();
    Ok(())
}

/// Ends a membership. It releases the samples that the reader has not read; samples that the reader
/// holds stay until they are marked, and the row stays taken until then.
pub(crate) fn leave(table: &Table<'_>, member: Member, cursor: u64) -> Result<(), Code> {
    end_membership(table, member, table.reader(member.index)?, cursor);
    Ok(())
}

fn end_membership(table: &Table<'_>, member: Member, row: &ReaderRow, cursor: u64) {
    // Relaxed: released with the state, for `clear_departed`.
    row.cursor.store(cursor, Ordering::Relaxed);
    // Whether the reader was expelled or not: now it says itself what it holds. An exchange, AcqRel:
    // the process that takes the row next sees an expeller that is still at work.
    row.state.swap(member.joined.with(RowPhase::Draining).0, Ordering::AcqRel);
    table.hot.active.0.fetch_and(!(1 << member.index), Ordering::AcqRel);
    // Either a commit sees that the bit is clear and clears the mark that it set, or the sweep
    // below sees the mark. Pairs with the fences in `commit::commit` and `calm::commit`.
    table.attention().tell();
    release_all_unread(table, member, cursor);
}

/// Releases what a reader that is no member any more does not hold. `cursor`: it holds samples
/// before this only.
pub(crate) fn release_all_unread(table: &Table<'_>, member: Member, cursor: u64) {
    for (slot, line) in (0..).zip(table.slots.lines()) {
        release_unread(table, slot, line, member.bit, cursor);
    }
}

/// Releases the sample in one slot if a reader that holds nothing from `cursor` on is owed it.
pub(super) fn release_unread(
    table: &Table<'_>,
    slot: u32,
    line: &SlotLine,
    reader: Bit,
    cursor: u64,
) {
    slot::release_reader(table, slot, line, reader, |_, sequence| {
        // In a lossless segment an owed sample before the cursor is held, and its slot does not
        // change.
        let held = !table.shape.drop_oldest && sequence.is_some_and(|sequence| sequence < cursor);
        if held { 0 } else { reader.owed }
    });
}
