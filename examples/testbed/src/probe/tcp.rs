//! TCP: a connection, and a byte from the server.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::port::Ports;
use super::wave::{Answers, Flow};
use super::{Outcome, Refusal};

/// More than one wave can have of probes to one server, with their repetitions.
const BACKLOG: i32 = 4096;

/// What the server sends.
const GREETING: &[u8] = b"!";

/// Listens on one address and port, and greets whoever comes.
#[derive(Debug)]
pub(crate) struct Server(Socket);

impl Server {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(address)?;
        // Connections of an earlier wave may still be winding up.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Server(socket))
    }

    pub(crate) fn ready(&self) {
        // An error ends the loop as "nobody there" does; if it matters, the client misses its byte.
        while let Ok((mut client, _)) = self.0.accept() {
            // A client that gave up meanwhile is no loss.
            let _ = client.write(GREETING);
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.0
    }
}

/// One attempt to connect.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    port: u16,
}

impl Client {
    pub(crate) fn open(source: IpAddr, to: SocketAddr, ports: &mut Ports) -> io::Result<Self> {
        let socket = new_socket(to)?;
        // The end of the probe is to leave nothing behind, here or in connection tracking.
        socket.set_linger(Some(Duration::ZERO))?;
        let ((), port) = ports.bind(|port| socket.bind(&SocketAddr::new(source, port).into()))?;
        match socket.connect(&to.into()) {
            Err(error) if !in_progress(&error) => Err(error),
            _ => Ok(Client { socket, port }),
        }
    }

    pub(crate) fn flow(&self) -> Flow {
        Flow::Tcp(self.port)
    }

    /// Whether the connection got as far as the handshake of TCP.
    pub(crate) fn is_connected(&self) -> bool {
        self.socket.peer_addr().is_ok()
    }

    /// Returns whether there is more to come.
    pub(crate) fn ready(&self, answers: &mut Answers) -> bool {
        let outcome = match (&self.socket).read(&mut [0]) {
            Ok(1..) => Outcome::Allowed,
            Ok(0) => Outcome::Failed("the connection ended without data".to_owned()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return true,
                io::ErrorKind::ConnectionRefused => Outcome::Refused(Refusal::Reset),
                _ => Outcome::Failed(format!("connecting: {error}")),
            },
        };
        answers.give(self.flow(), outcome);
        false
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

fn in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)
}
