//! Timeouts, and waits that let signal handlers run.
//!
//! Python runs the handler of a signal in its main thread, when this holds the GIL. So a wait
//! releases the GIL and ends when a signal has arrived (`EndWaits::signal`), the handlers run, and
//! it continues unless one of them raised. A signal that arrives between the last look and the
//! sleep does not end it. Therefore no sleep is longer than a slice.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use shmslot::Code;

use crate::errors::raise_as;

/// The longest time for which a signal may go unnoticed.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// The end of a wait.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    /// The call does not wait.
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    /// From seconds; `None` is no limit.
    pub(crate) fn after(timeout: Option<f64>) -> PyResult<Deadline> {
        let Some(seconds) = timeout else { return Ok(Deadline::Never) };
        if seconds == 0.0 {
            return Ok(Deadline::Now);
        }
        if seconds.is_nan() || seconds < 0.0 {
            return Err(raise_as(
                Code::BadTimeout,
                &format!(
                    "the timeout is {seconds}; use seconds, 0 not to wait, or None for no limit"
                ),
            ));
        }
        // Too large for a moment of this clock: no limit.
        let end = Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|timeout| Instant::now().checked_add(timeout));
        Ok(end.map_or(Deadline::Never, Deadline::At))
    }

    /// How long to sleep next; `None` if the time is over.
    pub(crate) fn slice(self) -> Option<Duration> {
        match self {
            Deadline::Now => None,
            Deadline::Never => Some(SLICE),
            Deadline::At(end) => {
                let left = end.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| left.min(SLICE))
            }
        }
    }
}

/// What a slice of a wait came to.
pub(crate) enum Slice<T> {
    /// What was waited for.
    Done(T),
    /// Nothing yet.
    Again,
}

/// Calls `part` with one slice after the other until it is done; `None` if the time is over. `part`
/// runs without the GIL.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    mut part: impl FnMut(Duration) -> PyResult<Slice<T>> + Send,
) -> PyResult<Option<T>> {
    while let Some(slice) = deadline.slice() {
        if let Slice::Done(done) = py.detach(|| part(slice))? {
            return Ok(Some(done));
        }
        py.check_signals()?;
    }
    Ok(None)
}
