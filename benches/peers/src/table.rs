//! Rows in which several libraries do the same work, and the tables that compare them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::harness::place::Place;
use crate::harness::rows::{
    Aim, Measured, Row, Sample, Settings, Summary, Surroundings, crossing, keep, keep_figures,
    left_out, measure, show_ratio, show_state, staying, verdict,
};

pub(crate) const OURS: &str = "shmslot";
pub(crate) const OURS_MANY: &str = "shmslot, many writers";
pub(crate) const OURS_C: &str = "shmslot, C ABI";

/// How the rows of the reference operations begin.
pub(crate) const ROUND: &str = "in-place round by reference operations";

/// What is to be reached against whom: the beginning of a row, the beginning of a library's name,
/// which of our ways, and how many times as much the library must take.
const REACH: [(&str, &str, &str, f64); 10] = [
    (ROUND, "zerodds", OURS_MANY, 1.0),
    ("one thread, 64 B", "iceoryx2", OURS_C, 20.0),
    ("one way, 64 B", "iceoryx2", OURS, 5.0),
    ("streaming 1 → 1, lossless, 64 B", "iceoryx2", OURS, 12.0),
    ("wake", "iceoryx2", OURS, 1.4),
    ("create", "iceoryx2", OURS, 3.0),
    ("", "iceoryx2", OURS, 1.0),
    ("", "zerodds", OURS, 1.0),
    ("", "vox", OURS, 1.0),
    ("", "shmem-ipc", OURS, 1.0),
];

const CALLS: &str = "system calls for each wake, both sides";

/// Four times the calls, against iceoryx2.
const CALLS_REACH: f64 = 4.0;

type CountCalls = Box<dyn Fn() -> Option<f64>>;

pub(crate) struct Contest {
    pub(crate) place: &'static Place,
    pub(crate) time: Duration,
    pub(crate) quick: bool,
    /// What is done, by whom, and the row that measures it.
    rows: Vec<(String, &'static str, Row)>,
    calls: Vec<(&'static str, CountCalls)>,
}

impl Contest {
    pub(crate) fn new(place: &'static Place, settings: &Settings) -> Contest {
        Contest {
            place,
            time: settings.time,
            quick: settings.quick,
            rows: Vec::new(),
            calls: Vec::new(),
        }
    }

    pub(crate) fn staying(
        &mut self,
        what: &str,
        who: &'static str,
        measure: impl Fn() -> Option<Sample> + 'static,
    ) {
        self.add(what, who, staying(format!("{what}: {who}"), Aim::None, measure));
    }

    pub(crate) fn crossing(
        &mut self,
        what: &str,
        who: &'static str,
        measure: impl Fn() -> Option<Sample> + 'static,
    ) {
        self.add(what, who, crossing(format!("{what}: {who}"), Aim::None, measure));
    }

    fn add(&mut self, what: &str, who: &'static str, row: Row) {
        // The others are compared with each of ours.
        let is_base = who.starts_with(OURS);
        self.rows.push((what.into(), who, Row { is_base, ..row }));
    }

    pub(crate) fn calls(&mut self, who: &'static str, count: impl Fn() -> Option<f64> + 'static) {
        self.calls.push((who, Box::new(count)));
    }

    /// Measures all rows in turn, those of one work side by side, and prints a table for each work.
    pub(crate) fn run(mut self, settings: &Settings) {
        let mut works: Vec<String> = Vec::new();
        for (what, ..) in &self.rows {
            if !works.contains(what) {
                works.push(what.clone());
            }
        }
        self.rows.sort_by_key(|(what, ..)| works.iter().position(|work| work == what));
        let names: Vec<_> = self
            .rows
            .iter()
            .map(|(what, who, row)| (row.name.clone(), what.clone(), *who))
            .collect();
        let rows = self.rows.into_iter().map(|(.., row)| row).collect();
        let began = Surroundings::now(self.place);
        let measured = measure(settings, rows);
        let find = |row: &Measured| {
            names.iter().find(|(name, ..)| *name == row.name).expect("its own row")
        };
        let mut text = String::new();
        for work in &works {
            let entries: Vec<_> = measured
                .iter()
                .filter(|row| find(row).1 == *work)
                .map(|row| (find(row).2, row))
                .collect();
            if !entries.is_empty() {
                text += &table(work, &entries);
            }
        }
        if !measured.is_empty() {
            text += &left_out(&measured);
        }
        if settings.wants(CALLS) {
            text += &calls(&self.calls);
        }
        if !text.is_empty() {
            text += &began.until_now();
            print!("{text}");
            keep(settings, "peers", &text);
            keep_figures(settings, "peers", &measured);
        }
    }
}

/// How far the target against a library is reached, given how many times as long as one of our ways
/// it takes.
fn reach(work: &str, who: &str, times: impl Fn(&str) -> Option<f64>) -> String {
    let wanted =
        REACH.iter().find(|(row, library, ..)| work.starts_with(row) && who.starts_with(library));
    let Some(&(.., way, factor)) = wanted else { return String::new() };
    let Some(ratio) = times(way) else { return String::new() };
    let by = way.strip_prefix(OURS).unwrap_or_default().trim_start_matches(", ");
    let by = if by.is_empty() { String::new() } else { format!(" ({by})") };
    // Closer than one run can tell.
    if factor == 1.0 && (0.97..1.0).contains(&ratio) {
        return format!("ahead{by}: {ratio:.2} level");
    }
    let aim = if factor == 1.0 { format!("ahead{by}") } else { format!("{factor} ×{by}") };
    format!("{aim}: {}", verdict(ratio / factor))
}

fn table(work: &str, entries: &[(&str, &Measured)]) -> String {
    let mut text =
        format!("| {work} | state | n | middle | p99 | p99.9 | × shmslot | to reach |\n");
    text += "|---|---|---:|---:|---:|---:|---:|---|\n";
    for (who, row) in entries {
        let summaries = row.summaries();
        if summaries.is_empty() {
            writeln!(text, "| {who} | {} | 0 | | | | | |", row.without_samples()).expect("room");
        }
        for Summary { state, count, figures, .. } in summaries {
            let times = |way: &str| {
                let (_, ours) = entries.iter().find(|(who, _)| *who == way)?;
                row.beside(ours, state, |theirs, ours| theirs / ours)
            };
            let reach = reach(work, who, times);
            let times = times(OURS).map_or(String::new(), show_ratio);
            let [median, p99, p999] =
                [figures.p50, figures.p99, figures.p999].map(|time| figures.show(time));
            let tails = if row.has_turns() { format!("{p99} | {p999}") } else { " | ".into() };
            let state = show_state(state);
            writeln!(
                text,
                "| {who} | {state} | {count} | {median} | {tails} | {times} | {reach} |"
            )
            .expect("room");
        }
    }
    text + "\n"
}

fn calls(counts: &[(&str, CountCalls)]) -> String {
    let mut text = format!("| {CALLS} | calls | × shmslot | to reach |\n|---|---:|---:|---|\n");
    let counted: Vec<_> = counts.iter().map(|(who, count)| (*who, count())).collect();
    let ours = counted.iter().find(|(who, _)| *who == OURS).and_then(|(_, calls)| *calls);
    for (who, calls) in counted {
        let (Some(calls), Some(ours)) = (calls, ours) else {
            writeln!(text, "| {who} | failed | | |").expect("room");
            continue;
        };
        let reach = match who.starts_with("iceoryx2") {
            true => format!("{CALLS_REACH} ×: {}", verdict(calls / (CALLS_REACH * ours))),
            false => String::new(),
        };
        let ratio = show_ratio(calls / ours);
        writeln!(text, "| {who} | {calls:.2} | {ratio} | {reach} |").expect("room");
    }
    text + "\n"
}
