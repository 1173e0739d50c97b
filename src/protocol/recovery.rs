//! Recovery: repairs what dead participants left.
//!
//! The whole state of a segment is in the segment, and each word tells who is changing it. So there
//! is nothing to replay: the sweep visits each slot once, and completes or undoes what a dead
//! participant had begun. A second sweep changes nothing, so a recovering process may die at any
//! point. Living participants continue meanwhile.

use core::cmp;

use super::dead::Dead;
use super::order::{self, Position};
use super::slot::{self, is_clear, marks_left, retry, swap};
use super::table::Table;
use super::words::{Audience, Ctl, Entry, Extent, Marks, Owner, Phase};
use super::{expel, history, region, rows, vacancy};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::Code;
use crate::layout::SlotLine;

/// Completes or undoes everything that the dead had begun. Two threads never do this for one
/// participant at a time.
pub(crate) fn sweep(table: &Table<'_>, dead: &Dead) -> Result<(), Code> {
    // Completes a publication whose writer had not moved the tail.
    let tail = order::settled_tail(table)?;
    let readers = rows::evict(table, dead);
    // A writer that died between withdrawing a hint and looking again may have left a mark that had
    // seen the hint. Pairs with the light fences in `calm::try_mark` and `batch::mark`: the sweep sees
    // that mark.
    table.attention().pass();
    for slot in 0..table.shape.slots {
        sweep_slot(table, dead, readers, tail, slot)?;
    }
    vacancy::repair(table);
    rows::free_rows(table, readers);
    expel::complete(table, dead);
    for participant in dead.iter() {
        for region in region::emptied_by(table, participant) {
            region::end_emptying(table, region, participant);
        }
    }
    let writer = &table.hot.lifecycle.0.writer;
    let owner = writer.load(Ordering::Relaxed);
    if owner != 0 && dead.contains(Owner(owner - 1).participant()) {
        // AcqRel: pairs with the exchange in `become_the_writer`; the next writer sees everything
        // that was repaired.
        let _ = writer.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
    // Release: a process that sees the new number sees what was repaired.
    table.hot.lifecycle.0.deaths.fetch_add(dead.count(), Ordering::AcqRel);
    Ok(())
}

/// Wakes all sleepers: the dead may have been about to.
pub(crate) fn announce(table: &Table<'_>) {
    table.ring_all();
}

fn sweep_slot(
    table: &Table<'_>,
    dead: &Dead,
    readers: Audience,
    tail: u64,
    slot: u32,
) -> Result<(), Code> {
    let line = table.line(slot)?;
    if readers.0 != 0 {
        slot::evict(line, readers, &table.shape);
    }
    let ctl_word = &table.claim(slot)?.ctl;
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    if dead.contains(ctl.owner().participant()) {
        match ctl.phase() {
            // Nobody will commit it.
            Some(Phase::Loaned) => {
                set_phase(ctl_word, ctl, Phase::Free);
            }
            Some(phase) if phase.is_committing() => end_commit(table, slot, line)?,
            // Readers whose marks were already revoked have lost the sample. The others are still
            // owed it.
            Some(Phase::Reclaiming) => {
                set_phase(ctl_word, ctl, Phase::Published);
            }
            _ => {}
        }
    }
    // Also where a living writer is between its publication and the end of its commit: a dead
    // participant may have been the one that had to do this. If the sample is not published yet,
    // these calls find nothing, or clear marks that its writer will store again.
    history::expire_if_before(table, slot, line, tail.wrapping_sub(u64::from(table.shape.history)));
    forget_unreachable(table, line)?;
    // Pairs with the fence in `vacancy::withdraw`.
    fence(Ordering::SeqCst);
    // In every phase: a living writer that is committing does not check again whether all of its
    // readers are done. For a loan this hint is needless, and costs its finder one look.
    if is_clear(line, &table.shape) {
        vacancy::set(table, slot);
    }
    Ok(())
}

/// Changes the phase of a dead participant's claim, if it is exactly as seen; false otherwise.
fn set_phase(ctl_word: &AtomicU64, seen: Ctl, phase: Phase) -> bool {
    let next = Ctl::new(phase, seen.owner(), seen.generation());
    // AcqRel: pairs with `claim`.
    ctl_word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Ends a commit whose writer died.
fn end_commit(table: &Table<'_>, slot: u32, line: &SlotLine) -> Result<(), Code> {
    let ctl_word = &table.claim(slot)?.ctl;
    // Twice, because a living writer may confirm the sample meanwhile. Others change nothing else.
    for _ in 0..2 {
        // Acquire: pairs with the store of Publishing in `Sample::prepare`, and with
        // `commit::confirm`.
        let ctl = Ctl(ctl_word.load(Ordering::Acquire));
        let published = match ctl.phase() {
            Some(Phase::Committing) => false,
            Some(Phase::Publishing) => {
                let sequence = line.sequence.load(Ordering::Relaxed);
                let entry = Position::of(&table.shape, sequence).look(table)?;
                // Acquire, after the entry: if the commit was published, the writer that overwrote
                // its entry confirmed it before.
                if entry.compare(sequence).is_gt() && ctl_word.load(Ordering::Acquire) != ctl.0 {
                    continue;
                }
                entry == Entry::new(sequence, slot)
            }
            Some(Phase::Confirmed) => true,
            _ => return Ok(()),
        };
        let done = if published {
            finish_commit(table, slot, line)?;
            set_phase(ctl_word, ctl, Phase::Published)
        } else {
            clear_marks(table, line)?;
            set_phase(ctl_word, ctl, Phase::Free)
        };
        if done {
            break;
        }
    }
    Ok(())
}

/// Does what a commit does between its publication and its end: clears the marks of readers that
/// have left.
fn finish_commit(table: &Table<'_>, slot: u32, line: &SlotLine) -> Result<(), Code> {
    // These words do not change until the slot is Published.
    let sequence = line.sequence.load(Ordering::Relaxed);
    let owed = marks_left(line, &table.shape).readers();
    let named = match Extent(line.extent.load(Ordering::Relaxed)).is_named() {
        true => table.audience(slot)?.load(Ordering::Relaxed),
        false => 0,
    };
    rows::clear_departed(table, line, sequence, rows::departed(table, owed, named));
    Ok(())
}

/// Clears the marks of a slot whose sample was never published.
fn clear_marks(table: &Table<'_>, line: &SlotLine) -> Result<(), Code> {
    for marks in line.marks.iter().take(table.shape.mark_words) {
        retry(|| {
            let seen = marks.load(Ordering::Relaxed);
            swap(marks, seen, seen & !(Marks::OWED | Marks::HELD)).then_some(())
        })?;
    }
    if table.shape.receipts {
        // Its turn was not that of any sample, and turns must not come round to a receipt.
        slot::forget_receipts(line, Audience::EVERYBODY);
    }
    Ok(())
}

/// Clears what is owed of a sample whose entry is overwritten, if the overwriting writer did not do
/// it.
fn forget_unreachable(table: &Table<'_>, line: &SlotLine) -> Result<(), Code> {
    if !table.shape.drop_oldest || is_clear(line, &table.shape) {
        return Ok(());
    }
    // It does not change while the sample is owed to or held by a reader. Otherwise the tags do not
    // match.
    let sequence = line.sequence.load(Ordering::Acquire);
    let entry = Position::of(&table.shape, sequence).look(table)?;
    if entry.compare(sequence) == cmp::Ordering::Greater {
        slot::clear_owed(line, sequence, Audience::EVERYBODY, table.shape.mark_words);
    }
    Ok(())
}
