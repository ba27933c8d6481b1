//! What a record is: every request, every answer and every watch response, in the order in which clients sent and saw
//! them.
//!
//! A request is noted before it is sent and an answer after it was received, so that the order of lines is real time.
//! One JSON object a line in a file. Nothing here judges.

use super::text;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};

/// One line of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// The first line: an empty store at revision 1.
    Begin {
        /// Whose rules hold where servers differ.
        server: Server,
    },
    /// A client is about to send a request.
    Call {
        /// Its number, used once.
        call: u64,
        /// The request.
        request: Request,
    },
    /// A client has learnt the outcome.
    Return {
        /// The number of the request.
        call: u64,
        /// The outcome.
        outcome: Outcome,
    },
    /// A client is about to send something on a watch stream.
    Ask {
        /// The number of the stream, used once.
        stream: u64,
        /// What it sends.
        ask: Ask,
    },
    /// A client has received a watch response.
    Told {
        /// The number of the stream.
        stream: u64,
        /// The response.
        response: Response,
    },
    /// A client has left its watch stream.
    Ended {
        /// The number of the stream.
        stream: u64,
    },
    /// The server has ended a watch stream.
    Broken {
        /// The number of the stream.
        stream: u64,
        /// What it said of it.
        why: String,
    },
    /// The server is about to be killed, stopped or broken: until it is started again, or quiet, it may end streams.
    Trouble,
    /// The server was started again on the same data; every stream is over.
    Restart,
    /// The clients wait for no answer and have read until the server had nothing more to say, and every lease is over.
    Quiet,
}

/// Whose rules hold where servers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Server {
    /// `created` names the revision of the registration, and a response with events the revision of its last event.
    Vigil,
    /// `created` may name a later revision, and so may a response with events.
    Etcd,
}

/// Keys, as on the wire: one key without an end, everything from a key on with the end of one zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Range {
    #[serde(with = "text")]
    pub(crate) key: Bytes,
    #[serde(with = "text")]
    pub(crate) end: Bytes,
}

impl Range {
    /// True when the key is in the range.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            b"" => key == self.key,
            b"\0" => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        }
    }
}

/// A version of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Kv {
    #[serde(with = "text")]
    pub(crate) key: Bytes,
    #[serde(with = "text")]
    pub(crate) value: Bytes,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// A request of the KV service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// A put.
    Put {
        #[serde(with = "text")]
        key: Bytes,
        #[serde(with = "text")]
        value: Bytes,
        lease: i64,
        prev_kv: bool,
    },
    /// A delete.
    Delete { range: Range, prev_kv: bool },
    /// A read in key order.
    Range {
        range: Range,
        revision: i64,
        limit: i64,
        keys_only: bool,
        count_only: bool,
    },
    /// A transaction.
    Txn {
        compares: Vec<Compare>,
        success: Vec<Request>,
        failure: Vec<Request>,
    },
    /// A compaction.
    Compact { revision: i64 },
    /// A read that may be of an older revision than others have seen, and is exact at its own.
    Stale { read: Box<Request> },
    /// The end of a lease, and of all its keys in one revision. The server makes it by itself some time after this line, across
    /// restarts too, and nobody is answered; or a client has asked for it meanwhile, and the answer says that it is over.
    LeaseEnd { lease: i64 },
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Compare {
    pub(crate) range: Range,
    pub(crate) relation: Relation,
    pub(crate) target: Target,
}

/// How what is stored relates to what is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What is compared, with what is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    Version(i64),
    Create(i64),
    Mod(i64),
    Lease(i64),
    #[serde(with = "text")]
    Value(Bytes),
}

/// How a request went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was answered, with this revision in the header.
    Done { revision: i64, answer: Answer },
    /// It was refused because the revision is compacted.
    Compacted,
    /// It was refused because the revision has not happened yet.
    Future,
    /// It was refused for another reason, and had no effect.
    Refused { why: String },
    /// Nobody knows whether it had an effect.
    Unknown { why: String },
}

/// An answer without its header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Put {
        prev_kv: Option<Kv>,
    },
    Delete {
        deleted: i64,
        prev_kvs: Vec<Kv>,
    },
    Range {
        kvs: Vec<Kv>,
        more: bool,
        count: i64,
    },
    Txn {
        succeeded: bool,
        responses: Vec<OpAnswer>,
    },
    Compact,
    LeaseEnd,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct OpAnswer {
    /// The revision in its own header; that of a nested transaction says none.
    pub(crate) revision: i64,
    pub(crate) answer: Answer,
}

/// What a client sends on a watch stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// A new watch.
    Create(Create),
    /// The end of a watch.
    Cancel { watch_id: i64 },
    /// How far the stream has come.
    Progress,
}

/// A request for a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are so on the wire")]
pub(crate) struct Create {
    /// 0 leaves the choice to the server.
    pub(crate) watch_id: i64,
    pub(crate) range: Range,
    /// 0 is from now on.
    pub(crate) start_revision: i64,
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
}

impl Create {
    /// True when the watch is owed the event.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let unwanted = match event.kind {
            Kind::Put => self.no_put,
            Kind::Delete => self.no_delete,
        };
        !unwanted && self.range.contains(&event.kv.key)
    }
}

/// A watch response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) watch_id: i64,
    /// The revision in the header; nothing when what was recorded has no header.
    pub(crate) revision: Option<i64>,
    /// Cluster and member in the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) created: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) canceled: bool,
    #[serde(default)]
    pub(crate) compact_revision: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) fragment: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<Event>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_false(it: &bool) -> bool {
    !it
}

impl Response {
    /// True when it tells of progress and nothing else.
    pub(crate) fn is_progress(&self) -> bool {
        let quiet = self.events.is_empty() && self.compact_revision == 0;
        quiet && !self.created && !self.canceled
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) kv: Kv,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prev_kv: Option<Kv>,
}

impl Event {
    /// True when it says that it created its key.
    pub(crate) fn is_create(&self) -> bool {
        self.kind == Kind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

/// Writes a line to a file.
pub(crate) fn write(to: &mut impl Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

/// Reads a file; the error names the line.
pub(crate) fn read(from: impl BufRead) -> Result<Vec<Line>, String> {
    let numbered = (1..).zip(from.lines());
    let line = |(number, text): (usize, std::io::Result<String>)| {
        let text = text.map_err(|error| format!("line {number}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("line {number}: {error}"))
    };
    numbered.map(line).collect()
}

/// A line as a file has it, cut where it gets too long to read.
pub(crate) fn text_of(line: &Line) -> String {
    const CHARS_MAX: usize = 400;
    let text = serde_json::to_string(line).unwrap_or_else(|error| error.to_string());
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{} ...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
