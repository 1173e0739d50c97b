//! A run in words.

use std::fmt::Write;

use crate::case::{Fault, Planned};
use crate::layout::bits;
use crate::machine::{Access, Machine, UNDERTAKER};
use crate::protocol::words::{Ctl, Entry, Marks, Place};

/// An event of a run. Numbers are those of processes.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Began(usize, Planned),
    Accessed(usize, Access),
    /// A store went to the buffer.
    Buffered(usize, Access),
    /// It reached the memory.
    Drained(usize, Access),
    /// A payload.
    Read(usize, Place),
    Wrote(usize, Place),
    DrainedPayload(usize, Place),
    Stopped(usize),
    Continued(usize),
    Killed(usize),
    Buried(usize),
    Slept(usize),
    Woken(usize),
    TimedOut(usize),
    Failed(String),
}

/// The segment and the processes of a case.
pub(crate) fn tell_case(machine: &Machine) -> String {
    let case = machine.case.borrow();
    let shape = &case.shape;
    let mut text = format!(
        "seed {}: {} slots, {} rows, {} regions, history {}, {}, {}, {}, {:?}, {}\n",
        case.seed,
        shape.slots,
        case.rows,
        case.regions,
        shape.history,
        if shape.drop_oldest { "drop-oldest" } else { "lossless" },
        if shape.single_writer { "single writer" } else { "many writers" },
        match (shape.receipts, case.pinned) {
            (false, _) => "no receipts".into(),
            (true, true) => "pinned".into(),
            (true, false) => format!("calm, patience {}", case.patience),
        },
        case.pace,
        match case.longest_delay {
            0 => "no store buffers".into(),
            longest => format!("stores wait for up to {} steps", 1 << longest),
        },
    );
    for (process, plan) in case.plans.iter().enumerate().filter(|(_, plan)| !plan.is_empty()) {
        let _ = write!(text, "process {process}:");
        for planned in plan {
            let _ = write!(text, " {:?}", planned.operation);
            if let Some((step, fault)) = planned.fault {
                let fault = match fault {
                    Fault::Kill => "killed".into(),
                    Fault::Stop(u32::MAX) => "stopped to the end".into(),
                    Fault::Stop(samples) => format!("stopped for {samples} samples"),
                };
                let _ = write!(text, " ({fault} before access {})", step + 1);
            }
        }
        text.push('\n');
    }
    text
}

/// Every step of the traced run, one per line.
pub(crate) fn tell(machine: &Machine, events: &[Event]) -> String {
    let mut text = String::new();
    let mut doing = vec![String::new(); UNDERTAKER + 1];
    for event in events {
        let _ = match event {
            Event::Began(process, planned) => {
                doing[*process] = format!("{:?}", planned.operation);
                continue;
            }
            Event::Accessed(process, access) => {
                let did = if access.after.is_some() { "changes " } else { "looks at" };
                writeln!(
                    text,
                    "  {process}  {:<12} {did} {}",
                    doing[*process],
                    tell_access(machine, access)
                )
            }
            Event::Buffered(process, access) => {
                writeln!(
                    text,
                    "  {process}  {:<12} stores   {}, in its buffer",
                    doing[*process],
                    tell_access(machine, access)
                )
            }
            Event::Drained(process, access) => {
                writeln!(
                    text,
                    "  {process}  {:<12} drains   {}",
                    "(buffer)",
                    tell_access(machine, access)
                )
            }
            Event::Read(process, place) => {
                writeln!(
                    text,
                    "  {process}  {:<12} reads the payload in {place:?}",
                    doing[*process]
                )
            }
            Event::Wrote(process, place) => {
                writeln!(
                    text,
                    "  {process}  {:<12} writes to the payload in {place:?}",
                    doing[*process]
                )
            }
            Event::DrainedPayload(process, place) => {
                writeln!(text, "  {process}  {:<12} drains   the payload in {place:?}", "(buffer)")
            }
            Event::Stopped(process) => writeln!(text, "  {process}  is stopped"),
            Event::Continued(process) => writeln!(text, "  {process}  continues"),
            Event::Killed(process) => writeln!(text, "  {process}  is killed"),
            Event::Buried(process) => writeln!(text, "  {process}  was cleaned up after"),
            Event::Slept(process) => writeln!(text, "  {process}  sleeps"),
            Event::Woken(process) => writeln!(text, "  {process}  is woken"),
            Event::TimedOut(process) => writeln!(text, "  {process}  wakes by its timeout"),
            Event::Failed(broken) => writeln!(text, "FAILED  {broken}"),
        };
    }
    text
}

fn tell_access(machine: &Machine, Access { word, before, after }: &Access) -> String {
    let (name, row) = machine.world.name(*word);
    let (name, place) = match row {
        Some(row) => (name, format!(" of {row}")),
        None => (name, String::new()),
    };
    let element = match name {
        // Arrays in a line of 64 bytes, aligned to it.
        "line.entry" => format!("[{}]", word % 64 / 8),
        "line.marks" => format!("[{}]", word % 64 / 8 - 2),
        "line.receipts" => format!("[{}]", word % 64 - 24),
        _ => String::new(),
    };
    let value = |value: u64| match name {
        "line.entry" => format!("{} in {}", Entry(value).0 >> 24, Entry(value).slot()),
        "line.marks" => {
            let (owed, held) = (value >> 16 & 0xffff, value & 0xffff);
            format!("tag {:#x} owed {owed:#b} held {held:#b}", Marks(value).0 >> 32)
        }
        "claim.ctl" => {
            let ctl = Ctl(value);
            let phase = ctl.phase().map_or("?".into(), |phase| format!("{phase:?}"));
            format!("{phase} by {} generation {}", ctl.owner().participant(), ctl.generation())
        }
        "attention" => {
            let states = ["calm", "raised", "alert", "settling", "pinned", "pinning"];
            let outlook = bits::attention::STATE.get(value) as usize;
            let state = states.get(outlook).unwrap_or(&"?");
            format!("{state}, change {}", bits::attention::COUNT.get(value))
        }
        _ => format!("{value:#x}"),
    };
    match after {
        None => format!("{name}{element}{place}: {}", value(*before)),
        Some(after) => {
            format!("{name}{element}{place}: {} -> {}", value(*before), value(*after))
        }
    }
}
