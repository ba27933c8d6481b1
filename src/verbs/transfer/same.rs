//! Whether a mirror would read what it writes, which never ends.
//!
//! Two ends are one store when a lease of the one is there at the other. Names do not tell: an address has many, and servers
//! that were started with the same flags have the same cluster and member ids.

use super::mirror::{Ends, Rename};
use crate::api::pb::etcdserverpb::lease_client::LeaseClient;
use crate::api::pb::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};
use crate::verbs::{VerbError, kv, within};
use tonic::Code;

/// How long the lease lives if nobody takes it back.
const TTL_SECONDS: i64 = 60;

impl Rename {
    /// True when a key at the destination can have a name that the source's keys have.
    fn overlaps(&self) -> bool {
        self.prefix.starts_with(&self.dest_prefix) || self.dest_prefix.starts_with(&self.prefix)
    }
}

/// Refuses a mirror whose writes are changes of what it reads.
pub(super) async fn refuse_loop(ends: &Ends<'_>, rename: &Rename) -> Result<(), VerbError> {
    if rename.overlaps() && is_one_store(ends).await? {
        return Err(VerbError::Loop {
            from: ends.source.endpoint.clone(),
            to: ends.destination.endpoint.clone(),
            prefix: rename.prefix.clone(),
            dest_prefix: rename.dest_prefix.clone(),
        });
    }
    Ok(())
}

async fn is_one_store(ends: &Ends<'_>) -> Result<bool, VerbError> {
    let from = kv::header(&ends.from, ends.source).await?;
    let to = kv::header(&ends.to, ends.destination).await?;
    if from.cluster_id != to.cluster_id {
        return Ok(false);
    }
    match has_lease_of_destination(ends).await {
        // A server that has no leases is known by its ids, or not at all.
        Err(VerbError::Status(status)) if status.code() == Code::Unimplemented => {
            Ok(from.member_id == to.member_id)
        }
        told => told,
    }
}

/// Grants a lease at the destination, and looks for it at the source.
async fn has_lease_of_destination(ends: &Ends<'_>) -> Result<bool, VerbError> {
    let mut destination = LeaseClient::new(ends.to.clone());
    let mut source = LeaseClient::new(ends.from.clone());
    let grant = destination.lease_grant(LeaseGrantRequest {
        ttl: TTL_SECONDS,
        id: 0,
    });
    let id = within(ends.destination, async { Ok(grant.await?) })
        .await?
        .into_inner()
        .id;
    let look = source.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false });
    let found = within(ends.source, async { Ok(look.await?) }).await;
    let revoke = destination.lease_revoke(LeaseRevokeRequest { id });
    within(ends.destination, async { Ok(revoke.await?) }).await?;
    Ok(found?.into_inner().ttl > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap_when_one_begins_with_the_other() {
        let overlaps = |prefix: &str, dest_prefix: &str| {
            let (prefix, dest_prefix) = (prefix.to_owned(), dest_prefix.to_owned());
            Rename {
                prefix,
                dest_prefix,
            }
            .overlaps()
        };
        for (prefix, dest_prefix) in [("", ""), ("a/", "a/"), ("", "b/"), ("a/", ""), ("a", "a/b")]
        {
            assert!(overlaps(prefix, dest_prefix), "{prefix:?} {dest_prefix:?}");
        }
        for (prefix, dest_prefix) in [("a/", "b/"), ("a/b", "a/c")] {
            assert!(!overlaps(prefix, dest_prefix), "{prefix:?} {dest_prefix:?}");
        }
    }
}
