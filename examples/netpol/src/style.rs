//! Colours. They are left out where results do not go to a terminal, and with `NO_COLOR`.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

use crate::lint::Severity;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// `text` in the colour of an allowed or a denied connection.
pub(crate) fn verdict(allowed: bool, text: impl Display) -> String {
    paint(if allowed { GOOD } else { BAD }, text)
}

/// `text` in the colour of what is added (`+`), removed (`-`) or changed.
pub(crate) fn change(sign: char, text: impl Display) -> String {
    paint(
        match sign {
            '+' => GOOD,
            '-' => BAD,
            _ => AnsiColor::Yellow.on_default(),
        },
        text,
    )
}

/// `text` in the colour of findings that are this bad.
pub(crate) fn severity(severity: Severity, text: impl Display) -> String {
    let colour = match severity {
        Severity::Error => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Info => AnsiColor::Cyan,
    };
    paint(colour.on_default().bold(), text)
}

/// `text` in bold letters.
pub(crate) fn bold(text: impl Display) -> String {
    paint(Style::new().bold(), text)
}

/// `text` in `style`.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
