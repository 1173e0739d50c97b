//! The end of what a command has written.

use std::time::Duration;

use shmslot::{Code, Segment};

use crate::failure::{Failure, Outcome};
use crate::stop::Stop;

/// Waits until the readers have read and marked everything, or are gone.
pub(crate) fn drained(segment: &Segment, stop: &Stop) -> Outcome {
    // A signal ends this wait only after a while.
    const PIECE: Duration = Duration::from_millis(100);
    loop {
        let last = segment.generation()?;
        let counters = segment.counters()?;
        if counters.unread == 0 && counters.held == 0 {
            return Ok(());
        }
        if stop.is_stopped() {
            return Err(Failure::interrupted("the readers have not read everything"));
        }
        if counters.dead > 0 {
            segment.recover()?;
        }
        match segment.wait_for_change(last, Some(PIECE)) {
            Err(error) if error.code() != Code::Timeout => return Err(error.into()),
            _ => {}
        }
    }
}
