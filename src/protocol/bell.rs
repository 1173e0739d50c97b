//! A bell: one futex word to sleep on, that costs its ringer a load when nobody sleeps.
//!
//! The word is count 29 | waking 1 | watched 1 | armed 1. A sleeper arms the bell, looks once more at what it waits
//! for, and sleeps while the word stays the same. A ringer makes its change visible, then looks at the word: with no
//! bit set there is nobody to wake and nobody to tell. Armed and watched go with the ring, so a sleeper that is killed
//! costs one needless wake and no more. Waking stands from there until the wake is done: a ringer that is stopped in
//! between leaves it to the next.

use super::bounds::RETRY_LIMIT;
use crate::atomics::{Deadline, FutexWord, Ordering, fence};
use crate::layout::Bells;

/// Somebody sleeps, or is about to.
const ARMED: u32 = 1;
/// Somebody will compare the count, without sleeping yet.
const WATCHED: u32 = 2;
/// Somebody was to be woken, and may not have been yet.
const WAKING: u32 = 4;
const ONE_RING: u32 = 8;

/// A view of one bell word of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Bell<'a>(pub(crate) &'a FutexWord);

/// Wakes all who sleep on any bell of a segment, and makes those who are about to sleep look again.
pub(crate) fn ring_all(bells: &Bells) {
    for bell in [&bells.data, &bells.space, &bells.change] {
        Bell(bell).ring_everybody();
    }
}

/// The word as it was when the bell was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Armed(u32);

impl Armed {
    /// How often the bell had been rung.
    pub(crate) fn count(self) -> u32 {
        self.0 >> 3
    }
}

impl Bell<'_> {
    /// Announces a sleeper. After this the caller looks once more at what it waits for, and only then sleeps.
    pub(crate) fn arm(self) -> Armed {
        self.announce(ARMED)
    }

    /// The count as it is.
    pub(crate) fn count(self) -> u32 {
        // Acquire: pairs with `count_ring`.
        Armed(self.0.0.load(Ordering::Acquire)).count()
    }

    /// The count, which the next ring changes.
    pub(crate) fn watch(self) -> u32 {
        self.announce(WATCHED).count()
    }

    fn announce(self, bit: u32) -> Armed {
        // Relaxed: the fence below orders it; pairs with the load in `ring`.
        let before = self.0.0.fetch_or(bit, Ordering::Relaxed);
        // Either the look after this fence sees the ringer's change, or the ringer's look, after its own
        // fence, sees the bit.
        fence(Ordering::SeqCst);
        Armed(before | bit)
    }

    /// Sleeps until the bell has been rung since `armed`, or for less: the caller looks again, and at the clock.
    pub(crate) fn sleep(self, armed: Armed, deadline: Deadline) {
        self.0.sleep(armed.0, deadline);
    }

    /// Sleeps until one of several bells has been rung since it was armed.
    #[cfg(not(any(loom, shmslot_sim)))]
    pub(crate) fn sleep_any(bells: &[(Bell<'_>, Armed)], deadline: Deadline) {
        let words: Vec<_> = bells.iter().map(|(bell, armed)| (bell.0, armed.0)).collect();
        FutexWord::sleep_any(&words, deadline);
    }

    /// Wakes the sleepers, if there are any. The caller has made its change visible and has passed a
    /// sequentially consistent fence since.
    #[inline]
    pub(crate) fn ring(self) {
        if self.is_armed() {
            self.ring_sleepers();
        }
    }

    /// Whether somebody wants to know. Same condition as [`Bell::ring`].
    #[inline]
    pub(crate) fn is_armed(self) -> bool {
        // Relaxed: ordered by the caller's fence; pairs with the fence in `announce`.
        self.0.0.load(Ordering::Relaxed) & (ARMED | WATCHED | WAKING) != 0
    }

    #[cold]
    fn ring_sleepers(self) {
        let rung = self.count_ring(0);
        if rung & WAKING != 0 {
            self.wake(rung);
        }
    }

    /// Wakes whoever sleeps and makes whoever is about to sleep look again, armed or not.
    pub(crate) fn ring_everybody(self) {
        fence(Ordering::SeqCst);
        let rung = self.count_ring(WAKING);
        self.wake(rung);
    }

    fn wake(self, rung: u32) {
        self.0.wake_all();
        // Only if nothing happened since: otherwise somebody may have armed or rung, and the bit stays for the next
        // ringer. Relaxed: it tells nothing but itself.
        let _ = self.0.0.compare_exchange(rung, rung & !WAKING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Counts a ring, and takes note that a wake is due, in one step; returns the word after it.
    fn count_ring(self, due: u32) -> u32 {
        let ring = |word: u32| {
            let due = due | if word & ARMED != 0 { WAKING } else { word & WAKING };
            (word & !(ARMED | WATCHED | WAKING)).wrapping_add(ONE_RING) | due
        };
        for _ in 0..RETRY_LIMIT {
            let word = self.0.0.load(Ordering::Relaxed);
            let rung = ring(word);
            // AcqRel: a sleeper that arms after this and finds the word changed has synchronised with the ringer, so its
            // look sees the change.
            if self.0.0.compare_exchange(word, rung, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return rung;
            }
        }
        // Somebody writes to the word all the time, so no sleeper finds it unchanged; a wake does no harm.
        WAKING
    }
}
