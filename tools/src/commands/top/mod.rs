//! `top`: segments and their readers, again and again.
//!
//! - `model`: what there is now, and its rates.
//! - `rows`: that as lines of a table.
//! - `screen`: the table on a terminal, and the keys.

mod model;
mod rows;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::model::Model;
use crate::clock;
use crate::failure::{Failure, Outcome};
use crate::shell::Shell;
use crate::stop::Stop;
use crate::units::read_seconds;

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Segments, as names or patterns with * and ?; all, if none is given
    names: Vec<String>,
    /// Print tables one after the other, for a file or another program
    #[arg(short, long)]
    batch: bool,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "NUMBER")]
    iterations: Option<u64>,
    /// Time between two tables
    #[arg(short, long, value_name = "SECONDS", value_parser = read_seconds, default_value = "1")]
    delay: Duration,
    /// What comes first
    #[arg(short, long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
}

/// The order of the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// By name
    Name,
    /// The most samples in a second first
    Rate,
    /// The fewest free slots first
    Free,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Name => Sort::Rate,
            Sort::Rate => Sort::Free,
            Sort::Free => Sort::Name,
        }
    }
}

impl Top {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let stop = Stop::on_signals()?;
        let mut model = Model::default();
        if self.batch || shell.json {
            return self.print(shell, &stop, &mut model);
        }
        if !std::io::stdout().is_terminal() {
            return Err(Failure::usage("the standard output is no terminal; use --batch"));
        }
        screen::run(self, shell, &stop, &mut model)
    }

    fn print(&self, shell: &Shell, stop: &Stop, model: &mut Model) -> Outcome {
        let mut left = self.iterations.unwrap_or(u64::MAX);
        while left > 0 && !stop.is_stopped() {
            model.refresh(shell, &self.names, self.sort)?;
            if shell.json {
                let segments = model.segments.iter().map(|segment| {
                    let mut value = segment.look.to_json();
                    value["rate_hz"] = json!(segment.rate);
                    value
                });
                shell.print_json(&json!({
                    "time_ns": clock::realtime_ns(),
                    "segments": segments.collect::<Value>(),
                }))?;
            } else {
                shell.print(&rows::title(model))?;
                shell.print(&rows::heads(rows::WIDTH))?;
                for row in rows::of(model, true, |_| true) {
                    shell.print(row.line(rows::WIDTH).trim_end())?;
                }
                shell.print("")?;
            }
            left -= 1;
            if left > 0 {
                stop.sleep(self.delay);
            }
        }
        Ok(())
    }
}
