//! Commit: a filled slot becomes a sample with a sequence.

use core::num::NonZeroU64;

use super::bounds::RETRY_LIMIT;
use super::history;
use super::loan;
use super::order::{self, advance, advance_to, tail};
use super::reclaim;
use super::rows;
use super::shape::{Kind, Shape};
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
/// called if the segment keeps times.
#[inline(always)]
pub(crate) fn commit<K: Kind>(
    table: &Table<'_>,
    loan: Loan,
    len: u64,
    owed: Owed,
    clock: impl Fn() -> u64,
) -> Result<u64, Code> {
    let shape = &K::known(&table.shape);
    let line = table.line(loan.slot).map_err(|_| Code::Stale)?;
    let claim = table.claim(loan.slot).map_err(|_| Code::Stale)?;
    loan::begin_commit(claim, shape, loan)?;
    let give_back = |_: &Code| claim.ctl.store(loan.ctl(Phase::Loaned).0, Ordering::Release);
    let named = match owed {
        Owed::Members => 0,
        Owed::External(readers) => readers,
    };
    let extent = extent_of(table, claim, loan, len, named != 0).inspect_err(give_back)?;
    // Relaxed: the exchange that publishes releases these stores.
    line.extent.store(extent.0, Ordering::Relaxed);
    if shape.timestamps {
        claim.aux.store(clock(), Ordering::Relaxed);
    }
    // Relaxed: a reader that joins or leaves at this moment is handled after the publication.
    let joined = table.hot.active.0.load(Ordering::Relaxed);
    let audience = Audience::of_readers(joined | named, shape.history > 0);

    // Acquire: pairs with the release in `advance_horizon`. Loaded before the exchange; see
    // `reclaim::forget_overwritten`.
    let horizon = if shape.drop_oldest { table.hot.horizon.0.load(Ordering::Acquire) } else { 0 };
    let sample = Sample {
        line,
        claim,
        publishing: loan.ctl(Phase::Publishing),
        slot: loan.slot,
        audience,
        turn: if shape.receipts { slot::next_turn(line) } else { 0 },
    };
    // Only a corrupt order leads to an error. Then the slot is a loan again, so that the caller can
    // end it; nothing else that was stored in the slot is used any more.
    let published = match shape.single_writer {
        true => sample.publish_alone(table, shape),
        false => sample.publish_among(table, shape, 0, 1),
    };
    let (sequence, replaced) = published.inspect_err(give_back)?;
    // Orders the exchange before the loads below; pairs with the fences in `Attention::tell` and
    // `Bell::announce`, and in `expel`.
    fence_after_rmw();

    let left = end(table, line, claim, sample.publishing, sequence, joined | named, named);
    if !shape.single_writer {
        advance(table, sequence);
        // Orders the store of Published before the load of the space bell: a writer that saw the
        // slot still committing, with its readers already done, may be going to sleep.
        fence_after_rmw();
    }
    let unowed = audience.0 == 0 || left;
    if unowed || shape.history > 0 || shape.drop_oldest || slot::anybody_listens(table) {
        after_commit(table, loan.slot, sequence, unowed, replaced, horizon)?;
    }
    Ok(sequence)
}

/// The extent of a sample whose loan has ended, so that the word beside the claim belongs to this
/// reservation; an error if it is longer than what was reserved.
#[inline(always)]
pub(super) fn extent_of(
    table: &Table<'_>,
    claim: &Claim,
    loan: Loan,
    len: u64,
    named: bool,
) -> Result<Extent, Code> {
    let reserved = Reserved(claim.aux.load(Ordering::Relaxed));
    if len > reserved.len().min(table.room(reserved.place(loan.slot))?) {
        return Err(Code::BadLength);
    }
    Ok(Extent::of_reserved(len, loan.owner, reserved, named))
}

/// Ends the commit of a published sample; true if it was owed to readers that are gone. The caller
/// has passed a fence since the publication.
#[inline(always)]
pub(super) fn end(
    table: &Table<'_>,
    line: &SlotLine,
    claim: &Claim,
    ctl: Ctl,
    sequence: u64,
    owed: u64,
    named: u64,
) -> bool {
    // A reader that left meanwhile may have swept this slot before the marks were stored. Its mark
    // would never be cleared. This comes before Published is stored, because a kill in between
    // would leak the slot.
    let left = rows::departed(table, owed, named);
    if left != 0 {
        rows::clear_departed(table, line, sequence, left);
    }
    // Release: pairs with the acquire in `loan::claim`.
    claim.ctl.store(ctl.with(Phase::Published).0, Ordering::Release);
    left != 0
}

/// What [`commit`] does after the publication, for a sample of the members that was published
/// without a fence, if the attention has changed since.
#[cold]
#[inline(never)]
pub(super) fn end_with_attention(
    table: &Table<'_>,
    slot: u32,
    ctl: Ctl,
    sequence: u64,
    audience: Audience,
) {
    let (Ok(line), Ok(claim)) = (table.line(slot), table.claim(slot)) else { return };
    // As after the publication in `commit`.
    fence(Ordering::SeqCst);
    if end(table, line, claim, ctl, sequence, audience.readers(), 0) {
        fence(Ordering::SeqCst);
        slot::free_if_clear(table, slot, line);
    }
    after_end_with_attention(table, slot, sequence);
}

/// The rest of it, if the attention has changed only after the commit had ended.
#[cold]
#[inline(never)]
pub(super) fn after_end_with_attention(table: &Table<'_>, slot: u32, sequence: u64) {
    // Orders the store of Published before the load of the space bell, as in `commit`.
    fence(Ordering::SeqCst);
    if slot::anybody_listens(table) {
        // The slot exists, and these segments have no history.
        let _ = after_commit(table, slot, sequence, false, Entry(0), 0);
    }
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
) -> Result<(), Code> {
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
    Ok(())
}

/// A sample that is about to be published.
#[derive(Clone, Copy)]
pub(super) struct Sample<'t> {
    pub(super) line: &'t SlotLine,
    pub(super) claim: &'t Claim,
    /// The claim in phase Publishing.
    pub(super) publishing: Ctl,
    pub(super) slot: u32,
    pub(super) audience: Audience,
    /// The turn for which receipts will count. It is found once for all attempts, because turns must
    /// not come round to a receipt.
    pub(super) turn: u8,
}

impl Sample<'_> {
    /// Stores what readers of `sequence` will find in the slot, and then that it is about to be
    /// published.
    #[inline(always)]
    pub(super) fn prepare(&self, shape: &Shape, sequence: u64) {
        let line = self.line;
        // Relaxed where nothing else is said: nobody reads it before it is published.
        line.sequence.store(sequence, Ordering::Relaxed);
        if shape.receipts {
            // Release: a reader that sees this turn sees that the sample is not the one it held;
            // pairs with the acquire in `slot::receipt`.
            line.receipts().turn.store(self.turn, Ordering::Release);
        }
        let [first, rest @ ..] = &line.marks;
        // Release: whoever sees that the sample is owed sees its turn; pairs with the acquire in
        // `slot::load_marks`.
        first.store(Marks::owing(sequence, self.audience, 0).0, Ordering::Release);
        if shape.mark_words > 1 {
            for (word, marks) in (1..shape.mark_words).zip(rest) {
                marks.store(Marks::owing(sequence, self.audience, word).0, Ordering::Relaxed);
            }
        }
        // After these stores: a process that sees this phase does not see a sequence of an earlier
        // generation. Release: pairs with the acquire loads in `confirm_before_overwriting` and
        // `recovery::end_commit`.
        self.claim.ctl.store(self.publishing.0, Ordering::Release);
    }

    /// Publishes as the only writer, which needs no comparison. Returns the sequence and the entry
    /// that was replaced.
    #[inline(always)]
    fn publish_alone(&self, table: &Table<'_>, shape: &Shape) -> Result<(u64, Entry), Code> {
        let sequence = table.hot.tail.0.load(Ordering::Relaxed);
        let entry = order::entry_of(table, shape, sequence)?;
        self.prepare(shape, sequence);
        // AcqRel: pairs with `Position::look`.
        let before = Entry(entry.swap(Entry::new(sequence, self.slot).0, Ordering::AcqRel));
        // A successor can repeat this. Release: pairs with `tail`.
        table.hot.tail.0.store(sequence.wrapping_add(1), Ordering::Release);
        Ok((sequence, before))
    }

    /// The first attempt of [`Sample::publish_among`], without what is rare: it nearly always
    /// succeeds, and the registers suffice for it. `None` if it did not; then the rest is tried.
    #[inline(always)]
    pub(super) fn try_publish_among(
        &self,
        table: &Table<'_>,
        shape: &Shape,
        guess: u64,
        lag: u64,
    ) -> Option<NonZeroU64> {
        let known = tail(table);
        let sequence = known.max(guess);
        let told = order::honest(sequence)?;
        let entry = order::entry_of(table, shape, sequence).ok()?;
        // Acquire, and the rest: as below.
        let before = Entry(entry.load(Ordering::Acquire));
        if !before.is_before(sequence) || before.slot() != self.slot {
            return None;
        }
        if sequence.wrapping_sub(known) >= lag {
            advance_to(table, known, sequence);
        }
        self.prepare(shape, sequence);
        slot::swap(entry, before.0, Entry::new(sequence, self.slot).0).then_some(told)
    }

    /// The same out of line, after that.
    #[cold]
    #[inline(never)]
    pub(super) fn publish_among_again<K: Kind>(
        self,
        table: &Table<'_>,
        guess: u64,
        lag: u64,
    ) -> Result<(u64, Entry), Code> {
        self.publish_among(table, &K::known(&table.shape), guess, lag)
    }

    /// Publishes among other writers, by one exchange. `guess`: everything before it is
    /// published. `lag`: how far the tail may be behind after this, from 1 to a quarter of a lap.
    #[inline(always)]
    fn publish_among(
        &self,
        table: &Table<'_>,
        shape: &Shape,
        guess: u64,
        lag: u64,
    ) -> Result<(u64, Entry), Code> {
        let mut known = tail(table);
        let mut sequence = known.max(guess);
        for _ in 0..RETRY_LIMIT {
            let entry = order::entry_of(table, shape, sequence)?;
            // Acquire: a move of the tail below comes after the publications that it passes.
            let before = Entry(entry.load(Ordering::Acquire));
            if before.is_before(sequence) {
                // A writer that was stopped before it moved the tail must not let it fall behind.
                if sequence.wrapping_sub(known) >= lag {
                    advance_to(table, known, sequence);
                }
                // In steady order the entry names this very slot, which had the place two laps ago.
                if before.slot() != self.slot {
                    confirm_before_overwriting(table, before)?;
                }
                self.prepare(shape, sequence);
                // AcqRel: pairs with `Position::look`.
                let mine = Entry::new(sequence, self.slot).0;
                if entry
                    .compare_exchange(before.0, mine, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return Ok((sequence, before));
                }
            } else if before.is_of(sequence) {
                // Published; its writer may be stopped before it moves the tail.
                sequence = sequence.wrapping_add(1);
            } else {
                // Two laps have passed since the tail was loaded.
                known = tail(table);
                sequence = known;
            }
        }
        Err(Code::Corrupt)
    }
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
    // Acquire: pairs with the store of Publishing in `Sample::prepare`, so the sequence below belongs to
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
