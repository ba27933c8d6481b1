//! Is the server well, is it ready, and what is it: as etcd's endpoints of the same names say it.
//!
//! Every check asks the server the way a client would; none knows its answer beforehand.

use super::{Http, call, percent, reply};
use crate::api::grpc::Served;
use crate::api::pb::etcdserverpb as pb;
use crate::backend::Depth;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use http::{HeaderMap, HeaderName, HeaderValue};
use pb::AlarmType;
use prost::Message;
use serde_json::json;
use std::fmt::Write as _;
use tonic::{Code, Status};

/// The path of the call that lists alarms.
const ALARM_PATH: &str = "/etcdserverpb.Maintenance/Alarm";
/// The path of the call that says how the server is.
const STATUS_PATH: &str = "/etcdserverpb.Maintenance/Status";
/// How long a call may take that a check makes.
const CALL_TIMEOUT: &str = "2S";
/// The metadata that says so.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// One thing that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    const LIVE: [Self; 1] = [Self::SerializableRead];
    const READY: [Self; 4] = [
        Self::DataCorruption,
        Self::SerializableRead,
        Self::LinearizableRead,
        Self::NonLearner,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    /// Runs it; `local` is how far a read goes that one member answers.
    async fn run<B: Served>(self, http: &Http<B>, local: Depth) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                if alarms(http).await?.contains(&AlarmType::Corrupt) {
                    return Err("alarm activated: CORRUPT".to_owned());
                }
                Ok(())
            }
            Self::SerializableRead => read(http, local).await,
            Self::LinearizableRead => read(http, Depth::Cluster).await,
            Self::NonLearner => match status(http).await {
                Ok(status) if status.is_learner => Err("not supported for learner".to_owned()),
                Ok(_) => Ok(()),
                Err(status) if is_for_users_only(&status) => Ok(()),
                Err(status) => Err(status.message().to_owned()),
            },
        }
    }
}

/// A check that hangs says nothing, so its calls have a deadline.
fn in_time() -> HeaderMap {
    let timeout = (GRPC_TIMEOUT, CALL_TIMEOUT);
    let (name, value) = (
        HeaderName::from_static(timeout.0),
        HeaderValue::from_static(timeout.1),
    );
    HeaderMap::from_iter([(name, value)])
}

/// What the server says of itself.
pub(super) async fn status<B: Served>(http: &Http<B>) -> Result<pb::StatusResponse, Status> {
    let request = pb::StatusRequest::default().encode_to_vec();
    let answer = call::unary(&http.edge, STATUS_PATH, in_time(), &request).await?;
    pb::StatusResponse::decode(answer).map_err(|error| Status::internal(error.to_string()))
}

/// A cluster that knows its users refuses us, who are none: it answers, and what it would say is not known.
fn is_for_users_only(status: &Status) -> bool {
    let code = status.code();
    matches!(
        code,
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied
    )
}

/// The alarms that are up, as far as they are told. A server that has no alarms has none up.
async fn alarms<B: Served>(http: &Http<B>) -> Result<Vec<AlarmType>, String> {
    let request = pb::AlarmRequest::default().encode_to_vec();
    let answer = call::unary(&http.edge, ALARM_PATH, in_time(), &request).await;
    let answer = match answer {
        Err(status) if status.code() == Code::Unimplemented => return Ok(Vec::new()),
        Err(status) if is_for_users_only(&status) => return Ok(Vec::new()),
        answer => answer.map_err(|status| status.message().to_owned())?,
    };
    let answer = pb::AlarmResponse::decode(answer).map_err(|error| error.to_string())?;
    Ok(answer.alarms.iter().map(pb::AlarmMember::alarm).collect())
}

async fn read<B: Served>(http: &Http<B>, depth: Depth) -> Result<(), String> {
    let checked = http.backend().check(depth).await;
    checked.map_err(|error| error.to_string())
}

/// Every value of a parameter of the query.
fn parameters(request: &HttpRequest, wanted: &str) -> Vec<String> {
    let pairs = request.query_string().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values = pairs.filter(|(name, _)| *name == wanted);
    let decoded = values.filter_map(|(_, value)| percent::query(value));
    decoded
        .map(|value| String::from_utf8_lossy(&value).into_owned())
        .collect()
}

/// Why the server is not well, in etcd's words.
async fn unwell<B: Served>(http: &Http<B>, request: &HttpRequest) -> Option<String> {
    let excluded = parameters(request, "exclude");
    let alarms = match alarms(http).await {
        Ok(alarms) => alarms,
        Err(why) => return Some(format!("ALARM ERROR:{why}")),
    };
    let mut alarms = alarms.into_iter().map(|alarm| alarm.as_str_name());
    if let Some(alarm) = alarms.find(|alarm| !excluded.iter().any(|it| it == alarm)) {
        return Some(format!("ALARM {alarm}"));
    }
    let is_led = match status(http).await {
        Ok(status) => status.leader != 0,
        Err(status) => is_for_users_only(&status),
    };
    let is_local = parameters(request, "serializable")
        .iter()
        .any(|it| it == "true");
    if !is_led && !is_local {
        return Some("RAFT NO LEADER".to_owned());
    }
    let depth = if is_local {
        Depth::Member
    } else {
        Depth::Cluster
    };
    let read = read(http, depth).await;
    read.err().map(|why| format!("RANGE ERROR:{why}"))
}

/// `/health`: one word, and the first reason against it.
pub(super) async fn health<B: Served>(
    http: web::Data<Http<B>>,
    request: HttpRequest,
) -> HttpResponse {
    let reason = unwell(&http, &request).await;
    http.counts.check("health", "health", reason.is_none());
    let status = match reason {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let health = reason.is_none().to_string();
    let said = json!({"health": health, "reason": reason.unwrap_or_default()});
    reply::json_with(status, &said)
}

/// `/livez`: shall the process go on?
pub(super) async fn livez<B: Served>(
    http: web::Data<Http<B>>,
    request: HttpRequest,
) -> HttpResponse {
    checked(&http, &request, ("livez", Depth::Process), &Check::LIVE).await
}

/// `/readyz`: shall clients come here?
pub(super) async fn readyz<B: Served>(
    http: web::Data<Http<B>>,
    request: HttpRequest,
) -> HttpResponse {
    checked(&http, &request, ("readyz", Depth::Member), &Check::READY).await
}

async fn checked<B: Served>(
    http: &Http<B>,
    request: &HttpRequest,
    (kind, local): (&'static str, Depth),
    checks: &[Check],
) -> HttpResponse {
    let excluded = parameters(request, "exclude");
    let one = request.match_info().get("check");
    let mut wanted = checks
        .iter()
        .filter(|check| one.is_none_or(|name| check.name() == name))
        .peekable();
    if wanted.peek().is_none() {
        return reply::not_found();
    }
    let wanted = wanted.filter(|check| !excluded.iter().any(|name| name == check.name()));
    let (mut lines, mut is_well) = (String::new(), true);
    for check in wanted {
        let name = check.name();
        let found = check.run(http, local).await;
        http.counts.check(kind, name, found.is_ok());
        // A string takes everything.
        let _ = match found {
            Ok(()) => writeln!(lines, "[+]{name} ok"),
            Err(why) => {
                is_well = false;
                writeln!(lines, "[-]{name} failed: {why}")
            }
        };
    }
    if !is_well {
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, lines);
    }
    let is_verbose = !parameters(request, "verbose").is_empty();
    let said = if is_verbose {
        lines + "ok\n"
    } else {
        "ok\n".to_owned()
    };
    reply::text(StatusCode::OK, said)
}

/// `/version`: the etcd whose API this is, and what this is.
pub(super) async fn version<B: Served>(http: web::Data<Http<B>>) -> HttpResponse {
    let status = match status(&http).await {
        Ok(status) => status,
        Err(status) => return reply::error(&status),
    };
    let mut parts = status.version.split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    let said = json!({
        "etcdserver": status.version,
        "etcdcluster": format!("{major}.{minor}.0"),
        "storage": status.storage_version,
        "vigil": env!("CARGO_PKG_VERSION"),
    });
    reply::json_with(StatusCode::OK, &said)
}
