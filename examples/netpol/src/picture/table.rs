use std::fmt::Write;

use super::layout::text_width;
use super::{Use, escaped, header};
use crate::matrix::Matrix;

/// The side of a cell.
const CELL: usize = 26;

/// The truth table as an SVG element.
pub(super) fn svg(matrix: &Matrix, place: Use) -> String {
    let label = matrix.ends.iter().map(|end| text_width(end)).max().unwrap_or_default();
    // Names of columns are slanted: as high as they are wide, divided by the square root of two.
    let (left, top) = (label + 16, label * 7 / 10 + 24);
    let count = matrix.ends.len();
    let (width, height) = (left + count * CELL + label * 7 / 10 + 16, top + count * CELL + 40);
    let title = format!("who reaches whom: {}", matrix.port);
    let mut svg = header(width, height, &title, place);
    for (at, end) in matrix.ends.iter().enumerate() {
        let (x, y) = (left + at * CELL + CELL / 2, top + at * CELL + CELL / 2);
        let end = escaped(end);
        let _ = writeln!(
            svg,
            "<text data-end=\"{end}\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{end}</text>\
             <text data-end=\"{end}\" transform=\"translate({x} {}) rotate(-45)\">{end}</text>",
            left - 8,
            y + 4,
            top - 8
        );
    }
    for (row, from) in matrix.ends.iter().enumerate() {
        for (column, to) in matrix.ends.iter().enumerate() {
            let cell = matrix.cells.get(row).and_then(|cells| cells.get(column));
            let sign = cell.map_or(' ', |cell| cell.sign());
            let (class, what) = match sign {
                '.' => ("open", "open"),
                'X' => ("closed", "closed"),
                '4' => ("partly", "open by IPv4 only"),
                '6' => ("partly", "open by IPv6 only"),
                _ => continue,
            };
            let (x, y) = (left + column * CELL + 2, top + row * CELL + 2);
            let side = CELL - 4;
            let (from, to) = (escaped(from), escaped(to));
            let _ = writeln!(
                svg,
                "<g data-from=\"{from}\" data-to=\"{to}\"><title>{from} =&gt; {to}: {what}</title>\
                 <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" rx=\"4\"/>{}</g>",
                match sign {
                    'X' => format!(
                        "<path d=\"M{} {}l8 8m0 -8l-8 8\" stroke=\"var(--closed)\" stroke-width=\"1.6\"/>",
                        x + 7,
                        y + 7
                    ),
                    '.' => format!(
                        "<circle cx=\"{}\" cy=\"{}\" r=\"3.2\" fill=\"var(--open)\"/>",
                        x + side / 2,
                        y + side / 2
                    ),
                    sign => format!(
                        "<text class=\"quiet\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{sign}</text>",
                        x + side / 2,
                        y + side / 2 + 4
                    ),
                }
            );
        }
    }
    let _ = writeln!(
        svg,
        "<text class=\"quiet\" x=\"{left}\" y=\"{}\">{}; rows connect to columns</text>",
        top + count * CELL + 24,
        escaped(&matrix.port)
    );
    svg + "</svg>"
}
