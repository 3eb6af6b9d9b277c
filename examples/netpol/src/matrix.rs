//! The truth table of a list of connections: who reaches whom, on one port or on any.

use std::collections::BTreeMap;
use std::io::{self, Write};

use netpol_core::model::{Family, Traffic};
use serde::Serialize;

use crate::connectivity::{Connection, Connectivity, Focus};
use crate::exit::Failure;
use crate::peer::Port;
use crate::truth_table::{self, Cell, Column};
use crate::world::World;

/// Who reaches whom: a row for each source, a column for each destination.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) ends: Vec<String>,
    pub(crate) cells: Vec<Vec<Cell>>,
    /// `80/tcp`, or `any port`.
    pub(crate) port: String,
}

/// The form for programs.
#[derive(Serialize)]
pub(crate) struct MatrixJson {
    port: String,
    ends: Vec<String>,
    /// One text for each source with a sign for each destination: `.` open, `X` closed, `4` or `6` open in that address
    /// family only, blank if there is no way.
    rows: Vec<String>,
}

impl Matrix {
    /// The table of all pods, or of those in focus with whomever they reach.
    pub(crate) fn new(
        connectivity: &Connectivity,
        world: &World,
        port: Option<&Port>,
        focus: [Option<Focus>; 2],
    ) -> Result<Self, Failure> {
        if focus.iter().flatten().any(|it| !matches!(it, Focus::Pod(_))) {
            return Err(Failure::usage(anyhow::anyhow!("a truth table is one of pods")));
        }
        let pods = &connectivity.pods;
        let on = |connection: &Connection, destination: usize| {
            let contains =
                |traffic: Traffic| connection.traffic.iter().any(|it| it.contains(traffic));
            match port {
                None => true,
                Some(Port::Number(protocol, number)) => contains(Traffic::Port(*protocol, *number)),
                Some(Port::Icmp) => contains(Traffic::ICMP),
                Some(Port::Named(protocol, name)) => {
                    let Some(pod) = pods.get(destination) else { return false };
                    let endpoints = world.objects().endpoints.iter();
                    let declared = endpoints
                        .filter(|it| (&it.namespace, &it.name) == (&pod.namespace, &pod.name))
                        .flat_map(|it| &it.ports);
                    let mut meant = declared
                        .filter(|it| it.protocol == *protocol && *it.name == **name)
                        .map(|it| Traffic::Port(it.protocol, it.number));
                    meant.any(contains)
                }
            }
        };
        let mut open: BTreeMap<(usize, usize), [bool; 2]> = BTreeMap::new();
        for connection in &connectivity.connections {
            for to in connection.destinations.pods.iter().filter(|to| on(connection, **to)) {
                for from in &connection.sources.pods {
                    let cell = open.entry((*from, *to)).or_default();
                    cell[0] |= connection.family != Some(Family::V6);
                    cell[1] |= connection.family != Some(Family::V4);
                }
            }
        }
        let families = |at: usize| {
            let addresses = pods.get(at).map_or(&[][..], |pod| &pod.addresses);
            match addresses.is_empty() {
                true => [true, false],
                false => {
                    Family::ALL.map(|it| addresses.iter().any(|address| Family::of(*address) == it))
                }
            }
        };
        let cell = |from: usize, to: usize| {
            let open = open.get(&(from, to)).copied().unwrap_or_default();
            let both = families(from).into_iter().zip(families(to)).map(|(from, to)| from && to);
            let mut it = Cell::default();
            for ((cell, possible), open) in it.open.iter_mut().zip(both).zip(open) {
                *cell = possible.then_some(open || from == to);
            }
            it
        };
        let involved = |at: &usize| match &focus {
            [None, None] => true,
            _ => connectivity
                .connections
                .iter()
                .any(|it| it.sources.pods.contains(at) || it.destinations.pods.contains(at)),
        };
        let shown: Vec<usize> = (0..pods.len()).filter(involved).collect();
        let row = |from: &usize| shown.iter().map(|to| cell(*from, *to)).collect();
        Ok(Self {
            ends: shown.iter().filter_map(|at| pods.get(*at)).map(|pod| pod.label()).collect(),
            cells: shown.iter().map(row).collect(),
            port: port.map_or_else(|| "any port".to_owned(), ToString::to_string),
        })
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = [Column { title: "", cells: self.cells.clone() }];
        truth_table::write(&self.port, &self.ends, &columns, out)
    }

    fn rows(&self) -> impl Iterator<Item = (&String, Vec<char>)> {
        let signs = |row: &Vec<Cell>| row.iter().map(|cell| cell.sign()).collect();
        self.ends.iter().zip(self.cells.iter().map(signs))
    }

    pub(crate) fn json(&self) -> MatrixJson {
        let rows = self.rows().map(|(_, signs)| signs.into_iter().collect());
        MatrixJson { port: self.port.clone(), ends: self.ends.clone(), rows: rows.collect() }
    }

    pub(crate) fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{},{}", self.port, self.ends.join(","))?;
        for (end, signs) in self.rows() {
            let signs: Vec<String> = signs.iter().map(ToString::to_string).collect();
            writeln!(out, "{end},{}", signs.join(","))?;
        }
        Ok(())
    }

    pub(crate) fn write_markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "| {} | {} |", self.port, self.ends.join(" | "))?;
        writeln!(out, "|---|{}", ":-:|".repeat(self.ends.len()))?;
        for (end, signs) in self.rows() {
            let signs: Vec<String> = signs.iter().map(|sign| format!("`{sign}`")).collect();
            writeln!(out, "| {end} | {} |", signs.join(" | "))?;
        }
        Ok(())
    }
}
