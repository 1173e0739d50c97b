//! Runs the slot protocol under random schedules, with kills and stops; see `README.md`.
#![allow(dead_code, unused_imports, reason = "the shipped files hold more than the processes call")]

#[path = "../../src/atomics.rs"]
mod atomics;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/layout/mod.rs"]
mod layout;
#[path = "../../src/protocol/mod.rs"]
mod protocol;

mod case;
mod expeller;
mod machine;
mod modelled;
mod named;
mod oracle;
mod process;
mod random;
mod reader;
mod recoverer;
mod rest;
mod scheduler;
mod shrink;
mod trace;
mod world;
mod writer;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use machine::Machine;
use scheduler::Scheduler;
use shrink::Failing;

const USAGE: &str = "usage: simulate [SECONDS | --runs N] [--from SEED]
       simulate --seed SEED";

/// How long to continue.
#[derive(Clone, Copy)]
enum Limit {
    Time(Duration),
    Runs(u64),
}

enum Task {
    Search { limit: Limit, from: u64 },
    Show { seed: u64 },
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Some(Task::Search { limit, from }) => search(limit, from),
        Some(Task::Show { seed }) => show(seed),
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Task> {
    let (mut limit, mut from) = (Limit::Time(Duration::from_secs(60)), 0);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runs" => limit = Limit::Runs(arguments.next()?.parse().ok()?),
            "--from" => from = arguments.next()?.parse().ok()?,
            "--seed" => return Some(Task::Show { seed: arguments.next()?.parse().ok()? }),
            seconds => limit = Limit::Time(Duration::from_secs(seconds.parse().ok()?)),
        }
    }
    Some(Task::Search { limit, from })
}

/// Runs one seed after another on every processor until one fails or the limit is reached.
fn search(limit: Limit, from: u64) -> ExitCode {
    let since = Instant::now();
    let workers = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let (next, steps) = (AtomicU64::new(from), AtomicU64::new(0));
    let failed = Mutex::new(None::<u64>);
    let end = match limit {
        Limit::Runs(runs) => from.saturating_add(runs),
        Limit::Time(_) => u64::MAX,
    };
    let over = || match limit {
        Limit::Time(time) => since.elapsed() >= time,
        Limit::Runs(_) => false,
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let machine = Machine::new();
                // In blocks, so that the workers do not contend for the counter; the lowest seed
                // that fails is reported.
                const BLOCK: u64 = 64;
                while !over() {
                    let first = next.fetch_add(BLOCK, Ordering::Relaxed);
                    for seed in first..(first + BLOCK).min(end) {
                        if run(machine, seed).is_some() {
                            let mut failed =
                                failed.lock().expect("no worker panics while it holds the lock");
                            *failed = Some(failed.map_or(seed, |other| other.min(seed)));
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                        }
                        steps.fetch_add(machine.steps(), Ordering::Relaxed);
                    }
                    if first >= end {
                        break;
                    }
                    if failed.lock().expect("as above").is_some() {
                        break;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("as above");
    let runs = failed.unwrap_or(next.into_inner().min(end)) - from;
    let steps = steps.into_inner();
    let seconds = since.elapsed().as_secs_f32();
    println!("{runs} runs, {steps} steps, {seconds:.1} s");
    match failed {
        Some(seed) => show(seed),
        None => ExitCode::SUCCESS,
    }
}

fn run(machine: &'static Machine, seed: u64) -> Option<String> {
    machine.case.borrow_mut().become_seed(seed);
    let pace = machine.case.borrow().pace;
    machine.run(Scheduler::of_pace(pace, seed))
}

/// Describes one run in words: the whole of it if it holds, or what is left of it after shrinking
/// if it fails.
fn show(seed: u64) -> ExitCode {
    let machine = Machine::new();
    machine.case.borrow_mut().become_seed(seed);
    let Some(failing) = Failing::record(machine) else {
        *machine.trace.borrow_mut() = Some(Vec::new());
        run(machine, seed);
        let events = machine.trace.take().unwrap_or_default();
        println!("{}{}seed {seed} holds", trace::tell_case(machine), trace::tell(machine, &events));
        return ExitCode::SUCCESS;
    };
    println!("seed {seed} fails: {}", failing.broken);
    println!("{} operations, {} turns", failing.operations(), failing.turns.len());
    let shrunk = shrink::shrink(machine, failing);
    *machine.trace.borrow_mut() = Some(Vec::new());
    shrink::repeat(machine, &shrunk.case, shrunk.turns.clone());
    let events = machine.trace.take().unwrap_or_default();
    println!("shrunk to {} operations, {} turns:", shrunk.operations(), shrunk.turns.len());
    print!("{}{}", trace::tell_case(machine), trace::tell(machine, &events));
    println!("seed {seed}: {}", shrunk.broken);
    ExitCode::FAILURE
}
