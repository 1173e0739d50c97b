//! `recv`: a file that `send` sends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use shmslot::{Code, EndWaits, Reader, Segment};

use crate::failure::{Failure, Outcome, Status};
use crate::progress::{Progress, in_words};
use crate::shell::Shell;
use crate::sizes::Sizes;
use crate::stop::Stop;
use crate::transfer::{self, HEADER, Header, Part};

#[derive(Args, Debug)]
pub(crate) struct Recv {
    /// The segment; it is made if there is none
    name: String,
    /// Where to write the file, which appears when it is complete and its checksum is right; the
    /// standard output, if no file is given
    file: Option<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
}

impl Recv {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let path = self.file.as_deref().filter(|path| *path != Path::new("-"));
        if shell.json && path.is_none() {
            return Err(Failure::usage("--json needs a file: the standard output has the data"));
        }
        let stop = Stop::on_signals()?;
        let (segment, _) =
            Segment::open(&shell.name(&self.name)?, &transfer::options(&self.sizes))?;
        let reader = segment.reader(0)?;
        stop.ends(reader.interrupter());
        let mut output = Output::open(path)?;
        let mut receipt = Receipt::default();
        let mut incoming = Incoming { shell, stop: &stop, reader: &reader, piece: Vec::new() };
        let size = incoming.begin(&mut receipt)?;
        reader.end_waits(EndWaits { no_writers: true, ..EndWaits::default() })?;
        let progress = Progress::new(shell, size);
        incoming.rest(&mut receipt, &mut output, &progress)?;
        output.finish()?;
        let time = progress.finish();
        if shell.json {
            return shell.print_json(&json!({
                "bytes": receipt.offset,
                "seconds": time.as_secs_f64(),
                "crc32": format!("{:08x}", receipt.crc32),
            }));
        }
        let words = in_words(receipt.offset, time);
        shell.remark(&format!("received {words}, crc32 {:08x}", receipt.crc32));
        Ok(())
    }
}

/// What has come of a transfer.
#[derive(Default)]
struct Receipt {
    transfer: u64,
    offset: u64,
    crc32: u32,
}

struct Incoming<'r> {
    shell: &'r Shell,
    stop: &'r Stop,
    reader: &'r Reader,
    piece: Vec<u8>,
}

impl Incoming<'_> {
    /// Waits for the beginning of a transfer; returns the size of the file, if its sender knows it.
    fn begin(&mut self, receipt: &mut Receipt) -> Outcome<Option<u64>> {
        let until = self.shell.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut is_late = false;
        loop {
            let header = self.next(until)?;
            if header.part == Part::Begin {
                receipt.transfer = header.transfer;
                return Ok(self.text()?.get("size").and_then(Value::as_u64));
            }
            if !is_late {
                self.shell.remark("a transfer is under way; waiting for the next one");
                is_late = true;
            }
        }
    }

    /// Receives the file to its end, and compares its size and checksum.
    fn rest(&mut self, receipt: &mut Receipt, output: &mut Output, progress: &Progress) -> Outcome {
        let mut sum = crc32fast::Hasher::new();
        loop {
            let header = self.next(None)?;
            let fits = header.transfer == receipt.transfer && header.offset == receipt.offset;
            match header.part {
                Part::Data if fits => {
                    output.write(&self.piece)?;
                    sum.update(&self.piece);
                    receipt.offset += self.piece.len() as u64;
                    progress.add(self.piece.len() as u64);
                }
                Part::End if fits => break,
                _ => return Err(ended_early()),
            }
        }
        receipt.crc32 = sum.finalize();
        let sent = self.text()?;
        if sent != transfer::sum(receipt.offset, receipt.crc32) {
            return Err(Failure::failed(format!(
                "the file was changed on its way: {} was sent, and {} bytes with crc32 {:08x} came",
                sent, receipt.offset, receipt.crc32
            )));
        }
        Ok(())
    }

    /// The next sample: its header, and its payload in `piece`.
    fn next(&mut self, until: Option<Instant>) -> Outcome<Header> {
        loop {
            if self.stop.is_stopped() {
                return Err(Failure::interrupted("the file has not come to its end"));
            }
            if let Some(sample) = self.reader.read()? {
                let mut header = [0; HEADER];
                sample.read_user_header(&mut header);
                self.piece.resize(sample.len(), 0);
                sample.copy_to(&mut self.piece);
                return Header::from_bytes(&header).ok_or_else(|| {
                    Failure::failed("a sample is no part of a file; send it with shmslot send")
                });
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.reader.wait(left) {
                Ok(()) => {}
                Err(error) => match error.code() {
                    Code::Interrupted => {}
                    Code::NoWriters => return Err(ended_early()),
                    Code::Timeout | Code::Again => {
                        return Err(Failure::new(Status::TimedOut, "no sender came in time"));
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }

    fn text(&self) -> Outcome<Value> {
        serde_json::from_slice(&self.piece)
            .map_err(|error| Failure::failed(format!("the sender's text is damaged: {error}")))
    }
}

fn ended_early() -> Failure {
    Failure::failed("the sender ended before the end of the file; start both again")
}

/// Where the file goes.
enum Output {
    Standard(io::StdoutLock<'static>),
    /// A file of another name, until it is complete.
    Part {
        file: File,
        part: PathBuf,
        path: PathBuf,
    },
}

impl Output {
    fn open(path: Option<&Path>) -> Outcome<Output> {
        let Some(path) = path else { return Ok(Output::Standard(io::stdout().lock())) };
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let file = File::create_new(&part);
        let file = file.map_err(|error| Failure::file(&part, "be created", error))?;
        Ok(Output::Part { file, part, path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome {
        match self {
            Output::Standard(out) => Ok(out.write_all(bytes)?),
            Output::Part { file, part, .. } => {
                file.write_all(bytes).map_err(|error| Failure::file(part, "be written", error))
            }
        }
    }

    fn finish(&mut self) -> Outcome {
        match self {
            Output::Standard(out) => Ok(out.flush()?),
            Output::Part { part, path, .. } => fs::rename(&*part, &*path)
                .map_err(|error| Failure::file(path, "get its name", error)),
        }
    }
}

impl Drop for Output {
    /// Removes what is not complete; what is complete has another name by now.
    fn drop(&mut self) {
        if let Output::Part { part, .. } = self {
            let _ = fs::remove_file(part);
        }
    }
}
