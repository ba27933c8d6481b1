//! JSON to protobuf and back, by the descriptors of our own `proto/`: one code for every call there is or will be.
//!
//! It knows no call by name. What it prints follows the protocol's rules for JSON: proto names, nothing that is zero,
//! 64-bit numbers as text, bytes in base64.

use super::json_read;
use super::paths::PATHS;
use crate::api::pb::DESCRIPTORS;
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::Serializer;
use std::collections::HashMap;
use std::sync::LazyLock;

const PRINTING: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// Every path of the gateway.
static METHODS: LazyLock<HashMap<&'static str, Method>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap_or_else(|error| {
        log::error!("no JSON: our own descriptors are unreadable: {error}");
        DescriptorPool::new()
    });
    PATHS
        .into_iter()
        .map(|(path, grpc_path)| (path, Method::new(&pool, grpc_path)))
        .collect()
});

/// One call, as JSON sees it.
#[derive(Debug)]
pub(super) struct Method {
    /// Where the gRPC edge answers it.
    pub(super) grpc_path: &'static str,
    /// Its messages; `None` for a call of a service that `proto/` does not have.
    call: Option<MethodDescriptor>,
}

/// What a call takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    /// Any number of requests.
    pub(super) requests: bool,
    /// Any number of responses.
    pub(super) responses: bool,
}

impl Method {
    /// The call that a path stands for.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        METHODS.get(path)
    }

    fn new(pool: &DescriptorPool, grpc_path: &'static str) -> Self {
        let mut names = grpc_path.trim_start_matches('/').split('/');
        let service = names.next().and_then(|name| pool.get_service_by_name(name));
        let method = names.next().unwrap_or_default();
        let call = service.and_then(|service| service.methods().find(|it| it.name() == method));
        Self { grpc_path, call }
    }

    /// What it takes and gives; `None` when nothing is known of it.
    pub(super) fn streams(&self) -> Option<Streams> {
        let call = self.call.as_ref()?;
        Some(Streams {
            requests: call.is_client_streaming(),
            responses: call.is_server_streaming(),
        })
    }

    /// The request that a JSON value says, encoded. No value at all says nothing; what follows the value is passed over.
    pub(super) fn request(&self, json: &[u8]) -> Result<Bytes, String> {
        let Some(call) = &self.call else {
            return Ok(Bytes::new());
        };
        if json.iter().all(u8::is_ascii_whitespace) {
            return Ok(Bytes::new());
        }
        Ok(json_read::read(call.input(), json)?.encode_to_vec().into())
    }

    /// A response as JSON, behind `before` and without a line break.
    pub(super) fn print(&self, before: &str, response: Bytes) -> Result<Vec<u8>, String> {
        let mut text = before.as_bytes().to_vec();
        let Some(call) = &self.call else {
            return Ok(text);
        };
        let message = DynamicMessage::decode(call.output(), response);
        let message = message.map_err(|error| error.to_string())?;
        let printed = message.serialize_with_options(&mut Serializer::new(&mut text), &PRINTING);
        printed.map_err(|error| error.to_string())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::etcdserverpb as pb;
    use pb::range_request::{SortOrder, SortTarget};
    use serde_json::{Value, json};

    fn method(path: &str) -> &'static Method {
        Method::find(path).unwrap()
    }

    fn range(json: &str) -> Result<pb::RangeRequest, String> {
        let bytes = method("/v3/kv/range").request(json.as_bytes())?;
        Ok(pb::RangeRequest::decode(bytes).unwrap())
    }

    fn printed(path: &str, response: &impl Message) -> Value {
        let text = method(path).print("", response.encode_to_vec().into());
        serde_json::from_slice(&text.unwrap()).unwrap()
    }

    #[test]
    fn every_call_of_our_own_services_has_a_path_and_no_path_names_a_call_they_lack() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        for service in pool.services() {
            for call in service.methods() {
                let path = format!("/{}/{}", service.full_name(), call.name());
                let is_there = PATHS.iter().any(|(_, grpc_path)| *grpc_path == path);
                assert_eq!(is_there, call.name() != "RangeStream", "{path}");
            }
        }
        for (path, grpc_path) in PATHS {
            let service = grpc_path.split('/').nth(1).unwrap();
            let is_known = pool.get_service_by_name(service).is_some();
            assert_eq!(method(path).streams().is_some(), is_known, "{path}");
        }
    }

    #[test]
    fn both_forms_of_a_name_are_read_and_numbers_as_numbers_or_text() {
        let expected = pb::RangeRequest {
            key: "foo".into(),
            range_end: "\0".into(),
            revision: 1 << 60,
            limit: 3,
            keys_only: true,
            ..pb::RangeRequest::default()
        };
        let proto = r#"{"key":"Zm9v","range_end":"AA==","revision":"1152921504606846976","limit":3,"keys_only":true}"#;
        let camel = r#"{"key":"Zm9v","rangeEnd":"AA==","revision":1152921504606846976,"limit":"3","keysOnly":true}"#;
        assert_eq!(range(proto).unwrap(), expected);
        assert_eq!(range(camel).unwrap(), expected);
    }

    #[test]
    fn enums_are_read_by_name_and_by_number() {
        let by_name = range(r#"{"sort_order":"DESCEND","sort_target":"MOD"}"#).unwrap();
        let by_number = range(r#"{"sort_order":2,"sort_target":3}"#).unwrap();
        assert_eq!(by_name, by_number);
        assert_eq!(by_name.sort_order(), SortOrder::Descend);
        assert_eq!(by_name.sort_target(), SortTarget::Mod);
    }

    #[test]
    fn what_is_unknown_and_what_follows_the_first_value_is_passed_over() {
        let plain = range(r#"{"key":"Zm9v"}"#).unwrap();
        assert_eq!(range(r#"{"key":"Zm9v","nobody":[{}]}"#).unwrap(), plain);
        assert_eq!(range(r#" {"key":"Zm9v"} and more"#).unwrap(), plain);
        assert_eq!(
            range(r#"{"key":"Zm9v","sort_order":"NOPE"}"#).unwrap(),
            plain
        );
        assert_eq!(range(" \n").unwrap(), pb::RangeRequest::default());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for wrong in [
            "{",
            "[]",
            "null",
            "7",
            r#"{"key":5}"#,
            r#"{"key":"%%"}"#,
            r#"{"limit":"many"}"#,
            r#"{"keys_only":"yes"}"#,
        ] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_have_proto_names_and_text_for_large_numbers_and_nothing_that_is_zero() {
        let answer = pb::StatusResponse {
            version: "3".to_owned(),
            raft_applied_index: 1 << 60,
            db_size_in_use: 7,
            ..pb::StatusResponse::default()
        };
        let expected =
            json!({"version":"3", "raftAppliedIndex":"1152921504606846976", "dbSizeInUse":"7"});
        assert_eq!(printed("/v3/maintenance/status", &answer), expected);
        let members = pb::MemberListResponse {
            members: vec![pb::Member {
                id: 9,
                client_ur_ls: vec!["u".to_owned()],
                ..pb::Member::default()
            }],
            ..pb::MemberListResponse::default()
        };
        let expected = json!({"members":[{"ID":"9", "clientURLs":["u"]}]});
        assert_eq!(printed("/v3/cluster/member/list", &members), expected);
        let hash = pb::HashKvResponse {
            hash: 4_000_000_000,
            compact_revision: 5,
            ..pb::HashKvResponse::default()
        };
        let expected = json!({"hash":4_000_000_000_u32, "compact_revision":"5"});
        assert_eq!(printed("/v3/maintenance/hashkv", &hash), expected);
    }
}
