//! `echo`: prints samples as they come.

use std::io::{self, Write};
use std::time::Instant;

use clap::Args;
use serde_json::json;
use shmslot::Sample;

use crate::clock;
use crate::failure::{Failure, Outcome, Status};
use crate::join::{Joined, Next};
use crate::shell::Shell;
use crate::stop::Stop;
use crate::units::{hex, read_size};

#[derive(Args, Debug)]
pub(crate) struct Echo {
    /// The segment
    name: String,
    /// End after one sample
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// End after so many samples
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Begin with up to so many samples that the segment keeps as history
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    history: u32,
    /// Print payloads as hexadecimal digits, even if they are text
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
    /// Print the bytes of the payloads as they are, one after the other, and nothing else
    #[arg(long)]
    raw: bool,
    /// Print no more than so many bytes of each payload; 0 prints none
    #[arg(long, value_name = "SIZE", value_parser = read_size)]
    limit: Option<u64>,
}

/// How much of a payload is printed where nothing else is asked for. Raw output is for programs,
/// and whole.
const LIMIT: u64 = 256;

impl Echo {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let stop = Stop::on_signals()?;
        let joined = Joined::wait(shell, &stop, &self.name, self.history)?;
        let count = if self.once { Some(1) } else { self.count };
        let mut until = shell.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = count.unwrap_or(u64::MAX);
        let (mut payload, mut lost) = (Vec::new(), 0);
        while left > 0 {
            let shown = match joined.next(&stop, until)? {
                Next::Sample(sample) => self.copy(&sample, &mut payload),
                Next::Late => return Err(Failure::new(Status::TimedOut, "no sample came in time")),
                Next::Stopped => break,
                Next::Retired => {
                    shell.remark("the segment was removed");
                    break;
                }
            };
            // The slot is free again: whoever reads the output may take its time.
            self.print(shell, &shown, &payload)?;
            let now_lost = joined.reader.lost();
            if now_lost != lost {
                shell.remark(&format!("{} samples were lost", now_lost - lost));
                lost = now_lost;
            }
            (left, until) = (left - 1, None);
        }
        Ok(())
    }

    /// Copies what is printed.
    fn copy(&self, sample: &Sample<'_>, payload: &mut Vec<u8>) -> Shown {
        let most = self.limit.unwrap_or(if self.raw { u64::MAX } else { LIMIT });
        payload.resize(sample.len().min(usize::try_from(most).unwrap_or(usize::MAX)), 0);
        sample.copy_to(payload);
        // The longest that there is.
        let mut header = [0; 256];
        let header_len = sample.read_user_header(&mut header);
        Shown {
            sequence: sample.sequence(),
            writer: sample.writer_id(),
            timestamp_ns: sample.timestamp_ns(),
            len: sample.len(),
            header: header[..header_len].to_vec(),
        }
    }

    fn print(&self, shell: &Shell, shown: &Shown, payload: &[u8]) -> Outcome {
        let text = std::str::from_utf8(payload).ok().filter(|text| !self.hex && is_plain(text));
        if shell.json {
            return shell.print_json(&json!({
                "name": self.name,
                "sequence": shown.sequence,
                "writer": shown.writer,
                "timestamp_ns": (shown.timestamp_ns != 0).then_some(shown.timestamp_ns),
                "len": shown.len,
                "user_header": (!shown.header.is_empty()).then(|| hex(&shown.header)),
                "text": text,
                "hex": text.is_none().then(|| hex(payload)),
                "truncated": payload.len() < shown.len,
            }));
        }
        let mut out = io::stdout().lock();
        if self.raw {
            out.write_all(payload)?;
            return Ok(out.flush()?);
        }
        let age = match shown.timestamp_ns {
            0 => String::new(),
            then => {
                let delay = clock::monotonic_ns().saturating_sub(then);
                format!(", {} ago", crate::units::nanoseconds(delay as f64))
            }
        };
        writeln!(
            out,
            "--- {} (writer {}, {} bytes{age})",
            shown.sequence, shown.writer, shown.len
        )?;
        if !shown.header.is_empty() {
            writeln!(out, "user header: {}", hex(&shown.header))?;
        }
        match text {
            Some(text) => write!(out, "{text}{}", if text.ends_with('\n') { "" } else { "\n" })?,
            None => dump(&mut out, payload)?,
        }
        if payload.len() < shown.len {
            writeln!(out, "... ({} more bytes)", shown.len - payload.len())?;
        }
        Ok(out.flush()?)
    }
}

/// What is printed beside the payload.
struct Shown {
    sequence: u64,
    writer: u32,
    timestamp_ns: u64,
    len: usize,
    header: Vec<u8>,
}

/// Whether a text may go to a terminal, which obeys control characters.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t')
}

/// Prints bytes in lines of sixteen, as `hexdump -C` does.
fn dump(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for (line, bytes) in bytes.chunks(16).enumerate() {
        write!(out, "{:08x} ", line * 16)?;
        for at in 0..16 {
            let gap = if at == 8 { " " } else { "" };
            match bytes.get(at) {
                Some(byte) => write!(out, "{gap} {byte:02x}")?,
                None => write!(out, "{gap}   ")?,
            }
        }
        let shown = bytes.iter().map(|byte| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        });
        writeln!(out, "  |{}|", shown.collect::<String>())?;
    }
    Ok(())
}
