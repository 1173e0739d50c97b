//! Segments as lines: each with its readers, its writers that have loans, and its dead processes
//! below it.

use shmslot::ReaderCounters;

use super::model::{Model, Seen};
use crate::look::{Look, kind};
use crate::units::{count, nanoseconds};

/// The columns fit a terminal of this width; a wider one has more room for names.
pub(super) const WIDTH: usize = 80;

/// Titles and widths of the columns after the first, each with the gap before it.
const COLUMNS: [(&str, usize); 8] = [
    ("RATE/s", 7),
    ("FREE", 6),
    ("LOAN", 6),
    ("UNREAD", 7),
    ("HELD", 6),
    ("OLDEST", 8),
    ("LAG", 6),
    ("LOST", 6),
];

/// What a line is about, which decides how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Segment,
    Child,
    /// Something is wrong there.
    Trouble,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) about: About,
    name: String,
    cells: [String; 8],
}

impl Row {
    /// The line, in so many characters.
    pub(super) fn line(&self, width: usize) -> String {
        let cells: Vec<&str> = self.cells.iter().map(String::as_str).collect();
        line(&self.name, &cells, width)
    }
}

fn line(name: &str, cells: &[&str], width: usize) -> String {
    let room = width.saturating_sub(COLUMNS.iter().map(|(_, width)| width).sum());
    let mut name: Vec<char> = name.chars().collect();
    if name.len() > room {
        let keep = room.saturating_sub(1);
        name.truncate(keep);
        name.push('~');
    }
    let mut text: String = name.into_iter().take(room).collect();
    text += &" ".repeat(room - text.chars().count());
    for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
        text += &format!("{cell:>width$}");
    }
    text.chars().take(width).collect()
}

/// The line with the titles.
pub(super) fn heads(width: usize) -> String {
    line("SEGMENT", &COLUMNS.map(|(title, _)| title), width)
}

/// The line above the table.
pub(super) fn title(model: &Model) -> String {
    format!(
        "{} segments, {} samples/s, {} dead processes",
        model.segments.len(),
        count(model.rate()),
        model.dead(),
    )
}

/// The lines of the segments that are wanted; without the readers, writers and processes, if it is
/// to be short.
pub(super) fn of(model: &Model, children: bool, wanted: impl Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for seen in model.segments.iter().filter(|seen| wanted(&seen.look.name)) {
        rows.push(segment(seen));
        if children {
            let look = &seen.look;
            rows.extend(look.readers.iter().map(|one| reader(look, one)));
            rows.extend(look.writers.iter().map(|one| {
                let mut row = child(look, &format!("writer {}", one.id), one.pid, one.alive);
                row.cells[2] = number(one.loans.into());
                row
            }));
            let dead = look.participants.iter().filter(|one| !one.alive);
            rows.extend(dead.map(|one| child(look, "process", one.pid, false)));
        }
    }
    rows
}

/// A number that fits its column.
fn number(number: u64) -> String {
    if number < 10_000 { number.to_string() } else { count(number as f64) }
}

fn segment(seen: &Seen) -> Row {
    let (counters, readers) = (&seen.look.counters, &seen.look.readers);
    let lag = readers.iter().map(|one| one.lag).max();
    let lost: u64 = readers.iter().map(|one| one.lost).sum();
    let is_troubled = counters.dead > 0 || counters.retired || counters.free == 0;
    Row {
        about: if is_troubled { About::Trouble } else { About::Segment },
        name: seen.look.name.clone(),
        cells: [
            seen.rate.map_or_else(|| "-".into(), count),
            number(counters.free.into()),
            number(counters.loaned.into()),
            number(counters.unread.into()),
            number(counters.held.into()),
            String::new(),
            lag.map_or_else(String::new, number),
            number(lost),
        ],
    }
}

fn reader(look: &Look, one: &ReaderCounters) -> Row {
    let title = match kind(one.kind) {
        "joined" => format!("reader {}", one.index),
        kind => format!("reader {} {kind}", one.index),
    };
    let mut row = child(look, &title, one.pid, one.alive);
    let oldest = match look.age_of_oldest(one) {
        _ if one.held == 0 => String::new(),
        Some(ns) => nanoseconds(ns as f64).replace(' ', ""),
        // Without times, how many samples ago it was committed.
        None => {
            format!("-{}", number(look.counters.next_sequence.saturating_sub(one.oldest_held)))
        }
    };
    row.cells[3] = number(one.unread.into());
    row.cells[4] = number(one.held.into());
    row.cells[5] = oldest;
    row.cells[6] = number(one.lag);
    row.cells[7] = number(one.lost);
    row
}

fn child(look: &Look, title: &str, pid: u32, alive: bool) -> Row {
    let who = match look.command_of(pid) {
        _ if !alive => " dead".to_owned(),
        Some(command) => format!(" {command}"),
        None => String::new(),
    };
    Row {
        about: if alive { About::Child } else { About::Trouble },
        name: format!("  {title} {pid}{who}"),
        cells: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fill_the_width_whatever_stands_in_them() {
        for width in [0, 10, 80, 200] {
            for name in ["", "camera", &"x".repeat(300)] {
                assert_eq!(line(name, &["1"; 8], width).chars().count(), width, "{width}");
            }
        }
        assert!(line(&"x".repeat(30), &["1"; 8], WIDTH).contains("x~ "));
        assert!(heads(WIDTH).ends_with("   LAG  LOST"));
    }
}
