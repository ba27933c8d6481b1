//! Words shown to a client: the one table of etcd's exact codes, error texts and cancel reasons.
//!
//! Clients match on these texts, so none may be reworded; and no other file may hold one.

use crate::backend::{BackendError, StreamEnd, WatchRejection};
use crate::model::{Alarm, AlarmKind, Refusal};
use std::borrow::Cow;
use tonic::{Code, Status};

/// The code and text for a request that was refused.
pub(crate) fn refusal(refusal: &Refusal) -> Status {
    let (code, text) = match refusal {
        Refusal::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        Refusal::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        Refusal::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        Refusal::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        Refusal::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Refusal::LeaseTtlTooLarge { .. } => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        Refusal::TooManyOperations { .. } => (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
        Refusal::DuplicateKey => (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        Refusal::RequestTooLarge { .. } => {
            (Code::InvalidArgument, "etcdserver: request is too large")
        }
        Refusal::InvalidSort => (Code::InvalidArgument, "etcdserver: invalid sort option"),
        Refusal::Compacted { .. } => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        Refusal::FutureRevision { .. } => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        Refusal::CorruptCluster => (Code::DataLoss, "etcdserver: corrupt cluster"),
        Refusal::NoSpace => (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        // etcd has no such limit, hence no text for it.
        Refusal::AnswerTooLarge { .. } => {
            return Status::resource_exhausted(format!("vigil: {refusal}"));
        }
    };
    Status::new(code, text)
}

/// The code and text for a request that was not answered.
pub(crate) fn backend(error: &BackendError) -> Status {
    match error {
        BackendError::Refused(reason) => refusal(reason),
        BackendError::TooManyRequests => {
            Status::resource_exhausted("etcdserver: too many requests")
        }
        BackendError::Stopped => stopped(),
        // What etcd has no name for goes out as it is; whether a write took effect is indeed unknown then.
        BackendError::Failed(text) => Status::unknown(text.clone()),
        BackendError::NotDefragmented(_) => Status::unknown(error.to_string()),
    }
}

/// The same for a lock or an election. etcd's own client stands between those and its store, and takes the code away.
pub(crate) fn in_line(error: &BackendError) -> Status {
    match error {
        BackendError::Refused(reason) => Status::unknown(refusal(reason).message()),
        _ => backend(error),
    }
}

/// An alarm, as it is told among the errors of a status: the text has a space at its end, as etcd's has.
pub(crate) fn alarm(alarm: &Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}

/// Puts are refused until the disk has room again; etcd does not look, hence no text for it.
pub(crate) fn disk_full() -> String {
    "vigil: the disk is nearly full".to_owned()
}

/// Leadership was to go to somebody who is not a member.
pub(crate) fn bad_leader_transferee() -> Status {
    Status::failed_precondition("etcdserver: bad leader transferee")
}

/// A downgrade was to be cancelled, and there is none.
pub(crate) fn no_downgrade() -> Status {
    Status::failed_precondition("etcdserver: no inflight downgrade job")
}

/// There is no version to go back to.
pub(crate) fn downgrade_target() -> Status {
    Status::invalid_argument("etcdserver: invalid downgrade target version")
}

/// The version to go back to is none.
pub(crate) fn downgrade_version() -> Status {
    Status::invalid_argument("etcdserver: wrong downgrade target version format")
}

/// The one member there is cannot go, and none can come.
pub(crate) fn not_enough_members() -> Status {
    Status::failed_precondition(
        "etcdserver: re-configuration failed due to not enough started members",
    )
}

/// A learner was to come.
pub(crate) fn too_many_learners() -> Status {
    Status::failed_precondition("etcdserver: too many learner members in cluster")
}

/// The one member there is votes already.
pub(crate) fn not_a_learner() -> Status {
    Status::failed_precondition("etcdserver: can only promote a learner member")
}

/// No member has this id.
pub(crate) fn member_not_found() -> Status {
    Status::not_found("etcdserver: member not found")
}

/// The peer URLs of a member are none.
pub(crate) fn bad_member_urls() -> Status {
    Status::invalid_argument("etcdserver: given member URLs are invalid")
}

/// The server is stopping; clients try elsewhere, and watches resume by revision.
pub(crate) fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// A watch whose client asks for a leader, on a member that sees none.
pub(crate) fn leader_lost() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// A lock's lease has ended while its caller waited. etcd gives these four no code of their own.
pub(crate) fn session_expired() -> Status {
    Status::unknown("mutex: session is expired")
}

/// A call that only a leader may make.
pub(crate) fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

/// An election without candidates.
pub(crate) fn no_leader() -> Status {
    Status::unknown("election: no leader")
}

/// A call that needs the proof of leadership.
pub(crate) fn leader_missing() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

/// How a watch stream's end reads in its trailers. Clients resume after `Unavailable` and give up after anything else.
pub(crate) fn stream_end(end: StreamEnd) -> Status {
    match end {
        StreamEnd::Unavailable(reason) => Status::unavailable(reason),
        StreamEnd::Canceled => Status::cancelled("etcdserver: watch canceled"),
    }
}

/// An error that another server has answered, as etcd writes it where it has no status to send: among the words of a watch.
pub(crate) fn rpc_error(error: &Status) -> String {
    // The names of the codes are the same here as there.
    format!(
        "rpc error: code = {:?} desc = {}",
        error.code(),
        error.message()
    )
}

/// The `cancel_reason` of a watch that was not created.
pub(crate) fn rejection(reason: &WatchRejection) -> Cow<'static, str> {
    match reason {
        WatchRejection::NegativeStart => {
            "etcdserver: mvcc: required revision has been compacted".into()
        }
        WatchRejection::EmptyRange => "mvcc: watcher range is empty".into(),
        WatchRejection::DuplicateId => {
            "mvcc: duplicate watch ID provided on the WatchStream".into()
        }
        // etcd takes any id and has no such limit, hence no text for these two.
        WatchRejection::InvalidId => "vigil: watch ID is negative".into(),
        WatchRejection::TooManyWatches { max } => {
            format!("vigil: too many watches, the limit is {max}").into()
        }
        WatchRejection::Refused(words) => words.to_string().into(),
    }
}

/// A message longer than the transport takes, refused before it is read.
pub(crate) fn message_too_large(bytes: u64, max: u64) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({bytes} vs. {max})"
    ))
}

/// A response longer than the transport can carry.
pub(crate) fn response_too_large() -> Status {
    Status::resource_exhausted("vigil: a response is too large")
}

/// The metadata `client-api-version` is not UTF-8.
pub(crate) fn invalid_client_api_version() -> Status {
    Status::invalid_argument("etcdserver: invalid client api version")
}

/// A streamed range is answered in key order only.
pub(crate) fn stream_sort_order() -> Status {
    Status::unimplemented("RangeStream does not support custom sort orders")
}

/// A streamed range cannot be filtered by revision.
pub(crate) fn stream_revision_filters() -> Status {
    Status::unimplemented("RangeStream does not support revision filters")
}

/// The messages of a call are compressed in a way that is not understood.
pub(crate) fn encoding_not_served(encoding: &str) -> Status {
    Status::unimplemented(format!("vigil: {encoding} compression is not served"))
}

/// No JSON call has this path.
pub(crate) fn no_such_path() -> Status {
    Status::not_found("Not Found")
}

/// JSON calls are made by POST.
pub(crate) fn only_post() -> Status {
    Status::unimplemented("Method Not Allowed")
}

/// The call with which clients hand in a name and a password.
const AUTHENTICATE_PATH: &str = "/etcdserverpb.Auth/Authenticate";

/// The answer to credentials where nobody has to show any. Clients that have some know this text, and go on without.
pub(crate) fn authentication(grpc_path: &str) -> Option<Status> {
    let is_asked = grpc_path == AUTHENTICATE_PATH;
    is_asked.then(|| Status::failed_precondition("etcdserver: authentication is not enabled"))
}

/// A JSON call that there is a path for and no description.
pub(crate) fn path_not_served(grpc_path: &str) -> Status {
    let call = grpc_path.trim_start_matches('/');
    Status::unimplemented(format!("vigil: {call} is not served"))
}

/// A call, or a service, that the protocol has and this server does not serve.
pub(crate) fn unimplemented(call: &'static str) -> Status {
    Status::unimplemented(format!("vigil: {call} is not served"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Revision;

    fn check(reason: Refusal, code: Code, text: &str) {
        let status = backend(&BackendError::Refused(reason));
        assert_eq!((status.code(), status.message()), (code, text));
    }

    #[test]
    fn refusals_read_as_clients_match_them() {
        use Code::{InvalidArgument, NotFound, OutOfRange, ResourceExhausted};
        let table = [
            (
                Refusal::EmptyKey,
                InvalidArgument,
                "etcdserver: key is not provided",
            ),
            (
                Refusal::KeyNotFound,
                InvalidArgument,
                "etcdserver: key not found",
            ),
            (
                Refusal::ValueProvided,
                InvalidArgument,
                "etcdserver: value is provided",
            ),
            (
                Refusal::LeaseProvided,
                InvalidArgument,
                "etcdserver: lease is provided",
            ),
            (
                Refusal::LeaseNotFound,
                NotFound,
                "etcdserver: requested lease not found",
            ),
            (
                Refusal::TooManyOperations { max: 128 },
                InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            (
                Refusal::DuplicateKey,
                InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            (
                Refusal::RequestTooLarge { bytes: 2, max: 1 },
                InvalidArgument,
                "etcdserver: request is too large",
            ),
            (
                Refusal::InvalidSort,
                InvalidArgument,
                "etcdserver: invalid sort option",
            ),
            (
                Refusal::Compacted {
                    compact_revision: Revision(7),
                },
                OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                Refusal::FutureRevision {
                    current: Revision(7),
                },
                OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                Refusal::NoSpace,
                ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
        ];
        for (reason, code, text) in table {
            check(reason, code, text);
        }
    }

    #[test]
    fn an_answer_too_large_names_the_ways_out() {
        let status = refusal(&Refusal::AnswerTooLarge { max: 9 });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("limit") && status.message().contains("RangeStream"));
    }

    #[test]
    fn p6_a_stream_that_dies_ends_with_unavailable_so_that_clients_resume() {
        let status = stream_end(StreamEnd::Unavailable("watch side restarted"));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(stopped().code(), Code::Unavailable);
        assert_eq!(stream_end(StreamEnd::Canceled).code(), Code::Cancelled);
    }

    #[test]
    fn an_error_among_the_words_of_a_watch_has_its_code_before_it() {
        let denied = Status::permission_denied("etcdserver: permission denied");
        let told = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(rpc_error(&denied), told);
    }

    #[test]
    fn cancel_reasons_are_the_protocols() {
        assert_eq!(
            rejection(&WatchRejection::EmptyRange),
            "mvcc: watcher range is empty"
        );
        assert_eq!(
            rejection(&WatchRejection::DuplicateId),
            "mvcc: duplicate watch ID provided on the WatchStream"
        );
        assert_eq!(
            rejection(&WatchRejection::NegativeStart),
            "etcdserver: mvcc: required revision has been compacted"
        );
        assert!(rejection(&WatchRejection::TooManyWatches { max: 3 }).contains('3'));
    }
}
