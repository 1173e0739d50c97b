//! What callers have of a handle under numbers: leases and resolved bytes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Code, HotResult};

/// What a handle has given out under numbers, each as often as it was retained.
///
/// It keeps the things themselves, under a lock. A reader does not use it: its samples are kept by
/// the segment, so it only counts them, in one atomic subtraction of the hot mark.
pub(crate) struct Given<T> {
    inner: Mutex<Items<T>>,
}

struct Items<T> {
    /// By token; each with how often it is to be released.
    items: BTreeMap<u64, (T, u64)>,
    last: u64,
    closed: bool,
}

impl<T> Default for Given<T> {
    fn default() -> Given<T> {
        Given { inner: Mutex::new(Items { items: BTreeMap::new(), last: 0, closed: false }) }
    }
}

impl<T> Given<T> {
    // A panic cannot leave it half changed.
    fn inner(&self) -> MutexGuard<'_, Items<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of a new one.
    pub(crate) fn add(&self, item: T) -> u64 {
        let mut inner = self.inner();
        inner.last += 1;
        let token = inner.last;
        inner.items.insert(token, (item, 1));
        token
    }

    pub(crate) fn retain(&self, token: u64) -> HotResult<()> {
        let mut inner = self.inner();
        let (_, count) = inner.items.get_mut(&token).ok_or(Code::Stale)?;
        *count += 1;
        Ok(())
    }

    /// Releases one, and drops it with its last release. True if it was the last of all after
    /// `close`, as [`give_back`](crate::ffi::boundary::give_back) asks.
    pub(crate) fn release(&self, token: u64) -> HotResult<bool> {
        let mut inner = self.inner();
        let (_, count) = inner.items.get_mut(&token).ok_or(Code::Stale)?;
        *count -= 1;
        if *count > 0 {
            return Ok(false);
        }
        let item = inner.items.remove(&token);
        let was_last = inner.closed && inner.items.is_empty();
        // Others need not wait for what the item does when it goes.
        drop(inner);
        drop(item);
        Ok(was_last)
    }

    /// True if nothing is out.
    pub(crate) fn close(&self) -> bool {
        let mut inner = self.inner();
        inner.closed = true;
        inner.items.is_empty()
    }
}
