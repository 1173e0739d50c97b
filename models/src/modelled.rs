//! What `atomics.rs` names under `--cfg loom`: loom's atomics, and a futex and a chime made of them.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{Ordering, fence};
use loom::sync::{Condvar, atomic};
use loom::thread::{self, Thread};

use crate::atomics::Deadline;

/// Loom's atomic, with two of loom's gaps closed.
///
/// Loom tries a write in both orders only with the access just before it. So a compare-and-swap
/// that follows its own load would never be tried before an earlier load of another thread.
/// Therefore each load touches an object of its word, and any two accesses of that object are tried
/// in both orders.
///
/// Loom does not know that nothing comes between the two halves of a read-modify-write: a plain
/// store after one could come before it as well, and then the older value would be the final one.
/// Therefore a store first reads the newest value, in one step with itself, and comes after it.
macro_rules! watched {
    ($name:ident, $value:ty, never $no_value:expr) => {
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
                // Fails, because no word ever holds this value.
                const NO_VALUE: $value = $no_value;
                let newest =
                    self.word.compare_exchange(NO_VALUE, 0, Ordering::Relaxed, Ordering::Relaxed);
                assert!(newest.is_err(), "a word holds what none can");
                loom::stop_exploring();
                self.word.store(value, order);
                loom::explore();
                step();
            }

            pub(crate) fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let before = self.word.compare_exchange(from, to, success, failure);
                if before.is_ok() {
                    step();
                }
                before
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

        changes! { $name, $value, swap fetch_add fetch_or fetch_and fetch_max }
    };
}

/// Changes that loom has, each of them a step.
macro_rules! changes {
    ($name:ident, $value:ty, $($change:ident)+) => {
        impl $name {
            $(pub(crate) fn $change(&self, value: $value, order: Ordering) -> $value {
                let before = self.word.$change(value, order);
                step();
                before
            })+
        }
    };
}

// A turn is odd, and a receipt is a turn or 0.
watched!(AtomicU8, u8, never 84);
watched!(AtomicU32, u32, never u32::MAX / 3);
watched!(AtomicU64, u64, never u64::MAX / 3);

/// A futex: comparing and falling asleep are one step, as in the kernel. Deadlines never pass, so a
/// lost wake shows as a deadlock.
pub(crate) struct FutexWord(pub(crate) AtomicU32, Mutex<Vec<Thread>>);

impl FutexWord {
    pub(crate) fn new(value: u32) -> FutexWord {
        FutexWord(AtomicU32::new(value), Mutex::default())
    }

    pub(crate) fn sleep(&self, expected: u32, _deadline: Deadline) -> bool {
        // Exchanged for itself, the word is the newest; no other thread runs before this one
        // sleeps.
        if self.0.compare_exchange(expected, expected, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.sleepers().push(thread::current());
            thread::park();
        }
        false
    }

    pub(crate) fn wake_all(&self) {
        // Changes nothing; it makes loom try this step and `sleep` in both orders.
        self.0.word.fetch_or(0, Ordering::Relaxed);
        self.sleepers().drain(..).for_each(|sleeper| sleeper.unpark());
        step();
    }

    fn sleepers(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.1.lock().expect("no model thread panics while it holds the lock")
    }
}

/// What the kernel does at an access of the segment's file: the descriptor of each watcher becomes
/// readable, and whoever sleeps there wakes.
pub(crate) struct Chime(RefCell<Vec<Rc<Descriptor>>>);

impl Chime {
    pub(crate) fn new() -> Chime {
        Chime(RefCell::default())
    }

    /// A descriptor that watches the file, with nothing to read.
    pub(crate) fn watch(&self) -> Rc<Descriptor> {
        let made = Rc::new(Descriptor(FutexWord::new(0)));
        self.0.borrow_mut().push(Rc::clone(&made));
        made
    }

    /// One system call: whoever is killed in it has made all of it. False in a thread that has lost
    /// the file.
    pub(crate) fn ring(&self) -> bool {
        if LOST.with(Cell::get) {
            step();
            return false;
        }
        for watcher in self.0.borrow().iter() {
            // AcqRel: the kernel changes the queue under a lock.
            watcher.0.0.word.swap(1, Ordering::AcqRel);
            watcher.0.sleepers().drain(..).for_each(|sleeper| sleeper.unpark());
        }
        step();
        true
    }
}

/// The descriptor of a watcher: a word that is 1 while there is something to read.
pub(crate) struct Descriptor(FutexWord);

impl Descriptor {
    /// Reads everything; whether there was anything.
    pub(crate) fn drain(&self) -> bool {
        // AcqRel: as in `Chime::ring`.
        let before = self.0.0.word.swap(0, Ordering::AcqRel);
        step();
        before == 1
    }

    /// Sleeps until there is something to read.
    pub(crate) fn poll(&self) {
        self.0.sleep(0, None);
    }
}

/// The payload with which a killed thread unwinds.
struct Killed;

loom::thread_local! {
    /// Steps that this thread has left, if it is to be killed.
    static LEFT: Cell<Option<u32>> = Cell::new(None);
    /// Whether this thread, as a process, has lost the file of the segment.
    static LOST: Cell<bool> = Cell::new(false);
}

/// What a process does that has lost the file, and so cannot ring the chime.
pub(crate) fn without_the_file<T>(life: impl FnOnce() -> T) -> T {
    LOST.with(|lost| lost.set(true));
    let result = life();
    LOST.with(|lost| lost.set(false));
    result
}

/// Runs until it has made so many steps; `None` if it was killed. Nothing more of it happens then:
/// between two steps a thread only looks, and what it has seen dies with it.
pub(crate) fn live<T>(steps: u32, life: impl FnOnce() -> T) -> Option<T> {
    if steps == 0 {
        return None;
    }
    LEFT.with(|left| left.set(Some(steps)));
    // The words may be in any state; that is what the models examine.
    let end = panic::catch_unwind(AssertUnwindSafe(life));
    LEFT.with(|left| left.set(None));
    match end {
        Ok(result) => Some(result),
        Err(end) if end.is::<Killed>() => None,
        Err(end) => panic::resume_unwind(end),
    }
}

/// A step that others, or the race detector, may notice. A thread that has no step left ends here,
/// without the panic hook, because this is not a failure.
pub(crate) fn step() {
    let left = LEFT.with(|left| left.replace(left.get().map(|steps| steps - 1)));
    if left == Some(1) {
        panic::resume_unwind(Box::new(Killed));
    }
}
