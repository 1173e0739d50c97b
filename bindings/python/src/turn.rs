//! Objects that one thread uses at a time; the others wait for their turn.
//!
//! While a thread has its turn it runs no Python code, and it never waits for the GIL. So a thread
//! that has the GIL may wait for a turn, and a finalizer cannot find the turn taken by its own
//! thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;
use shmslot::{Code, Interrupter};

use crate::errors::{closed, raise, raise_as};
use crate::fork::Birth;
use crate::waits::{Deadline, Slice, wait};

/// An object that one thread uses at a time, until it is closed.
pub(crate) struct Turn<T> {
    what: &'static str,
    value: Mutex<Option<T>>,
    pub(crate) ends: Ends,
}

/// What ends the waits of an object early.
pub(crate) struct Ends {
    birth: Birth,
    interrupter: Interrupter,
    interrupted: AtomicBool,
    closed: AtomicBool,
}

impl Ends {
    pub(crate) fn new(interrupter: Interrupter) -> Ends {
        Ends {
            birth: Birth::now(),
            interrupter,
            interrupted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn check_fork(&self) -> PyResult<()> {
        self.birth.check()
    }

    pub(crate) fn is_here(&self) -> bool {
        self.birth.is_here()
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a hint, which the lock confirms.
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends one wait with `Interrupted`.
    pub(crate) fn interrupt(&self) -> PyResult<()> {
        self.check_fork()?;
        // Release: pairs with the swap in `after`.
        self.interrupted.store(true, Ordering::Release);
        self.interrupter.interrupt().map_err(raise)
    }

    /// Ends all waits, as the object is being closed.
    pub(crate) fn close(&self) {
        // Relaxed: the lock of what is closed orders its end.
        self.closed.store(true, Ordering::Relaxed);
        // It fails in a forked child only, where nobody waits.
        let _ = self.interrupter.interrupt();
    }

    /// Makes a thread that waits give up its turn for a moment.
    pub(crate) fn ask_for_turn(&self) {
        let _ = self.interrupter.interrupt();
    }

    /// What a slice of a wait that failed with `error` comes to. A time that is over, a signal and a
    /// thread that asked for its turn end the slice only.
    pub(crate) fn after<T>(&self, what: &'static str, error: shmslot::Error) -> PyResult<Slice<T>> {
        match error.code() {
            Code::Again | Code::Timeout | Code::NoFreeSlot => Ok(Slice::Again),
            Code::Interrupted if self.is_closed() => Err(closed(what)),
            // Acquire: pairs with the store in `interrupt`.
            Code::Interrupted if self.interrupted.swap(false, Ordering::Acquire) => Err(raise_as(
                Code::Interrupted,
                "the wait was ended by interrupt(); wait again, or stop",
            )),
            Code::Interrupted => Ok(Slice::Again),
            _ => Err(raise(error)),
        }
    }
}

/// Whether an object could be used.
pub(crate) enum Used<R> {
    Done(R),
    /// Another thread has its turn.
    Busy,
    /// It was closed.
    Closed,
}

impl<T: Send> Turn<T> {
    pub(crate) fn new(what: &'static str, value: T, interrupter: Interrupter) -> Turn<T> {
        Turn { what, value: Mutex::new(Some(value)), ends: Ends::new(interrupter) }
    }

    /// Uses the object, if this takes no longer than `patience`.
    pub(crate) fn use_within<R>(
        &self,
        patience: Duration,
        call: impl FnOnce(&mut T) -> R,
    ) -> Used<R> {
        let locked = match patience.is_zero() {
            true => self.value.try_lock(),
            false => self.value.try_lock_for(patience),
        };
        let Some(mut value) = locked else { return Used::Busy };
        let used = match &mut *value {
            Some(value) => Used::Done(call(value)),
            None => Used::Closed,
        };
        if !patience.is_zero() {
            // Who waits by an object leaves it to the others between two slices.
            MutexGuard::unlock_fair(value);
        }
        used
    }

    /// Uses the object for a moment. A thread that waits by it gives up its turn.
    pub(crate) fn use_now<R: Send>(
        &self,
        py: Python<'_>,
        mut call: impl FnMut(&mut T) -> R + Send,
    ) -> PyResult<R> {
        self.ends.check_fork()?;
        match self.use_within(Duration::ZERO, &mut call) {
            Used::Done(done) => return Ok(done),
            Used::Closed => return Err(closed(self.what)),
            Used::Busy => {}
        }
        let done = wait(py, Deadline::Never, |slice| {
            self.ends.ask_for_turn();
            self.part(slice, &mut call)
        })?;
        done.ok_or_else(|| closed(self.what)) // a wait without limit comes to its end
    }

    /// A slice of a longer use: waits for the turn, and then calls.
    pub(crate) fn part<R>(
        &self,
        slice: Duration,
        call: impl FnOnce(&mut T) -> R,
    ) -> PyResult<Slice<R>> {
        match self.use_within(slice, call) {
            Used::Done(done) => Ok(Slice::Done(done)),
            Used::Busy => Ok(Slice::Again),
            Used::Closed => Err(closed(self.what)),
        }
    }

    /// Uses several at once, if this takes no longer than `patience`. None is given twice.
    pub(crate) fn use_all<R>(
        turns: &[&Turn<T>],
        patience: Duration,
        call: impl FnOnce(&[&T]) -> R,
    ) -> Used<R> {
        // Two threads that use the same readers take them in one order.
        let mut order: Vec<usize> = (0..turns.len()).collect();
        order.sort_unstable_by_key(|at| std::ptr::from_ref(turns[*at]).addr());
        let mut locked: Vec<Option<MutexGuard<'_, Option<T>>>> =
            turns.iter().map(|_| None).collect();
        for at in order {
            match turns[at].value.try_lock_for(patience) {
                Some(value) => locked[at] = Some(value),
                None => return Used::Busy,
            }
        }
        let values: Option<Vec<&T>> =
            locked.iter().map(|value| value.as_ref().and_then(|value| value.as_ref())).collect();
        match values {
            Some(values) => Used::Done(call(&values)),
            None => Used::Closed,
        }
    }

    /// The object, which is closed from now on; `None` if it was closed before.
    pub(crate) fn close(&self, py: Python<'_>) -> Option<T> {
        if !self.ends.is_here() {
            return None; // it stays with the parent
        }
        self.ends.close();
        match self.value.try_lock() {
            Some(mut value) => value.take(),
            None => py.detach(|| self.value.lock().take()),
        }
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        if !self.ends.is_here() {
            // In a forked child: it is the parent's, and its memory is not needed here.
            std::mem::forget(self.value.get_mut().take());
        }
    }
}
