//! Cuts the connections that a new program forbids.
//!
//! Rules judge the first packet of a connection only (NP-CONN-1): what was allowed once goes on
//! after a change that forbids it. [`Conntrack::revoke`] deletes exactly the entries of such
//! connections from the kernel's connection tracking, so that their next packet is judged as if it
//! were the first.
//!
//! For a TCP connection or an SCTP association that is the end, in both directions. Connection
//! tracking takes any packet of TCP for the beginning of a connection (unless the setting
//! `nf_conntrack_tcp_loose` is 0), and a heartbeat of SCTP for that of an association; so the server's
//! next packet might begin anew, as the server's own, what the client's was cut for. The rules of
//! [`render`](crate::render()) do not let that happen: a packet from the middle of something unknown
//! passes only if neither it nor what it may be an answer to is denied.
//!
//! Datagrams have no beginning. What the client sends is denied; what the server sends is a datagram
//! from server to client like any other, judged by what the two may do in that direction. If that is
//! allowed, the client may answer (NP-CONN-1), and the server's word is the beginning (M7). Policies
//! that are to stop an exchange of datagrams whoever speaks have to deny both directions.

use std::net::IpAddr;

use netpol_core::model::{Flow, Protocol, Traffic};
use netpol_core::program::Program;
use nix::errno::Errno;

use crate::error::Error;
use crate::socket::Socket;
use crate::wire::reader::{Attributes, Message, be16};
use crate::wire::uapi::{self, conntrack as ct};
use crate::wire::writer::Writer;

/// Deletions are sent in pieces of about this size.
const CHUNK: usize = 60_000;

/// The connection tracking of one network namespace: the one that the calling thread is in when
/// this is opened.
///
/// Needs `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

/// What [`Conntrack::revoke`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    /// How many connections there were.
    pub examined: usize,
    /// The connections that were cut, as the program judged them: destination and port are those
    /// after the translation of a service address (M5).
    pub cut: Vec<Flow>,
}

impl Conntrack {
    /// Opens the connection tracking of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If there is no netlink for netfilter.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()? })
    }

    /// The connections there are, as policies judge them: destination and port are those after the
    /// translation of a service address (M5).
    ///
    /// # Errors
    ///
    /// If connection tracking cannot be read.
    pub fn flows(&mut self) -> Result<Vec<Flow>, Error> {
        let mut flows = Vec::new();
        let found = |message: Message<'_>| flows.extend(flow(message.attributes()));
        self.socket.request(uapi::SUBSYS_CTNETLINK, ct::GET, uapi::DUMP, 0, |_| (), found)?;
        Ok(flows)
    }

    /// Deletes the entries of all connections that the program denies, and no other.
    ///
    /// To be called when the program is in force; a connection that begins in between is judged by
    /// it anyway. Lists all connections once, some 2 microseconds each, and deletes in about 1
    /// microsecond each.
    ///
    /// # Errors
    ///
    /// If connection tracking cannot be read or changed.
    pub fn revoke(&mut self, program: &Program) -> Result<Revoked, Error> {
        let mut revoked = Revoked::default();
        let mut deletions: Vec<Deletions> = Vec::new();
        let subsystem = uapi::SUBSYS_CTNETLINK;
        self.socket.request(
            subsystem,
            ct::GET,
            uapi::DUMP,
            0,
            |_| (),
            |message| {
                revoked.examined += 1;
                let Some(flow) = flow(message.attributes()) else { return };
                if program.decide(&flow).is_allowed() {
                    return;
                }
                if deletions.last().is_none_or(|last| last.writer.bytes().len() > CHUNK) {
                    deletions.push(Deletions::default());
                }
                if let Some(last) = deletions.last_mut() {
                    last.push(message, flow);
                }
            },
        )?;
        for Deletions { writer, starts, flows } in deletions {
            let errors = self.socket.send_each(writer, &starts)?;
            // Entries may time out meanwhile.
            let failed = |errno: &&i32| **errno != Errno::ENOENT as i32;
            if let Some(errno) = errors.iter().find(failed) {
                let source = Errno::from_raw(*errno).into();
                return Err(Error::System {
                    action: "deleting connection tracking entries",
                    source,
                });
            }
            revoked.cut.extend(flows);
        }
        Ok(revoked)
    }
}

#[derive(Debug, Default)]
struct Deletions {
    writer: Writer,
    starts: Vec<usize>,
    flows: Vec<Flow>,
}

impl Deletions {
    fn push(&mut self, entry: Message<'_>, flow: Flow) {
        let kind = u16::from_be_bytes([uapi::SUBSYS_CTNETLINK, ct::DELETE]);
        let at = entry.attributes();
        // The id sees to it that a later connection of the same tuple is left alone.
        self.starts.push(self.writer.message(kind, 0, entry.family(), 0, |w| {
            for attribute in [ct::TUPLE_ORIG, ct::ZONE, ct::ID] {
                let Some(value) = at.get(attribute) else { continue };
                let nested = if attribute == ct::TUPLE_ORIG { uapi::NLA_NESTED } else { 0 };
                w.raw(attribute | nested, value);
            }
        }));
        self.flows.push(flow);
    }
}

/// What the policies judge a connection by (M5): its source before, and its destination after
/// translation; the latter is where answers come from.
fn flow(entry: Attributes<'_>) -> Option<Flow> {
    let original = entry.nest(ct::TUPLE_ORIG);
    let reply = entry.nest(ct::TUPLE_REPLY);
    let number = *original.nest(ct::TUPLE_PROTO).get(ct::PROTO_NUM)?.first()?;
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == number);
    let traffic = match protocol {
        Some(protocol) => {
            let port = be16(reply.nest(ct::TUPLE_PROTO).get(ct::PROTO_SRC_PORT)?)?;
            Traffic::Port(protocol, port)
        }
        None => Traffic::Other(number),
    };
    Some(Flow::new(source(original)?, source(reply)?, traffic))
}

fn source(tuple: Attributes<'_>) -> Option<IpAddr> {
    let addresses = tuple.nest(ct::TUPLE_IP);
    let v4 = addresses.get(ct::V4_SRC).and_then(|it| <[u8; 4]>::try_from(it).ok());
    let v6 = addresses.get(ct::V6_SRC).and_then(|it| <[u8; 16]>::try_from(it).ok());
    v4.map(IpAddr::from).or_else(|| v6.map(IpAddr::from))
}
