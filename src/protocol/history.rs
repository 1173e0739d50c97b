//! History: samples that are kept for readers that join later, and the end of their retention.

use core::cmp;

use super::order::{FIRST, Position, settled_tail, tail};
use super::slot;
use super::table::Table;
use super::words::{Bit, Marks};
use crate::atomics::Ordering;
use crate::error::Code;
use crate::layout::SlotLine;
use crate::layout::bits::marks;

/// Ends the retention of the sample that `sequence` pushes out of history.
pub(super) fn expire_history(table: &Table<'_>, sequence: u64) -> Result<(), Code> {
    let Some(expired) = sequence.checked_sub(u64::from(table.shape.history)) else { return Ok(()) };
    expire_one(table, expired)
}

/// Ends the retention of one sample that has left history.
fn expire_one(table: &Table<'_>, expired: u64) -> Result<(), Code> {
    if expired < FIRST {
        return Ok(());
    }
    let entry = Position::of(&table.shape, expired).look(table)?;
    match entry.compare(expired) {
        cmp::Ordering::Equal => {
            let line = table.line(entry.slot())?;
            slot::expire(table, entry.slot(), line, expired);
        }
        // This writer was stopped for two laps, and the entry is overwritten. The sample may still
        // be retained, so all slots are checked. This is as rare as a stop at this very place.
        cmp::Ordering::Greater => sweep_history(table),
        cmp::Ordering::Less => {}
    }
    Ok(())
}

/// Does what stopped writers have not done after their last commits, so that the slots are
/// released: checks the samples that left history most recently.
pub(crate) fn help_history(table: &Table<'_>) -> Result<(), Code> {
    const LOOK_BACK: u64 = 64;
    if table.shape.history == 0 {
        return Ok(());
    }
    let kept_from = settled_tail(table)?.saturating_sub(u64::from(table.shape.history));
    for expired in kept_from.saturating_sub(LOOK_BACK)..kept_from {
        let entry = Position::of(&table.shape, expired).look(table)?;
        if expired >= FIRST && entry.compare(expired).is_eq() {
            slot::expire(table, entry.slot(), table.line(entry.slot())?, expired);
        }
    }
    Ok(())
}

/// Ends the retention of each sample that is too old for history.
fn sweep_history(table: &Table<'_>) {
    let oldest = tail(table).wrapping_sub(u64::from(table.shape.history));
    for (slot, line) in (0..).zip(table.slots.lines()) {
        expire_if_before(table, slot, line, oldest);
    }
}

/// Ends the retention of the sample in a slot if it is older than `oldest`, whatever its entry
/// says.
pub(crate) fn expire_if_before(table: &Table<'_>, slot: u32, line: &SlotLine, oldest: u64) {
    let [marks, ..] = &line.marks;
    let seen = Marks(marks.load(Ordering::Acquire));
    if seen.0 & Bit::HISTORY.owed != 0 && seen.is_before(oldest) {
        slot::expire(table, slot, line, marks::TAG.get(seen.0));
    }
}
