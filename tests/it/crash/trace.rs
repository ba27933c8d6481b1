//! The trace of a child: its system calls in order, and between them what it meant to write and what it was told is written.
//!
//! The shim appends the calls, whoever is told appends the rest; each record is one write, so their order is that of the
//! events. It knows nothing of what a call does to a disk.

use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// Before the notes of a child, which the shim does not make.
const NOTE: u32 = 100;
const HEAD_BYTES: usize = 32;

/// What one record says.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A file that was not there is, empty, by this number.
    Create { path: String, file: u64 },
    /// The bytes of the trace in this range are written.
    Write {
        file: u64,
        offset: u64,
        data: Range<usize>,
    },
    /// The file is made this long.
    Truncate { file: u64, bytes: u64 },
    /// All of the file up to here is durable.
    Sync { path: String, file: u64 },
    /// A sync was made to fail: what was not durable before will never be.
    SyncFailed { path: String, file: u64 },
    /// The names in the directory are durable.
    SyncDirectory { path: String },
    /// A name is another one.
    Rename { from: String, to: String },
    /// A name is gone.
    Unlink { path: String },
    /// A directory is there.
    MakeDirectory { path: String },
    /// What a client knows.
    Note(Note),
}

/// What a client knows at this point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Note {
    /// This revision may be written from here on: its keys with the lengths of their values, nothing for a deletion.
    Asked {
        revision: i64,
        events: Vec<(String, Option<usize>)>,
    },
    /// Everything through this revision was acknowledged, or seen.
    Acknowledged { revision: i64 },
    /// History may be compacted at this revision from here on.
    CompactionAsked { revision: i64 },
    /// The compaction was acknowledged.
    CompactionAcknowledged { revision: i64 },
    /// These leases were there when the store was opened, and no other.
    Leases { ids: Vec<i64> },
    /// A lease may be there from here on, or may be gone.
    LeaseAsked { id: i64, granted: bool },
    /// What was asked of leases was acknowledged.
    LeasesAcknowledged,
}

/// A whole trace.
#[derive(Debug)]
pub(super) struct Trace {
    bytes: Vec<u8>,
    pub steps: Vec<Step>,
}

impl Trace {
    pub(super) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the trace of a child");
        let mut steps = Vec::new();
        let mut at = 0;
        // A child that was killed may have left half a record.
        while let Some((step, end)) = parse(&bytes, at) {
            steps.push(step);
            at = end;
        }
        Self { bytes, steps }
    }

    /// What a write wrote.
    pub(super) fn data(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }
}

fn parse(bytes: &[u8], at: usize) -> Option<(Step, usize)> {
    let head = bytes.get(at..at + HEAD_BYTES)?;
    let u32_at = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (kind, file, offset) = (u32_at(0), u64_at(8), u64_at(16));
    let path_end = at + HEAD_BYTES + u32_at(4) as usize;
    let data_bytes = usize::try_from(u64_at(24)).expect("a length");
    let data = path_end..path_end + data_bytes;
    let content = bytes.get(data.clone())?;
    let path = String::from_utf8_lossy(&bytes[at + HEAD_BYTES..path_end]).into_owned();
    let step = match kind {
        1 => Step::Create { path, file },
        2 => Step::Write {
            file,
            offset,
            data: data.clone(),
        },
        3 => Step::Truncate {
            file,
            bytes: offset,
        },
        4 => Step::Sync { path, file },
        5 => Step::SyncDirectory { path },
        6 => Step::Rename {
            from: path,
            to: String::from_utf8_lossy(content).into_owned(),
        },
        7 => Step::Unlink { path },
        8 => Step::MakeDirectory { path },
        9 => Step::SyncFailed { path, file },
        NOTE => Step::Note(serde_json::from_slice(content).expect("a note")),
        other => panic!("{path}: the shim does not model call {other}"),
    };
    Some((step, data.end))
}

/// Adds notes to the trace of a child.
#[derive(Debug)]
pub(super) struct Notes(File);

impl Notes {
    pub(super) fn open(trace: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(trace);
        Self(file.expect("the trace"))
    }

    /// Adds one, before this returns.
    pub(super) fn add(&mut self, note: &Note) {
        let content = serde_json::to_vec(note).expect("a note");
        let mut record = Vec::with_capacity(HEAD_BYTES + content.len());
        record.extend(NOTE.to_ne_bytes());
        record.extend(0_u32.to_ne_bytes());
        record.extend([0; 16]);
        record.extend((content.len() as u64).to_ne_bytes());
        record.extend(content);
        let written = self.0.write(&record).expect("the trace takes it");
        assert_eq!(written, record.len(), "one record, one write");
    }
}
