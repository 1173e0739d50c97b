//! The queue between the thread that reads and the one that writes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A sample, copied out of its slot.
pub(super) struct Item {
    pub(super) channel: u16,
    pub(super) sequence: u64,
    /// When it was read, and when it was committed, in nanoseconds since 1970.
    pub(super) log_time: u64,
    pub(super) publish_time: u64,
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// What a pop found.
pub(super) enum Popped {
    Item(Item),
    Late,
    /// It was closed, and is empty.
    Closed,
}

pub(super) struct Queue {
    most_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: u64,
    dropped: u64,
    lost: u64,
    is_closed: bool,
    has_failed: bool,
}

impl Queue {
    pub(super) fn new(most_bytes: u64) -> Queue {
        Queue { most_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether a payload of this length may be pushed. One that is longer than all the room may, if
    /// nothing else waits.
    pub(super) fn has_room(&self, len: u64) -> bool {
        let state = self.state();
        state.items.is_empty() || state.bytes.saturating_add(len) <= self.most_bytes
    }

    pub(super) fn push(&self, item: Item) {
        let mut state = self.state();
        state.bytes += item.payload.len() as u64;
        state.items.push_back(item);
        self.changed.notify_one();
    }

    pub(super) fn note_dropped(&self) {
        self.state().dropped += 1;
    }

    pub(super) fn note_lost(&self, lost: u64) {
        self.state().lost = lost;
    }

    /// Samples that were dropped here, and those that the segments lost before.
    pub(super) fn missing(&self) -> (u64, u64) {
        let state = self.state();
        (state.dropped, state.lost)
    }

    /// Nothing is pushed any more.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// Nothing is popped any more, because the file cannot be written.
    pub(super) fn fail(&self) {
        self.state().has_failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().has_failed
    }

    pub(super) fn pop(&self, until: Instant) -> Popped {
        let mut state = self.state();
        loop {
            if let Some(item) = state.items.pop_front() {
                state.bytes -= item.payload.len() as u64;
                return Popped::Item(item);
            }
            if state.is_closed {
                return Popped::Closed;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Popped::Late;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_in_bytes_and_one_item_always_fits() {
        let item = |len| Item {
            channel: 0,
            sequence: 1,
            log_time: 0,
            publish_time: 0,
            header: Vec::new(),
            payload: vec![0; len],
        };
        let queue = Queue::new(10);
        assert!(queue.has_room(100));
        queue.push(item(8));
        assert!(queue.has_room(2) && !queue.has_room(3));
        assert!(matches!(queue.pop(Instant::now()), Popped::Item(_)));
        assert!(queue.has_room(11));
        assert!(matches!(queue.pop(Instant::now()), Popped::Late));
        queue.push(item(1));
        queue.close();
        assert!(matches!(queue.pop(Instant::now()), Popped::Item(_)));
        assert!(matches!(queue.pop(Instant::now()), Popped::Closed));
    }
}
