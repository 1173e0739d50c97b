//! `recover`: releases what dead processes had.

use clap::Args;
use serde_json::json;
use shmslot::Segment;

use crate::failure::{Outcome, for_each};
use crate::look::{bits, observe};
use crate::shell::Shell;

#[derive(Args, Debug)]
pub(crate) struct Recover {
    /// Segments, as names or patterns with * and ?; all, if none is given
    names: Vec<String>,
}

/// The dead participants of a segment.
pub(crate) struct Dead {
    /// Process number, writers, and readers.
    pub(crate) processes: Vec<(u32, u32, u64)>,
}

impl Dead {
    /// Looks for them, and changes nothing.
    pub(crate) fn find(shell: &Shell, name: &str) -> Outcome<Dead> {
        let participants = observe(shell, name)?.participants()?;
        let dead = participants.iter().filter(|one| !one.alive);
        Ok(Dead { processes: dead.map(|one| (one.pid, one.writers, one.readers)).collect() })
    }

    /// Recovers them, if there are any. This attaches for a moment, and takes a participant's row.
    pub(crate) fn recover(&self, shell: &Shell, name: &str) -> Outcome {
        if !self.processes.is_empty() {
            // An attach recovers, too; the call also recovers those that died since.
            Segment::attach(&shell.name(name)?, &shell.attaching())?.recover()?;
        }
        Ok(())
    }

    pub(crate) fn print(&self, shell: &Shell, name: &str, done: bool) -> Outcome {
        for (pid, writers, readers) in &self.processes {
            if shell.json {
                shell.print_json(&json!({
                    "name": name,
                    "action": "recover",
                    "done": done,
                    "pid": pid,
                    "writers": writers,
                    "readers": bits(*readers),
                }))?;
            } else {
                let verb = if done { "recovered" } else { "would recover" };
                shell.print(&format!(
                    "{verb} {name}: process {pid} is dead (writers: {writers}, readers: {})",
                    readers.count_ones()
                ))?;
            }
        }
        Ok(())
    }
}

impl Recover {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let names = shell.names(&self.names)?;
        for_each(&names, |name| {
            let dead = Dead::find(shell, name)?;
            dead.recover(shell, name)?;
            dead.print(shell, name, true)
        })
    }
}
