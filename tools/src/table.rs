//! Columns that are as wide as what stands in them.

use std::io::{self, Write};

/// A column: its title, and whether its cells stand at its right end, as numbers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
}

pub(crate) const fn text(title: &'static str) -> Column {
    Column { title, right: false }
}

pub(crate) const fn number(title: &'static str) -> Column {
    Column { title, right: true }
}

/// Lines of cells under titles.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [Column; COLUMNS],
    lines: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(columns: [Column; COLUMNS]) -> Table<COLUMNS> {
        Table { columns, lines: Vec::new() }
    }

    pub(crate) fn push(&mut self, line: [String; COLUMNS]) {
        self.lines.push(line);
    }

    /// The titles and all lines, each with `indent` before it; nothing if there is no line.
    pub(crate) fn print(&self, to: &mut impl Write, indent: &str) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let titles = self.columns.map(|column| column.title.to_owned());
        let all = || std::iter::once(&titles).chain(&self.lines);
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            all().map(|line| line[column].chars().count()).max().unwrap_or(0)
        });
        for line in all() {
            let mut text = indent.to_owned();
            for ((cell, column), width) in line.iter().zip(self.columns).zip(widths) {
                let gap = " ".repeat(width - cell.chars().count());
                let (before, after) = if column.right { (&*gap, "") } else { ("", &*gap) };
                text += &format!("{before}{cell}{after}  ");
            }
            writeln!(to, "{}", text.trim_end())?;
        }
        Ok(())
    }
}
