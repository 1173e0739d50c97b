//! The commands, one file or folder for each, and the line that names one of them.

mod bench;
mod bw;
mod clean;
mod delay;
mod echo;
mod generate;
mod hz;
mod info;
mod ls;
mod metrics;
mod record;
mod recover;
mod recv;
mod replay;
mod rm;
mod send;
mod top;

use clap::{Parser, Subcommand};

use crate::failure::Outcome;
use crate::shell::Shell;

const HELP: &str = "\
Exit status: 0 done; 1 failed; 2 wrong arguments; 3 no such segment; 124 timed out; 130 \
interrupted before it was done. Data goes to the standard output, and remarks to the standard error.

ls, info, top and metrics only look: they take no reader's place and change nothing. hz, bw, \
delay, echo, record and recv read samples, so each is a reader of the segment as long as it runs.";

/// Shows, measures, records and clears the shared-memory segments of shmslot
#[derive(Debug, Parser)]
#[command(name = "shmslot", version, after_help = HELP, max_term_width = 100)]
pub(crate) struct Line {
    #[command(flatten)]
    shell: Shell,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List segments
    Ls(ls::Ls),
    /// Show everything about segments: geometry, use, processes, readers, deaths
    Info(info::Info),
    /// Watch segments and who holds what, as top does with processes
    Top(top::Top),
    /// Measure how many samples come in a second
    Hz(hz::Hz),
    /// Measure how many bytes come in a second
    Bw(bw::Bw),
    /// Measure how long samples take from their commit to this command
    Delay(delay::Delay),
    /// Print samples as they come
    Echo(echo::Echo),
    /// Send a file or a pipe to receivers, or messages to any reader
    Send(send::Send),
    /// Receive a file from a sender
    Recv(recv::Recv),
    /// Record samples to an MCAP file
    Record(record::Record),
    /// Play an MCAP file into segments
    Replay(replay::Replay),
    /// Print metrics for Prometheus and others, or serve them
    Metrics(metrics::Metrics),
    /// Measure latency and throughput between two processes on this machine
    Bench(bench::Bench),
    /// Release what dead processes had
    Recover(recover::Recover),
    /// Remove the segments that no process uses, and recover what dead processes had in the others
    Clean(clean::Clean),
    /// Remove the names of segments
    Rm(rm::Rm),
    /// Generate completions and man pages
    Generate(generate::Generate),
}

impl Line {
    pub(crate) fn run(self) -> Outcome {
        let shell = &self.shell;
        match self.command {
            Command::Ls(ls) => ls.run(shell),
            Command::Info(info) => info.run(shell),
            Command::Top(top) => top.run(shell),
            Command::Hz(hz) => hz.run(shell),
            Command::Bw(bw) => bw.run(shell),
            Command::Delay(delay) => delay.run(shell),
            Command::Echo(echo) => echo.run(shell),
            Command::Send(send) => send.run(shell),
            Command::Recv(recv) => recv.run(shell),
            Command::Record(record) => record.run(shell),
            Command::Replay(replay) => replay.run(shell),
            Command::Metrics(metrics) => metrics.run(shell),
            Command::Bench(bench) => bench.run(shell),
            Command::Recover(recover) => recover.run(shell),
            Command::Clean(clean) => clean.run(shell),
            Command::Rm(rm) => rm.run(shell),
            Command::Generate(generate) => generate.run(),
        }
    }
}
