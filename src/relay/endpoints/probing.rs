//! The tasks that find out how the upstreams are, one for each: two small reads with deadlines, again and again.
//!
//! One is answered by the member alone, and only who is silent to it is taken for dead. The other is answered by a majority, so
//! that a learner, and whoever else knows only himself, is left for a member. Both have the metadata by which a member refuses
//! that sees no leader. Nothing is decided here of what follows from an answer.

use super::super::backoff::Backoff;
use super::super::call::HAS_LEADER;
use super::health::Health;
use super::{Endpoints, Slot};
use crate::api::pb::etcdserverpb::kv_client::KvClient;
use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::fault::{self, Fault};
use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How often the upstream in use is asked, and how often another one.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_OTHERS_EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long it may take when somebody waits for it who asks for the relay's health, and who has a deadline himself.
const HEALTH_WITHIN: Duration = Duration::from_secs(2);
/// No key is smaller.
const FIRST_KEY: &[u8] = b"\0";

/// Starts a task for each upstream.
pub(super) fn start(endpoints: &Endpoints) {
    for slot in 0..endpoints.0.slots.len() {
        tokio::spawn(probe(endpoints.clone(), slot));
    }
}

/// Asks one upstream for ever.
async fn probe(endpoints: Endpoints, number: usize) {
    let Some(slot) = endpoints.0.slots.get(number) else {
        return;
    };
    let mut backoff = Backoff::default();
    loop {
        let (health, header) = ask(slot, ANSWER_WITHIN).await;
        let health = endpoints.same_cluster(health, header.as_ref());
        let is_well = health == Health::Well;
        if !is_well {
            log::debug!(upstream:% = slot.name; "an upstream is not well: {health}");
        }
        endpoints.found(number, health);
        let is_in_use = endpoints.state().in_use == number;
        if is_well
            && is_in_use
            && let Some(header) = header
        {
            endpoints.note(&header);
        }
        let pause = match (is_well, is_in_use) {
            (true, true) => ASK_EVERY,
            (true, false) => ASK_OTHERS_EVERY,
            (false, _) => backoff.next(),
        };
        if is_well {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(pause) => {}
            // One that fails is asked at its own pace, however many want to know.
            () = slot.asked.notified(), if is_well => {}
        }
    }
}

/// Asks for as little as there is, of the member alone and of its cluster, at once: neither waits for the other.
async fn ask(slot: &Slot, within: Duration) -> (Health, Option<ResponseHeader>) {
    let of_member = timeout(within, read(&slot.probe, true));
    let of_cluster = timeout(within, read(&slot.probe, false));
    let (of_member, of_cluster) = tokio::join!(of_member, of_cluster);
    let (health, header) = match of_member {
        Ok(Ok(answer)) => (Health::Well, answer.header),
        Ok(Err(status)) => (judged(&status), None),
        Err(_) => {
            // Whoever waits for an answer there would wait for as long as it takes the kernel to lose hope.
            slot.shears.cut();
            slot.probe_shears.cut();
            (Health::Unreachable(no_answer(within)), None)
        }
    };
    match of_cluster {
        _ if health != Health::Well => (health, header),
        Ok(Ok(answer)) => (health, answer.header),
        Ok(Err(status)) => (judged(&status), header),
        // The member is there, and what it answers alone goes on.
        Err(_) => {
            let why = format!("its cluster gives {}", no_answer(within));
            (Health::Slow(why), header)
        }
    }
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {} ms", within.as_millis())
}

async fn read(channel: &Channel, serializable: bool) -> Result<RangeResponse, Status> {
    let mut request = Request::new(RangeRequest {
        key: FIRST_KEY.into(),
        serializable,
        count_only: true,
        ..RangeRequest::default()
    });
    let is_asked = MetadataValue::from_static("true");
    request.metadata_mut().insert(HAS_LEADER, is_asked);
    let answer = KvClient::new(channel.clone()).range(request).await?;
    Ok(answer.into_inner())
}

/// What an error says of who sent it.
fn judged(status: &Status) -> Health {
    // Only what was not sent by anybody has a cause on this side.
    if let Some(cause) = status.source() {
        return Health::Unreachable(root_cause(cause));
    }
    match status.code() {
        // The first or the last is what a learner says, by its version.
        Code::Unavailable | Code::DeadlineExceeded | Code::FailedPrecondition => {
            Health::Unfit(status.message().to_owned())
        }
        // Somebody who refuses us, for want of a token perhaps, answers all the same.
        _ => Health::Well,
    }
}

/// What an error comes from; what lies between says nothing to anybody.
pub(in super::super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Endpoints {
    /// Does the cluster behind the upstream in use agree on a read? The error says why not.
    pub(in super::super) async fn read_linearizable(&self) -> Result<(), String> {
        self.is_well()?;
        let active = self.current();
        let failed = match timeout(HEALTH_WITHIN, read(&active.channel, false)).await {
            Ok(Ok(_)) => None,
            Ok(Err(status)) => match judged(&status) {
                Health::Well => None,
                other => Some(other.to_string()),
            },
            Err(_) => Some(no_answer(HEALTH_WITHIN)),
        };
        failed.map_or(Ok(()), |why| Err(format!("{}: {why}", active.name)))
    }

    /// One that belongs to another cluster must not be used: its revisions mean something else.
    pub(super) fn same_cluster(&self, health: Health, header: Option<&ResponseHeader>) -> Health {
        let ours = self.0.seen.cluster_id.load(Ordering::Relaxed);
        if fault::active(Fault::OtherClusterTaken) {
            return health;
        }
        match header {
            Some(header) if ours != 0 && header.cluster_id != ours => {
                let theirs = header.cluster_id;
                let why = format!("it belongs to cluster {theirs:x} and not to {ours:x}");
                Health::Foreign(why)
            }
            _ => health,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_the_want_of_a_leader_is_none_of_use() {
        let refused = Status::invalid_argument("etcdserver: user name is empty");
        assert_eq!(judged(&refused), Health::Well);
        let leaderless = Status::unavailable("etcdserver: no leader");
        let unfit = Health::Unfit("etcdserver: no leader".to_owned());
        assert_eq!(judged(&leaderless), unfit);
        let learner = Status::failed_precondition("etcdserver: rpc not supported for learner");
        assert!(matches!(judged(&learner), Health::Unfit(_)));
        let broken = std::io::Error::other("broken pipe");
        let ours = Status::from_error(Box::new(broken));
        assert_eq!(judged(&ours), Health::Unreachable("broken pipe".to_owned()));
    }
}
