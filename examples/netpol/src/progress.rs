//! What takes so long: one line on a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What takes no longer is not told of.
const PATIENCE: Duration = Duration::from_millis(500);
const REDRAW: Duration = Duration::from_millis(100);
/// The signs of a bar.
const WIDTH: usize = 24;

/// Tells what is being done, and how far it is, from half a second on until it is dropped. Silent where standard error
/// is no terminal.
#[derive(Debug)]
pub(crate) struct Progress(Option<Painter>);

/// Draws the line, on a thread: who works does not come to look at the clock.
#[derive(Debug)]
struct Painter {
    how_far: Arc<HowFar>,
    /// The thread ends when this does.
    end: Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct HowFar {
    done: AtomicUsize,
    /// 0 if nobody can tell.
    all: AtomicUsize,
}

impl Progress {
    /// Work of this name begins.
    pub(crate) fn new(what: &'static str) -> Self {
        Self(if io::stderr().is_terminal() { Painter::start(what).ok() } else { None })
    }

    /// `done` of `all` are done.
    pub(crate) fn tell(&self, done: usize, all: usize) {
        if let Self(Some(Painter { how_far, .. })) = self {
            how_far.done.store(done, Ordering::Relaxed);
            how_far.all.store(all, Ordering::Relaxed);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Painter { end, thread, .. }) = self.0.take() {
            drop(end);
            // The line is gone before anything else is printed.
            let _ = thread.join();
        }
    }
}

impl Painter {
    fn start(what: &'static str) -> io::Result<Self> {
        let how_far = Arc::new(HowFar::default());
        let (end, ended) = mpsc::channel();
        let shown = how_far.clone();
        let paint = move || paint(what, &shown, &ended);
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(paint)?;
        Ok(Self { how_far, end, thread })
    }
}

fn paint(what: &str, how_far: &HowFar, ended: &Receiver<()>) {
    let begin = Instant::now();
    let mut pause = PATIENCE;
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = REDRAW;
        let [done, all] = [&how_far.done, &how_far.all].map(|it| it.load(Ordering::Relaxed));
        let line = line(what, done, all, begin.elapsed());
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }
    if pause == REDRAW {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// `proving  [##########..............]  42 %`, or `reading  3 s` if it is not known how much there is to do.
fn line(what: &str, done: usize, all: usize, elapsed: Duration) -> String {
    let mut line = format!("{what}  ");
    let part = |of: usize| done.min(all).saturating_mul(of).checked_div(all);
    let _ = match (part(WIDTH), part(100)) {
        (Some(full), Some(percent)) => {
            write!(line, "[{:.<WIDTH$}] {percent:3} %", "#".repeat(full))
        }
        _ => write!(line, "{} s", elapsed.as_secs()),
    };
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_how_far_it_is() {
        let line = |done, all| line("proving", done, all, Duration::from_millis(3900));
        assert_eq!(line(0, 0), "proving  3 s");
        assert_eq!(line(0, 7), "proving  [........................]   0 %");
        assert_eq!(line(3, 7), "proving  [##########..............]  42 %");
        assert_eq!(line(7, 7), "proving  [########################] 100 %");
        assert_eq!(line(9, 7), line(7, 7));
    }
}
