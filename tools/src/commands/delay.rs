//! `delay`: how long samples take from their commit to this command.

use clap::Args;
use serde_json::json;
use shmslot::Sample;

use crate::clock;
use crate::failure::{Failure, Outcome};
use crate::join::Joined;
use crate::look::observe;
use crate::shell::Shell;
use crate::stop::Stop;
use crate::watch::{Measure, Watch};
use crate::window::{Window, summarize};

#[derive(Args, Debug)]
pub(crate) struct Delay {
    #[command(flatten)]
    watch: Watch,
}

impl Delay {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let stop = Stop::on_signals()?;
        // Before it joins, if it can be asked before.
        if let Ok(segment) = observe(shell, &self.watch.name) {
            check(segment.info()?.geometry.timestamps)?;
        }
        let joined = Joined::wait(shell, &stop, &self.watch.name, 0)?;
        check(joined.geometry.timestamps)?;
        let mut delays =
            Delays { name: self.watch.name.clone(), delays: Window::new(self.watch.window) };
        self.watch.run(shell, &stop, &joined, &mut delays)
    }
}

fn check(timestamps: bool) -> Outcome {
    if timestamps {
        return Ok(());
    }
    Err(Failure::failed(
        "the segment keeps no times of its commits; create it with timestamps \
         (SHMSLOT_FLAG_TIMESTAMPS), or measure with shmslot bench",
    ))
}

struct Delays {
    name: String,
    delays: Window<u64>,
}

impl Measure for Delays {
    fn take(&mut self, sample: &Sample<'_>) {
        self.delays.push(clock::monotonic_ns().saturating_sub(sample.timestamp_ns()));
    }

    fn report(&mut self, shell: &Shell, lost: u64) -> Outcome {
        let Some(delay) = summarize(self.delays.iter().map(|delay| *delay as f64)) else {
            return Ok(());
        };
        if shell.json {
            return shell.print_json(&json!({
                "name": self.name,
                "mean_ns": delay.mean,
                "min_ns": delay.min,
                "median_ns": delay.median,
                "p99_ns": delay.p99,
                "max_ns": delay.max,
                "std_dev_ns": delay.std_dev,
                "window": delay.count,
                "lost": lost,
            }));
        }
        shell.print(&format!(
            "average delay: {:.9}\n\tmin: {:.9}s max: {:.9}s std dev: {:.9}s window: {}",
            delay.mean / 1e9,
            delay.min / 1e9,
            delay.max / 1e9,
            delay.std_dev / 1e9,
            delay.count,
        ))
    }
}
