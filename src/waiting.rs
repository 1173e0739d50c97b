//! What all waits share: polling, sleeping with an eye on the dead, and being interrupted.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::attachment::{Attachment, SLICE};
use crate::error::{Code, Hot, Result};
use crate::protocol::bell::Bell;
use crate::sys::{self, Deadline};

/// How many polls go by between two looks at the clock, at most; and the time that they may take together, in nanoseconds.
/// A poll may be a walk over all slots of a large segment.
const POLLS_PER_LOOK: u32 = 16;
const TIME_PER_LOOK: u64 = 2_000;

/// How long a call waits for another that is about to take the same name away. That takes some
/// microseconds, unless the process is stopped.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tries to get what another process has while it takes a name away, but does not wait for one that was stopped.
pub(crate) fn until_not_busy(mut try_it: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = sys::monotonic_ns().saturating_add(sys::nanoseconds(PATIENCE));
    let mut pause = Duration::from_micros(20);
    while !try_it()? {
        if sys::monotonic_ns() >= deadline {
            return Err(Code::NameBusy.into());
        }
        std::thread::sleep(pause);
        pause = Duration::from_millis(10).min(2 * pause);
    }
    Ok(())
}

/// Polls until `ready` has an answer or the time is over.
pub(crate) fn spin<T>(limit: Duration, mut ready: impl FnMut() -> Hot<Option<T>>) -> Hot<Option<T>> {
    if limit.is_zero() {
        return Ok(None);
    }
    let mut before = sys::monotonic_ns();
    let end = before.saturating_add(sys::nanoseconds(limit));
    let mut polls = 1;
    loop {
        for _ in 0..polls {
            if let Some(answer) = ready()? {
                return Ok(Some(answer));
            }
            std::hint::spin_loop();
        }
        let now = sys::monotonic_ns();
        if now >= end {
            return Ok(None);
        }
        polls = if now - before < TIME_PER_LOOK { POLLS_PER_LOOK.min(2 * polls) } else { 1 };
        before = now;
    }
}

/// Which of a segment's bells a wait sleeps on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Data,
    Space,
}

/// Sets the flag that a wait looks at after it armed its bell, and makes it look.
pub(crate) fn interrupt(segment: &Attachment, flag: &AtomicBool, side: Side) -> Hot<()> {
    let bells = &segment.table()?.hot.bells.0;
    flag.store(true, Ordering::Release);
    match side {
        Side::Data => Bell(&bells.data).ring_everybody(),
        Side::Space => Bell(&bells.space).ring_everybody(),
    }
    Ok(())
}

/// Ends waits of one reader or writer from any thread.
#[derive(Clone)]
pub struct Interrupter {
    segment: Arc<Attachment>,
    flag: Arc<AtomicBool>,
    side: Side,
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupter").field("side", &self.side).finish_non_exhaustive()
    }
}

impl Interrupter {
    pub(crate) fn new(segment: &Arc<Attachment>, flag: &Arc<AtomicBool>, side: Side) -> Interrupter {
        Interrupter { segment: Arc::clone(segment), flag: Arc::clone(flag), side }
    }

    /// Ends one wait, the running one or the next that has to wait, with
    /// [`Code::Interrupted`]. It fails in a forked child only.
    pub fn interrupt(&self) -> Result<()> {
        Ok(interrupt(&self.segment, &self.flag, self.side)?)
    }
}

/// The moment when a timeout is over.
pub(crate) fn deadline_of(timeout: Option<Duration>) -> Deadline {
    timeout.map(|timeout| sys::monotonic_ns().saturating_add(sys::nanoseconds(timeout)))
}

/// What a call says that did not get what it wanted in the time it had.
pub(crate) fn timeout_code(timeout: Option<Duration>) -> Code {
    if timeout == Some(Duration::ZERO) { Code::Again } else { Code::Timeout }
}

/// A thread that has nothing to do, until its deadline.
pub(crate) struct Sleeper {
    deadline: Deadline,
}

impl Sleeper {
    pub(crate) fn new(deadline: Deadline) -> Sleeper {
        Sleeper { deadline }
    }

    /// Sleeps by `sleep`, at most a slice of the time; true if the deadline has passed. Afterwards somebody cleans up after
    /// the dead of `segments`, once a slice, which rings the bells if there were any.
    pub(crate) fn sleep<'s>(
        &mut self,
        segments: impl IntoIterator<Item = &'s Attachment>,
        sleep: impl FnOnce(Deadline),
    ) -> Hot<bool> {
        let slice = sys::monotonic_ns().saturating_add(SLICE);
        sleep(Some(self.deadline.map_or(slice, |deadline| deadline.min(slice))));
        // Not only if nothing happened: others may ring all the time, and never for what this thread waits for.
        segments.into_iter().try_for_each(Attachment::recover_each_slice)?;
        // By the clock, whatever woke it: a bell that is rung all the time must not keep it from its deadline.
        Ok(self.deadline.is_some_and(|deadline| sys::monotonic_ns() >= deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_poll_is_not_repeated_beyond_the_time() {
        let mut polls = 0;
        let found = spin(Duration::from_millis(1), || -> Hot<Option<()>> {
            polls += 1;
            std::thread::sleep(Duration::from_millis(2));
            Ok(None)
        });
        assert_eq!((found, polls), (Ok(None), 1));
    }
}
