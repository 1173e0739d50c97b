//! What all commands share: where names are looked up, and where output goes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use shmslot::{AttachOptions, Segment, SegmentEntry};

use crate::failure::{Failure, Outcome};
use crate::pattern;
use crate::units::read_seconds;

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shell {
    /// Print JSON: one document, or one line for each event
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no remarks and no progress to the standard error
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Directory of the segments, instead of the system's
    #[arg(long, value_name = "DIRECTORY", global = true, overrides_with = "dir")]
    dir: Option<PathBuf>,
    /// Longest time to wait for a name to appear, and for the first sample
    #[arg(long, value_name = "SECONDS", value_parser = read_seconds, global = true)]
    pub(crate) timeout: Option<Duration>,
    /// Also attach to segments of other users, where permissions allow it
    #[arg(long, global = true)]
    pub(crate) any_owner: bool,
}

/// A segment that was listed.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) entry: SegmentEntry,
    /// The name that the library's calls take.
    pub(crate) name: String,
}

impl Shell {
    /// The name that the library's calls take.
    pub(crate) fn name(&self, name: &str) -> Outcome<String> {
        match self.directory()? {
            Some(directory) if !name.contains('/') => text_of(&directory.join(name)),
            _ => Ok(name.to_owned()),
        }
    }

    fn directory(&self) -> Outcome<Option<PathBuf>> {
        let absolute = |directory: &PathBuf| {
            std::path::absolute(directory)
                .map_err(|error| Failure::file(directory, "be made an absolute path", error))
        };
        self.dir.as_ref().map(absolute).transpose()
    }

    /// The segments of the directory whose names fit one of the patterns, by name.
    pub(crate) fn list(&self, patterns: &[String]) -> Outcome<Vec<Found>> {
        let directory = self.directory()?;
        let mut found = Vec::new();
        for entry in Segment::list(directory.as_deref())? {
            if pattern::fits_any(patterns, &entry.name) {
                let name = self.name(&entry.name)?;
                found.push(Found { entry, name });
            }
        }
        found.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
        Ok(found)
    }

    /// The names that were given, with the fitting segments in the place of each pattern; those of
    /// all segments, if none was given.
    pub(crate) fn names(&self, given: &[String]) -> Outcome<Vec<String>> {
        if given.is_empty() {
            return Ok(self.list(given)?.into_iter().map(|found| found.entry.name).collect());
        }
        let mut names: Vec<String> = Vec::new();
        for name in given {
            if pattern::is_pattern(name) {
                let fitting = self.list(std::slice::from_ref(name))?;
                names.extend(fitting.into_iter().map(|found| found.entry.name));
            } else {
                names.push(name.clone());
            }
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    /// How a command attaches that takes part.
    pub(crate) fn attaching(&self) -> AttachOptions {
        AttachOptions { any_owner: self.any_owner, ..AttachOptions::default() }
    }

    /// A remark, which is not part of the output.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            eprintln!("shmslot: {text}");
        }
    }

    /// Prints a JSON value in one line, at once: another program may be waiting for it.
    pub(crate) fn print_json(&self, value: &serde_json::Value) -> Outcome {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value)?;
        writeln!(out)?;
        out.flush()?;
        Ok(())
    }

    /// Prints a line at once.
    pub(crate) fn print(&self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }
}

fn text_of(path: &Path) -> Outcome<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("\"{}\" is not UTF-8", path.display())))
}
