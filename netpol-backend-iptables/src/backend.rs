//! iptables as a backend that a host can choose at run time.

use netpol_core::backend::{self, Backend, ErrorKind, Mismatch, Report, Status};
use netpol_core::program::Program;

use crate::error::Error;
use crate::iptables::Iptables;
use crate::verify;

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        Self::name(self)
    }

    fn sync(&mut self, program: &Program) -> Result<Report, backend::Error> {
        Ok(Self::sync(self, program)?)
    }

    fn verify(&mut self, program: &Program) -> Result<Vec<Mismatch>, backend::Error> {
        let mismatches = Self::verify(self, program)?;
        Ok(mismatches.iter().map(Mismatch::from).collect())
    }

    fn status(&mut self) -> Result<Status, backend::Error> {
        let tables = Self::status(self)?.tables;
        let mut all = Status { present: !tables.is_empty(), ..Status::default() };
        for table in tables.values() {
            all.chains += table.chains;
            all.rules += table.rules;
            all.sets += table.sets;
            all.elements += table.elements;
            all.denied_egress += table.denied_egress;
            all.denied_ingress += table.denied_ingress;
        }
        Ok(all)
    }

    fn remove(&mut self) -> Result<(), backend::Error> {
        Ok(Self::remove(self)?)
    }
}

impl From<&verify::Mismatch> for Mismatch {
    fn from(mismatch: &verify::Mismatch) -> Self {
        let flow = match mismatch {
            verify::Mismatch::Verdict { flow, .. }
            | verify::Mismatch::Established { flow, .. }
            | verify::Mismatch::Stray { flow, .. } => Some(flow.clone()),
            verify::Mismatch::NoRules(_) | verify::Mismatch::Undecided(_) => None,
        };
        Self { flow, text: mismatch.to_string() }
    }
}

impl From<Error> for backend::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotPermitted { .. } => ErrorKind::NotPermitted,
            Error::Missing { .. }
            | Error::NoVariant { .. }
            | Error::NoIpv6 { .. }
            | Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Busy { .. } | Error::System { .. } => ErrorKind::Transient,
            Error::Refused { .. } | Error::Output(_) => ErrorKind::Refused,
        };
        Self::new(kind, error)
    }
}
