//! Hears of changes that others make to our tables.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::name::Name;
use crate::socket::{Heard, Socket};
use crate::wire::reader::Message;
use crate::wire::uapi::{self, generation, msg, table};

/// Listens to the changes of nf_tables in one network namespace, for those that others make to the
/// tables of an [`Nft`](crate::Nft). Made by [`Nft::monitor`](crate::Nft::monitor).
///
/// The file descriptor becomes readable when there may be something to hear.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    table: Name,
    own_port: u32,
    /// The transaction being heard changes our tables.
    touched: bool,
}

/// Somebody else changed our tables: [`sync`](crate::Nft::sync) repairs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interference {
    /// One transaction of another socket.
    By(Option<Process>),
    /// There was more to hear than the socket's buffer holds, so it is not known.
    Lost,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The name of the program, at most 15 characters.
    pub name: String,
    /// Its process id, as the first process id namespace counts.
    pub pid: u32,
}

impl Monitor {
    pub(crate) fn open(table: Name, own_port: u32) -> Result<Self, Error> {
        let socket = Socket::open()?;
        socket.join(uapi::GROUP_NFTABLES)?;
        Ok(Self { socket, table, own_port, touched: false })
    }

    /// Waits for the next change by somebody else, for ever if there is no `timeout`; `None` after
    /// the timeout.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Interference>, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
            let (table, own_port, touched) = (&self.table, self.own_port, &mut self.touched);
            let mut found = None;
            let heard = self.socket.listen(left, |message| {
                let [subsystem, kind] = message.kind.to_be_bytes();
                if subsystem != uapi::SUBSYS_NFTABLES {
                    return;
                }
                if kind == msg::NEWGEN {
                    if std::mem::take(touched) {
                        found.get_or_insert_with(|| Interference::By(process(message)));
                    }
                } else if message.port != own_port {
                    *touched |= is_about(message, kind, table);
                }
            })?;
            match heard {
                Heard::Overflow => {
                    self.touched = false;
                    return Ok(Some(Interference::Lost));
                }
                Heard::Nothing => return Ok(None),
                Heard::Something if found.is_some() => return Ok(found),
                Heard::Something => {}
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether a notification is about a table of this name.
pub(crate) fn is_about(message: Message<'_>, kind: u8, name: &Name) -> bool {
    // All objects have their table's name, and tables their own, in the first attribute.
    let known = msg::NEWTABLE..=msg::DELSETELEM;
    known.contains(&kind) && message.attributes().text(table::NAME) == Some(name.as_str())
}

/// Who ends the transaction.
fn process(message: Message<'_>) -> Option<Process> {
    let at = message.attributes();
    let name = at.text(generation::PROC_NAME)?.to_owned();
    Some(Process { name, pid: at.be32(generation::PROC_PID)? })
}
