//! Tables for people: columns apart by two spaces, no frames, easy to grep and to paste.

use std::fmt;

use comfy_table::presets::NOTHING;

/// A table under a row of titles.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// An empty table.
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_header(titles);
        table.column_iter_mut().for_each(|column| _ = column.set_padding((0, 2)));
        Self(table)
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}
