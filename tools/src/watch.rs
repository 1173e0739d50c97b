//! The loop of the commands that measure samples as they come: `hz`, `bw` and `delay`.

use std::time::{Duration, Instant};

use clap::Args;
use shmslot::Sample;

use crate::failure::{Failure, Outcome, Status};
use crate::join::{Joined, Next};
use crate::shell::Shell;
use crate::stop::Stop;
use crate::units::read_seconds;

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// The segment
    pub(crate) name: String,
    /// Most samples that a figure is made of
    #[arg(short, long, value_name = "NUMBER", default_value_t = 10_000)]
    pub(crate) window: usize,
    /// Time between two reports
    #[arg(short, long, value_name = "SECONDS", value_parser = read_seconds, default_value = "1")]
    pub(crate) interval: Duration,
    /// End after this time
    #[arg(short, long, value_name = "SECONDS", value_parser = read_seconds)]
    pub(crate) duration: Option<Duration>,
    /// End after so many samples
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
}

/// What is measured, and how it is told.
pub(crate) trait Measure {
    fn take(&mut self, sample: &Sample<'_>);
    /// Reports on the last samples, of which there is at least one.
    fn report(&mut self, shell: &Shell, lost: u64) -> Outcome;
}

impl Watch {
    pub(crate) fn run(
        &self,
        shell: &Shell,
        stop: &Stop,
        joined: &Joined,
        measure: &mut impl Measure,
    ) -> Outcome {
        let began = Instant::now();
        let end = self.duration.and_then(|duration| began.checked_add(duration));
        let first_until = shell.timeout.and_then(|timeout| began.checked_add(timeout));
        let mut next_report = began + self.interval;
        let (mut seen, mut reported) = (0, 0);
        loop {
            let mut until = end.map_or(next_report, |end| end.min(next_report));
            if let (0, Some(first)) = (seen, first_until) {
                until = until.min(first);
            }
            let ends = match joined.next(stop, Some(until))? {
                Next::Sample(sample) => {
                    measure.take(&sample);
                    seen += 1;
                    Some(seen) == self.count
                }
                Next::Late => false,
                Next::Stopped => true,
                Next::Retired => {
                    shell.remark("the segment was removed");
                    true
                }
            };
            // Samples may come faster than they are waited for.
            let now = Instant::now();
            if seen == 0 && first_until.is_some_and(|first| now >= first) {
                return Err(Failure::new(Status::TimedOut, "no sample came in time"));
            }
            let ends = ends || end.is_some_and(|end| now >= end);
            if ends || now >= next_report {
                if seen > reported {
                    measure.report(shell, joined.reader.lost())?;
                } else if !ends {
                    shell.remark("no new samples");
                }
                reported = seen;
                next_report = now + self.interval;
            }
            if ends {
                return Ok(());
            }
        }
    }
}
