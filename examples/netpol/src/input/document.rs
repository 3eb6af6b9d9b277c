//! Text to documents: YAML streams and JSON streams.

use std::collections::BTreeSet;
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use netpol_core::manifest::Value;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use super::located::{Lines, Located};

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Counted from 1.
    pub(crate) number: usize,
    /// What it says, or why it cannot be read.
    pub(crate) content: Result<Located, Unreadable>,
}

/// Why a document is not even YAML or JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
}

/// Reads every document in `text`. What cannot be read does not keep the others from being read.
///
/// A text that begins with a brace is JSON, as for kubectl, unless only YAML makes sense of its first document.
pub(crate) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with('{') {
        return yaml(text);
    }
    let json = json(text);
    if json.iter().all(|it| it.content.is_ok()) {
        return json;
    }
    let yaml = yaml(text);
    match yaml.first() {
        Some(Document { content: Ok(_), .. }) => yaml,
        _ => json,
    }
}

fn yaml(text: &str) -> Vec<Document> {
    let chunks: Vec<Chunk<'_>> = split(text).into_iter().filter(|it| !it.is_blank()).collect();
    let contents = match &chunks[..] {
        [one] => vec![one.parse_list().unwrap_or_else(|| one.parse())],
        chunks => in_parallel(chunks, text.len(), Chunk::parse),
    };
    let numbered = contents.into_iter().zip(1..);
    numbered.map(|(content, number)| Document { number, content }).collect()
}

/// From this many bytes on it is worth while to start threads.
const LARGE: usize = 1 << 18;

/// Does the work for each of the parts of a text of `size` bytes, on all processors if it is large.
fn in_parallel<T: Sync, R: Send>(
    parts: &[T],
    size: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(parts.len());
    if size < LARGE || threads < 2 {
        return parts.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let some = || {
        let take = || {
            let at = next.fetch_add(1, Ordering::Relaxed);
            Some((at, work(parts.get(at)?)))
        };
        iter::from_fn(take).collect::<Vec<(usize, R)>>()
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        let mut done = some();
        for thread in threads {
            match thread.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// JSON values one after the other. After the first that cannot be read there is no telling where the next begins.
fn json(text: &str) -> Vec<Document> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let documents = values.zip(1..).map(|(value, number)| {
        let content = match value {
            Ok(value) => Ok(Located { value, lines: Lines::default() }),
            Err(error) => Err(Unreadable {
                line: Some(error.line() as u64),
                message: format!("not readable as JSON: {error}"),
            }),
        };
        Document { number, content }
    });
    documents.collect()
}

/// The text between two document markers.
struct Chunk<'t> {
    text: &'t str,
    /// How many lines come before it.
    offset: u64,
}

/// Cuts a YAML stream at its document markers, which stand at the beginning of a line and nowhere else (YAML 1.2,
/// 9.1.2).
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut begin, mut at, mut offset, mut line) = (0, 0, 0, 0);
    for full in text.split_inclusive('\n') {
        if is_marker(full) && at > begin {
            chunks.push(Chunk { text: &text[begin..at], offset });
            (begin, offset) = (at, line);
        }
        at += full.len();
        line += 1;
    }
    chunks.push(Chunk { text: &text[begin..], offset });
    chunks
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

impl Chunk<'_> {
    /// Whether there is nothing in it but comments, directives and the marker.
    fn is_blank(&self) -> bool {
        self.text.lines().all(|line| {
            let content = if is_marker(line) { line[3..].trim() } else { line.trim_end() };
            let trimmed = content.trim_start();
            trimmed.is_empty()
                || trimmed.starts_with('#')
                || content.starts_with('%')
                || content == "..."
        })
    }

    /// A large list in the form that kubectl prints, its items on all processors. Nothing for anything else, and for
    /// what is not readable in this way: [`parse`](Self::parse) finds out the reason.
    fn parse_list(&self) -> Option<Result<Located, Unreadable>> {
        if self.text.len() < LARGE {
            return None;
        }
        let [head, items, tail] = self.around_items()?;
        let read = |part: &Chunk<'_>| (!part.is_blank()).then(|| part.parse()).transpose().ok();
        let pieces = items.pieces();
        let [head, tail] = [read(&head)?, read(&tail)?];
        let mut list = Located { value: Value::List(Vec::new()), lines: Lines::default() };
        for piece in in_parallel(&pieces, items.text.len(), Chunk::parse) {
            let Located { value, lines } = piece.ok()?;
            let (Value::List(all), Value::List(some)) = (&mut list.value, value) else {
                return None;
            };
            all.extend(some);
            list.lines.within.extend(lines.within);
        }
        list.lines.line = items.offset;
        let mut whole =
            Located { value: Value::Map(Vec::new()), lines: Lines { line: 1, within: Vec::new() } };
        let mut keys = BTreeSet::new();
        let items = Located {
            value: Value::Map(vec![("items".to_owned(), list.value)]),
            lines: Lines { line: 0, within: vec![list.lines] },
        };
        for part in [head, Some(items), tail].into_iter().flatten() {
            let (Value::Map(all), Value::Map(some)) = (&mut whole.value, part.value) else {
                return None;
            };
            if !some.iter().all(|(key, _)| keys.insert(key.clone())) {
                return None;
            }
            all.extend(some);
            whole.lines.within.extend(part.lines.within);
        }
        Some(Ok(whole))
    }

    /// What comes before the items of a list, the items, and what comes after them.
    fn around_items(&self) -> Option<[Self; 3]> {
        let (mut at, mut line) = (0, 0);
        let (mut items, mut end) = (None, None);
        for full in self.text.split_inclusive('\n') {
            match (items, end) {
                (None, _) if full.trim_end() == "items:" => {
                    items = Some((at, at + full.len(), line + 1));
                }
                (Some(_), None) if !full.starts_with(['-', ' ', '#', '\n', '\r']) => {
                    end = Some((at, line));
                }
                _ => {}
            }
            at += full.len();
            line += 1;
        }
        let (head, begin, first) = items?;
        let (end, last) = end.unwrap_or((at, line));
        let part = |text, line: u64| Chunk { text, offset: self.offset + line };
        Some([
            part(&self.text[..head], 0),
            part(&self.text[begin..end], first),
            part(&self.text[end..], last),
        ])
    }

    /// The items of a list in pieces that can be read each by itself.
    fn pieces(&self) -> Vec<Self> {
        let wanted = self.text.len() / 64;
        let mut pieces = Vec::new();
        let (mut begin, mut at, mut offset, mut line) = (0, 0, 0, 0);
        for full in self.text.split_inclusive('\n') {
            if full.starts_with('-') && at - begin > wanted {
                pieces.push(Chunk { text: &self.text[begin..at], offset: self.offset + offset });
                (begin, offset) = (at, line);
            }
            at += full.len();
            line += 1;
        }
        pieces.push(Chunk { text: &self.text[begin..], offset: self.offset + offset });
        pieces
    }

    fn parse(&self) -> Result<Located, Unreadable> {
        let options = serde_saphyr::options! {
            // The size of the input is the user's business; what aliases make of it stays limited.
            budget: serde_saphyr::budget! {
                max_events: usize::MAX,
                max_nodes: usize::MAX,
                max_total_scalar_bytes: usize::MAX,
            },
            duplicate_keys: DuplicateKeyPolicy::Error,
            with_snippet: false,
        };
        let parsed = serde_saphyr::from_str_with_options::<Located>(self.text, options);
        let mut located = match parsed {
            Ok(located) => located,
            Err(error) => {
                let location = error.location();
                return Err(Unreadable {
                    line: location.map(|location| location.line() + self.offset),
                    message: format!(
                        "not readable as YAML: {}",
                        UserMessageFormatter.format_message(&error)
                    ),
                });
            }
        };
        located.lines.shift(self.offset);
        Ok(located)
    }
}
