//! The latencies, for people and for programs.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Bench;
use super::measure::Results;
use crate::units::{bytes, count, nanoseconds};

const QUANTILES: [(f64, &str); 6] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"), (1.0, "max")];

impl Results {
    fn rate(&self) -> f64 {
        self.samples as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

fn setting(bench: &Bench) -> String {
    format!(
        "{}, {}, {}",
        bytes(bench.size.max(1)),
        if bench.wait { "sleeping readers" } else { "polling readers" },
        if bench.many_writers { "many writers" } else { "single writer" },
    )
}

pub(super) fn to_json(bench: &Bench, results: &Results) -> Value {
    let latency = &results.latency;
    let quantiles: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|(quantile, name)| ((*name).to_owned(), json!(latency.value_at_quantile(*quantile))))
        .collect();
    json!({
        "size": bench.size.max(1),
        "waits": bench.wait,
        "single_writer": !bench.many_writers,
        "one_way_ns": {
            "count": latency.len(),
            "min": latency.min(),
            "mean": latency.mean(),
            "quantiles": quantiles,
        },
        "throughput": {
            "samples": results.samples,
            "seconds": results.time.as_secs_f64(),
            "samples_per_second": results.rate(),
            "bytes_per_second": results.rate() * bench.size.max(1) as f64,
        },
    })
}

/// Ranges from the least value to the 99th percentile, by equal factors: their ends, and how many
/// values are in them. What is above is in the last one, which has no end.
fn ranges(latency: &Histogram<u64>) -> Vec<(Option<f64>, u64)> {
    const RANGES: i32 = 19;
    let low = latency.min().max(1) as f64;
    let high = (latency.value_at_quantile(0.99) as f64).max(low * 1.01);
    let factor = (high / low).powf(1.0 / f64::from(RANGES));
    let ends = (1..=RANGES).map(|number| Some(low * factor.powi(number)));
    let mut ranges: Vec<(Option<f64>, u64)> = ends.chain([None]).map(|end| (end, 0)).collect();
    for value in latency.iter_recorded() {
        let at = value.value_iterated_to() as f64;
        // The last range has room for every value.
        if let Some((_, amount)) =
            ranges.iter_mut().find(|(end, _)| end.is_none_or(|end| at <= end))
        {
            *amount += value.count_at_value();
        }
    }
    ranges
}

/// Bars for a terminal of 80 characters.
pub(super) fn text(bench: &Bench, results: &Results) -> String {
    const BAR: u64 = 50;
    let latency = &results.latency;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "one way, {}: {} samples", setting(bench), latency.len());
    let ranges = ranges(latency);
    let most = ranges.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (end, amount) in &ranges {
        let bar = "#".repeat((amount * BAR).div_ceil(most) as usize);
        let end = end.map_or_else(|| "more".into(), |end| format!("<= {}", nanoseconds(end)));
        let _ = writeln!(text, "{end:>12} {bar:<50} {amount}");
    }
    let _ = write!(
        text,
        "  min {}  mean {}",
        nanoseconds(latency.min() as f64),
        nanoseconds(latency.mean())
    );
    for (quantile, name) in QUANTILES {
        let value = latency.value_at_quantile(quantile);
        let _ = write!(text, "  {name} {}", nanoseconds(value as f64));
    }
    let rate = results.rate();
    let _ = writeln!(
        text,
        "\nthroughput: {} samples/s, {}/s",
        count(rate),
        bytes((rate * bench.size.max(1) as f64) as u64)
    );
    text
}

/// The drawing area of the picture.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;

/// The largest number of nines on the axis: the picture ends at 99.999 %.
const NINES: f64 = 5.0;

/// A picture: the latency that a part of the samples does not exceed. Both axes are logarithmic,
/// the lower one in nines, so that the few slowest samples have as much room as the others.
pub(super) fn svg(bench: &Bench, results: &Results) -> String {
    let latency = &results.latency;
    let low = 10_f64.powf((latency.min().max(1) as f64).log10().floor());
    let high = 10_f64.powf((latency.max().max(2) as f64).log10().ceil()).max(low * 10.0);
    let x = |nines: f64| 90.0 + nines / NINES * WIDTH;
    let y = |ns: f64| 50.0 + HEIGHT - (ns / low).log10() / (high / low).log10() * HEIGHT;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 430\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"760\" height=\"430\" fill=\"white\"/>\n",
    );
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"90\" y=\"28\" font-size=\"15\">shmslot, one way: {}</text>",
        setting(bench)
    );
    let mut tick = low;
    while tick <= high * 1.001 {
        let (at, text) = (y(tick), nanoseconds(tick));
        let _ = writeln!(
            svg,
            "<line x1=\"90\" x2=\"730\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"82\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            at + 4.0
        );
        tick *= 10.0;
    }
    for (nines, text) in (0..).zip(["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]) {
        let at = x(f64::from(nines));
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"50\" y2=\"370\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"390\" text-anchor=\"middle\">{text}</text>"
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"410\" y=\"415\" text-anchor=\"middle\">part of {} samples</text>",
        latency.len()
    );
    let steps = 0..=200;
    let points = steps.map(|step| {
        let nines = f64::from(step) / 200.0 * NINES;
        let value = latency.value_at_quantile(1.0 - 10_f64.powf(-nines)).max(1);
        format!("{:.1},{:.1}", x(nines), y(value as f64))
    });
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"#0a6\" stroke-width=\"2\" points=\"{}\"/>\n</svg>",
        points.collect::<Vec<_>>().join(" ")
    );
    svg
}
