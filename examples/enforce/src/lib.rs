//! Keeps a host's kernel in agreement with network policies: what the programs `netpol run` and `netpol-agent` have in
//! common, whether they have threads or a runtime.
//!
//! ```text
//! objects --change--> Enforcer --enforce--> compile -> sync -> revoke --> Applied | Failed
//!                        |  ^                                                |
//!                        |  +-- due (retry, look for drift), repair <- watch (somebody else's change)
//!                        +--> InForce --> Recorder --> Record (denied packets, with the reason)
//!                        +--> Metrics --> serve (/metrics, /healthz, /readyz)
//! ```
//!
//! - [`backend`]: `--backend auto|nft|iptables`, opened as a [`Backend`](netpol_core::backend::Backend) with a monitor of other
//!   hands.
//! - [`Enforcer`]: owns the cluster, the compiler and the backend; synchronous, without threads or timers of its own.
//! - [`watch`]: notifications of changes by others, on a thread.
//! - [`metrics`]: Prometheus, and the pages for those who ask whether all is well.
//! - [`records`]: denied packets with the policies that denied them, as JSON.
//!
//! # A host, complete
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::sync::{Arc, mpsc};
//! use std::time::Instant;
//!
//! use netpol_core::model::Objects;
//! use netpol_enforce::backend::{Choice, Options, open};
//! use netpol_enforce::metrics::Metrics;
//! use netpol_enforce::{Culprit, Enforcer, Settings, watch};
//!
//! enum Event {
//!     Changed(Instant, Objects),
//!     Disturbed(Culprit),
//! }
//!
//! # fn example(objects: mpsc::Receiver<Event>, sender: mpsc::Sender<Event>) -> Result<(), Box<dyn std::error::Error>> {
//! let opened = open(Choice::Auto, &Options::default())?;
//! let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
//! let mut enforcer = Enforcer::new(opened.backend, Settings::default(), metrics)?;
//! if let Some(monitor) = opened.monitor {
//!     watch(monitor, move |heard| match heard.map(|by| sender.send(Event::Disturbed(Culprit(by)))) {
//!         Ok(Ok(())) => ControlFlow::Continue(()),
//!         _ => ControlFlow::Break(()),
//!     })?;
//! }
//! loop {
//!     let wait = enforcer.due().saturating_duration_since(Instant::now());
//!     let applied = match objects.recv_timeout(wait) {
//!         Ok(Event::Changed(seen, objects)) => {
//!             enforcer.change(seen, |cluster| {
//!                 objects.policies.into_iter().for_each(|it| cluster.upsert_policy(it));
//!             });
//!             enforcer.enforce()
//!         }
//!         Ok(Event::Disturbed(culprit)) => {
//!             println!("{culprit} has changed our rules");
//!             enforcer.repair()
//!         }
//!         Err(mpsc::RecvTimeoutError::Timeout) => enforcer.enforce(),
//!         Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
//!     };
//!     match applied {
//!         Ok(applied) => println!("{applied}"),
//!         Err(failed) => println!("{failed}"),
//!     }
//! }
//! # }
//! ```
//!
//! In a runtime the same calls go into `spawn_blocking` or a thread of their own: they block for as long as the kernel
//! takes, some hundred microseconds for a change and up to some hundred milliseconds for everything at the start.
#![forbid(unsafe_code)]

pub mod backend;
mod backoff;
mod closed;
mod drift;
mod enforcer;
mod in_force;
pub mod metrics;
mod preview;
pub mod records;

pub use closed::closed;
pub use drift::{Culprit, watch};
pub use enforcer::{Applied, Enforcer, Failed, Settings};
pub use in_force::{InForce, Numbered};
pub use preview::{Commit, Preview};
