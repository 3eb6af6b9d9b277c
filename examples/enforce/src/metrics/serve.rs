//! `/metrics`, `/healthz` and `/readyz` over HTTP.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::Metrics;

/// Nobody keeps a connection open for longer without saying something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the process does its work: told by its main loop, asked by `/healthz`.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds since the start.
    last_beat: AtomicU64,
    limit: Duration,
    /// The objects are not all known yet.
    waiting: AtomicBool,
}

impl Health {
    /// Healthy from now on, as long as the main loop [beats](Self::beat) at least once in `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            last_beat: AtomicU64::new(0),
            limit,
            waiting: AtomicBool::new(false),
        }
    }

    /// The main loop goes round.
    pub fn beat(&self) {
        self.last_beat.store(self.now(), Ordering::Relaxed);
    }

    /// Tells whether the objects are not all known yet: what is in force then is not what they say, so that the process
    /// is not ready.
    pub fn wait_for_objects(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Whether the last beat is not too long ago.
    pub fn is_alive(&self) -> bool {
        let since = self.now().saturating_sub(self.last_beat.load(Ordering::Relaxed));
        u128::from(since) <= self.limit.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is served: metrics; whether the process is alive; and whether it is ready, which is when the kernel has what
/// the objects say.
#[derive(Clone, Debug)]
pub struct Page {
    /// At `/metrics`.
    pub metrics: Arc<Metrics>,
    /// At `/healthz`.
    pub health: Arc<Health>,
    /// What the host has to tell beside.
    pub texts: Vec<Text>,
}

/// A page of the host's own.
#[derive(Clone)]
pub struct Text {
    /// Where it is, such as `/policies`.
    pub path: &'static str,
    /// Its type, such as `application/json`.
    pub media_type: &'static str,
    /// Makes it, each time anew.
    pub make: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Page {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let state = |good: bool, bad: &str| match good {
            true => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            false => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{bad}\n")),
        };
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => {
                (StatusCode::OK, METRICS, self.metrics.encode())
            }
            (&Method::GET | &Method::HEAD, "/healthz") => {
                state(self.health.is_alive(), "the main loop is stuck")
            }
            (&Method::GET | &Method::HEAD, "/readyz") => {
                let complete = !self.health.waiting.load(Ordering::Relaxed);
                let ready = complete && self.metrics.is_in_sync();
                state(ready, "the kernel does not have what the objects say")
            }
            (&Method::GET | &Method::HEAD, path) => {
                match self.texts.iter().find(|text| text.path == path) {
                    Some(text) => (StatusCode::OK, text.media_type, (text.make)()),
                    None => (StatusCode::NOT_FOUND, TEXT, self.index()),
                }
            }
            _ => (StatusCode::NOT_FOUND, TEXT, self.index()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    fn index(&self) -> String {
        let own = ["/metrics", "/healthz", "/readyz"].into_iter();
        let paths: Vec<&str> = own.chain(self.texts.iter().map(|text| text.path)).collect();
        paths.join(", ") + "\n"
    }
}

/// Serves a page for ever, on the runtime of the caller.
///
/// # Errors
///
/// If the listener fails.
pub async fn serve(listener: tokio::net::TcpListener, page: Page) -> io::Result<Infallible> {
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Somebody hung up early.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let page = page.clone();
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>| {
                let response = page.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            };
            // What becomes of one connection is the other end's business.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

/// [`serve`] for a host without a runtime: on a thread of its own, for ever. Returns the address that is listened on.
///
/// # Errors
///
/// If the address cannot be listened on, or no thread can be started.
pub fn serve_on_thread(address: SocketAddr, page: Page) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serve(listener, page).await
        })
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(run)?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pages_are_served() {
        let metrics = Arc::new(Metrics::new("7"));
        let health = Arc::new(Health::new(Duration::from_millis(150)));
        let make = Arc::new(|| "{}\n".to_owned());
        let text = Text { path: "/own", media_type: "application/json", make };
        let page = Page { metrics: metrics.clone(), health: health.clone(), texts: vec![text] };
        let address = serve_on_thread(([127, 0, 0, 1], 0).into(), page).unwrap();

        assert!(get(address, "/metrics").contains("netpol_build_info{version=\"7\"} 1\n"));
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 503 "));
        metrics.in_sync.set(1);
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200 "));
        health.wait_for_objects(true);
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 503 "));
        assert!(get(address, "/own").ends_with("\r\n\r\n{}\n"));
        health.beat();
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
        thread::sleep(Duration::from_millis(300));
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 503 "));
        assert!(get(address, "/").starts_with("HTTP/1.1 404 "));
    }
}
