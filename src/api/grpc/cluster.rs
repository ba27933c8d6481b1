//! The Cluster calls: a cluster of one, which can be listed and not be changed.
//!
//! It never tells of a member that is not this server. A change that would need another is refused as etcd refuses one to a
//! cluster that cannot take it.

use super::Member;
use crate::api::convert;
use crate::api::pb::etcdserverpb as pb;
use crate::api::pb::etcdserverpb::cluster_server::Cluster;
use crate::api::status;
use crate::backend::StoreBackend;
use crate::model::Revision;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The Cluster service of a server.
#[derive(Debug)]
pub(super) struct ClusterService<B> {
    backend: B,
    member: Arc<Member>,
}

impl<B: StoreBackend> ClusterService<B> {
    /// A service that tells of `member`.
    pub(super) fn new(backend: B, member: Arc<Member>) -> Self {
        Self { backend, member }
    }
}

#[tonic::async_trait]
impl<B: StoreBackend> Cluster for ClusterService<B> {
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
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let request = request.into_inner();
        if !are_peer_urls(&request.peer_ur_ls) {
            return Err(status::bad_member_urls());
        }
        if request.is_learner {
            return Err(status::too_many_learners());
        }
        Err(status::not_enough_members())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.check_member(request.into_inner().id)?;
        Err(status::not_enough_members())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.check_member(request.into_inner().id)?;
        // No peer ever calls this server, so there is nothing that the URLs could change.
        Err(status::unimplemented("MemberUpdate"))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.check_member(request.into_inner().id)?;
        Err(status::not_a_learner())
    }
}

impl<B: StoreBackend> ClusterService<B> {
    fn check_member(&self, id: u64) -> Result<(), Status> {
        if id == self.backend.identity().member_id {
            Ok(())
        } else {
            Err(status::member_not_found())
        }
    }
}

/// At least one, each with a scheme of etcd's, and a host and port and nothing else.
fn are_peer_urls(urls: &[String]) -> bool {
    let is_one = |url: &String| {
        let Some((scheme, rest)) = url.split_once("://") else {
            return false;
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        match scheme {
            "unix" | "unixs" => !rest.is_empty(),
            "http" | "https" => !address.contains('/') && matches!(port, Some(Ok(_))),
            _ => false,
        }
    };
    !urls.is_empty() && urls.iter().all(is_one)
}
