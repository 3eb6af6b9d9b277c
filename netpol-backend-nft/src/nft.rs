//! The kernel's nf_tables state, made to agree with a ruleset.

use std::collections::BTreeMap;

use netpol_core::model::{Direction, Family};
use netpol_core::program::Program;
use nix::errno::Errno;

use crate::error::Error;
use crate::name::Name;
use crate::render::{Options, denied_chain, render};
use crate::ruleset::{self, Count, Ruleset, TableReader};
use crate::socket::Socket;
use crate::wire::batch::Batch;
use crate::wire::uapi::{self, msg};

/// How often a read is repeated because the state changed under it.
const ATTEMPTS: usize = 10;

/// The nf_tables state of one network namespace: the one that the calling thread is in when this
/// is opened. Only our own tables are read or changed.
///
/// Needs `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    options: Options,
    /// What is in force, as far as we know, and the generation in which it was.
    written: Option<(Ruleset, u32)>,
}

/// What a synchronisation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Whether the kernel's state had to be changed.
    pub change: Change,
    /// Somebody else had changed our tables since they were written.
    pub interfered: bool,
    /// Size of the transaction.
    pub bytes: usize,
}

/// How a synchronisation changed the kernel's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Not at all: it agreed already.
    None,
    /// Our tables were not there.
    Created,
    /// Our tables said something else.
    Replaced,
}

/// What is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Our tables; empty if there are none.
    pub tables: BTreeMap<Family, TableStatus>,
}

/// What is in one of our tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableStatus {
    /// Chains.
    pub chains: usize,
    /// Rules in all chains.
    pub rules: usize,
    /// Sets and maps.
    pub sets: usize,
    /// Elements in all sets and maps.
    pub elements: usize,
    /// What endpoints were not allowed to send, since the table was written.
    pub denied_egress: Count,
    /// What endpoints were not allowed to receive, since the table was written.
    pub denied_ingress: Count,
}

impl Nft {
    /// Opens the nf_tables state of the calling thread's network namespace. Changes nothing.
    ///
    /// # Errors
    ///
    /// If there is no netlink for netfilter.
    pub fn open(options: Options) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()?, options, written: None })
    }

    /// Makes the kernel judge packets as the program does, in one transaction for both families.
    /// Does nothing if the kernel's state agrees already, be it from a previous run.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or is changed by others all the time. What was in force still is,
    /// then, unless the error is [`Error::OutcomeUnknown`].
    pub fn sync(&mut self, program: &Program) -> Result<Report, Error> {
        self.apply(render(program, &self.options))
    }

    /// Puts a ruleset into force in place of the tables of its name: [`sync`](Self::sync) for a
    /// ruleset that is rendered already.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn apply(&mut self, ruleset: Ruleset) -> Result<Report, Error> {
        let mut interfered = false;
        for _ in 0..ATTEMPTS {
            let generation = self.socket.generation()?;
            let (present, generation) = match self.written.take() {
                Some((written, at)) if at == generation && written.name == ruleset.name => {
                    (Some(written), generation)
                }
                previous => {
                    let (present, generation) = self.read_tables(&ruleset.name)?;
                    let expected = previous.map(|(written, _)| written);
                    interfered |= expected.is_some_and(|expected| {
                        expected.name == ruleset.name && present.as_ref() != Some(&expected)
                    });
                    (present, generation)
                }
            };
            if present.as_ref() == Some(&ruleset) {
                self.written = Some((ruleset, generation));
                return Ok(Report { change: Change::None, interfered, bytes: 0 });
            }
            let mut batch = Batch::new(generation);
            ruleset::remove(&ruleset.name, &mut batch);
            ruleset::create(&ruleset, &mut batch);
            let bytes = batch.length();
            match self.socket.commit(batch) {
                Ok(generation) => {
                    let change = if present.is_some() { Change::Replaced } else { Change::Created };
                    self.written = Some((ruleset, generation));
                    return Ok(Report { change, interfered, bytes });
                }
                Err(Error::Contended) => self.written = present.map(|it| (it, generation)),
                Err(error @ Error::OutcomeUnknown) => return Err(error),
                Err(error) => {
                    self.written = present.map(|it| (it, generation));
                    return Err(error);
                }
            }
        }
        Err(Error::Contended)
    }

    /// Reads our tables back; `None` if there are none. `O(n)` in their elements, some
    /// microseconds each.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or change all the time.
    pub fn read(&mut self) -> Result<Option<Ruleset>, Error> {
        let name = self.options.table.clone();
        Ok(self.read_tables(&name)?.0)
    }

    /// What is in force, counted. Reads all of it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn status(&mut self) -> Result<Status, Error> {
        let name = self.options.table.clone();
        let (readers, _) = self.consistently(&name)?;
        let tables = readers.into_iter().map(|(family, reader)| {
            let denied_egress = reader.count(&denied_chain(Direction::Egress));
            let denied_ingress = reader.count(&denied_chain(Direction::Ingress));
            let table = reader.finish();
            let status = TableStatus {
                chains: table.chains.len(),
                rules: table.chains.values().map(|chain| chain.rules.len()).sum(),
                sets: table.sets.len(),
                elements: table.sets.values().map(|set| set.elements.len()).sum(),
                denied_egress,
                denied_ingress,
            };
            (family, status)
        });
        Ok(Status { tables: tables.collect() })
    }

    /// Removes our tables, whether or not they are there. Nothing is policed afterwards.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; the tables are as they were, then.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.written = None;
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new(self.socket.generation()?);
            ruleset::remove(&self.options.table, &mut batch);
            match self.socket.commit(batch) {
                Ok(_) => return Ok(()),
                Err(Error::Contended) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended)
    }

    /// Our tables and the generation they were read in.
    fn read_tables(&mut self, name: &Name) -> Result<(Option<Ruleset>, u32), Error> {
        let (readers, generation) = self.consistently(name)?;
        let tables: BTreeMap<_, _> =
            readers.into_iter().map(|(family, reader)| (family, reader.finish())).collect();
        let ruleset = (!tables.is_empty()).then(|| Ruleset { name: name.clone(), tables });
        Ok((ruleset, generation))
    }

    /// Dumps the tables of a name, as they all were in one generation.
    fn consistently(&mut self, name: &Name) -> Result<(BTreeMap<Family, TableReader>, u32), Error> {
        for _ in 0..ATTEMPTS {
            let generation = self.socket.generation()?;
            let mut readers = BTreeMap::new();
            let mut consistent = true;
            for family in Family::ALL {
                let Some(mut reader) = self.table(family, name)? else { continue };
                consistent &= self.content(family, name, &mut reader)?;
                readers.insert(family, reader);
            }
            if consistent && self.socket.generation()? == generation {
                return Ok((readers, generation));
            }
        }
        Err(Error::Contended)
    }

    /// Looks one of our tables up by its name: nothing else is listed.
    fn table(&mut self, family: Family, name: &Name) -> Result<Option<TableReader>, Error> {
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
    fn content(
        &mut self,
        family: Family,
        name: &Name,
        reader: &mut TableReader,
    ) -> Result<bool, Error> {
        let name = name.as_str();
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
