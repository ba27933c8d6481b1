//! One watch stream with its watches, read as cheaply as can be: events are walked over, never built.
//!
//! It checks what a watch promises about order, because a fast stream of wrong events is worth nothing.

use super::BenchError;
use super::clock::{now_ns, stamp};
use super::report::Latencies;
use super::wire::{Answers, Asks, Connection};
use crate::api::pb::etcdserverpb::watch_request::RequestUnion;
use crate::api::pb::etcdserverpb::{WatchCreateRequest, WatchRequest};
use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// How many creates are on their way before their answers are waited for.
const CREATES_AHEAD_MAX: usize = 1000;

/// A stream and its watches, which ask for the ids from 1 on.
#[derive(Debug)]
pub(super) struct Watching {
    /// Kept open: its end would be the end of the stream.
    _asks: Asks,
    answers: Answers,
    /// The newest revision that each watch has seen, by id.
    seen: Vec<i64>,
    /// The first watch's id: what it asks for, or another one with servers that give ids of their own, as etcd's proxy does
    /// from 0 on. The others have those that follow, in the order of their requests.
    first_id: i64,
    /// What each watch is of, from the first on, where its events' keys are looked at.
    ranges: Vec<(Bytes, Bytes)>,
    /// Events up to here are somebody else's, and not counted.
    passed_over: i64,
}

/// One event, as far as a measurement needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen<'a> {
    pub key: &'a [u8],
    pub revision: i64,
    pub value: &'a [u8],
}

#[derive(Debug, Default)]
struct Response<'a> {
    watch_id: i64,
    created: bool,
    canceled: bool,
    reason: &'a [u8],
    /// Where its events stand, undecoded.
    events: u64,
}

impl Watching {
    /// Opens a stream and creates watches on it; none misses anything that happens once this has returned.
    pub(super) async fn open(
        connection: &Connection,
        creates: Vec<WatchCreateRequest>,
    ) -> Result<Self, BenchError> {
        let (mut asks, unanswered) = connection.stream(WATCH).await?;
        let mut seen = vec![0; creates.len() + 1];
        let count = creates.len();
        let mut creates = (1..).zip(creates);
        let mut ask = |asks: &mut Asks| match creates.next() {
            Some((watch_id, create)) => {
                if let Some(seen) = seen.get_mut(watch_id as usize) {
                    *seen = create.start_revision - 1;
                }
                let create = WatchCreateRequest { watch_id, ..create };
                let request_union = Some(RequestUnion::CreateRequest(create));
                asks.send(&WatchRequest { request_union })
            }
            None => Ok(()),
        };
        for _ in 0..CREATES_AHEAD_MAX {
            ask(&mut asks)?;
        }
        let mut answers = unanswered.answers().await?;
        let (mut created, mut first_id) = (0, i64::MAX);
        while created < count {
            let message = answers.next().await?.ok_or_else(ended)?;
            let response = response(&message, |_, _| Ok(()))?;
            if response.canceled {
                let reason = String::from_utf8_lossy(response.reason).into_owned();
                return Err(BenchError::wrong(format!(
                    "a watch was not created: {reason}"
                )));
            }
            // Somebody else writes the same keys; what comes once all watch counts, and this does not.
            if !response.created {
                continue;
            }
            created += 1;
            first_id = first_id.min(response.watch_id);
            ask(&mut asks)?;
        }
        Ok(Self {
            _asks: asks,
            answers,
            seen,
            first_id,
            ranges: Vec::new(),
            passed_over: 0,
        })
    }

    /// Opens a stream and asks for watches whose history may come before the last of them is created.
    pub(super) async fn from_the_past(
        connection: &Connection,
        creates: Vec<WatchCreateRequest>,
    ) -> Result<Self, BenchError> {
        let (mut asks, unanswered) = connection.stream(WATCH).await?;
        let seen = vec![0; creates.len() + 1];
        for (watch_id, create) in (1..).zip(creates) {
            let create = WatchCreateRequest { watch_id, ..create };
            let request_union = Some(RequestUnion::CreateRequest(create));
            asks.send(&WatchRequest { request_union })?;
        }
        Ok(Self {
            _asks: asks,
            answers: unanswered.answers().await?,
            seen,
            first_id: 1,
            ranges: Vec::new(),
            passed_over: 0,
        })
    }

    /// From now on an event of a key that its watch is not of is an error. Its watches are of these, in the order in which
    /// they were asked for.
    pub(super) fn look_at_keys(&mut self, of: impl Iterator<Item = (Bytes, Bytes)>) {
        self.ranges = of.collect();
    }

    /// Events up to this revision are not counted: what a load before this one had on its way may be carried out when its process
    /// has ended long since.
    pub(super) fn pass_over(&mut self, revision: i64) {
        self.passed_over = revision;
    }

    /// The newest revision that any of its watches has seen.
    pub(super) fn newest(&self) -> i64 {
        self.seen.iter().copied().max().unwrap_or_default()
    }

    /// Takes the next response, times its events if asked to, and answers how many there are.
    pub(super) async fn next(
        &mut self,
        mut latencies: Option<&mut Latencies>,
    ) -> Result<u64, BenchError> {
        let message: Bytes = self.answers.next().await?.ok_or_else(ended)?;
        let now = now_ns();
        let (seen, ranges, first_id) = (&mut self.seen, &self.ranges, self.first_id);
        let (passed_over, mut of_others) = (self.passed_over, 0);
        let response = response(&message, |watch_id, event| {
            let last = seen.get_mut(watch_id as usize);
            let last = last.ok_or_else(|| BenchError::wrong("an event of an unknown watch"))?;
            if event.revision <= *last {
                let what = format!(
                    "watch {watch_id} saw revision {} after {last}",
                    event.revision
                );
                return Err(BenchError::wrong(what));
            }
            *last = event.revision;
            if let Some((key, range_end)) = ranges.get((watch_id - first_id) as usize)
                && !is_in(event.key, key, range_end)
            {
                let (saw, of) = (event.key.escape_ascii(), key.escape_ascii());
                return Err(BenchError::wrong(format!(
                    "watch {watch_id} of {of} saw {saw}"
                )));
            }
            if event.revision <= passed_over {
                of_others += 1;
                return Ok(());
            }
            if let (Some(latencies), Some(put)) = (&mut latencies, stamp(event.value)) {
                latencies.record_ns(now.saturating_sub(put));
            }
            Ok(())
        })?;
        if response.canceled {
            let reason = String::from_utf8_lossy(response.reason).into_owned();
            return Err(BenchError::wrong(format!("a watch was canceled: {reason}")));
        }
        Ok(response.events - of_others)
    }
}

/// Whether a key is the one, or in the range, that a watch is of.
fn is_in(key: &[u8], first: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == first,
        end => first <= key && key < end,
    }
}

fn ended() -> BenchError {
    BenchError::wrong("the watch stream ended")
}

fn malformed<T>(_: T) -> BenchError {
    BenchError::wrong("a watch response cannot be read")
}

/// Reads a response and shows its events with the watch's id, which stands before them.
fn response<'a>(
    message: &'a [u8],
    mut show: impl FnMut(i64, Seen<'a>) -> Result<(), BenchError>,
) -> Result<Response<'a>, BenchError> {
    let mut response = Response::default();
    fields(message, |field, number, bytes| {
        match field {
            2 => response.watch_id = number as i64,
            3 => response.created = number != 0,
            4 => response.canceled = number != 0,
            6 => response.reason = bytes,
            11 => {
                response.events += 1;
                let mut seen = Seen::default();
                fields(bytes, |field, _, bytes| match field {
                    2 => fields(bytes, |field, number, bytes| {
                        match field {
                            1 => seen.key = bytes,
                            3 => seen.revision = number as i64,
                            5 => seen.value = bytes,
                            _ => {}
                        }
                        Ok(())
                    }),
                    _ => Ok(()),
                })?;
                show(response.watch_id, seen)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(response)
}

/// Shows each field of a message: its number, and its value as a number or as bytes.
fn fields<'a>(
    mut rest: &'a [u8],
    mut show: impl FnMut(u32, u64, &'a [u8]) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    while rest.has_remaining() {
        let (field, wire) = decode_key(&mut rest).map_err(malformed)?;
        let number = decode_varint(&mut rest).map_err(malformed)?;
        match wire {
            WireType::Varint => show(field, number, &[])?,
            WireType::LengthDelimited => {
                let (bytes, behind) = rest
                    .split_at_checked(number as usize)
                    .ok_or(())
                    .map_err(malformed)?;
                rest = behind;
                show(field, number, bytes)?;
            }
            _ => return Err(malformed(())),
        }
    }
    Ok(())
}
