//! The vacancy map: where free slots may be. It is a tree of bits, with one bit per slot at the
//! bottom and a single word at the top.
//!
//! The map is only a hint, which saves a walk over all slots. The slot itself records whether it is
//! free. The promise: if a slot is free, its bit is set, or some process is about to set it. A
//! writer that claims its home slot leaves the bit alone, so in steady order nobody writes here,
//! and a process that frees a slot finds its bit already set. Recovery restores a bit that was lost
//! to a kill between freeing and setting.

use super::table::Table;
use crate::atomics::{AtomicU64, Ordering, fence_after_rmw};

/// Levels of a map over 2^24 slots.
const MAX_LEVELS: usize = 4;

/// The levels of the map, bottom first.
fn levels<'a>(table: &Table<'a>) -> impl Iterator<Item = &'a [AtomicU64]> + use<'a> {
    let mut rest = table.vacancy;
    let mut bits = table.shape.slots as usize;
    (0..MAX_LEVELS).map_while(move |_| {
        if rest.is_empty() {
            return None;
        }
        bits = bits.div_ceil(64);
        let (level, above) = rest.split_at(bits.min(rest.len()));
        rest = above;
        Some(level)
    })
}

/// Level `number` of the map; empty above the top.
fn level<'a>(table: &Table<'a>, number: usize) -> &'a [AtomicU64] {
    levels(table).nth(number).unwrap_or(&[])
}

/// Records that `slot` may be free. The caller has made it free, and has passed a sequentially
/// consistent fence since; pairs with the fence in [`withdraw`].
#[inline(always)]
pub(crate) fn offer(table: &Table<'_>, slot: u32) {
    if !is_offered(table, slot) {
        set(table, slot);
    }
}

/// Whether the lowest bit of `slot` is set.
#[inline(always)]
pub(crate) fn is_offered(table: &Table<'_>, slot: u32) -> bool {
    let place = slot as usize;
    // Relaxed: ordered by the caller's fence.
    table
        .vacancy
        .get(place / 64)
        .is_none_or(|word| word.load(Ordering::Relaxed) >> (place % 64) & 1 != 0)
}

/// Sets the bit of `slot` and of each word above it, if they are clear. The caller must meet the
/// condition of [`offer`], which checks the lowest bit only.
#[cold]
pub(crate) fn set(table: &Table<'_>, slot: u32) {
    let mut place = slot as usize;
    for level in levels(table) {
        let Some(word) = level.get(place / 64) else { return };
        let bit = 1 << (place % 64);
        // Each level is checked: the bit above may have been cleared since the one below was set.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
            // Pairs with the fence in `clear`: either this thread sees the cleared bit above, or
            // the clearer sees this one below.
            fence_after_rmw();
        }
        place /= 64;
    }
}

/// Withdraws the hint of `slot` before the caller checks whether the slot is free. Either that
/// check sees it free, or the process that frees it later sees the bit clear and sets it again.
pub(crate) fn withdraw(table: &Table<'_>, slot: u32) {
    clear(table, 0, slot as usize);
}

/// Sets each bit above a word that is not empty, because a process that was killed between two
/// levels left one clear. A needless hint costs one look.
pub(crate) fn repair(table: &Table<'_>) {
    let mut levels = levels(table);
    let mut below = levels.next().unwrap_or(&[]);
    for above in levels {
        for (place, _) in
            below.iter().enumerate().filter(|(_, word)| word.load(Ordering::Relaxed) != 0)
        {
            let bit = 1 << (place % 64);
            if let Some(above) =
                above.get(place / 64).filter(|above| above.load(Ordering::Relaxed) & bit == 0)
            {
                // Relaxed: pairs with nothing; a process that fills a word after this load sets the
                // bit above it.
                above.fetch_or(bit, Ordering::Relaxed);
            }
        }
        below = above;
    }
}

/// Clears bit `place` of level `number`, and the bit above it when its word is empty.
fn clear(table: &Table<'_>, number: usize, place: usize) {
    let Some(word) = level(table, number).get(place / 64) else { return };
    let left = word.fetch_and(!(1 << (place % 64)), Ordering::Relaxed) & !(1 << (place % 64));
    // Pairs with the fences of `offer`'s callers and of `set`.
    fence_after_rmw();
    if left == 0 && number + 1 < MAX_LEVELS {
        let above = place / 64;
        clear(table, number + 1, above);
        if word.load(Ordering::Relaxed) != 0 {
            raise(table, number + 1, above);
            // Another writer may have missed the bit meanwhile and gone to sleep.
            table.space_bell().ring();
        }
    }
}

/// Sets bit `place` of level `number` and the bits above it: the word below is not empty after all.
fn raise(table: &Table<'_>, number: usize, place: usize) {
    let mut place = place;
    for level in levels(table).skip(number) {
        let Some(word) = level.get(place / 64) else { return };
        word.fetch_or(1 << (place % 64), Ordering::Relaxed);
        fence_after_rmw();
        place /= 64;
    }
}

/// The first slot from `from` on that may be free. The place only grows, so the walk ends whatever
/// the words contain.
pub(crate) fn next_from(table: &Table<'_>, from: u32) -> Option<u32> {
    let mut place = from as usize;
    let mut number = 0;
    loop {
        let word = level(table, number).get(place / 64)?.load(Ordering::Relaxed);
        let ahead = word & u64::MAX << (place % 64);
        if ahead != 0 {
            place = place / 64 * 64 + ahead.trailing_zeros() as usize;
            if number == 0 {
                // A bit beyond the last slot belongs to no slot.
                return u32::try_from(place).ok().filter(|slot| *slot < table.shape.slots);
            }
            number -= 1;
            // The word below is empty: this bit is out of date, and the walk continues behind it.
            place *= 64;
        } else {
            number += 1;
            place = place / 64 + 1;
        }
    }
}

/// Fills the map of a new segment, in which every slot is free.
pub(crate) fn offer_all(table: &Table<'_>) {
    let mut bits = u64::from(table.shape.slots);
    for level in levels(table) {
        for (index, word) in (0u64..).zip(level) {
            let here = bits.saturating_sub(index * 64).min(64);
            word.store(u64::MAX >> (64 - here), Ordering::Relaxed);
        }
        bits = bits.div_ceil(64);
    }
}
