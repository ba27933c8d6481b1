//! Leases: some are revoked, and some end by themselves, each with all its keys in one revision.
//!
//! That a lease may end is noted before it is granted: from then on the server may end it, and nobody is told when.

use super::{Load, put};
use crate::support::pb::lease_client::LeaseClient;
use crate::support::pb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};
use crate::support::{Client, eventually, within};
use crate::validator::record::{Answer, Outcome, Request};
use tonic::Code;
use tonic::transport::Channel;

/// Seconds: the least that a cluster grants, and far more than a test takes.
pub(super) const SHORT: i64 = 1;
pub(super) const LONG: i64 = 600;
/// Keys of a lease, within what is watched; the next leases take them over.
const KEYS: [&str; 4] = ["k1", "k2", "k4", "k6"];
const SETS_OF_KEYS: i64 = 3;

/// A lease that may be there.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Lease {
    id: i64,
    /// The number under which its end is recorded.
    end: u64,
}

fn stub(client: &Client) -> LeaseClient<Channel> {
    LeaseClient::new(client.channel())
}

/// The same put with a lease.
fn with(lease: i64, put: Request) -> Request {
    match put {
        Request::Put {
            key,
            value,
            prev_kv,
            ..
        } => Request::Put {
            key,
            value,
            lease,
            prev_kv,
        },
        other => other,
    }
}

impl Load {
    /// Grants a lease and puts keys with it; false when nobody knows what has become of that.
    pub(super) async fn lease(&self, client: &Client, ttl: i64) -> bool {
        let Some(lease) = self.grant(client, ttl).await else {
            return false;
        };
        let set = lease.id % SETS_OF_KEYS;
        for key in KEYS {
            let put = put(format!("{key}-{set}"), format!("of {}", lease.id), false);
            if !self.call(client, with(lease.id, put)).await {
                return false;
            }
        }
        true
    }

    async fn grant(&self, client: &Client, ttl: i64) -> Option<Lease> {
        let id = self.leases_granted.get() + 1;
        self.leases_granted.set(id);
        let end = self.recorder.begin(Request::LeaseEnd { lease: id });
        let lease = Lease { id, end };
        self.leases.borrow_mut().push_back(lease);
        let grant = LeaseGrantRequest { id, ttl };
        let granted = within("a grant", stub(client).lease_grant(grant)).await;
        granted.is_ok().then_some(lease)
    }

    /// Revokes the lease that was granted first; false when nobody knows what has become of that.
    pub(super) async fn revoke_one(&self, client: &Client) -> bool {
        let lease = self.leases.borrow_mut().pop_front();
        let Some(lease) = lease else { return true };
        let is_known = self.revoke(client, lease).await;
        if !is_known {
            self.leases.borrow_mut().push_back(lease);
        }
        is_known
    }

    async fn revoke(&self, client: &Client, lease: Lease) -> bool {
        let revoke = LeaseRevokeRequest { id: lease.id };
        match within("a revocation", stub(client).lease_revoke(revoke)).await {
            Ok(answer) => {
                let header = answer.into_inner().header;
                let revision = header.expect("a header").revision;
                let answer = Answer::LeaseEnd;
                let outcome = Outcome::Done { revision, answer };
                self.recorder.end(lease.end, outcome);
                self.last.set(self.last.get().max(revision));
                true
            }
            // It has ended by itself, or was revoked when nobody heard the answer.
            Err(status) => status.code() == Code::NotFound,
        }
    }

    /// Revokes what is left.
    pub(in super::super) async fn end_leases(&self) {
        eventually("every lease is over", async || {
            let client = self.connect(true).await;
            while self.leases.borrow().front().is_some() {
                if !self.revoke_one(&client).await {
                    return Err(format!("{:?}", self.leases.borrow()));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Grants a lease that ends by itself, with keys that nobody else puts.
    pub(in super::super) async fn lease_that_ends(&self) -> Lease {
        eventually("a short lease has keys", async || {
            let client = self.connect(true).await;
            let lease = self.grant(&client, SHORT).await.ok_or("no lease")?;
            for key in ["k1-short", "k5-short"] {
                let put = put(key.to_owned(), format!("of {}", lease.id), false);
                let put = self.recorder.call(&client, with(lease.id, put)).await;
                if !matches!(put, Outcome::Done { .. }) {
                    return Err("no keys");
                }
            }
            Ok(lease)
        })
        .await
    }

    /// Waits until a lease has ended by itself.
    pub(in super::super) async fn has_ended(&self, lease: Lease) {
        eventually("a short lease ends", async || {
            let client = self.connect(true).await;
            let left = LeaseTimeToLiveRequest {
                id: lease.id,
                keys: false,
            };
            let left = within("its time", stub(&client).lease_time_to_live(left)).await;
            let left = left.map_err(|status| status.to_string())?.into_inner().ttl;
            (left == -1).then_some(()).ok_or(left.to_string())
        })
        .await;
        self.leases.borrow_mut().retain(|it| it.id != lease.id);
    }
}
