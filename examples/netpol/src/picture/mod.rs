//! Connections as pictures: a graph, a truth table, a page to look around in.

mod dot;
mod graph;
mod layout;
mod page;
mod table;

use std::io::{self, Write};

use crate::connectivity::Connectivity;
use crate::matrix::Matrix;

pub(crate) use self::dot::write as dot;
pub(crate) use self::page::write as page;

/// Writes the connections as a graph: namespaces as boxes with their pods, an arrow for each pair of ends.
pub(crate) fn graph(connectivity: &Connectivity, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", graph::svg(connectivity, Use::Alone))
}

/// Writes a truth table: a row for each source, a column for each destination.
pub(crate) fn table(matrix: &Matrix, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", table::svg(matrix, Use::Alone))
}

/// Where a picture is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// In a file of its own, with colours of its own.
    Alone,
    /// On a page that gives it colours.
    Page,
}

/// The colours of pictures that stand alone, the same as those of the page.
const COLOURS: &str = include_str!("colours.css");

/// The beginning of a picture of this size.
fn header(width: usize, height: usize, title: &str, place: Use) -> String {
    let style = match place {
        Use::Alone => format!("<style>{COLOURS} svg{{background:var(--paper)}}</style>\n"),
        Use::Page => String::new(),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{}\">\n{style}",
        escaped(title)
    )
}

/// Text as it is written in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
