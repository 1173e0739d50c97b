//! `generate`: completions for shells, and man pages.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, Subcommand};
use clap_complete::Shell as ShellName;

use super::Line;
use crate::failure::{Failure, Outcome};

#[derive(Args, Debug)]
pub(crate) struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the completions of a shell
    Completions { shell: ShellName },
    /// Write a man page for each command into a directory
    Man { directory: PathBuf },
}

impl Generate {
    pub(crate) fn run(&self) -> Outcome {
        match &self.what {
            What::Completions { shell } => {
                // In memory first: the generator panics where it cannot write.
                let mut text = Vec::new();
                clap_complete::generate(*shell, &mut Line::command(), "shmslot", &mut text);
                Ok(io::stdout().lock().write_all(&text)?)
            }
            What::Man { directory } => man(directory),
        }
    }
}

fn man(directory: &Path) -> Outcome {
    fs::create_dir_all(directory).map_err(|error| Failure::file(directory, "be made", error))?;
    let mut command = Line::command().disable_help_subcommand(true);
    command.build();
    write(directory, &command, "shmslot")?;
    for sub in command.get_subcommands() {
        write(directory, sub, &format!("shmslot-{}", sub.get_name()))?;
    }
    Ok(())
}

fn write(directory: &Path, command: &clap::Command, name: &str) -> Outcome {
    let path = directory.join(format!("{name}.1"));
    let failed = |error| Failure::file(&path, "be written", error);
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut text)
        .map_err(failed)?;
    fs::write(&path, text).map_err(failed)
}
