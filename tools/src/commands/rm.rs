//! `rm`: removes the names of segments.

use clap::Args;
use serde_json::json;
use shmslot::Segment;

use crate::failure::{Failure, Outcome, for_each};
use crate::look::observe;
use crate::shell::Shell;

#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// Segments, as names or patterns with * and ?
    #[arg(required = true)]
    names: Vec<String>,
    /// Also remove the names of segments that processes use. These go on together, and nobody else
    /// can attach any more
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let names = shell.names(&self.names)?;
        for_each(&names, |name| {
            let full_name = shell.name(name)?;
            if self.force {
                Segment::unlink(&full_name)?;
            } else if !Segment::unlink_if_dead(&full_name)? {
                return Err(why_not(shell, name));
            }
            if shell.json {
                return shell
                    .print_json(&json!({ "name": name, "action": "remove", "done": true }));
            }
            Ok(())
        })
    }
}

/// Why a name was not removed.
fn why_not(shell: &Shell, name: &str) -> Failure {
    let users = match observe(shell, name).and_then(|segment| Ok(segment.participants()?)) {
        Ok(participants) => participants,
        Err(failure) => return failure,
    };
    let pids: Vec<String> =
        users.iter().filter(|one| one.alive).map(|one| one.pid.to_string()).collect();
    Failure::failed(format!(
        "not removed: processes use it ({}), or it is another user's; end them, or use --force",
        if pids.is_empty() { "none now".to_owned() } else { pids.join(", ") }
    ))
}
