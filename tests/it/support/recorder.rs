//! Records the traffic of clients in a file that the validator reads: requests before they are sent, answers and watch
//! responses after they were received.
//!
//! It changes nothing on the way, retries nothing, and writes every line under one lock, so that the file's order is
//! real time.

use super::client::Client;
use super::convert;
use super::pb::WatchResponse;
use super::pb::request_op::Request as Op;
use super::pb::response_op::Response as OpResponse;
use super::peer::PeerKind;
use super::stream::WatchStream;
use super::validator::server;
use crate::validator::record::{self, Answer, Ask, Create, Line, Outcome, Request};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tonic::Status;

/// A record in a file.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    last_number: u64,
}

impl Recorder {
    /// Begins a record of a server whose store is empty.
    pub(crate) fn create(path: &Path, kind: PeerKind) -> Self {
        let file = BufWriter::new(File::create(path).expect("a file for the record"));
        let last_number = 0;
        let recorder = Self(Arc::new(Mutex::new(Inner { file, last_number })));
        let server = server(kind);
        recorder.note(&Line::Begin { server });
        recorder
    }

    /// Writes a line.
    pub(crate) fn note(&self, line: &Line) {
        let mut inner = self.0.lock().expect("nobody panics while writing");
        record::write(&mut inner.file, line).expect("the record is written");
    }

    fn number(&self) -> u64 {
        let mut inner = self.0.lock().expect("nobody panics while writing");
        inner.last_number += 1;
        inner.last_number
    }

    /// Everything noted is in the file.
    pub(crate) fn flush(&self) {
        let mut inner = self.0.lock().expect("nobody panics while writing");
        inner.file.flush().expect("the record is written");
    }

    /// Notes a request that is about to be sent, or that the server makes by itself from now on; gives its number.
    pub(crate) fn begin(&self, request: Request) -> u64 {
        let call = self.number();
        self.note(&Line::Call { call, request });
        call
    }

    /// Notes the outcome of a request.
    pub(crate) fn end(&self, call: u64, outcome: Outcome) {
        self.note(&Line::Return { call, outcome });
    }

    /// Sends a request and waits for its outcome.
    pub(crate) async fn call(&self, client: &Client, request: Request) -> Outcome {
        let call = self.begin(request.clone());
        let outcome = match send(client, &request).await {
            Ok(outcome) => outcome,
            Err(status) => convert::of_status(&status),
        };
        self.end(call, outcome.clone());
        outcome
    }

    /// A stream whose traffic is recorded.
    pub(crate) fn watch(&self, client: &Client) -> RecordedStream {
        RecordedStream {
            stream: client.watch(),
            number: self.number(),
            recorder: self.clone(),
        }
    }
}

async fn send(client: &Client, request: &Request) -> Result<Outcome, Status> {
    if let Request::Compact { revision } = request {
        let answer = client.compact(*revision).await?;
        let revision = answer.header.expect("a header").revision;
        let answer = Answer::Compact;
        return Ok(Outcome::Done { revision, answer });
    }
    let response = match convert::to_op(request) {
        Op::RequestPut(put) => OpResponse::ResponsePut(client.try_put(put).await?),
        Op::RequestDeleteRange(delete) => {
            OpResponse::ResponseDeleteRange(client.try_delete(delete).await?)
        }
        Op::RequestRange(range) => OpResponse::ResponseRange(client.range(range).await?),
        Op::RequestTxn(txn) => OpResponse::ResponseTxn(client.txn(txn).await?),
    };
    let (header, answer) = convert::of_op(&response);
    let revision = header.expect("a header").revision;
    Ok(Outcome::Done { revision, answer })
}

/// A watch stream whose traffic is recorded.
#[derive(Debug)]
pub(crate) struct RecordedStream {
    stream: WatchStream,
    number: u64,
    recorder: Recorder,
}

impl RecordedStream {
    /// Asks for a watch.
    pub(crate) fn create(&self, create: &Create, progress_notify: bool) {
        let (stream, ask) = (self.number, Ask::Create(create.clone()));
        self.recorder.note(&Line::Ask { stream, ask });
        self.stream
            .create(convert::to_create(create, progress_notify));
    }

    /// Asks for the end of a watch.
    pub(crate) fn cancel(&self, watch_id: i64) {
        let (stream, ask) = (self.number, Ask::Cancel { watch_id });
        self.recorder.note(&Line::Ask { stream, ask });
        self.stream.cancel(watch_id);
    }

    /// Asks how far the stream has come.
    pub(crate) fn progress(&self) {
        let (stream, ask) = (self.number, Ask::Progress);
        self.recorder.note(&Line::Ask { stream, ask });
        self.stream.progress();
    }

    fn told(&self, response: &WatchResponse) {
        let (stream, response) = (self.number, convert::response(response));
        self.recorder.note(&Line::Told { stream, response });
    }

    /// The next response, or nothing when the stream has ended.
    pub(crate) async fn receive(&mut self) -> Option<WatchResponse> {
        match self.stream.receive().await {
            Ok(Some(response)) => {
                self.told(&response);
                Some(response)
            }
            ended => {
                let why = ended.map_or_else(|status| status.to_string(), |_| "its end".to_owned());
                let stream = self.number;
                self.recorder.note(&Line::Broken { stream, why });
                None
            }
        }
    }

    /// Reads until the server says that everything up to a revision was sent, or a watch is cancelled.
    pub(crate) async fn read_through(&mut self, revision: i64) {
        for response in self.stream.read_through(|| Some(revision)).await {
            self.told(&response);
        }
    }

    /// Leaves the stream, or notes that it has ended.
    pub(crate) fn leave(self) {
        let stream = self.number;
        self.recorder.note(&Line::Ended { stream });
    }
}
