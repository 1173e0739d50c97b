//! `info`: everything about a segment, without joining it.

use std::io::{self, Write};

use clap::Args;
use shmslot::layout::LAYOUT_VERSION;

use crate::failure::{Outcome, for_each};
use crate::look::{Look, bits, id, kind, observe, policy, type_name};
use crate::shell::Shell;
use crate::table::{Table, number, text};
use crate::units::{bytes, hex, nanoseconds};

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// Segments, as names or patterns with * and ?; all, if none is given
    names: Vec<String>,
}

impl Info {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let names = shell.names(&self.names)?;
        for_each(&names, |name| {
            let segment = observe(shell, name)?;
            let look = Look::at(name, &segment)?;
            if shell.json {
                return shell.print_json(&look.to_json());
            }
            Ok(print(&look, &mut io::stdout().lock())?)
        })
    }
}

fn print(look: &Look, out: &mut impl Write) -> io::Result<()> {
    let (geometry, counters) = (&look.info.geometry, &look.counters);
    writeln!(out, "{}", look.name)?;
    let mut line = |title: &str, value: String| writeln!(out, "  {title:<9} {value}");
    let retired = if counters.retired { ", retired: its name was taken away" } else { "" };
    line(
        "file",
        format!(
            "{}, {}, mode {:04o}, layout {LAYOUT_VERSION}, id {}{retired}",
            look.path.display(),
            bytes(look.info.total_size),
            geometry.mode,
            id(geometry.segment_id),
        ),
    )?;
    if !type_name(geometry).is_empty() || geometry.type_hash != [0; 16] {
        line("type", format!("{:?}, hash {}", type_name(geometry), hex(&geometry.type_hash)))?;
    }
    let choices = [
        (geometry.single_writer, "single writer"),
        (geometry.timestamps, "timestamps"),
        (geometry.ephemeral, "ephemeral"),
    ];
    let mut policy = policy(geometry.policy).to_owned();
    for (_, choice) in choices.iter().filter(|(chosen, _)| *chosen) {
        policy += &format!(", {choice}");
    }
    line("policy", policy)?;
    line(
        "slots",
        format!(
            "{} of {}, aligned to {}, user header of {} B",
            geometry.slot_count,
            bytes(geometry.slot_capacity),
            geometry.payload_align,
            geometry.user_header_size,
        ),
    )?;
    line(
        "now",
        format!(
            "{} free, {} on loan, {} unread, {} held, {} retained as history",
            counters.free, counters.loaned, counters.unread, counters.held, counters.retained,
        ),
    )?;
    if geometry.region_count > 0 {
        line(
            "regions",
            format!(
                "{} of {} in use, each up to {}; {} of memory",
                counters.regions,
                geometry.region_count,
                bytes(geometry.max_payload),
                bytes(counters.region_bytes),
            ),
        )?;
    }
    line(
        "limits",
        format!(
            "{} readers, {} processes, history of {}, {} held by a reader",
            geometry.max_readers,
            geometry.max_participants,
            geometry.history,
            if geometry.max_held == 0 {
                "any number".to_owned()
            } else {
                geometry.max_held.to_string()
            },
        ),
    )?;
    line("samples", format!("{} committed", counters.next_sequence.saturating_sub(1)))?;
    line(
        "users",
        format!(
            "{} processes ({} dead, {} recovered so far), {} writers, {} readers",
            counters.participants,
            counters.dead,
            counters.recovered,
            counters.writers,
            counters.readers,
        ),
    )?;
    print_users(look, out)
}

fn print_users(look: &Look, out: &mut impl Write) -> io::Result<()> {
    let mut processes = Table::new([
        number("ROW"),
        number("PID"),
        text("COMMAND"),
        text("STATE"),
        number("WRITERS"),
        text("READERS"),
    ]);
    for one in &look.participants {
        processes.push([
            one.index.to_string(),
            one.pid.to_string(),
            look.command_of(one.pid).unwrap_or_else(|| "-".into()),
            if one.alive { "alive" } else { "dead" }.into(),
            one.writers.to_string(),
            list(&bits(one.readers)),
        ]);
    }
    processes.print(out, "  ")?;
    let mut readers = Table::new([
        number("READER"),
        number("PID"),
        text("STATE"),
        number("LAG"),
        number("UNREAD"),
        number("HELD"),
        number("LOST"),
        number("OLDEST HELD"),
        number("ITS AGE"),
    ]);
    for one in &look.readers {
        let age = look.age_of_oldest(one);
        readers.push([
            one.index.to_string(),
            one.pid.to_string(),
            if one.alive { kind(one.kind) } else { "dead" }.into(),
            one.lag.to_string(),
            one.unread.to_string(),
            one.held.to_string(),
            one.lost.to_string(),
            if one.held == 0 { "-".into() } else { one.oldest_held.to_string() },
            age.map_or_else(|| "-".into(), |age| nanoseconds(age as f64)),
        ]);
    }
    readers.print(out, "  ")?;
    let mut writers = Table::new([number("WRITER"), number("PID"), text("STATE"), number("LOANS")]);
    for one in &look.writers {
        writers.push([
            one.id.to_string(),
            one.pid.to_string(),
            if one.alive { "alive" } else { "dead" }.into(),
            one.loans.to_string(),
        ]);
    }
    writers.print(out, "  ")?;
    let mut deaths =
        Table::new([number("DIED"), number("PID"), number("WRITERS"), text("READERS")]);
    for one in &look.deaths {
        let age = look.at_ns.saturating_sub(one.noticed_ns);
        deaths.push([
            format!("{} ago", nanoseconds(age as f64)),
            one.pid.to_string(),
            one.writers.to_string(),
            list(&bits(one.readers)),
        ]);
    }
    deaths.print(out, "  ")
}

fn list(numbers: &[u32]) -> String {
    if numbers.is_empty() {
        return "-".into();
    }
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
