//! Where free slots may be: a map of bits over bits, one bit a slot at the bottom, a single word at the top.
//!
//! A hint only. Whether a slot is free stands in the slot; the map says where to look without walking them
//! all. Its promise: a slot that is free has its bit set, or somebody is about to set it. A writer that takes
//! its home slot leaves the bit alone, so in steady order nobody writes here, and who frees a slot finds its
//! bit set already. A bit lost to a kill between freeing and setting is restored by recovery.

use super::bell::Bell;
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

/// Says that `slot` may be free. The caller has made it free and has passed a sequentially consistent fence
/// since; pairs with the one in [`withdraw`].
#[inline(always)]
pub(crate) fn offer(table: &Table<'_>, slot: u32) {
    let place = slot as usize;
    if let Some(word) = table.vacancy.get(place / 64) {
        // Relaxed: ordered by the caller's fence.
        if word.load(Ordering::Relaxed) >> (place % 64) & 1 == 0 {
            set(table, slot);
        }
    }
}

/// Sets the bit of `slot` and of each word above it, as far as they are clear. Same condition as [`offer`], which looks at
/// the lowest alone.
#[cold]
pub(crate) fn set(table: &Table<'_>, slot: u32) {
    let mut place = slot as usize;
    for level in levels(table) {
        let Some(word) = level.get(place / 64) else { return };
        let bit = 1 << (place % 64);
        // Level by level, each looked at: the bit above may have been cleared since the one below was set.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
            // Pairs with the fence in `clear`: either this thread sees the cleared bit above, or the
            // clearer sees this one below.
            fence_after_rmw();
        }
        place /= 64;
    }
}

/// Takes the hint of `slot` back, before the caller looks whether the slot is free: either that look sees it
/// free, or who frees it later sees the bit gone and sets it again.
pub(crate) fn withdraw(table: &Table<'_>, slot: u32) {
    clear(table, 0, slot as usize);
}

/// Sets each bit above a word that is not empty: who was killed between two levels has left one clear. As with all hints, one
/// too many costs a look.
pub(crate) fn repair(table: &Table<'_>) {
    let mut levels = levels(table);
    let mut below = levels.next().unwrap_or(&[]);
    for above in levels {
        for (place, _) in below.iter().enumerate().filter(|(_, word)| word.load(Ordering::Relaxed) != 0) {
            let bit = 1 << (place % 64);
            if let Some(above) =
                above.get(place / 64).filter(|above| above.load(Ordering::Relaxed) & bit == 0)
            {
                // Relaxed: pairs with nothing; a word that is filled after this look is its filler's to raise.
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
            // Another writer may have missed the bit meanwhile, and gone to sleep.
            Bell(&table.hot.bells.0.space).ring();
        }
    }
}

/// Sets bit `place` of level `number` and above: the word below turned out not to be empty.
fn raise(table: &Table<'_>, number: usize, place: usize) {
    let mut place = place;
    for level in levels(table).skip(number) {
        let Some(word) = level.get(place / 64) else { return };
        word.fetch_or(1 << (place % 64), Ordering::Relaxed);
        fence_after_rmw();
        place /= 64;
    }
}

/// The first slot from `from` on that may be free. Its place only grows, so the walk ends whatever the words
/// hold.
pub(crate) fn next_from(table: &Table<'_>, from: u32) -> Option<u32> {
    let mut place = from as usize;
    let mut number = 0;
    loop {
        let word = level(table, number).get(place / 64)?.load(Ordering::Relaxed);
        let ahead = word & u64::MAX << (place % 64);
        if ahead != 0 {
            place = place / 64 * 64 + ahead.trailing_zeros() as usize;
            if number == 0 {
                // A bit beyond the last slot is nobody's.
                return u32::try_from(place).ok().filter(|slot| *slot < table.shape.slots);
            }
            number -= 1;
            // An empty word below is a bit that outlived its reason; the walk goes on behind it.
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
