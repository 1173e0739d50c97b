//! Rows that are measured in turn, round after round, and their tables.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::clock::{nanoseconds, nanoseconds_per_tick};
use super::place::Place;
use super::process::hop;
use super::state::State;

/// The times of a sample's rounds, in nanoseconds.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub(crate) min: f64,
    /// The middle, see [`middle`].
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// The least that the clock can tell.
    least: f64,
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
        Figures {
            min: at(0.0),
            p50: middle(&ticks) / parts,
            p99: at(0.99),
            p999: at(0.999),
            least: nanoseconds(1) / parts,
            turns,
        }
    }

    /// Of a whole that was timed at once.
    pub(crate) fn one(mean: f64) -> Figures {
        let least = nanoseconds(1);
        Figures { min: mean, p50: mean, p99: mean, p999: mean, least, turns: Vec::new() }
    }

    /// One of these times, or that it is less than the clock can tell.
    pub(crate) fn show(&self, time: f64) -> String {
        let least = self.least.max(SHORTEST);
        if time < least { format!("< {}", show(least)) } else { show(time) }
    }
}

/// The shortest time that [`show`] can print.
const SHORTEST: f64 = 0.1;

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
    /// Whether others took the processors away for a large part of it.
    pub(crate) interrupted: bool,
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
    /// Compared with the row of this name, without a target.
    Beside(String),
}

impl Aim {
    /// The row that it is compared with.
    fn row(&self) -> Option<&str> {
        match self {
            Aim::Row(name, _) | Aim::Above(name, _) | Aim::Beside(name) => Some(name),
            Aim::None | Aim::Nanoseconds(_) | Aim::Limits(_) => None,
        }
    }
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) aim: Aim,
    /// Whether the distance of the processors affects it.
    pub(crate) crosses: bool,
    /// Whether other rows are compared with it, beside those whose aims name it.
    pub(crate) is_base: bool,
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

/// A limit, or another sample that is compared with, is disturbed if it differs by more than this
/// factor from the median of its kind.
const DISTURBED: f64 = 1.5;

/// Fewer samples have no median that could tell which of them was disturbed, and get no ratio.
const FEWEST: usize = 3;

/// How often samples are taken again at most.
pub(crate) const AGAIN: usize = 2;

/// Which of these, which should be equal, are disturbed.
pub(crate) fn disturbed(limits: &[f64]) -> Vec<bool> {
    let usual = median(limits.to_vec());
    let far_off = |limit: &f64| !(usual / DISTURBED..=usual * DISTURBED).contains(limit);
    limits.iter().map(|limit| limits.len() >= FEWEST && far_off(limit)).collect()
}

/// The samples of a row.
pub(crate) struct Measured {
    pub(crate) name: String,
    aim: Aim,
    /// Each with the round it belongs to.
    samples: Vec<(usize, Sample)>,
    /// Samples during which the state changed.
    mixed: usize,
    interrupted: usize,
    /// Samples beside a disturbed limit; or disturbed themselves, if others are compared with them.
    disturbed: usize,
    failed: usize,
    crosses: bool,
    is_base: bool,
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of ratios, if there are enough to trust it.
pub(crate) fn ratio_of(ratios: Vec<f64>) -> Option<f64> {
    (ratios.len() >= FEWEST).then(|| median(ratios))
}

/// The medians of a row's samples in one state, or of all where it does not matter.
pub(crate) struct Summary {
    pub(crate) state: Option<State>,
    pub(crate) count: usize,
    pub(crate) figures: Figures,
    /// The median of the ratios to the limit, each of one sample.
    ratio: Option<f64>,
}

impl Measured {
    fn samples_in(&self, state: Option<State>) -> impl Iterator<Item = &(usize, Sample)> {
        let state = if self.crosses { state } else { None };
        self.samples.iter().filter(move |(_, sample)| sample.state == state)
    }

    fn of(&self, state: Option<State>) -> Option<Summary> {
        let samples: Vec<_> = self.samples_in(state).map(|(_, sample)| sample).collect();
        let first = samples.first()?;
        let median_of =
            |get: fn(&Figures) -> f64| median(samples.iter().map(|s| get(&s.figures)).collect());
        let ratios = samples.iter().filter_map(|s| Some(s.figures.p50 / s.limit?)).collect();
        Some(Summary {
            state,
            count: samples.len(),
            figures: Figures {
                min: median_of(|f| f.min),
                p50: median_of(|f| f.p50),
                p99: median_of(|f| f.p99),
                p999: median_of(|f| f.p999),
                least: first.figures.least,
                turns: Vec::new(),
            },
            ratio: ratio_of(ratios),
        })
    }

    /// Whether single turns were timed, so that there are percentiles.
    pub(crate) fn has_turns(&self) -> bool {
        self.samples.iter().any(|(_, sample)| sample.figures.turns.len() > 1)
    }

    /// Why there is nothing to show.
    pub(crate) fn without_samples(&self) -> &'static str {
        match (self.failed, self.interrupted, self.disturbed) {
            (1.., ..) => "failed",
            (_, 1.., _) => "interrupted",
            (_, _, 1..) => "disturbed",
            _ => "changing",
        }
    }

    /// One for each state that it was seen in.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        match self.crosses {
            true => State::ALL.into_iter().filter_map(|state| self.of(Some(state))).collect(),
            false => self.of(None).into_iter().collect(),
        }
    }

    /// The median of what `compare` makes of this row's and another's figure, each pair of one
    /// round and in one state; rows that stay on one processor have the same in all.
    pub(crate) fn beside(
        &self,
        other: &Measured,
        state: Option<State>,
        compare: impl Fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let pair = |(round, own): &(usize, Sample)| {
            let (_, other) = other.samples_in(state).find(|(same, _)| same == round)?;
            Some(compare(own.figures.p50, other.figures.p50))
        };
        ratio_of(self.samples_in(state).filter_map(pair).collect())
    }

    /// Takes the sample of a round. If the state changes meanwhile, or others take the processors,
    /// takes it again.
    fn take(&mut self, row: &Row, round: usize) {
        for _ in 0..=AGAIN {
            match (row.measure)() {
                None => self.failed += 1,
                Some(sample) if row.crosses && sample.state.is_none() => {
                    self.mixed += 1;
                    continue;
                }
                Some(sample) if sample.interrupted => {
                    self.interrupted += 1;
                    continue;
                }
                Some(sample) => self.samples.push((round, sample)),
            }
            break;
        }
    }

    /// Removes the samples that are disturbed; their rounds.
    fn remove_disturbed(&mut self) -> Vec<usize> {
        let mut rounds = Vec::new();
        for state in [None, Some(State::Near), Some(State::Far), Some(State::Sibling)] {
            let (mut samples, others): (Vec<_>, _) =
                self.samples.drain(..).partition(|(_, sample)| sample.state == state);
            self.samples = others;
            let mut judge = |of: fn(&Sample) -> Option<f64>| {
                let limits: Option<Vec<_>> = samples.iter().map(|(_, s)| of(s)).collect();
                let mut bad = disturbed(&limits.unwrap_or_default()).into_iter();
                samples.retain(|(round, _)| {
                    let stays = !bad.next().unwrap_or(false);
                    if !stays {
                        rounds.push(*round);
                    }
                    stays
                });
            };
            judge(|sample| sample.limit);
            if self.is_base {
                judge(|sample| Some(sample.figures.p50));
            }
            self.samples.append(&mut samples);
        }
        self.disturbed += rounds.len();
        rounds
    }
}

/// Measures the selected rows in turn, round after round.
pub(crate) fn measure(settings: &Settings, rows: Vec<Row>) -> Vec<Measured> {
    let rows: Vec<_> = rows.into_iter().filter(|row| settings.wants(&row.name)).collect();
    let is_named = |name: &str| rows.iter().any(|row| row.aim.row() == Some(name));
    let mut measured: Vec<_> = rows
        .iter()
        .map(|row| Measured {
            name: row.name.clone(),
            aim: row.aim.clone(),
            samples: Vec::new(),
            mixed: 0,
            interrupted: 0,
            disturbed: 0,
            failed: 0,
            crosses: row.crosses,
            is_base: row.is_base || is_named(&row.name),
        })
        .collect();
    for round in 0..settings.rounds {
        for (row, measured) in rows.iter().zip(&mut measured) {
            measured.take(row, round);
        }
    }
    // What is usual is known only now.
    for _ in 0..AGAIN {
        for (row, measured) in rows.iter().zip(&mut measured) {
            for round in measured.remove_disturbed() {
                measured.take(row, round);
            }
        }
    }
    for measured in &mut measured {
        measured.remove_disturbed();
    }
    measured
}

/// Whether a target was reached, by the target divided by the figure.
pub(crate) fn verdict(reach: f64) -> String {
    format!("{} {}", show_ratio(reach), if reach >= 1.0 { "reached" } else { "**missed**" })
}

/// A table of system calls for each sample: names, targets, and counts if they did not fail.
pub(crate) fn calls_table(rows: &[(&str, f64, Option<f64>)]) -> String {
    let mut text =
        String::from("| system calls for each sample | calls | to reach |\n|---|---:|---|\n");
    for &(name, aim, calls) in rows {
        let Some(calls) = calls else {
            writeln!(text, "| {name} | failed | {aim} |").expect("room");
            continue;
        };
        let reach = match (aim == 0.0, calls == 0.0) {
            (true, true) => "reached".into(),
            (true, false) => "**missed**".into(),
            _ => verdict(aim / calls),
        };
        writeln!(text, "| {name} | {calls:.2} | {aim}: {reach} |").expect("room");
    }
    text + "\n"
}

/// A row's ratio to what it is compared with, its target, and how far that is reached.
fn aim_cells(measured: &Measured, all: &[Measured], summary: &Summary) -> [String; 3] {
    let figure = summary.figures.p50;
    let beside = |name: &str, compare: &dyn Fn(f64, f64) -> f64| {
        let other = all.iter().find(|row| row.name == name)?;
        measured.beside(other, summary.state, compare)
    };
    let times = |name: &str| beside(name, &|own, other| own / other);
    let (ratio, aim, reach) = match &measured.aim {
        Aim::None => (summary.ratio, String::new(), None),
        Aim::Nanoseconds(most) => (summary.ratio, show(*most), Some(most / figure)),
        Aim::Limits(most) => {
            (summary.ratio, format!("{most} × limit"), summary.ratio.map(|ratio| most / ratio))
        }
        Aim::Row(name, most) => {
            let ratio = times(name);
            (ratio, format!("{most} × {name}"), ratio.map(|ratio| most / ratio))
        }
        Aim::Above(name, most) => {
            let reach = beside(name, &|own, other| (other + most) / own);
            (times(name), format!("{name} + {most} ns"), reach)
        }
        Aim::Beside(name) => (times(name), format!("beside {name}"), None),
    };
    [ratio.map_or(String::new(), show_ratio), aim, reach.map_or(String::new(), verdict)]
}

/// Measures the selected rows, prints them as a table, and keeps their figures for the plots.
pub(crate) fn run(
    settings: &Settings,
    place: &'static Place,
    title: &str,
    file: &str,
    rows: Vec<Row>,
) {
    if !rows.iter().any(|row| settings.wants(&row.name)) {
        return;
    }
    let began = Surroundings::now(place);
    let measured = measure(settings, rows);
    let text = table(title, &measured) + &began.until_now();
    print!("{text}");
    keep(settings, file, &text);
    keep_figures(settings, file, &measured);
}

/// Stores a text of tables, if this was requested.
pub(crate) fn keep(settings: &Settings, file: &str, text: &str) {
    if let Some(out) = &settings.out {
        fs::create_dir_all(out).expect("a directory for the tables");
        fs::write(out.join(format!("{file}.md")), text).expect("a table");
    }
}

/// Stores the figures behind a table, for the plots, if this was requested.
pub(crate) fn keep_figures(settings: &Settings, file: &str, measured: &[Measured]) {
    if let Some(out) = &settings.out {
        fs::create_dir_all(out).expect("a directory for the figures");
        fs::write(out.join(format!("{file}.tsv")), figures(measured)).expect("figures");
        fs::write(out.join(format!("{file}.histogram.tsv")), histograms(measured))
            .expect("histograms");
    }
}

fn table(title: &str, measured: &[Measured]) -> String {
    let mut text =
        format!("| {title} | state | n | middle | p99 | p99.9 | min | ratio | aim | reach |\n");
    text += "|---|---|---:|---:|---:|---:|---:|---:|---|---|\n";
    for row in measured {
        let summaries = row.summaries();
        if summaries.is_empty() {
            let why = row.without_samples();
            writeln!(text, "| {} | {why} | 0 | | | | | | | |", row.name).expect("room");
        }
        for summary in summaries {
            let state = show_state(summary.state);
            let figures = &summary.figures;
            let tails = match row.has_turns() {
                true => [figures.p99, figures.p999, figures.min].map(|time| figures.show(time)),
                false => Default::default(),
            };
            let (count, middle) = (summary.count, figures.show(figures.p50));
            let (name, [ratio, aim, reach]) = (&row.name, aim_cells(row, measured, &summary));
            let tails = tails.join(" | ");
            writeln!(
                text,
                "| {name} | {state} | {count} | {middle} | {tails} | {ratio} | {aim} | {reach} |"
            )
            .expect("room");
        }
    }
    text + "\n" + &left_out(measured)
}

/// The cell of a state.
pub(crate) fn show_state(state: Option<State>) -> String {
    state.map_or_else(|| "one processor".into(), |state| state.to_string())
}

/// How many samples are in no table.
pub(crate) fn left_out(measured: &[Measured]) -> String {
    let total = |of: fn(&Measured) -> usize| measured.iter().map(of).sum::<usize>();
    format!(
        "Taken again, at most {AGAIN} times, or left out: {} whose state changed, {} interrupted by \
         other processes, {} beside a disturbed limit. Failed: {}.\n\n",
        total(|row| row.mixed),
        total(|row| row.interrupted),
        total(|row| row.disturbed),
        total(|row| row.failed)
    )
}

fn figures(measured: &[Measured]) -> String {
    let mut text = String::from("row\tstate\tsamples\tp50_ns\tp99_ns\tp999_ns\tmin_ns\tratio\n");
    for row in measured {
        for Summary { state, count, figures, ratio } in row.summaries() {
            let state = state.map_or(String::new(), |state| state.to_string());
            let ratio = ratio.unwrap_or(f64::NAN);
            // Less than the clock can tell is no figure.
            let [p50, p99, p999, min] = [figures.p50, figures.p99, figures.p999, figures.min]
                .map(|time| time.max(figures.least));
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
            for (_, sample) in row.samples.iter().filter(|(_, s)| s.state == Some(state)) {
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

pub(crate) fn show_ratio(ratio: f64) -> String {
    match ratio {
        ..0.005 => "< 0.01".into(),
        100.0.. => format!("{ratio:.0}"),
        _ => format!("{ratio:.2}"),
    }
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
    Row { name: name.into(), aim, crosses: true, is_base: false, measure: Box::new(measure) }
}

/// A row of one thread.
pub(crate) fn staying(
    name: impl Into<String>,
    aim: Aim,
    measure: impl Fn() -> Option<Sample> + 'static,
) -> Row {
    Row { name: name.into(), aim, crosses: false, is_base: false, measure: Box::new(measure) }
}

/// What is said of the machine below each table: what it is, and how busy and in which state it was
/// before and after.
pub(crate) struct Surroundings {
    place: &'static Place,
    load: String,
    state: State,
}

impl Surroundings {
    pub(crate) fn now(place: &'static Place) -> Surroundings {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().into();
        Surroundings { place, load, state: State::of_hop(hop(place)) }
    }

    /// The line below a table that was begun then.
    pub(crate) fn until_now(&self) -> String {
        let now = Surroundings::now(self.place);
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let models: Vec<_> =
            cpu.lines().filter_map(|line| line.strip_prefix("model name")).collect();
        let model = models.first().copied().unwrap_or("unknown");
        format!(
            "{} × {}, Linux {}; load {} before and {} after; the processors were {} before and {} \
             after.\n\n",
            models.len(),
            model.trim_start_matches(['\t', ' ', ':']),
            read("/proc/sys/kernel/osrelease").trim(),
            self.load,
            now.load,
            self.state,
            now.state
        )
    }
}

/// Where children leave their figures; one for the whole run.
pub(crate) fn place() -> &'static Place {
    nanoseconds_per_tick();
    Place::new()
}
