//! nf_tables as a backend that a host can choose at run time.

use netpol_core::backend::{self, Backend, Closed, ErrorKind, Mismatch, Report, Status};
use netpol_core::program::Program;

use crate::error::Error;
use crate::nft::Nft;

impl Backend for Nft {
    fn name(&self) -> &'static str {
        "nft"
    }

    fn sync(&mut self, program: &Program) -> Result<Report, backend::Error> {
        Ok(Self::sync(self, program)?)
    }

    fn deny_unknown(&mut self, closed: &Closed) -> Result<(), backend::Error> {
        Self::deny_unknown(self, closed);
        Ok(())
    }

    fn verify(&mut self, program: &Program) -> Result<Vec<Mismatch>, backend::Error> {
        let mismatches = Self::verify(self, program)?;
        Ok(mismatches.iter().map(Mismatch::from).collect())
    }

    fn status(&mut self) -> Result<Status, backend::Error> {
        Ok(Self::status(self)?.tables.into_values().collect())
    }

    fn remove(&mut self) -> Result<(), backend::Error> {
        Ok(Self::remove(self)?)
    }
}

impl From<Error> for backend::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotPermitted => ErrorKind::NotPermitted,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Contended | Error::OutcomeUnknown | Error::System { .. } => ErrorKind::Transient,
            Error::Refused(_)
            | Error::TooLarge { .. }
            | Error::Oversized
            | Error::Protocol(_)
            | Error::OtherNamespace
            | Error::Name(_) => ErrorKind::Refused,
        };
        Self::new(kind, error)
    }
}
