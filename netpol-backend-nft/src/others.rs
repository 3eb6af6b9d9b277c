//! Whether what others have committed is about our tables.

use std::time::Duration;

use crate::error::Error;
use crate::monitor::is_about;
use crate::name::Name;
use crate::socket::{Heard, Socket};
use crate::wire::uapi::{self, generation, msg};

/// So much of what others commit is kept to be looked at, some thousand changes; beyond that all of our
/// tables has to be read.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Hears what others commit between two changes of ours, so that our tables need not be read back
/// because somebody has changed another. Hears nothing of our own changes, which would be as much again
/// as they are.
#[derive(Debug)]
pub(crate) struct Others {
    socket: Socket,
    /// All commits since are heard.
    since: Option<u32>,
}

impl Others {
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open_sized(RECEIVE_BUFFER)?, since: None })
    }

    /// Begins to hear, if nobody has committed since a generation. `now` asks for the present one.
    pub(crate) fn listen(
        &mut self,
        since: u32,
        now: impl FnOnce() -> Result<u32, Error>,
    ) -> Result<(), Error> {
        if self.since != Some(since) {
            self.since = None;
            self.socket.join(uapi::GROUP_NFTABLES)?;
            // What was committed before may have been missed.
            self.since = (now()? == since).then_some(since);
        }
        Ok(())
    }

    /// Ends to hear.
    pub(crate) fn ignore(&mut self) -> Result<(), Error> {
        self.since = None;
        self.socket.leave(uapi::GROUP_NFTABLES)?;
        while self.socket.listen(Some(Duration::ZERO), |_| ())? != Heard::Nothing {}
        Ok(())
    }

    /// Whether it is certain that no table of this name was changed from one generation to another.
    pub(crate) fn left_alone(&mut self, table: &Name, from: u32, to: u32) -> Result<bool, Error> {
        if self.since != Some(from) {
            return Ok(false);
        }
        self.since = None;
        let (mut touched, mut heard) = (false, from);
        loop {
            let outcome = self.socket.listen(Some(Duration::ZERO), |message| {
                let [subsystem, kind] = message.kind.to_be_bytes();
                if subsystem != uapi::SUBSYS_NFTABLES {
                    return;
                }
                if kind == msg::NEWGEN {
                    heard = message.attributes().be32(generation::ID).unwrap_or(heard);
                } else {
                    touched |= is_about(message, kind, table);
                }
            })?;
            match outcome {
                Heard::Something => {}
                Heard::Overflow => return Ok(false),
                Heard::Nothing => break,
            }
        }
        let left_alone = heard == to && !touched;
        self.since = left_alone.then_some(to);
        Ok(left_alone)
    }
}
