//! Rows that are measured in turn, round after round, and their tables.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::clock::{nanoseconds, nanoseconds_per_tick};
use super::place::Place;
use super::state::State;

/// The times of a sample's rounds, in nanoseconds.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub(crate) min: f64,
    /// The middle, see [`middle`].
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Every round, for the histograms; empty if only the whole was timed.
    turns: Vec<f32>,
}

impl Figures {
    /// Of the ticks of turns of which each counts for `parts`.
    pub(crate) fn of_turns(mut ticks: Vec<u32>, parts: f64) -> Figures {
        assert!(!ticks.is_empty(), "nothing was measured");
        ticks.sort_unstable();
        let at = |share: f64| {
            let index = (ticks.len() as f64 * share) as usize;
            nanoseconds(u64::from(ticks[index.min(ticks.len() - 1)])) / parts
        };
        let turns =
            ticks.iter().map(|&turn| (nanoseconds(u64::from(turn)) / parts) as f32).collect();
        Figures { min: at(0.0), p50: middle(&ticks) / parts, p99: at(0.99), p999: at(0.999), turns }
    }

    /// Of a whole that was timed at once.
    pub(crate) fn one(mean: f64) -> Figures {
        Figures { min: mean, p50: mean, p99: mean, p999: mean, turns: Vec::new() }
    }
}

/// The mean of the middle half of sorted ticks, in nanoseconds: a median that is finer than a tick,
/// which may be as long as 10 ns.
pub(crate) fn middle(sorted: &[u32]) -> f64 {
    let quarter = sorted.len() / 4;
    let half = &sorted[quarter..sorted.len() - quarter];
    let sum: u64 = half.iter().map(|&ticks| u64::from(ticks)).sum();
    sum as f64 / half.len() as f64 * nanoseconds_per_tick()
}

#[derive(Clone)]
pub(crate) struct Sample {
    /// None if it changed during the sample, or does not matter.
    pub(crate) state: Option<State>,
    pub(crate) figures: Figures,
    /// The raw limit, measured right before or after.
    pub(crate) limit: Option<f64>,
}

/// A target.
#[derive(Clone)]
pub(crate) enum Aim {
    None,
    /// At most so many nanoseconds.
    Nanoseconds(f64),
    /// At most so many times the limit.
    Limits(f64),
    /// At most so many times the row of this name.
    Row(String, f64),
    /// At most so many nanoseconds more than the row of this name.
    Above(String, f64),
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) aim: Aim,
    /// Whether the distance of the processors affects it.
    pub(crate) crosses: bool,
    pub(crate) measure: Box<dyn Fn() -> Option<Sample>>,
}

/// What was asked for on the command line.
pub(crate) struct Settings {
    /// Only rows with these words in their names.
    wanted: String,
    /// Where tables are written for the plots.
    out: Option<PathBuf>,
    pub(crate) rounds: usize,
    /// How long one sample of a busy row takes.
    pub(crate) time: Duration,
    pub(crate) quick: bool,
}

impl Settings {
    /// `[WORDS] [--quick] [--out DIRECTORY]`; under `cargo test`, which has no `--bench`, only
    /// shows that it runs.
    pub(crate) fn from_args(measured: bool) -> Settings {
        let (mut wanted, mut out, mut quick) = (String::new(), None, false);
        let mut args = std::env::args().skip(1);
        let mut measured = measured;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => quick = true,
                "--out" => out = args.next().map(PathBuf::from),
                "--bench" => measured = true,
                _ if arg.starts_with('-') => {}
                _ => wanted = arg,
            }
        }
        let (rounds, milliseconds) = match (measured, quick) {
            (false, _) => (1, 1),
            (true, true) => (3, 8),
            (true, false) => (9, 20),
        };
        let time = Duration::from_millis(milliseconds);
        Settings { wanted, out, rounds, time, quick: quick || !measured }
    }

    /// Whether rows of this name were asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.wanted)
    }
}

/// The samples of a row.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) aim: Aim,
    pub(crate) samples: Vec<Sample>,
    /// Samples during which the state changed.
    pub(crate) mixed: usize,
    pub(crate) failed: usize,
    crosses: bool,
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The medians of a row's samples in one state, or of all where it does not matter.
pub(crate) struct Summary {
    pub(crate) state: Option<State>,
    pub(crate) count: usize,
    pub(crate) figures: Figures,
    /// The median of the ratios to the limit, each of one sample.
    pub(crate) ratio: Option<f64>,
}

impl Measured {
    fn of(&self, state: Option<State>) -> Option<Summary> {
        let samples: Vec<_> = self.samples.iter().filter(|sample| sample.state == state).collect();
        if samples.is_empty() {
            return None;
        }
        let median_of =
            |get: fn(&Figures) -> f64| median(samples.iter().map(|s| get(&s.figures)).collect());
        let ratios: Vec<_> =
            samples.iter().filter_map(|s| s.limit.map(|limit| s.figures.p50 / limit)).collect();
        Some(Summary {
            state,
            count: samples.len(),
            figures: Figures {
                min: median_of(|f| f.min),
                p50: median_of(|f| f.p50),
                p99: median_of(|f| f.p99),
                p999: median_of(|f| f.p999),
                turns: Vec::new(),
            },
            ratio: (!ratios.is_empty()).then(|| median(ratios)),
        })
    }

    /// Whether single turns were timed, so that there are percentiles.
    pub(crate) fn has_turns(&self) -> bool {
        self.samples.iter().any(|sample| sample.figures.turns.len() > 1)
    }

    /// Why there is nothing to show.
    pub(crate) fn without_samples(&self) -> &'static str {
        if self.failed > 0 { "failed" } else { "changing" }
    }

    /// One for each state that it was seen in.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        match self.crosses {
            true => State::ALL.into_iter().filter_map(|state| self.of(Some(state))).collect(),
            false => self.of(None).into_iter().collect(),
        }
    }

    /// The median in one state; rows that stay on one processor have the same in all.
    pub(crate) fn p50(&self, state: Option<State>) -> Option<f64> {
        self.of(if self.crosses { state } else { None }).map(|summary| summary.figures.p50)
    }
}

/// Measures the selected rows in turn, round after round. A sample whose state changes is measured
/// again, at most twice.
pub(crate) fn measure(settings: &Settings, rows: Vec<Row>) -> Vec<Measured> {
    let rows: Vec<_> = rows.into_iter().filter(|row| settings.wants(&row.name)).collect();
    let mut measured: Vec<_> = rows
        .iter()
        .map(|row| Measured {
            name: row.name.clone(),
            aim: row.aim.clone(),
            samples: Vec::new(),
            mixed: 0,
            failed: 0,
            crosses: row.crosses,
        })
        .collect();
    for _ in 0..settings.rounds {
        for (row, measured) in rows.iter().zip(&mut measured) {
            for _ in 0..3 {
                match (row.measure)() {
                    None => measured.failed += 1,
                    Some(sample) if row.crosses && sample.state.is_none() => {
                        measured.mixed += 1;
                        continue;
                    }
                    Some(sample) => measured.samples.push(sample),
                }
                break;
            }
        }
    }
    measured
}

/// Whether a target was reached, and by how much: above 1 it was.
pub(crate) fn verdict(aim: f64, figure: f64) -> String {
    let reach = aim / figure;
    format!("{reach:.2} {}", if reach >= 1.0 { "reached" } else { "**missed**" })
}

fn aim_cells(measured: &Measured, all: &[Measured], summary: &Summary) -> [String; 2] {
    let other = |name: &String| {
        all.iter().find(|row| row.name == *name).and_then(|row| row.p50(summary.state))
    };
    match &measured.aim {
        Aim::None => [String::new(), String::new()],
        Aim::Nanoseconds(most) => [show(*most), verdict(*most, summary.figures.p50)],
        Aim::Limits(most) => {
            let reach = summary.ratio.map_or(String::new(), |ratio| verdict(*most, ratio));
            [format!("{most} × limit"), reach]
        }
        Aim::Row(name, most) => {
            let reach = other(name)
                .map_or(String::new(), |other| verdict(most * other, summary.figures.p50));
            [format!("{most} × {name}"), reach]
        }
        Aim::Above(name, most) => {
            let reach = other(name)
                .map_or(String::new(), |other| verdict(most + other, summary.figures.p50));
            [format!("{name} + {most} ns"), reach]
        }
    }
}

/// Prints the rows as a table, and keeps their figures for the plots.
pub(crate) fn print(settings: &Settings, title: &str, file: &str, measured: &[Measured]) {
    if measured.is_empty() {
        return;
    }
    let text = table(title, measured);
    print!("{text}");
    keep(settings, file, &text, measured);
}

/// Stores a table, and the figures behind it for the plots, if this was requested.
pub(crate) fn keep(settings: &Settings, file: &str, text: &str, measured: &[Measured]) {
    if let Some(out) = &settings.out {
        fs::create_dir_all(out).expect("a directory for the tables");
        fs::write(out.join(format!("{file}.md")), text).expect("a table");
        fs::write(out.join(format!("{file}.tsv")), figures(measured)).expect("figures");
        fs::write(out.join(format!("{file}.histogram.tsv")), histograms(measured))
            .expect("histograms");
    }
}

fn table(title: &str, measured: &[Measured]) -> String {
    let mut text = format!(
        "| {title} | state | samples | middle | p99 | p99.9 | min | × limit | aim | reach |\n"
    );
    text += "|---|---|---:|---:|---:|---:|---:|---:|---|---|\n";
    for row in measured {
        let summaries = row.summaries();
        if summaries.is_empty() {
            let why = row.without_samples();
            writeln!(text, "| {} | {why} | 0 | | | | | | | |", row.name).expect("room");
        }
        for summary in summaries {
            let state = summary.state.map_or(String::new(), |state| state.to_string());
            let tails = match row.has_turns() {
                true => [summary.figures.p99, summary.figures.p999, summary.figures.min].map(show),
                false => Default::default(),
            };
            let ratio = summary.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let count = summary.count;
            let median = show(summary.figures.p50);
            let (name, [aim, reach]) = (&row.name, aim_cells(row, measured, &summary));
            let tails = tails.join(" | ");
            writeln!(
                text,
                "| {name} | {state} | {count} | {median} | {tails} | {ratio} | {aim} | {reach} |"
            )
            .expect("room");
        }
    }
    text + "\n" + &left_out(measured)
}

/// How many samples are in no table.
pub(crate) fn left_out(measured: &[Measured]) -> String {
    let total = |of: fn(&Measured) -> usize| measured.iter().map(of).sum::<usize>();
    let (mixed, failed) = (total(|row| row.mixed), total(|row| row.failed));
    format!("Samples left out: {mixed} whose state changed, {failed} that failed.\n\n")
}

fn figures(measured: &[Measured]) -> String {
    let mut text = String::from("row\tstate\tsamples\tp50_ns\tp99_ns\tp999_ns\tmin_ns\tratio\n");
    for row in measured {
        for Summary { state, count, figures, ratio } in row.summaries() {
            let state = state.map_or(String::new(), |state| state.to_string());
            let ratio = ratio.unwrap_or(f64::NAN);
            let Figures { p50, p99, p999, min, .. } = figures;
            let name = &row.name;
            writeln!(
                text,
                "{name}\t{state}\t{count}\t{p50:.2}\t{p99:.2}\t{p999:.2}\t{min:.2}\t{ratio:.3}"
            )
            .expect("room");
        }
    }
    text
}

/// Turns of each row and state in buckets of which twenty are a factor of ten.
fn histograms(measured: &[Measured]) -> String {
    let mut text = String::from("row\tstate\tfrom_ns\tturns\n");
    for row in measured {
        for state in State::ALL {
            let mut buckets = std::collections::BTreeMap::<i32, u64>::new();
            for sample in row.samples.iter().filter(|sample| sample.state == Some(state)) {
                for &turn in &sample.figures.turns {
                    *buckets
                        .entry((f64::from(turn.max(1.0)).log10() * 20.0).floor() as i32)
                        .or_default() += 1;
                }
            }
            for (bucket, turns) in buckets {
                let from = 10_f64.powf(f64::from(bucket) / 20.0);
                writeln!(text, "{}\t{state}\t{from:.2}\t{turns}", row.name).expect("room");
            }
        }
    }
    text
}

pub(crate) fn show(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1e3 => format!("{nanoseconds:.1} ns"),
        ..1e6 => format!("{:.2} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    }
}

/// A row whose figure has the distance of the processors in it.
pub(crate) fn crossing(
    name: impl Into<String>,
    aim: Aim,
    measure: impl Fn() -> Option<Sample> + 'static,
) -> Row {
    Row { name: name.into(), aim, crosses: true, measure: Box::new(measure) }
}

/// A row of one thread.
pub(crate) fn staying(
    name: impl Into<String>,
    aim: Aim,
    measure: impl Fn() -> Option<Sample> + 'static,
) -> Row {
    Row { name: name.into(), aim, crosses: false, measure: Box::new(measure) }
}

/// The state of the machine during the measurement.
pub(crate) fn surroundings() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let load = read("/proc/loadavg");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "Processor{}, Linux {}, load average {}.",
        model.trim_start_matches(['\t', ' ']),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

/// Where children leave their figures; one for the whole run.
pub(crate) fn place() -> &'static Place {
    nanoseconds_per_tick();
    Place::new()
}
