//! `bw`: how many bytes come in a second.

use clap::Args;
use serde_json::json;
use shmslot::Sample;

use crate::clock;
use crate::failure::Outcome;
use crate::join::Joined;
use crate::shell::Shell;
use crate::stop::Stop;
use crate::units::bytes;
use crate::watch::{Measure, Watch};
use crate::window::{Window, summarize};

#[derive(Args, Debug)]
pub(crate) struct Bw {
    #[command(flatten)]
    watch: Watch,
}

impl Bw {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let stop = Stop::on_signals()?;
        let joined = Joined::wait(shell, &stop, &self.watch.name, 0)?;
        let mut bandwidth = Bandwidth {
            name: self.watch.name.clone(),
            samples: Window::new(self.watch.window.saturating_add(1)),
        };
        self.watch.run(shell, &stop, &joined, &mut bandwidth)
    }
}

struct Bandwidth {
    name: String,
    /// When each came, and how long it was.
    samples: Window<(u64, usize)>,
}

impl Measure for Bandwidth {
    fn take(&mut self, sample: &Sample<'_>) {
        self.samples.push((clock::monotonic_ns(), sample.len()));
    }

    fn report(&mut self, shell: &Shell, lost: u64) -> Outcome {
        let (Some((first, _)), Some((last, _))) = (self.samples.first(), self.samples.last())
        else {
            return Ok(());
        };
        // The first sample only says when the time began.
        let Some(size) = summarize(self.samples.iter().skip(1).map(|(_, len)| *len as f64)) else {
            shell.remark("one sample came; a bandwidth needs two");
            return Ok(());
        };
        let seconds = last.saturating_sub(*first) as f64 / 1e9;
        let rate = if seconds > 0.0 { size.mean * size.count as f64 / seconds } else { 0.0 };
        if shell.json {
            return shell.print_json(&json!({
                "name": self.name,
                "bytes_per_second": rate,
                "mean_size": size.mean,
                "min_size": size.min,
                "max_size": size.max,
                "window": size.count,
                "lost": lost,
            }));
        }
        shell.print(&format!(
            "{}/s from {} messages\n\tMessage size mean: {} min: {} max: {}",
            bytes(rate as u64),
            size.count,
            bytes(size.mean as u64),
            bytes(size.min as u64),
            bytes(size.max as u64),
        ))
    }
}
