//! Denied packets, a line of JSON each, on a thread of their own: who reads them may be slow.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use netpol_enforce::records::{Heard, Recorder};

use crate::notes;
use crate::output::Document;

/// Writes what there is to hear until it cannot be written any more.
pub(crate) fn write(mut recorder: Recorder, path: &Path) -> io::Result<()> {
    let mut file = open(path)?;
    let path = path.display().to_string();
    let listen = move || {
        loop {
            let line = match recorder.wait(None) {
                Ok(Some(Heard::Record(record))) => {
                    serde_json::to_string(&Document::new("DeniedPacket", record))
                }
                Ok(Some(Heard::Lost)) => {
                    notes::note("denied packets came faster than they could be recorded");
                    continue;
                }
                Ok(None) => continue,
                Err(error) => return notes::error(format_args!("no more records: {error}")),
            };
            let written = line.map_err(io::Error::from).and_then(|line| writeln!(file, "{line}"));
            if let Err(error) = written {
                return notes::error(format_args!("no more records: {path}: {error}"));
            }
        }
    };
    thread::Builder::new().name("records".to_owned()).spawn(listen).map(drop)
}

fn open(path: &Path) -> io::Result<File> {
    if path.as_os_str() == "-" {
        // A descriptor of its own: the one of this program's results is locked all the time.
        return Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    }
    File::options().append(true).create(true).open(path)
}
