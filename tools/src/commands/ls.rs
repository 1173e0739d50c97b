//! `ls`: the segments of a directory.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::{Value, json};
use shmslot::SegmentState;

use crate::failure::Outcome;
use crate::look::{Look, id, observe, policy, type_name};
use crate::process;
use crate::shell::{Found, Shell};
use crate::table::{Table, number, text};
use crate::units::bytes;

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Names to list, in which * and ? stand for other characters; all, if none is given
    patterns: Vec<String>,
    /// Print names only, one in each line
    #[arg(short = '1', long)]
    names: bool,
}

impl Ls {
    pub(crate) fn run(&self, shell: &Shell) -> Outcome {
        let found = shell.list(&self.patterns)?;
        let mut out = io::stdout().lock();
        if self.names && !shell.json {
            for one in &found {
                writeln!(out, "{}", one.entry.name)?;
            }
            return Ok(());
        }
        // What cannot be observed, for example because it has just gone, is still listed.
        let looks: Vec<Option<Look>> = found.iter().map(|one| look(shell, one)).collect();
        if shell.json {
            let all: Value =
                found.iter().zip(&looks).map(|(one, look)| to_json(one, look)).collect();
            return shell.print_json(&all);
        }
        let mut table = Table::new([
            text("NAME"),
            text("STATE"),
            number("PROCESSES"),
            number("READERS"),
            number("WRITERS"),
            number("SLOTS"),
            number("CAPACITY"),
            number("SIZE"),
            text("POLICY"),
            text("OWNER"),
            text("MODE"),
            text("TYPE"),
        ]);
        for (one, look) in found.iter().zip(&looks) {
            table.push(cells(one, look.as_ref()));
        }
        table.print(&mut out, "")?;
        Ok(())
    }
}

fn look(shell: &Shell, one: &Found) -> Option<Look> {
    let segment = observe(shell, &one.name).ok()?;
    Look::at(&one.entry.name, &segment).ok()
}

fn state(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Alive => "alive",
        SegmentState::Dead => "dead",
        SegmentState::Unknown => "unknown",
    }
}

fn to_json(one: &Found, look: &Option<Look>) -> Value {
    let entry = &one.entry;
    json!({
        "name": entry.name,
        "state": state(entry.state),
        "size": entry.size,
        "id": id(entry.segment_id),
        "participants": entry.participants,
        "layout_version": entry.layout_version,
        "owner": entry.owner,
        "user": process::user(entry.owner),
        "mode": format!("{:04o}", entry.mode),
        "ephemeral": entry.ephemeral,
        "refusal": entry.refusal.map(shmslot::Code::text),
        "info": look.as_ref().map(Look::to_json),
    })
}

fn cells(one: &Found, look: Option<&Look>) -> [String; 12] {
    let entry = &one.entry;
    let unknown = || "-".to_owned();
    let shown = |show: &dyn Fn(&Look) -> String| look.map_or_else(unknown, show);
    let processes = match look.map(|look| look.counters.dead) {
        Some(dead) if dead > 0 => format!("{} ({dead} dead)", entry.participants),
        _ => entry.participants.to_string(),
    };
    [
        entry.name.clone(),
        state(entry.state).to_owned(),
        processes,
        shown(&|look| format!("{}/{}", look.counters.readers, look.info.geometry.max_readers)),
        shown(&|look| look.counters.writers.to_string()),
        shown(&|look| look.info.geometry.slot_count.to_string()),
        shown(&|look| bytes(look.info.geometry.slot_capacity)),
        bytes(entry.size),
        shown(&|look| policy(look.info.geometry.policy).to_owned()),
        process::user(entry.owner),
        format!("{:04o}", entry.mode),
        match entry.refusal {
            Some(_) if look.is_none() => format!("(layout {})", entry.layout_version),
            _ => shown(&|look| type_name(&look.info.geometry)),
        },
    ]
}
