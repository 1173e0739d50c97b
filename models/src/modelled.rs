//! What `atomics.rs` names under `--cfg loom`: loom's atomics, and a futex made of them.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard};

pub(crate) use loom::sync::atomic::{Ordering, fence};
use loom::sync::{Condvar, atomic};
use loom::thread::{self, Thread};

use crate::atomics::Deadline;

/// Loom's atomic, with two of loom's gaps closed.
///
/// Loom tries a write in both orders only with the access just before it. So a compare-and-swap that follows its
/// own load would never be tried before an earlier load of another thread. Therefore each load touches an object
/// of its word, on which any two accesses are tried in both orders.
///
/// Loom does not know that nothing comes between the two halves of a read-modify-write: a plain store after one
/// could come before it as well, and then the older value be the final one. Therefore a store first looks at the
/// newest value, in one step with itself, and comes after it.
macro_rules! watched {
    ($name:ident, $value:ty) => {
        pub(crate) struct $name {
            word: atomic::$name,
            loads: Condvar,
        }

        impl $name {
            pub(crate) fn new(value: $value) -> $name {
                $name { word: atomic::$name::new(value), loads: Condvar::new() }
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.loads.notify_one();
                self.word.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                // Fails: no word ever holds this.
                const NO_VALUE: $value = <$value>::MAX / 3;
                let newest = self.word.compare_exchange(NO_VALUE, 0, Ordering::Relaxed, Ordering::Relaxed);
                assert!(newest.is_err(), "a word holds what none can");
                loom::stop_exploring();
                self.word.store(value, order);
                loom::explore();
            }

            pub(crate) fn fetch_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut seen = self.load(fetch_order);
                while let Some(next) = update(seen) {
                    match self.compare_exchange(seen, next, set_order, fetch_order) {
                        Ok(before) => return Ok(before),
                        Err(now) => seen = now,
                    }
                }
                Err(seen)
            }
        }

        /// Everything else is loom's.
        impl Deref for $name {
            type Target = atomic::$name;

            fn deref(&self) -> &atomic::$name {
                &self.word
            }
        }
    };
}

watched!(AtomicU32, u32);
watched!(AtomicU64, u64);

/// A futex: comparing and lying down are one step, as in the kernel. Deadlines never pass, so that a lost wake
/// shows as a deadlock.
pub(crate) struct FutexWord(pub(crate) AtomicU32, Mutex<Vec<Thread>>);

impl FutexWord {
    pub(crate) fn new(value: u32) -> FutexWord {
        FutexWord(AtomicU32::new(value), Mutex::default())
    }

    pub(crate) fn sleep(&self, expected: u32, _deadline: Deadline) {
        // Exchanged for itself, the word is the newest; no other thread has a turn before this one lies down.
        if self.0.compare_exchange(expected, expected, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.sleepers().push(thread::current());
            thread::park();
        }
    }

    pub(crate) fn wake_all(&self) {
        // Changes nothing; with it, this step and `sleep` are tried in both orders.
        self.0.fetch_or(0, Ordering::Relaxed);
        self.sleepers().drain(..).for_each(|sleeper| sleeper.unpark());
    }

    fn sleepers(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.1.lock().expect("no model thread panics while it holds the lock")
    }
}
