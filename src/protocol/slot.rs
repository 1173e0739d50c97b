//! The words of one slot, and the steps that several parties take on them.
//!
//! Writers change the claim word (`loan`). The committing writer sets marks (`commit`), and so does
//! a joining reader that takes a sample from history; each reader clears its own bits (`hold`). A
//! slot is free when it is Free, or Published without a mark. The bits of 16 readers change in one
//! word together with the tag of their sequence, so unread, held and the sequence never disagree.

use core::num::NonZeroU32;

use super::bell;
use super::bounds::RETRY_LIMIT;
use super::shape::Shape;
use super::table::Table;
use super::vacancy;
use super::words::{Audience, Bit, Ctl, Extent, Marks, Phase, Place};
use crate::atomics::{AtomicU8, AtomicU64, Ordering, fence, fence_after_rmw, light_fence};
use crate::error::Code;
use crate::layout::SlotLine;
use crate::layout::bits::marks;

/// Whether a bell is armed, so that the commit must ring. The caller has passed a sequentially
/// consistent fence since its change.
#[inline(always)]
pub(crate) fn anybody_listens(table: &Table<'_>) -> bool {
    table.data_bell().is_armed() || table.change_bell().is_armed() || table.space_bell().is_armed()
}

/// Rings for a commit. The caller must meet the condition of [`anybody_listens`].
pub(super) fn ring_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    let (data, change) = (table.data_bell(), table.change_bell());
    if data.is_armed() || change.is_armed() {
        bell::ring_armed([data, change]);
    }
    if table.space_bell().is_armed() {
        ring_space_at_commit(table, slot, line);
    }
}

/// A writer sleeps. It can now use this slot, if the readers were done before the slot became
/// Published; or this sample, if it may take unread ones.
#[cold]
fn ring_space_at_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        table.space_bell().ring();
    }
}

/// Offers a slot that has become free, and rings for it. The caller must meet the condition of
/// [`anybody_listens`].
#[inline(always)]
pub(super) fn freed(table: &Table<'_>, slot: u32) {
    vacancy::offer(table, slot);
    table.space_bell().ring();
}

/// The marks of one word, without the owed bits for which there are receipts.
#[inline(always)]
pub(crate) fn load_marks(line: &SlotLine, shape: &Shape, word: &AtomicU64) -> Marks {
    // Acquire: pairs with the release in [`clear`], so the readers are done with the bytes.
    if shape.receipts { unmarked(line) } else { Marks(word.load(Ordering::Acquire)) }
}

/// The marks of a slot with receipts, without the owed bits for which there are some.
///
/// If the slot is being committed at this moment, more may look owed than is, and never less: the
/// turn is stored before the marks.
pub(super) fn unmarked(line: &SlotLine) -> Marks {
    let [marks, ..] = &line.marks;
    // Acquire: as in [`load_marks`], and pairs with the release in `Sample::prepare`.
    let seen = Marks(marks.load(Ordering::Acquire));
    let marked = receipts_of(line, seen.owed(0));
    if marked.0 == 0 {
        return seen;
    }
    // A reader that peeks at a sample while another of its threads marks it sets its held bit, and
    // then looks for its receipt. Either it finds that, or its held bit is seen here. Pairs with the
    // heavy fence in `hold::is_still_held`.
    light_fence();
    let again = Marks(marks.load(Ordering::Acquire));
    if again == seen { seen.without_owed(marked) } else { again }
}

/// Whether a sample is owed to a reader that has not marked it. Unlike [`unmarked`], this is exact
/// for that reader, also if the slot is being committed at this moment.
pub(super) fn is_unmarked_by(line: &SlotLine, reader: Bit, sequence: u64) -> bool {
    let [marks, ..] = &line.marks;
    // Acquire: as in `receipt`.
    let seen = Marks(marks.load(Ordering::Acquire));
    let marked = receipts_of(line, Marks(reader.owed).owed(0));
    // The turn may be that of a later sample, for which there is no receipt yet. Then the sequence
    // is that of a later one, too: pairs with the releases in `Sample::prepare`.
    fence(Ordering::Acquire);
    let is_same = line.sequence.load(Ordering::Relaxed) == sequence;
    is_same && seen.is_of(sequence) && seen.0 & reader.owed != 0 && marked.0 == 0
}

/// Of some readers, those that have marked the sample of this turn.
fn receipts_of(line: &SlotLine, readers: Audience) -> Audience {
    let receipts = line.receipts();
    let turn = receipts.turn.load(Ordering::Relaxed);
    let mut marked = 0;
    let mut left = readers.readers();
    while left != 0 {
        let reader = left.trailing_zeros();
        left &= left - 1;
        // Acquire: pairs with the release in [`receipt`]; the reader is done with the bytes.
        let is_marked = |receipt: &AtomicU8| receipt.load(Ordering::Acquire) == turn;
        marked |= u64::from(receipts.by.get(reader as usize).is_some_and(is_marked)) << reader;
    }
    Audience::of_readers(marked, false)
}

/// Says with a receipt that a reader is done with a sample; stale if it has said so, or if the
/// sample is not owed to it. Only a call for this reader may do this, and no other may be under way
/// for the same sample.
#[inline(always)]
pub(super) fn receipt(line: &SlotLine, reader: u32, bit: &Bit, sequence: u64) -> Result<(), Code> {
    let receipts = line.receipts();
    let receipt = receipts.by.get(reader as usize).ok_or(Code::Stale)?;
    let [marks, ..] = &line.marks;
    // Acquire: pairs with the release in [`forget_receipts`]. If the receipt is gone, so is the owed
    // bit.
    let before = receipt.load(Ordering::Acquire);
    // Acquire, twice: pairs with the releases in `Sample::prepare`. If one of these is of a later
    // sample, so is the sequence.
    let turn = receipts.turn.load(Ordering::Acquire);
    if before == turn || marks.load(Ordering::Acquire) & bit.owed == 0 {
        return Err(Code::Stale);
    }
    if line.sequence.load(Ordering::Relaxed) != sequence {
        return Err(Code::Stale);
    }
    // Release: this reader is done with the bytes; pairs with the acquire in [`receipts_of`].
    receipt.store(turn, Ordering::Release);
    Ok(())
}

/// Whether no mark is left. It loads the words in order from the lowest: a joining reader that
/// takes a sample from history sets its bit first, and then checks history's bit in the lowest
/// word, so at least one of the two sees the other. Acquire: pairs with the release in [`clear`],
/// so the readers are done with the bytes.
#[inline(always)]
pub(super) fn is_clear(line: &SlotLine, shape: &Shape) -> bool {
    if shape.receipts {
        return is_clear_by_receipts(line);
    }
    let is_clear = |marks: &AtomicU64| Marks(marks.load(Ordering::Acquire)).is_clear();
    let [first, rest @ ..] = &line.marks;
    // Most segments have one word, and then there is no loop.
    let more = shape.mark_words.saturating_sub(1);
    is_clear(first) && (more == 0 || rest.iter().take(more).all(is_clear))
}

/// The same for a slot with receipts. If the marks change meanwhile, the slot may look unread; but
/// then whoever has changed them looks whether it is free.
#[inline(always)]
fn is_clear_by_receipts(line: &SlotLine) -> bool {
    let [marks, ..] = &line.marks;
    // Acquire: as in [`load_marks`].
    let seen = Marks(marks.load(Ordering::Acquire));
    let mut left = NonZeroU32::new(seen.bits());
    if left.is_none() {
        return true;
    }
    let receipts = line.receipts();
    let turn = receipts.turn.load(Ordering::Relaxed);
    while let Some(bits) = left {
        // A held bit or history's comes before those: then there is no receipt of this number.
        let reader = bits.trailing_zeros().wrapping_sub(FIRST_READER_OWED) as usize;
        // Acquire: as in [`receipts_of`].
        let is_marked = |receipt: &AtomicU8| receipt.load(Ordering::Acquire) == turn;
        if !receipts.by.get(reader).is_some_and(is_marked) {
            return false;
        }
        left = NonZeroU32::new(bits.get() & (bits.get() - 1));
    }
    // As in [`unmarked`].
    light_fence();
    let again = Marks(marks.load(Ordering::Acquire));
    again == seen || again.is_clear()
}

/// The number of the bit by which a sample is owed to reader 0.
const FIRST_READER_OWED: u32 = marks::OWED.mask().trailing_zeros() + 1;

/// The next turn of a slot: there are 128, all of them odd, as 0 is none.
#[inline(always)]
pub(super) fn next_turn(line: &SlotLine) -> u8 {
    line.receipts().turn.load(Ordering::Relaxed).wrapping_add(2) | 1
}

/// All bits left in the marks of a line.
pub(super) fn marks_left(line: &SlotLine, shape: &Shape) -> Audience {
    let words = line.marks.iter().take(shape.mark_words).enumerate();
    Audience(
        words.fold(0, |all, (word, marks)| all | load_marks(line, shape, marks).readers(word).0),
    )
}

/// Whether the writer of a slot has not finished its commit, although others may already have seen
/// the sample. Acquire: a process that finds the commit finished sees everything that it did to the
/// marks.
pub(super) fn is_committing(table: &Table<'_>, slot: u32) -> Result<bool, Code> {
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
    Ok(ctl.phase().is_some_and(Phase::is_committing))
}

/// Whether the writer of a published sample has not finished its commit, which the caller has found
/// in its entry.
pub(super) fn is_committing_sequence(
    table: &Table<'_>,
    slot: u32,
    sequence: u64,
) -> Result<bool, Code> {
    // Acquire: pairs with the store of Publishing in `Sample::prepare`. So the sequence below
    // belongs to the generation of this phase or to a later one. The phase itself is not of an
    // earlier generation than the sample, as the caller has seen its entry; so in phase Committing
    // it is of a later one.
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
    let is_published = matches!(ctl.phase(), Some(Phase::Publishing | Phase::Confirmed));
    Ok(is_published && table.line(slot)?.sequence.load(Ordering::Relaxed) == sequence)
}

/// Offers a slot if no mark is left. The caller must meet the condition of [`anybody_listens`].
pub(crate) fn free_if_clear(table: &Table<'_>, slot: u32, line: &SlotLine) {
    if is_clear(line, &table.shape) {
        freed(table, slot);
    }
}

/// Clears one bit in marks of `sequence`; stale if it is not set, or if the marks belong to another
/// sample.
#[inline(always)]
pub(super) fn clear(marks: &AtomicU64, sequence: u64, bit: u64) -> Result<Marks, Code> {
    retry(|| {
        let seen = Marks(marks.load(Ordering::Relaxed));
        if !seen.is_of(sequence) || seen.0 & bit == 0 {
            return Some(Err(Code::Stale));
        }
        // AcqRel, by `swap`: this reader is done with the bytes; pairs with the acquire in
        // `is_clear`.
        swap(marks, seen.0, seen.0 & !bit).then_some(Ok(Marks(seen.0 & !bit)))
    })?
}

/// Ends the retention of one sample.
pub(crate) fn expire(table: &Table<'_>, slot: u32, line: &SlotLine, sequence: u64) {
    let [marks, ..] = &line.marks;
    if clear(marks, sequence, Bit::HISTORY.owed).is_ok() {
        fence_after_rmw();
        free_if_clear(table, slot, line);
    }
}

/// Clears the owed bits of `audience` on the sample `sequence`; held bits stay.
#[cold]
pub(crate) fn clear_owed(line: &SlotLine, sequence: u64, audience: Audience, words: usize) {
    for (word, marks) in line.marks.iter().take(words).enumerate() {
        let bits = marks::OWED.put(audience.word(word));
        // Only a hostile peer can exhaust the retries; then the marks stay as they are.
        let _ = retry(|| {
            let seen = Marks(marks.load(Ordering::Relaxed));
            let done = !seen.is_of(sequence) || seen.0 & bits == 0;
            (done || swap(marks, seen.0, seen.0 & !bits)).then_some(())
        });
    }
}

/// Clears all bits of dead readers in a slot, whichever sample they belong to, and their receipts.
/// Meanwhile the slot may look unread to a process that sees a bit, and not the receipt that is gone
/// already. So the caller must look afterwards whether it is free.
pub(super) fn evict(line: &SlotLine, readers: Audience, shape: &Shape) {
    for (word, marks) in line.marks.iter().take(shape.mark_words).enumerate() {
        let held = readers.word(word);
        let bits = marks::OWED.put(held) | marks::HELD.put(held);
        // As in `clear_owed`.
        let _ = retry(|| {
            let seen = marks.load(Ordering::Acquire);
            (seen & bits == 0 || swap(marks, seen, seen & !bits)).then_some(())
        });
    }
    if shape.receipts {
        forget_receipts(line, readers);
    }
}

/// Clears the receipts of readers to whom the sample of a slot is not owed, and who will not store
/// any.
pub(super) fn forget_receipts(line: &SlotLine, readers: Audience) {
    for (reader, receipt) in line.receipts().by.iter().enumerate() {
        if readers.readers() >> reader & 1 != 0 {
            // Release: whoever sees it sees that the owed bit was cleared before.
            receipt.store(0, Ordering::Release);
        }
    }
}

/// After a reader's bit was cleared: frees the slot, or wakes a writer that may now take the sample
/// from the other readers. The caller must meet the condition of [`anybody_listens`].
pub(super) fn released(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        table.space_bell().ring();
    }
}

/// Clears those bits of one reader in one slot that `which` selects. `which` gets the marks, and
/// the whole sequence of their sample if the slot cannot change.
pub(crate) fn release_reader(
    table: &Table<'_>,
    slot: u32,
    line: &SlotLine,
    reader: Bit,
    which: impl Fn(Marks, Option<u64>) -> u64,
) {
    let Some(marks) = line.marks.get(reader.word) else { return };
    let changed = retry(|| {
        let seen = Marks(marks.load(Ordering::Acquire));
        let sequence = line.sequence.load(Ordering::Relaxed);
        let bits =
            which(seen, seen.is_of(sequence).then_some(sequence)) & (reader.owed | reader.held);
        if seen.0 & bits == 0 {
            return Some(false);
        }
        swap(marks, seen.0, seen.0 & !bits).then_some(true)
    });
    if changed == Ok(true) {
        fence_after_rmw();
        released(table, slot, line);
    }
}

/// One strong exchange. AcqRel: each change of marks publishes what its thread did before (reading
/// the payload, setting another word), and sees what others did.
#[inline(always)]
pub(super) fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Repeats `step` until it returns an answer.
#[inline(always)]
pub(super) fn retry<T>(mut step: impl FnMut() -> Option<T>) -> Result<T, Code> {
    // The first try nearly always succeeds, and then the loop costs nothing.
    if let Some(answer) = step() {
        return Ok(answer);
    }
    for _ in 1..RETRY_LIMIT {
        if let Some(answer) = step() {
            return Ok(answer);
        }
    }
    Err(Code::Corrupt)
}

/// Whether the sample of a slot is in a region. The answer belongs to the generation that the
/// caller saw in `ctl`, or else the exchange of `ctl` that follows fails. Acquire: if it belongs to
/// a later one, what that generation's writer committed before is visible, too; pairs with
/// `begin_life`.
pub(super) fn has_region(line: &SlotLine, slot: u32) -> bool {
    matches!(Extent(line.extent.load(Ordering::Acquire)).place(slot), Place::Region(_))
}
