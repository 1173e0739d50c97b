//! One slot's words, and the steps that more than one party takes on them.
//!
//! Who may change what: the claim word belongs to writers (`loan`); marks are set by the committing writer (`commit`)
//! and by a joining reader that takes a sample from history, then each reader clears its own bits (`hold`). A slot is free
//! when it is `Free`, or `Published` and no mark is left. All bits of 16 readers move in one word together with the tag
//! of their sequence, so "unread", "held" and "of which sample" can never disagree.

use super::bell::Bell;
use super::bounds::RETRY_LIMIT;
use super::table::Table;
use super::vacancy;
use super::words::{Audience, Bit, Ctl, Extent, Marks, Phase, Place};
use crate::atomics::{AtomicU64, Ordering, fence_after_rmw};
use crate::error::Code;
use crate::layout::SlotLine;

/// Whether a bell is armed, so that a commit must be told. The caller has passed a sequentially consistent fence since it.
#[inline(always)]
pub(super) fn anybody_listens(table: &Table<'_>) -> bool {
    let bells = &table.hot.bells.0;
    Bell(&bells.data).is_armed() || Bell(&bells.change).is_armed() || Bell(&bells.space).is_armed()
}

/// Rings for a commit. Same condition as [`anybody_listens`].
pub(super) fn ring_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    let bells = &table.hot.bells.0;
    Bell(&bells.data).ring();
    Bell(&bells.change).ring();
    if Bell(&bells.space).is_armed() {
        ring_space_at_commit(table, slot, line);
    }
}

/// A writer sleeps. What it can use now: this slot, if its readers were done before it was Published; or this
/// sample, if it may take unread ones.
#[cold]
fn ring_space_at_commit(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        Bell(&table.hot.bells.0.space).ring();
    }
}

/// Offers a slot that has become free, and rings for it. Same condition as [`anybody_listens`].
#[inline(always)]
pub(super) fn freed(table: &Table<'_>, slot: u32) {
    vacancy::offer(table, slot);
    Bell(&table.hot.bells.0.space).ring();
}

/// Whether no mark is left. Words in order from the lowest: a joining reader that takes a sample from history
/// sets its bit first and then looks at the history bit, which stands in the lowest word, so at least one of
/// the two sees the other. Acquire: pairs with the release in [`clear`], so the readers are done with the bytes.
#[inline(always)]
pub(super) fn is_clear(line: &SlotLine, words: usize) -> bool {
    let is_clear = |marks: &AtomicU64| Marks(marks.load(Ordering::Acquire)).is_clear();
    let [first, rest @ ..] = &line.marks;
    // One word is the usual number, and then there is no loop.
    is_clear(first) && (words == 1 || rest.iter().take(words.saturating_sub(1)).all(is_clear))
}

/// All bits left in the marks of a line.
pub(super) fn marks_left(line: &SlotLine, words: usize) -> Audience {
    let words = line.marks.iter().take(words).enumerate();
    Audience(words.fold(0, |all, (word, marks)| all | Marks(marks.load(Ordering::Acquire)).readers(word).0))
}

/// Whether the writer of a slot has not finished its commit, though others may have seen the sample already. Acquire:
/// who finds it finished comes after everything that the commit did to the marks.
pub(super) fn is_committing(table: &Table<'_>, slot: u32) -> Result<bool, Code> {
    let ctl = Ctl(table.claim(slot)?.ctl.load(Ordering::Acquire));
    Ok(ctl.phase().is_some_and(Phase::is_committing))
}

/// Frees a slot if nothing is left on it. Same condition as [`anybody_listens`].
pub(crate) fn free_if_clear(table: &Table<'_>, slot: u32, line: &SlotLine) {
    if is_clear(line, table.shape.mark_words) {
        freed(table, slot);
    }
}

/// Clears one bit of marks that speak of `sequence`; stale if it is not set, or they speak of another.
#[inline(always)]
pub(super) fn clear(marks: &AtomicU64, sequence: u64, bit: u64) -> Result<Marks, Code> {
    retry(|| {
        let seen = Marks(marks.load(Ordering::Relaxed));
        if !seen.is_of(sequence) || seen.0 & bit == 0 {
            return Some(Err(Code::Stale));
        }
        // AcqRel, by `swap`: this reader is done with the bytes; pairs with the acquire in `is_clear`.
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
        let bits = (audience.0 >> (16 * word) & 0xffff) << 16;
        // Only a hostile peer can exhaust the retries; then the marks stay as they are.
        let _ = retry(|| {
            let seen = Marks(marks.load(Ordering::Relaxed));
            let done = !seen.is_of(sequence) || seen.0 & bits == 0;
            (done || swap(marks, seen.0, seen.0 & !bits)).then_some(())
        });
    }
}

/// Takes readers that are dead off a slot, whatever sample they were owed or held.
pub(super) fn evict(line: &SlotLine, readers: Audience, words: usize) {
    for (word, marks) in line.marks.iter().take(words).enumerate() {
        let held = readers.0 >> (16 * word) & 0xffff;
        let bits = held << 16 | held;
        // As in `clear_owed`.
        let _ = retry(|| {
            let seen = marks.load(Ordering::Acquire);
            (seen & bits == 0 || swap(marks, seen, seen & !bits)).then_some(())
        });
    }
}

/// After a reader's bit was cleared: frees the slot, or tells a waiting writer that it may now take the sample from
/// the others. Same condition as [`anybody_listens`].
pub(super) fn released(table: &Table<'_>, slot: u32, line: &SlotLine) {
    free_if_clear(table, slot, line);
    if table.shape.drop_oldest {
        Bell(&table.hot.bells.0.space).ring();
    }
}

/// Clears bits of one reader in one slot whatever sample they speak of, as far as `which` says so. It is given the
/// marks, and the whole sequence of their sample where the slot stands still.
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
        let bits = which(seen, seen.is_of(sequence).then_some(sequence)) & (reader.owed | reader.held);
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

/// One strong exchange. AcqRel: every change of marks both publishes what its thread did before (reading the
/// payload, setting another word) and sees what others did.
#[inline(always)]
pub(super) fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Repeats `step` until it has an answer.
#[inline(always)]
pub(super) fn retry<T>(mut step: impl FnMut() -> Option<T>) -> Result<T, Code> {
    // The first time nearly always has it, and then the loop costs nothing.
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

/// Whether the sample of a slot is in a region. It belongs to the life that the caller saw in `ctl`,
/// or the exchange of `ctl` that follows fails. Acquire: if it is of a later life, what that life's
/// writer committed before is visible, too; pairs with `begin_life`.
pub(super) fn has_region(line: &SlotLine, slot: u32) -> bool {
    matches!(Extent(line.extent.load(Ordering::Acquire)).place(slot), Place::Region(_))
}
