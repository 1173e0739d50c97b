//! The records of an MCAP file, one after the other.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mcap::records::Record;
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};
use mcap::{McapError, parse_record};

use super::chunk::{Records, unpack};
use crate::failure::{Failure, Outcome};

/// Bytes that are read from the file at once, at most.
const MOST_AT_ONCE: usize = 4 << 20;

pub(super) struct Input {
    path: PathBuf,
    file: File,
    reader: LinearReader,
    ended_early: bool,
}

impl Input {
    pub(super) fn open(path: &Path) -> Outcome<Input> {
        let file = File::open(path).map_err(|error| Failure::file(path, "be opened", error))?;
        // Chunks come whole: what was damaged is found before anything of it is played.
        let options = LinearReaderOptions::default().with_emit_chunks(true);
        let reader = LinearReader::new_with_options(options);
        Ok(Input { path: path.to_owned(), file, reader, ended_early: false })
    }

    /// Whether the file had no proper end.
    pub(super) fn ended_early(&self) -> bool {
        self.ended_early
    }

    /// Calls `act` for each record of the data section, until it returns false; whether all records
    /// were read.
    pub(super) fn each_record(
        &mut self,
        mut act: impl FnMut(Record<'_>) -> Outcome<bool>,
    ) -> Outcome<bool> {
        let failed = |error| match error {
            McapError::UnsupportedCompression(how) => Failure::failed(format!(
                "\"{}\": its chunks are compressed with {how}, and not with lz4 or zstd; convert \
                 it with the program that made it",
                self.path.display()
            )),
            error => Failure::file(&self.path, "be played", error),
        };
        let mut read_anything = false;
        while let Some(event) = self.reader.next_event() {
            match event {
                Ok(LinearReadEvent::ReadRequest(wanted)) => {
                    // A damaged file may want any number, and ends before.
                    let room = self.reader.insert(wanted.min(MOST_AT_ONCE));
                    let read = self.file.read(room);
                    let read = read.map_err(|error| Failure::file(&self.path, "be read", error))?;
                    self.reader.notify_read(read);
                }
                Ok(LinearReadEvent::Record { data, opcode }) => {
                    read_anything = true;
                    match parse_record(opcode, data).map_err(failed)? {
                        // The summary repeats what was there before.
                        Record::DataEnd(_) => return Ok(true),
                        Record::Chunk { header, data } => {
                            let bytes = unpack(&header, &data).map_err(failed)?;
                            for record in Records(&bytes) {
                                let (opcode, body) = record.map_err(failed)?;
                                if !act(parse_record(opcode, body).map_err(failed)?)? {
                                    return Ok(false);
                                }
                            }
                        }
                        record => {
                            if !act(record)? {
                                return Ok(false);
                            }
                        }
                    }
                }
                Err(McapError::UnexpectedEof | McapError::UnexpectedEoc) if read_anything => {
                    self.ended_early = true;
                    return Ok(true);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(true)
    }
}
