//! The loop of `netpol run`: waits for files, signals, other hands on our rules, and time.

mod files;
mod records;
mod signals;
mod systemd;
mod watch;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use netpol_backend_nft::Monitor;
use netpol_core::backend::Change;
use netpol_core::model::Objects;
use netpol_enforce::backend::open_listener;
use netpol_enforce::metrics::{Health, Metrics, Page, serve_on_thread};
use netpol_enforce::records::{Recorder, Verdict};
use netpol_enforce::{Applied, Culprit, Enforcer, Failed, Settings, closed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prometheus_client::metrics::gauge::Gauge;

use self::files::Files;
use self::signals::Signals;
use self::systemd::Watchdog;
use crate::commands::run::{RunArgs, WhenUnknown};
use crate::exit::Failure;
use crate::host::{Desired, Sources, Surroundings, failure, replace};
use crate::input::Severity;
use crate::notes::{self, count, note};

/// The loop goes round at least so often,
const BEAT: Duration = Duration::from_secs(5);
/// or something is wrong.
const STUCK: Duration = Duration::from_secs(60);
/// How often to look for drift where others' changes are told,
const GLANCE: Duration = Duration::from_secs(30);
/// and where only looking tells.
const LOOK: Duration = Duration::from_secs(5);
/// Where denied packets are reported if nobody says otherwise.
const NFLOG_GROUP: u16 = 100;

/// Keeps what the files say in force.
pub(crate) struct Daemon<'a> {
    args: &'a RunArgs,
    signals: Signals,
    files: Files,
    enforcer: Enforcer,
    monitor: Option<Monitor>,
    /// The objects that the enforcer has.
    objects: Objects,
    /// What is wrong with the input, as it was told.
    complaints: Vec<String>,
    is_ready: bool,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    readable: Gauge,
    watchdog: Watchdog,
}

impl<'a> Daemon<'a> {
    /// Opens everything; nothing is changed yet.
    pub(crate) fn start(args: &'a RunArgs) -> Result<Self, Failure> {
        let signals = Signals::new().context("signals").map_err(Failure::unavailable)?;
        let mut options = args.backend.options()?;
        options.owned = args.exclusive;
        args.log.add_to(&mut options, args.records.is_some().then_some(NFLOG_GROUP));
        let opened = args.backend.open(&options)?;

        let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let readable = Gauge::default();
        let help = "1 if all of the input can be read, 0 if what it said before is in force";
        metrics.registry_mut().register("input_readable", help, readable.clone());
        let metrics = Arc::new(metrics);
        let node = args.host.node();
        let settings = Settings {
            scope: netpol_core::Scope::Node(node),
            readings: args.host.readings.options(),
            revoke: !args.keep_connections,
            check_every: if opened.monitor.is_some() { GLANCE } else { LOOK },
        };
        let enforcer = Enforcer::new(opened.backend, settings, metrics.clone()).map_err(failure)?;

        let health = Arc::new(Health::new(STUCK));
        if let Some(address) = args.metrics {
            let (metrics, health) = (metrics.clone(), health.clone());
            let page = Page { metrics, health, texts: Vec::new() };
            let address = serve_on_thread(address, page)
                .with_context(|| format!("--metrics {address}"))
                .map_err(Failure::unavailable)?;
            note(format_args!("metrics at http://{address}/metrics"));
        }
        if let (Some(path), Some(log)) = (&args.records, options.log) {
            let listener = open_listener(&options, log).map_err(failure)?;
            let verdict = if args.log.audit { Verdict::Audit } else { Verdict::Deny };
            let recorder = Recorder::new(listener, verdict, enforcer.in_force(), metrics.clone());
            records::write(recorder, path)
                .with_context(|| format!("--records {}", path.display()))
                .map_err(Failure::input)?;
        }
        let sources = Sources::new(args.host.clone(), Surroundings::Here);
        let files = Files::new(sources).map_err(Failure::unavailable)?;
        Ok(Self {
            args,
            signals,
            files,
            enforcer,
            monitor: opened.monitor,
            objects: Objects::default(),
            complaints: Vec::new(),
            is_ready: false,
            health,
            metrics,
            readable,
            watchdog: Watchdog::new(),
        })
    }

    /// Goes round until somebody asks for the end. The policies stay in force.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        self.begin()?;
        loop {
            let now = Instant::now();
            self.health.beat();
            let watchdog = self.watchdog.tell(now);
            let times = [Some(self.enforcer.due()), Some(now + BEAT), watchdog, self.files.due()];
            let next = times.into_iter().flatten().min().unwrap_or(now);
            self.wait(next.saturating_duration_since(now)).map_err(Failure::unavailable)?;

            if self.signals.stop().map_err(Failure::unavailable)? {
                systemd::stopping();
                note("asked to stop; the policies stay in force");
                return Ok(());
            }
            if self.signals.reload().map_err(Failure::unavailable)? {
                systemd::reloading();
                note("asked to read everything again");
                self.files.forget();
                self.reload(Instant::now());
                systemd::ready(&self.summary());
            }
            self.files.hear().map_err(Failure::unavailable)?;
            if let Some(seen) = self.files.changed() {
                self.reload(seen);
            }
            self.hear_of_others()?;
            if Instant::now() >= self.enforcer.due() {
                // Also what no file tells: addresses of this machine, and routes.
                self.reload(Instant::now());
                self.enforce("looked again");
                self.measure();
            }
        }
    }

    /// The first reading, and the first program.
    fn begin(&mut self) -> Result<(), Failure> {
        self.reload(Instant::now());
        if self.enforcer.in_force().generation() == 0 && !self.complaints.is_empty() {
            self.stand_in()?;
        }
        self.measure();
        if self.enforcer.in_force().generation() > 0 || !self.complaints.is_empty() {
            self.get_ready();
        }
        Ok(())
    }

    /// It is decided what is in force.
    fn get_ready(&mut self) {
        self.is_ready = true;
        systemd::ready(&self.summary());
    }

    /// Waits until something happens.
    fn wait(&self, at_most: Duration) -> anyhow::Result<()> {
        let [hang_up, end] = self.signals.fds();
        let fds = [Some(hang_up), Some(end), Some(self.files.as_fd())];
        let monitor = self.monitor.as_ref().map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .chain([monitor])
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        // Rounded up, so as not to go round in vain.
        let at_most = u16::try_from(at_most.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(at_most)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("waiting"),
        }
    }

    /// Reads what the files say, and enforces it if all of it can be read. `seen` is when the change was noticed.
    fn reload(&mut self, seen: Instant) {
        if let Some(read) = self.files.read() {
            self.take(read, seen);
        }
    }

    fn take(&mut self, read: anyhow::Result<Desired>, seen: Instant) {
        let desired = match read {
            Ok(desired) => desired,
            Err(error) => return self.complain(vec![format!("error: {error:#}")]),
        };
        let findings = &desired.input.findings;
        self.metrics.diagnose(findings.iter().map(|finding| &*finding.reason));
        let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
            errors.for_each(|it| self.metrics.rejected(&it.object.kind, &it.reason));
            return self.complain(told);
        }
        self.health.wait_for_objects(false);
        if self.readable.set(1) == 0 && !self.complaints.is_empty() {
            note("the input can be read again");
        }
        for warning in told.iter().filter(|it| !self.complaints.contains(it)) {
            note(warning);
        }
        self.complaints = told;
        let changes = {
            let objects = &self.objects;
            let wanted = &desired.input.objects;
            self.enforcer.change(seen, |cluster| replace(cluster, objects, wanted))
        };
        self.objects = desired.input.objects;
        if changes > 0 || !self.is_ready {
            self.enforce(&count(changes, "object changed", "objects changed"));
        }
    }

    /// The input cannot be read as a whole, so nothing is changed.
    fn complain(&mut self, told: Vec<String>) {
        self.readable.set(0);
        self.health.wait_for_objects(true);
        if self.complaints == told {
            return;
        }
        told.iter().for_each(note);
        note("nothing is changed until all of the input can be read");
        systemd::status("the input cannot be read; what it said before is in force");
        self.complaints = told;
    }

    /// There is no program yet, and no input to make one from.
    fn stand_in(&mut self) -> Result<(), Failure> {
        // Sets without rules, as are left when somebody flushes the rules of iptables, police nothing.
        if self.enforcer.measure().map_err(failure)?.rules > 0 {
            note("what an earlier run has left stays in force");
            return Ok(());
        }
        if self.args.when_unknown == WhenUnknown::Allow {
            note("nothing is in force until then");
            return Ok(());
        }
        // The endpoints that can be read are known, at least.
        let Some(Ok(Desired { input, .. })) = self.files.read() else {
            note("nothing is in force until then, since no endpoint is known");
            return Ok(());
        };
        let objects = Objects { policies: vec![closed()], ..input.objects };
        self.enforcer.change(Instant::now(), |cluster| {
            replace(cluster, &Objects::default(), &objects);
        });
        self.objects = objects;
        note("all endpoints that are known are isolated until then");
        self.enforce("isolated");
        Ok(())
    }

    /// Hears of other hands on our rules, and puts right what they have done.
    fn hear_of_others(&mut self) -> Result<(), Failure> {
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        let mut culprits = Vec::new();
        while let Some(interference) =
            monitor.wait(Some(Duration::ZERO)).map_err(|it| failure(it.into()))?
        {
            let culprit = Culprit(interference).to_string();
            if !culprits.contains(&culprit) {
                culprits.push(culprit);
            }
        }
        if culprits.is_empty() || self.enforcer.in_force().generation() == 0 {
            return Ok(());
        }
        let repaired = self.enforcer.repair();
        self.report(&format!("{} changed our rules", culprits.join(", ")), repaired);
        Ok(())
    }

    fn enforce(&mut self, what: &str) {
        let outcome = self.enforcer.enforce();
        self.report(what, outcome);
    }

    fn report(&mut self, what: &str, outcome: Result<Applied, Failed>) {
        match outcome {
            Ok(applied) => {
                let is_news = applied.report.change != Change::None;
                if is_news || !self.is_ready || matches!(applied.revoked, Some(Err(_))) {
                    note(format_args!("{what}: {applied}"));
                    systemd::status(&self.summary());
                }
                applied.too_large.iter().for_each(|it| note(format_args!("warning: {it}")));
                if !self.is_ready {
                    self.get_ready();
                }
            }
            Err(failed) => {
                notes::error(format_args!("{what}: {failed}"));
                systemd::status("the kernel does not have what the files say");
            }
        }
    }

    /// Figures for those who ask; nobody does where they are not served.
    fn measure(&mut self) {
        if self.args.metrics.is_some()
            && let Err(error) = self.enforcer.measure()
        {
            notes::error(format_args!("what is in force cannot be read: {error}"));
        }
    }

    fn summary(&self) -> String {
        let policies = count(self.objects.policies.len(), "policy", "policies");
        let endpoints = count(self.enforcer.program().endpoints().count(), "endpoint", "endpoints");
        format!("{policies} in force for {endpoints}")
    }
}
