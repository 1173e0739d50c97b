//! A bell: one futex word to sleep on. Ringing it costs one load while nobody sleeps.
//!
//! The word is a count and three bits: armed, watched and waking. A sleeper arms the bell, checks
//! once more what it waits for, and sleeps while the word is unchanged. A ringer makes its change
//! visible, then loads the word. If no bit is set, there is nobody to wake or to tell. A ring
//! clears armed and watched, so a sleeper that is killed costs at most one needless wake. The ring
//! sets waking, and the ringer clears it after the wake. If the ringer is stopped in between, the
//! next ringer finds waking set and wakes.

use super::attention::Attention;
use super::bounds::RETRY_LIMIT;
use crate::atomics::{Deadline, FutexWord, Ordering, fence};
use crate::layout::Bells;
use crate::layout::bits::bell as bits;

/// A process sleeps, or is about to.
const ARMED: u32 = bits::ARMED.mask() as u32;
/// A process will compare the count, but does not sleep yet.
const WATCHED: u32 = bits::WATCHED.mask() as u32;
/// A wake is due, and may not have happened yet.
const WAKING: u32 = bits::WAKING.mask() as u32;
const ONE_RING: u32 = bits::COUNT.put(1) as u32;

/// A view of one bell word of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Bell<'a>(pub(crate) &'a FutexWord);

/// Wakes all who sleep on any bell of a segment, and makes those who are about to sleep look again.
pub(crate) fn ring_all(bells: &Bells) {
    for bell in [&bells.data, &bells.space, &bells.change] {
        Bell(bell).ring_everybody();
    }
}

/// The bell word at the moment it was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Armed(u32);

impl Armed {
    /// How often the bell had been rung.
    pub(crate) fn count(self) -> u32 {
        bits::COUNT.get(self.0.into()) as u32
    }
}

impl Bell<'_> {
    /// Announces a sleeper. The caller must then check once more what it waits for, before it
    /// sleeps.
    pub(crate) fn arm(self, attention: Attention<'_>) -> Armed {
        self.announce(ARMED, attention)
    }

    /// The current count.
    pub(crate) fn count(self) -> u32 {
        // Acquire: pairs with `count_ring`.
        Armed(self.0.0.load(Ordering::Acquire)).count()
    }

    /// Returns the count, and makes the next ring change it.
    pub(crate) fn watch(self, attention: Attention<'_>) -> u32 {
        self.announce(WATCHED, attention).count()
    }

    fn announce(self, bit: u32, attention: Attention<'_>) -> Armed {
        // Relaxed: the fence below orders it; pairs with the load in `is_armed`.
        let before = self.0.0.fetch_or(bit, Ordering::Relaxed);
        // Either the caller's check after this fence sees the ringer's change, or the ringer's load
        // after its own fence sees the bit.
        fence(Ordering::SeqCst);
        attention.raise();
        Armed(before | bit)
    }

    /// Sleeps until the bell is rung after `armed`, or wakes earlier: the caller checks again, and
    /// checks the clock. True if a signal handler ended the sleep.
    pub(crate) fn sleep(self, armed: Armed, deadline: Deadline) -> bool {
        self.0.sleep(armed.0, deadline)
    }

    /// Sleeps until one of several bells is rung after it was armed; as [`Bell::sleep`].
    #[cfg(not(any(loom, shmslot_sim)))]
    pub(crate) fn sleep_any(bells: &[(Bell<'_>, Armed)], deadline: Deadline) -> bool {
        let words: Vec<_> = bells.iter().map(|(bell, armed)| (bell.0, armed.0)).collect();
        FutexWord::sleep_any(&words, deadline)
    }

    /// Wakes the sleepers, if there are any. The caller has made its change visible, and has passed
    /// a sequentially consistent fence after that.
    #[inline]
    pub(crate) fn ring(self) {
        if self.is_armed() {
            self.ring_sleepers();
        }
    }

    /// Whether a process wants to be told. The caller must meet the condition of [`Bell::ring`].
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

    /// Wakes all sleepers, and makes processes that are about to sleep check again, whether or not
    /// the bell is armed.
    pub(crate) fn ring_everybody(self) {
        fence(Ordering::SeqCst);
        let rung = self.count_ring(WAKING);
        self.wake(rung);
    }

    fn wake(self, rung: u32) {
        self.0.wake_all();
        // Only if the word is unchanged. Otherwise a process has armed or rung meanwhile, and
        // waking stays for the next ringer. Relaxed: no other data depends on it.
        let _ =
            self.0.0.compare_exchange(rung, rung & !WAKING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Counts a ring and sets waking if a wake is due, in one step. Returns the new word.
    fn count_ring(self, due: u32) -> u32 {
        let ring = |word: u32| {
            let due = due | if word & ARMED != 0 { WAKING } else { word & WAKING };
            (word & !(ARMED | WATCHED | WAKING)).wrapping_add(ONE_RING) | due
        };
        for _ in 0..RETRY_LIMIT {
            let word = self.0.0.load(Ordering::Relaxed);
            let rung = ring(word);
            // AcqRel: a sleeper that finds the word changed when it arms has synchronised with the
            // ringer, so its check sees the change.
            if self.0.0.compare_exchange(word, rung, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return rung;
            }
        }
        // Another process changes the word all the time, so no sleeper finds it unchanged. A
        // needless wake is harmless.
        WAKING
    }
}
