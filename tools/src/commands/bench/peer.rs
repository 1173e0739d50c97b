//! The second process: sends each sample back, until one comes that is to be counted; then it
//! counts all until an empty one.

use std::hint::spin_loop;
use std::time::Duration;

use shmslot::{AttachOptions, EndWaits, Reader, Sample, Segment};

use super::{Bench, pin};
use crate::failure::Outcome;

/// The first byte of a sample: what the peer does with it.
pub(super) const SEND_BACK: u8 = 1;
pub(super) const COUNT: u8 = 2;

pub(super) fn run(bench: &Bench, there: &str, back: &str) -> Outcome {
    pin(bench.cpus.map(|(_, cpu)| cpu))?;
    let attach = |name| Segment::attach(name, &AttachOptions::default());
    let (there, back) = (attach(there)?, attach(back)?);
    // The first process begins when the reader joins, and then expects the writer.
    let writer = back.writer()?;
    let reader = there.reader(0)?;
    // If the first process is killed, so that this one ends, too.
    reader.end_waits(EndWaits { no_writers: true, ..EndWaits::default() })?;
    let mut bytes = vec![0; bench.size.max(1) as usize];
    let mut counted = 0_u64;
    loop {
        let sample = next(&reader, bench.wait)?;
        let len = sample.copy_to(&mut bytes);
        drop(sample);
        match bytes.first().filter(|_| len > 0) {
            Some(&COUNT) => counted += 1,
            Some(_) => {
                writer.write(&bytes[..len], None)?;
            }
            None => {
                // The smallest sample has no room for more.
                writer.write(&[1], None)?;
                if counted > 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// The next sample, by the way that is measured.
pub(super) fn next(reader: &Reader, sleeps: bool) -> Outcome<Sample<'_>> {
    // So many empty polls take about a millisecond. Then a wait, which looks for dead processes,
    // finds out whether the other one lives.
    const POLLS: u32 = 200_000;
    let mut polls = 0;
    loop {
        if let Some(sample) = reader.read()? {
            return Ok(sample);
        }
        polls += 1;
        if sleeps || polls == POLLS {
            polls = 0;
            let piece = if sleeps { 1000 } else { 1 };
            match reader.wait(Some(Duration::from_millis(piece))) {
                Err(error) if !is_late(&error) => return Err(error.into()),
                _ => {}
            }
        }
        spin_loop();
    }
}

fn is_late(error: &shmslot::Error) -> bool {
    matches!(error.code(), shmslot::Code::Timeout | shmslot::Code::Again)
}
