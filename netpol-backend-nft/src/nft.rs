//! The kernel's nf_tables state, made to agree with a ruleset.

use std::collections::BTreeMap;

use nix::errno::Errno;

use crate::error::Error;
use crate::name::Name;
use crate::ruleset::{self, Family, Ruleset, TableReader};
use crate::socket::Socket;
use crate::wire::batch::Batch;
use crate::wire::uapi::{self, msg};

/// How often a read is repeated because the state changed under it.
const ATTEMPTS: usize = 10;

/// The nf_tables state of one network namespace: the one that the calling thread is in when this
/// is opened. Only tables of the name given are touched.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    name: Name,
    /// What was written last, and the generation right after.
    written: Option<(Ruleset, u32)>,
}

impl Nft {
    /// Opens the nf_tables state of the calling thread's network namespace for the tables of this
    /// name.
    ///
    /// # Errors
    ///
    /// If there is no netlink for netfilter.
    pub fn open(name: Name) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()?, name, written: None })
    }

    /// Reads our tables back. `None` if there are none.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or change all the time.
    pub fn read(&mut self) -> Result<Option<Ruleset>, Error> {
        for _ in 0..ATTEMPTS {
            let before = self.socket.generation()?;
            let mut tables = BTreeMap::new();
            let mut consistent = true;
            for family in Family::ALL {
                let Some(mut reader) = self.table(family)? else { continue };
                consistent &= self.content(family, &mut reader)?;
                tables.insert(family, reader.finish());
            }
            if consistent && self.socket.generation()? == before {
                let ruleset = Ruleset { name: self.name.clone(), tables };
                return Ok((!ruleset.tables.is_empty()).then_some(ruleset));
            }
        }
        Err(Error::Contended)
    }

    /// Replaces our tables by these, in one transaction.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; the tables are as they were, then.
    pub fn replace(&mut self, ruleset: Ruleset) -> Result<(), Error> {
        let mut batch = Batch::new(None);
        ruleset::remove(&self.name, &mut batch);
        ruleset::create(&ruleset, &mut batch);
        self.written = None;
        self.socket.commit(batch)?;
        let generation = self.socket.generation()?;
        self.written = Some((ruleset, generation));
        Ok(())
    }

    /// Removes our tables, whether or not they are there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; the tables are as they were, then.
    pub fn remove(&mut self) -> Result<(), Error> {
        let mut batch = Batch::new(None);
        ruleset::remove(&self.name, &mut batch);
        self.written = None;
        self.socket.commit(batch)
    }

    /// Looks one of our tables up by its name: nothing else is listed.
    fn table(&mut self, family: Family) -> Result<Option<TableReader>, Error> {
        let name = &self.name;
        let mut found = None;
        let answer = self.socket.get(
            msg::GETTABLE,
            ruleset::number(family),
            |w| w.text(uapi::table::NAME, name.as_str()),
            |message| found = Some(TableReader::new(family, name.clone(), message)),
        );
        match answer {
            Err(error) if error.errno() == Some(Errno::ENOENT as i32) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// Dumps what is in a table. Whether the dumps fit together is the result.
    fn content(&mut self, family: Family, reader: &mut TableReader) -> Result<bool, Error> {
        let name = self.name.as_str();
        let number = ruleset::number(family);
        let socket = &mut self.socket;
        let mut consistent = socket.dump(
            msg::GETCHAIN,
            number,
            |w| w.text(uapi::chain::TABLE, name),
            |message| reader.chain(message),
        )?;
        consistent &= socket.dump(
            msg::GETRULE,
            number,
            |w| w.text(uapi::rule::TABLE, name),
            |message| reader.rule(message),
        )?;
        consistent &= socket.dump(
            msg::GETSET,
            number,
            |w| w.text(uapi::set::TABLE, name),
            |message| reader.set(message),
        )?;
        for set in reader.sets() {
            let dumped = socket.dump(
                msg::GETSETELEM,
                number,
                |w| {
                    w.text(uapi::elem_list::TABLE, name);
                    w.text(uapi::elem_list::SET, set.as_str());
                },
                |message| reader.elements(message),
            );
            match dumped {
                Ok(dumped) => consistent &= dumped,
                // The set is gone since it was listed.
                Err(error) if error.errno() == Some(Errno::ENOENT as i32) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(consistent)
    }
}
