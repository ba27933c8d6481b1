//! Kills of the server while leases come and go.
//!
//! A lease that was acknowledged is there afterwards with its keys and its whole time, one that was revoked is gone with them,
//! and whatever was under way is there whole or not at all. No key ever outlives its lease.

use super::{Dice, count};
use crate::support::{Peer, PeerKind, eventually};
use etcd_client::{
    Client, GetOptions, LeaseGrantOptions, LeaseStatus, LeaseTimeToLiveOptions, PutOptions,
};
use futures_util::future::join_all;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const KILLS: usize = 6;
const CLIENTS: i64 = 4;
const TTL: i64 = 600;
/// More than the whole time that a lease has had since it was granted; less than it has after a restart.
const TTL_LEFT_MIN: i64 = TTL - 60;

/// What a client knows of a lease.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The keys that were acknowledged.
    keys: BTreeSet<String>,
    /// Its end was asked for.
    revoking: bool,
    /// Its end was acknowledged.
    revoked: bool,
}

type All = RefCell<BTreeMap<i64, Known>>;

/// Grants, fills and revokes leases until the server is gone.
async fn come_and_go(mut client: Client, all: &All, mut dice: Dice, first: i64) {
    for id in (first..).step_by(CLIENTS as usize) {
        let options = LeaseGrantOptions::new().with_id(id);
        if client.lease_grant(TTL, Some(options)).await.is_err() {
            return;
        }
        all.borrow_mut().insert(id, Known::default());
        for number in 0..dice.below(4) {
            let key = format!("lease{id}/{number}");
            let options = PutOptions::new().with_lease(id);
            if client.put(key.clone(), "v", Some(options)).await.is_err() {
                return;
            }
            let mut all = all.borrow_mut();
            all.entry(id).or_default().keys.insert(key);
        }
        let of_mine: Vec<i64> = all.borrow().keys().copied().collect();
        let mine = of_mine
            .iter()
            .filter(|known| (*known - first) % CLIENTS == 0);
        let mine: Vec<_> = mine.collect();
        if dice.percent(40) {
            let gone = *mine[dice.below(mine.len() as u64) as usize];
            let is_gone = std::mem::replace(
                &mut all.borrow_mut().entry(gone).or_default().revoking,
                true,
            );
            if !is_gone {
                if client.lease_revoke(gone).await.is_err() {
                    return;
                }
                all.borrow_mut().entry(gone).or_default().revoked = true;
            }
        }
    }
}

/// The store after a kill is what the clients know.
async fn check(client: &mut Client, all: &All) {
    let leases = client.leases().await.expect("leases");
    let there: BTreeSet<i64> = leases.leases().iter().map(LeaseStatus::id).collect();
    let options = GetOptions::new().with_prefix();
    let answer = client.get("lease", Some(options)).await.expect("keys");
    let mut keys: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for kv in answer.kvs() {
        let key = kv.key_str().expect("text").to_owned();
        assert!(there.contains(&kv.lease()), "{key} has outlived its lease");
        keys.entry(kv.lease()).or_default().insert(key);
    }
    let known = all.borrow().clone();
    for (id, known) in known {
        let attached = keys.remove(&id).unwrap_or_default();
        if known.revoked || (known.revoking && !there.contains(&id)) {
            assert!(!there.contains(&id), "lease {id} was revoked");
            assert!(attached.is_empty(), "{attached:?} of lease {id}");
            continue;
        }
        assert!(there.contains(&id), "lease {id} was acknowledged");
        assert!(
            attached.is_superset(&known.keys),
            "{id}: {attached:?} {known:?}"
        );
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let time = client.lease_time_to_live(id, Some(options)).await;
        let time = time.expect("a time");
        assert_eq!(time.granted_ttl(), TTL);
        assert!(time.ttl() >= TTL_LEFT_MIN, "lease {id} has {}", time.ttl());
        assert_eq!(time.keys().len(), attached.len());
    }
}

async fn connect(peer: &Peer) -> Client {
    let client = Client::connect([peer.endpoint()], None).await;
    client.expect("the library connects")
}

#[tokio::test]
async fn a_kill_loses_no_lease_and_ends_none_early() {
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let (all, mut dice) = (All::default(), Dice(count("VIGIL_CRASH_SEED", 71) as u64));
    let mut first = 1;
    for _ in 0..count("VIGIL_CRASH_KILLS", KILLS) {
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let connected = connect(&peer).await;
            let dice = Dice(dice.next());
            clients.push(come_and_go(connected, &all, dice, first + client));
        }
        let leases_min = all.borrow().len() + 10 + dice.below(60) as usize;
        let kill = async {
            while all.borrow().len() < leases_min {
                tokio::task::yield_now().await;
            }
            peer.process().kill();
        };
        tokio::join!(join_all(clients), kill);
        first = (all.borrow().keys().last().copied().unwrap_or(0) / CLIENTS + 2) * CLIENTS + 1;
        peer.restart().await;
        check(&mut connect(&peer).await, &all).await;
    }
    eprintln!("{} leases", all.borrow().len());
    // Ends that were due are not forgotten either.
    let mut client = connect(&peer).await;
    let short = client.lease_grant(2, None).await.expect("a lease").id();
    let options = PutOptions::new().with_lease(short);
    let put = client.put("short", "v", Some(options)).await;
    put.expect("a put");
    peer.process().kill();
    peer.restart().await;
    let client = connect(&peer).await;
    eventually("the key is gone", async || {
        let answer = client.clone().get("short", None).await.expect("an answer");
        if answer.kvs().is_empty() {
            Ok(())
        } else {
            Err(format!("{:?}", answer.kvs()))
        }
    })
    .await;
}
