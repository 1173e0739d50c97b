//! Receives from two segments, with a timer beside them, in tokio. Usage: tokio FIRST SECOND

use std::time::Duration;

use shmslot::{AsyncReader, AttachOptions, Code, EndWaits, Result, Segment};
use tokio::time::{MissedTickBehavior, interval};

fn join(name: &str) -> Result<AsyncReader> {
    let reader = Segment::attach(name, &AttachOptions::default())?.reader(0)?;
    reader.end_waits(EndWaits { no_writers: true, ..EndWaits::default() })?;
    Ok(AsyncReader::new(reader)?)
}

/// Whether a sample came; otherwise the last writer is gone.
async fn receives(reader: &mut AsyncReader) -> Result<bool> {
    match reader.next().await {
        Ok(_sample) => Ok(true),
        Err(error) if error.code() == Code::NoWriters => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many samples came from each, until nobody writes any more.
pub async fn receive(names: [&str; 2]) -> Result<[u64; 2]> {
    let (mut first, mut second) = (join(names[0])?, join(names[1])?);
    let (mut open, mut got, mut ticks) = ([true; 2], [0; 2], 0);
    let mut timer = interval(Duration::from_millis(1));
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while open != [false; 2] || ticks == 0 {
        let (from, more) = tokio::select! {
            more = receives(&mut first), if open[0] => (0, more?),
            more = receives(&mut second), if open[1] => (1, more?),
            _ = timer.tick() => {
                ticks += 1;
                continue;
            }
        };
        open[from] = more;
        got[from] += u64::from(more);
    }
    Ok(got)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [first, second] = names.as_slice() else {
        eprintln!("usage: tokio FIRST SECOND");
        std::process::exit(2);
    };
    let [first, second] = receive([first, second]).await?;
    println!("{first} {second}");
    Ok(())
}
