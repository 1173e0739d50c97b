//! Commit: a filled slot becomes a sample with a sequence.

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

/// The readers that a sample is owed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// The readers that are joined now, and history if the segment keeps any.
    Members,
    /// The joined readers and these, which the caller tracks itself.
    External(u64),
}

/// Gives a filled slot its sequence, and publishes its first `len` bytes to the readers. The
/// payload was written by this thread before, or by a thread that handed the loan over. `clock` is
/// called if the segment keeps times. `published` is called with the sequence once readers that
/// poll can see it; sleeping readers are woken after that.
///
/// `shape` is the table's shape, with the constants that the caller knows at compile time.
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
    // Only now is it certain that the word beside the claim belongs to this reservation.
    let reserved = Reserved(claim.aux.load(Ordering::Relaxed));
    let fits = table.room(reserved.place(loan.slot)).and_then(|room| {
        match len <= reserved.len().min(room) {
            true => Ok(()),
            false => Err(Code::BadLength),
        }
    });
    if let Err(code) = fits {
        claim.ctl.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
        return Err(code);
    }

    let named = match owed {
        Owed::Members => 0,
        Owed::External(readers) => readers,
    };
    // Relaxed: the exchange that publishes releases these stores.
    line.extent
        .store(Extent::of_reserved(len, loan.owner, reserved, named != 0).0, Ordering::Relaxed);
    if shape.timestamps {
        claim.aux.store(clock(), Ordering::Relaxed);
    }
    // Relaxed: a reader that joins or leaves at this moment is handled after the publication.
    let joined = table.hot.active.0.load(Ordering::Relaxed);
    let audience = Audience::of_readers(joined | named, shape.history > 0);

    // Acquire: pairs with the release in `advance_horizon`. Loaded before the exchange; see
    // `reclaim::forget_overwritten`.
    let horizon = if shape.drop_oldest { table.hot.horizon.0.load(Ordering::Acquire) } else { 0 };
    let (sequence, replaced) = match publish(table, shape, line, claim, loan, audience) {
        Ok(done) => done,
        Err(code) => {
            // Only a corrupt order leads here. The slot is a loan again, so that the caller can end
            // it; nothing else that was stored in the slot is used any more.
            claim.ctl.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
            return Err(code);
        }
    };
    // Orders the exchange before the loads below; pairs with the fences in `members::leave`,
    // `rows::evict`, `expel` and `Bell::arm`.
    fence_after_rmw();

    // A reader that left meanwhile may have swept this slot before the marks were stored. Its mark
    // would never be cleared. This comes before Published is stored, because a kill in between
    // would leak the slot.
    let left = rows::departed(table, joined | named, named);
    if left != 0 {
        rows::clear_departed(table, line, sequence, left);
    }
    // Release: pairs with the acquire in `loan::claim`.
    claim.ctl.store(loan.ctl(Phase::Published).0, Ordering::Release);
    if !shape.single_writer {
        advance(table, sequence);
        // Orders the store of Published before the load of the space bell: a writer that saw the
        // slot still committing, with its readers already done, may be going to sleep.
        fence_after_rmw();
    }
    published(sequence);
    let unowed = audience.0 == 0 || left != 0;
    if unowed || shape.history > 0 || shape.drop_oldest || slot::anybody_listens(table) {
        return after_commit(table, loan.slot, sequence, unowed, replaced, horizon);
    }
    Ok(sequence)
}

/// The steps that only some commits need. The next writer may have claimed the slot already.
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

/// Stores what readers of `sequence` will find in its slot. Relaxed: nobody reads it before it is
/// published.
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

/// The publication, which is one exchange. Returns the sequence and the entry that was replaced.
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
        // Nobody else publishes, so no comparison is needed. A successor can repeat the plain store
        // of the tail.
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
        // Acquire: `advance` below comes after the publication that it completes.
        let before = Entry(entry.load(Ordering::Acquire));
        if before.is_before(sequence) {
            // In steady order the entry names this very slot, which had the place two laps ago.
            if before.slot() != loan.slot {
                confirm_before_overwriting(table, before)?;
            }
            owe(shape, line, sequence, audience);
            // After the stores of `owe`: a process that sees this phase does not see a sequence of
            // an earlier generation. Release: pairs with the acquire loads in
            // `confirm_before_overwriting` and `recovery::end_commit`.
            claim.ctl.store(publishing, Ordering::Release);
            // AcqRel: pairs with `Position::look`.
            let mine = Entry::new(sequence, loan.slot).0;
            if entry.compare_exchange(before.0, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok((sequence, before));
            }
        } else if before.is_of(sequence) {
            // The sample is published, but its writer has not moved the tail, and may be stopped.
            // So this writer moves it.
            advance(table, sequence);
        }
        // Newer: the tail moved between the two loads.
    }
    Err(Code::Corrupt)
}

/// Confirms that a sample is published before the entry that proves it is overwritten, if its
/// writer has not finished the commit.
///
/// Otherwise a commit that was stopped right after its exchange would look, two laps later, like
/// one that was stopped before it. The writer may still be stopped, or dead and not recovered yet.
/// Only that writer, or recovery, ends the commit; nobody takes the slot before.
#[inline]
fn confirm_before_overwriting(table: &Table<'_>, entry: Entry) -> Result<(), Code> {
    let ctl_word = &table.claim(entry.slot())?.ctl;
    // Acquire: pairs with the store of Publishing in `publish`, so the sequence below belongs to
    // the generation in `ctl`.
    let ctl = Ctl(ctl_word.load(Ordering::Acquire));
    if ctl.phase() == Some(Phase::Publishing) {
        confirm(table, entry, ctl_word, ctl)
    } else {
        Ok(())
    }
}

/// A later generation of the slot has a later sequence, so it is not mistaken for the one in
/// `entry`.
#[cold]
fn confirm(table: &Table<'_>, entry: Entry, ctl_word: &AtomicU64, ctl: Ctl) -> Result<(), Code> {
    let sequence = table.line(entry.slot())?.sequence.load(Ordering::Relaxed);
    if entry == Entry::new(sequence, entry.slot()) {
        let confirmed = Ctl::new(Phase::Confirmed, ctl.owner(), ctl.generation()).0;
        // It fails if the writer continued, or another writer confirmed the sample. AcqRel: when
        // `recovery::end_commit` finds the entry overwritten, it then sees this.
        let _ = ctl_word.compare_exchange(ctl.0, confirmed, Ordering::AcqRel, Ordering::Relaxed);
    }
    Ok(())
}
