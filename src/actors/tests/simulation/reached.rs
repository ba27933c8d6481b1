//! How often a simulation has met each kind of trouble, and each promise that it is to look for.
//!
//! What never happens is not tested by any number of seeds, so the fixed ones have to meet everything that is listed here.

use super::validator::record::{Answer, Ask, Create, Line, Outcome, Response};
use crate::actors::hooks::Met;
use std::collections::BTreeMap;
use std::fmt;

macro_rules! reached {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Something that a simulation is to meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Reached {
            /// A rare way that the engine took.
            Engine(Met),
            $($(#[$doc])+ $name,)+
        }

        impl Reached {
            /// All of it.
            fn all() -> impl Iterator<Item = Self> {
                Met::ALL.map(Self::Engine).into_iter().chain([$(Self::$name,)+])
            }
        }
    };
}

reached! {
    /// A watch was cancelled because its start is compacted.
    CompactedCancel,
    /// A compaction was carried out.
    Compaction,
    /// Progress was told to all watches of a stream, because it was asked for.
    ProgressAnswered,
    /// Progress was told to one watch by the clock.
    ProgressByClock,
    /// An event came with its previous value.
    PrevKv,
    /// A watch was refused.
    Rejected,
    /// A watch was asked for with an id of the client's choice.
    ChosenId,
    /// A watch was asked for whose responses may be cut.
    Fragment,
    /// A watch was cancelled because the client asked for it.
    Cancelled,
    /// A transaction in a transaction was carried out.
    NestedTxn,
    /// A lease was kept alive.
    LeaseKeptAlive,
    /// A lease ended by itself.
    LeaseExpired,
    /// A defragmentation was carried out.
    Defragmented,
    /// The same revision was hashed again.
    HashedAgain,
    /// A snapshot was restored and read.
    Restored,
    /// An alarm of too much data was taken back.
    Disarmed,
    /// The engine was stopped and started again.
    Restart,
    /// The power failed.
    PowerCut,
    /// A sync failed.
    FailedSync,
    /// The outcome of a request is unknown.
    Unknown,
    /// A write was refused because there is no space, on the disk or in the quota.
    NoSpace,
    /// A write was refused because the disk is full.
    DiskFull,
    /// The store lay behind a commit log.
    CommitLog,
    /// A read of history was refused or came to nothing.
    FailedRead,
    /// An actor of the watch side died.
    Death,
    /// The engine ended a stream.
    BrokenStream,
    /// An actor of an application was stalled.
    Stall,
    /// One that was stalled went on.
    GoOn,
    /// A client came back to where it had been.
    ComeBack,
    /// In the middle of all this everybody got level.
    Quiet,
}

/// How often each was met.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(BTreeMap<Reached, u64>);

impl Counts {
    pub(super) fn add(&mut self, what: Reached, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(*what, *times);
        }
    }

    /// Takes in what the engine says of itself.
    pub(super) fn add_met(&mut self, met: BTreeMap<Met, u64>) {
        for (way, times) in met {
            self.add(Reached::Engine(way), times);
        }
    }

    /// Takes in what a line of a record says.
    pub(super) fn add_line(&mut self, line: &Line) {
        match line {
            Line::Told { response, .. } => self.add_response(response),
            Line::Return { outcome, .. } => match outcome {
                Outcome::Done { answer, .. } => self.add_answer(answer),
                Outcome::Unknown { .. } => self.add(Reached::Unknown, 1),
                Outcome::Refused { why } if why.contains("space") => self.add(Reached::NoSpace, 1),
                _ => {}
            },
            Line::Ask {
                ask: Ask::Create(create),
                ..
            } => self.add_create(create),
            Line::Broken { .. } => self.add(Reached::BrokenStream, 1),
            Line::Quiet => self.add(Reached::Quiet, 1),
            _ => {}
        }
    }

    fn add_create(&mut self, create: &Create) {
        self.add(Reached::ChosenId, u64::from(create.watch_id > 0));
        self.add(Reached::Fragment, u64::from(create.fragment));
    }

    fn add_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Compact => self.add(Reached::Compaction, 1),
            Answer::Txn { responses, .. } => {
                let is_txn = |answer: &Answer| matches!(answer, Answer::Txn { .. });
                let nested = responses.iter().any(|it| is_txn(&it.answer));
                self.add(Reached::NestedTxn, u64::from(nested));
            }
            _ => {}
        }
    }

    fn add_response(&mut self, told: &Response) {
        let what = if told.is_progress() && told.watch_id == -1 {
            Reached::ProgressAnswered
        } else if told.is_progress() {
            Reached::ProgressByClock
        } else if told.compact_revision > 0 {
            Reached::CompactedCancel
        } else if told.canceled && told.created {
            Reached::Rejected
        } else if told.canceled {
            Reached::Cancelled
        } else if told.events.iter().any(|event| event.prev_kv.is_some()) {
            Reached::PrevKv
        } else {
            return;
        };
        self.add(what, 1);
    }

    /// What was not met at all.
    pub(super) fn missing(&self) -> Vec<Reached> {
        let missing = |what: &Reached| self.0.get(what).is_none_or(|times| *times == 0);
        Reached::all().filter(missing).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, what) in Reached::all().enumerate() {
            let times = self.0.get(&what).copied().unwrap_or_default();
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{what:?} {times}")?;
        }
        Ok(())
    }
}
