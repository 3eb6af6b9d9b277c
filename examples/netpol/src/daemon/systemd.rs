//! What the service manager wants to hear. Nobody hears it where there is none.

use std::time::{Duration, Instant};

use sd_notify::{NotifyState, notify};

/// The manager's watchdog, if it has one for us.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// How often to tell, and when next.
    every: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        // Twice in the time that is allowed.
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self { every, next: Instant::now() }
    }

    /// The main loop goes round; returns when it has to again.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<Instant> {
        let every = self.every?;
        if now >= self.next {
            tell(&[NotifyState::Watchdog]);
            self.next = now + every;
        }
        Some(self.next)
    }
}

/// The policies are in force.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// All is read again, which [`ready`] ends.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// What there is to say.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The end is near.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// If the manager does not hear it, it will notice by itself.
fn tell(states: &[NotifyState<'_>]) {
    let _ = notify(states);
}
