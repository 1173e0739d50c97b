//! OpenMetrics 1.0 text: families of samples with labels, each family in one piece.

use std::fmt::Write as _;

use shmslot::layout::LAYOUT_VERSION;

use crate::look::{Look, id, kind, policy, type_name};

struct Family {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    help: &'static str,
    lines: String,
}

impl Family {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Family {
        Family { name, kind, unit: "", help, lines: String::new() }
    }

    fn gauge(name: &'static str, help: &'static str) -> Family {
        Family::new(name, "gauge", help)
    }

    fn counter(name: &'static str, help: &'static str) -> Family {
        Family::new(name, "counter", help)
    }

    /// The name ends with the unit.
    fn in_unit(self, unit: &'static str) -> Family {
        Family { unit, ..self }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let suffix = match self.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<String> =
            labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "{}{suffix}{{{}}} {value}", self.name, labels.join(","));
    }

    fn write(&self, to: &mut String) {
        let _ = writeln!(to, "# TYPE {} {}", self.name, self.kind);
        if !self.unit.is_empty() {
            let _ = writeln!(to, "# UNIT {} {}", self.name, self.unit);
        }
        let _ = writeln!(to, "# HELP {} {}", self.name, self.help);
        to.push_str(&self.lines);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All metrics of these segments.
pub(super) fn of(looks: &[Look]) -> String {
    let mut text = String::new();
    for family in segments(looks).iter().chain(&readers(looks)) {
        family.write(&mut text);
    }
    text.push_str("# EOF\n");
    text
}

fn segments(looks: &[Look]) -> [Family; 10] {
    let mut info = Family::new("shmslot_segment", "info", "What was decided at creation.");
    let mut samples = Family::counter("shmslot_samples", "Samples committed since the creation.");
    let mut slots = Family::gauge("shmslot_slots", "Slots, by what they are used for.");
    let mut size =
        Family::gauge("shmslot_segment_size_bytes", "Bytes of the whole segment.").in_unit("bytes");
    let mut regions = Family::gauge("shmslot_regions", "Regions that large payloads use.");
    let mut memory =
        Family::gauge("shmslot_regions_memory_bytes", "Memory of all regions.").in_unit("bytes");
    let mut participants = Family::gauge("shmslot_participants", "Attached processes.");
    let mut writers = Family::gauge("shmslot_writers", "Open writers.");
    let mut joined = Family::gauge("shmslot_readers", "Joined readers.");
    let mut recovered =
        Family::counter("shmslot_recoveries", "Dead processes that were recovered.");
    for look in looks {
        let (geometry, counters) = (&look.info.geometry, &look.counters);
        let segment = [("segment", &*look.name)];
        let with = |name: &'static str, text: &'static str| [segment[0], (name, text)];
        info.add(
            &[
                segment[0],
                ("id", &id(geometry.segment_id)),
                ("type", &type_name(geometry)),
                ("policy", policy(geometry.policy)),
                ("layout", &LAYOUT_VERSION.to_string()),
            ],
            1,
        );
        samples.add(&segment, counters.next_sequence.saturating_sub(1));
        let states = [
            ("free", counters.free),
            ("loaned", counters.loaned),
            ("unread", counters.unread),
            ("held", counters.held),
            ("retained", counters.retained),
        ];
        for (state, count) in states {
            slots.add(&with("state", state), count);
        }
        size.add(&segment, look.info.total_size);
        regions.add(&segment, counters.regions);
        memory.add(&segment, counters.region_bytes);
        let alive = counters.participants.saturating_sub(counters.dead);
        participants.add(&with("state", "alive"), alive);
        participants.add(&with("state", "dead"), counters.dead);
        writers.add(&segment, counters.writers);
        joined.add(&segment, counters.readers);
        recovered.add(&segment, counters.recovered);
    }
    [info, samples, slots, size, regions, memory, participants, writers, joined, recovered]
}

fn readers(looks: &[Look]) -> [Family; 5] {
    let mut lag = Family::gauge("shmslot_reader_lag_samples", "Samples to the newest one.")
        .in_unit("samples");
    let mut unread =
        Family::gauge("shmslot_reader_unread_samples", "Samples not read yet.").in_unit("samples");
    let mut held = Family::gauge("shmslot_reader_held_samples", "Samples read and not marked.")
        .in_unit("samples");
    let mut age = Family::gauge(
        "shmslot_reader_oldest_held_age_seconds",
        "Time since the commit of the oldest sample that it holds, where times are kept.",
    )
    .in_unit("seconds");
    let mut lost = Family::counter("shmslot_reader_lost_samples", "Samples it found to be lost.")
        .in_unit("samples");
    for look in looks {
        for reader in &look.readers {
            let (index, pid) = (reader.index.to_string(), reader.pid.to_string());
            let command = look.command_of(reader.pid).unwrap_or_default();
            let labels = [
                ("segment", &*look.name),
                ("reader", &*index),
                ("pid", &*pid),
                ("comm", &*command),
                ("state", if reader.alive { kind(reader.kind) } else { "dead" }),
            ];
            lag.add(&labels, reader.lag);
            unread.add(&labels, reader.unread);
            held.add(&labels, reader.held);
            if let Some(ns) = look.age_of_oldest(reader) {
                age.add(&labels, format_args!("{:.9}", ns as f64 / 1e9));
            }
            lost.add(&labels, reader.lost);
        }
    }
    [lag, unread, held, age, lost]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_counters_end_with_total() {
        let mut family = Family::counter("a", "What it is.");
        family.add(&[("b", "c\"\\\n")], 7);
        let mut text = String::new();
        family.write(&mut text);
        let expected = "# TYPE a counter\n# HELP a What it is.\na_total{b=\"c\\\"\\\\\\n\"} 7\n";
        assert_eq!(text, expected);
    }
}
