//! Seeded faults: rules that can be broken on purpose, to see whether a test notices (`scripts/mutants`).
//!
//! Only a build with `VIGIL_FAULTS=1` knows them, and no release build can be one: `build.rs` refuses. There
//! `VIGIL_FAULT` names the one fault that is active. Everywhere else the answer is a constant no, and the compiler
//! leaves nothing of it behind.
//!
//! A fault never repairs anything and never decides anything in a build that is used.

// However the name came in: what is built to be used has none of it.
#[cfg(all(vigil_faults, not(debug_assertions)))]
compile_error!("seeded faults are for test builds alone");

macro_rules! faults {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What can be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[$doc])+ $name,)+
        }

        #[cfg(vigil_faults)]
        const ALL: &[Fault] = &[$(Fault::$name,)+];
    };
}

faults! {
    // Handing a commit to the watchers.
    /// A group that starts again does not look what was committed while there was none.
    GroupStartsDeaf,
    /// A worker that was told of commits once is never told again.
    WakeUpNeverCleared,
    /// The wake-up counts as in flight until the turn has ended, so that a commit within the turn tells nobody.
    WakeUpClearedLate,
    /// One wake-up is counted and not sent.
    OneWakeUpDropped,
    /// A new watch, or a progress request, is judged before the group has caught up with the ring.
    JudgedBeforeLevel,
    /// A watch of the future is given what comes before its start.
    FutureStartIgnored,
    /// An entry leaves the roster without its cursor.
    CursorNotWritten,
    /// Who has fallen off the ring reads on where it begins.
    OverrunUnnoticed,
    /// A revision may be cut between two deliveries.
    RevisionSplit,
    /// Filters are not applied.
    FilterIgnored,
    /// Filters are not applied to what is read by revision.
    LateFilterIgnored,

    // Leases.
    /// A lease ends a second before its time.
    LeaseExpiresEarly,
    /// A group takes a lease off the disk before the keys that the lease has.
    LeaseRemovedFirst,
    /// A key that is put without its lease, or deleted, stays attached to it.
    DetachForgotten,

    // Late watchers.
    /// Sync serves what its group has not handled yet.
    SyncBeyondGroup,
    /// A late watcher joins the group without what was committed meanwhile: registered after the replay.
    HandOverWithoutLastStretch,
    /// What a late watcher still lacks at the hand-over begins one revision too late.
    HandOverMissesOne,
    /// A lagging watcher is handed more before it has handled what it has.
    SecondDeliveryOutstanding,
    /// A lagging watcher whose mailbox is full is forgotten.
    FullInSyncForgotten,
    /// Of several batches of a stretch only the first is ever handed out.
    LaterBatchesSkipped,
    /// A look-up by revision covers one more than was looked up.
    PickClaimsOneMore,
    /// A stretch of history covers one more than was read.
    StretchClaimsOneMore,
    /// The last record of a block is not read as history.
    BlockBoundarySkipped,
    /// History is read beyond what is published.
    HistoryBeyondPublished,
    /// A compaction that overtakes a read of history is not looked for.
    CompactedStretchAnswered,
    /// A compaction that overtakes a range is not looked for.
    CompactedRangeAnswered,
    /// A watcher whose start is compacted is dropped without a word.
    CompactedNotTold,

    // Victims.
    /// One stalled watcher is lost on its way to the victims.
    OneStalledDropped,
    /// A victim is let go without its batch.
    VictimBatchDropped,
    /// A victim is given its batch twice.
    VictimBatchTwice,
    /// A victim that may not keep its batch goes on behind it.
    VictimSkipsUnkeptBatch,
    /// Room that appeared before the victim arrived is not noticed.
    EarlyRoomUnnoticed,
    /// The net sends a victim without a batch round by history though it still has no room.
    VictimSentRound,
    /// Nobody hears that a victim's watcher has room.
    RoomNotTold,
    /// Each message is sent through a recipient of its own, so that no mailbox is ever full.
    RecipientCloned,

    // Streams, ids, progress.
    /// Progress does not wait for messages on their way.
    ProgressOvertakesEvents,
    /// Progress does not wait for victims and late watchers.
    ProgressDespiteVictims,
    /// Progress is told below a start in the future.
    ProgressBelowStart,
    /// Progress says where the store is, not the group.
    ProgressOfTheStore,
    /// Progress at a hold is told after something newer.
    ProgressGoesBack,
    /// Periodic progress does not wait for messages on their way.
    PeriodicProgressOvertakes,
    /// Periodic progress is told to a watch that is cancelled.
    PeriodicProgressAfterCancel,
    /// An id in use is given to a second watch.
    WatchIdReused,
    /// A cancelled watcher says so and stays.
    CancelledWatcherStays,
    /// A watcher that waits for room does not hear of its cancellation.
    CancelWaitsForRoom,
    /// The group keeps the entry of a watcher that has stopped.
    ForgetIgnored,
    /// A watcher's death is not told to its stream.
    DeadWatcherSilent,
    /// The death of a worker's watch side is not told to its streams.
    DeadSideSilent,
    /// Two responses of a stream change places.
    OutboxReorders,
    /// `created` says a revision before the registration.
    CreatedRevisionStale,
    /// The header of an events response says its first revision instead of its last.
    EventsHeaderStale,
    /// The last fragment of a response says that there is more.
    FragmentWithoutEnd,
    /// Other responses come between the fragments of one.
    FragmentsInterleaved,
    /// A compacted cancel does not say from where the client may go on.
    CompactedWithoutRevision,
    /// A refused create does not say why.
    RejectedWithoutReason,

    // Bounds.
    /// A request's permit is free once Store has queued it.
    PermitFreedEarly,
    /// Bytes on their way to a stream's watchers are not counted.
    BytesInFlightUncounted,
    /// Bytes that wait in an outbox are not counted.
    OutboxBytesUncounted,
    /// Requests are read however many responses wait.
    ControlItemsUnbounded,
    /// An answer may be as large as it likes.
    AnswerTooLargeGiven,
    /// Victims keep their batches whatever they weigh.
    PinnedBytesUnbounded,

    // Writing.
    /// A group is answered and seen before it is durable.
    AnswerBeforeSync,
    /// A group is seen before it is durable, and answered after.
    PublishBeforeSync,
    /// An error of the disk while it syncs is passed over.
    SyncErrorIgnored,
    /// The writer goes on after an error of the disk.
    WriterGoesOnAfterError,
    /// The parts of a revision that is larger than a batch each say that they are the last.
    LargeRevisionInParts,
    /// A record is given to the engine whole, however large.
    LargeRecordUncut,
    /// A full disk is not noticed.
    FullDiskUnnoticed,
    /// An alarm is raised and puts go on.
    NoSpaceForgotten,
    /// An alarm is raised in memory alone.
    AlarmNotDurable,
    /// A transaction that changed nothing takes a revision.
    EmptyCommitTakesRevision,
    /// A refused transaction leaves what it had done.
    RefusedTxnLeavesTrace,
    /// A write does not see what its group has written before.
    GroupUnseen,
    /// A read in a transaction does not see its writes.
    TxnReadsThePast,
    /// A condition on the create revision looks at the mod revision.
    TxnComparesWrongField,
    /// A put of a key that exists begins a new life.
    EveryPutLooksNew,
    /// What a key was before is not taken at commit, and said to be nothing.
    PrevMissingAtCommit,
    /// What a key was before is looked up one revision too early.
    PrevOfWrongRevision,
    /// The answer to a write says the revision before it.
    AnswerRevisionStale,
    /// The answer to a range says the revision that was read.
    RangeHeaderStale,
    /// A range with a limit answers one key more.
    RangeLimitOffByOne,

    // Compaction and recovery.
    /// A delete at the compact revision itself is forgotten.
    TombstoneForgotten,
    /// The newest put below the compact revision is forgotten.
    LiveRecordPruned,
    /// The first record of a touched block goes though it is live.
    LiveRecordCleaned,
    /// A compaction is scheduled in memory alone.
    CompactionNotDurable,
    /// The compact revision is published when the records are gone.
    CompactionPublishedLate,
    /// Which records are dead is not written down.
    DeadMarksForgotten,
    /// A pass of a compaction begins while all of the store is read.
    CompactionUnderDump,
    /// A read of all of the store has records that a compaction has made needless.
    DumpIgnoresCompaction,
    /// A checkpoint from before the last step of a compaction is used.
    StaleCheckpointUsed,
    /// A revision whose end was never written is taken as whole.
    UnfinishedRevisionKept,

    // Snapshots.
    /// The checksum at the end of a snapshot is not looked at.
    RestoreSkipsChecksum,
    /// A restored store has no leases.
    RestoreMissesLeases,
    /// A restored store does not know that its history was compacted.
    RestoreForgetsCompaction,
    /// A restored directory has its name before all of it was checked.
    RestoreNamedTooEarly,
    /// The name of a restored directory is not made durable.
    RestoreChosenUnsynced,

    // The commit log.
    /// A record of the log is written, and not made durable.
    LogWithoutFdatasync,
    /// The mark that a generation is in the engine is written before the engine has made it durable.
    SettledMarkBeforeSync,
    /// A generation counts as in the engine, and the engine has not made it durable.
    SettledWithoutSync,
    /// A generation that is settled while the engine is copied goes into the old one alone.
    CopyMissesGeneration,
    /// An engine takes another one's place before it is durable.
    CopyNotSynced,
    /// The name of the engine in use is replaced, and the directory is not synced.
    ChoiceNotSynced,
    /// The log begins anew over a generation that is not in the engine.
    LogSwitchedUnsettled,
    /// What is on its way into the engine cannot be read.
    SettlingUnseen,
    /// A torn record of the log is taken as whole.
    TornRecordAccepted,
    /// A damaged record of the log is taken for its torn end.
    LogDamageTakenAsTorn,
    /// Of two generations that the engine lacks the second is not read.
    SecondGenerationSkipped,

    // The relay: covers and what feeds them.
    /// A cover is widened, and its ring keeps what was heard while it was narrow.
    WidenedRingKept,
    /// A watch is registered before its cover is as wide as it needs.
    RegisteredBeforeWidened,
    /// A watch from now on is registered before its cover has come as far as the cluster.
    RegisteredBeforeLevel,
    /// Of several ranges that are watched a cover is narrowed to the first.
    NarrowedUnderWatch,
    /// Two watches of one range have one seat.
    SeatShared,
    /// Who reads on in the past reads for the range that was wanted when they began.
    LateReaderTooNarrow,
    /// What was read of the past for some is taken for all there is by those who have come meanwhile.
    OutlineForAll,
    /// What was read of the past and is not told yet is passed over.
    LateReaderClaimsMore,
    /// Who reads the past does not say that it is compacted, and goes on behind the gap.
    CompactedPastSkipped,
    /// A watch on the cluster goes on one revision too late.
    FeedSkipsOne,
    /// A watch on the cluster goes on one revision too early, and nobody looks.
    FeedRepeatsOne,
    /// How far the cluster has come is taken from the header of events.
    HeaderTakenForProgress,
    /// The fragments of a response are not joined.
    FragmentsNotJoined,
    /// A ring that begins anew overruns nobody.
    RestartOverrunsNobody,
    /// A feed goes on behind what the cluster has compacted, and tells nobody.
    CompactedGapSkipped,
    /// Nobody looks whose cluster an answer comes from.
    OtherClusterTaken,
    /// Nobody looks whether the cluster was put back to an earlier state.
    PutBackUnnoticed,
    /// The end of a feed is not told to those who watch.
    DeadFeedSilent,
    /// What the cluster refuses is asked for again and again, and nobody is told.
    RefusalRetried,
    /// Who asks for a leader is let in without one.
    LeaderlessLetIn,
    /// Watches whose clients ask for a leader go on without one.
    LostLeaderSilent,
    /// What opens watches on the cluster is not started again when it has died.
    DeadUpstreamStays,
    /// A cover that has a feed gets another one when what opens covers is started again.
    CoverFedTwice,
    /// A part of a stream says progress for the whole.
    PartSpeaksForWhole,
    /// A part that is behind is not given what it lacks up to where another one is held.
    HeldPartNotBrought,
    /// Progress is told without asking the cluster.
    ProgressNotAsked,
    /// That events come without their previous values is not noticed when somebody wants them.
    PrevTakenForGranted,
    /// What a key was before is looked up one revision too late.
    PrevLookedUpLate,

    // The relay: reads from its memory.
    /// A linearizable read does not wait until the memory has come as far as the cluster.
    CacheDoesNotWait,
    /// What is there at first is read one revision too early.
    CacheFilledOneEarly,
    /// What is deleted stays in the memory.
    CacheKeepsDeleted,
    /// A read has a revision that its keys are not of.
    CacheHeaderAhead,
    /// The memory outlives the cover that has filled it.
    CacheOutlivesCover,
}

/// True while this fault is the one that is seeded.
#[cfg(not(vigil_faults))]
pub(crate) const fn active(_fault: Fault) -> bool {
    false
}

/// True the first time that this fault could strike while it is seeded.
#[cfg(not(vigil_faults))]
pub(crate) const fn once(_fault: Fault) -> bool {
    false
}

/// From now on a fault that strikes once can strike again: a search has begun anew.
#[cfg(all(test, not(vigil_faults)))]
pub(crate) const fn begin_anew() {}

#[cfg(all(test, vigil_faults))]
pub(crate) use seeded::begin_anew;
#[cfg(vigil_faults)]
pub(crate) use seeded::{active, once};

#[cfg(vigil_faults)]
mod seeded {
    //! The fault that the environment names.

    use super::{ALL, Fault};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(crate) fn active(fault: Fault) -> bool {
        static CHOSEN: OnceLock<Option<Fault>> = OnceLock::new();
        *CHOSEN.get_or_init(chosen) == Some(fault)
    }

    static STRUCK: AtomicBool = AtomicBool::new(false);

    #[cfg(test)]
    pub(crate) fn begin_anew() {
        STRUCK.store(false, Ordering::SeqCst);
    }

    pub(crate) fn once(fault: Fault) -> bool {
        active(fault) && !STRUCK.swap(true, Ordering::SeqCst)
    }

    fn chosen() -> Option<Fault> {
        let name = std::env::var("VIGIL_FAULT").ok()?;
        let found = ALL.iter().find(|fault| format!("{fault:?}") == name);
        assert!(found.is_some(), "VIGIL_FAULT={name}: no such fault");
        found.copied()
    }
}
