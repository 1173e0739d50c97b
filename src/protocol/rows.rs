//! Reader rows: which reader has which bit of the marks.

use super::dead::Dead;
use super::slot;
use super::table::Table;
use super::words::{Audience, Bit};
use crate::atomics::{Ordering, fence_after_rmw};
use crate::error::Code;
use crate::layout::{ReaderRow, SlotLine};

/// Phases of a reader row, in its lowest bits; above them the participant.
const FREE: u64 = 0;
pub(super) const JOINED: u64 = 1;
/// The reader has left, but still holds samples.
pub(super) const DRAINING: u64 = 2;
/// Callers of the reference operations use this number. No participant owns the row, so none is
/// stored beside this phase.
const NAMED: u64 = 3;
/// Such a number is being given up, and the participant clears its marks.
const PARTING: u64 = 4;
/// Samples are already owed to the reader, but it has not settled yet where it begins to read.
const JOINING: u64 = 5;
const PHASE_BITS: u32 = 8;
const PHASE: u64 = (1 << PHASE_BITS) - 1;

/// The state of a row that a participant owns.
pub(super) fn state_of(participant: u32, phase: u64) -> u64 {
    u64::from(participant) << PHASE_BITS | phase
}

/// The participant that owns a row, if any: when it is dead, recovery clears the row.
fn participant_of(state: u64) -> Option<u32> {
    matches!(state & PHASE, JOINING | JOINED | DRAINING | PARTING)
        .then_some((state >> PHASE_BITS) as u32)
}

/// The participant of a row, if a reader has the row.
fn reader_of(state: u64) -> Option<u32> {
    participant_of(state).filter(|_| state & PHASE != PARTING)
}

/// A reader that is a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) index: u32,
    pub(crate) bit: Bit,
}

/// Takes a free row from the top, because callers of the reference operations count theirs from 0.
/// Rows that such callers have named are not free.
pub(super) fn take_row<'t>(
    table: &Table<'t>,
    participant: u32,
) -> Result<(u32, &'t ReaderRow), Code> {
    let mine = state_of(participant, JOINING);
    for (index, row) in table.readers.iter().enumerate().rev() {
        // AcqRel: pairs with the release in `free_row`.
        if row.state.compare_exchange(FREE, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Ok((index as u32, row));
        }
    }
    Err(Code::NoReaderSlot)
}

/// Of the readers that a published sample is owed to, those that are gone: they are not members,
/// and not `named` in that commit and still named by callers. The caller has passed a fence since
/// the publication.
#[inline(always)]
pub(crate) fn departed(table: &Table<'_>, owed: u64, named: u64) -> u64 {
    // Acquire: pairs with `members::leave`; the reader's row shows by now that it has left.
    let mut left = owed & !table.hot.active.0.load(Ordering::Acquire);
    let mut named = named & left;
    while named != 0 {
        let reader = named.trailing_zeros();
        named &= named - 1;
        // Acquire: pairs with `begin_parting`.
        let is_named = |row: &ReaderRow| row.state.load(Ordering::Acquire) == NAMED;
        if table.readers.get(reader as usize).is_some_and(is_named) {
            left &= !(1 << reader);
        }
    }
    left
}

/// Clears the marks that a commit set for readers that left before the publication.
///
/// Another reader may have such a row by now. It joined after the publication: its join has cleared
/// the bit, and it takes the sample from history only when the commit is over.
#[cold]
pub(crate) fn clear_departed(table: &Table<'_>, line: &SlotLine, sequence: u64, left: u64) {
    for (index, row) in (0u32..).zip(table.readers).filter(|(index, _)| left >> index & 1 != 0) {
        // Acquire: the cursor below belongs to this state or to a later one. The caller has seen
        // the bit clear in `active`, so the state is not from before the reader left.
        let state = row.state.load(Ordering::Acquire);
        // In a lossless segment, a reader that left may still hold a sample by this very bit.
        let held = !table.shape.drop_oldest
            && state & PHASE == DRAINING
            && sequence < row.cursor.load(Ordering::Relaxed);
        if !held {
            slot::clear_owed(
                line,
                sequence,
                Audience::of_readers(1 << index, false),
                table.shape.mark_words,
            );
        }
    }
}

/// How many readers have joined. Each of them reads whatever is committed after this call.
pub(crate) fn joined(table: &Table<'_>) -> u32 {
    // Acquire: pairs with the release in `members::announce`.
    let joined = |row: &&ReaderRow| row.state.load(Ordering::Acquire) & PHASE == JOINED;
    table.readers.iter().filter(joined).count() as u32
}

/// The rows that readers have, as bits: joining, joined, or left with samples held.
pub(crate) fn taken_rows(table: &Table<'_>) -> u64 {
    // Acquire: pairs with the releases in `members::leave` and `free_row`.
    let taken = |row: &ReaderRow| u64::from(reader_of(row.state.load(Ordering::Acquire)).is_some());
    table.readers.iter().enumerate().fold(0, |rows, (index, row)| rows | taken(row) << index)
}

/// Who has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// A reader that has joined, or is about to.
    Joined,
    /// A reader that has left and still holds samples.
    Left,
    /// A number of callers of the reference operations.
    Named,
}

/// A row as it looks from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) seat: Seat,
    /// `None`: it has none, as callers of the reference operations share a number.
    pub(crate) participant: Option<u32>,
    /// The sequence that it reads next, or where it left; `None` if nobody knows.
    pub(crate) cursor: Option<u64>,
    /// Samples that it has found to be lost.
    pub(crate) lost: u64,
}

/// Looks at a row; `None` if it is free, or holds what no row can.
pub(crate) fn look(row: &ReaderRow) -> Option<Seen> {
    // Acquire: pairs with the releases in `members`; cursor and count below are of this reader.
    let state = row.state.load(Ordering::Acquire);
    let (seat, has_cursor) = match state & PHASE {
        JOINED => (Seat::Joined, true),
        JOINING => (Seat::Joined, false),
        DRAINING => (Seat::Left, true),
        NAMED | PARTING => (Seat::Named, false),
        _ => return None,
    };
    Some(Seen {
        seat,
        participant: reader_of(state),
        cursor: has_cursor.then(|| row.cursor.load(Ordering::Relaxed)),
        lost: if has_cursor { row.lost.load(Ordering::Relaxed) } else { 0 },
    })
}

/// The participants that own rows; one with several rows is returned several times.
pub(crate) fn participants(table: &Table<'_>) -> impl Iterator<Item = u32> {
    // The state of a row that is taken.
    table.readers.iter().filter_map(|row| participant_of(row.state.load(Ordering::Relaxed)))
}

/// Frees the row of a reader that has left and holds nothing any more.
pub(crate) fn give_row_back(table: &Table<'_>, member: Member) -> Result<(), Code> {
    free_row(table.reader(member.index)?);
    Ok(())
}

/// Frees a row of which no bit is left in any marks.
pub(super) fn free_row(row: &ReaderRow) {
    // Release: pairs with the exchange in `take_row`.
    row.state.store(FREE, Ordering::Release);
}

/// Ends the membership of all readers of dead participants, and frees the named numbers that these
/// were giving up. Returns their rows; the caller clears their marks, and then frees the rows.
pub(crate) fn evict(table: &Table<'_>, dead: &Dead) -> Audience {
    let is_of_dead = |row: &ReaderRow| {
        participant_of(row.state.load(Ordering::Acquire)).is_some_and(|p| dead.contains(p))
    };
    let rows = table.readers.iter().enumerate();
    let readers = rows.fold(0, |all, (index, row)| all | u64::from(is_of_dead(row)) << index);
    if readers != 0 {
        table.hot.active.0.fetch_and(!readers, Ordering::AcqRel);
        // As in `members::leave`; pairs with the fence in `commit::commit`.
        fence_after_rmw();
    }
    Audience::of_readers(readers, false)
}

/// Frees the rows of readers that were [evicted](evict) and whose marks are cleared.
pub(crate) fn free_rows(table: &Table<'_>, readers: Audience) {
    let gone = |(index, _): &(usize, &ReaderRow)| readers.readers() >> index & 1 != 0;
    for (_, row) in table.readers.iter().enumerate().filter(gone) {
        free_row(row);
    }
}

/// The rows of one participant's readers, as bits.
pub(crate) fn rows_of(table: &Table<'_>, participant: u32) -> u64 {
    let of_it = |row: &ReaderRow| reader_of(row.state.load(Ordering::Acquire)) == Some(participant);
    table
        .readers
        .iter()
        .enumerate()
        .fold(0, |rows, (index, row)| rows | u64::from(of_it(row)) << index)
}

/// Reserves a reader number for callers of the reference operations until it is [given
/// up](begin_parting), so that no joining reader gets its row. The number outlives the caller. It
/// is an error if a reader has the row. False while the number is being given up: what is committed
/// for it then is owed to nobody.
#[inline(always)]
pub(crate) fn name(table: &Table<'_>, reader: u32) -> Result<bool, Code> {
    let row = table.reader(reader)?;
    // Relaxed: nothing else depends on it; marks that a former reader has left do not concern this
    // one.
    if row.state.load(Ordering::Relaxed) == NAMED { Ok(true) } else { name_now(row) }
}

#[cold]
fn name_now(row: &ReaderRow) -> Result<bool, Code> {
    // AcqRel: pairs with the exchange in `take_row`, and with the releases of those that free rows.
    match row.state.compare_exchange(FREE, NAMED, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) | Err(NAMED) => Ok(true),
        Err(state) if state & PHASE == PARTING => Ok(false),
        Err(_) => Err(Code::BadIndex),
    }
}

/// What a caller finds that gives up a number.
pub(crate) enum Parting<'t> {
    /// This caller must clear the marks, and then [end](end_parting) the parting of this row.
    Begun(&'t ReaderRow),
    /// Nobody uses the number, and it has no marks.
    Over,
    /// Another participant is giving it up.
    Busy,
}

/// Begins to give up a number that was [named](name). The participant owns the row until its marks
/// are cleared, so no reader joins meanwhile, and if the participant dies, recovery clears them. It
/// is an error if a reader has the row.
pub(crate) fn begin_parting<'t>(
    table: &'t Table<'_>,
    reader: u32,
    participant: u32,
) -> Result<Parting<'t>, Code> {
    let row = table.reader(reader)?;
    // AcqRel: pairs with the exchange in `take_row`, and with the load of the rows in `departed`.
    let parting = state_of(participant, PARTING);
    match row.state.compare_exchange(NAMED, parting, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => {
            // Either a commit that names this reader sees this state and clears the mark that it
            // set, or the caller's sweep sees the mark. Pairs with the fence in `commit::commit`.
            fence_after_rmw();
            Ok(Parting::Begun(row))
        }
        Err(FREE) => Ok(Parting::Over),
        Err(state) if state & PHASE == PARTING => Ok(Parting::Busy),
        Err(_) => Err(Code::BadIndex),
    }
}

/// Frees the row of a number that was given up, after its marks were cleared.
pub(crate) fn end_parting(row: &ReaderRow) {
    free_row(row);
}
