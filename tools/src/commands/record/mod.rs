//! `record`: samples to an MCAP file.
//!
//! One thread reads. It copies each sample out and marks it at once, so that no slot waits for the
//! disk. Another thread writes. Between them is a queue of a bounded number of bytes: what does not
//! fit is dropped and counted, in place of stopping the writers of the segments.
//!
//! - `queue`: the queue.
//! - `file`: the file, and the thread that writes it.

mod file;
mod queue;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use shmslot::{Code, Reader, Sample};

use self::file::{Recording, Schema};
use self::queue::{Item, Queue};
use crate::clock;
use crate::failure::{Failure, Outcome};
use crate::join::Joined;
use crate::progress::{Progress, in_words};
use crate::shell::Shell;
use crate::stop::Stop;
use crate::units::{read_seconds, read_size};

#[derive(Args, Debug)]
pub(crate) struct Record {
    /// Segments, as names or patterns with * and ?; all, if none is given
    names: Vec<String>,
    /// The recording
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file of this name
    #[arg(short, long)]
    force: bool,
    /// End after this time
    #[arg(short, long, value_name = "SECONDS", value_parser = read_seconds)]
    duration: Option<Duration>,
    /// End after so many samples
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Begin with up to so many samples that a segment keeps as history
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    history: u32,
    /// How the samples are encoded: cdr, protobuf, json, flatbuffer, cbor, msgpack, ...
    #[arg(long, value_name = "ENCODING", default_value = "application/octet-stream")]
    encoding: String,
    /// A file with the schema of the samples, whose name is the name of the segment's type
    #[arg(long, value_name = "FILE", requires = "schema_encoding")]
    schema: Option<PathBuf>,
    /// How that schema is encoded: ros2msg, ros2idl, protobuf, jsonschema, flatbuffer, ...
    #[arg(long, value_name = "ENCODING", requires = "schema")]
    schema_encoding: Option<String>,
    /// Bytes that may wait for the disk; what exceeds them is dropped and counted
    #[arg(long, value_name = "SIZE", value_parser = read_size, default_value = "256M")]
    queue: u64,
    /// Bytes of a chunk of the file; a chunk is also finished each second
    #[arg(long, value_name = "SIZE", value_parser = read_size, default_value = "8M")]
    chunk: u64,
}

/// Samples that are read from one segment before the others have their turn.
const TURN: u32 = 64;

/// What was recorded.
#[derive(Default)]
struct Tally {
    samples: u64,
    bytes: u64,
    dropped: u64,
}

impl Record {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let stop = Stop::on_signals()?;
        let names = shell.names(&self.names)?;
        if names.is_empty() {
            return Err(Failure::failed("there is no segment to record; name one that exists"));
        }
        let schema = self.schema()?;
        let join = |name: &String| {
            let joined = Joined::wait(shell, &stop, name, self.history);
            joined.map_err(|failure| failure.about(name))
        };
        let joined = names.iter().map(join).collect::<Outcome<Vec<Joined>>>()?;
        let mut recording = Recording::create(&self.output, self.force, self.chunk)?;
        for (name, one) in names.iter().zip(&joined) {
            recording.add(name, &one.geometry, &self.encoding, schema.as_ref())?;
        }
        let queue = Arc::new(Queue::new(self.queue));
        let writer = recording.write_in_thread(Arc::clone(&queue))?;
        let progress = Progress::new(shell, None);
        let read = self.read(&stop, joined, &queue, &progress);
        // Whatever has happened, what was read is written, and the file gets its end.
        queue.close();
        let written = writer.finish();
        let time = progress.finish();
        written?;
        let (tally, lost) = read?;
        if shell.json {
            return shell.print_json(&json!({
                "file": self.output.to_string_lossy(),
                "samples": tally.samples,
                "bytes": tally.bytes,
                "seconds": time.as_secs_f64(),
                "lost": lost,
                "dropped": tally.dropped,
            }));
        }
        let words = in_words(tally.bytes, time);
        shell.remark(&format!("recorded {} samples, {words}", tally.samples));
        if lost > 0 {
            shell.remark(&format!("{lost} samples were lost by the policy drop-oldest"));
        }
        if tally.dropped > 0 {
            shell.remark(&format!("{} samples were dropped: the disk is too slow", tally.dropped));
        }
        Ok(())
    }

    fn schema(&self) -> Outcome<Option<Schema>> {
        let (Some(path), Some(encoding)) = (&self.schema, &self.schema_encoding) else {
            return Ok(None);
        };
        let data = std::fs::read(path).map_err(|error| Failure::file(path, "be read", error))?;
        Ok(Some(Schema { encoding: encoding.clone(), data }))
    }

    /// Reads until the end; returns what was queued, and how many samples were lost before.
    fn read(
        &self,
        stop: &Stop,
        joined: Vec<Joined>,
        queue: &Queue,
        progress: &Progress,
    ) -> Outcome<(Tally, u64)> {
        let end = self.duration.and_then(|duration| Instant::now().checked_add(duration));
        let offset = clock::realtime_offset_ns();
        let mut tally = Tally::default();
        let mut lost = 0;
        let mut open: Vec<(u16, Joined)> = (0..).zip(joined).collect();
        while !open.is_empty() && !stop.is_stopped() && !queue.has_failed() {
            let mut found = false;
            for (channel, joined) in &open {
                for _ in 0..TURN {
                    if self.count == Some(tally.samples + tally.dropped) {
                        break;
                    }
                    let Some(sample) = joined.reader.read()? else { break };
                    found = true;
                    take(&sample, *channel, offset, queue, &mut tally);
                    progress.add(sample.len() as u64);
                }
            }
            if tally.dropped > 0 {
                progress.message(format!("{} dropped", tally.dropped));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let is_complete = self.count == Some(tally.samples + tally.dropped);
            if is_complete || left == Some(Duration::ZERO) {
                break;
            }
            if found {
                continue;
            }
            let readers: Vec<&Reader> = open.iter().map(|(_, joined)| &joined.reader).collect();
            match Reader::wait_any(&readers, left) {
                Ok(_) => {}
                Err(error) => match error.code() {
                    // The loop finds out.
                    Code::Timeout | Code::Again | Code::Interrupted => {}
                    Code::Retired => {
                        let mut gone = 0;
                        open.retain(|(_, joined)| {
                            let named = matches!(joined.segment.is_named(), Ok(true));
                            let stays =
                                named && joined.segment.info().is_ok_and(|info| !info.retired);
                            gone += if stays { 0 } else { joined.reader.lost() };
                            stays
                        });
                        lost += gone;
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        lost += open.iter().map(|(_, joined)| joined.reader.lost()).sum::<u64>();
        queue.note_lost(lost);
        Ok((tally, lost))
    }
}

/// Copies a sample into the queue, if there is room.
fn take(sample: &Sample<'_>, channel: u16, offset: i64, queue: &Queue, tally: &mut Tally) {
    let log_time = clock::realtime_ns();
    if !queue.has_room(sample.len() as u64) {
        tally.dropped += 1;
        queue.note_dropped();
        return;
    }
    let mut header = [0; 256];
    let header_len = sample.read_user_header(&mut header);
    let publish_time = match sample.timestamp_ns() {
        0 => log_time,
        committed => committed.wrapping_add_signed(offset),
    };
    queue.push(Item {
        channel,
        sequence: sample.sequence(),
        log_time,
        publish_time,
        header: header[..header_len].to_vec(),
        payload: sample.to_vec(),
    });
    tally.samples += 1;
    tally.bytes += sample.len() as u64;
}
