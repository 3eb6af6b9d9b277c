//! Text to documents: YAML streams and JSON streams.

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
    let chunks = split(text).into_iter().filter(|chunk| !chunk.is_blank());
    let numbered = chunks.zip(1..);
    numbered.map(|(chunk, number)| Document { number, content: chunk.parse() }).collect()
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
