//! UDP: a datagram that comes back.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::Outcome;
use super::port::Ports;
use super::wave::{Answers, Flow};

/// Sends every datagram back from one address and port.
#[derive(Debug)]
pub(crate) struct Server(UdpSocket);

impl Server {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Server(socket))
    }

    pub(crate) fn ready(&self) {
        let mut datagram = [0; 64];
        // A pending ICMP error about an earlier answer comes once in place of a datagram, and ends
        // the loop until the next event.
        while let Ok((length, client)) = self.0.recv_from(&mut datagram) {
            // An answer that is dropped here is a denial for the client, which sends again anyway.
            let _ = self.0.send_to(&datagram[..length], client);
        }
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.0
    }
}

/// One client; all datagrams of a probe have the same source port.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UdpSocket,
    port: u16,
}

impl Client {
    pub(crate) fn open(source: IpAddr, to: SocketAddr, ports: &mut Ports) -> io::Result<Self> {
        let (socket, port) = ports.bind(|port| UdpSocket::bind((source, port)))?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        Ok(Client { socket, port })
    }

    pub(crate) fn flow(&self) -> Flow {
        Flow::Udp(self.port)
    }

    pub(crate) fn send(&self) -> io::Result<()> {
        self.socket.send(&self.port.to_be_bytes()).map(drop)
    }

    /// Returns whether there is more to come.
    pub(crate) fn ready(&self, answers: &mut Answers) -> bool {
        let mut datagram = [0; 64];
        // Errors are those that ICMP messages cause, which are read where they tell more.
        while let Ok(length) = self.socket.recv(&mut datagram) {
            if datagram[..length] == self.port.to_be_bytes() {
                answers.give(self.flow(), Outcome::Allowed);
                return false;
            }
        }
        true
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}
