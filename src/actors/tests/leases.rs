//! When leases end, and what becomes of their keys: rule T4.

use super::deaths::Poison;
use super::support::*;
use crate::actors::{EngineError, EngineLimits, GrantedLease};
use crate::model::{
    Alarm, AlarmKind, EventKind, KeyRange, LEASE_TTL_SECONDS_MAX, LeaseId, Put, Refusal, Write,
};
use std::time::Duration;

/// A deadline is looked at twice a second.
const SLACK: Duration = Duration::from_millis(600);

async fn grant(test: &TestEngine, ttl_seconds: i64) -> LeaseId {
    let granted = test.engine.grant_lease(LeaseId::NONE, ttl_seconds).await;
    granted.expect("a lease").id
}

async fn put(test: &TestEngine, key: &str, lease: LeaseId) {
    let put = Put {
        key: key.to_owned().into(),
        lease,
        ..Put::default()
    };
    test.engine.write(Write::Put(put)).await.expect("a put");
}

async fn count(test: &TestEngine) -> i64 {
    let answer = test.engine.get(KeyRange::everything()).await;
    answer.expect("an answer").count
}

async fn seconds_left(test: &TestEngine, id: LeaseId) -> Option<i64> {
    let time = test.engine.lease_time(id).await.expect("an answer");
    time.map(|time| time.left_seconds)
}

async fn keep_alive(test: &TestEngine, id: LeaseId) -> i64 {
    test.engine.keep_leases_alive(vec![id]).await.expect("ttls")[0]
}

#[test]
fn t4_a_lease_ends_after_its_time_and_watchers_see_all_its_keys_go_at_once() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let lease = grant(&test, 5).await;
        for key in ["c", "a", "b"] {
            put(&test, key, lease).await;
        }
        test.put("stays", "1").await;
        let watch = test.watch(everything_from(0), 16).await;
        pass(Duration::from_millis(4990)).await;
        assert_eq!(count(&test).await, 4, "never early");
        assert_eq!(seconds_left(&test, lease).await, Some(0));
        pass(SLACK).await;
        assert_eq!(count(&test).await, 1);
        assert_eq!(seconds_left(&test, lease).await, None);
        assert_eq!(test.engine.leases().await, Ok(Vec::new()));
        let got = watch.got();
        let Some(Got::Events(events)) = got.last() else {
            panic!("{got:?}");
        };
        let seen: Vec<_> = events
            .iter()
            .map(|event| (event.key.as_str(), event.kind, event.revision))
            .collect();
        let gone = |key| (key, EventKind::Delete, 6);
        assert_eq!(seen, [gone("a"), gone("b"), gone("c")]);
        assert_eq!(
            got.iter()
                .filter(|got| matches!(got, Got::Events(_)))
                .count(),
            1
        );
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn t4_a_keep_alive_gives_a_lease_its_whole_time_again() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let lease = grant(&test, 3).await;
        put(&test, "a", lease).await;
        for _ in 0..10 {
            pass(Duration::from_millis(2900)).await;
            assert_eq!(keep_alive(&test, lease).await, 3);
            assert_eq!(count(&test).await, 1);
        }
        pass(Duration::from_secs(3) + SLACK).await;
        assert_eq!(count(&test).await, 0);
        assert_eq!(keep_alive(&test, lease).await, 0, "it is gone");
        test.finish().await;
    });
}

/// A client that hears 0 may rely on it that the keys are gone.
#[test]
fn t4_a_keep_alive_that_comes_too_late_is_answered_when_the_keys_are_gone() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let lease = grant(&test, 2).await;
        put(&test, "a", lease).await;
        pass(Duration::from_millis(300)).await;
        assert_eq!(keep_alive(&test, lease).await, 2);
        pass(Duration::from_millis(2010)).await;
        assert_eq!(count(&test).await, 1, "nobody has looked yet");
        assert_eq!(keep_alive(&test, lease).await, 0);
        assert_eq!(count(&test).await, 0);
        test.finish().await;
    });
}

#[test]
fn a_lease_is_granted_within_bounds_and_an_id_once() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let grant = |id, ttl| test.engine.grant_lease(LeaseId(id), ttl);
        for ttl in [-1, 0, 1, 2] {
            let granted = grant(0, ttl).await.expect("a lease");
            assert_eq!(granted.ttl_seconds, 2);
            assert!(granted.id.0 > 0);
        }
        let refused = Refusal::LeaseTtlTooLarge {
            ttl_seconds: LEASE_TTL_SECONDS_MAX + 1,
            max: LEASE_TTL_SECONDS_MAX,
        };
        let too_long = grant(0, LEASE_TTL_SECONDS_MAX + 1).await;
        assert_eq!(too_long, Err(EngineError::Refused(refused)));
        let longest = grant(-5, LEASE_TTL_SECONDS_MAX).await.expect("a lease");
        assert_eq!(longest.id, LeaseId(-5));
        let again = grant(-5, 9).await;
        assert_eq!(again, Err(EngineError::Refused(Refusal::LeaseExists)));
        let leases = test.engine.leases().await.expect("leases");
        assert_eq!((leases.len(), leases.last()), (5, Some(&LeaseId(-5))));
        assert!(test.engine.revoke_lease(LeaseId(-5)).await.is_ok());
        let gone = test.engine.revoke_lease(LeaseId(-5)).await;
        assert_eq!(gone, Err(EngineError::Refused(Refusal::LeaseNotFound)));
        test.finish().await;
    });
}

#[test]
fn t4_after_a_restart_every_lease_has_its_whole_time_again() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let lease = grant(&test, 10).await;
        put(&test, "a", lease).await;
        pass(Duration::from_secs(9)).await;
        let test = test.restart(EngineLimits::default()).await;
        pass(Duration::from_millis(9900)).await;
        assert_eq!(count(&test).await, 1, "never early");
        assert_eq!(test.engine.keys_of_lease(lease), ["a"]);
        pass(SLACK).await;
        assert_eq!(count(&test).await, 0);
        test.finish().await;
    });
}

#[test]
fn p6_a_dead_lease_starts_again_and_forgets_no_lease() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let lease = grant(&test, 4).await;
        put(&test, "a", lease).await;
        pass(Duration::from_secs(3)).await;
        test.engine.lease_for_test().do_send(Poison);
        settle().await;
        // Those of the next are known to it as well.
        let other = grant(&test, 30).await;
        pass(Duration::from_millis(3900)).await;
        assert_eq!(count(&test).await, 1, "never early");
        pass(SLACK).await;
        assert_eq!(count(&test).await, 0);
        assert_eq!(test.engine.leases().await, Ok(vec![other]));
        test.finish().await;
    });
}

#[test]
fn t4_many_leases_that_end_together_all_end_and_writers_go_between_them() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for number in 0..200 {
            let lease = grant(&test, 2).await;
            put(&test, &format!("k{number:03}"), lease).await;
        }
        let watch = test.watch(everything_from(0), 1000).await;
        pass(Duration::from_secs(2) + SLACK).await;
        let last = test.put("x", "1").await;
        settle().await;
        pass(SLACK).await;
        assert_eq!(count(&test).await, 1);
        let revisions = watch.revisions();
        // One revision for each lease that had a key.
        assert_eq!(revisions.len(), 201);
        assert!(revisions.contains(&last.0));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn an_id_in_use_is_not_chosen() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut ids = Vec::new();
        for _ in 0..50 {
            let GrantedLease { id, .. } = test
                .engine
                .grant_lease(LeaseId::NONE, 60)
                .await
                .expect("a lease");
            assert!(!ids.contains(&id));
            ids.push(id);
        }
        test.finish().await;
    });
}

/// Nothing may change while data is known to be damaged; afterwards the lease ends all the same.
#[test]
fn t4_a_lease_whose_end_is_refused_ends_when_changes_are_taken_again() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let lease = grant(&test, 2).await;
        put(&test, "a", lease).await;
        let alarm = Alarm {
            member_id: test.engine.identity().member_id,
            kind: AlarmKind::Corrupt,
        };
        assert_eq!(test.engine.set_alarm(alarm, true).await, Ok(true));
        pass(Duration::from_secs(30)).await;
        assert_eq!(count(&test).await, 1);
        assert_eq!(test.engine.set_alarm(alarm, false).await, Ok(true));
        pass(Duration::from_secs(4)).await;
        assert_eq!(count(&test).await, 0);
        test.finish().await;
    });
}
