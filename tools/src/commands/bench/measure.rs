//! The first process: measures.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use shmslot::{EndWaits, Reader, Segment, Writer};

use super::peer::{COUNT, SEND_BACK, next};
use super::{Bench, pin};
use crate::failure::{Failure, Outcome, Status};
use crate::shell::Shell;
use crate::stop::Stop;

pub(super) struct Results {
    /// One way, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) samples: u64,
    pub(super) time: Duration,
}

/// Rounds before the clock runs: the first use of each page and the first sleeps cost more.
const WARM_UP: u32 = 1000;

/// The second process, which is killed if this one gives up.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn run(bench: &Bench, shell: &Shell) -> Outcome<Results> {
    let stop = Stop::on_signals()?;
    pin(bench.cpus.map(|(cpu, _)| cpu))?;
    let make = |part: &str| -> Outcome<(String, Segment)> {
        let name = shell.name(&format!("bench-{}-{part}", std::process::id()))?;
        let segment = Segment::create(&name, &bench.options())?;
        Ok((name, segment))
    };
    let ((there_name, there), (back_name, back)) = (make("there")?, make("back")?);
    let (writer, reader) = (there.writer()?, back.reader(0)?);
    stop.ends(writer.interrupter());
    stop.ends(reader.interrupter());
    let mut peer = start(bench, &there_name, &back_name)?;
    // A peer that cannot start ends at once; the wait is for one that lives.
    while writer.wait_readers(1, Some(Duration::from_millis(100))).is_err() {
        if let Ok(Some(status)) = peer.0.try_wait() {
            return Err(Failure::failed(format!("the second process ended: {status}")));
        }
        check(&stop)?;
    }
    let mut first = First { bench, stop: &stop, writer, reader, peer, bytes: Vec::new() };
    first.run()
}

fn check(stop: &Stop) -> Outcome {
    if stop.is_stopped() {
        return Err(Failure::new(Status::Interrupted, "interrupted before it was measured"));
    }
    Ok(())
}

fn start(bench: &Bench, there: &str, back: &str) -> Outcome<Peer> {
    let failed = |error| Failure::failed(format!("cannot start a second process: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("bench").arg("--size").arg(bench.size.to_string());
    if bench.wait {
        command.arg("--wait");
    }
    if let Some((one, other)) = bench.cpus {
        command.arg("--cpus").arg(format!("{one},{other}"));
    }
    command.arg("--peer").arg(there).arg(back).stdin(Stdio::null());
    Ok(Peer(command.spawn().map_err(failed)?))
}

struct First<'b> {
    bench: &'b Bench,
    stop: &'b Stop,
    writer: Writer,
    reader: Reader,
    peer: Peer,
    bytes: Vec<u8>,
}

impl First<'_> {
    fn run(&mut self) -> Outcome<Results> {
        self.reader.end_waits(EndWaits { no_writers: true, ..EndWaits::default() })?;
        self.bytes = vec![0; self.bench.size.max(1) as usize];
        let latency = self.latency()?;
        let (samples, time) = self.throughput()?;
        let _ = self.peer.0.wait();
        Ok(Results { latency, samples, time })
    }

    fn latency(&mut self) -> Outcome<Histogram<u64>> {
        let failed = |error| Failure::failed(format!("cannot count latencies: {error}"));
        // Up to a minute, in three digits.
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(failed)?;
        for _ in 0..WARM_UP {
            self.round()?;
        }
        let began = Instant::now();
        while began.elapsed() < self.bench.duration {
            // So that the look at the clock of the loop is seldom.
            for _ in 0..64 {
                let time = self.round()?;
                histogram.saturating_record((time.as_nanos() as u64 / 2).max(1));
            }
            check(self.stop)?;
        }
        Ok(histogram)
    }

    /// There and back.
    fn round(&mut self) -> Outcome<Duration> {
        let began = Instant::now();
        self.bytes[0] = SEND_BACK;
        self.writer.write(&self.bytes, None)?;
        next(&self.reader, self.bench.wait)?.copy_to(&mut self.bytes);
        Ok(began.elapsed())
    }

    fn throughput(&mut self) -> Outcome<(u64, Duration)> {
        self.bytes[0] = COUNT;
        let began = Instant::now();
        let mut samples = 0;
        while began.elapsed() < self.bench.duration {
            for _ in 0..64 {
                self.writer.write(&self.bytes, None)?;
            }
            samples += 64;
            check(self.stop)?;
        }
        // The answer says that the peer has read all of them.
        self.writer.write(&[], None)?;
        drop(next(&self.reader, self.bench.wait)?);
        Ok((samples, began.elapsed()))
    }
}
