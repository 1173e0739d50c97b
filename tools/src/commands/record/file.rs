//! The file: one channel for each segment, and one for its user headers if it has any.
//!
//! Chunks are made in memory and written as a whole, at least once a second. So the file of a
//! recorder that is killed has whole chunks up to its last second.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcap::records::{MessageHeader, Metadata};
use mcap::write::NoSeek;
use mcap::{McapResult, WriteOptions, Writer};
use serde_json::Value;
use shmslot::layout::Geometry;

use super::queue::{Item, Popped, Queue};
use crate::clock;
use crate::failure::{Failure, Outcome};
use crate::look::{geometry_to_json, id, type_name};

/// How often a chunk is finished and written.
const CHUNK_TIME: Duration = Duration::from_secs(1);

/// The schema of all channels.
pub(super) struct Schema {
    pub(super) encoding: String,
    pub(super) data: Vec<u8>,
}

pub(super) struct Recording {
    path: PathBuf,
    writer: Writer<NoSeek<BufWriter<File>>>,
    /// By segment: the channel of its payloads, and that of its user headers.
    channels: Vec<(u16, Option<u16>)>,
}

/// The thread that writes.
pub(super) struct Writing {
    thread: JoinHandle<Outcome>,
}

impl Recording {
    pub(super) fn create(path: &Path, force: bool, chunk: u64) -> Outcome<Recording> {
        let created = if force { File::create(path) } else { File::create_new(path) };
        let file = created.map_err(|error| Failure::file(path, "be created", error))?;
        let options = WriteOptions::new()
            .library(concat!("shmslot ", env!("CARGO_PKG_VERSION")))
            .chunk_size(Some(chunk))
            .disable_seeking(true);
        let writer = options.create(NoSeek::new(BufWriter::new(file)));
        let mut recording = Recording {
            path: path.to_owned(),
            writer: writer.map_err(|error| failed(path, error))?,
            channels: Vec::new(),
        };
        let offset = clock::realtime_offset_ns();
        recording.note(
            "shmslot",
            [
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("monotonic_offset_ns", offset.to_string()),
                ("command", std::env::args().collect::<Vec<_>>().join(" ")),
                ("boot_id", boot_id()),
            ],
        )?;
        Ok(recording)
    }

    /// Adds a segment.
    pub(super) fn add(
        &mut self,
        name: &str,
        geometry: &Geometry,
        encoding: &str,
        schema: Option<&Schema>,
    ) -> Outcome {
        let mut metadata = BTreeMap::from([
            ("shmslot.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("shmslot.segment_id".to_owned(), id(geometry.segment_id)),
        ]);
        if let Value::Object(fields) = geometry_to_json(geometry) {
            metadata.extend(fields.into_iter().map(|(field, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (format!("shmslot.{field}"), text)
            }));
        }
        let channels = self.try_add(name, geometry, encoding, schema, &metadata);
        self.channels.push(channels.map_err(|error| failed(&self.path, error))?);
        Ok(())
    }

    fn try_add(
        &mut self,
        name: &str,
        geometry: &Geometry,
        encoding: &str,
        schema: Option<&Schema>,
        metadata: &BTreeMap<String, String>,
    ) -> McapResult<(u16, Option<u16>)> {
        let schema = match schema {
            Some(schema) => {
                self.writer.add_schema(&type_name(geometry), &schema.encoding, &schema.data)?
            }
            None => 0,
        };
        let payloads = self.writer.add_channel(schema, name, encoding, metadata)?;
        if geometry.user_header_size == 0 {
            return Ok((payloads, None));
        }
        let of = BTreeMap::from([("shmslot.header_of".to_owned(), name.to_owned())]);
        let topic = format!("{name}/_header");
        let headers = self.writer.add_channel(0, &topic, "application/octet-stream", &of)?;
        Ok((payloads, Some(headers)))
    }

    fn note<const COUNT: usize>(&mut self, name: &str, fields: [(&str, String); COUNT]) -> Outcome {
        let metadata = fields.map(|(field, value)| (field.to_owned(), value)).into();
        let written = self.writer.write_metadata(&Metadata { name: name.to_owned(), metadata });
        written.map_err(|error| failed(&self.path, error))
    }

    pub(super) fn write_in_thread(mut self, queue: Arc<Queue>) -> Outcome<Writing> {
        let write = move || self.write_all(&queue).inspect_err(|_| queue.fail());
        let thread = std::thread::Builder::new().name("recording".into()).spawn(write);
        let failed = |error| Failure::failed(format!("cannot start a thread: {error}"));
        Ok(Writing { thread: thread.map_err(failed)? })
    }

    fn write_all(&mut self, queue: &Queue) -> Outcome {
        let failed = |error| failed(&self.path, error);
        // What was added so far tells about a file that is killed before its first sample.
        self.writer.flush().map_err(failed)?;
        let mut next_flush = Instant::now() + CHUNK_TIME;
        loop {
            let popped = queue.pop(next_flush);
            match popped {
                Popped::Item(item) => {
                    let Some(channels) = self.channels.get(usize::from(item.channel)) else {
                        continue;
                    };
                    write(&mut self.writer, *channels, &item).map_err(failed)?;
                }
                Popped::Late => {}
                Popped::Closed => break,
            }
            if Instant::now() >= next_flush {
                self.writer.flush().map_err(failed)?;
                next_flush = Instant::now() + CHUNK_TIME;
            }
        }
        let (dropped, lost) = queue.missing();
        self.note(
            "shmslot.missing",
            [("dropped", dropped.to_string()), ("lost", lost.to_string())],
        )?;
        self.writer.finish().map(drop).map_err(|error| self::failed(&self.path, error))
    }
}

/// The header comes first: a program that replays the file has it when the payload comes.
fn write(
    writer: &mut Writer<NoSeek<BufWriter<File>>>,
    (payloads, headers): (u16, Option<u16>),
    item: &Item,
) -> McapResult<()> {
    let header = |channel_id| MessageHeader {
        channel_id,
        // The field has no room for more.
        sequence: item.sequence as u32,
        log_time: item.log_time,
        publish_time: item.publish_time,
    };
    if let Some(channel) = headers {
        writer.write_to_known_channel(&header(channel), &item.header)?;
    }
    writer.write_to_known_channel(&header(payloads), &item.payload)
}

impl Writing {
    /// Waits until everything is written.
    pub(super) fn finish(self) -> Outcome {
        let panicked = |_| Failure::failed("the thread that writes the file has panicked");
        self.thread.join().map_err(panicked)?
    }
}

fn failed(path: &Path, error: mcap::McapError) -> Failure {
    Failure::file(path, "be written", error)
}

/// Tells the monotonic clock of one start of the machine from that of another.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map_or_else(|_| String::new(), |text| text.trim().to_owned())
}
