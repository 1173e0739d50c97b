//! Expelling: another process ends the membership of a reader that lives.
//!
//! In a lossless segment a read changes no word that others wait for: the owed bit of a sample says
//! both that it is unread and that it is held, and the reader's cursor says which. So the expeller
//! first makes the reader stop at its next read, and then has every processor pass a fence: after
//! that the cursor is the last one that counts, and it is written down as the cut. What is before
//! it may be held and stays until it is marked; what is behind it is released.

use super::dead::Dead;
use super::members;
use super::rows::{change, expeller_of, state_of};
use super::slot::retry;
use super::table::Table;
use super::words::{Bit, RowPhase, RowState};
use crate::atomics::{Ordering, Reach, fence, heavy_fence};
use crate::error::Code;
use crate::layout::ReaderRow;

/// Which reader to expel: its row, and the generation of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What a process finds that expels a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is a member no more, and only what it may hold is left to it.
    Expelled,
    /// It had left, or nobody has the row, or a later reader.
    Gone,
    /// This participant is expelling it.
    Busy(u32),
}

/// Ends the membership of a reader, as the participant `own`. An error says that the system has no
/// heavy fence: then the reader is stopped and gets nothing new, but what it was owed stays.
pub(crate) fn expel(table: &Table<'_>, target: Target, own: u32) -> Result<Outcome, Code> {
    let row = table.reader(target.index)?;
    if !is_target(state_of(row), target.generation) {
        return Ok(Outcome::Gone);
    }
    let mine = u64::from(own) + 1;
    // AcqRel: one process at a time, and it sees what the last one did. Until this word is 0 again,
    // nobody takes the row, so the bit stays this reader's.
    if let Err(other) = row.expeller.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire)
    {
        return Ok(Outcome::Busy(other.wrapping_sub(1) as u32));
    }
    let outcome = expel_alone(table, row, target);
    release(row, mine);
    if outcome != Ok(Outcome::Gone) {
        // The reader may be asleep, and so may writers that wait for its slots.
        table.ring_all();
    }
    outcome
}

fn expel_alone(table: &Table<'_>, row: &ReaderRow, target: Target) -> Result<Outcome, Code> {
    let Some(state) = stop(row, target.generation)? else { return Ok(Outcome::Gone) };
    end_debts(table, target.index);
    // Either the reader's next look at its row sees that it is expelled, or the cursor that is
    // loaded below is not older than that look. Pairs with the light fence in `move_cursor`.
    // Where samples may be taken away, a held bit says what is held, and the cursor says nothing.
    if !table.shape.drop_oldest && !heavy_fence(Reach::Everybody) {
        return Err(Code::NotSupported);
    }
    let expelled = state.with(RowPhase::Expelled);
    if state_of(row) == expelled {
        // Relaxed: ordered by the fence, and released with the state. The reader may store later
        // ones, of samples that it then does not take.
        row.cut.store(row.cursor.load(Ordering::Relaxed), Ordering::Relaxed);
        // It fails if the reader leaves. Then the reader does the rest.
        change(row, expelled, state.with(RowPhase::Cut));
    }
    sweep(table, target.index, row, state.with(RowPhase::Cut));
    Ok(Outcome::Expelled)
}

/// Whether a row in this state has a reader of this generation that is a member or was one.
fn is_target(state: RowState, generation: u32) -> bool {
    let has_reader = matches!(
        state.phase(),
        Some(RowPhase::Joining | RowPhase::Joined | RowPhase::Expelled | RowPhase::Cut)
    );
    has_reader && state.generation() == generation
}

/// Makes the reader stop; returns its state, or `None` if it has left.
fn stop(row: &ReaderRow, generation: u32) -> Result<Option<RowState>, Code> {
    retry(|| {
        let state = state_of(row);
        if !is_target(state, generation) {
            return Some(None);
        }
        // An exchange also of one that was stopped before: who takes the row next sees this
        // expeller.
        let stopped = match state.phase() {
            Some(RowPhase::Cut) => state,
            _ => state.with(RowPhase::Expelled),
        };
        change(row, state, stopped).then_some(Some(state))
    })
}

/// Nothing more is owed to the reader.
fn end_debts(table: &Table<'_>, index: u32) {
    // AcqRel: a commit that sees the bit clear sees that the reader is expelled.
    table.hot.active.0.fetch_and(!(1 << index), Ordering::AcqRel);
    // Pairs with the fences in `commit::commit` and `calm::commit`.
    table.attention().tell();
}

/// Releases what the reader cannot hold, if its row is Cut, as `cut` says; else the reader has left,
/// and does that itself. Its held bits stay: each says that it holds a sample.
fn sweep(table: &Table<'_>, index: u32, row: &ReaderRow, cut: RowState) {
    // Either a commit that owes a sample to this reader sees Cut, and clears that mark, or the sweep
    // sees the mark. Pairs with the fence in `commit::commit`.
    fence(Ordering::SeqCst);
    if state_of(row) != cut {
        return;
    }
    // Relaxed: of this state. The cursor may be ahead of the cut, or behind it if the reader has
    // taken it back since.
    let cut = row.cut.load(Ordering::Relaxed).min(row.cursor.load(Ordering::Relaxed));
    for (slot, line) in (0..).zip(table.slots.lines()) {
        members::release_unread(table, slot, line, Bit::of_reader(index), cut);
    }
}

fn release(row: &ReaderRow, mine: u64) {
    // Release: who takes the row sees that the expeller is done with it.
    let _ = row.expeller.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
}

/// Completes what dead participants had begun to expel. If one did not come to the cut, the reader
/// gets nothing new, but keeps what it was owed until it leaves or is expelled again.
pub(super) fn complete(table: &Table<'_>, dead: &Dead) {
    for (index, row) in (0u32..).zip(table.readers) {
        let Some(expeller) = expeller_of(row).filter(|expeller| dead.contains(*expeller)) else {
            continue;
        };
        let state = state_of(row);
        if state.is(RowPhase::Expelled) || state.is(RowPhase::Cut) {
            end_debts(table, index);
            sweep(table, index, row, state.with(RowPhase::Cut));
        }
        release(row, u64::from(expeller) + 1);
    }
}
