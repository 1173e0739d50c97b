//! Reader rows: which reader has which bit of the marks.

use super::dead::Dead;
use super::slot::{self, retry};
use super::table::Table;
use super::words::{Audience, Bit, RowPhase, RowState};
use crate::atomics::{Ordering, fence_after_rmw, light_fence};
use crate::error::Code;
use crate::layout::{ReaderRow, SlotLine};

/// The state of a row.
pub(super) fn state_of(row: &ReaderRow) -> RowState {
    // Acquire: pairs with every exchange of the state; each of them releases what its process did
    // before.
    RowState(row.state.load(Ordering::Acquire))
}

/// Changes the state of a row, if it is exactly as seen; false otherwise. AcqRel: whoever sees a
/// state sees what was done before each earlier one.
pub(super) fn change(row: &ReaderRow, seen: RowState, to: RowState) -> bool {
    row.state.compare_exchange(seen.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The participant that owns a row, if any: when it is dead, recovery clears the row.
fn participant_of(state: RowState) -> Option<u32> {
    let is_owned = !state.is(RowPhase::Free) && !state.is(RowPhase::Named);
    is_owned.then(|| state.participant())
}

/// The participant of a row, if a reader has the row.
fn reader_of(state: RowState) -> Option<u32> {
    participant_of(state).filter(|_| !state.is(RowPhase::Parting))
}

/// A reader that is a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) index: u32,
    pub(crate) bit: Bit,
    /// The state of its row while it is joined.
    pub(super) joined: RowState,
}

/// Takes a free row from the top, because callers of the reference operations count theirs from 0.
/// Rows that such callers have named are not free. The reader is a member when its caller has made
/// it one.
pub(super) fn take_row<'t>(
    table: &Table<'t>,
    participant: u32,
) -> Result<(Member, &'t ReaderRow), Code> {
    for (index, row) in table.readers.iter().enumerate().rev() {
        let index = index as u32;
        let free = state_of(row);
        let joining = free.taken_by(participant, RowPhase::Joining);
        if is_free(row, free) && change(row, free, joining) {
            let joined = joining.with(RowPhase::Joined);
            return Ok((Member { index, bit: Bit::of_reader(index), joined }, row));
        }
    }
    Err(Code::NoReaderSlot)
}

/// Whether a row in this state can be taken: nobody has it, and nobody is still expelling its last
/// reader.
fn is_free(row: &ReaderRow, state: RowState) -> bool {
    // Relaxed: who sees the state sees an expeller that changed an earlier one, and another cannot
    // do anything to a row without a reader. The exchange that follows fails if the row was taken
    // since `state` was loaded.
    state.is(RowPhase::Free) && row.expeller.load(Ordering::Relaxed) == 0
}

/// Stores how far a reader has come: it reads `cursor` next, and may hold what is before it. False
/// if the reader was expelled: then it may hold only what was before its last cursor.
///
/// Either this sees that it is expelled, or the expeller sees the cursor.
#[inline(always)]
pub(crate) fn move_cursor(table: &Table<'_>, member: Member, cursor: u64) -> bool {
    let Some(row) = table.readers.get(member.index as usize) else { return false };
    // Relaxed: ordered by the fence, or by the exchange of the state with which the reader leaves.
    row.cursor.store(cursor, Ordering::Relaxed);
    // Pairs with the heavy fence in `expel::expel_alone`.
    light_fence();
    is_joined(row, member)
}

/// Whether a reader is joined, and not expelled.
#[inline(always)]
pub(crate) fn is_still_joined(table: &Table<'_>, member: Member) -> bool {
    table.readers.get(member.index as usize).is_some_and(|row| is_joined(row, member))
}

#[inline(always)]
fn is_joined(row: &ReaderRow, member: Member) -> bool {
    // Relaxed: what the reader has looked at before this load was not yet taken away from it.
    row.state.load(Ordering::Relaxed) == member.joined.0
}

/// Why a reader is not joined any more: it was expelled, or somebody has written over its row.
#[cold]
pub(crate) fn why_not_joined(table: &Table<'_>, member: Member) -> Code {
    let expelled = [RowPhase::Expelled, RowPhase::Cut].map(|phase| member.joined.with(phase));
    match table.readers.get(member.index as usize) {
        Some(row) if expelled.contains(&state_of(row)) => Code::Expelled,
        _ => Code::Corrupt,
    }
}

/// Of the readers that a published sample is owed to, those that are gone: they are not members,
/// and not `named` in that commit and still named by callers. The caller has passed a fence since
/// the publication.
#[inline(always)]
pub(crate) fn departed(table: &Table<'_>, owed: u64, named: u64) -> u64 {
    // Acquire: pairs with `members::leave`, `expel::end_debts` and `evict`; the reader's row shows
    // by now that it is no member.
    let mut left = owed & !table.hot.active.0.load(Ordering::Acquire);
    let mut named = named & left;
    while named != 0 {
        let reader = named.trailing_zeros();
        named &= named - 1;
        let is_named = |row: &ReaderRow| state_of(row).is(RowPhase::Named);
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
        // The caller has seen the bit clear in `active`, so the state is not from before the reader
        // left or was expelled.
        let state = state_of(row);
        // In a lossless segment, a reader that left may still hold a sample by this very bit. What
        // an expelled one holds may not be known yet; but then its expeller sweeps later, and so
        // does the reader when it leaves. Relaxed: the words belong to this state or a later one.
        let held = !table.shape.drop_oldest
            && match state.phase() {
                Some(RowPhase::Draining) => sequence < row.cursor.load(Ordering::Relaxed),
                Some(RowPhase::Expelled) => true,
                Some(RowPhase::Cut) => sequence < row.cut.load(Ordering::Relaxed),
                _ => false,
            };
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
    let joined = |row: &&ReaderRow| state_of(row).is(RowPhase::Joined);
    table.readers.iter().filter(joined).count() as u32
}

/// The rows that readers have, as bits: joining, joined, expelled, or left with samples held.
pub(crate) fn taken_rows(table: &Table<'_>) -> u64 {
    let taken = |row: &ReaderRow| u64::from(reader_of(state_of(row)).is_some());
    table.readers.iter().enumerate().fold(0, |rows, (index, row)| rows | taken(row) << index)
}

/// Who has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// A reader that has joined, or is about to.
    Joined,
    /// A reader that has left and still holds samples.
    Left,
    /// A reader that was expelled, and has not left yet.
    Expelled,
    /// A number of callers of the reference operations.
    Named,
}

/// A row as it looks from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) seat: Seat,
    /// `None`: it has none, as callers of the reference operations share a number.
    pub(crate) participant: Option<u32>,
    /// How often the row has been taken.
    pub(crate) generation: u32,
    /// The sequence that it reads next, or where it left; `None` if nobody knows.
    pub(crate) cursor: Option<u64>,
    /// Samples that it has found to be lost.
    pub(crate) lost: u64,
}

/// Looks at a row; `None` if it is free, or holds what no row can.
pub(crate) fn look(row: &ReaderRow) -> Option<Seen> {
    // Relaxed, for the words below: they are of this reader or a later one.
    let state = state_of(row);
    let cursor = || Some(row.cursor.load(Ordering::Relaxed));
    let (seat, cursor) = match state.phase()? {
        RowPhase::Joined => (Seat::Joined, cursor()),
        RowPhase::Joining => (Seat::Joined, None),
        RowPhase::Draining => (Seat::Left, cursor()),
        RowPhase::Expelled => (Seat::Expelled, cursor()),
        RowPhase::Cut => (Seat::Expelled, Some(row.cut.load(Ordering::Relaxed))),
        RowPhase::Named | RowPhase::Parting => (Seat::Named, None),
        RowPhase::Free => return None,
    };
    Some(Seen {
        seat,
        participant: reader_of(state),
        generation: state.generation(),
        cursor,
        lost: cursor.map_or(0, |_| row.lost.load(Ordering::Relaxed)),
    })
}

/// The participants that own rows, or are expelling readers; one may be returned several times.
pub(crate) fn participants(table: &Table<'_>) -> impl Iterator<Item = u32> {
    table
        .readers
        .iter()
        .flat_map(|row| [participant_of(state_of(row)), expeller_of(row)].into_iter().flatten())
}

/// The participant that is expelling the reader of a row.
pub(super) fn expeller_of(row: &ReaderRow) -> Option<u32> {
    // Acquire: pairs with the exchange in `expel::expel`; a recoverer sees what a dead expeller did
    // to the row.
    u32::try_from(row.expeller.load(Ordering::Acquire)).ok()?.checked_sub(1)
}

/// Frees the row of a reader that has left and holds nothing any more.
pub(crate) fn give_row_back(table: &Table<'_>, member: Member) -> Result<(), Code> {
    let row = table.reader(member.index)?;
    forget_receipts(table, member);
    free_row(row);
    Ok(())
}

/// Clears what is left of the receipts of a reader that holds nothing: nobody who gets its row may
/// find any. First it clears the marks that they stand for.
fn forget_receipts(table: &Table<'_>, Member { index, bit, .. }: Member) {
    if !table.shape.receipts {
        return;
    }
    let reader = Audience::of_readers(1 << index, false);
    for (slot, line) in (0..).zip(table.slots.lines()) {
        // This looks whether the slot is free: others, whose look came between the two stores, may
        // have missed that.
        slot::release_reader(table, slot, line, bit, |_, _| bit.owed | bit.held);
        slot::forget_receipts(line, reader);
    }
}

/// Frees a row of which no bit is left in any marks.
pub(super) fn free_row(row: &ReaderRow) {
    // Relaxed: released with the state. A reader that takes the row, and is expelled before it has
    // stored its own, holds nothing.
    row.cursor.store(0, Ordering::Relaxed);
    row.lost.store(0, Ordering::Relaxed);
    let state = state_of(row);
    // AcqRel, and an exchange: the process that takes the row next sees an expeller that changed an
    // earlier state.
    row.state.swap(state.owned_by(0, RowPhase::Free).0, Ordering::AcqRel);
}

/// Ends the membership of all readers of dead participants, and frees the named numbers that these
/// were giving up. Returns their rows; the caller clears their marks, and then frees the rows.
pub(crate) fn evict(table: &Table<'_>, dead: &Dead) -> Audience {
    let mut readers = 0;
    for (index, row) in table.readers.iter().enumerate() {
        // Only an expeller may change the state meanwhile, at most twice; a hostile peer could go on.
        let evicted = retry(|| {
            let state = state_of(row);
            if !participant_of(state).is_some_and(|participant| dead.contains(participant)) {
                return Some(false);
            }
            // From now on it counts as left, so a commit that owes it a sample clears that mark, and
            // does not leave it to an expeller.
            let is_left = state.is(RowPhase::Parting) || state.is(RowPhase::Draining);
            (is_left || change(row, state, state.with(RowPhase::Draining))).then_some(true)
        });
        readers |= u64::from(evicted == Ok(true)) << index;
    }
    if readers != 0 {
        table.hot.active.0.fetch_and(!readers, Ordering::AcqRel);
        // As in `members::leave`; pairs with the fences in `commit::commit` and `calm::commit`.
        table.attention().tell();
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
    let of_it = |row: &ReaderRow| reader_of(state_of(row)) == Some(participant);
    table
        .readers
        .iter()
        .enumerate()
        .fold(0, |rows, (index, row)| rows | u64::from(of_it(row)) << index)
}

/// Whether a reader number is reserved for callers of the reference operations.
#[inline(always)]
pub(crate) fn is_named(table: &Table<'_>, reader: u32) -> bool {
    // Relaxed: nothing else depends on it; marks that a former reader has left do not concern this
    // one.
    let named = |row: &ReaderRow| RowState(row.state.load(Ordering::Relaxed)).is(RowPhase::Named);
    table.readers.get(reader as usize).is_some_and(named)
}

/// Reserves a reader number for callers of the reference operations until it is [given
/// up](begin_parting), so that no joining reader gets its row. The number outlives the caller. It
/// is an error if a reader has the row. False while the number is being given up: what is committed
/// for it then is owed to nobody.
#[inline(always)]
pub(crate) fn name(table: &Table<'_>, reader: u32) -> Result<bool, Code> {
    if is_named(table, reader) { Ok(true) } else { name_now(table.reader(reader)?) }
}

#[cold]
#[inline(never)]
fn name_now(row: &ReaderRow) -> Result<bool, Code> {
    retry(|| {
        let state = state_of(row);
        match state.phase() {
            Some(RowPhase::Named) => Some(Ok(true)),
            Some(RowPhase::Parting) => Some(Ok(false)),
            _ if is_free(row, state) => {
                change(row, state, state.taken_by(0, RowPhase::Named)).then_some(Ok(true))
            }
            _ => Some(Err(Code::BadIndex)),
        }
    })?
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
    retry(|| {
        let state = state_of(row);
        match state.phase() {
            Some(RowPhase::Named) => {
                if !change(row, state, state.owned_by(participant, RowPhase::Parting)) {
                    return None;
                }
                // Either a commit that names this reader sees this state and clears the mark that
                // it set, or the caller's sweep sees the mark. Pairs with the fence in
                // `commit::commit`.
                fence_after_rmw();
                Some(Ok(Parting::Begun(row)))
            }
            Some(RowPhase::Free) => Some(Ok(Parting::Over)),
            Some(RowPhase::Parting) => Some(Ok(Parting::Busy)),
            _ => Some(Err(Code::BadIndex)),
        }
    })?
}

/// Frees the row of a number that was given up, after its marks were cleared.
pub(crate) fn end_parting(row: &ReaderRow) {
    free_row(row);
}
