//! Tables: columns as wide as what is in them, two spaces between; on a terminal no wider than it is.

use std::io::{self, Write};

use super::paint::{Colour, Paint};
use super::text::{cut, shown, width};

/// No column is made narrower than this to fit a terminal, unless it is narrower by itself.
const COLUMN_MIN: usize = 8;

/// How cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words, shown whole.
    Left,
    /// Numbers.
    Right,
    /// Words that may be cut where the terminal is narrow.
    Cut,
}

/// One cell: text, and perhaps a colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    pub(crate) fn coloured(text: &str, colour: Colour) -> Self {
        Self {
            text: shown(text),
            colour,
        }
    }
}

/// Whatever it holds is made safe here.
impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::coloured(text.as_ref(), Colour::None)
    }
}

/// Rows below a heading. May be written page by page: the heading stands above the first, and no column becomes narrower
/// from one page to the next.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
    /// Widths of the pages before.
    before: Option<Vec<usize>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
            before: None,
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the rows there are, and forgets them.
    pub(crate) fn write(&mut self, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
        let all = self.widths();
        let widths = fitting(all.clone(), &self.columns, paint.width);
        if self.before.replace(all).is_none() {
            let heading = self.columns.iter().map(|(name, _)| Cell::coloured(name, Colour::Faint));
            self.rows.insert(0, heading.collect());
        }
        for row in self.rows.drain(..) {
            let mut line = String::new();
            for ((cell, (_, align)), columns) in row.iter().zip(&self.columns).zip(&widths) {
                let text = cut(&cell.text, *columns);
                let room = " ".repeat(columns - width(&text));
                let text = paint.text(&text, cell.colour);
                line.push_str(&match align {
                    Align::Right => format!("{room}{text}  "),
                    Align::Left | Align::Cut => format!("{text}{room}  "),
                });
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let heading = || self.columns.iter().map(|(name, _)| width(name)).collect();
        let mut widths: Vec<usize> = self.before.clone().unwrap_or_else(heading);
        for row in &self.rows {
            for (known, cell) in widths.iter_mut().zip(row) {
                *known = (*known).max(width(&cell.text));
            }
        }
        widths
    }
}

/// The widths that a terminal has room for.
fn fitting(mut widths: Vec<usize>, columns: &[(&str, Align)], limit: Option<usize>) -> Vec<usize> {
    let Some(limit) = limit else { return widths };
    let gaps = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        let elastic = |index: &usize| columns[*index].1 == Align::Cut && widths[*index] > COLUMN_MIN;
        let widest = (0..widths.len()).filter(elastic).max_by_key(|index| widths[*index]);
        match widest {
            Some(index) => widths[index] -= 1,
            None => return narrowed(widths, limit),
        }
    }
    widths
}

/// Where even that is too much, what is at the right gets what is left.
fn narrowed(mut widths: Vec<usize>, limit: usize) -> Vec<usize> {
    let mut left = limit;
    for known in &mut widths {
        *known = (*known).min(left);
        left = left.saturating_sub(*known + 2);
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("NAME", Align::Cut), ("DONE", Align::Right), ("WHAT", Align::Cut)]);
        table.row(["first".into(), "7".into(), Cell::coloured("x", Colour::Red)]);
        table.row([
            "日本".into(),
            "1234567".into(),
            "a much longer text that has to go".into(),
        ]);
        table
    }

    fn written(mut table: Table, paint: Paint) -> String {
        let mut out = Vec::new();
        table.write(paint, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_stand_at_the_right() {
        let text = written(table(), Paint::plain());
        assert_eq!(
            text,
            "NAME      DONE  WHAT\nfirst        7  x\n日本   1234567  a much longer text that has to go\n"
        );
    }

    #[test]
    fn pages_share_a_heading_and_keep_their_columns() {
        let mut table = table();
        let mut out = Vec::new();
        table.write(Paint::plain(), &mut out).unwrap();
        table.row(["x".into(), "1".into(), "y".into()]);
        table.write(Paint::plain(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("has to go\nx            1  y\n"), "{text}");
        assert_eq!(text.matches("NAME").count(), 1);
    }

    #[test]
    fn a_narrow_terminal_is_not_overrun() {
        for limit in 1..60 {
            let paint = Paint {
                width: Some(limit),
                ..Paint::plain()
            };
            for line in written(table(), paint).lines() {
                assert!(width(line) <= limit, "{limit}: {line:?}");
            }
        }
        let paint = Paint {
            width: Some(30),
            ..Paint::plain()
        };
        assert!(written(table(), paint).contains("1234567  a much longer…"));
    }

    #[test]
    fn colour_takes_no_room_and_hostile_text_has_no_effect() {
        let mut table = Table::new(&[("A", Align::Left), ("B", Align::Left)]);
        table.row([Cell::coloured("bad", Colour::Red), "\u{1b}[2J\nnext".into()]);
        let paint = Paint {
            colour: true,
            ..Paint::plain()
        };
        let text = written(table, paint);
        assert!(text.ends_with("\u{1b}[31mbad\u{1b}[0m  \\x1b[2J\\nnext\n"), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }
}
