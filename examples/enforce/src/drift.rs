//! Other hands on what is ours.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::thread;

use netpol_backend_nft::{Interference, Monitor, Process};
use netpol_core::backend::Error;

/// Hands every change that others make to `heard`, on a thread of its own, until that breaks off or the monitor fails.
///
/// An asynchronous host may wait for the monitor's file descriptor instead, and then ask it with a timeout of zero
/// until there is nothing more to hear.
///
/// # Errors
///
/// If no thread can be started.
pub fn watch(
    mut monitor: Monitor,
    mut heard: impl FnMut(Result<Interference, Error>) -> ControlFlow<()> + Send + 'static,
) -> io::Result<()> {
    let listen = move || {
        loop {
            let flow = match monitor.wait(None) {
                Ok(None) => continue,
                Ok(Some(interference)) => heard(Ok(interference)),
                Err(error) => {
                    let _ = heard(Err(error.into()));
                    ControlFlow::Break(())
                }
            };
            if flow.is_break() {
                return;
            }
        }
    };
    thread::Builder::new().name("drift".to_owned()).spawn(listen).map(drop)
}

/// Who it was, in words: `nft (pid 812)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit(pub Interference);

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Interference::By(Some(Process { name, pid })) => write!(f, "{name} (pid {pid})"),
            Interference::By(None) => f.write_str("an unknown process"),
            Interference::Lost => f.write_str("somebody (more changes than could be heard)"),
        }
    }
}
