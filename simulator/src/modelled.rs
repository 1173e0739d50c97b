//! What `atomics.rs` names in the simulator: words whose every access lets another process run
//! first.
//!
//! One thread runs all processes of a run, and accesses to memory are in one order. A machine with
//! the memory model of x86-64 (TSO) differs from that in one way: a plain store waits in the buffer
//! of its process, where only that process sees it, and reaches the memory later
//! (`machine/buffers.rs`). So a load may come before earlier stores to other words, and nothing
//! else changes its place. This is why acquire, release and the weaker fences do nothing here; the
//! models under loom examine them.

use std::cell::Cell;
pub(crate) use std::sync::atomic::Ordering;

use crate::atomics::Deadline;
use crate::machine::{self, Stored};
use crate::scheduler::SCHEDULED;

/// Only the strongest fence is an instruction on x86-64.
pub(crate) fn fence(order: Ordering) {
    if order == Ordering::SeqCst {
        machine::with(|machine| machine.drain_own());
    }
}

/// The heavy fence, membarrier(2): each process passes a fence, some time during the call.
pub(crate) fn fence_everybody() {
    machine::with(|machine| machine.drain_everybody());
}

/// A poll that found nothing will find nothing until another process runs.
pub(crate) fn spin_loop() {
    machine::with(|machine| machine.relax());
}

macro_rules! word {
    ($name:ident, $value:ty, $stored:path) => {
        /// As large as the real one: `layout/words.rs` asserts the offset of each word.
        #[repr(transparent)]
        pub(crate) struct $name(Cell<$value>);

        impl $name {
            pub(crate) const fn new(value: $value) -> $name {
                $name(Cell::new(value))
            }

            /// Its value as the running process sees it, or, between two steps, its value in
            /// memory; read without a step.
            #[inline(always)]
            pub(crate) fn peek(&self) -> $value {
                let own = machine::running().and_then(|machine| machine.own(self.stored()));
                // It was such a value before it was stored.
                own.map_or(self.0.get(), |value| value as $value)
            }

            /// Sets it between two runs.
            pub(crate) fn reset(&self, value: $value) {
                self.0.set(value);
            }

            #[inline(always)]
            fn stored(&self) -> Stored {
                $stored(&self.0)
            }

            /// A read-modify-write: an instruction that empties the buffer, whether it changes the
            /// word or not.
            #[inline(always)]
            fn exchange(
                &self,
                change: impl FnOnce($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                machine::with(|machine| {
                    machine.step();
                    machine.drain_own();
                });
                let before = self.0.get();
                let after = change(before);
                if let Some(after) = after {
                    self.0.set(after);
                }
                machine::with(|machine| match after {
                    Some(after) => {
                        machine.changed(self.stored(), before.into(), after.into());
                    }
                    None => machine.loaded(self.stored(), before.into()),
                });
                if after.is_some() { Ok(before) } else { Err(before) }
            }

            #[inline(always)]
            fn change(&self, change: impl FnOnce($value) -> $value) -> $value {
                self.exchange(|before| Some(change(before))).unwrap_or_else(|before| before)
            }

            #[inline(always)]
            pub(crate) fn load(&self, _order: Ordering) -> $value {
                machine::with(|machine| machine.step());
                let value = self.peek();
                machine::with(|machine| machine.loaded(self.stored(), value.into()));
                value
            }

            #[inline(always)]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                if order == Ordering::SeqCst {
                    // Such a store is an exchange on x86-64.
                    self.swap(value, order);
                    return;
                }
                machine::with(|machine| machine.step());
                let waits = machine::running()
                    .is_some_and(|machine| machine.buffer(self.stored(), value.into()));
                if !waits {
                    let before = self.0.replace(value);
                    machine::with(|machine| {
                        machine.changed(self.stored(), before.into(), value.into());
                    });
                }
            }

            #[inline(always)]
            pub(crate) fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                _success: Ordering,
                _failure: Ordering,
            ) -> Result<$value, $value> {
                self.exchange(|before| (before == from).then_some(to))
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

word!(AtomicU8, u8, Stored::U8);
word!(AtomicU32, u32, Stored::U32);
word!(AtomicU64, u64, Stored::U64);

/// A futex: comparing and falling asleep are one step, as in the kernel. Deadlines pass when
/// nothing else can happen. A system call empties the buffer of its process.
#[repr(transparent)]
pub(crate) struct FutexWord(pub(crate) AtomicU32);

impl FutexWord {
    pub(crate) const fn new(value: u32) -> FutexWord {
        FutexWord(AtomicU32::new(value))
    }

    pub(crate) fn sleep(&self, expected: u32, _deadline: Deadline) -> bool {
        machine::with(|machine| machine.drain_own());
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

/// What the kernel does at an access of the segment's file. Each process has a descriptor that
/// watches it; whether there is something to read from it is kept here.
pub(crate) struct Chime([Cell<bool>; SCHEDULED]);

impl Chime {
    pub(crate) fn new() -> Chime {
        Chime(Default::default())
    }

    pub(crate) fn reset(&self) {
        self.0.iter().for_each(|readable| readable.set(false));
    }

    /// One system call. It does not fail here.
    pub(crate) fn ring(&self) -> bool {
        machine::with(|machine| {
            machine.step();
            machine.drain_own();
            self.tell(machine);
        });
        true
    }

    /// Makes the descriptors of all processes readable, and wakes those who sleep there.
    pub(crate) fn tell(&self, machine: &machine::Machine) {
        for readable in &self.0 {
            readable.set(true);
            machine.rouse(&raw const *readable as usize);
        }
    }

    /// Reads all that a process was told.
    pub(crate) fn drain(&self, process: usize) {
        machine::with(|machine| {
            machine.step();
            machine.drain_own();
        });
        self.0[process].set(false);
    }

    /// A process sleeps until it is told something.
    pub(crate) fn poll(&self, process: usize) {
        machine::with(|machine| {
            machine.step();
            machine.drain_own();
        });
        let readable = &self.0[process];
        if !readable.get() {
            machine::with(|machine| machine.sleep(&raw const *readable as usize));
        }
    }
}
