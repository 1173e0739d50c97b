//! `clean`: removes the segments that no process uses, and recovers what dead processes had in the
//! others.

use clap::Args;
use serde_json::json;
use shmslot::{Segment, SegmentState};

use super::recover::Dead;
use crate::failure::{Failure, Outcome, for_each};
use crate::process;
use crate::shell::Shell;

#[derive(Args, Debug)]
pub(crate) struct Clean {
    /// Names to clean, in which * and ? stand for other characters; all, if none is given
    patterns: Vec<String>,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Clean {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let found = shell.list(&self.patterns)?;
        let names: Vec<String> = found.iter().map(|one| one.entry.name.clone()).collect();
        let mut found = found.iter();
        for_each(&names, |name| {
            let Some(one) = found.next() else { return Ok(()) };
            match one.entry.state {
                SegmentState::Dead => self.remove(shell, name, one.entry.owner),
                SegmentState::Alive => match self.recover(shell, name) {
                    // It has gone since it was listed.
                    Err(failure) if failure.is_not_found() => Ok(()),
                    // A segment of another layout version, or one that may not be opened, is for
                    // its own users to recover.
                    Err(failure) if one.entry.refusal.is_some() => {
                        shell.remark(&failure.about(name).to_string());
                        Ok(())
                    }
                    done => done,
                },
                SegmentState::Unknown => Ok(()),
            }
        })
    }

    /// Whether it is dead is asked again when it is removed, in one step with the removal: a
    /// process that attaches in between keeps it.
    fn remove(&self, shell: &Shell, name: &str, owner: u32) -> Outcome {
        if owner != process::own_uid() {
            shell.remark(&format!(
                "\"{name}\" is dead and belongs to {}, who can remove it",
                process::user(owner)
            ));
            return Ok(());
        }
        if !self.dry_run && !Segment::unlink_if_dead(&shell.name(name)?).map_err(Failure::from)? {
            return Ok(());
        }
        if shell.json {
            let done = !self.dry_run;
            return shell.print_json(&json!({ "name": name, "action": "remove", "done": done }));
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        shell.print(&format!("{verb} {name}: no process uses it"))
    }

    fn recover(&self, shell: &Shell, name: &str) -> Outcome {
        let dead = Dead::find(shell, name)?;
        if !self.dry_run {
            dead.recover(shell, name)?;
        }
        dead.print(shell, name, !self.dry_run)
    }
}
