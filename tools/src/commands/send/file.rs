//! Sends a file or a pipe to `recv`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process;

use serde_json::json;
use shmslot::{Code, Segment, Writer};

use super::Send;
use crate::clock;
use crate::drain::drained;
use crate::failure::{Failure, Outcome};
use crate::progress::{Progress, in_words};
use crate::shell::Shell;
use crate::stop::Stop;
use crate::transfer::{self, Header, Part};

impl Send {
    pub(super) fn file(&self, shell: &Shell) -> Outcome {
        if self.rate.is_some() || self.timestamps {
            return Err(Failure::usage("--rate and --timestamps need --message or --lines"));
        }
        let (mut input, file_name, size) = open(self.file.as_deref())?;
        let stop = Stop::on_signals()?;
        let (segment, _) =
            Segment::open(&shell.name(&self.name)?, &transfer::options(&self.sizes))?;
        let writer = segment.writer()?;
        stop.ends(writer.interrupter());
        let readers = self.readers.unwrap_or(1);
        shell.remark(&format!("waiting for {readers} receivers of \"{}\"", self.name));
        wait(writer.wait_readers(readers, shell.timeout))?;

        let capacity = segment.info()?.geometry.slot_capacity as usize;
        let progress = Progress::new(shell, size);
        let mut sender = Sender {
            segment: &segment,
            writer: &writer,
            readers,
            transfer: u64::from(process::id()) << 32 ^ clock::realtime_ns(),
            offset: 0,
        };
        sender.send(
            Part::Begin,
            transfer::about(file_name.as_deref(), size).to_string().as_bytes(),
        )?;
        let mut sum = crc32fast::Hasher::new();
        let mut piece = vec![0; capacity];
        loop {
            let read = fill(&mut input, &mut piece)
                .map_err(|error| Failure::failed(format!("cannot read the file: {error}")))?;
            if read == 0 {
                break;
            }
            let piece = &piece[..read];
            sender.send(Part::Data, piece)?;
            // Beside the receivers, which have the piece by now.
            sum.update(piece);
            sender.offset += read as u64;
            progress.add(read as u64);
        }
        let (sent, crc32) = (sender.offset, sum.finalize());
        sender.send(Part::End, transfer::sum(sent, crc32).to_string().as_bytes())?;
        drained(&segment, &stop)?;
        let time = progress.finish();
        if shell.json {
            return shell.print_json(&json!({
                "bytes": sent,
                "seconds": time.as_secs_f64(),
                "crc32": format!("{crc32:08x}"),
            }));
        }
        shell.remark(&format!("sent {}, crc32 {crc32:08x}", in_words(sent, time)));
        Ok(())
    }
}

struct Sender<'s> {
    segment: &'s Segment,
    writer: &'s Writer,
    readers: u32,
    transfer: u64,
    offset: u64,
}

impl Sender<'_> {
    fn send(&self, part: Part, bytes: &[u8]) -> Outcome {
        let mut loan = wait(self.writer.reserve(bytes.len(), None))?;
        let joined = self.segment.info()?.readers.count_ones();
        if joined < self.readers {
            return Err(Failure::failed(format!(
                "a receiver left before the end: {joined} of {} are there; start again",
                self.readers
            )));
        }
        let header = Header { part, transfer: self.transfer, offset: self.offset };
        loan.write_user_header(&header.to_bytes())?;
        loan.copy_from(bytes)?;
        loan.commit(bytes.len())?;
        Ok(())
    }
}

fn wait<T>(result: shmslot::Result<T>) -> Outcome<T> {
    result.map_err(|error| match error.code() {
        Code::Interrupted => Failure::interrupted("the file was not sent to its end"),
        _ => error.into(),
    })
}

type Input = (Box<dyn Read>, Option<String>, Option<u64>);

/// The input, its name, and its size if it has one.
fn open(path: Option<&Path>) -> Outcome<Input> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        return Ok((Box::new(io::stdin().lock()), None, None));
    };
    let file = File::open(path).map_err(|error| Failure::file(path, "be opened", error))?;
    let facts = file.metadata().map_err(|error| Failure::file(path, "be examined", error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok((Box::new(file), name, facts.is_file().then_some(facts.len())))
}

/// Reads until the buffer is full or the input is at its end: a pipe gives less at a time.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
