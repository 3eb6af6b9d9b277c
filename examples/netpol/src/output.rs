//! Forms of results.

use std::io::Write;

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
}
