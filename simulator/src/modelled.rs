//! What `atomics.rs` names in the simulator: words whose every access lets another process run
//! first.
//!
//! One thread runs all processes of a run. So accesses are in one order, whatever `Ordering` they
//! request, and a fence does nothing. The models under loom examine weak memory.

use std::cell::Cell;
pub(crate) use std::sync::atomic::Ordering;

use crate::atomics::Deadline;
use crate::machine::{self, Access};

pub(crate) fn fence(_order: Ordering) {}

/// A poll that found nothing will find nothing until another process runs.
pub(crate) fn spin_loop() {
    machine::with(|machine| machine.relax());
}

macro_rules! word {
    ($name:ident, $value:ty) => {
        /// As large as the real one: `layout/words.rs` asserts the offset of each word.
        #[repr(transparent)]
        pub(crate) struct $name(Cell<$value>);

        impl $name {
            pub(crate) const fn new(value: $value) -> $name {
                $name(Cell::new(value))
            }

            /// Its value, read without a step.
            pub(crate) fn peek(&self) -> $value {
                self.0.get()
            }

            /// Sets it between two runs.
            pub(crate) fn reset(&self, value: $value) {
                self.0.set(value);
            }

            #[inline(always)]
            fn access(
                &self,
                change: impl FnOnce($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                machine::with(|machine| machine.step());
                let before = self.0.get();
                let after = change(before);
                if let Some(after) = after {
                    self.0.set(after);
                }
                machine::with(|machine| {
                    let word = &raw const *self as usize;
                    machine.made(Access {
                        word,
                        before: before.into(),
                        after: after.map(u64::from),
                    });
                });
                if after.is_some() { Ok(before) } else { Err(before) }
            }

            #[inline(always)]
            fn change(&self, change: impl FnOnce($value) -> $value) -> $value {
                self.access(|before| Some(change(before))).unwrap_or_else(|before| before)
            }

            #[inline(always)]
            pub(crate) fn load(&self, _order: Ordering) -> $value {
                self.access(|_| None).unwrap_or_else(|value| value)
            }

            #[inline(always)]
            pub(crate) fn store(&self, value: $value, _order: Ordering) {
                self.change(|_| value);
            }

            #[inline(always)]
            pub(crate) fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                _success: Ordering,
                _failure: Ordering,
            ) -> Result<$value, $value> {
                self.access(|before| (before == from).then_some(to))
            }

            pub(crate) fn swap(&self, value: $value, _order: Ordering) -> $value {
                self.change(|_| value)
            }

            pub(crate) fn fetch_add(&self, value: $value, _order: Ordering) -> $value {
                self.change(|before| before.wrapping_add(value))
            }

            pub(crate) fn fetch_or(&self, value: $value, _order: Ordering) -> $value {
                self.change(|before| before | value)
            }

            pub(crate) fn fetch_and(&self, value: $value, _order: Ordering) -> $value {
                self.change(|before| before & value)
            }

            pub(crate) fn fetch_max(&self, value: $value, _order: Ordering) -> $value {
                self.change(|before| before.max(value))
            }
        }
    };
}

word!(AtomicU32, u32);
word!(AtomicU64, u64);

/// A futex: comparing and falling asleep are one step, as in the kernel. Deadlines pass when
/// nothing else can happen.
#[repr(transparent)]
pub(crate) struct FutexWord(pub(crate) AtomicU32);

impl FutexWord {
    pub(crate) const fn new(value: u32) -> FutexWord {
        FutexWord(AtomicU32::new(value))
    }

    pub(crate) fn sleep(&self, expected: u32, _deadline: Deadline) -> bool {
        if self.0.load(Ordering::Relaxed) == expected {
            machine::with(|machine| machine.sleep(self.address()));
        }
        false
    }

    pub(crate) fn wake_all(&self) {
        machine::with(|machine| machine.wake(self.address()));
    }

    fn address(&self) -> usize {
        &raw const *self as usize
    }
}
