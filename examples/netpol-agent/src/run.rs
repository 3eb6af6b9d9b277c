//! Puts the parts together, and ends them.

use std::future::pending;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result};
use kube::{Client, Config};
use netpol_backend_nft::Log;
use netpol_core::Scope;
use netpol_core::model::name;
use netpol_enforce::backend::{self, open, open_listener};
use netpol_enforce::metrics::{Health, Metrics, Page, Text, serve_on_thread};
use netpol_enforce::records::{Heard, Recorder, Verdict};
use netpol_enforce::{Culprit, Enforcer, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver};
use tokio::time::{interval, sleep, sleep_until};
use tracing::{info, warn};

use crate::agent::{Agent, DenyUnknown, Input, Start};
use crate::args::{Args, WhenUnknown};
use crate::interfaces;
use crate::kind::Kind;
use crate::last_known::LastKnown;
use crate::policies::Policies;
use crate::report::{Report, tell};
use crate::watch::watch;

/// How many inputs wait for the loop at most; the watches read no further then.
const WAITING: usize = 1024;

/// How often to look for a way to the API server, after the first attempts.
const RECONNECT: Duration = Duration::from_secs(5);

/// The loop is stuck if it does not come round for so long.
const STUCK: Duration = Duration::from_secs(60);

/// How often to look for changes by others that were not heard of.
const CHECK: Duration = Duration::from_secs(300);

/// How often the host's addresses are looked up, and the figures of sizes and packets are brought up to date.
const LOOK: Duration = Duration::from_secs(15);

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> Result<()> {
    let options = backend::Options {
        instance: args.instance.clone(),
        log: (args.log_denied > 0).then_some(Log {
            group: args.log_group,
            per_second: Some(args.log_denied),
            accepted: false,
        }),
        ..backend::Options::default()
    };
    let opened = open(args.backend, &options)?;
    if args.remove {
        let mut backend = opened.backend;
        return backend.remove().context("removing what was written to the kernel");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args, options, opened))
}

async fn serve(args: Args, options: backend::Options, mut opened: backend::Opened) -> Result<()> {
    // Sets without rules, as are left when somebody flushes the rules of iptables, police nothing.
    let inherited = opened.backend.status().context("looking at what is in force")?.rules > 0;
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let settings = Settings {
        scope: Scope::Node(name(&args.node_name)),
        revoke: args.revoke,
        check_every: if opened.monitor.is_some() { CHECK } else { Settings::default().check_every },
        ..Settings::default()
    };
    let enforcer = Enforcer::new(opened.backend, settings, metrics.clone())?;
    info!(
        node = args.node_name,
        backend = enforcer.backend_name(),
        inherited,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    let (sender, mut inputs) = mpsc::channel(WAITING);
    if let Some(log) = options.log {
        match open_listener(&options, log) {
            Ok(listener) => {
                let in_force = enforcer.in_force();
                let recorder = Recorder::new(listener, Verdict::Deny, in_force, metrics.clone());
                record(recorder, sender.clone())?;
            }
            Err(error) => warn!(%error, group = log.group, "denied packets are not recorded"),
        }
    }

    let health = Arc::new(Health::new(STUCK));
    let policies = Arc::new(Mutex::new(Policies::default()));
    health.wait_for_objects(true);
    let texts = vec![policies_page(policies.clone())];
    let page = Page { metrics: metrics.clone(), health: health.clone(), texts };
    let address = serve_on_thread(args.listen, page)
        .with_context(|| format!("listening on {}", args.listen))?;
    info!(%address, "serving metrics");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node = args.node_name.clone();
    let (reports, to_tell) = args.report.then(mpsc::unbounded_channel).unzip();
    let mut agent = Agent::start(Start {
        last_known: last_known(&args),
        node: args.node_name,
        enforcer,
        inherited,
        deny_unknown: (args.when_unknown == WhenUnknown::Deny)
            .then_some(DenyUnknown { ranges: args.pod_cidr, backend: (args.backend, options) }),
        policies,
        metrics,
        reports,
        interfaces: interfaces::addresses()?,
    });

    if let Some(monitor) = opened.monitor {
        let sender = sender.clone();
        netpol_enforce::watch(monitor, move |heard| {
            let sent = heard.ok().map(|by| sender.blocking_send(Input::Disturbed(Culprit(by))));
            if matches!(sent, Some(Ok(()))) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
    }
    tokio::spawn(talk(sender, to_tell, node));
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            Some(input) = inputs.recv() => {
                agent.hear(input);
                // What waits already is put into force together.
                while let Ok(input) = inputs.try_recv() {
                    agent.hear(input);
                }
            }
            () = until(agent.due()) => {}
            _ = look.tick() => {
                match interfaces::addresses() {
                    Ok(addresses) => agent.hear(Input::Interfaces(addresses)),
                    Err(error) => warn!(error = format!("{error:#}"), "the host may have others"),
                }
                agent.measure();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        health.beat();
        agent.pass();
        health.wait_for_objects(!agent.is_live());
    }
    info!("ending; what is in force stays in force");
    agent.stop();
    Ok(())
}

/// Waits until then; for ever without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => pending().await,
    }
}

/// Since when which policies are enforced.
fn policies_page(policies: Arc<Mutex<Policies>>) -> Text {
    let make = move || policies.lock().unwrap_or_else(PoisonError::into_inner).to_json_lines();
    Text { path: "/policies", media_type: "application/jsonl", make: Arc::new(make) }
}

/// Where the last known objects are kept; without a place for them the agent works all the same.
fn last_known(args: &Args) -> Option<LastKnown> {
    match fs::create_dir_all(&args.state_dir) {
        Ok(()) => Some(LastKnown::new(&args.state_dir, &args.node_name)),
        Err(error) => {
            let directory = args.state_dir.display();
            warn!(%directory, %error, "what is in force is not kept on disk");
            None
        }
    }
}

/// Watches every kind, and tells what there is to tell, from the moment at which there is an API server to talk to.
async fn talk(inputs: Sender<Input>, reports: Option<UnboundedReceiver<Report>>, node: String) {
    let mut pause = Duration::from_millis(100);
    let client = loop {
        match connect().await {
            Ok(client) => break client,
            Err(error) => warn!(error = format!("{error:#}"), "no way to the API server"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT);
    };
    for kind in Kind::ALL {
        tokio::spawn(watch(client.clone(), kind, inputs.clone()));
    }
    if let Some(reports) = reports {
        tell(client, node, reports).await;
    }
}

async fn connect() -> Result<Client> {
    let config = Config::infer().await.context("finding out how to reach it")?;
    Client::try_from(config).context("preparing to reach it")
}

/// Hands over what is heard of denied packets, on a thread of its own.
fn record(mut recorder: Recorder, inputs: Sender<Input>) -> io::Result<()> {
    let listen = move || {
        loop {
            match recorder.wait(None) {
                Ok(Some(Heard::Record(record))) => {
                    if inputs.blocking_send(Input::Denied(record)).is_err() {
                        return;
                    }
                }
                Ok(Some(Heard::Lost)) => warn!("more packets were denied than could be recorded"),
                Ok(None) => {}
                Err(error) => return warn!(%error, "denied packets are not recorded any more"),
            }
        }
    };
    thread::Builder::new().name("records".to_owned()).spawn(listen).map(drop)
}
