//! The client verbs: each is one call of the etcd v3 API and its answer in print.
//!
//! They know the protocol and the terminal, and nothing of how a server works: every one of them runs against any
//! server of the API, and prints what etcd's own client prints.

mod base64;
mod connect;
mod diagnose;
mod error;
mod json;
mod kv;
mod print;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

pub use error::VerbError;

use crate::cli::{ClientArgs, SnapshotVerb, Verb};
use crate::storage::{StorageLimits, inspect_snapshot, restore_snapshot};
use connect::connect;
use print::Printer;
use std::future::Future;
use std::io::{Read, Write};
use std::time::Duration;
use tonic::transport::Channel;

/// Runs one verb to its end. Whoever reads our output may stop reading at any time; that is not an error.
pub async fn run(verb: Verb, stdin: impl Read, stdout: impl Write) -> Result<(), VerbError> {
    match dispatch(verb, stdin, stdout).await {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

async fn dispatch(verb: Verb, stdin: impl Read, out: impl Write) -> Result<(), VerbError> {
    match verb {
        Verb::Put(args) => {
            let request = kv::put_request(&args, stdin)?;
            let call = |channel| kv::put(channel, request);
            let answer = ask(&args.client, call).await?;
            Printer::new(out, args.client.write_out).put(&answer)
        }
        Verb::Get(args) => {
            let request = kv::range_request(&args);
            let answer = ask(&args.client, |channel| kv::range(channel, request)).await?;
            Printer::new(out, args.client.write_out).range(&answer, print::Parts::of(&args))
        }
        Verb::Del(args) => {
            let request = kv::delete_request(&args);
            let answer = ask(&args.client, |channel| kv::delete(channel, request)).await?;
            Printer::new(out, args.client.write_out).delete(&answer)
        }
        Verb::Compact(args) => {
            let request = kv::compaction_request(&args);
            let answer = ask(&args.client, |channel| kv::compact(channel, request)).await?;
            Printer::new(out, args.client.write_out).compact(args.revision, &answer)
        }
        Verb::Status(args) => {
            let answer = ask(&args.client, status::status).await?;
            Printer::new(out, args.client.write_out).status(&args.client.endpoint, &answer)
        }
        Verb::Snapshot(SnapshotVerb::Save(args)) => {
            let bytes = snapshot::save(&args).await?;
            Printer::new(out, args.client.write_out).saved(&args.file, bytes)
        }
        Verb::Snapshot(SnapshotVerb::Restore(args)) => {
            let limits = StorageLimits::default();
            let info = restore_snapshot(&args.file, &args.data_dir, &limits)?;
            Printer::new(out, args.write_out).restored(&args.data_dir, &info)
        }
        Verb::Snapshot(SnapshotVerb::Status(args)) => {
            let info = inspect_snapshot(&args.file)?;
            Printer::new(out, args.write_out).snapshot(&info)
        }
        Verb::Watch(args) => {
            let printer = Printer::new(out, args.client.write_out);
            watch::watch(&args, printer).await
        }
        Verb::Mirror(args) => transfer::mirror(&args).await,
        Verb::Export(args) => transfer::export(&args, out).await,
        Verb::Import(args) => transfer::import(&args, stdin).await,
    }
}

/// Connects and makes one call, within the time allowed for both.
async fn ask<T, F>(client: &ClientArgs, call: impl FnOnce(Channel) -> F) -> Result<T, VerbError>
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    within(client, async {
        let channel = connect(client).await?;
        call(channel).await.map_err(VerbError::from)
    })
    .await
}

/// What `work` makes of it, unless that takes longer than the time allowed. A server that is there and lets no call through
/// is looked at once more, to say why.
async fn within<T>(
    client: &ClientArgs,
    work: impl Future<Output = Result<T, VerbError>>,
) -> Result<T, VerbError> {
    let allowed = Duration::from_millis(client.timeout_ms);
    let outcome = tokio::time::timeout(allowed, work).await;
    match outcome {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(diagnose::advised(error, client).await),
        Err(_) => Err(VerbError::TimedOut {
            endpoint: client.endpoint.clone(),
            timeout_ms: client.timeout_ms,
        }),
    }
}
