//! Which files an argument of `-f` stands for, and what is in them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A file of manifests.
#[derive(Debug)]
pub(crate) struct Source {
    /// As messages name it.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Reads what `argument` stands for: a file, standard input (`-`), or the `.yaml`, `.yml` and `.json` files of a
/// directory in the order of their names.
pub(super) fn read(argument: &Path, recursive: bool) -> Result<Vec<Source>> {
    if argument.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(vec![Source { name: "<stdin>".to_owned(), text }]);
    }
    let mut paths = Vec::new();
    if argument.is_dir() {
        walk(argument, recursive, &mut paths)?;
        ensure!(!paths.is_empty(), "{} has no .yaml, .yml or .json file in it", argument.display());
    } else {
        paths.push(argument.to_owned());
    }
    paths.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<Source> {
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
    for path in entries {
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
