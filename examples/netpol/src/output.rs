//! Forms of results.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// A JSON document in the envelope that all of them have.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document<T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    content: T,
}

impl<T: Serialize> Document<T> {
    pub(crate) fn new(kind: &'static str, content: T) -> Self {
        Self { api_version: "netpol/v1", kind, content }
    }

    /// Writes it, readable for people as well.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)?;
        Ok(())
    }

    /// The same as YAML.
    pub(crate) fn write_yaml(&self, out: &mut impl Write) -> Result<(), Failure> {
        let text = serde_saphyr::to_string(self).map_err(Failure::input)?;
        Ok(writeln!(out, "{}", text.trim_end())?)
    }
}

/// A table of text, the names of the columns first.
pub(crate) struct Table<const N: usize> {
    pub(crate) columns: [&'static str; N],
    pub(crate) rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// In aligned columns, as kubectl prints tables.
    pub(crate) fn write_aligned(&self, headers: bool, out: &mut impl Write) -> io::Result<()> {
        let columns = self.columns.map(str::to_ascii_uppercase);
        let headers = headers.then_some(&columns);
        let lines = || headers.into_iter().chain(&self.rows);
        let widths: [usize; N] = std::array::from_fn(|at| {
            lines().map(|line| line[at].chars().count()).max().unwrap_or_default()
        });
        for line in lines() {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("   ").trim_end())?;
        }
        Ok(())
    }

    /// As comma-separated values (RFC 4180).
    pub(crate) fn write_csv(&self, headers: bool, out: &mut impl Write) -> io::Result<()> {
        let quoted = |cell: &str| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.to_owned(),
        };
        if headers {
            writeln!(out, "{}", self.columns.join(","))?;
        }
        for row in &self.rows {
            writeln!(out, "{}", row.each_ref().map(|cell| quoted(cell)).join(","))?;
        }
        Ok(())
    }

    /// As a table of GitHub-flavoured Markdown.
    pub(crate) fn write_markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "| {} |", self.columns.join(" | "))?;
        writeln!(out, "|{}", "---|".repeat(N))?;
        for row in &self.rows {
            let cells = row.each_ref().map(|cell| cell.replace('|', "\\|"));
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}
