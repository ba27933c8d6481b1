//! One small question each, asked of etcd and of Vigil alike: what is the answer on the wire?
//!
//! A probe names what it has found out. Where the two are meant to differ it says so by `peer.kind()`, and
//! `docs/differences.md` names the probe; anything else that differs is a fault.

mod backpressure;
mod kv_compact;
mod kv_range;
mod kv_txn;
mod streams;
mod watch_compaction;
mod watch_create;
mod watch_fragment;
mod watch_ids;
mod watch_progress;
mod watch_replay;

/// Makes two tests of each probe, one per peer.
macro_rules! probes {
    ($($module:ident: $($probe:ident)+;)+) => {
        mod vigil {
            use crate::support::{Peer, PeerKind};
            $($(
                #[tokio::test]
                async fn $probe() {
                    super::$module::$probe(&Peer::start(PeerKind::Vigil).await).await;
                }
            )+)+
        }

        mod etcd {
            use crate::support::{Peer, PeerKind};
            $($(
                #[tokio::test]
                async fn $probe() {
                    super::$module::$probe(&Peer::start(PeerKind::Etcd).await).await;
                }
            )+)+
        }
    };
}

probes! {
    watch_create:
        p01_an_empty_key_with_an_open_end_is_every_key
        p02_a_range_that_ends_where_it_starts_is_refused
        p06_a_negative_start_is_refused
        p09_a_half_closed_stream_still_gets_events
        p10_a_request_that_asks_for_nothing_is_ignored
        p11_an_unknown_filter_is_no_filter
        p12_both_filters_leave_progress_alone;
    watch_ids:
        p03_automatic_ids_count_from_zero
        p04_an_id_in_use_is_refused
        p05_automatic_ids_pass_over_those_in_use
        p07_cancelling_an_unknown_id_is_silent
        p08_cancelling_twice_is_answered_once
        p48_a_negative_id_is_not_for_clients
        p49_a_cancelled_id_can_be_taken_again;
    watch_replay:
        p13_a_watch_from_revision_one_sees_everything
        p14_a_delete_at_the_compact_revision_is_still_told
        p15_a_start_below_the_compact_revision_is_created_and_then_cancelled
        p16_a_watch_of_the_future_is_silent_until_then
        p17_a_long_backlog_comes_in_batches_of_whole_revisions
        p18_a_transaction_is_one_response_in_the_order_of_its_operations
        p19_a_delete_of_nothing_is_no_revision_and_no_event
        p20_a_put_of_the_same_value_is_an_event
        p21_updates_and_deletes_carry_the_previous_value
        p22_a_compacted_previous_value_is_absent;
    watch_progress:
        p23_progress_of_a_synced_stream_is_the_stores_revision
        p24_progress_without_watches_is_not_answered
        p25_progress_waits_for_watches_that_are_behind
        p26_an_event_takes_the_place_of_periodic_progress
        p27_progress_never_overtakes_events
        p52_a_watch_that_was_compacted_away_holds_up_no_progress;
    watch_compaction:
        p51_a_watch_across_compactions_is_told_all_or_cancelled;
    watch_fragment:
        p28_a_large_response_is_cut_only_for_those_who_asked
        p50_a_backlog_of_large_values_is_one_response_or_bounded_ones;
    kv_range:
        p34_a_read_of_the_future_is_out_of_range
        p35_limit_count_and_more_agree
        p36_keys_only_answers_leave_out_the_value
        p37_a_sort_orders_by_its_target
        p42_a_count_of_the_past_counts_the_past;
    kv_txn:
        p38_operations_are_counted_along_the_nesting
        p39_a_key_changes_once_in_a_transaction
        p53_transactions_are_nested_as_deep_as_messages_are_read
        p40_a_compare_of_a_range_holds_for_every_key;
    kv_compact:
        p41_a_compaction_moves_forward_only;
    streams:
        p43_a_stream_may_ask_for_a_leader
        p44_a_stream_that_its_client_drops_leaves_the_others_alone
        p45_a_request_can_be_too_large_in_two_ways;
    backpressure:
        p46_a_stream_that_is_not_read_holds_up_nobody
        p47_compacted_watches_are_told_once;
}

/// Makes a test of each probe that a relay before etcd has to answer as etcd does.
macro_rules! relayed_probes {
    ($($module:ident: $($probe:ident)+;)+) => {
        mod relayed {
            use crate::support::Peer;
            $($(
                #[tokio::test]
                async fn $probe() {
                    super::$module::$probe(&Peer::relayed().await).await;
                }
            )+)+
        }
    };
}

relayed_probes! {
    kv_range:
        p34_a_read_of_the_future_is_out_of_range
        p35_limit_count_and_more_agree
        p36_keys_only_answers_leave_out_the_value
        p37_a_sort_orders_by_its_target
        p42_a_count_of_the_past_counts_the_past;
    kv_txn:
        p38_operations_are_counted_along_the_nesting
        p39_a_key_changes_once_in_a_transaction
        p40_a_compare_of_a_range_holds_for_every_key;
    kv_compact:
        p41_a_compaction_moves_forward_only;
    streams:
        p45_a_request_can_be_too_large_in_two_ways;
}
