//! How far a command has come, in a line of the terminal that is written again and again.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::shell::Shell;
use crate::units::bytes;

/// Nothing is drawn if the standard error is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// `size` is how many bytes there will be, if that is known.
    pub(crate) fn new(shell: &Shell, size: Option<u64>) -> Progress {
        let bar = match size {
            Some(size) => ProgressBar::new(size),
            None => ProgressBar::no_length(),
        };
        if shell.quiet || shell.json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = match size {
            Some(_) => "{bar:30} {percent}% {binary_bytes} {binary_bytes_per_sec} {eta} left {msg}",
            None => "{spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed} {msg}",
        };
        // The templates are constants; one that was wrong would leave the plain bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar, began: Instant::now() }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    pub(crate) fn message(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Removes the line; returns how long it took.
    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.began.elapsed()
    }
}

/// A size, the time that it took, and the rate.
pub(crate) fn in_words(size: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let rate = if seconds > 0.0 { size as f64 / seconds } else { 0.0 };
    format!("{} in {seconds:.3} s ({}/s)", bytes(size), bytes(rate as u64))
}
