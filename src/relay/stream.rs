//! A client's watch stream at a relay: its watches have seats in covers, and one outbox takes what all of them are told.
//!
//! It decides ids, and asks the cluster how far it is before a watch begins, so that whoever watches from now on is told of
//! nothing that had happened before. It never decides what a watcher is sent.

use super::asking::Parts;
use super::cover::{Cover, NO_CLUSTER, Seat};
use super::covers::{Covers, Unanswered};
use crate::actors::{
    Outbox, OutboxLimits, OutboxReader, StreamEnd, StreamItem, StreamLife, WatchCreate,
    WatchRejection, WatchStream,
};
use crate::backend::WatchControl;
use crate::fault::{self, Fault};
use crate::model::{Revision, WatchId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Answers to requests that may wait on a stream. So many watches begin with one question to the cluster, which takes longer than
/// all else that is done for them.
const CONTROL_ITEMS_MAX: usize = 256;

/// The commanding end of a client's stream.
#[derive(Debug)]
pub struct RelayStream {
    covers: Covers,
    /// The worker on whose thread it lives.
    worker: usize,
    outbox: Arc<Outbox>,
    /// One for each cover that it has a watch in.
    parts: Vec<(Arc<Cover>, WatchStream)>,
    shared: Arc<StreamSeats>,
    next_id: i64,
}

/// A watch that is asked for, and where it has a seat.
type Seated = (WatchCreate, Result<Arc<Cover>, WatchRejection>);

/// The seats of a stream, which live as long as the client reads.
#[derive(Debug, Default)]
pub(super) struct StreamSeats {
    seats: Mutex<HashMap<WatchId, Seat>>,
    parts: Arc<Parts>,
}

impl StreamSeats {
    fn seats(&self) -> MutexGuard<'_, HashMap<WatchId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what watches had that have ended by themselves, compacted for one.
    pub(super) fn tidy(&self) {
        let parts = self.parts.lock().clone();
        let watches: usize = parts.iter().map(|(_, part)| part.watches_len()).sum();
        let mut seats = self.seats();
        // To look at each of them would take long.
        if seats.len() > watches {
            self.give_back(&mut seats);
        }
    }

    fn give_back(&self, seats: &mut HashMap<WatchId, Seat>) {
        let parts = self.parts.lock();
        seats.retain(|id, seat| {
            let mut parts = parts.iter();
            let part = parts.find(|(cover, _)| Arc::ptr_eq(cover, &seat.cover));
            // Who is registered had a part, which is let go of with the last of its watches.
            !seat.registered() || part.is_some_and(|(_, part)| part.has(*id))
        });
    }
}

impl StreamLife for Arc<StreamSeats> {
    fn ended(&self) {
        let parts = std::mem::take(&mut *self.parts.lock());
        for (_, part) in parts {
            part.life().ended();
        }
        let seats = std::mem::take(&mut *self.seats());
        drop(seats);
    }
}

impl RelayStream {
    /// Opens a stream. Has to be called on the worker's own thread, where its watchers will live.
    pub(crate) fn open(covers: &Covers, worker: usize) -> (Self, OutboxReader) {
        let limits = covers.limits().engine.outbox;
        let outbox = Arc::new(Outbox::new(OutboxLimits {
            control_items_max: limits.control_items_max.max(CONTROL_ITEMS_MAX),
            ..limits
        }));
        let shared = Arc::new(StreamSeats::default());
        covers.adopt(&shared);
        let reader = OutboxReader::new(Arc::clone(&outbox), Box::new(Arc::clone(&shared)));
        let this = Self {
            covers: covers.clone(),
            worker,
            outbox,
            parts: Vec::new(),
            shared,
            next_id: 0,
        };
        (this, reader)
    }

    /// What can be refused at once; else the watch has an id and a seat.
    fn seat(&mut self, create: &mut WatchCreate) -> Result<Arc<Cover>, WatchRejection> {
        create.check()?;
        let max = self.covers.limits().engine.watches_per_stream_max;
        let mut seats = self.shared.seats();
        if seats.len() >= max
            || (create.watch_id != WatchId::AUTO && seats.contains_key(&create.watch_id))
        {
            self.shared.give_back(&mut seats);
        }
        if create.watch_id == WatchId::AUTO {
            while seats.get(&WatchId(self.next_id)).is_some() {
                self.next_id += 1;
            }
            create.watch_id = WatchId(self.next_id);
            if seats.len() < max {
                self.next_id += 1;
            }
        } else if seats.contains_key(&create.watch_id) {
            return Err(WatchRejection::DuplicateId);
        }
        if seats.len() >= max {
            return Err(WatchRejection::TooManyWatches { max });
        }
        let seat = self.covers.seat(&create.range, create.prev_kv);
        let cover = Arc::clone(&seat.cover);
        seats.insert(create.watch_id, seat);
        Ok(cover)
    }

    /// Waits until each cover has come as far as the cluster had when this was asked. What the cluster refuses is refused
    /// here; the error says that it does not answer.
    async fn settle(
        &self,
        covers: &[(Arc<Cover>, u64)],
        seated: &mut [Seated],
    ) -> Result<(), String> {
        let mut goal = match self.covers.revision_in_the_end().await {
            Ok(revision) => revision,
            Err(Unanswered::Refused(words)) => {
                self.refuse(seated, |_| true, &words);
                return Ok(());
            }
            Err(Unanswered::Away(why)) => return Err(why),
        };
        if fault::active(Fault::RegisteredBeforeLevel) {
            goal = Revision::default();
        }
        let patience = self.covers.limits().patience;
        for (cover, version) in covers {
            match cover.reach(*version, goal, patience).await {
                Ok(()) => {}
                Err(Unanswered::Refused(words)) => {
                    self.refuse(seated, |it| Arc::ptr_eq(it, cover), &words);
                }
                Err(Unanswered::Away(why)) => return Err(why),
            }
        }
        Ok(())
    }

    /// The cluster does not let us watch there: nobody has a seat in these covers after all.
    fn refuse(
        &self,
        seated: &mut [Seated],
        is_of_these: impl Fn(&Arc<Cover>) -> bool,
        words: &Arc<str>,
    ) {
        let mut seats = self.shared.seats();
        for (create, cover) in seated {
            if cover.as_ref().is_ok_and(&is_of_these) {
                seats.remove(&create.watch_id);
                *cover = Err(WatchRejection::Refused(Arc::clone(words)));
            }
        }
    }

    /// The part of the stream that lives in this cover.
    fn part(&mut self, cover: &Arc<Cover>) -> Option<&mut WatchStream> {
        let known = |part: &(Arc<Cover>, WatchStream)| Arc::ptr_eq(&part.0, cover);
        if !self.parts.iter().any(known) {
            self.prune();
            let broadcast = cover.broadcast()?;
            let opened = broadcast.open_part(self.worker, &self.outbox)?;
            let seated = (Arc::clone(cover), opened.as_part());
            self.shared.parts.lock().push(seated);
            self.parts.push((Arc::clone(cover), opened));
        }
        self.parts
            .iter_mut()
            .find(|part| Arc::ptr_eq(&part.0, cover))
            .map(|(_, part)| part)
    }

    /// Lets go of parts without watches: each keeps a whole cover in memory.
    fn prune(&mut self) {
        let shared = &self.shared;
        self.parts.retain(|(_, part)| {
            let is_over = part.watches_len() == 0;
            if is_over {
                part.leave();
                let left = part.as_part();
                shared.parts.lock().retain(|(_, it)| !it.is(&left));
            }
            !is_over
        });
    }

    async fn register(&mut self, cover: &Arc<Cover>, creates: Vec<WatchCreate>) {
        if creates.is_empty() {
            return;
        }
        let ids: Vec<_> = creates.iter().map(|create| create.watch_id).collect();
        let shared = Arc::clone(&self.shared);
        let Some(part) = self.part(cover) else {
            return self.outbox.end(StreamEnd::Unavailable(NO_CLUSTER));
        };
        part.create(creates).await;
        let mut seats = shared.seats();
        for id in ids {
            if part.has(id)
                && let Some(seat) = seats.get_mut(&id)
            {
                seat.register();
            } else {
                // It was refused, or is over already.
                seats.remove(&id);
            }
        }
        drop(seats);
        if cover.plan().closed {
            // It was let go of while this watch was on its way there, and nobody ends its streams a second time.
            self.outbox.end(StreamEnd::Unavailable(NO_CLUSTER));
        }
    }
}

impl WatchControl for RelayStream {
    async fn create(&mut self, creates: Vec<WatchCreate>) {
        let mut seated: Vec<Seated> = Vec::with_capacity(creates.len());
        let mut covers: Vec<(Arc<Cover>, u64)> = Vec::new();
        for mut create in creates {
            let cover = self.seat(&mut create);
            if let Ok(cover) = &cover {
                let version = cover.plan().version;
                match covers.iter_mut().find(|it| Arc::ptr_eq(&it.0, cover)) {
                    Some(known) => known.1 = known.1.max(version),
                    None => covers.push((Arc::clone(cover), version)),
                }
            }
            seated.push((create, cover));
        }
        if !covers.is_empty()
            && let Err(why) = self.settle(&covers, &mut seated).await
        {
            log::debug!("a stream ends whose watches cannot begin: {why}");
            return self.outbox.end(StreamEnd::Unavailable(NO_CLUSTER));
        }
        // In the order in which they were asked for, as many at a time as lie in one cover.
        let mut run: Option<(Arc<Cover>, Vec<WatchCreate>)> = None;
        for (create, cover) in seated {
            let goes_on = match (&run, &cover) {
                (Some((of_run, _)), Ok(cover)) => Arc::ptr_eq(of_run, cover),
                _ => false,
            };
            if !goes_on && let Some((cover, creates)) = run.take() {
                self.register(&cover, creates).await;
            }
            match cover {
                Ok(cover) => run
                    .get_or_insert_with(|| (cover, Vec::new()))
                    .1
                    .push(create),
                Err(reason) => {
                    let revision = self.covers.revision();
                    self.outbox.push(StreamItem::Rejected { revision, reason });
                }
            }
        }
        if let Some((cover, creates)) = run {
            self.register(&cover, creates).await;
        }
    }

    async fn cancel(&mut self, watch_id: WatchId) {
        let seat = self.shared.seats().remove(&watch_id);
        let Some(seat) = seat else { return };
        let of_seat = |part: &&mut (Arc<Cover>, WatchStream)| Arc::ptr_eq(&part.0, &seat.cover);
        if let Some((_, part)) = self.parts.iter_mut().find(of_seat) {
            part.cancel(watch_id).await;
            if part.watches_len() == 0 {
                self.prune();
            }
        }
    }

    async fn request_progress(&mut self) {
        self.prune();
        Parts::ask(&self.shared.parts, &self.covers, &self.outbox);
    }

    fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}
