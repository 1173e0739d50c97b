//! `send`: a file, or messages.
//!
//! - `file`: a file or a pipe, for `recv`.
//! - `messages`: one sample for each text or line, for any reader.

mod file;
mod messages;

use std::path::PathBuf;

use clap::Args;

use crate::failure::Outcome;
use crate::shell::Shell;
use crate::sizes::Sizes;

#[derive(Args, Debug)]
pub(crate) struct Send {
    /// The segment; it is made if there is none
    name: String,
    /// The file; the standard input, if none is given
    #[arg(conflicts_with = "message")]
    file: Option<PathBuf>,
    /// Begin when so many readers have joined [default: 1 for a file, 0 for messages]
    #[arg(long, value_name = "NUMBER")]
    readers: Option<u32>,
    /// Send this text as a sample, for any reader, instead of a file; may be repeated
    #[arg(short, long, value_name = "TEXT")]
    message: Vec<String>,
    /// Send each line of the file as a sample, for any reader
    #[arg(short, long, conflicts_with = "message")]
    lines: bool,
    /// With --message: send all messages so many times; 0 is without end
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "message")]
    repeat: u64,
    /// With --message or --lines: samples in each second
    #[arg(long, value_name = "HERTZ")]
    rate: Option<f64>,
    /// With --message or --lines: store the time of each commit, if the segment is made now
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    sizes: Sizes,
}

impl Send {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        if self.lines || !self.message.is_empty() { self.messages(shell) } else { self.file(shell) }
    }
}
