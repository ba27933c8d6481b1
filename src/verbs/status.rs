//! `status`: what the server says of itself.
//!
//! Nothing is printed here.

use crate::api::pb::etcdserverpb::{
    StatusRequest, StatusResponse, maintenance_client::MaintenanceClient,
};
use tonic::Status;
use tonic::transport::Channel;

pub(super) async fn status(channel: Channel) -> Result<StatusResponse, Status> {
    let mut client = MaintenanceClient::new(channel);
    Ok(client.status(StatusRequest {}).await?.into_inner())
}
