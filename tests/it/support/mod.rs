//! What every integration test stands on: real server processes, raw gRPC streams, deadlines, and a checker of watches.
//!
//! It talks to a server over its sockets and signals only; it never looks inside one.

pub(crate) mod client;
pub(crate) mod convert;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod requests;
pub(crate) mod stream;
pub(crate) mod tool;
pub(crate) mod validator;
mod validator_tests;
pub(crate) mod wait;
pub(crate) mod wire;

pub(crate) use client::Client;
pub(crate) use history::{Change, History};
pub(crate) use http::Http;
pub(crate) use peer::{Peer, PeerKind, Setup};
pub(crate) use recorder::Recorder;
pub(crate) use relay::{Cluster, Relay};
pub(crate) use stream::WatchStream;
pub(crate) use validator::Validator;
pub(crate) use wait::{eventually, within};
pub(crate) use wire::Wire;

/// The generated messages, as the tests name them.
pub(crate) use vigil::api::pb::{etcdserverpb as pb, mvccpb};

/// Makes two tests of each function that takes a peer: one against Vigil, and one against etcd, which shows that the test
/// itself asks for the right thing.
macro_rules! on_both_peers {
    ($($test:ident)+) => {
        mod vigil {
            use crate::support::{Peer, PeerKind};
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(Peer::start(PeerKind::Vigil).await).await;
                }
            )+
        }

        mod etcd {
            use crate::support::{Peer, PeerKind};
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(Peer::start(PeerKind::Etcd).await).await;
                }
            )+
        }
    };
}
pub(crate) use on_both_peers;

/// Makes a test of each function that takes a peer: against a relay before etcd, where what holds for etcd holds too.
macro_rules! through_a_relay {
    ($($test:ident)+) => {
        mod relayed {
            use crate::support::Peer;
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(Peer::relayed().await).await;
                }
            )+
        }
    };
}
pub(crate) use through_a_relay;
