//! Answers in print: plain lines as etcd's own client prints them, or JSON.
//!
//! Keys and values are written as the bytes they are. Every answer is flushed, so that a reader behind a pipe sees it
//! at once.

use super::{VerbError, json};
use crate::api::pb::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader,
    StatusResponse, WatchResponse,
};
use crate::api::pb::mvccpb::{KeyValue, event::EventType};
use crate::cli::{Format, GetArgs};
use crate::storage::SnapshotInfo;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Which parts of a get are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// A line with the key and a line with the value.
    KeysAndValues,
    /// A line with the value.
    Values,
    /// The count alone.
    Count,
}

impl Parts {
    /// What the flags ask for.
    pub(super) fn of(args: &GetArgs) -> Self {
        if args.count_only {
            Self::Count
        } else if args.print_value_only {
            Self::Values
        } else {
            Self::KeysAndValues
        }
    }
}

/// Where answers go, and in which form.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    format: Format,
}

type Printed = Result<(), VerbError>;

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, format: Format) -> Self {
        Self {
            out: BufWriter::new(out),
            format,
        }
    }

    pub(super) fn put(&mut self, answer: &PutResponse) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Put::from(answer));
        }
        writeln!(self.out, "OK")?;
        if let Some(prev) = &answer.prev_kv {
            self.key_value(prev)?;
        }
        self.flush()
    }

    pub(super) fn range(&mut self, answer: &RangeResponse, parts: Parts) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Range::from(answer));
        }
        if parts == Parts::Count {
            writeln!(self.out, "{}", answer.count)?;
        }
        for kv in &answer.kvs {
            match parts {
                Parts::KeysAndValues => self.key_value(kv)?,
                Parts::Values => self.line(&kv.value)?,
                Parts::Count => {}
            }
        }
        self.flush()
    }

    pub(super) fn delete(&mut self, answer: &DeleteRangeResponse) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Delete::from(answer));
        }
        writeln!(self.out, "{}", answer.deleted)?;
        for prev in &answer.prev_kvs {
            self.key_value(prev)?;
        }
        self.flush()
    }

    pub(super) fn compact(&mut self, revision: i64, answer: &CompactionResponse) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Compaction::from(answer));
        }
        writeln!(self.out, "compacted revision {revision}")?;
        self.flush()
    }

    pub(super) fn status(&mut self, endpoint: &str, answer: &StatusResponse) -> Printed {
        if self.format == Format::Json {
            return self.document(&[json::EndpointStatus::new(endpoint, answer)]);
        }
        let ResponseHeader {
            member_id,
            revision,
            ..
        } = answer.header.unwrap_or_default();
        let leads = answer.leader == member_id;
        writeln!(self.out, "endpoint: {endpoint}")?;
        writeln!(self.out, "version: {}", answer.version)?;
        writeln!(self.out, "member: {member_id:x}")?;
        writeln!(self.out, "leader: {leads}")?;
        writeln!(self.out, "revision: {revision}")?;
        writeln!(self.out, "raft term: {}", answer.raft_term)?;
        writeln!(self.out, "disk bytes: {}", answer.db_size)?;
        writeln!(self.out, "disk bytes in use: {}", answer.db_size_in_use)?;
        for error in &answer.errors {
            writeln!(self.out, "error: {error}")?;
        }
        self.flush()
    }

    /// What was saved, and where.
    pub(super) fn saved(&mut self, file: &Path, bytes: u64) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Saved {
                file: file.display().to_string(),
                size: bytes,
            });
        }
        writeln!(self.out, "Snapshot saved at {}", file.display())?;
        self.flush()
    }

    /// What was restored, and where.
    pub(super) fn restored(&mut self, dir: &Path, info: &SnapshotInfo) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Snapshot::from(info));
        }
        let revision = info.revision;
        writeln!(
            self.out,
            "restored revision {revision} to {}",
            dir.display()
        )?;
        self.flush()
    }

    /// What is in a snapshot, in the order of etcd's own tool.
    pub(super) fn snapshot(&mut self, info: &SnapshotInfo) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Snapshot::from(info));
        }
        let SnapshotInfo {
            hash,
            revision,
            records,
            bytes,
            ..
        } = info;
        writeln!(self.out, "{hash:08x}, {revision}, {records}, {bytes} B")?;
        self.flush()
    }

    /// The events of one answer of a watch, each with its key and value, and with the previous ones first if asked for.
    pub(super) fn events(&mut self, answer: &WatchResponse) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Watch::from(answer));
        }
        for event in &answer.events {
            writeln!(self.out, "{}", event_name(event.r#type()))?;
            if let Some(prev) = &event.prev_kv {
                self.key_value(prev)?;
            }
            if let Some(kv) = &event.kv {
                self.key_value(kv)?;
            }
        }
        self.flush()
    }

    /// How far the watch has come.
    pub(super) fn progress(&mut self, answer: &WatchResponse) -> Printed {
        if self.format == Format::Json {
            return self.document(&json::Watch::from(answer));
        }
        let revision = answer.header.unwrap_or_default().revision;
        writeln!(self.out, "progress notify: {revision}")?;
        self.flush()
    }

    fn document(&mut self, answer: &impl Serialize) -> Printed {
        serde_json::to_writer(&mut self.out, answer).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        self.flush()
    }

    fn key_value(&mut self, kv: &KeyValue) -> io::Result<()> {
        self.line(&kv.key)?;
        self.line(&kv.value)
    }

    fn line(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> Printed {
        Ok(self.out.flush()?)
    }
}

fn event_name(kind: EventType) -> &'static str {
    match kind {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}
