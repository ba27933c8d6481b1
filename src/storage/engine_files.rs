//! What the engine's files have to look like before it may open them: it takes some damage for another truth.
//!
//! The engine only warns of settings whose checksum is wrong, makes an empty store of data that is gone, and does not say
//! which file it could not read. This never changes what a file holds and never looks into the data itself.
//!
//! When a sync has failed, the system counts what it could not write as written: it can be read until the power goes, and no
//! later sync brings it to the disk. So whoever sees that leaves a file, and the next opening writes everything again.
//! That file need not be durable: after a power cut what can be read is what the disk has.

use super::StorageError;
use super::directory::directory;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The engine's log and pages.
pub(super) const DATA_FILE: &str = "db";
/// Its settings.
pub(super) const SETTINGS_FILE: &str = "conf";
/// Its snapshots: where each page lay when it was last opened.
pub(super) const SNAPSHOT_PREFIX: &str = "snap.";
/// The end of a snapshot's name while it is written.
pub(super) const SNAPSHOT_UNFINISHED: &str = ".generating";
/// Where it would put what is larger than it is ever given.
const BLOBS_DIRECTORY: &str = "blobs";
/// Says that not all that can be read of the engine's files is on the disk.
const DISTRUSTED_FILE: &str = "db.distrusted";
/// How much is written again at a time.
const AGAIN_BYTES: usize = 1 << 20;
/// A snapshot ends with its length and its CRC-32.
const SNAPSHOT_TAIL_BYTES: usize = 12;
const WHAT: &str = "engine file";

/// Whether there is an engine in a directory that was written to.
pub(super) fn has_data(dir: &Path) -> bool {
    fs::metadata(dir.join(DATA_FILE)).is_ok_and(|data| data.len() > 0)
}

/// Whether a file or directory of this name is the engine's.
pub(super) fn is_engines(name: &str) -> bool {
    [DATA_FILE, SETTINGS_FILE, BLOBS_DIRECTORY, DISTRUSTED_FILE].contains(&name)
        || name.starts_with(SNAPSHOT_PREFIX)
}

/// Looks at all of them. `segment_bytes` is what the settings have to say.
pub(super) fn check(dir: &Path, segment_bytes: usize) -> Result<(), StorageError> {
    let has_data = has_data(dir);
    if has_data {
        check_settings(&dir.join(SETTINGS_FILE), segment_bytes)?;
    }
    for entry in fs::read_dir(dir).map_err(|error| directory(dir, &error))? {
        let entry = entry.map_err(|error| directory(dir, &error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(SNAPSHOT_PREFIX) || name.ends_with(SNAPSHOT_UNFINISHED) {
            continue;
        }
        if !has_data {
            let reason = "it is missing or empty, and there is a snapshot of it";
            return Err(damaged(&dir.join(DATA_FILE), reason));
        }
        check_snapshot(&entry.path())?;
    }
    Ok(())
}

/// Has the next opening write all files again.
pub(super) fn distrust(dir: &Path) {
    if let Err(error) = File::create(dir.join(DISTRUSTED_FILE)) {
        log::error!(
            "a call to the disk failed, and it cannot be noted in {}: start the machine anew before the store: {error}",
            dir.display()
        );
    }
}

/// Writes the engine's files again as they are, and durably, if they are not to be trusted. The caller has their lock.
pub(super) fn write_again_if_distrusted(dir: &Path) -> io::Result<()> {
    let mark = dir.join(DISTRUSTED_FILE);
    if !mark.exists() {
        return Ok(());
    }
    log::warn!("the disk failed: the engine's files are written again before they are used");
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == DATA_FILE || name == SETTINGS_FILE || name.starts_with(SNAPSHOT_PREFIX) {
            write_again(&entry.path())?;
        }
    }
    fs::remove_file(mark)
}

fn write_again(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (mut part, mut at) = (vec![0; AGAIN_BYTES], 0);
    loop {
        let bytes = file.read_at(&mut part, at)?;
        let Some(read) = part.get(..bytes).filter(|read| !read.is_empty()) else {
            break;
        };
        file.write_all_at(read, at)?;
        at += bytes as u64;
    }
    file.sync_all()
}

/// They are the same for every store of this version.
fn check_settings(path: &Path, segment_bytes: usize) -> Result<(), StorageError> {
    let text = format!("segment_size: {segment_bytes}\nuse_compression: false\nversion: 0.34\n");
    let mut expected = text.into_bytes();
    let crc = crc32fast::hash(&expected);
    // The engine's own bytes, which are the machine's: it runs where the least significant comes first, or nowhere.
    expected.extend(crc.to_be_bytes().iter().rev());
    match fs::read(path) {
        Ok(found) if found == expected => Ok(()),
        // The engine writes them anew.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(damaged(
            path,
            "it is not what was written; all stores have the same, and if this file is removed it is made anew",
        )),
        Err(error) => Err(directory(path, &error)),
    }
}

fn check_snapshot(path: &Path) -> Result<(), StorageError> {
    let found = fs::read(path).map_err(|error| directory(path, &error))?;
    let body = found
        .len()
        .checked_sub(SNAPSHOT_TAIL_BYTES)
        .and_then(|end| found.split_at_checked(end));
    let is_right = body.is_some_and(|(body, tail)| {
        let crc = crc32fast::hash(body).to_be_bytes();
        tail.iter().rev().take(crc.len()).eq(crc.iter())
    });
    if is_right {
        Ok(())
    } else {
        Err(damaged(path, "its checksum is wrong"))
    }
}

/// An error that names the file.
pub(super) fn damaged(path: &Path, reason: &str) -> StorageError {
    StorageError::corrupt(WHAT, path.display().to_string(), reason)
}
