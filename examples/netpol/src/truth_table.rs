//! Who reaches whom, as tables side by side.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::style;

/// The widest line that is written.
const WIDTH: usize = 100;
/// The signs for the ends, in order.
const SIGNS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// What became of the connections from one end to another, one for each address family that both have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// IPv4, IPv6: whether it is open; nothing if it was not tried.
    pub(crate) open: [Option<bool>; 2],
}

/// One of the tables that stand side by side, row by row.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) cells: Vec<Vec<Cell>>,
}

impl Cell {
    /// `.` open, `X` closed, `4` or `6` open in that family only, blank if there is nothing to tell.
    pub(crate) fn sign(self) -> char {
        match self.open {
            [None, None] => ' ',
            [Some(true), Some(false)] => '4',
            [Some(false), Some(true)] => '6',
            [v4, v6] if v4.or(v6) == Some(true) => '.',
            _ => 'X',
        }
    }

    fn paint(self, wrong: bool) -> String {
        let colour = match self.sign() {
            '.' => AnsiColor::Green,
            'X' => AnsiColor::Red,
            _ => AnsiColor::Yellow,
        };
        let style = Style::new().fg_color(Some(colour.into()));
        style::paint(if wrong { style.bold().invert() } else { style }, self.sign())
    }
}

/// The sign of the end at this place in a list of `count`: a letter, or two where letters do not suffice.
fn sign(at: usize, count: usize) -> String {
    let letter = |at: usize| SIGNS.chars().nth(at).unwrap_or('?');
    match count <= SIGNS.len() {
        true => letter(at).to_string(),
        false => [letter(at / SIGNS.len()), letter(at % SIGNS.len())].iter().collect(),
    }
}

/// Writes the tables beside each other. Where there is no room for all of them the first ones are left out. The last
/// one is held against the one before: what differs stands out.
pub(crate) fn write(
    title: &str,
    ends: &[String],
    columns: &[Column],
    out: &mut impl Write,
) -> io::Result<()> {
    let letters = sign(0, ends.len()).len();
    let label = ends.iter().map(|end| end.len() + letters + 1).max().unwrap_or(0).max(title.len());
    let widest = columns.iter().map(|column| column.title.len()).max().unwrap_or(0);
    let one = ((letters + 1) * ends.len()).max(widest + 1) + 2;
    let room = (WIDTH.saturating_sub(label) / one).max(1);
    let shown = &columns[columns.len().saturating_sub(room)..];
    let reference = columns.len().checked_sub(2).and_then(|at| columns.get(at));
    let last = columns.last().map(|column| column.title);

    let heads: String = shown.iter().map(|it| format!("   {:<1$}", it.title, one - 3)).collect();
    if widest > 0 {
        writeln!(out, "{:<label$}{}", "", heads.trim_end())?;
    }
    let signs: String = (0..ends.len()).map(|at| format!(" {}", sign(at, ends.len()))).collect();
    let line = format!("  {signs:<0$}", one - 2).repeat(shown.len());
    let padding = " ".repeat(label - title.len());
    writeln!(out, "{}{padding}{}", style::bold(title), line.trim_end())?;
    for (row, end) in ends.iter().enumerate() {
        let mut line = format!("{:<label$}", format!("{} {end}", sign(row, ends.len())));
        for column in shown {
            line += "  ";
            for at in 0..ends.len() {
                let cell = |column: &Column| {
                    column.cells.get(row).and_then(|row| row.get(at)).copied().unwrap_or_default()
                };
                let found = cell(column);
                let wrong =
                    Some(column.title) == last && reference.is_some_and(|it| cell(it) != found);
                line += &" ".repeat(letters);
                line += &found.paint(wrong);
            }
            line += &" ".repeat(one - 2 - (letters + 1) * ends.len());
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}
