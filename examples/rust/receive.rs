//! receive NAME FILE: writes to a file what `examples/c/send.c` streams through the segment NAME,
//! and reports how fast it arrived.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use shmslot::{AttachOptions, Reader, Segment};

/// The clock of `Sample::timestamp_ns`.
fn now_ns() -> nix::Result<u64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64)
}

/// Writes all samples up to the empty one to the file; returns how long each was on its way, and
/// how long all of them took.
fn receive(reader: &mut Reader, file: &mut File) -> Result<(Vec<u64>, Duration), Box<dyn Error>> {
    let mut latencies = Vec::new();
    let mut start = None;
    let mut bytes = Vec::new();
    loop {
        reader.wait(Some(Duration::from_secs(30)))?; // a sender that was killed sends no end
        let Some(sample) = reader.read()? else { continue };
        let start = *start.get_or_insert(sample.timestamp_ns());
        latencies.push(now_ns()? - sample.timestamp_ns());
        if sample.is_empty() {
            return Ok((latencies, Duration::from_nanos(now_ns()? - start)));
        }
        // No Rust reference points to shared memory, so the bytes are copied out first.
        bytes.resize(sample.len(), 0);
        sample.copy_to(&mut bytes);
        drop(sample); // marks it: from here on the slot may be written again
        file.write_all(&bytes)?;
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(path), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: receive NAME FILE".into());
    };
    let mut file = File::create(path)?;
    // The sender may start later than this program.
    let segment =
        Segment::attach_wait(&name, &AttachOptions::default(), Some(Duration::from_secs(10)))?;
    let mut reader = segment.reader(0)?;
    let (mut latencies, took) = receive(&mut reader, &mut file)?;

    latencies.sort_unstable();
    let micros = |place: usize| latencies[place] as f64 / 1e3;
    let last = latencies.len() - 1; // there is always the empty sample
    let megabytes = file.metadata()?.len() as f64 / 1e6;
    let seconds = took.as_secs_f64();
    print!("Rust receiver: {megabytes:.1} MB in {} samples, {seconds:.2} s: ", latencies.len());
    print!("{:.0} MB/s, {:.0} samples/s, ", megabytes / seconds, latencies.len() as f64 / seconds);
    print!("latency p50 {:.1} us, p99 {:.1} us, ", micros(last / 2), micros(last - last / 100));
    println!("max {:.1} us, lost = {}", micros(last), reader.lost());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("receive: {error}");
            ExitCode::FAILURE
        }
    }
}
