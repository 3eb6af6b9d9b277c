//! The netlink socket: transactions out, answers in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket as NetlinkSocket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::error::{Error, Refusal};
use crate::location;
use crate::wire::batch::{Batch, Sealed};
use crate::wire::reader::{Attributes, Message, Messages, ne32};
use crate::wire::uapi::{self, extack, generation, msg};
use crate::wire::writer::Writer;

/// Larger than any reply: dumps come in datagrams of at most 32 KiB.
const REPLY_BUFFER: usize = 128 * 1024;
/// Room for the error replies to a batch in which everything fails.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// What the kernel adds to a datagram when it compares it with the send buffer.
const SEND_OVERHEAD: usize = 4096;
/// How long a dump may keep us waiting; it is made while we read it, so this is never reached
/// unless the kernel misbehaves.
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);

const KERNEL: u32 = 0;

/// A netlink socket for nf_tables. It belongs to the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: NetlinkSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open() -> Result<Self, Error> {
        Self::open_sized(RECEIVE_BUFFER)
    }

    /// Opens a socket that holds so many bytes of answers and notifications.
    pub(crate) fn open_sized(receive_buffer: usize) -> Result<Self, Error> {
        let mut inner = NetlinkSocket::new(NETLINK_NETFILTER).map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => {
                    Error::Unsupported { what: "netfilter over netlink".to_owned() }
                }
                _ => Error::System { action: "opening a netlink socket", source },
            }
        })?;
        let failed = |source| Error::System { action: "preparing the netlink socket", source };
        inner.bind_auto().map_err(failed)?;
        inner.connect(&SocketAddr::new(KERNEL, 0)).map_err(failed)?;
        // Without these two the errors are the same, only less precise (kernels before 4.12).
        let _ = inner.set_cap_ack(true);
        let _ = inner.set_ext_ack(true);
        if setsockopt(&inner, sockopt::RcvBufForce, &receive_buffer).is_err() {
            // In a user namespace this is clamped to net.core.rmem_max: enough for everything but
            // thousands of error replies, whose loss is noticed.
            setsockopt(&inner, sockopt::RcvBuf, &receive_buffer)
                .map_err(|errno| failed(errno.into()))?;
        }
        let timeout = TimeVal::new(DUMP_TIMEOUT.as_secs().cast_signed(), 0);
        setsockopt(&inner, sockopt::ReceiveTimeout, &timeout)
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self { inner, sequence: 1, buffer: vec![0; REPLY_BUFFER] })
    }

    /// Sends a transaction and waits for its outcome: all of it is in force, or nothing. Returns
    /// the generation that it made.
    ///
    /// [`Error::Contended`] says that somebody else committed since the batch's generation.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<u32, Error> {
        let before = batch.generation();
        let sealed = batch.seal(self.sequence);
        self.advance(sealed.count());
        if sealed.oversized() {
            return Err(Error::Oversized);
        }
        self.make_room(sealed.bytes().len())?;
        self.send(sealed.bytes())?;
        match self.outcome(&sealed)? {
            // Exactly one up, since nobody came in between; the kernel leaves out 0.
            Outcome::Committed => Ok(before.checked_add(1).unwrap_or(1)),
            Outcome::Refused(error) => Err(error),
            // No error reply arrived and the acknowledgement is lost: if nothing was committed at
            // all since, ours was not either. Otherwise it may have been ours or somebody else's.
            Outcome::Lost if self.generation()? == before => Err(Error::System {
                action: "committing the change",
                source: Errno::ENOBUFS.into(),
            }),
            Outcome::Lost => Err(Error::OutcomeUnknown),
        }
    }

    /// The generation of the namespace's nf_tables state: every commit, by anybody, counts one up.
    pub(crate) fn generation(&mut self) -> Result<u32, Error> {
        let mut found = None;
        self.request(
            uapi::SUBSYS_NFTABLES,
            msg::GETGEN,
            0,
            0,
            |_| (),
            |message| {
                found = message.attributes().be32(generation::ID).or(found);
            },
        )?;
        found.ok_or(Error::Protocol("no generation in the answer"))
    }

    /// Asks for one object.
    pub(crate) fn get(
        &mut self,
        kind: u8,
        family: u8,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        self.request(uapi::SUBSYS_NFTABLES, kind, 0, family, body, each)
    }

    /// Dumps all objects of a kind. `Ok(false)` means that the state changed meanwhile, so that the
    /// objects seen may not fit together.
    pub(crate) fn dump(
        &mut self,
        kind: u8,
        family: u8,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> Result<bool, Error> {
        let mut generation = None;
        let mut consistent = true;
        self.request(uapi::SUBSYS_NFTABLES, kind, uapi::DUMP, family, body, |message| {
            // Dumps of set elements never say that they were interrupted; the generation does.
            let first = *generation.get_or_insert(message.resource());
            consistent &= first == message.resource() && message.flags & uapi::DUMP_INTR == 0;
            each(message);
        })?;
        Ok(consistent)
    }

    /// Sends one request to a subsystem of netfilter and hands over its answers.
    pub(crate) fn request(
        &mut self,
        subsystem: u8,
        kind: u8,
        flags: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        let sequence = self.advance(1);
        let mut writer = Writer::default();
        let kind = u16::from_be_bytes([subsystem, kind]);
        let start = writer.message(kind, flags, family, 0, body);
        writer.number(start, sequence);
        self.send(writer.bytes())?;
        loop {
            let received = match self.receive(0)? {
                Received::Datagram(length) => self.buffer.get(..length).unwrap_or_default(),
                Received::Nothing => return Err(Error::Protocol("the answer does not end")),
                Received::Overflow => return Err(Error::Contended),
            };
            for message in Messages(received).filter(|message| message.sequence == sequence) {
                match message.kind {
                    // Both carry an error number; a dump that fails midway says so at its end.
                    uapi::NLMSG_DONE | uapi::NLMSG_ERROR => return reading(errno(message)),
                    _ => each(message),
                }
                if flags & uapi::DUMP == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Sends messages that are independent of each other, and returns the error numbers of those
    /// that failed.
    pub(crate) fn send_each(
        &mut self,
        mut writer: Writer,
        starts: &[usize],
    ) -> Result<Vec<i32>, Error> {
        for start in starts {
            let sequence = self.advance(1);
            writer.number(*start, sequence);
        }
        self.make_room(writer.bytes().len())?;
        self.send(writer.bytes())?;
        let mut errors = Vec::new();
        loop {
            let received = match self.receive(MSG_DONTWAIT)? {
                Received::Datagram(length) => self.buffer.get(..length).unwrap_or_default(),
                Received::Nothing => return Ok(errors),
                Received::Overflow => continue,
            };
            let answers = Messages(received).filter(|it| it.kind == uapi::NLMSG_ERROR);
            errors.extend(answers.map(errno).filter(|errno| *errno != 0));
        }
    }

    /// Sends one message that configures something, and waits until the kernel has done so.
    pub(crate) fn configure(
        &mut self,
        subsystem: u8,
        kind: u8,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let sequence = self.advance(1);
        let mut writer = Writer::default();
        let kind = u16::from_be_bytes([subsystem, kind]);
        let start = writer.message(kind, 0, family, resource, body);
        writer.acknowledge(start);
        writer.number(start, sequence);
        self.send(writer.bytes())?;
        loop {
            let received = match self.receive(0)? {
                Received::Datagram(length) => self.buffer.get(..length).unwrap_or_default(),
                Received::Nothing => return Err(Error::Protocol("no acknowledgement")),
                Received::Overflow => continue,
            };
            let answer = Messages(received)
                .find(|it| it.sequence == sequence && it.kind == uapi::NLMSG_ERROR);
            if let Some(answer) = answer {
                return reading(errno(answer));
            }
        }
    }

    /// Joins a group of notifications.
    pub(crate) fn join(&self, group: u32) -> Result<(), Error> {
        let failed = |source| Error::System { action: "listening to netfilter", source };
        self.inner.add_membership(group).map_err(failed)
    }

    /// Leaves a group of notifications, whether or not it was joined.
    pub(crate) fn leave(&self, group: u32) -> Result<(), Error> {
        let failed = |source| Error::System { action: "listening to netfilter", source };
        self.inner.drop_membership(group).map_err(failed)
    }

    /// Waits for a datagram of notifications, for ever if there is no `timeout`. Messages to hand
    /// are handed over.
    pub(crate) fn listen(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<Heard, Error> {
        if !self.is_ready(timeout)? {
            return Ok(Heard::Nothing);
        }
        match self.receive(MSG_DONTWAIT)? {
            Received::Datagram(length) => {
                Messages(self.buffer.get(..length).unwrap_or_default()).for_each(&mut each);
                Ok(Heard::Something)
            }
            Received::Nothing => Ok(Heard::Nothing),
            Received::Overflow => Ok(Heard::Overflow),
        }
    }

    fn is_ready(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let timeout = timeout
            .map_or(PollTimeout::NONE, |it| PollTimeout::try_from(it).unwrap_or(PollTimeout::MAX));
        loop {
            let mut fds = [PollFd::new(self.inner.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let (action, source) = ("waiting for netfilter", errno.into());
                    return Err(Error::System { action, source });
                }
            }
        }
    }

    /// The number by which the kernel knows the socket.
    pub(crate) fn port(&self) -> Result<u32, Error> {
        let mut address = SocketAddr::new(0, 0);
        let failed = |source| Error::System { action: "asking for the socket's address", source };
        self.inner.get_address(&mut address).map_err(failed)?;
        Ok(address.port_number())
    }

    /// Reads what the kernel has to say about a transaction. It works inside the send call, so all
    /// replies are there already.
    fn outcome(&mut self, sealed: &Sealed) -> Result<Outcome, Error> {
        let mut acknowledged = false;
        let mut first: Option<Error> = None;
        let mut others = 0;
        loop {
            let received = match self.receive(MSG_DONTWAIT)? {
                Received::Datagram(length) => self.buffer.get(..length).unwrap_or_default(),
                Received::Nothing => break,
                Received::Overflow => continue,
            };
            for message in Messages(received) {
                if message.kind != uapi::NLMSG_ERROR || !sealed.contains(message.sequence) {
                    continue;
                }
                match errno(message) {
                    0 => acknowledged |= sealed.is_last(message.sequence),
                    errno if first.is_none() => {
                        let details = extended(message);
                        let offset = details.get(extack::OFFS).and_then(ne32);
                        let location = sealed.locate(message.sequence, offset);
                        first = Some(location::error(location, errno, details.text(extack::MSG)));
                    }
                    _ => others += 1,
                }
            }
        }
        Ok(match (first, acknowledged) {
            (Some(Error::Refused(refusal)), _) => {
                Outcome::Refused(Refusal { others, ..refusal }.into())
            }
            (Some(error), _) => Outcome::Refused(error),
            (None, true) => Outcome::Committed,
            (None, false) => Outcome::Lost,
        })
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.inner.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(match source.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::EPERM | Errno::EACCES) => Error::NotPermitted,
                        _ => Error::System { action: "sending to nf_tables", source },
                    });
                }
            }
        }
    }

    fn receive(&mut self, flags: i32) -> Result<Received, Error> {
        loop {
            let mut target = self.buffer.as_mut_slice();
            match self.inner.recv_from(&mut target, flags | MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != KERNEL => {}
                Ok((length, _)) if length > self.buffer.len() => {
                    return Err(Error::Protocol("a reply is larger than the protocol allows"));
                }
                Ok((length, _)) => return Ok(Received::Datagram(length)),
                Err(source) => match source.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => {}
                    Some(Errno::EAGAIN) => return Ok(Received::Nothing),
                    Some(Errno::ENOBUFS) => return Ok(Received::Overflow),
                    _ => return Err(Error::System { action: "reading from nf_tables", source }),
                },
            }
        }
    }

    /// Makes the send buffer large enough for one datagram of `length` bytes: the kernel refuses
    /// larger ones, and a transaction cannot be cut.
    fn make_room(&self, length: usize) -> Result<(), Error> {
        let needed = length + SEND_OVERHEAD;
        let failed =
            |errno: Errno| Error::System { action: "sizing the send buffer", source: errno.into() };
        if getsockopt(&self.inner, sockopt::SndBuf).map_err(failed)? >= needed {
            return Ok(());
        }
        if setsockopt(&self.inner, sockopt::SndBufForce, &needed).is_err() {
            // Not permitted in a user namespace; the plain option is clamped silently.
            setsockopt(&self.inner, sockopt::SndBuf, &needed).map_err(failed)?;
        }
        let allowed = getsockopt(&self.inner, sockopt::SndBuf).map_err(failed)?;
        if allowed < needed {
            return Err(Error::TooLarge { needed, allowed });
        }
        Ok(())
    }

    fn advance(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(count);
        first
    }
}

/// What came of waiting for notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Something,
    /// Notifications are lost.
    Overflow,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

enum Received {
    Datagram(usize),
    Nothing,
    /// The receive buffer ran over and replies are lost.
    Overflow,
}

enum Outcome {
    Committed,
    Refused(Error),
    Lost,
}

/// The error number of an error message or dump end; 0 is success.
fn errno(message: Message<'_>) -> i32 {
    ne32(message.payload).map_or(0, |code| code.cast_signed().saturating_neg())
}

/// The attributes that explain an error.
fn extended(message: Message<'_>) -> Attributes<'_> {
    if message.flags & uapi::ACK_TLVS == 0 {
        return Attributes(&[]);
    }
    let original = message.payload.get(4..).unwrap_or_default();
    let echoed = if message.flags & uapi::CAPPED == 0 {
        ne32(original).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX)
    } else {
        16
    };
    let start = echoed.checked_next_multiple_of(4).unwrap_or(usize::MAX);
    Attributes(original.get(start..).unwrap_or_default())
}

/// The outcome of a request that reads.
fn reading(errno: i32) -> Result<(), Error> {
    match Errno::from_raw(errno) {
        _ if errno == 0 => Ok(()),
        Errno::EPERM | Errno::EACCES => Err(Error::NotPermitted),
        Errno::EOPNOTSUPP => Err(Error::Unsupported { what: "nf_tables".to_owned() }),
        Errno::EINTR | Errno::EAGAIN => Err(Error::Contended),
        errno => Err(Error::System { action: "reading nf_tables state", source: errno.into() }),
    }
}
