//! The rules and sets of the host, made to agree with a ruleset.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use netpol_core::backend::{Change, Count, Report, TableStatus};
use netpol_core::model::{Direction, Family};
use netpol_core::program::Program;

use crate::error::Error;
use crate::plan::{Plan, Purpose, Step, Tool};
use crate::render::{ClassSets, Options, drop_chain, label, render_after};
use crate::ruleset::{Counters, Ruleset, Table};
use crate::tool::{self, Program as ToolProgram};
use crate::variant::{Known, Variant};
use crate::verify::{Mismatch, verify};

/// How long changes are made without looking whether somebody else has changed anything.
const TRUST: Duration = Duration::from_secs(30);

/// How long the tools wait for their lock, in seconds.
const LOCK_WAIT: &str = "5";

/// How often destroying a set is tried again: the nft variant's rules let go of it a little later.
const DESTROY_ATTEMPTS: u32 = 50;

/// The filter tables and sets of one network namespace: the one that the calling thread is in
/// whenever a method is called. Only our own chains and sets are changed, and the rules that jump to
/// them.
#[derive(Debug)]
pub struct Iptables {
    options: Options,
    sets: ClassSets,
    variant: Known,
    ipset: ToolProgram,
    rules: BTreeMap<Family, RuleTools>,
    /// What the kernel said when it was last asked for rules of IPv6 and had no place for them.
    kernel_lacks: Option<Error>,
    /// What is in force, as far as we know, and when that was last looked at.
    written: Option<(Ruleset, Instant)>,
    /// Rules of an earlier run may be left in the other variant's tables.
    other_variant_unknown: bool,
}

/// The tools for the rules of one family.
#[derive(Debug)]
struct RuleTools {
    save: ToolProgram,
    restore: ToolProgram,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// By family; empty if there is nothing of ours.
    pub tables: BTreeMap<Family, TableStatus>,
}

impl Iptables {
    /// Finds the tools, and which variant the host uses. Changes nothing.
    ///
    /// # Errors
    ///
    /// If `ipset` or the wanted variant of iptables is not installed.
    pub fn open(options: Options) -> Result<Self, Error> {
        let ipset =
            tool::find("ipset").ok_or(Error::Missing { tool: "ipset", package: "ipset" })?;
        let variant = match options.variant {
            Variant::Auto => Known::in_use(&options.name),
            Variant::Nft => Known::Nft,
            Variant::Legacy => Known::Legacy,
        };
        let mut rules = BTreeMap::new();
        for family in Family::ALL {
            if family == Family::V6 && !has_ipv6() {
                continue;
            }
            if let Some(tools) = RuleTools::find(variant, family) {
                rules.insert(family, tools);
            } else if family == Family::V4 {
                let variant = match variant {
                    Known::Nft => Variant::Nft,
                    Known::Legacy => Variant::Legacy,
                };
                let tool = format!("iptables-{variant}-restore");
                return Err(Error::NoVariant { variant, tool });
            }
        }
        Ok(Self {
            options,
            sets: ClassSets::default(),
            variant,
            ipset,
            rules,
            kernel_lacks: None,
            written: None,
            other_variant_unknown: true,
        })
    }

    /// What it writes to: `iptables-nft` or `iptables-legacy`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.variant {
            Known::Nft => "iptables-nft",
            Known::Legacy => "iptables-legacy",
        }
    }

    /// Makes the kernel judge packets as the program does, by the calls of a [`Plan`]. Does nothing
    /// if what is in force agrees already, be it from a previous run.
    ///
    /// Whether others have changed what is ours is looked at whenever there is nothing else to do, so
    /// a host calls this from time to time; and before a change, if that has not been done for 30
    /// seconds.
    ///
    /// # Errors
    ///
    /// If a tool refuses. Any step of the plan may be in force then; each allows only what the old or
    /// the new program allows, and the next call goes on from there. If endpoints have IPv6 addresses
    /// and there is no ip6tables, or the kernel has no place for its rules, IPv4 is policed
    /// nevertheless, and [`Error::NoIpv6`] names the endpoints.
    pub fn sync(&mut self, program: &Program) -> Result<Report, Error> {
        let ruleset = render_after(program, &self.options, &mut self.sets);
        let report = self.apply(ruleset)?;
        match self.lack_of_ipv6(program) {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }

    /// Which endpoints are not policed for want of what IPv6 needs.
    fn lack_of_ipv6(&mut self, program: &Program) -> Option<Error> {
        let lack = match self.kernel_lacks.take() {
            Some(lack) => lack,
            None if self.rules.contains_key(&Family::V6) || !has_ipv6() => return None,
            None => Error::Missing { tool: self.variant.ip6tables(), package: "iptables" },
        };
        let concerned = program.endpoints().filter_map(|entry| {
            let address = entry.addresses().iter().find(|it| it.is_ipv6())?;
            Some(format!("{} ({address})", label(entry)))
        });
        let mut concerned: BTreeSet<String> = concerned.collect();
        let endpoint = concerned.pop_first()?;
        Some(Error::NoIpv6 { endpoint, others: concerned.len(), lack: Box::new(lack) })
    }

    /// Puts a ruleset into force in place of what has its name: [`sync`](Self::sync) for a ruleset
    /// that is rendered already. Families that there are no tools for are left out.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn apply(&mut self, mut ruleset: Ruleset) -> Result<Report, Error> {
        ruleset.tables.retain(|family, _| self.rules.contains_key(family));
        let mut report = Report { change: Change::None, interfered: false, steps: 0, bytes: 0 };
        let known = self
            .written
            .take()
            .filter(|(written, seen)| written.name == ruleset.name && seen.elapsed() < TRUST);
        if let Some((written, seen)) = known {
            let plan = Plan::new(&written, ruleset);
            if !plan.steps().is_empty() && self.carry_out(&plan, &mut report).is_ok() {
                report.change = Change::Updated;
                self.written = Some((plan.into_target(), seen));
                return Ok(report);
            }
            // Whatever failed, or if there is nothing to do, what is in force tells more.
            ruleset = plan.into_target();
            let (present, _) = self.read_present(&ruleset)?;
            report.interfered = report.steps == 0 && present != written;
            return self.update(present, ruleset, report);
        }
        let (present, _) = self.read_present(&ruleset)?;
        self.update(present, ruleset, report)
    }

    /// Makes a ruleset of what was just read.
    fn update(
        &mut self,
        present: Ruleset,
        mut wanted: Ruleset,
        mut report: Report,
    ) -> Result<Report, Error> {
        wanted.tables.retain(|family, _| present.tables.contains_key(family));
        let nothing = present.tables.values().all(Table::is_empty);
        let plan = Plan::new(&present, wanted);
        self.carry_out(&plan, &mut report)?;
        if report.steps > 0 {
            report.change = if nothing { Change::Created } else { Change::Updated };
        }
        // As long as the kernel has no place for a family it is asked every time.
        let complete = self.kernel_lacks.is_none();
        self.written = complete.then(|| (plan.into_target(), Instant::now()));
        Ok(report)
    }

    /// Makes the calls of a plan.
    fn carry_out(&mut self, plan: &Plan, report: &mut Report) -> Result<(), Error> {
        let (last, first): (Vec<&Step>, Vec<&Step>) =
            plan.steps().iter().partition(|step| step.purpose() == Purpose::Clean);
        for step in first {
            report.bytes += self.call(step, plan.target())?;
            report.steps += 1;
        }
        if self.other_variant_unknown {
            self.remove_other_variant()?;
            self.other_variant_unknown = false;
        }
        for step in last {
            let mut attempts = 0;
            report.bytes += loop {
                match self.call(step, plan.target()) {
                    Err(Error::Busy { .. }) if attempts < DESTROY_ATTEMPTS => {
                        attempts += 1;
                        thread::sleep(Duration::from_millis(2));
                    }
                    called => break called?,
                }
            };
            report.steps += 1;
        }
        Ok(())
    }

    fn call(&self, step: &Step, ruleset: &Ruleset) -> Result<usize, Error> {
        let script = step.script(ruleset);
        match step.tool() {
            Tool::Sets => {
                // A set that is there must not be taken for a new one; an element may be.
                let exists =
                    matches!(step.purpose(), Purpose::Close | Purpose::Open | Purpose::Clean);
                let arguments: &[&str] = if exists { &["restore", "-!"] } else { &["restore"] };
                self.ipset.run(arguments, &script)?;
            }
            Tool::Rules(family) => {
                if let Some(tools) = self.rules.get(&family) {
                    tools.restore.run(&["--noflush", "-w", LOCK_WAIT], &script)?;
                }
            }
        }
        Ok(script.len())
    }

    /// Reads back what is ours; `None` if there is nothing. `O(n)` in the rules and sets of the host.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(&mut self) -> Result<Option<Ruleset>, Error> {
        let nothing = self.options.name.nothing();
        let (present, _) = self.read_present(&nothing)?;
        Ok(Some(present).filter(|it| !it.tables.values().all(Table::is_empty)))
    }

    /// Reads what is in force and compares it with the program: see [`verify`](crate::verify()). No
    /// mismatch is the proof that the kernel was told what the program says. A family that there are
    /// no tools for is a mismatch, if there are endpoints with its addresses.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn verify(&mut self, program: &Program) -> Result<Vec<Mismatch>, Error> {
        let nothing = self.options.name.nothing();
        let (present, _) = self.read_present(&nothing)?;
        Ok(verify(&present, program))
    }

    /// What is ours under the name of a ruleset, and the counters of its last rules, for every family
    /// that the host has rules of.
    fn read_present(
        &mut self,
        like: &Ruleset,
    ) -> Result<(Ruleset, BTreeMap<Family, Counters>), Error> {
        let mut present = Ruleset { name: like.name.clone(), tables: BTreeMap::new() };
        let mut counters = BTreeMap::new();
        self.kernel_lacks = None;
        for (family, tools) in &self.rules {
            match tools.save.run(&["-c", "-t", "filter"], "") {
                Ok(saved) => _ = counters.insert(*family, present.read_rules(*family, &saved)?),
                // IPv4 shall not suffer for it.
                Err(error @ Error::Unsupported { .. }) if *family == Family::V6 => {
                    self.kernel_lacks = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        present.read_sets(&self.ipset.run(&["save"], "")?)?;
        present.tables.retain(|family, _| counters.contains_key(family));
        Ok((present, counters))
    }

    /// What is in force, counted. Reads all of it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn status(&mut self) -> Result<Status, Error> {
        let nothing = self.options.name.nothing();
        let (present, counters) = self.read_present(&nothing)?;
        let tables = present.tables.into_iter().filter(|(_, table)| !table.is_empty());
        let tables = tables.map(|(family, table)| {
            let denied = |direction| {
                let counters = counters.get(&family);
                let chain = drop_chain(&self.options.name, direction);
                let count = counters.and_then(|it| it.get(&chain)).copied().unwrap_or_default();
                Count { packets: count.0, bytes: count.1 }
            };
            let status = TableStatus {
                chains: table.chains.len(),
                rules: table.chains.values().map(Vec::len).sum(),
                sets: table.sets.len(),
                elements: table.sets.values().map(|it| it.len()).sum(),
                denied_egress: denied(Direction::Egress),
                denied_ingress: denied(Direction::Ingress),
            };
            (family, status)
        });
        Ok(Status { tables: tables.collect() })
    }

    /// Removes our chains, sets and jumps, whether or not they are there, from the tables of both
    /// variants. Nothing is policed afterwards.
    ///
    /// # Errors
    ///
    /// If a tool refuses, or others use what is ours.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.written = None;
        let nothing = self.options.name.nothing();
        let (present, _) = self.read_present(&nothing)?;
        self.other_variant_unknown = true;
        let tables = present.tables.keys().map(|family| (*family, Table::default())).collect();
        let nothing = Ruleset { name: self.options.name.clone(), tables };
        let mut report = Report { change: Change::None, interfered: false, steps: 0, bytes: 0 };
        self.carry_out(&Plan::new(&present, nothing), &mut report)
    }

    /// Removes the rules that an earlier run left with the other variant.
    fn remove_other_variant(&self) -> Result<(), Error> {
        let other = self.variant.other();
        if !other.may_be_in_use() {
            return Ok(());
        }
        for family in Family::ALL {
            let Some(tools) = RuleTools::find(other, family) else { continue };
            // That it cannot be read is usual where the kernel has only one of them.
            let Ok(saved) = tools.save.run(&["-t", "filter"], "") else { continue };
            let mut present = Ruleset { name: self.options.name.clone(), tables: BTreeMap::new() };
            present.read_rules(family, &saved)?;
            let nothing =
                Ruleset { name: present.name.clone(), tables: [(family, Table::default())].into() };
            for step in Plan::new(&present, nothing).steps() {
                let script = step.script(&present);
                tools.restore.run(&["--noflush", "-w", LOCK_WAIT], &script)?;
            }
        }
        Ok(())
    }
}

impl RuleTools {
    fn find(variant: Known, family: Family) -> Option<Self> {
        let command = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let find = |verb| variant.find(command, verb);
        Some(Self { save: find("save")?, restore: find("restore")? })
    }
}

/// Whether the calling thread's namespace has IPv6 at all.
fn has_ipv6() -> bool {
    fs::exists("/proc/thread-self/net/if_inet6").unwrap_or(true)
}
