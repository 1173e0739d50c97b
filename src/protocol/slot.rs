//! The words of one slot, and the steps that several parties take on them.
//!
//! Writers change the claim word (`loan`). The committing writer sets marks (`commit`), and so does
//! a joining reader that takes a sample from history; each reader clears its own bits (`hold`). A
//! slot is free when it is Free, or Published without a mark. The bits of 16 readers change in one
//! word together with the tag of their sequence, so unread, held and the sequence never disagree.

use super::bell::Bell;
use super::bounds::RETRY_LIMIT;
use super::table::Table;
use super::vacancy;
use super::words::{Audience, Bit, Ctl, Extent, Marks, Phase, Place};
use crate::atomics::{AtomicU64, Ordering, fence_after_rmw};
use crate::error::Code;
use crate::layout::SlotLine;
use crate::layout::bits::marks;

/// Whether a bell is armed, so that the commit must ring. The caller has passed a sequentially
/// consistent fence since its change.
#[inline(always)]
pub(super) fn anybody_listens(table: &Table<'_>) -> bool {
    let bells = &table.hot.bells.0;
    Bell(&bells.data).is_armed() || Bell(&bells.change).is_armed() || Bell(&bells.space).is_armed()
}

/// Rings for a commit. The caller must meet the condition of [`anybody_listens`].
pub(super) fn ring_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    let bells = &table.hot.bells.0;
    Bell(&bells.data).ring();
    Bell(&bells.change).ring();
    if Bell(&bells.space).is_armed() {
        ring_space_at_commit(table, slot, line);
    }
}

/// A writer sleeps. It can now use this slot, if the readers were done before the slot became
/// Published; or this sample, if it may take unread ones.
#[cold]
fn ring_space_at_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        Bell(&table.hot.bells.0.space).ring();
    }
}

/// Offers a slot that has become free, and rings for it. The caller must meet the condition of
/// [`anybody_listens`].
#[inline(always)]
pub(super) fn freed(table: &Table<'_>, slot: u32) {
    vacancy::offer(table, slot);
    Bell(&table.hot.bells.0.space).ring();
}

/// Whether no mark is left. It loads the words in order from the lowest: a joining reader that
/// takes a sample from history sets its bit first, and then checks history's bit in the lowest
/// word, so at least one of the two sees the other. Acquire: pairs with the release in [`clear`],
/// so the readers are done with the bytes.
#[inline(always)]
pub(super) fn is_clear(line: &SlotLine, words: usize) -> bool {
    let is_clear = |marks: &AtomicU64| Marks(marks.load(Ordering::Acquire)).is_clear();
    let [first, rest @ ..] = &line.marks;
    // Most segments have one word, and then there is no loop.
    is_clear(first) && (words == 1 || rest.iter().take(words.saturating_sub(1)).all(is_clear))
}

/// All bits left in the marks of a line.
pub(super) fn marks_left(line: &SlotLine, words: usize) -> Audience {
    let words = line.marks.iter().take(words).enumerate();
    Audience(
        words.fold(0, |all, (word, marks)| {
            all | Marks(marks.load(Ordering::Acquire)).readers(word).0
        }),
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
    // Acquire: pairs with the store of Publishing in `commit::publish`. So the sequence below
    // belongs to the generation of this phase or to a later one. The phase itself is not of an
    // earlier generation than the sample, as the caller has seen its entry; so in phase Committing
    // it is of a later one.
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
    let is_published = matches!(ctl.phase(), Some(Phase::Publishing | Phase::Confirmed));
    Ok(is_published && table.line(slot)?.sequence.load(Ordering::Relaxed) == sequence)
}

/// Offers a slot if no mark is left. The caller must meet the condition of [`anybody_listens`].
pub(crate) fn free_if_clear(table: &Table<'_>, slot: u32, line: &SlotLine) {
    if is_clear(line, table.shape.mark_words) {
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

/// Clears all bits of dead readers in a slot, whichever sample they belong to.
pub(super) fn evict(line: &SlotLine, readers: Audience, words: usize) {
    for (word, marks) in line.marks.iter().take(words).enumerate() {
        let held = readers.word(word);
        let bits = marks::OWED.put(held) | marks::HELD.put(held);
        // As in `clear_owed`.
        let _ = retry(|| {
            let seen = marks.load(Ordering::Acquire);
            (seen & bits == 0 || swap(marks, seen, seen & !bits)).then_some(())
        });
    }
}

/// After a reader's bit was cleared: frees the slot, or wakes a writer that may now take the sample
/// from the other readers. The caller must meet the condition of [`anybody_listens`].
pub(super) fn released(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        Bell(&table.hot.bells.0.space).ring();
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
