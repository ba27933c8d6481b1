//! The Election calls: the leader is whoever stands at the head of the election's line.
//!
//! Nothing here knows how one waits.

use super::waiting_line::{self, LineWatch, Place, answered, created_at, delete_created_at};
use crate::api::convert;
use crate::api::pb::v3electionpb::election_server::Election;
use crate::api::pb::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use crate::api::status;
use crate::api::stop::StopSignal;
use crate::backend::StoreBackend;
use crate::model::{EventKind, KeyRange, KeyValue, LeaseId, Op, OpBody, Put, Revision, Txn, Write};
use bytes::Bytes;
use futures_util::stream;
use std::sync::Arc;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

/// The Election service in front of a backend.
#[derive(Debug)]
pub(super) struct ElectionService<B> {
    backend: B,
    stop: StopSignal,
}

impl<B: StoreBackend> ElectionService<B> {
    /// A service whose candidates are keys of `backend`, and whose observers are let go when `stop` is heard.
    pub(super) fn new(backend: B, stop: StopSignal) -> Self {
        Self { backend, stop }
    }

    /// Lets a candidate say something; the revision is that of the change.
    async fn proclaim(
        &self,
        key: Bytes,
        created: i64,
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Revision, Status> {
        let put = Put {
            key: key.clone(),
            value,
            lease,
            ..Put::default()
        };
        let txn = Txn {
            compares: vec![created_at(key, created)],
            success: vec![Op::Put(put)],
            failure: Vec::new(),
        };
        let answer = answered(self.backend.write(Write::Txn(txn)).await)?;
        match answer.body {
            OpBody::Txn(txn) if txn.succeeded => Ok(answer.revision),
            _ => Err(status::not_leader()),
        }
    }
}

fn proof(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    leader.ok_or_else(status::leader_missing)
}

/// Who observes an election, and what was said last.
struct Observer<B: StoreBackend> {
    backend: B,
    name: Bytes,
    stop: StopSignal,
    /// The leader's key, and a watch of it from behind what was said.
    leader: Option<LineWatch<B>>,
    ended: bool,
}

impl<B: StoreBackend> Observer<B> {
    /// The next change of the leader, or of what it says.
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            if let Some(watch) = &mut self.leader {
                if let Some(event) = watch.next().await?
                    && event.kind == EventKind::Put
                {
                    return Ok(self.response(event.kv.mod_revision, &event.kv));
                }
                self.leader = None;
            }
            let (revision, head) = waiting_line::head(&self.backend, &self.name).await?;
            if let Some(kv) = head {
                return self.follow(revision, kv).await;
            }
            let from = revision.next();
            let mut line = LineWatch::line(&self.backend, &self.name, from).await?;
            while line
                .next()
                .await?
                .is_some_and(|event| event.kind != EventKind::Put)
            {}
        }
    }

    async fn follow(
        &mut self,
        revision: Revision,
        kv: Arc<KeyValue>,
    ) -> Result<LeaderResponse, Status> {
        let range = KeyRange::single(kv.key.clone());
        let watch = LineWatch::open(&self.backend, range, revision.next()).await?;
        self.leader = Some(watch);
        Ok(self.response(revision, &kv))
    }

    fn response(&self, revision: Revision, kv: &KeyValue) -> LeaderResponse {
        LeaderResponse {
            header: Some(convert::header(self.backend.identity(), revision)),
            kv: Some(convert::key_value(kv.clone())),
        }
    }

    async fn next_or_end(mut self) -> Option<(Result<LeaderResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        let mut stop = self.stop.clone();
        let next = tokio::select! {
            next = self.next() => next,
            () = stop.stopped() => Err(status::stopped()),
        };
        self.ended = next.is_err();
        Some((next, self))
    }
}

#[tonic::async_trait]
impl<B: StoreBackend> Election for ElectionService<B> {
    type ObserveStream = BoxStream<LeaderResponse>;

    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let CampaignRequest { name, lease, value } = request.into_inner();
        let lease = LeaseId(lease);
        let place = Place::join(&self.backend, &name, lease, value.clone()).await?;
        let (created, joined) = (place.created, place.joined);
        // A candidate that comes back says what it says now.
        if place.found.as_ref().is_some_and(|said| *said != value) {
            let key = place.key.clone();
            self.proclaim(key, created.0, place.lease, value).await?;
        }
        place.wait().await?;
        let (key, lease) = place.keep();
        Ok(Response::new(CampaignResponse {
            header: Some(convert::header(self.backend.identity(), joined)),
            leader: Some(LeaderKey {
                name,
                key,
                rev: created.0,
                lease: lease.0,
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let ProclaimRequest { leader, value } = request.into_inner();
        let LeaderKey {
            key, rev, lease, ..
        } = proof(leader)?;
        let revision = self.proclaim(key, rev, LeaseId(lease), value).await?;
        let header = convert::header(self.backend.identity(), revision);
        Ok(Response::new(ProclaimResponse {
            header: Some(header),
        }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let name = request.into_inner().name;
        let (revision, head) = waiting_line::head(&self.backend, &name).await?;
        let kv = head.ok_or_else(status::no_leader)?;
        Ok(Response::new(LeaderResponse {
            header: Some(convert::header(self.backend.identity(), revision)),
            kv: Some(convert::key_value(kv.as_ref().clone())),
        }))
    }

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let observer = Observer {
            backend: self.backend.clone(),
            name: request.into_inner().name,
            stop: self.stop.clone(),
            leader: None,
            ended: false,
        };
        let told = stream::unfold(observer, Observer::next_or_end);
        Ok(Response::new(Box::pin(told)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let LeaderKey { key, rev, .. } = proof(request.into_inner().leader)?;
        let resign = delete_created_at(key, rev);
        let answer = answered(self.backend.write(resign).await)?;
        let header = convert::header(self.backend.identity(), answer.revision);
        Ok(Response::new(ResignResponse {
            header: Some(header),
        }))
    }
}
