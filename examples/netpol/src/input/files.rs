//! Which files an argument of `-f` stands for, and what is in them.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::progress::Progress;

/// A file of manifests.
#[derive(Debug)]
pub(crate) struct Source {
    /// As messages name it.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Reads what `argument` stands for: a file, standard input (`-`), or the `.yaml`, `.yml` and `.json` files of a
/// directory in the order of their names, but for hidden ones.
pub(super) fn read(argument: &Path, recursive: bool) -> Result<Vec<Source>> {
    if is_stdin(argument) {
        return Ok(vec![read_stdin()?]);
    }
    list(argument, recursive)?.iter().map(|path| read_file(path)).collect()
}

/// Whether `argument` stands for standard input.
pub(crate) fn is_stdin(argument: &Path) -> bool {
    argument.as_os_str() == "-"
}

/// Reads standard input, which can be done once.
pub(crate) fn read_stdin() -> Result<Source> {
    // Who types does not want to be told.
    let piped = !io::stdin().is_terminal();
    let _progress = piped.then(|| Progress::new("waiting for standard input"));
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
    Ok(Source { name: "<stdin>".to_owned(), text })
}

/// The files that `argument` stands for.
pub(crate) fn list(argument: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    if argument.is_dir() {
        walk(argument, recursive, &mut paths)?;
        ensure!(!paths.is_empty(), "{} has no .yaml, .yml or .json file in it", argument.display());
    } else {
        paths.push(argument.to_owned());
    }
    Ok(paths)
}

/// Reads one file.
pub(crate) fn read_file(path: &Path) -> Result<Source> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    Ok(Source { name, text })
}

fn walk(directory: &Path, recursive: bool, paths: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("{} cannot be read", directory.display());
    let entries: io::Result<Vec<_>> = fs::read_dir(directory)
        .with_context(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut entries = entries.with_context(unreadable)?;
    entries.sort();
    for path in entries.into_iter().filter(|path| !is_hidden(path)) {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, paths)?;
            }
        } else if path
            .extension()
            .is_some_and(|it| ["yaml", "yml", "json"].iter().any(|e| it == *e))
        {
            paths.push(path);
        }
    }
    Ok(())
}

/// A directory and those within it, hidden ones left out.
pub(crate) fn directories(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while let Some(directory) = found.get(at) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let inner: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|it| it.is_dir() && !is_hidden(it)).collect();
        found.extend(inner);
        at += 1;
    }
    found
}

/// What editors and mounted volumes keep beside the files that are meant begins with a dot.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."))
}
