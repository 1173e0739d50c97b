//! Draws what the benchmarks have left in a directory: histograms of one-way latency, and cost
//! against numbers.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

/// Points of a line, by its name.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

const SIZE: (u32, u32) = (960, 540);

/// Rows of a file of figures, by the names of its first line. No file, no rows.
fn read(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().map(|line| line.split('\t'));
    let Some(names) = lines.next() else { return Vec::new() };
    let names: Vec<_> = names.collect();
    lines
        .map(|cells| {
            names.iter().map(|name| name.to_string()).zip(cells.map(String::from)).collect()
        })
        .collect()
}

fn number(row: &BTreeMap<String, String>, name: &str) -> f64 {
    row[name].parse().expect("a number")
}

/// The range of values above 0, with some room.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) =
        values.fold((f64::MAX, 0.0), |(least, most), value| (value.min(least), value.max(most)));
    least / 1.2..most * 1.5
}

/// One plot; both axes are logarithmic.
fn plot(path: &Path, title: &str, [x, y]: [&str; 2], lines: &Lines) -> Result<(), Box<dyn Error>> {
    let points = || lines.values().flatten();
    if points().next().is_none() {
        return Ok(());
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            range(points().map(|point| point.0)).log_scale(),
            range(points().map(|point| point.1)).log_scale(),
        )?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(2),
            )?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

/// The number before a word in a row's name: `63` of `..., 63 readers ...`.
fn number_before(name: &str, word: &str) -> Option<f64> {
    let words: Vec<_> = name.split([' ', ',']).collect();
    let at = words.iter().position(|other| *other == word)?;
    words[at.checked_sub(1)?].parse().ok()
}

/// Medians of the rows whose names begin like this, against the number before a word; a line for
/// what else is in the name.
fn against(directory: &Path, begin: &str, word: &str) -> Lines {
    let mut lines = Lines::new();
    for row in read(&directory.join("one_thread.tsv")) {
        let name = &row["row"];
        if let Some(at) = number_before(name, word)
            && name.starts_with(begin)
        {
            let line = name.replace(&format!("{at} {word}"), word);
            // A logarithm has no place for nobody.
            lines.entry(line).or_default().push((at.max(0.5), number(&row, "p50_ns")));
        }
    }
    lines
}

/// How many of a thousand turns took how long, for each payload size and state; ours alone or
/// beside the others.
fn histograms(directory: &Path) -> BTreeMap<String, Lines> {
    let mut plots = BTreeMap::<String, Lines>::new();
    for row in read(&directory.join("peers.histogram.tsv")) {
        let Some((work, who)) = row["row"].split_once(": ") else { continue };
        let Some(size) =
            work.strip_prefix("one way, ").and_then(|rest| rest.strip_suffix(", written and read"))
        else {
            continue;
        };
        let plot = plots.entry(format!("{size}, {}", row["state"])).or_default();
        plot.entry(who.into()).or_default().push((number(&row, "from_ns"), number(&row, "turns")));
    }
    for line in plots.values_mut().flat_map(BTreeMap::values_mut) {
        let total: f64 = line.iter().map(|point| point.1).sum();
        line.iter_mut().for_each(|point| point.1 *= 1000.0 / total);
    }
    plots
}

fn draw_all(directory: &Path) -> Result<(), Box<dyn Error>> {
    for (name, lines) in histograms(directory) {
        let file = format!("latency-{}.svg", name.replace(", ", "-").replace(' ', ""));
        let title = format!("One way, {name}, every byte written and read");
        plot(&directory.join(file), &title, ["nanoseconds", "turns of a thousand"], &lines)?;
    }
    let slots = against(directory, "reserve", "slots");
    for mode in ["single writer", "many writers"] {
        let lines: Lines = slots
            .iter()
            .filter(|(name, _)| name.contains(mode))
            .map(|(name, line)| (name.clone(), line.clone()))
            .collect();
        let whole = |name: &str| {
            name.starts_with("reserve + commit + read") || name.starts_with("reserve that")
        };
        let lines = lines.into_iter().filter(|(name, _)| whole(name)).collect();
        let path = directory.join(format!("slots-{}.svg", mode.replace(' ', "-")));
        plot(
            &path,
            &format!("Cost against the number of slots, {mode}"),
            ["slots", "nanoseconds"],
            &lines,
        )?;
    }
    let readers = against(directory, "reserve + commit", "readers");
    let labels = ["readers (none at 0.5)", "nanoseconds"];
    plot(
        &directory.join("readers.svg"),
        "Reserve and commit against the number of readers",
        labels,
        &readers,
    )
}

/// Draws what can be drawn; panics if the directory cannot be written to.
pub(crate) fn draw(directory: &Path) {
    draw_all(directory).expect("plots are written");
}
