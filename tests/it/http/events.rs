//! Watches over plain HTTP, against a real server: what a page or a script sees, loses and resumes.

use crate::support::requests::{all_of, op_delete, op_put};
use crate::support::{Http, Peer, PeerKind, Setup, eventually};
use serde_json::json;

async fn started() -> (Peer, Http) {
    let peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    (peer, http)
}

#[tokio::test]
async fn events_come_as_they_happen_and_each_is_named_by_its_revision() {
    let (peer, http) = started().await;
    let client = peer.client();
    let mut events = http.lines("/watch/a?prev_kv", &[]).await;
    assert_eq!(events.status, 200);
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.line().await.unwrap(), "id: 1");
    client.put("a", "1").await;
    client.put("b", "elsewhere").await;
    client.put("a", "2").await;
    client.txn(all_of(vec![op_delete("a", "")])).await.unwrap();
    let event = events.event().await;
    assert_eq!(event.id, "2");
    let created = json!({
        "type":"put", "key":"a", "value":"1", "create_revision":2, "mod_revision":2, "version":1
    });
    assert_eq!(event.data, json!({"revision":2, "events":[created]}));
    let event = events.event().await;
    assert_eq!(event.data["events"][0]["prev_kv"]["value"], "1");
    let event = events.event().await;
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("5", ""));
    assert_eq!(event.data["events"][0]["type"], "delete");
    assert_eq!(event.data["events"][0]["prev_kv"]["value"], "2");
}

#[tokio::test]
async fn a_directory_is_watched_with_its_children_and_a_revision_is_one_message() {
    let (peer, http) = started().await;
    let client = peer.client();
    let mut events = http.lines("/watch//jobs/?filter=nodelete", &[]).await;
    events.line().await.unwrap();
    let both = vec![
        op_put("/jobs/1", "x"),
        op_put("/jobs/2/log", "y"),
        op_put("/jobs", "z"),
    ];
    client.txn(all_of(both)).await.unwrap();
    client
        .txn(all_of(vec![op_delete("/jobs/1", "")]))
        .await
        .unwrap();
    client.put("/jobs/3", "w").await;
    let event = events.event().await;
    let keys = event.data["events"].as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|event| event["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["/jobs/1", "/jobs/2/log"]);
    assert_eq!(events.event().await.id, "4");
}

#[tokio::test]
async fn a_page_that_comes_back_goes_on_behind_its_last_event() {
    let (peer, http) = started().await;
    let client = peer.client();
    for value in 0..5 {
        client.put("a", value.to_string()).await;
    }
    let mut events = http.lines("/watch/a?since=1", &[]).await;
    assert_eq!(events.event().await.id, "2");
    let seen = events.event().await.id;
    drop(events);
    // The header says more than the address, which stays what it was.
    let mut events = http
        .lines("/watch/a?since=1", &[("last-event-id", &seen)])
        .await;
    for revision in ["4", "5", "6"] {
        assert_eq!(events.event().await.id, revision);
    }
    client.put("a", "more").await;
    assert_eq!(events.event().await.id, "7");
}

#[tokio::test]
async fn a_quiet_watch_is_told_how_far_it_has_come_across_a_restart_of_the_server() {
    let (mut peer, http) = started().await;
    let client = peer.client();
    let mut events = http.lines("/watch/quiet", &[]).await;
    assert_eq!(events.line().await.unwrap(), "id: 1");
    client.put("busy", "1").await;
    peer.terminate().await;
    // The stream ends in order, so that a browser comes back.
    while events.line().await.is_some() {}
    peer.restart().await;
    let http = Http::to(&peer);
    peer.client().put("quiet", "1").await;
    let mut events = http.lines("/watch/quiet", &[("last-event-id", "1")]).await;
    assert_eq!(events.event().await.id, "3");
}

#[tokio::test]
async fn a_start_that_is_compacted_is_said_in_so_many_words() {
    let (peer, http) = started().await;
    let client = peer.client();
    for value in 0..8 {
        client.put("a", value.to_string()).await;
    }
    client.compact(6).await.unwrap();
    let mut events = http.lines("/watch/a?since=2", &[]).await;
    let event = events.event().await;
    assert_eq!(event.kind, "compacted");
    assert_eq!(event.data["compact_revision"], 6);
    assert_eq!(events.line().await, None);
    let answer = http.get("/watch/a?wait&since=2").await;
    assert_eq!(answer.status, 410);
    assert_eq!(answer.json()["compact_revision"], 6);
    // From there on, all of it is there.
    let answer = http.get("/watch/a?wait&since=5").await;
    assert_eq!(answer.json()["revision"], 9);
    assert_eq!(answer.json()["events"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_long_poll_answers_once_and_says_where_to_go_on() {
    let (peer, http) = started().await;
    let client = peer.client();
    let mut since = client.put("dir/a", "0").await;
    let mut values = Vec::new();
    for round in 1..=3 {
        let path = format!("/watch/dir/?wait=true&since={since}");
        let waiting = tokio::spawn({
            let http = http.clone();
            async move { http.get(&path).await }
        });
        client.put("dir/b", round.to_string()).await;
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status, 200);
        let answer = answer.json();
        for event in answer["events"].as_array().unwrap() {
            values.push(event["value"].as_str().unwrap().to_owned());
        }
        since = answer["revision"].as_i64().unwrap();
    }
    assert_eq!(values, ["1", "2", "3"]);
    // One that waits in vain comes back with where it was, or with how far it has come past what others have written.
    let path = format!("/watch/dir/?wait&since={since}&timeout_ms=50");
    let answer = http.get(&path).await.json();
    assert_eq!(answer, json!({"revision":5, "events":[]}));
    client.put("elsewhere", "1").await;
    let answer = http.get(&path).await.json();
    assert_eq!(answer, json!({"revision":6, "events":[]}));
}

#[tokio::test]
async fn what_is_asked_wrongly_or_too_often_is_refused_before_a_stream_begins() {
    let setup = Setup::new(PeerKind::Vigil).flag("--watches-max", "1");
    let peer = setup.start().await;
    let http = Http::to(&peer);
    for path in [
        "/watch/a?since=x",
        "/watch/a?nope",
        "/watch/%zz",
        "/watch/b?range_end=a",
    ] {
        let answer = http.get(path).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        assert_eq!(answer.json()["code"], 3);
    }
    let first = http.lines("/watch/a", &[]).await;
    assert_eq!(first.status, 200);
    let answer = http.get("/watch/a").await;
    assert_eq!(answer.status, 429, "{answer:?}");
    drop(first);
    eventually("the place of the first is free", async || {
        let second = http.lines("/watch/a", &[]).await;
        if second.status == 200 {
            Ok(())
        } else {
            Err(second.status)
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_no_text_is_watched_and_told_in_base64() {
    let (_peer, http) = started().await;
    let mut events = http.lines("/watch/%ff%00", &[]).await;
    events.line().await.unwrap();
    let put = r#"{"key":"/wA=","value":"/w=="}"#;
    assert_eq!(http.post("/v3/kv/put", put).await.status, 200);
    let event = events.event().await;
    assert_eq!(event.data["events"][0]["key_base64"], "/wA=");
    assert_eq!(event.data["events"][0]["value_base64"], "/w==");
    let delete = r#"{"key":"/wA="}"#;
    let answer = http.post("/v3/kv/deleterange", delete).await;
    assert_eq!(answer.json()["deleted"], "1");
    assert_eq!(events.event().await.data["events"][0]["type"], "delete");
}
