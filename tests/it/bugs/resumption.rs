//! Quiet watches and the revision that they resume from when their connection breaks.
//!
//! Progress by the clock is as good as off here, so what is told is told for another reason.

use super::progress::place_after;
use crate::support::pb::WatchCreateRequest;
use crate::support::requests::on;
use crate::support::stream::{is_progress, revision_of, revisions_in};
use crate::support::{History, Peer, PeerKind, Setup};

mod vigil {
    use crate::support::PeerKind;

    #[tokio::test]
    async fn etcd_20262_a_compaction_tells_a_quiet_watch_where_to_resume() {
        super::etcd_20262_a_compaction_tells_a_quiet_watch_where_to_resume(PeerKind::Vigil).await;
    }
}

mod etcd {
    use crate::support::PeerKind;

    #[tokio::test]
    async fn etcd_20262_a_compaction_tells_a_quiet_watch_where_to_resume() {
        super::etcd_20262_a_compaction_tells_a_quiet_watch_where_to_resume(PeerKind::Etcd).await;
    }
}

/// The clock tells of progress once an hour.
async fn without_a_clock(kind: PeerKind) -> Peer {
    let setup = Setup::new(kind);
    match kind {
        PeerKind::Vigil => setup.flag("--progress-notify-interval-ms", "3600000"),
        PeerKind::Etcd => setup.flag("--experimental-watch-progress-notify-interval", "1h"),
    }
    .start()
    .await
}

/// A watch that has seen nothing for a while knew no revision to resume from but an old one, and when history was compacted
/// a reconnect cost it everything. etcd tells it nothing to this day; here a compaction tells it first how far it has come.
async fn etcd_20262_a_compaction_tells_a_quiet_watch_where_to_resume(kind: PeerKind) {
    let peer = without_a_clock(kind).await;
    let (client, history) = (peer.client(), History::default());
    let mut stream = peer.watch();
    let quiet = WatchCreateRequest {
        progress_notify: true,
        ..on("quiet")
    };
    let created = stream.created(quiet).await;
    let mut place = revision_of(&created) + 1;
    history.puts(&client, "busy", 50).await;
    history.compact(&client, history.last()).await;
    if peer.kind() == PeerKind::Vigil {
        let told = stream.next().await;
        assert!(is_progress(&told), "{told:?}");
        assert_eq!((told.watch_id, revision_of(&told)), (0, history.last()));
        place = place_after(&told, place);
    }
    // Nothing else is said, and the connection breaks.
    assert_eq!(stream.fence().await, vec![]);
    drop(stream);
    let resumed = WatchCreateRequest {
        start_revision: place,
        ..on("quiet")
    };
    let mut stream = peer.watch();
    stream.created(resumed).await;
    history.put(&client, "quiet", "1").await;
    let response = stream.next().await;
    match peer.kind() {
        PeerKind::Vigil => assert_eq!(revisions_in(&response), [history.last()]),
        PeerKind::Etcd => assert!(response.compact_revision > 0, "{response:?}"),
    }
}
