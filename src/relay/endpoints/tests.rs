//! Which upstream is used, as the tasks that ask them and the calls that fail say how they are. Nobody is called here.

use super::health::Health;
use super::*;

fn unfit() -> Health {
    Health::Unfit("no leader".to_owned())
}

fn slow() -> Health {
    Health::Slow("its cluster gives no answer".to_owned())
}

fn unreachable() -> Health {
    Health::Unreachable("refused".to_owned())
}

fn named(names: &[&str]) -> Endpoints {
    let target = |name: &&str| Target {
        authority: (*name).to_owned(),
        is_tls: false,
    };
    let targets: Vec<_> = names.iter().map(target).collect();
    Endpoints::new(&targets, None).unwrap()
}

fn in_use(endpoints: &Endpoints) -> (u64, String) {
    let active = endpoints.current();
    (active.generation, active.name.to_string())
}

#[tokio::test]
async fn one_that_is_given_up_by_many_is_given_up_once() {
    let endpoints = named(&["a:1", "b:1", "c:1"]);
    assert_eq!(in_use(&endpoints), (0, "a:1".to_owned()));
    for _ in 0..3 {
        endpoints.give_up(0);
    }
    assert_eq!(in_use(&endpoints), (1, "b:1".to_owned()));
    endpoints.give_up(1);
    assert_eq!(in_use(&endpoints), (2, "c:1".to_owned()));
}

#[tokio::test]
async fn the_best_of_the_others_is_taken() {
    let endpoints = named(&["a:1", "b:1", "c:1", "d:1"]);
    endpoints.found(1, unreachable());
    endpoints.found(2, unfit());
    endpoints.found(3, Health::Well);
    assert_eq!(in_use(&endpoints).1, "a:1", "what is in use stays");
    endpoints.give_up(0);
    assert_eq!(in_use(&endpoints).1, "d:1");
    endpoints.found(3, unreachable());
    assert_eq!(
        in_use(&endpoints).1,
        "c:1",
        "better one without a leader than nobody"
    );
    endpoints.found(2, unreachable());
    assert_eq!(in_use(&endpoints).1, "c:1", "nobody is better");
}

#[tokio::test]
async fn one_that_is_well_takes_the_place_of_one_that_is_not() {
    let endpoints = named(&["a:1", "b:1"]);
    endpoints.found(0, unfit());
    assert_eq!(in_use(&endpoints).1, "b:1", "it may be well");
    endpoints.found(1, unfit());
    assert_eq!(in_use(&endpoints), (1, "b:1".to_owned()));
    let said = endpoints.is_well().unwrap_err();
    assert_eq!(said, "no upstream is well: a:1: no leader; b:1: no leader");
    endpoints.found(0, Health::Well);
    assert_eq!(in_use(&endpoints), (2, "a:1".to_owned()));
    assert_eq!(endpoints.is_well(), Ok(()));
    endpoints.found(1, Health::Well);
    assert_eq!(in_use(&endpoints), (2, "a:1".to_owned()));
}

#[tokio::test]
async fn the_only_one_is_used_again_when_it_is_well() {
    let endpoints = named(&["a:1"]);
    endpoints.give_up(0);
    assert_eq!(in_use(&endpoints), (1, "a:1".to_owned()));
    assert!(!endpoints.is_reachable());
    endpoints.found(0, Health::Well);
    assert!(endpoints.is_reachable());
    assert_eq!(in_use(&endpoints), (1, "a:1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_a_little_for_an_upstream_and_no_longer() {
    let endpoints = named(&["a:1"]);
    endpoints.give_up(0);
    let said = endpoints.usable().await.unwrap_err();
    assert_eq!(said, "no upstream is well: a:1: a call was not answered");
    let waiting = tokio::spawn({
        let endpoints = endpoints.clone();
        async move { endpoints.usable().await.map(|active| active.name) }
    });
    tokio::task::yield_now().await;
    endpoints.found(0, Health::Well);
    assert_eq!(waiting.await.unwrap().unwrap().as_ref(), "a:1");
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_lost_when_nobody_has_been_well_for_three_election_timeouts() {
    let endpoints = named(&["a:1", "b:1"]);
    let following = tokio::spawn(leader::follow(endpoints.clone()));
    let within = async |lost: &mut tokio::task::JoinHandle<()>, ms| {
        timeout(Duration::from_millis(ms), lost).await.is_ok()
    };
    let mut lost = tokio::spawn(endpoints.leader_lost());
    assert!(endpoints.has_leader(), "nobody was asked yet");
    endpoints.found(0, unfit());
    assert!(endpoints.has_leader(), "the other one was not asked yet");
    endpoints.found(1, unreachable());
    assert!(!endpoints.has_leader());
    assert!(!within(&mut lost, 2_000).await);
    endpoints.found(1, Health::Well);
    assert!(endpoints.has_leader());
    assert!(!within(&mut lost, 2_000).await, "it was an election");
    endpoints.found(1, unfit());
    assert!(!within(&mut lost, 2_900).await);
    assert!(within(&mut lost, 200).await);
    endpoints.found(0, Health::Well);
    assert!(!endpoints.has_leader(), "it would be told at once");
    tokio::task::yield_now().await;
    assert!(endpoints.has_leader());
    let mut lost = tokio::spawn(endpoints.leader_lost());
    assert!(!within(&mut lost, 60_000).await);
    following.abort();
}

#[tokio::test]
async fn headers_tell_who_answers_and_never_go_back() {
    let endpoints = named(&["a:1"]);
    let header = |cluster_id, member_id, revision, raft_term| ResponseHeader {
        cluster_id,
        member_id,
        revision,
        raft_term,
    };
    endpoints.note(&header(7, 1, 10, 3));
    endpoints.note(&header(7, 2, 9, 2));
    let identity = Identity {
        cluster_id: 7,
        member_id: 2,
        raft_term: 3,
    };
    assert_eq!(endpoints.identity(), identity);
    assert_eq!(endpoints.revision(), Revision(10));
    let ours = endpoints.same_cluster(Health::Well, Some(&header(7, 3, 1, 1)));
    assert_eq!(ours, Health::Well);
    let other = endpoints.same_cluster(Health::Well, Some(&header(8, 3, 1, 1)));
    assert!(matches!(other, Health::Foreign(_)), "{other}");
}

// Its watches go on, and would all come back at once to a cluster that has too much to do.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_slow_has_a_leader() {
    let endpoints = named(&["a:1", "b:1"]);
    tokio::spawn(leader::follow(endpoints.clone()));
    endpoints.found(0, slow());
    endpoints.found(1, slow());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(endpoints.has_leader());
    assert!(endpoints.is_well().is_err() && endpoints.is_well_alone().is_ok());
    endpoints.found(0, unfit());
    endpoints.found(1, unfit());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!endpoints.has_leader() && endpoints.is_well_alone().is_err());
}
