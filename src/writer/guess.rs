//! Which free slot a writer tries first: guesses, each of which a claim checks.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::HotResult;

/// Payloads of this size and more cost more than the words of their slots, so what counts is which
/// memory is in a cache.
const LARGE_FROM: u64 = 1 << 16;

/// From this total size on, all slots together exceed a processor's share of a cache.
const MANY_FROM: u64 = 1 << 24;

/// Which free slot a writer tries first. It depends on the segment only, so all of its writers do
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The next in the order: entry, marks and sequence are on one line, and a reader knows where
    /// to look.
    Next,
    /// The last one, whose memory is warmest; then the next in the order, because with lagging
    /// readers the last one is still theirs.
    Last,
    /// One of those that were used last, so that few are in use.
    Few,
}

impl First {
    pub(super) fn of(slot_capacity: u64, slots: u32) -> First {
        if slot_capacity < LARGE_FROM {
            First::Next
        } else if slot_capacity.saturating_mul(u64::from(slots)) < MANY_FROM {
            First::Last
        } else {
            First::Few
        }
    }
}

/// How many slots a writer remembers.
pub(super) const RECENT: usize = 4;

/// Slots that this writer got for large payloads, newest first: guesses where one is free that no
/// other writer tries. Each is stored plus one, and 0 is none. All accesses are relaxed, because
/// they are guesses.
#[derive(Default)]
pub(super) struct Recent([AtomicU32; RECENT]);

impl Recent {
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|place| place.load(Ordering::Relaxed).checked_sub(1))
    }

    #[inline(always)]
    pub(super) fn first(&self) -> Option<u32> {
        let [first, ..] = &self.0;
        first.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Puts a slot first, and drops the last one if it is new.
    pub(super) fn note(&self, slot: u32) {
        let mut moved = slot + 1;
        for place in &self.0 {
            moved = place.swap(moved, Ordering::Relaxed);
            if moved == slot + 1 {
                break;
            }
        }
    }
}

/// How many loans ago a slot can have been used that is guessed to be free.
const CYCLE: u32 = 8;

/// After a search of the cycle that found nothing, so many reserves go on without one.
const SEARCHES_LEFT_OUT: u32 = 8;

/// Slots that this writer got out of order, in the order of their use. A reader that marks each
/// sample some samples later frees them in that order, so the slot that was used as many loans ago
/// as last time is likely to be free again. All accesses are relaxed, because these are guesses.
#[derive(Default)]
pub(super) struct Cycle {
    /// Each plus one; 0 is none.
    used: [AtomicU32; CYCLE as usize],
    /// How many were noted.
    noted: AtomicU32,
    /// How many loans before the last one the slot was used that was free last time.
    lag: AtomicU32,
    searches_left_out: AtomicU32,
}

impl Cycle {
    /// The slot that was used so many loans before the last one.
    #[inline(always)]
    fn before_last(&self, lag: u32) -> Option<u32> {
        let place = self.noted.load(Ordering::Relaxed).wrapping_sub(1 + lag) % CYCLE;
        self.used.get(place as usize)?.load(Ordering::Relaxed).checked_sub(1)
    }

    #[inline(always)]
    pub(super) fn guess(&self) -> Option<u32> {
        self.before_last(self.lag.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(super) fn note(&self, slot: u32) {
        let noted = self.noted.load(Ordering::Relaxed);
        if let Some(place) = self.used.get((noted % CYCLE) as usize) {
            place.store(slot + 1, Ordering::Relaxed);
        }
        self.noted.store(noted.wrapping_add(1), Ordering::Relaxed);
    }

    /// Tries one slot after the other, newest first, and remembers where one was free.
    pub(super) fn search<T>(
        &self,
        mut claim: impl FnMut(u32) -> HotResult<Option<T>>,
    ) -> HotResult<Option<T>> {
        let left_out = self.searches_left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            self.searches_left_out.store(left_out - 1, Ordering::Relaxed);
            return Ok(None);
        }
        for lag in 0..CYCLE {
            let Some(slot) = self.before_last(lag) else { break };
            if let Some(claimed) = claim(slot)? {
                self.lag.store(lag, Ordering::Relaxed);
                self.note(slot);
                return Ok(Some(claimed));
            }
        }
        self.searches_left_out.store(SEARCHES_LEFT_OUT, Ordering::Relaxed);
        Ok(None)
    }
}
