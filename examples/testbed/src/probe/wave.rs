//! Many probes side by side, with the servers that they need, on one thread.
//!
//! A socket stays in the network namespace that it was made in. So one thread visits the namespaces
//! to open the sockets, and then waits for all of them at once. Servers and clients share it: when
//! the clients' time is up, everything that the servers had to answer has been answered, however
//! busy the machine is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit};

use super::{Outcome, Path, Ports, Probe, ProbeOptions, Traffic, icmp, sctp, tcp, udp};
use crate::namespace::Visitor;

/// How often a probe is sent: once, and again after one and two thirds of the time-out.
const ROUNDS: u32 = 3;

/// How many probes to send before the servers get their turn. What comes together for one socket
/// must fit into its receive buffer, some 270 packets.
const BURST: usize = 32;

/// How long a port may be in use by what is about to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most probes side by side.
const LARGEST_WAVE: usize = 1024;

/// The most sockets that one probe may need: a server, the attempts, the connection that the server
/// accepts, two raw sockets.
const SOCKETS_PER_PROBE: usize = ROUNDS as usize + 4;

/// Sends the probes, in as many waves as the limit of open files demands.
pub(crate) fn run<'t>(
    visitor: &mut Visitor,
    probes: &'t [Probe],
    paths: Vec<Result<Path<'t>>>,
    ports: &mut Ports,
    options: &ProbeOptions,
    mut progress: impl FnMut(usize, usize),
) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; probes.len()];
    let mut sendable = Vec::with_capacity(probes.len());
    for ((probe, path), outcome) in probes.iter().zip(paths).zip(&mut outcomes) {
        match path {
            Ok(path) => sendable.push((probe, path, outcome)),
            Err(error) => *outcome = Some(failed(&error)),
        }
    }
    let mut decided = probes.len() - sendable.len();
    for wave in sendable.chunks_mut(wave_size()) {
        let tasks: Vec<_> = wave.iter().map(|(probe, path, _)| (*probe, *path)).collect();
        let before = decided;
        let results = Wave::new(visitor, ports, &tasks).map_or_else(
            |error| vec![failed(&error); tasks.len()],
            |wave| wave.run(options.timeout, |in_wave| progress(before + in_wave, probes.len())),
        );
        for ((_, _, outcome), result) in wave.iter_mut().zip(results) {
            **outcome = Some(result);
        }
        decided += wave.len();
    }
    outcomes.into_iter().flatten().collect()
}

fn failed(error: &Error) -> Outcome {
    Outcome::Failed(format!("{error:#}"))
}

/// As many probes as the limit of open files allows.
fn wave_size() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let free = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open);
    (free / SOCKETS_PER_PROBE).clamp(1, LARGEST_WAVE)
}

/// What tells the packets of one probe from those of all others: protocol, and source port or id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    Tcp(u16),
    Udp(u16),
    Sctp(u16),
    Echo(u16),
}

/// What is known about the probes of a wave.
#[derive(Debug)]
pub(crate) struct Answers {
    outcomes: Vec<Option<Outcome>>,
    undecided: usize,
    probe_of: HashMap<Flow, usize>,
}

impl Answers {
    /// Takes note of an answer. The first counts.
    pub(crate) fn give(&mut self, flow: Flow, outcome: Outcome) {
        if let Some(probe) = self.probe_of.get(&flow) {
            self.decide(*probe, outcome);
        }
    }

    fn decide(&mut self, probe: usize, outcome: Outcome) {
        if self.outcomes[probe].is_none() {
            self.outcomes[probe] = Some(outcome);
            self.undecided -= 1;
        }
    }

    fn decided(&self) -> usize {
        self.outcomes.len() - self.undecided
    }
}

/// An open socket of a wave, at the index of [`Wave::sockets`] that the kernel reports it by.
#[derive(Debug)]
enum Socket {
    IcmpClient(icmp::Client),
    SctpClient(sctp::Client),
    SctpServer(sctp::Server),
    TcpClient(tcp::Client),
    TcpServer(tcp::Server),
    UdpClient(udp::Client),
    UdpServer(udp::Server),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::IcmpClient(client) => client.socket().as_fd(),
            Socket::SctpClient(client) => client.socket().as_fd(),
            Socket::SctpServer(server) => server.socket().as_fd(),
            Socket::TcpClient(client) => client.socket().as_fd(),
            Socket::TcpServer(server) => server.socket().as_fd(),
            Socket::UdpClient(client) => client.socket().as_fd(),
            Socket::UdpServer(server) => server.socket().as_fd(),
        }
    }
}

impl Socket {
    /// Does what there is to do, and returns whether there is more to come.
    fn ready(&self, answers: &mut Answers) -> bool {
        match self {
            Socket::IcmpClient(client) => client.ready(answers),
            Socket::SctpClient(client) => client.ready(answers),
            Socket::SctpServer(server) => server.ready(),
            Socket::TcpClient(client) => return client.ready(answers),
            Socket::TcpServer(server) => server.ready(),
            Socket::UdpClient(client) => return client.ready(answers),
            Socket::UdpServer(server) => server.ready(),
        }
        true
    }
}

/// Sockets that several probes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shared {
    IcmpClient(IpAddr),
    SctpClient(IpAddr),
    SctpServer(IpAddr),
    TcpServer(SocketAddr),
    UdpServer(SocketAddr),
}

/// What is kept of a probe between its repetitions.
#[derive(Clone, Copy, Debug)]
enum Sender {
    /// Every attempt has a socket of its own, as the kernel would wait a second to repeat it.
    Tcp { port: u16 },
    /// Always the same socket, at this index.
    Udp { socket: usize },
    /// Always the same source port.
    Sctp { socket: usize, source: u16, port: u16 },
    /// Always the same id.
    Icmp { socket: usize, id: u16 },
}

/// Probes that are under way together.
struct Wave<'w, 't> {
    visitor: &'w mut Visitor,
    ports: &'w mut Ports,
    tasks: &'w [(&'t Probe, Path<'t>)],
    epoll: Epoll,
    sockets: Vec<Option<Socket>>,
    shared: HashMap<Shared, usize>,
    senders: Vec<Option<Sender>>,
    answers: Answers,
}

impl<'w, 't> Wave<'w, 't> {
    fn new(
        visitor: &'w mut Visitor,
        ports: &'w mut Ports,
        tasks: &'w [(&'t Probe, Path<'t>)],
    ) -> Result<Self> {
        Ok(Wave {
            visitor,
            ports,
            tasks,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("starting to probe")?,
            sockets: Vec::new(),
            shared: HashMap::new(),
            senders: vec![None; tasks.len()],
            answers: Answers {
                outcomes: vec![None; tasks.len()],
                undecided: tasks.len(),
                probe_of: HashMap::new(),
            },
        })
    }

    fn run(mut self, timeout: Duration, mut progress: impl FnMut(usize)) -> Vec<Outcome> {
        for probe in 0..self.tasks.len() {
            if let Err(error) = self.prepare(probe) {
                self.answers.decide(probe, failed(&error));
            }
        }
        for _ in 0..ROUNDS {
            for (sent, probe) in self.undecided().into_iter().enumerate() {
                if sent % BURST == 0 {
                    while self.receive(Duration::ZERO) > 0 {}
                }
                if let Err(error) = self.send(probe) {
                    self.answers.decide(probe, failed(&error));
                }
            }
            // The clock starts when all have been sent, and counts for nothing while there is
            // something to read.
            let next_round = Instant::now() + timeout / ROUNDS;
            while self.answers.undecided > 0 {
                let left = next_round.saturating_duration_since(Instant::now());
                if self.receive(left) == 0 && left.is_zero() {
                    break;
                }
                progress(self.answers.decided());
            }
        }
        self.give_up_on_silent();
        progress(self.answers.decided());
        self.answers.outcomes.into_iter().flatten().collect()
    }

    fn undecided(&self) -> Vec<usize> {
        (0..self.tasks.len()).filter(|probe| self.answers.outcomes[*probe].is_none()).collect()
    }

    /// Opens what a probe needs before its first packet.
    fn prepare(&mut self, index: usize) -> Result<()> {
        let (probe, path) = self.tasks[index];
        self.visitor.enter(path.to)?;
        self.open_server(probe)
            .with_context(|| format!("waiting for {} at {}", probe.traffic, probe.to))?;
        self.visitor.enter(path.from)?;
        let (sender, flow) = self.open_client(probe).with_context(|| {
            format!("preparing to send {} from {}", probe.traffic, probe.source)
        })?;
        self.senders[index] = Some(sender);
        self.answers.probe_of.extend(flow.map(|flow| (flow, index)));
        Ok(())
    }

    fn open_server(&mut self, probe: &Probe) -> io::Result<()> {
        let to = probe.to;
        match probe.traffic {
            Traffic::Tcp(port) => {
                let server = SocketAddr::new(to, port);
                self.share(Shared::TcpServer(server), || {
                    once_free(|| tcp::Server::open(server)).map(Socket::TcpServer)
                })?;
            }
            Traffic::Udp(port) => {
                let server = SocketAddr::new(to, port);
                self.share(Shared::UdpServer(server), || {
                    once_free(|| udp::Server::open(server)).map(Socket::UdpServer)
                })?;
            }
            Traffic::Sctp(_) => {
                self.share(Shared::SctpServer(to), || {
                    sctp::Server::open(to).map(Socket::SctpServer)
                })?;
            }
            // The kernel answers.
            Traffic::Icmp => (),
        }
        Ok(())
    }

    fn open_client(&mut self, probe: &Probe) -> io::Result<(Sender, Option<Flow>)> {
        let source = probe.source;
        // Comes first, so that a refusal by ICMP is read as such before the socket that it
        // concerns reports a mere error.
        let icmp = self.share(Shared::IcmpClient(source), || {
            icmp::Client::open(source).map(Socket::IcmpClient)
        })?;
        Ok(match probe.traffic {
            Traffic::Tcp(port) => (Sender::Tcp { port }, None),
            Traffic::Udp(port) => {
                let to = SocketAddr::new(probe.to, port);
                let client = udp::Client::open(source, to, self.ports)?;
                let flow = client.flow();
                let socket = self.add(Socket::UdpClient(client))?;
                (Sender::Udp { socket }, Some(flow))
            }
            Traffic::Sctp(port) => {
                let socket = self.share(Shared::SctpClient(source), || {
                    sctp::Client::open(source).map(Socket::SctpClient)
                })?;
                let source = self.ports.next();
                (Sender::Sctp { socket, source, port }, Some(Flow::Sctp(source)))
            }
            Traffic::Icmp => {
                let id = self.ports.next();
                (Sender::Icmp { socket: icmp, id }, Some(Flow::Echo(id)))
            }
        })
    }

    /// The socket for `key`; `open` makes it if it is not there yet.
    fn share(
        &mut self,
        key: Shared,
        open: impl FnOnce() -> io::Result<Socket>,
    ) -> io::Result<usize> {
        if let Some(socket) = self.shared.get(&key) {
            return Ok(*socket);
        }
        let socket = self.add(open()?)?;
        self.shared.insert(key, socket);
        Ok(socket)
    }

    fn add(&mut self, socket: Socket) -> io::Result<usize> {
        let index = self.sockets.len();
        self.epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        self.sockets.push(Some(socket));
        Ok(index)
    }

    /// Sends a probe, for the first time or again.
    fn send(&mut self, index: usize) -> Result<()> {
        let (probe, path) = self.tasks[index];
        let Some(sender) = self.senders[index] else { return Ok(()) };
        let socket = |index: usize| self.sockets.get(index).and_then(Option::as_ref);
        let sent = match sender {
            Sender::Tcp { port } => {
                self.visitor.enter(path.from)?;
                let to = SocketAddr::new(probe.to, port);
                tcp::Client::open(probe.source, to, self.ports).and_then(|client| {
                    self.answers.probe_of.insert(client.flow(), index);
                    self.add(Socket::TcpClient(client)).map(drop)
                })
            }
            Sender::Udp { socket: at } => match socket(at) {
                Some(Socket::UdpClient(client)) => client.send(),
                _ => Ok(()),
            },
            Sender::Sctp { socket: at, source, port } => match socket(at) {
                Some(Socket::SctpClient(client)) => client.send(source, probe.to, port),
                _ => Ok(()),
            },
            Sender::Icmp { socket: at, id } => match socket(at) {
                Some(Socket::IcmpClient(client)) => client.send(id, probe.to),
                _ => Ok(()),
            },
        };
        match sent {
            Err(error) if !is_silence(&error) => {
                Err(error).with_context(|| format!("sending {} to {}", probe.traffic, probe.to))
            }
            _ => Ok(()),
        }
    }

    /// Waits for events, at most so long, and returns how many there were.
    fn receive(&mut self, at_most: Duration) -> usize {
        let mut events = [EpollEvent::empty(); 256];
        // Rounded up: with 0 for the last part of a millisecond the loop would spin.
        let timeout = u16::try_from(at_most.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let count = self.epoll.wait(&mut events, EpollTimeout::from(timeout)).unwrap_or(0);
        let mut ready: Vec<_> = events[..count].iter().filter_map(index_of).collect();
        // Older ones first, above all those that read ICMP; see `open_client`.
        ready.sort_unstable();
        for index in ready {
            if let Some(socket) = &self.sockets[index]
                && !socket.ready(&mut self.answers)
            {
                self.sockets[index] = None;
            }
        }
        count
    }

    /// Decides the probes that nothing came back for.
    fn give_up_on_silent(&mut self) {
        for socket in self.sockets.iter().flatten() {
            if let Socket::TcpClient(client) = socket
                && client.is_connected()
            {
                let reason = "the connection was opened, but no data came through";
                self.answers.give(client.flow(), Outcome::Failed(reason.to_owned()));
            }
        }
        for probe in self.undecided() {
            self.answers.decide(probe, Outcome::Denied);
        }
    }
}

/// Opens a server, on a port that may be in use for another moment: a program that is being started
/// elsewhere in this process holds our sockets, those of the last wave too, until it runs.
fn once_free<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

fn index_of(event: &EpollEvent) -> Option<usize> {
    usize::try_from(event.data()).ok()
}

/// Whether a packet that could not be sent is one that got lost.
fn is_silence(error: &io::Error) -> bool {
    // EPERM: a rule of the output hook dropped it. ECONNREFUSED and the like: an ICMP message about
    // an earlier packet, which is read elsewhere.
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else { return false };
    matches!(
        errno,
        Errno::EPERM | Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EHOSTUNREACH
    )
}
