//! What the dead left behind, put right.
//!
//! The whole state of a segment stands in the segment, and each word says who is at work on it. So there is nothing to
//! replay: every slot is looked at once, and what a dead participant had begun is finished or undone. Doing it twice
//! changes nothing, so whoever does it may itself die at any point. The living go on meanwhile.

use core::cmp;

use super::bell;
use super::dead::Dead;
use super::order::{self, Position};
use super::slot::{self, is_clear, marks_left, retry, swap};
use super::table::Table;
use super::words::{Audience, Ctl, Entry, Extent, Marks, Owner, Phase};
use super::{history, region, rows, vacancy};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::error::Code;
use crate::layout::SlotLine;

/// Finishes or undoes everything that the dead had begun. No two threads do this for one participant at once.
pub(crate) fn sweep(table: &Table<'_>, dead: &Dead) -> Result<(), Code> {
    // Completes a publication whose writer did not come to the tail.
    let tail = order::settled_tail(table)?;
    let readers = rows::evict(table, dead);
    for slot in 0..table.shape.slots {
        sweep_slot(table, dead, readers, tail, slot)?;
    }
    vacancy::repair(table);
    rows::free_rows(table, readers);
    for participant in dead.iter() {
        for region in region::emptied_by(table, participant) {
            region::end_emptying(table, region, participant);
        }
    }
    let writer = &table.hot.lifecycle.0.writer;
    let owner = writer.load(Ordering::Relaxed);
    if owner != 0 && dead.contains(Owner(owner - 1).participant()) {
        // AcqRel: pairs with the exchange in `become_the_writer`; the next writer finds everything as this left it.
        let _ = writer.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
    // Release: who sees the number sees what was put right.
    table.hot.lifecycle.0.deaths.fetch_add(dead.count(), Ordering::AcqRel);
    Ok(())
}

/// Wakes everybody: the dead may have been about to.
pub(crate) fn announce(table: &Table<'_>) {
    bell::ring_all(&table.hot.bells.0);
}

fn sweep_slot(table: &Table<'_>, dead: &Dead, readers: Audience, tail: u64, slot: u32) -> Result<(), Code> {
    let line = table.line(slot)?;
    let words = table.shape.mark_words;
    if readers.0 != 0 {
        slot::evict(line, readers, words);
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
            // Readers whose marks were revoked already have lost the sample, the others have it still.
            Some(Phase::Reclaiming) => {
                set_phase(ctl_word, ctl, Phase::Published);
            }
            _ => {}
        }
    }
    // A living writer may stand between its publication and the end of its commit, and the dead have owed this to its
    // sample. If its sample is not out, these find nothing, or marks that it is about to store anew.
    history::expire_if_before(table, slot, line, tail.wrapping_sub(u64::from(table.shape.history)));
    forget_unreachable(table, line)?;
    // Pairs with the fence in `vacancy::withdraw`.
    fence(Ordering::SeqCst);
    // Whatever the phase: a living writer that is committing does not look again whether all of its readers are done. One
    // hint too many for each loan costs its finder a look.
    if is_clear(line, words) {
        vacancy::set(table, slot);
    }
    Ok(())
}

/// Moves a claim of the dead on from exactly what was seen; false if it is not that any more.
fn set_phase(ctl_word: &AtomicU64, seen: Ctl, phase: Phase) -> bool {
    let next = Ctl::new(phase, seen.owner(), seen.generation());
    // AcqRel: pairs with `claim`.
    ctl_word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Ends a commit that stopped halfway.
fn end_commit(table: &Table<'_>, slot: u32, line: &SlotLine) -> Result<(), Code> {
    let ctl_word = &table.claim(slot)?.ctl;
    // Once more if a living writer confirms it meanwhile, which is the only thing that others do.
    for _ in 0..2 {
        // Acquire: pairs with the store of Publishing in `commit::publish`, and with `commit::confirm`.
        let ctl = Ctl(ctl_word.load(Ordering::Acquire));
        let published = match ctl.phase() {
            Some(Phase::Committing) => false,
            Some(Phase::Publishing) => {
                let sequence = line.sequence.load(Ordering::Relaxed);
                let entry = Position::of(&table.shape, sequence).look(table)?;
                // Acquire, after the entry: who overwrote it has confirmed the commit before, if it was published.
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

/// Does what a commit does between its publication and its end: gives back what is owed to readers that have left.
fn finish_commit(table: &Table<'_>, slot: u32, line: &SlotLine) -> Result<(), Code> {
    // They stand still until the slot is Published.
    let sequence = line.sequence.load(Ordering::Relaxed);
    let owed = marks_left(line, table.shape.mark_words).readers();
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
    Ok(())
}

/// Clears what is owed of a sample whose entry is overwritten: the overwriting writer did not come to it.
fn forget_unreachable(table: &Table<'_>, line: &SlotLine) -> Result<(), Code> {
    let words = table.shape.mark_words;
    if !table.shape.drop_oldest || is_clear(line, words) {
        return Ok(());
    }
    // It does not change while somebody is owed the sample or holds it; otherwise the tags do not fit.
    let sequence = line.sequence.load(Ordering::Acquire);
    let entry = Position::of(&table.shape, sequence).look(table)?;
    if entry.compare(sequence) == cmp::Ordering::Greater {
        slot::clear_owed(line, sequence, Audience::EVERYBODY, words);
    }
    Ok(())
}
