//! Files of expectations: tab-separated values with a header line.
//!
//! ```text
//! from      to          protocol  port  expected
//! shop/web  shop/db     TCP       5432  allow
//! shop/web  192.0.2.1   ICMP      -     deny
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use netpol_core::model::DomainName;

/// One line of a file of expectations, not yet understood.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// `expect.tsv:12`
    pub(crate) place: String,
    /// Who, to whom and by what: what a row is about.
    pub(crate) question: Question,
    /// The verdict that is expected; empty if the file has no such column.
    pub(crate) expected: String,
}

/// What a row asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) protocol: String,
    pub(crate) port: String,
}

impl Row {
    /// Whether it is expected to be allowed.
    pub(crate) fn allowed(&self) -> Result<bool> {
        match &*self.expected {
            "allow" => Ok(true),
            "deny" => Ok(false),
            other => bail!("\"{other}\" is no verdict: it is allow or deny"),
        }
    }
}

/// Reads the rows of a file of expectations. The columns are found by the names in the header.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
    let table = Table::read(path)?;
    let column = |name| table.column(name);
    let (from, to, protocol) = (column("from")?, column("to")?, column("protocol")?);
    let (port, expected) = (column("port")?, column("expected")?);
    let rows = table.rows.iter().map(|(line, cells)| {
        let cell = |at: usize| cells.get(at).cloned().unwrap_or_default();
        let (from, to, protocol, port) = (cell(from), cell(to), cell(protocol), cell(port));
        Row {
            place: format!("{}:{line}", table.name),
            question: Question { from, to, protocol, port },
            expected: cell(expected),
        }
    });
    Ok(rows.collect())
}

/// The questions that the rows of these files ask.
pub(crate) fn questions(paths: &[impl AsRef<Path>]) -> Result<BTreeSet<Question>> {
    let mut questions = BTreeSet::new();
    for path in paths {
        questions.extend(read(path.as_ref())?.into_iter().map(|row| row.question));
    }
    Ok(questions)
}

/// Reads observations of what names stand for: columns `name` and `ip`.
pub(crate) fn domains(path: &Path) -> Result<Vec<DomainName>> {
    let table = Table::read(path)?;
    let (name, ip) = (table.column("name")?, table.column("ip")?);
    let domains = table.rows.iter().map(|(line, cells)| {
        let cell = |at: usize| cells.get(at).map(String::as_str).unwrap_or_default();
        let address: IpAddr = cell(ip)
            .parse()
            .map_err(|_| anyhow!("{}:{line}: \"{}\" is no address", table.name, cell(ip)))?;
        Ok(DomainName::new(cell(name), address))
    });
    domains.collect()
}

/// A file of tab-separated values.
struct Table {
    name: String,
    header: Vec<String>,
    /// The other lines with their numbers, empty ones left out.
    rows: Vec<(usize, Vec<String>)>,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
        let cells = |line: &str| line.split('\t').map(|cell| cell.trim().to_owned()).collect();
        let mut lines = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|(number, line)| (number, cells(line)));
        let (_, header) = lines.next().with_context(|| format!("{name} is empty"))?;
        Ok(Self { name, header, rows: lines.collect() })
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.header.iter().position(|column| column == name).with_context(|| {
            format!("{}: the first line names no column \"{name}\", separated by tabs", self.name)
        })
    }
}
