//! The signals that end a command: it then finishes what it has begun, and says what it has seen.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use shmslot::Interrupter;

use crate::failure::{Failure, Outcome, Status};

/// Whether SIGINT, SIGTERM or SIGHUP has come.
pub(crate) struct Stop {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    waits: Vec<Interrupter>,
}

impl Stop {
    /// Takes the signals from now on. It must come before the first other thread, which would get
    /// them otherwise. A second signal ends the process at once.
    pub(crate) fn on_signals() -> Outcome<Stop> {
        let stop = Stop { shared: Arc::new(Shared::default()) };
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let failed = |error| Failure::failed(format!("cannot wait for signals: {error}"));
        signals.thread_block().map_err(failed)?;
        let waker = Stop { shared: Arc::clone(&stop.shared) };
        let wait = move || {
            if signals.wait().is_ok() {
                waker.stop();
                if signals.wait().is_ok() {
                    std::process::exit(Status::Interrupted as i32);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(wait)
            .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
        Ok(stop)
    }

    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for wait in &state.waits {
            // It fails in a forked child only.
            let _ = wait.interrupt();
        }
        self.shared.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Ends the waits of a reader or writer, too; at once, if the signal has come already.
    pub(crate) fn ends(&self, waits: Interrupter) {
        let mut state = self.state();
        if state.stopped {
            let _ = waits.interrupt();
        }
        state.waits.push(waits);
    }

    /// Lets go of the readers and writers whose waits it would end: each keeps a segment attached.
    pub(crate) fn release(&self) {
        self.state().waits.clear();
    }

    /// Sleeps until then; true if it should go on.
    pub(crate) fn sleep_until(&self, then: Instant) -> bool {
        let mut state = self.state();
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if state.stopped || left.is_zero() {
                return !state.stopped;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn sleep(&self, time: Duration) -> bool {
        // A time that cannot be added is longer than any process lives.
        let now = Instant::now();
        self.sleep_until(now.checked_add(time).unwrap_or(now + Duration::from_secs(1 << 31)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stop {
    /// The thread that waits for signals never ends and shares the state: without this no command
    /// would ever leave a segment properly.
    fn drop(&mut self) {
        self.release();
    }
}
