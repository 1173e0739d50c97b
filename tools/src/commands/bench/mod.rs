//! `bench`: how long a sample takes from one process to another on this machine, and how many pass.
//!
//! The command starts itself as a second process, its peer. For the latency a sample goes to the
//! peer, which reads it and sends one back; half of that time counts. For the throughput samples go
//! to the peer as fast as they can.
//!
//! - `peer`: the second process.
//! - `measure`: the first.
//! - `show`: the histogram on the terminal, and as SVG.

mod measure;
mod peer;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shmslot::{CreateOptions, Policy};

use crate::failure::{Failure, Outcome};
use crate::shell::Shell;
use crate::units::{read_seconds, read_size};

#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Bytes of each sample, which are written and read
    #[arg(short = 's', long, value_name = "SIZE", value_parser = read_size, default_value = "64")]
    size: u64,
    /// Time of each of the two measurements
    #[arg(short, long, value_name = "SECONDS", value_parser = read_seconds, default_value = "2")]
    duration: Duration,
    /// Sleep while there is nothing to read, in place of polling all the time
    #[arg(short, long)]
    wait: bool,
    /// Processors of the two processes, such as 0,1
    #[arg(short, long, value_name = "CPU,CPU", value_parser = read_cpus)]
    cpus: Option<(usize, usize)>,
    /// Let many writers write, which costs more for each sample
    #[arg(long)]
    many_writers: bool,
    /// Also draw the latencies as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// This is the second process, and these are its segments
    #[arg(long, hide = true, num_args = 2)]
    peer: Option<Vec<String>>,
}

/// What the parts of this command agree on.
const SLOTS: u32 = 64;

impl Bench {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        if let Some([there, back]) = self.peer.as_deref() {
            return peer::run(self, there, back);
        }
        let results = measure::run(self, shell)?;
        if let Some(path) = &self.svg {
            let drawn = std::fs::write(path, show::svg(self, &results));
            drawn.map_err(|error| Failure::file(path, "be written", error))?;
        }
        if shell.json {
            return shell.print_json(&show::to_json(self, &results));
        }
        shell.print(show::text(self, &results).trim_end())
    }

    fn options(&self) -> CreateOptions {
        CreateOptions {
            slot_count: SLOTS,
            slot_capacity: self.size.max(1),
            policy: Some(Policy::Block),
            single_writer: !self.many_writers,
            ephemeral: true,
            prefault: true,
            ..CreateOptions::default()
        }
    }
}

fn read_cpus(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once(',')
        .and_then(|(one, other)| Some((one.trim().parse().ok()?, other.trim().parse().ok()?)));
    parts.ok_or_else(|| "it is not two numbers, such as 0,1".to_owned())
}

/// Keeps this process on one processor.
fn pin(cpu: Option<usize>) -> Outcome {
    use nix::sched::{CpuSet, sched_setaffinity};
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(nix::unistd::Pid::this(), &set));
    pinned.map_err(|error| Failure::failed(format!("cannot run on processor {cpu}: {error}")))
}
