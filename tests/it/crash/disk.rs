//! A disk that loses power: what was synced stays, and of the rest whatever happened to reach it.
//!
//! The model: a file's bytes are durable once an fsync or fdatasync of that file that came after their write has ended;
//! `sync_file_range` counts as nothing. Of the writes since then any subset of sectors of 512 bytes may have reached the
//! disk, in any order, and so may changes of the length. When a sync fails, what it should have made durable is lost in part
//! or whole, and no later sync brings it back, as on Linux: whoever reads still sees it, until the power goes. Names are durable once their directory is synced; of the later
//! changes of names a prefix is kept, because file systems with a journal keep those in order. A sector is old or new.

use super::Dice;
use super::trace::{Step, Trace};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SECTOR_BYTES: usize = 512;

/// What became of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// All of it is gone.
    Dropped,
    /// All of it is there, as after a kill.
    Kept,
    /// It is there up to some sector in the middle of a write.
    Prefix,
    /// Any half of the sectors.
    Sectors,
    /// Any half of the writes, each whole.
    Writes,
    /// All but one write.
    AllButOne,
    /// Only one write, and that may be the last.
    OnlyOne,
}

impl Tail {
    pub(super) const ALL: [Self; 7] = [
        Self::Dropped,
        Self::Kept,
        Self::Prefix,
        Self::Sectors,
        Self::Writes,
        Self::AllButOne,
        Self::OnlyOne,
    ];
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, data: Range<usize> },
    Truncate { bytes: u64 },
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum NameChange {
    File { path: String, inode: usize },
    Directory { path: String },
    Unlink { path: String },
    Rename { from: String, to: String },
}

impl NameChange {
    fn directory(&self) -> &str {
        let (Self::File { path, .. }
        | Self::Directory { path }
        | Self::Unlink { path }
        | Self::Rename { to: path, .. }) = self;
        path.rsplit_once('/').expect("an absolute path").0
    }
}

/// Files by path; a directory has no number.
type Names = BTreeMap<String, Option<usize>>;

fn change_names(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::File { path, inode } => drop(names.insert(path.clone(), Some(*inode))),
        NameChange::Directory { path } => drop(names.insert(path.clone(), None)),
        NameChange::Unlink { path } => drop(names.remove(path)),
        NameChange::Rename { from, to } => {
            // A directory takes along what is in it.
            let moved = names.keys().filter_map(|path| {
                let rest = path.strip_prefix(from.as_str())?;
                let is_it = rest.is_empty() || rest.starts_with('/');
                is_it.then(|| (path.clone(), format!("{to}{rest}")))
            });
            for (path, to) in moved.collect::<Vec<_>>() {
                if let Some(found) = names.remove(&path) {
                    names.insert(to, found);
                }
            }
        }
    }
}

/// What lies in a directory before a child starts on it.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<(String, u64, Option<Vec<u8>>)>);

impl Before {
    pub(super) fn of(root: &Path) -> Self {
        let mut before = Self::default();
        before.take_in(root);
        before
    }

    fn take_in(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let metadata = path.metadata().expect("a file");
            let name = path.to_str().expect("a plain path").to_owned();
            let content = metadata.is_file().then(|| fs::read(&path).expect("a file"));
            self.0.push((name, metadata.ino(), content));
            if metadata.is_dir() {
                self.take_in(&path);
            }
        }
    }
}

/// A disk on which the steps of a trace happen.
#[derive(Debug)]
pub(super) struct Disk<'a> {
    trace: &'a Trace,
    root: String,
    inodes: Vec<Inode>,
    /// The system's number of a file is used again once the file is gone; the last file that had it counts.
    numbers: BTreeMap<u64, usize>,
    names: Names,
    pending_names: Vec<NameChange>,
    /// Syncs of files whose names end in this are believed and do nothing: for tests of the tests.
    lies_about: Option<&'static str>,
    /// What is lost when a sync fails.
    dice: Dice,
}

impl<'a> Disk<'a> {
    /// The disk before the first step: what lay in `root` is durable.
    pub(super) fn new(trace: &'a Trace, root: &Path, before: &Before) -> Self {
        let mut disk = Self {
            trace,
            root: root.to_str().expect("a plain path").to_owned(),
            inodes: Vec::new(),
            numbers: BTreeMap::new(),
            names: Names::new(),
            pending_names: Vec::new(),
            lies_about: None,
            dice: Dice(trace.steps.len() as u64),
        };
        for (path, number, content) in &before.0 {
            let inode = content.as_ref().map(|durable| {
                let inode = disk.add_inode(*number);
                disk.inodes[inode].durable.clone_from(durable);
                inode
            });
            disk.names.insert(path.clone(), inode);
        }
        disk
    }

    /// A disk that says it has synced the files whose names end in `name`, and has not.
    pub(super) fn lying_about(self, name: &'static str) -> Self {
        Self {
            lies_about: Some(name),
            ..self
        }
    }

    fn add_inode(&mut self, number: u64) -> usize {
        self.inodes.push(Inode::default());
        self.numbers.insert(number, self.inodes.len() - 1);
        self.inodes.len() - 1
    }

    fn inode(&mut self, number: u64) -> &mut Inode {
        let known = self.numbers.get(&number);
        &mut self.inodes[*known.expect("a file that was created")]
    }

    /// Lets a step happen.
    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Create { path, file } => {
                let inode = self.add_inode(*file);
                let path = path.clone();
                self.pending_names.push(NameChange::File { path, inode });
            }
            Step::Write {
                file, offset, data, ..
            } => {
                let (offset, data) = (*offset, data.clone());
                self.inode(*file)
                    .pending
                    .push(Pending::Write { offset, data });
            }
            Step::Truncate { file, bytes } => {
                let bytes = *bytes;
                self.inode(*file).pending.push(Pending::Truncate { bytes });
            }
            Step::Sync { path, .. } if self.lies_about.is_some_and(|name| path.ends_with(name)) => {
            }
            Step::Sync { file, .. } => {
                let trace = self.trace;
                let inode = self.inode(*file);
                for pending in std::mem::take(&mut inode.pending) {
                    apply(trace, &mut inode.durable, &pending);
                }
            }
            Step::SyncDirectory { path } => {
                let changes = std::mem::take(&mut self.pending_names);
                let (durable, pending) = changes
                    .into_iter()
                    .partition(|change| change.directory() == path);
                self.pending_names = pending;
                let durable: Vec<NameChange> = durable;
                for change in &durable {
                    change_names(&mut self.names, change);
                }
            }
            Step::Rename { from, to } => {
                let (from, to) = (from.clone(), to.clone());
                self.pending_names.push(NameChange::Rename { from, to });
            }
            Step::Unlink { path } => {
                let path = path.clone();
                self.pending_names.push(NameChange::Unlink { path });
            }
            Step::MakeDirectory { path } => {
                let path = path.clone();
                self.pending_names.push(NameChange::Directory { path });
            }
            Step::SyncFailed { file, .. } => self.lose(*file),
            Step::Note(_) => {}
        }
    }

    /// Writes into `to` what a cut at this point may leave.
    pub(super) fn image(&self, tail: Tail, dice: &mut Dice, to: &Path) {
        let mut names = self.names.clone();
        let kept = match tail {
            Tail::Dropped => 0,
            Tail::Kept => self.pending_names.len(),
            _ => usize::try_from(dice.below(self.pending_names.len() as u64 + 1)).expect("few"),
        };
        for change in self.pending_names.iter().take(kept) {
            change_names(&mut names, change);
        }
        for (path, inode) in names {
            let below = path.strip_prefix(&self.root).expect("a path below");
            let path = to.join(below.trim_start_matches('/'));
            // A name whose directory is not durable is not there.
            let is_reachable = path.parent().is_some_and(Path::exists);
            match inode {
                _ if !is_reachable => {}
                None => fs::create_dir(&path).expect("a directory"),
                Some(inode) => {
                    let content = self.inodes[inode].after_a_cut(self.trace, tail, dice);
                    fs::write(&path, content).expect("a file of the image");
                }
            }
        }
    }

    /// Of what was written and not synced only a part will ever reach the disk.
    fn lose(&mut self, file: u64) {
        const TAILS: [Tail; 4] = [Tail::Dropped, Tail::Prefix, Tail::Sectors, Tail::Writes];
        let mut dice = self.dice.clone();
        let tail = TAILS[dice.below(TAILS.len() as u64) as usize];
        let trace = self.trace;
        let inode = self.inode(file);
        inode.durable = inode.after_a_cut(trace, tail, &mut dice);
        inode.pending.clear();
        self.dice = dice;
    }
}

impl Inode {
    /// The content after a cut of the power.
    fn after_a_cut(&self, trace: &Trace, tail: Tail, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        let writes = self.pending.len() as u64;
        // In whole writes, and then in sectors of the one in which it ends.
        let (end, one) = (dice.below(writes + 1), dice.below(writes));
        for (pending, number) in self.pending.iter().zip(0..) {
            let whole = match tail {
                Tail::Dropped | Tail::Sectors => false,
                Tail::Kept => true,
                Tail::Prefix => number < end,
                Tail::Writes => dice.percent(50),
                Tail::AllButOne => number != one,
                Tail::OnlyOne => number == one,
            };
            match pending {
                _ if whole => apply(trace, &mut content, pending),
                Pending::Truncate { .. } => {
                    if tail == Tail::Sectors && dice.percent(50) {
                        apply(trace, &mut content, pending);
                    }
                }
                Pending::Write { offset, data } => {
                    let data = trace.data(data);
                    let torn_at = dice.below(data.len() as u64 + 1);
                    for (sector, at) in sectors(data, *offset) {
                        let is_kept = match tail {
                            Tail::Sectors => dice.percent(50),
                            Tail::Prefix => number == end && at - offset < torn_at,
                            _ => false,
                        };
                        if is_kept {
                            put(&mut content, sector, at);
                        }
                    }
                }
            }
        }
        content
    }
}

/// The parts of a write that each reach the disk whole or not at all, with their places.
fn sectors(mut data: &[u8], mut offset: u64) -> Vec<(&[u8], u64)> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let left = SECTOR_BYTES - usize::try_from(offset % SECTOR_BYTES as u64).expect("small");
        let (sector, rest) = data.split_at(left.min(data.len()));
        found.push((sector, offset));
        offset += sector.len() as u64;
        data = rest;
    }
    found
}

fn apply(trace: &Trace, content: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Truncate { bytes } => {
            content.resize(usize::try_from(*bytes).expect("a length"), 0);
        }
        Pending::Write { offset, data } => put(content, trace.data(data), *offset),
    }
}

fn put(content: &mut Vec<u8>, data: &[u8], offset: u64) {
    let at = usize::try_from(offset).expect("an offset");
    content.resize(content.len().max(at + data.len()), 0);
    content[at..at + data.len()].copy_from_slice(data);
}
