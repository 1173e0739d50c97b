//! A bell: one word to sleep on, in the kernel or behind a descriptor. Ringing it costs one load
//! while nobody sleeps.
//!
//! The word is a count and five bits: armed, watched and waking, fd_armed and fd_waking. A sleeper
//! arms the bell, checks once more what it waits for, and sleeps while the word is unchanged. A
//! ringer makes its change visible, then loads the word. If no bit is set, there is nobody to wake
//! or to tell. A ring clears armed, watched and fd_armed, so a sleeper that is killed costs at most
//! one needless wake. The ring sets waking, and the ringer clears it after the wake. If the ringer
//! is stopped in between, the next ringer finds waking set and wakes.
//!
//! Who sleeps in an event loop sets fd_armed, and its descriptor becomes readable when the
//! segment's file is accessed: by the *chime*. One call reaches all of them, however many there
//! are. fd_waking is for the chime what waking is for the futex; a ringer that cannot ring the chime
//! leaves it set, too.

use super::attention::Attention;
use super::bounds::RETRY_LIMIT;
use crate::atomics::{Chime, Deadline, FutexWord, Ordering, fence};
use crate::layout::Bells;
use crate::layout::bits::bell as bits;

/// A process sleeps, or is about to.
const ARMED: u32 = bits::ARMED.mask() as u32;
/// A process will compare the count, but does not sleep yet.
const WATCHED: u32 = bits::WATCHED.mask() as u32;
/// A wake is due, and may not have happened yet.
const WAKING: u32 = bits::WAKING.mask() as u32;
/// A process waits for its descriptor, or is about to.
const FD_ARMED: u32 = bits::FD_ARMED.mask() as u32;
/// The chime is due, and may not have been rung yet.
const FD_WAKING: u32 = bits::FD_WAKING.mask() as u32;
/// Somebody wants to be told.
const ANYBODY: u32 = ARMED | WATCHED | WAKING | FD_ARMED | FD_WAKING;
const ONE_RING: u32 = bits::COUNT.put(1) as u32;

/// A view of one bell word of a segment, and what wakes who waits for it behind a descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Bell<'a> {
    word: &'a FutexWord,
    chime: &'a Chime,
}

/// Wakes all who sleep on any bell of a segment, and makes those who are about to sleep look again.
///
/// A bell that is not armed is left alone: nobody sleeps there and no wake is due, and who arms it
/// from now on sees in the check what the caller changed.
pub(crate) fn ring_all(bells: &Bells, chime: &Chime) {
    fence(Ordering::SeqCst);
    ring_armed([&bells.data, &bells.space, &bells.change].map(|word| Bell::new(word, chime)));
}

/// Rings those bells of one segment that are armed, and the chime once for all. The caller must meet
/// the condition of [`Bell::ring`].
#[cold]
#[inline(never)]
pub(crate) fn ring_armed<const N: usize>(bells: [Bell<'_>; N]) {
    finish(bells, bells.map(|bell| if bell.is_armed() { bell.count_ring(0) } else { 0 }));
}

/// Makes the calls that are due after bells of one segment were rung; `rung` are their new words.
fn finish<const N: usize>(bells: [Bell<'_>; N], rung: [u32; N]) {
    let is_due = rung.iter().any(|rung| rung & FD_WAKING != 0);
    let told = bells.first().filter(|_| is_due).is_none_or(|first| first.chime.ring());
    // Who could not ring the chime leaves that to the next ringer.
    let kept = if told { 0 } else { FD_WAKING };
    for (bell, rung) in bells.into_iter().zip(rung) {
        bell.wake(rung, kept);
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

impl<'a> Bell<'a> {
    pub(crate) fn new(word: &'a FutexWord, chime: &'a Chime) -> Bell<'a> {
        Bell { word, chime }
    }

    /// Announces a sleeper. The caller must then check once more what it waits for, before it
    /// sleeps.
    pub(crate) fn arm(self, attention: Attention<'_>) -> Armed {
        self.announce(ARMED, attention)
    }

    /// Announces a process that waits for its descriptor to become readable, and has drained it
    /// before. The caller must then check once more what it waits for, before it waits.
    pub(crate) fn arm_descriptor(self, attention: Attention<'_>) {
        self.announce(FD_ARMED, attention);
    }

    /// The current count.
    pub(crate) fn count(self) -> u32 {
        // Acquire: pairs with `count_ring`.
        Armed(self.word.0.load(Ordering::Acquire)).count()
    }

    /// Returns the count, and makes the next ring change it.
    pub(crate) fn watch(self, attention: Attention<'_>) -> u32 {
        self.announce(WATCHED, attention).count()
    }

    fn announce(self, bit: u32, attention: Attention<'_>) -> Armed {
        // Release: a ringer that sees the bit rings the chime after this process has drained its
        // descriptor; pairs with `count_ring`. The fence below orders it before the check; pairs
        // with the load in `is_armed`.
        let before = self.word.0.fetch_or(bit, Ordering::Release);
        // Either the caller's check after this fence sees the ringer's change, or the ringer's load
        // after its own fence sees the bit.
        fence(Ordering::SeqCst);
        attention.raise();
        Armed(before | bit)
    }

    /// Sleeps until the bell is rung after `armed`, or wakes earlier: the caller checks again, and
    /// checks the clock. True if a signal handler ended the sleep.
    pub(crate) fn sleep(self, armed: Armed, deadline: Deadline) -> bool {
        self.word.sleep(armed.0, deadline)
    }

    /// Sleeps until one of several bells is rung after it was armed; as [`Bell::sleep`].
    #[cfg(not(any(loom, shmslot_sim)))]
    pub(crate) fn sleep_any(bells: &[(Bell<'_>, Armed)], deadline: Deadline) -> bool {
        let words: Vec<_> = bells.iter().map(|(bell, armed)| (bell.word, armed.0)).collect();
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
        self.word.0.load(Ordering::Relaxed) & ANYBODY != 0
    }

    #[cold]
    fn ring_sleepers(self) {
        finish([self], [self.count_ring(0)]);
    }

    /// Wakes all sleepers, and makes processes that are about to sleep check again, whether or not
    /// the bell is armed. Who waits for a descriptor is told if it is armed.
    pub(crate) fn ring_everybody(self) {
        fence(Ordering::SeqCst);
        finish([self], [self.count_ring(WAKING)]);
    }

    /// Makes the call to the sleepers that is due after a ring, and says that all calls are made but
    /// those that are `kept`.
    fn wake(self, rung: u32, kept: u32) {
        if rung & WAKING != 0 {
            self.word.wake_all();
        }
        let made = (WAKING | FD_WAKING) & !kept;
        if rung & made != 0 {
            let done = rung & !made;
            // Only if the word is unchanged. Otherwise a process has armed or rung meanwhile, and
            // what was due stays so for the next ringer. Relaxed: no other data depends on it.
            let _ = self.word.0.compare_exchange(rung, done, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Counts a ring and records which calls are due, in one step. Returns the new word.
    fn count_ring(self, due: u32) -> u32 {
        let ring = |word: u32| {
            let waking = if word & ARMED != 0 { WAKING } else { word & WAKING };
            let fd_waking = if word & FD_ARMED != 0 { FD_WAKING } else { word & FD_WAKING };
            (word & !ANYBODY).wrapping_add(ONE_RING) | due | waking | fd_waking
        };
        for _ in 0..RETRY_LIMIT {
            let word = self.word.0.load(Ordering::Relaxed);
            let rung = ring(word);
            // AcqRel: a sleeper that finds the word changed when it arms has synchronised with the
            // ringer, so its check sees the change; and pairs with the release in `announce`.
            if self.word.0.compare_exchange(word, rung, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                return rung;
            }
        }
        // Another process changes the word all the time, so no sleeper finds it unchanged. A
        // needless wake is harmless.
        WAKING | FD_WAKING
    }
}
