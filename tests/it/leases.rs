//! Leases, locks and elections through a client library and through etcdctl: what works with etcd works here.
//!
//! Every test runs on both; none waits for a time, only for what time brings.

use crate::support::tool::{Running, etcdctl, printed, run};
use crate::support::{Peer, on_both_peers, through_a_relay, within};
use etcd_client::{
    CampaignResponse, Client, EventType, GetOptions, LeaderKey, LeaseGrantOptions, LeaseStatus,
    LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions, WatchOptions,
    WatchResponse, WatchStream,
};

on_both_peers! {
    a_lease_is_granted_kept_alive_looked_at_and_revoked
    a_revoked_lease_takes_its_keys_sorted_in_one_revision
    a_lease_that_nobody_keeps_alive_takes_its_keys_in_one_revision
    a_lock_is_held_by_one_and_handed_on
    a_waiting_client_that_gives_up_leaves_the_line
    an_election_has_one_leader_and_tells_who
    etcdctl_grants_lists_and_revokes_leases
    etcdctl_locks_and_elects
}

through_a_relay! {
    a_lease_is_granted_kept_alive_looked_at_and_revoked
    a_lock_is_held_by_one_and_handed_on
    a_waiting_client_that_gives_up_leaves_the_line
    an_election_has_one_leader_and_tells_who
    etcdctl_grants_lists_and_revokes_leases
}

async fn connect(peer: &Peer) -> Client {
    Client::connect([peer.endpoint()], None)
        .await
        .expect("the library connects")
}

async fn grant(client: &mut Client, ttl: i64) -> i64 {
    client.lease_grant(ttl, None).await.unwrap().id()
}

async fn put_with(client: &mut Client, key: &str, lease: i64) {
    let options = PutOptions::new().with_lease(lease);
    client.put(key, "v", Some(options)).await.unwrap();
}

async fn keys(client: &mut Client, prefix: &str) -> Vec<String> {
    let options = GetOptions::new().with_prefix();
    let answer = client.get(prefix, Some(options)).await.unwrap();
    let kvs = answer.kvs().iter();
    kvs.map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

/// The first response that tells of anything.
async fn first_events(watch: &mut WatchStream) -> WatchResponse {
    loop {
        let told = within("a watch response", watch.message()).await.unwrap();
        let told = told.unwrap();
        if !told.events().is_empty() {
            return told;
        }
    }
}

async fn a_lease_is_granted_kept_alive_looked_at_and_revoked(peer: Peer) {
    let mut client = connect(&peer).await;
    let options = LeaseGrantOptions::new().with_id(0x77);
    let granted = client
        .lease_grant(600, Some(options.clone()))
        .await
        .unwrap();
    assert_eq!((granted.id(), granted.ttl()), (0x77, 600));
    let again = client.lease_grant(600, Some(options)).await.unwrap_err();
    assert!(
        again
            .to_string()
            .contains("etcdserver: lease already exists")
    );
    let too_long = client.lease_grant(9_000_000_001, None).await.unwrap_err();
    assert!(
        too_long
            .to_string()
            .contains("etcdserver: too large lease TTL")
    );
    let short = client.lease_grant(0, None).await.unwrap();
    assert_eq!(short.ttl(), 2);
    assert!(short.id() > 0);

    put_with(&mut client, "b", 0x77).await;
    put_with(&mut client, "a", 0x77).await;
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let time = client
        .lease_time_to_live(0x77, Some(options))
        .await
        .unwrap();
    assert_eq!(time.granted_ttl(), 600);
    assert!((500..=600).contains(&time.ttl()), "{}", time.ttl());
    let mut attached = time.keys().to_vec();
    attached.sort();
    assert_eq!(attached, [b"a", b"b"]);
    let unknown = client.lease_time_to_live(1, None).await.unwrap();
    assert_eq!((unknown.ttl(), unknown.granted_ttl()), (-1, 0));

    let (mut keeper, mut answers) = client.lease_keep_alive(0x77).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let answer = within("a keep-alive", answers.message()).await.unwrap();
        assert_eq!(answer.unwrap().ttl(), 600);
    }
    client.lease_revoke(0x77).await.unwrap();
    keeper.keep_alive().await.unwrap();
    let answer = within("a keep-alive", answers.message()).await.unwrap();
    assert_eq!(answer.unwrap().ttl(), 0, "it is gone");
    let again = client.lease_revoke(0x77).await.unwrap_err();
    assert!(
        again
            .to_string()
            .contains("etcdserver: requested lease not found")
    );
    let options = PutOptions::new().with_lease(0x77);
    let refused = client.put("c", "v", Some(options)).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("etcdserver: requested lease not found")
    );
}

async fn a_revoked_lease_takes_its_keys_sorted_in_one_revision(peer: Peer) {
    let mut client = connect(&peer).await;
    let lease = grant(&mut client, 600).await;
    put_with(&mut client, "b", lease).await;
    put_with(&mut client, "a", lease).await;
    let revoked = client.lease_revoke(lease).await.unwrap();
    let revision = revoked.header().unwrap().revision();
    assert_eq!(keys(&mut client, "").await, Vec::<String>::new());
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(revision);
    let mut watch = client.watch("", Some(options)).await.unwrap();
    let told = first_events(&mut watch).await;
    let gone: Vec<_> = told
        .events()
        .iter()
        .map(|event| {
            let kv = event.kv().unwrap();
            (event.event_type(), kv.key().to_vec(), kv.mod_revision())
        })
        .collect();
    let delete = |key: &[u8]| (EventType::Delete, key.to_vec(), revision);
    assert_eq!(gone, [delete(b"a"), delete(b"b")]);
}

async fn a_lease_that_nobody_keeps_alive_takes_its_keys_in_one_revision(peer: Peer) {
    let mut client = connect(&peer).await;
    let lease = grant(&mut client, 5).await;
    let other = grant(&mut client, 600).await;
    for key in ["c", "a", "b"] {
        put_with(&mut client, key, lease).await;
    }
    // The last put says which lease a key has.
    put_with(&mut client, "b", other).await;
    // Whatever has happened by now, the watch sees it.
    let options = WatchOptions::new().with_prefix().with_start_revision(6);
    let mut watch = client.watch("", Some(options)).await.unwrap();
    let told = first_events(&mut watch).await;
    let keys_told: Vec<_> = told
        .events()
        .iter()
        .map(|event| {
            (
                event.event_type(),
                event.kv().unwrap().key_str().unwrap().to_owned(),
            )
        })
        .collect();
    let delete = |key: &str| (EventType::Delete, key.to_owned());
    assert_eq!(keys_told, [delete("a"), delete("c")]);
    assert_eq!(keys(&mut client, "").await, ["b"]);
    let leases = client.leases().await.unwrap();
    let ids: Vec<_> = leases.leases().iter().map(LeaseStatus::id).collect();
    assert_eq!(ids, [other]);
}

async fn a_lock_is_held_by_one_and_handed_on(peer: Peer) {
    let mut client = connect(&peer).await;
    let (one, two) = (grant(&mut client, 600).await, grant(&mut client, 600).await);
    let hold = |lease| Some(LockOptions::new().with_lease(lease));
    let held = client.lock("door", hold(one)).await.unwrap();
    assert_eq!(held.key(), format!("door/{one:x}").as_bytes());
    // Who holds it is answered at once when asking again.
    let again = client.lock("door", hold(one)).await.unwrap();
    assert_eq!(again.key(), held.key());
    let mut waiting = client.clone();
    let second = tokio::spawn(async move { waiting.lock("door", hold(two)).await });
    within("two in the line", async {
        while keys(&mut client, "door/").await.len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!second.is_finished());
    client.unlock(held.key()).await.unwrap();
    let second = within("the lock", second).await.unwrap().unwrap();
    assert_eq!(second.key(), format!("door/{two:x}").as_bytes());
    client.lease_revoke(two).await.unwrap();
    // Without a lease the server brings one.
    let third = client.lock("door", None).await.unwrap();
    assert!(third.key().starts_with(b"door/"));
    let kv = client.get(third.key(), None).await.unwrap();
    let lease = kv.kvs()[0].lease();
    let time = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(time.granted_ttl(), 60);
}

async fn a_waiting_client_that_gives_up_leaves_the_line(peer: Peer) {
    let mut client = connect(&peer).await;
    let held = client.lock("door", None).await.unwrap();
    let mut waiting = client.clone();
    let second = tokio::spawn(async move { waiting.lock("door", None).await });
    within("two in the line", async {
        while keys(&mut client, "door/").await.len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    second.abort();
    within("one in the line", async {
        while keys(&mut client, "door/").await.len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.unlock(held.key()).await.unwrap();
    within("the lock", client.lock("door", None)).await.unwrap();
}

fn leader(campaign: &CampaignResponse) -> LeaderKey {
    campaign.leader().unwrap().clone()
}

async fn an_election_has_one_leader_and_tells_who(peer: Peer) {
    let mut client = connect(&peer).await;
    let none = client.leader("race").await.unwrap_err();
    assert!(none.to_string().contains("election: no leader"), "{none}");
    let (one, two) = (grant(&mut client, 600).await, grant(&mut client, 600).await);
    let first = client.campaign("race", "one", one).await.unwrap();
    let proof = leader(&first);
    // etcd does not even begin to answer while there is no leader.
    let mut observer = client.observe("race").await.unwrap();
    assert_eq!(proof.key(), format!("race/{one:x}").as_bytes());
    assert_eq!((proof.lease(), proof.name()), (one, &b"race"[..]));
    let said = client.leader("race").await.unwrap();
    assert_eq!(said.kv().unwrap().value(), b"one");
    let told = within("a leader", observer.message()).await.unwrap();
    assert_eq!(told.unwrap().kv().unwrap().value(), b"one");

    let mut waiting = client.clone();
    let second = tokio::spawn(async move { waiting.campaign("race", "two", two).await });
    let options = ProclaimOptions::new().with_leader(proof.clone());
    client.proclaim("ONE", Some(options)).await.unwrap();
    let told = within("a change", observer.message()).await.unwrap();
    assert_eq!(told.unwrap().kv().unwrap().value(), b"ONE");
    within("two in the line", async {
        while keys(&mut client, "race/").await.len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!second.is_finished());
    let options = ResignOptions::new().with_leader(proof.clone());
    client.resign(Some(options)).await.unwrap();
    let second = within("leadership", second).await.unwrap().unwrap();
    assert_eq!(second.leader().unwrap().lease(), two);
    let told = within("the next leader", observer.message()).await.unwrap();
    assert_eq!(told.unwrap().kv().unwrap().value(), b"two");

    let options = ProclaimOptions::new().with_leader(proof);
    let refused = client.proclaim("late", Some(options)).await.unwrap_err();
    assert!(refused.to_string().contains("election: not leader"));
}

async fn etcdctl_grants_lists_and_revokes_leases(peer: Peer) {
    let say = |args: &[&str]| printed(etcdctl(&peer, args));
    assert_eq!(say(&["lease", "list"]), "found 0 leases\n");
    let granted = say(&["lease", "grant", "600"]);
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(600s)\n"));
    assert_eq!(say(&["lease", "list"]), format!("found 1 leases\n{id}\n"));
    let lease = format!("--lease={id}");
    assert_eq!(say(&["put", "a", "1", &lease]), "OK\n");
    let time = say(&["lease", "timetolive", &id, "--keys"]);
    assert!(time.starts_with(&format!("lease {id} granted with TTL(600s), remaining(")));
    assert!(time.ends_with("), attached keys([a])\n"), "{time}");
    assert_eq!(
        say(&["lease", "keep-alive", "--once", &id]),
        format!("lease {id} keepalived with TTL(600)\n")
    );
    assert_eq!(
        say(&["lease", "revoke", &id]),
        format!("lease {id} revoked\n")
    );
    assert_eq!(say(&["get", "a"]), "");
    assert_eq!(
        say(&["lease", "timetolive", &id]),
        format!("lease {id} already expired\n")
    );
    let unknown = run(etcdctl(&peer, &["lease", "revoke", &id]));
    assert!(!unknown.success);
    let refused = run(etcdctl(&peer, &["put", "b", "1", &lease]));
    assert!(!refused.success);
}

async fn etcdctl_locks_and_elects(peer: Peer) {
    let mut client = connect(&peer).await;
    let said = printed(etcdctl(&peer, &["lock", "door", "echo", "inside"]));
    assert_eq!(said, "inside\n");
    assert_eq!(keys(&mut client, "door/").await, Vec::<String>::new());
    let _leader = Running::start(etcdctl(&peer, &["elect", "race", "me"]));
    within("a candidate", async {
        while keys(&mut client, "race/").await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let said = client.leader("race").await.unwrap();
    assert_eq!(said.kv().unwrap().value(), b"me");
    let mut listening = Running::start(etcdctl(&peer, &["elect", "--listen", "race"]));
    let key = &keys(&mut client, "race/").await[0];
    listening.prints(&format!("{key}\nme\n")).await;
}
