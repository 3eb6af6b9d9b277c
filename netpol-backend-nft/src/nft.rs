//! The kernel's nf_tables state, made to agree with a ruleset.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use netpol_core::backend::{Change, Closed, Count, Report, TableStatus};
use netpol_core::model::{Direction, Family};
use netpol_core::program::{ClassId, ProfileId, Program};
use nix::errno::Errno;

use crate::error::Error;
use crate::monitor::Monitor;
use crate::name::{Interface, Name};
use crate::others::Others;
use crate::plan::{self, Plan, Step};
use crate::render::{Options, Renderer, apply, counted_chains, is_denied_chain};
use crate::ruleset::{self, Ruleset, TableReader};
use crate::socket::Socket;
use crate::verify::{Mismatch, verify};
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
    /// The network namespace, where `/proc` tells.
    namespace: Option<Namespace>,
    others: Others,
    /// What is in force, as far as we know, and the generation in which it was.
    written: Option<(Ruleset, u32)>,
    /// What has rendered the program that `written` stands for.
    renderer: Option<Renderer>,
}

/// What is in force before a change.
struct Present {
    name: Name,
    ruleset: Option<Ruleset>,
    generation: u32,
    /// It is what was written last.
    known: bool,
}

/// What is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Our tables; empty if there are none.
    pub tables: BTreeMap<Family, TableStatus>,
}

/// The number of programs that come into force now: see [`Prefix`](crate::nflog::Prefix).
fn generation_of_now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// How much of a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Chains with their rules, and which sets there are.
    Rules,
    /// How many elements there are as well.
    Sizes,
    /// All.
    Elements,
}

/// A network namespace: the device and the inode of its file.
type Namespace = (u64, u64);

/// The network namespace of the calling thread.
fn namespace() -> Option<Namespace> {
    let file = fs::metadata("/proc/thread-self/ns/net").ok()?;
    Some((file.dev(), file.ino()))
}

fn nothing_yet() -> Report {
    Report { change: Change::None, interfered: false, steps: 0, bytes: 0 }
}

/// What was counted for a class of other ends, since the rules were written that count it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCount {
    /// Whose policies were asked: those of the source (egress) or of the destination.
    pub direction: Direction,
    /// The class.
    pub class: ClassId,
    /// A profile that asks it: its policies are those that are counted.
    pub profile: ProfileId,
    /// New connections that it allowed.
    pub allowed: Count,
    /// Packets that it denied.
    pub denied: Count,
}

impl Nft {
    /// Opens the nf_tables state of the calling thread's network namespace. Changes nothing.
    ///
    /// # Errors
    ///
    /// If there is no netlink for netfilter.
    pub fn open(options: Options) -> Result<Self, Error> {
        let (socket, others) = (Socket::open()?, Others::open()?);
        let namespace = namespace();
        Ok(Self { socket, options, namespace, others, written: None, renderer: None })
    }

    /// Sets [`Options::deny_unknown`] for the calls of [`sync`](Self::sync) that follow. Exceptions that
    /// come and go are elements; if the ranges differ, the first call renders and compares all there is.
    pub fn deny_unknown(&mut self, closed: &Closed) {
        let before = &mut self.options.deny_unknown;
        if before == closed {
            return;
        }
        self.renderer = self.renderer.take().filter(|_| before.ranges == closed.ranges);
        if let Some(renderer) = &mut self.renderer {
            renderer.deny_except(&closed.except);
        }
        before.clone_from(closed);
    }

    /// Sets [`Options::interfaces`] for the calls of [`sync`](Self::sync) that follow. Endpoints that get,
    /// lose or change their interfaces are looked at alone; if there were none before, or are none now,
    /// the first call renders and compares all there is.
    pub fn dispatch_by_interface(&mut self, interfaces: &BTreeMap<IpAddr, Interface>) {
        let before = &mut self.options.interfaces;
        if before == interfaces {
            return;
        }
        let some = !before.is_empty() && !interfaces.is_empty();
        self.renderer = self.renderer.take().filter(|_| some);
        if let Some(renderer) = &mut self.renderer {
            renderer.dispatch_by_interface(interfaces);
        }
        before.clone_from(interfaces);
    }

    /// Makes the kernel judge packets as the program does, by the transactions of a
    /// [`Plan`](crate::plan::Plan) for both families. Does nothing if the kernel's state agrees
    /// already, be it from a previous run, and reads nothing back if nobody else has changed our tables:
    /// the kernel tells what others have committed meanwhile.
    ///
    /// Looks only at what the program does not share with that of the last call: see
    /// [`Program::since`].
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or is changed by others all the time. Any step of the plan may be in
    /// force then; each allows only what the old or the new program allows. The next call starts from
    /// what is in force.
    pub fn sync(&mut self, program: &Program) -> Result<Report, Error> {
        let mut report = nothing_yet();
        let name = self.options.table.clone();
        for _ in 0..ATTEMPTS {
            let present = self.in_force(&name, &mut report)?;
            let kept = self.renderer.take().filter(|renderer| renderer.is_for(program));
            let (mut renderer, known) = match (kept, present.known) {
                (Some(renderer), true) => (renderer, true),
                _ => {
                    let mut renderer = Renderer::new(self.options.clone());
                    present.ruleset.iter().for_each(|present| renderer.inherit(present));
                    (renderer, false)
                }
            };
            let difference = renderer.update(program, Some(generation_of_now()));
            let steps = match &present.ruleset {
                Some(ruleset) if known => plan::amend(ruleset, difference),
                present => {
                    let mut wanted = renderer.empty();
                    apply(difference, &mut wanted);
                    Plan::new(present.as_ref(), wanted).into_steps()
                }
            };
            match self.carry_out(present, &steps, &mut report) {
                Ok(()) => {
                    self.renderer = Some(renderer);
                    return Ok(report);
                }
                Err(Error::Contended) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended)
    }

    /// Puts a ruleset into force in place of the tables of its name: [`sync`](Self::sync) for a
    /// ruleset that is rendered already.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn apply(&mut self, ruleset: Ruleset) -> Result<Report, Error> {
        let mut report = nothing_yet();
        for _ in 0..ATTEMPTS {
            let present = self.in_force(&ruleset.name, &mut report)?;
            self.renderer = None;
            let steps = Plan::new(present.ruleset.as_ref(), ruleset.clone()).into_steps();
            match self.carry_out(present, &steps, &mut report) {
                Err(Error::Contended) => {}
                result => return result.map(|()| report),
            }
        }
        Err(Error::Contended)
    }

    /// What is in force now and in which generation: known, unless somebody else has committed
    /// since, or a change was interrupted.
    fn in_force(&mut self, name: &Name, report: &mut Report) -> Result<Present, Error> {
        let generation = self.socket.generation()?;
        let name = name.clone();
        let expected = match self.written.take() {
            Some((written, at)) if at == generation && written.name == name => {
                return Ok(Present { name, ruleset: Some(written), generation, known: true });
            }
            Some((written, at)) if written.name == name => {
                let table = &self.options.table;
                if *table == name && self.others.left_alone(table, at, generation)? {
                    return Ok(Present { name, ruleset: Some(written), generation, known: true });
                }
                Some(written)
            }
            _ => None,
        };
        let (ruleset, generation) = self.read_tables(&name)?;
        let known = expected.is_some() && ruleset == expected;
        report.interfered |= expected.is_some() && !known;
        Ok(Present { name, ruleset, generation, known })
    }

    /// Makes the transactions of a plan. What is in force is known afterwards, unless one fails.
    fn carry_out(
        &mut self,
        present: Present,
        steps: &[Step],
        report: &mut Report,
    ) -> Result<(), Error> {
        let Present { name, ruleset, mut generation, .. } = present;
        if !steps.is_empty() {
            report.change = match ruleset {
                None if report.change == Change::None => Change::Created,
                _ => Change::Updated,
            };
        }
        let mut written =
            ruleset.unwrap_or_else(|| Ruleset { name: name.clone(), tables: BTreeMap::new() });
        if !steps.is_empty() {
            self.others.ignore()?;
        }
        let mut rest: VecDeque<Cow<'_, Step>> = steps.iter().map(Cow::Borrowed).collect();
        while let Some(step) = rest.pop_front() {
            let mut batch = Batch::new(generation);
            ruleset::write(&name, step.changes(), &mut batch);
            let bytes = batch.length();
            match self.socket.commit(batch) {
                Ok(committed) => generation = committed,
                // Only root may have the buffer that it takes; nothing has been sent.
                Err(Error::TooLarge { needed, allowed }) => {
                    let pieces = step.split(step.elements() / (2 * needed / allowed.max(1) + 1));
                    let pieces = pieces.ok_or(Error::TooLarge { needed, allowed })?;
                    pieces.into_iter().rev().for_each(|it| rest.push_front(Cow::Owned(it)));
                    continue;
                }
                Err(error) => return Err(error),
            }
            step.apply(&mut written);
            report.bytes += bytes;
            report.steps += 1;
        }
        self.others.listen(generation, || self.socket.generation())?;
        self.written = Some((written, generation));
        Ok(())
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

    /// Reads what is in force and compares it with the program: see [`verify`]. No mismatch is the
    /// proof that the kernel was told what the program says.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn verify(&mut self, program: &Program) -> Result<Vec<Mismatch>, Error> {
        let nothing = Ruleset { name: self.options.table.clone(), tables: BTreeMap::new() };
        let found = self.read()?.unwrap_or(nothing);
        Ok(verify(&found, program, &self.options))
    }

    /// Listens to the changes that others make to our tables from now on. The calling thread has to
    /// be in the network namespace that this was opened in, which is checked where `/proc` is mounted.
    ///
    /// # Errors
    ///
    /// If there is no netlink for netfilter, or the thread is in [another
    /// namespace](Error::OtherNamespace).
    pub fn monitor(&self) -> Result<Monitor, Error> {
        if let (Some(opened), Some(entered)) = (self.namespace, namespace())
            && opened != entered
        {
            return Err(Error::OtherNamespace);
        }
        Monitor::open(self.options.table.clone(), self.socket.port()?)
    }

    /// What is in force, counted. Reads all of it, and keeps nothing of the elements.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn status(&mut self) -> Result<Status, Error> {
        let name = self.options.table.clone();
        let (readers, _) = self.consistently(&name, Detail::Sizes)?;
        let tables = readers.into_iter().map(|(family, reader)| {
            let denied_egress = reader.count(|chain| is_denied_chain(chain, Direction::Egress));
            let denied_ingress = reader.count(|chain| is_denied_chain(chain, Direction::Ingress));
            let elements = reader.size();
            let table = reader.finish();
            let status = TableStatus {
                chains: table.chains.len(),
                rules: table.chains.values().map(|chain| chain.rules.len()).sum(),
                sets: table.sets.len(),
                elements,
                denied_egress,
                denied_ingress,
            };
            (family, status)
        });
        Ok(Status { tables: tables.collect() })
    }

    /// What the classes of a program have allowed and denied, where
    /// [`Options::counters`](crate::Options::counters) has them counted. Rules that a change does not
    /// touch go on counting. What ports and addresses that do not matter allow or deny is not counted.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn counters(&mut self, program: &Program) -> Result<Vec<ClassCount>, Error> {
        let name = self.options.table.clone();
        let (readers, _) = self.consistently(&name, Detail::Rules)?;
        let chains = counted_chains(program, &self.options);
        let counts = chains.into_iter().map(|(chain, (direction, class, profile))| {
            let (mut allowed, mut denied) = (Count::default(), Count::default());
            for reader in readers.values() {
                let [passed, dropped] =
                    reader.outcomes(&chain, |it| is_denied_chain(it, direction));
                allowed += passed;
                denied += dropped;
            }
            ClassCount { direction, class, profile, allowed, denied }
        });
        Ok(counts.collect())
    }

    /// Removes our tables, whether or not they are there. Nothing is policed afterwards.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; the tables are as they were, then.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.written = None;
        self.renderer = None;
        self.others.ignore()?;
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
        let (readers, generation) = self.consistently(name, Detail::Elements)?;
        let tables: BTreeMap<_, _> =
            readers.into_iter().map(|(family, reader)| (family, reader.finish())).collect();
        let ruleset = (!tables.is_empty()).then(|| Ruleset { name: name.clone(), tables });
        Ok((ruleset, generation))
    }

    /// Dumps the tables of a name, as they all were in one generation.
    fn consistently(
        &mut self,
        name: &Name,
        detail: Detail,
    ) -> Result<(BTreeMap<Family, TableReader>, u32), Error> {
        for _ in 0..ATTEMPTS {
            let generation = self.socket.generation()?;
            let mut readers = BTreeMap::new();
            let mut consistent = true;
            for family in Family::ALL {
                let Some(mut reader) = self.table(family, name)? else { continue };
                consistent &= self.content(family, name, detail, &mut reader)?;
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
        detail: Detail,
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
        let sets = if detail == Detail::Rules { Vec::new() } else { reader.sets() };
        for set in sets {
            let dumped = socket.dump(
                msg::GETSETELEM,
                number,
                |w| {
                    w.text(uapi::elem_list::TABLE, name);
                    w.text(uapi::elem_list::SET, set.as_str());
                },
                |message| match detail {
                    Detail::Elements => reader.elements(message),
                    Detail::Rules | Detail::Sizes => reader.count_elements(message),
                },
            );
            reader.end_of_set(&set);
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
