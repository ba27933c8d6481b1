//! The Cluster calls: a cluster of one, which can be listed and not be changed.
//!
//! It never tells of a member that is not this server.

use super::Member;
use crate::api::convert;
use crate::api::pb::etcdserverpb as pb;
use crate::api::pb::etcdserverpb::cluster_server::Cluster;
use crate::api::status;
use crate::backend::Backend;
use crate::model::Revision;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The Cluster service of a server.
#[derive(Debug)]
pub(super) struct ClusterService<B> {
    backend: B,
    member: Arc<Member>,
}

impl<B: Backend> ClusterService<B> {
    /// A service that tells of `member`.
    pub(super) fn new(backend: B, member: Arc<Member>) -> Self {
        Self { backend, member }
    }
}

#[tonic::async_trait]
impl<B: Backend> Cluster for ClusterService<B> {
    async fn member_list(
        &self,
        _request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let identity = self.backend.identity();
        let member = pb::Member {
            id: identity.member_id,
            name: self.member.name.clone(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: self.member.client_urls.clone(),
            is_learner: false,
        };
        Ok(Response::new(pb::MemberListResponse {
            // Answers about members carry no revision.
            header: Some(convert::header(identity, Revision(0))),
            members: vec![member],
        }))
    }

    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(status::unimplemented("MemberAdd"))
    }

    async fn member_remove(
        &self,
        _request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(status::unimplemented("MemberRemove"))
    }

    async fn member_update(
        &self,
        _request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(status::unimplemented("MemberUpdate"))
    }

    async fn member_promote(
        &self,
        _request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(status::unimplemented("MemberPromote"))
    }
}
