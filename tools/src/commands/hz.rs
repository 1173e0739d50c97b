//! `hz`: how many samples come in a second.

use std::time::Instant;

use clap::Args;
use serde_json::json;
use shmslot::Sample;

use crate::clock;
use crate::failure::Outcome;
use crate::join::Joined;
use crate::look::observe;
use crate::shell::Shell;
use crate::stop::Stop;
use crate::watch::{Measure, Watch};
use crate::window::{Window, summarize};

#[derive(Args, Debug)]
pub(crate) struct Hz {
    #[command(flatten)]
    watch: Watch,
    /// Do not join: count samples from outside, which gives their rate, but nothing of single ones
    #[arg(long)]
    look: bool,
}

impl Hz {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let stop = Stop::on_signals()?;
        if self.look {
            return self.look(shell, &stop);
        }
        let joined = Joined::wait(shell, &stop, &self.watch.name, 0)?;
        let mut rate = Rate {
            name: self.watch.name.clone(),
            by_commit: joined.geometry.timestamps,
            times: Window::new(self.watch.window.saturating_add(1)),
        };
        self.watch.run(shell, &stop, &joined, &mut rate)
    }

    fn look(&self, shell: &Shell, stop: &Stop) -> Outcome {
        let segment = observe(shell, &self.watch.name)?;
        let next = || Ok::<_, crate::failure::Failure>(segment.info()?.next_sequence);
        let began = Instant::now();
        let (mut last, mut at) = (next()?, began);
        while stop.sleep(self.watch.interval) {
            let (now, then) = (Instant::now(), std::mem::replace(&mut at, Instant::now()));
            let before = std::mem::replace(&mut last, next()?);
            let samples = last.saturating_sub(before);
            let rate = samples as f64 / (now - then).as_secs_f64();
            if shell.json {
                shell.print_json(&json!({
                    "name": self.watch.name,
                    "rate_hz": rate,
                    "samples": samples,
                    "clock": "look",
                }))?;
            } else {
                shell.print(&format!("average rate: {rate:.3}\n\tsamples: {samples}"))?;
            }
            if self.watch.duration.is_some_and(|duration| began.elapsed() >= duration) {
                break;
            }
        }
        Ok(())
    }
}

struct Rate {
    name: String,
    /// Whether the times are those of commits, which the reader's own pauses do not change.
    by_commit: bool,
    times: Window<u64>,
}

impl Measure for Rate {
    fn take(&mut self, sample: &Sample<'_>) {
        let time = if self.by_commit { sample.timestamp_ns() } else { clock::monotonic_ns() };
        self.times.push(time);
    }

    fn report(&mut self, shell: &Shell, lost: u64) -> Outcome {
        let pairs = self.times.iter().zip(self.times.iter().skip(1));
        // Two writers may commit in another order than that in which they took the time.
        let gaps = pairs.map(|(one, next)| next.saturating_sub(*one) as f64);
        let Some(gap) = summarize(gaps) else {
            shell.remark("one sample came; a rate needs two");
            return Ok(());
        };
        let rate = if gap.mean > 0.0 { 1e9 / gap.mean } else { 0.0 };
        if shell.json {
            return shell.print_json(&json!({
                "name": self.name,
                "rate_hz": rate,
                "min_ns": gap.min,
                "max_ns": gap.max,
                "std_dev_ns": gap.std_dev,
                "window": gap.count,
                "lost": lost,
                "clock": if self.by_commit { "commit" } else { "read" },
            }));
        }
        let lost = if lost > 0 { format!(" lost: {lost}") } else { String::new() };
        shell.print(&format!(
            "average rate: {rate:.3}\n\tmin: {:.6}s max: {:.6}s std dev: {:.7}s window: {}{lost}",
            gap.min / 1e9,
            gap.max / 1e9,
            gap.std_dev / 1e9,
            gap.count,
        ))
    }
}
