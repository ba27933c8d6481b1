//! `mirror`: one server's keys copied to another, and then every change of them.
//!
//! Where it stands is one number, the first revision of the source that is not at the destination; it is moved on by what
//! the destination has acknowledged and by nothing else. A revision of the source is one transaction at the destination,
//! alone or with its neighbours, unless it is larger than a transaction may be.

use super::batch::{Batch, Change};
use super::copy::{Copied, copy};
use super::ops_max;
use super::same::refuse_loop;
use crate::api::pb::etcdserverpb::{WatchCreateRequest, WatchResponse};
use crate::api::pb::mvccpb::{Event, event::EventType};
use crate::cli::{ClientArgs, MirrorArgs};
use crate::model::KeyRange;
use crate::verbs::watch::{Position, RETRY_AFTER_MAX, RETRY_AFTER_MIN, check, notice, open};
use crate::verbs::{VerbError, connect, kv};
use bytes::Bytes;
use std::time::Duration;
use tonic::transport::Channel;

/// Both servers, connected.
pub(super) struct Ends<'c> {
    pub(super) source: &'c ClientArgs,
    pub(super) destination: &'c ClientArgs,
    pub(super) from: Channel,
    pub(super) to: Channel,
}

/// What a key is called at the destination.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rename {
    pub(super) prefix: String,
    pub(super) dest_prefix: String,
}

impl Rename {
    fn new(args: &MirrorArgs) -> Self {
        let dest_prefix = match &args.dest_prefix {
            _ if args.no_dest_prefix => String::new(),
            None => args.prefix.clone(),
            Some(dest_prefix) => dest_prefix.clone(),
        };
        Self {
            prefix: args.prefix.clone(),
            dest_prefix,
        }
    }

    /// The name at the destination; the order of keys stays the same.
    pub(super) fn at_destination(&self, key: &Bytes) -> Result<Bytes, VerbError> {
        let rest = key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key);
        let name = [self.dest_prefix.as_bytes(), rest].concat();
        if name.is_empty() {
            return Err(VerbError::NoName {
                key: String::from_utf8_lossy(key).into_owned(),
            });
        }
        Ok(name.into())
    }
}

/// What a mirror remembers across connections.
struct Mirror<'c> {
    args: &'c MirrorArgs,
    destination: ClientArgs,
    rename: Rename,
    position: Position,
    /// What the destination got after this revision of its own, it got from here.
    floor: Option<i64>,
    ops_max: usize,
    /// Both servers have been there once.
    was_connected: bool,
}

/// Mirrors until it is interrupted. A server that cannot be reached at the start is an error; one that goes away later is
/// waited for.
pub(in crate::verbs) async fn mirror(args: &MirrorArgs) -> Result<(), VerbError> {
    let mut mirror = Mirror {
        args,
        destination: args.destination(),
        rename: Rename::new(args),
        position: Position::new(args.rev),
        floor: args.prune.then_some(-1),
        ops_max: ops_max(args.max_txn_ops)?,
        was_connected: false,
    };
    let mut delay = RETRY_AFTER_MIN;
    loop {
        let before = mirror.position.next;
        let lost = match mirror.round().await {
            Ok(()) => "the server ended the stream".to_owned(),
            Err(error) if error.is_compacted() => {
                notice(&format!(
                    "revision {before} of {} is compacted; copying again",
                    args.client.endpoint
                ));
                mirror.position = Position::new(0);
                continue;
            }
            Err(error) if error.is_connection() && mirror.was_connected => error.to_string(),
            Err(error) => return Err(error),
        };
        let next = mirror.position.next;
        notice(&format!(
            "connection lost ({lost}); going on from revision {next}"
        ));
        delay = if next > before {
            RETRY_AFTER_MIN
        } else {
            delay
        };
        tokio::time::sleep(delay).await;
        delay = longer(delay);
    }
}

fn longer(delay: Duration) -> Duration {
    (delay * 2).min(RETRY_AFTER_MAX)
}

impl Mirror<'_> {
    /// Copies if there is nothing to go on from, and follows until the connection ends.
    async fn round(&mut self) -> Result<(), VerbError> {
        let (source, destination) = (&self.args.client, &self.destination);
        let ends = Ends {
            source,
            destination,
            from: connect(source).await?,
            to: connect(destination).await?,
        };
        // Each time: an address may lead to another server than it did before.
        refuse_loop(&ends, &self.rename).await?;
        self.was_connected = true;
        let floor = match self.floor {
            Some(floor) => floor,
            None => *self
                .floor
                .insert(kv::header(&ends.to, destination).await?.revision),
        };
        if self.position.next == 0 {
            let batch = Batch::new(self.ops_max);
            let copied = copy(&ends, &self.rename, floor, batch).await?;
            say(&copied, source, destination);
            self.position.reach(copied.revision);
        }
        follow(&ends, &self.rename, &mut self.position, self.ops_max).await
    }
}

fn say(copied: &Copied, source: &ClientArgs, destination: &ClientArgs) {
    let Copied {
        revision,
        put,
        equal,
        removed,
        left,
    } = copied;
    notice(&format!(
        "{destination} is {source} at revision {revision}: {put} keys put, {equal} the same already, {removed} removed; \
         following",
        destination = destination.endpoint,
        source = source.endpoint,
    ));
    if *left > 0 {
        notice(&format!(
            "{left} keys that were only at the destination are left there (--prune removes them)"
        ));
    }
}

/// Makes every change of the source at the destination until the stream of them ends.
async fn follow(
    ends: &Ends<'_>,
    rename: &Rename,
    position: &mut Position,
    ops_max: usize,
) -> Result<(), VerbError> {
    let range = KeyRange::prefix(Bytes::copy_from_slice(rename.prefix.as_bytes()));
    let (key, range_end) = kv::wire(range);
    let request = WatchCreateRequest {
        key,
        range_end,
        start_revision: position.next,
        // So that a source on which nothing of this happens does not compact the position away.
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    let mut answers = open(ends.source, request, position).await?;
    let bar = super::bar("following", 0);
    while let Some(answer) = answers.message().await? {
        check(&answer)?;
        apply(ends, revisions(rename, &answer)?, position, ops_max).await?;
        position.printed(&answer);
        bar.inc(answer.events.len() as u64);
    }
    Ok(())
}

/// The changes of one answer, by the source's revisions, all of which are whole.
fn revisions(
    rename: &Rename,
    answer: &WatchResponse,
) -> Result<Vec<(i64, Vec<Change>)>, VerbError> {
    let groups = answer
        .events
        .chunk_by(|one, next| revision(one) == revision(next));
    let group = |events: &[Event]| {
        let changes = events.iter().map(|event| change(rename, event));
        let changes: Result<Vec<Change>, VerbError> = changes.collect();
        Ok((events.first().map_or(0, revision), changes?))
    };
    groups.map(group).collect()
}

/// Makes changes in as few transactions as keep each revision in one of them.
async fn apply(
    ends: &Ends<'_>,
    revisions: Vec<(i64, Vec<Change>)>,
    position: &mut Position,
    ops_max: usize,
) -> Result<(), VerbError> {
    let mut batch = Batch::new(ops_max);
    let mut last_in_batch = 0;
    for (revision, changes) in revisions {
        if !batch.has_room_for(&changes) {
            batch.apply(ends.destination, &ends.to).await?;
            // What the destination has acknowledged is never made again: for a moment, it would be older there.
            position.reach(last_in_batch);
        }
        for change in changes {
            // Only a revision that is too large for a transaction does not fit now.
            if !batch.has_room_for(std::slice::from_ref(&change)) {
                batch.apply(ends.destination, &ends.to).await?;
            }
            batch.add(change);
        }
        last_in_batch = revision;
    }
    batch.apply(ends.destination, &ends.to).await
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn change(rename: &Rename, event: &Event) -> Result<Change, VerbError> {
    let kv = event.kv.clone().unwrap_or_default();
    let key = rename.at_destination(&kv.key)?;
    Ok(match event.r#type() {
        EventType::Put => Change::Put(key, kv.value),
        EventType::Delete => Change::Delete(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(prefix: &str, dest_prefix: &str, key: &'static str) -> String {
        let rename = Rename {
            prefix: prefix.to_owned(),
            dest_prefix: dest_prefix.to_owned(),
        };
        match rename.at_destination(&Bytes::from_static(key.as_bytes())) {
            Ok(name) => String::from_utf8(name.to_vec()).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_key_takes_the_destinations_prefix_in_place_of_the_sources() {
        assert_eq!(rename("", "", "a/1"), "a/1");
        assert_eq!(rename("a/", "b/", "a/1"), "b/1");
        assert_eq!(rename("a/", "", "a/a/1"), "a/1");
        assert_eq!(rename("", "b/", "a/1"), "b/a/1");
        assert!(rename("a", "", "a").contains("would have no name"));
    }
}
