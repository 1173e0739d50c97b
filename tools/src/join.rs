//! A reader of a segment, for the commands that must read samples. It takes a reader's place and a
//! participant's row, and says so.

use std::time::{Duration, Instant};

use shmslot::layout::Geometry;
use shmslot::{Code, EndWaits, Policy, Reader, Sample, Segment};

use crate::failure::Outcome;
use crate::look;
use crate::shell::Shell;
use crate::stop::Stop;

pub(crate) struct Joined {
    pub(crate) segment: Segment,
    pub(crate) reader: Reader,
    pub(crate) geometry: Geometry,
}

/// What came first.
pub(crate) enum Next<'r> {
    Sample(Sample<'r>),
    /// The time is over.
    Late,
    /// A signal has come.
    Stopped,
    /// The segment has lost its name, and everything was read: nothing will come any more, unless
    /// from processes that are still attached to it.
    Retired,
}

impl Joined {
    /// Joins, once there is a segment of this name.
    pub(crate) fn wait(shell: &Shell, stop: &Stop, name: &str, history: u32) -> Outcome<Joined> {
        let full_name = shell.name(name)?;
        let segment = match Segment::attach(&full_name, &shell.attaching()) {
            Err(error) if error.code() == Code::NotFound && shell.timeout.is_some() => {
                attach_later(shell, stop, &full_name)?
            }
            attached => attached?,
        };
        Joined::of(shell, stop, name, segment, history)
    }

    pub(crate) fn of(
        shell: &Shell,
        stop: &Stop,
        name: &str,
        segment: Segment,
        history: u32,
    ) -> Outcome<Joined> {
        let geometry = segment.info()?.geometry;
        let reader = segment.reader(history.min(geometry.history))?;
        reader.end_waits(EndWaits { retired: true, ..EndWaits::default() })?;
        stop.ends(reader.interrupter());
        let effect = match geometry.policy {
            Policy::Block => "its writers wait for this reader if it is stopped or slow",
            Policy::Fail => "its writers get no slot if this reader is stopped or slow",
            Policy::DropOldest => "its writers do not wait for this reader",
        };
        shell.remark(&format!(
            "joined \"{name}\" as reader {} of at most {} (policy {}: {effect})",
            reader.index(),
            geometry.max_readers,
            look::policy(geometry.policy),
        ));
        Ok(Joined { segment, reader, geometry })
    }

    /// The next sample, or what came before it. `None` waits without limit.
    pub(crate) fn next(&self, stop: &Stop, until: Option<Instant>) -> Outcome<Next<'_>> {
        loop {
            if stop.is_stopped() {
                return Ok(Next::Stopped);
            }
            if let Some(sample) = self.reader.read()? {
                return Ok(Next::Sample(sample));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.reader.wait(left) {
                Ok(()) => {}
                Err(error) => match error.code() {
                    Code::Timeout | Code::Again => return Ok(Next::Late),
                    // The loop finds the signal.
                    Code::Interrupted => {}
                    Code::Retired => return Ok(Next::Retired),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

/// Waits for the name in pieces, because a signal does not end this wait.
fn attach_later(shell: &Shell, stop: &Stop, name: &str) -> Outcome<Segment> {
    const PIECE: Duration = Duration::from_millis(200);
    let end = shell.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    shell.remark(&format!("there is no segment \"{name}\" yet; waiting for it"));
    loop {
        let left = end.map_or(PIECE, |end| end.saturating_duration_since(Instant::now()));
        match Segment::attach_wait(name, &shell.attaching(), Some(left.min(PIECE))) {
            Err(error) if matches!(error.code(), Code::Timeout | Code::Again) => {
                if stop.is_stopped() || left <= PIECE {
                    return Err(error.into());
                }
            }
            attached => return Ok(attached?),
        }
    }
}
