//! Traffic that goes on while other things happen.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netpol_testbed::{Place, Testbed};
use nix::sched::{CloneFlags, setns};

/// A pod as an end of traffic.
pub(crate) struct End {
    namespace: PathBuf,
    address: IpAddr,
}

impl End {
    pub(crate) fn new(testbed: &Testbed, pod: &str, address: IpAddr) -> Self {
        let namespace = testbed.namespace_path(&Place::Pod(pod.to_owned())).unwrap();
        Self { namespace, address }
    }

    /// Runs something inside of the pod, on a thread of its own.
    fn inside<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = File::open(&self.namespace).unwrap();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        })
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }
}

/// Datagrams that nobody may receive, one per millisecond.
pub(crate) struct Denied {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<usize>,
    receiver: UdpSocket,
}

impl Denied {
    pub(crate) fn begin(from: &End, to: &End, port: u16) -> Self {
        let (here, there) = (from.at(0), to.at(port));
        let receiver = to.inside(move || UdpSocket::bind(there).unwrap()).join().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sent = from.inside(move || {
            let socket = UdpSocket::bind(here).unwrap();
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                // A drop at the sender's own node is an error here, which is as good.
                let _ = socket.send_to(b"?", there);
                sent += 1;
                thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        Self { stop, sent, receiver }
    }

    /// How many were sent, and how many were received.
    pub(crate) fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sent.join().unwrap();
        thread::sleep(Duration::from_millis(50));
        let mut received = 0;
        while self.receiver.recv(&mut [0; 8]).is_ok() {
            received += 1;
        }
        (sent, received)
    }
}

/// A TCP connection on which bytes go to and fro.
pub(crate) struct Connection {
    client: TcpStream,
    #[expect(dead_code, reason = "ends with it")]
    server: JoinHandle<()>,
}

impl Connection {
    pub(crate) fn open(from: &End, to: &End, port: u16) -> Self {
        let there = to.at(port);
        let listener = to.inside(move || TcpListener::bind(there).unwrap()).join().unwrap();
        let connect = move || TcpStream::connect_timeout(&there, Duration::from_secs(5)).unwrap();
        let client = from.inside(connect).join().unwrap();
        client.set_nodelay(true).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_nodelay(true).unwrap();
        let server = thread::spawn(move || {
            let mut byte = [0];
            while server.read_exact(&mut byte).is_ok() && server.write_all(&byte).is_ok() {}
        });
        Self { client, server }
    }

    /// Sends a byte and waits for it to come back.
    pub(crate) fn works_within(&mut self, time: Duration) -> bool {
        self.client.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        self.client.write_all(b"!").and_then(|()| self.client.read_exact(&mut byte)).is_ok()
    }
}

/// A [`Connection`] that is used all the time.
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<(usize, Duration)>>,
}

impl Steady {
    pub(crate) fn begin(from: &End, to: &End, port: u16) -> Self {
        let Connection { mut client, .. } = Connection::open(from, to, port);
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                client.write_all(b"!")?;
                client.read_exact(&mut [0])?;
                longest = longest.max(begin.elapsed());
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Ok((count, longest))
        });
        Self { stop, thread }
    }

    /// How many bytes went to and fro, and how long the slowest took.
    pub(crate) fn end(self) -> io::Result<(usize, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Datagrams of which it is known when they arrived.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    arrived: Arc<Mutex<Vec<Instant>>>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<()>,
}

impl Stream {
    pub(crate) fn begin(from: &End, to: &End, port: u16) -> Self {
        let (here, there) = (from.at(0), to.at(port));
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (sending, receiving) = (stop.clone(), stop.clone());
        let times: Arc<Mutex<Vec<Instant>>> = Arc::clone(&arrived);
        let receiver = to.inside(move || {
            let socket = UdpSocket::bind(there).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            while !receiving.load(Ordering::Relaxed) {
                if socket.recv(&mut [0; 8]).is_ok() {
                    times.lock().unwrap().push(Instant::now());
                }
            }
        });
        let sender = from.inside(move || {
            let socket = UdpSocket::bind(here).unwrap();
            while !sending.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"?", there);
                thread::sleep(Duration::from_micros(200));
            }
        });
        Self { stop, arrived, sender, receiver }
    }

    /// When the first arrived that did so later than this; waits for it.
    pub(crate) fn first_after(&self, begin: Instant) -> Instant {
        loop {
            let first = self.arrived.lock().unwrap().iter().copied().find(|at| *at > begin);
            match first {
                Some(first) => return first,
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// When the last one arrived; forgets all.
    pub(crate) fn last(&self) -> Instant {
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap());
        arrived.last().copied().unwrap_or_else(Instant::now)
    }

    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        self.receiver.join().unwrap();
    }
}
