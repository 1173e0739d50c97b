//! The command `shmslot`: shows, measures, records and clears segments in shared memory.
//!
//! # Modules, in reading order
//!
//! Dependencies point one way, from the bottom of this list to its top.
//!
//! - `failure`: how a command fails, and its exit status.
//! - `units`, `pattern`, `table`: numbers, names and columns as people read and write them.
//! - `clock`, `process`, `stop`: the time, other processes, and the signals that end a command.
//! - `shell`: what all commands share: where names are looked up, and where output goes.
//! - `look`: a segment seen from outside, without joining it.
//! - `join`: a reader of a segment, for the commands that must read samples.
//! - `sizes`, `transfer`: the segments that commands create; `drain`: when all was read there.
//! - `window`, `watch`, `progress`: what the commands share that run for a while.
//! - `commands`: one file or folder for each.

mod clock;
mod commands;
mod drain;
mod failure;
mod join;
mod look;
mod pattern;
mod process;
mod progress;
mod shell;
mod sizes;
mod stop;
mod table;
mod transfer;
mod units;
mod watch;
mod window;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match commands::Line::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
