//! The commit: a filled slot becomes a sample with a sequence.

use super::bounds::RETRY_LIMIT;
use super::history;
use super::loan;
use super::order::{Position, advance, tail};
use super::reclaim;
use super::rows;
use super::shape::Shape;
use super::slot;
use super::table::Table;
use super::words::{Audience, Ctl, Entry, Extent, Loan, Marks, Phase, Reserved};
use crate::atomics::{AtomicU64, Ordering, fence, fence_after_rmw};
use crate::error::Code;
use crate::layout::{Claim, SlotLine};

/// To whom a sample is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// To the readers that are joined now, and to history if the segment keeps any.
    Members,
    /// To these readers beside the joined ones; the caller keeps their books.
    External(u64),
}

/// Gives a filled slot its sequence and shows its first `len` bytes to its readers. The payload was written before
/// by this thread, or handed to it. `clock` is asked if the segment keeps times; `published` is given the sequence when
/// readers that poll have it; those that sleep are woken after that.
///
/// `shape` is the table's, as far as the caller's caller knows it when this is compiled.
#[inline(always)]
pub(crate) fn commit(
    table: &Table<'_>,
    shape: &Shape,
    loan: Loan,
    len: u64,
    owed: Owed,
    clock: impl Fn() -> u64,
    published: impl FnOnce(u64),
) -> Result<u64, Code> {
    let line = table.line(loan.slot).map_err(|_| Code::Stale)?;
    let claim = table.claim(loan.slot).map_err(|_| Code::Stale)?;
    loan::begin_commit(claim, shape, loan)?;
    // Only now is it certain that the word beside the claim is that of this reservation.
    let reserved = Reserved(claim.aux.load(Ordering::Relaxed));
    let fits = table.room(reserved.place(loan.slot)).and_then(|room| match len <= reserved.len().min(room) {
        true => Ok(()),
        false => Err(Code::BadLength),
    });
    if let Err(code) = fits {
        claim.ctl.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
        return Err(code);
    }

    let named = match owed {
        Owed::Members => 0,
        Owed::External(readers) => readers,
    };
    // Plain stores: the exchange that publishes releases them.
    line.extent.store(Extent::of_reserved(len, loan.owner, reserved, named != 0).0, Ordering::Relaxed);
    if shape.timestamps {
        claim.aux.store(clock(), Ordering::Relaxed);
    }
    // Relaxed: a reader that joins or leaves at this moment is dealt with after publication.
    let joined = table.hot.active.0.load(Ordering::Relaxed);
    let audience = Audience::of_readers(joined | named, shape.history > 0);

    // Before the exchange; see `reclaim::forget_overwritten`.
    let horizon = if shape.drop_oldest { table.hot.horizon.0.load(Ordering::Acquire) } else { 0 };
    let (sequence, replaced) = match publish(table, shape, line, claim, loan, audience) {
        Ok(done) => done,
        Err(code) => {
            // Only a broken order gets here. The loan is out again, so that it can be ended; what else was noted in its slot is
            // of no use any more.
            claim.ctl.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
            return Err(code);
        }
    };
    // Between the exchange and the looks below; pairs with the fences in `members::leave` and `Bell::arm`.
    fence_after_rmw();

    // A reader that left while this was going on may have swept this slot before the marks were stored. It
    // must not be owed a sample for ever. Before the slot becomes Published: a kill in between would leak.
    let left = rows::departed(table, joined | named, named);
    if left != 0 {
        rows::clear_departed(table, line, sequence, left);
    }
    // Release: pairs with the acquire in `loan::claim`.
    claim.ctl.store(loan.ctl(Phase::Published).0, Ordering::Release);
    if !shape.single_writer {
        advance(table, sequence);
        // Between the claim word and the look at the space bell: a writer that met the slot while it was
        // committing, and its readers already done, goes to sleep over it.
        fence_after_rmw();
    }
    published(sequence);
    let unowed = audience.0 == 0 || left != 0;
    if unowed || shape.history > 0 || shape.drop_oldest || slot::anybody_listens(table) {
        return after_commit(table, loan.slot, sequence, unowed, replaced, horizon);
    }
    Ok(sequence)
}

/// What is not to be done after every commit. The claim word is the next writer's by now.
#[inline(never)]
fn after_commit(
    table: &Table<'_>,
    slot: u32,
    sequence: u64,
    unowed: bool,
    replaced: Entry,
    horizon: u64,
) -> Result<u64, Code> {
    let line = table.line(slot)?;
    if unowed {
        fence(Ordering::SeqCst);
        slot::free_if_clear(table, slot, line);
    }
    if table.shape.history > 0 {
        history::expire_history(table, sequence)?;
    }
    if table.shape.drop_oldest {
        reclaim::forget_overwritten(table, replaced, sequence, horizon)?;
    }
    slot::ring_commit(table, slot, line);
    Ok(sequence)
}

/// Writes what readers of `sequence` will find in its slot. Relaxed: nobody looks before it is published.
#[inline(always)]
fn owe(shape: &Shape, line: &SlotLine, sequence: u64, audience: Audience) {
    line.sequence.store(sequence, Ordering::Relaxed);
    let [first, rest @ ..] = &line.marks;
    first.store(Marks::owing(sequence, audience, 0).0, Ordering::Relaxed);
    if shape.mark_words > 1 {
        for (word, marks) in (1..shape.mark_words).zip(rest) {
            marks.store(Marks::owing(sequence, audience, word).0, Ordering::Relaxed);
        }
    }
}

/// The one moment of publication. Returns the sequence and the entry that stood in its place before.
#[inline(always)]
fn publish(
    table: &Table<'_>,
    shape: &Shape,
    line: &SlotLine,
    claim: &Claim,
    loan: Loan,
    audience: Audience,
) -> Result<(u64, Entry), Code> {
    let publishing = loan.ctl(Phase::Publishing).0;
    if shape.single_writer {
        // Nobody else publishes: no comparison, and the tail is a plain store that a successor could redo.
        let sequence = table.hot.tail.0.load(Ordering::Relaxed);
        let entry = Position::of(shape, sequence).entry(table)?;
        owe(shape, line, sequence, audience);
        // Release: pairs with the acquire in `recovery::end_commit`.
        claim.ctl.store(publishing, Ordering::Release);
        // AcqRel: pairs with `Position::look`.
        let before = Entry(entry.swap(Entry::new(sequence, loan.slot).0, Ordering::AcqRel));
        // Release: pairs with `tail`.
        table.hot.tail.0.store(sequence.wrapping_add(1), Ordering::Release);
        return Ok((sequence, before));
    }
    for _ in 0..RETRY_LIMIT {
        let sequence = tail(table);
        let entry = Position::of(shape, sequence).entry(table)?;
        // Acquire: so that the help below comes after the publication that it completes.
        let before = Entry(entry.load(Ordering::Acquire));
        if before.is_before(sequence) {
            // In steady order it names this very slot, which had the place two laps ago.
            if before.slot() != loan.slot {
                confirm_before_overwriting(table, before)?;
            }
            owe(shape, line, sequence, audience);
            // After the stores of `owe`: whoever sees this phase sees no sequence of an earlier life. Release: pairs
            // with the acquire loads in `confirm_before_overwriting` and `recovery::end_commit`.
            claim.ctl.store(publishing, Ordering::Release);
            // AcqRel: pairs with `Position::look`.
            let mine = Entry::new(sequence, loan.slot).0;
            if entry.compare_exchange(before.0, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok((sequence, before));
            }
        } else if before.is_of(sequence) {
            // Published, but the tail not moved yet: its writer may be stopped, so it is moved here.
            advance(table, sequence);
        }
        // Newer: the tail went on between the two loads.
    }
    Err(Code::Corrupt)
}

/// Says of a sample that it is published, if its writer has not said so, before the entry that proves it is overwritten.
///
/// Otherwise a commit that was stopped right after its exchange would look, two laps later, like one that never came to
/// it. Its writer may still be stopped, or be dead and not cleaned up after. The commit remains its own to finish: nobody
/// takes the slot until then.
#[inline]
fn confirm_before_overwriting(table: &Table<'_>, entry: Entry) -> Result<(), Code> {
    let ctl_word = &table.claim(entry.slot())?.ctl;
    // Acquire: pairs with the store of Publishing in `publish`, so the sequence below is of that life.
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    if ctl.phase() == Some(Phase::Publishing) { confirm(table, entry, ctl_word, ctl) } else { Ok(()) }
}

/// A life of the slot that came after the one of `entry` has a later sequence, so it is told apart.
#[cold]
fn confirm(table: &Table<'_>, entry: Entry, ctl_word: &AtomicU64, ctl: Ctl) -> Result<(), Code> {
    let sequence = table.line(entry.slot())?.sequence.load(Ordering::Relaxed);
    if entry == Entry::new(sequence, entry.slot()) {
        let confirmed = Ctl::new(Phase::Confirmed, ctl.owner(), ctl.generation()).0;
        // It fails if the writer went on, or another confirmed. AcqRel: `recovery::end_commit` finds the entry
        // overwritten and then sees this.
        let _ = ctl_word.compare_exchange(ctl.0, confirmed, Ordering::AcqRel, Ordering::Relaxed);
    }
    Ok(())
}
