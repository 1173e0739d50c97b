//! Sends one sample for each text or line, to any reader.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use shmslot::{Code, CreateOptions, Segment, Writer};

use super::Send;
use crate::failure::{Failure, Outcome};
use crate::shell::Shell;
use crate::stop::Stop;

impl Send {
    pub(super) fn messages(&self, shell: &Shell) -> Outcome {
        let period = self.rate.map(period).transpose()?;
        let stop = Stop::on_signals()?;
        let mut options = CreateOptions {
            // What exists is taken as it is: the messages fit it, or are refused one by one.
            any_geometry: true,
            any_owner: shell.any_owner,
            timestamps: self.timestamps,
            ..CreateOptions::default()
        };
        self.sizes.change(&mut options);
        let (segment, _) = Segment::open(&shell.name(&self.name)?, &options)?;
        let writer = segment.writer()?;
        stop.ends(writer.interrupter());
        let mut messages = Messages { writer: &writer, stop: &stop, period, due: None };
        let readers = self.readers.unwrap_or(0);
        match writer.wait_readers(readers, shell.timeout) {
            Err(error) if error.code() == Code::Interrupted => return Ok(()),
            waited => waited?,
        }
        if self.lines {
            return messages.lines(self.file.as_deref());
        }
        let mut round = 0;
        while self.repeat == 0 || round < self.repeat {
            for message in &self.message {
                if !messages.send(message.as_bytes())? {
                    return Ok(());
                }
            }
            round += 1;
        }
        Ok(())
    }
}

fn period(rate: f64) -> Outcome<Duration> {
    let period = Duration::try_from_secs_f64(1.0 / rate).ok();
    period.ok_or_else(|| Failure::usage(format!("--rate {rate} is no number of samples a second")))
}

struct Messages<'s> {
    writer: &'s Writer,
    stop: &'s Stop,
    period: Option<Duration>,
    /// When the next one is due.
    due: Option<Instant>,
}

impl Messages<'_> {
    /// False if a signal came instead.
    fn send(&mut self, bytes: &[u8]) -> Outcome<bool> {
        if let Some(period) = self.period {
            let due = self.due.unwrap_or_else(Instant::now);
            if !self.stop.sleep_until(due) {
                return Ok(false);
            }
            // After a pause it does not catch up by a burst.
            self.due = Some(due.max(Instant::now() - period) + period);
        }
        match self.writer.write(bytes, None) {
            Ok(_) => Ok(!self.stop.is_stopped()),
            Err(error) => match error.code() {
                Code::Interrupted => Ok(false),
                code => Err(self.writer.explain(code, bytes.len()).into()),
            },
        }
    }

    fn lines(&mut self, path: Option<&Path>) -> Outcome {
        let mut input: Box<dyn BufRead> = match path.filter(|path| *path != Path::new("-")) {
            None => Box::new(io::stdin().lock()),
            Some(path) => Box::new(BufReader::new(
                File::open(path).map_err(|error| Failure::file(path, "be opened", error))?,
            )),
        };
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = input
                .read_until(b'\n', &mut line)
                .map_err(|error| Failure::failed(format!("cannot read a line: {error}")))?;
            if read == 0 || !self.send(line.strip_suffix(b"\n").unwrap_or(&line))? {
                return Ok(());
            }
        }
    }
}
