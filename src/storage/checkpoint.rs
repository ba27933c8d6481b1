//! Writes the index beside the data now and then, so that opening need not read all of history.
//!
//! It may run while writes go on: it takes the changes up to one revision, keys before blocks, a bounded number per hold
//! of the lock. A key that is pruned meanwhile has its records counted as dead before the blocks are written; a block
//! that is cleaned meanwhile makes the whole file useless, which opening notices by the number of compaction steps.
//! A checkpoint that fails is a warning, never an error: the blocks are the truth.

use super::codec::{CheckpointHead, CheckpointReader, CheckpointWriter, Frame, Place, block_key};
use super::core::{Core, Index};
use super::database::Database;
use super::directory::sync_directory;
use super::key_index::{Slot, Slots, slots_between};
use super::{Readers, StorageError};
use crate::fault::{self, Fault};
use crate::model::{KeyRange, Revision};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

const FILE: &str = "index.checkpoint";
/// Written here first, and moved when it is durable.
const FILE_NEW: &str = "index.checkpoint.new";
/// How many keys or blocks one frame holds.
const ENTRIES_PER_FRAME: usize = 1024;
/// After how many changes a frame of keys ends.
const CHANGES_PER_FRAME: usize = 1 << 16;
const BUFFER_BYTES: usize = 1 << 20;

/// When the index is written.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// Nothing when there is no place for files.
    dir: Option<PathBuf>,
    /// The revision of the last one.
    last: Revision,
    /// One that is being written.
    running: Option<JoinHandle<()>>,
    inline: bool,
}

impl Checkpointer {
    /// A checkpointer of a store that was just opened.
    pub(crate) fn new(dir: Option<&Path>, last: Revision, inline: bool) -> Self {
        Self {
            dir: dir.map(Path::to_path_buf),
            last,
            running: None,
            inline,
        }
    }

    /// Writes a checkpoint in the background if enough revisions have passed since the last.
    pub(crate) fn after_commit(&mut self, core: &Arc<Core>, compaction_steps: u64) {
        let every = core.limits.checkpoint_revisions;
        let passed = core.revision().0.saturating_sub(self.last.0);
        if every == 0 || passed.unsigned_abs() < every {
            return;
        }
        let Some(dir) = self.dir.clone() else { return };
        if self
            .running
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            return;
        }
        self.last = core.revision();
        let head = head(core, compaction_steps);
        if self.inline {
            return write_or_warn(core, &dir, &head);
        }
        let core = Arc::clone(core);
        let spawned = thread::Builder::new()
            .name("vigil-checkpoint".to_owned())
            .spawn(move || write_or_warn(&core, &dir, &head));
        match spawned {
            Ok(thread) => self.running = Some(thread),
            Err(error) => log::warn!("no checkpoint: {error}"),
        }
    }

    /// Writes the last checkpoint; nothing may be written to the store any more.
    pub(crate) fn close(&mut self, core: &Core, compaction_steps: u64) {
        if let Some(thread) = self.running.take()
            && thread.join().is_err()
        {
            log::warn!("the thread of the checkpoint panicked");
        }
        if let Some(dir) = &self.dir {
            write_or_warn(core, dir, &head(core, compaction_steps));
        }
    }
}

fn head(core: &Core, compaction_steps: u64) -> CheckpointHead {
    CheckpointHead {
        identity: core.identity,
        revision: core.revision(),
        compaction_steps,
    }
}

fn write_or_warn(core: &Core, dir: &Path, head: &CheckpointHead) {
    if let Err(error) = write(core, dir, head) {
        log::warn!("no checkpoint, the next start will take longer: {error}");
        // What is left of it would only take space. That there is nothing to remove is no trouble.
        let _ = fs::remove_file(dir.join(FILE_NEW));
    }
}

fn write(core: &Core, dir: &Path, head: &CheckpointHead) -> Result<(), StorageError> {
    let failed = |error: std::io::Error| StorageError::disk("write the checkpoint", error);
    let path_new = dir.join(FILE_NEW);
    check_space(core)?;
    let file = File::create(&path_new).map_err(failed)?;
    let buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut out = CheckpointWriter::new(buffered, head)?;
    write_keys(core, head.revision, &mut out)?;
    write_blocks(core, head.revision, &mut out)?;
    write_attached(core, &mut out)?;
    let mut buffered = out.finish()?;
    buffered.flush().map_err(failed)?;
    buffered.get_ref().sync_all().map_err(failed)?;
    fs::rename(&path_new, dir.join(FILE)).map_err(failed)?;
    sync_directory(dir)
}

/// Refuses to go on while the disk has less than what is kept for the engine (D5).
fn check_space(core: &Core) -> Result<(), StorageError> {
    let free_bytes = core.db.free_bytes()?;
    if free_bytes < core.limits.free_space_reserve_bytes {
        let reason = format!("the disk has {free_bytes} bytes left");
        return Err(StorageError::disk("write the checkpoint", reason));
    }
    Ok(())
}

fn write_keys<W: Write>(
    core: &Core,
    through: Revision,
    out: &mut CheckpointWriter<W>,
) -> Result<(), StorageError> {
    let everything = KeyRange::everything();
    let mut after: Option<Bytes> = None;
    loop {
        check_space(core)?;
        let mut frame = Vec::with_capacity(ENTRIES_PER_FRAME);
        let (mut changes, mut full) = (0, None);
        {
            let index = core.index();
            let keys = index.keys.range(&everything, after.as_deref());
            for ((key, slots), looked_at) in keys.zip(1..) {
                let slots: &[Slot] = slots_between(slots, Revision(0), through);
                changes += slots.len();
                if !slots.is_empty() {
                    frame.push((key.clone(), slots.to_vec()));
                }
                if looked_at == ENTRIES_PER_FRAME || changes >= CHANGES_PER_FRAME {
                    full = Some(key.clone());
                    break;
                }
            }
        }
        out.keys(&frame)?;
        if full.is_none() {
            return Ok(());
        }
        after = full;
    }
}

fn write_blocks<W: Write>(
    core: &Core,
    through: Revision,
    out: &mut CheckpointWriter<W>,
) -> Result<(), StorageError> {
    let mut after = None;
    loop {
        check_space(core)?;
        let frame: Vec<_> = {
            let index = core.index();
            let blocks = index.blocks.iter_after(after);
            let old = blocks.take_while(|(place, _)| place.main <= through);
            old.take(ENTRIES_PER_FRAME).collect()
        };
        out.blocks(&frame)?;
        if frame.len() < ENTRIES_PER_FRAME {
            return Ok(());
        }
        after = frame.last().map(|(place, _)| *place);
    }
}

/// Attachments are written as they are now: what happened to a key after the checkpoint's revision is read again when the
/// store opens, and says anew which lease it has.
fn write_attached<W: Write>(
    core: &Core,
    out: &mut CheckpointWriter<W>,
) -> Result<(), StorageError> {
    let mut after: Option<Bytes> = None;
    loop {
        let frame: Vec<_> = {
            let index = core.index();
            let attached = index.leases.attached_after(after.as_ref());
            let attached = attached.map(|(key, lease)| (key.clone(), lease));
            attached.take(ENTRIES_PER_FRAME).collect()
        };
        out.attached(&frame)?;
        if frame.len() < ENTRIES_PER_FRAME {
            return Ok(());
        }
        after = frame.last().map(|(key, _)| key.clone());
    }
}

/// A checkpoint that is read by a thread of its own while the engine opens.
#[derive(Debug)]
pub(crate) struct ReadAhead(Option<JoinHandle<Result<Decoded, StorageError>>>);

/// What a checkpoint stands for, and what it holds.
type Decoded = (CheckpointHead, Index);

impl ReadAhead {
    /// Begins to read, where there may be threads. Whoever holds the directory may still replace the file: what was read
    /// is judged like any other once the directory is ours.
    pub(crate) fn start(dir: &Path, readers: Readers) -> Self {
        if readers == Readers::Inline {
            return Self::nothing();
        }
        let path = dir.join(FILE);
        let spawned = thread::Builder::new()
            .name("vigil-checkpoint".to_owned())
            .spawn(move || {
                let failed = |error| StorageError::disk("read the checkpoint", error);
                decode(File::open(&path).map_err(failed)?, |_| true)
            });
        Self(spawned.ok())
    }

    /// Nothing was read.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// What was read, if it can be used. Whatever was wrong with it is found again, and told, by reading it now.
    fn take(self, db: &dyn Database, expected: &CheckpointHead) -> Option<Decoded> {
        let decoded = self.0?.join().ok()?.ok()?;
        let is_usable = fits(&decoded.0, expected) && check_last_block(db, &decoded).is_ok();
        is_usable.then_some(decoded)
    }
}

/// The index of the last checkpoint with its revision, if there is one that fits what lies on the disk.
pub(crate) fn load(
    dir: &Path,
    db: &dyn Database,
    expected: &CheckpointHead,
    ahead: ReadAhead,
) -> Option<(Index, Revision)> {
    if let Some((head, index)) = ahead.take(db, expected) {
        return Some((index, head.revision));
    }
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!("{} is not used: {error}", path.display());
            return None;
        }
    };
    let decoded = decode(file, |head| fits(head, expected));
    let checked = decoded.and_then(|decoded| check_last_block(db, &decoded).map(|()| decoded));
    match checked {
        Ok((head, _)) if !fits(&head, expected) => {
            log::info!("the checkpoint is older than the last compaction or another store's");
            None
        }
        Ok((head, index)) => Some((index, head.revision)),
        Err(error) => {
            let path = path.display();
            log::warn!("{path} is not used, all of history is read instead: {error}");
            None
        }
    }
}

/// True when it is the store's own, and no compaction has gone on since.
fn fits(head: &CheckpointHead, expected: &CheckpointHead) -> bool {
    let known = CheckpointHead {
        revision: head.revision,
        ..*expected
    };
    *head == known || fault::active(Fault::StaleCheckpointUsed)
}

/// Reads all of a file; of one whose head is not wanted, the head alone.
fn decode(
    file: File,
    is_wanted: impl Fn(&CheckpointHead) -> bool,
) -> Result<Decoded, StorageError> {
    let input = BufReader::with_capacity(BUFFER_BYTES, file);
    let (head, mut frames) = CheckpointReader::new(input)?;
    let mut index = Index::default();
    if !is_wanted(&head) {
        return Ok((head, index));
    }
    loop {
        match frames.next()? {
            Frame::Keys(keys) => {
                for (key, slots) in keys {
                    index.keys.append(key, Slots::from_vec(slots));
                }
            }
            Frame::Blocks(blocks) => {
                for (place, stat) in blocks {
                    index.blocks.insert(place, stat);
                }
            }
            Frame::Attached(attached) => {
                for (key, lease) in attached {
                    index.leases.attach(&key, lease);
                }
            }
            Frame::End => return Ok((head, index)),
        }
    }
}

/// Data that was put back from an older copy lacks what the checkpoint speaks of.
fn check_last_block(db: &dyn Database, (head, index): &Decoded) -> Result<(), StorageError> {
    let end = Place::first_of(head.revision.next());
    match index.blocks.block_of(end) {
        Some((place, _)) if db.get(&block_key(place, 0))?.is_none() => Err(StorageError::corrupt(
            "checkpoint",
            place.to_string(),
            "its block is not on the disk",
        )),
        _ => Ok(()),
    }
}
