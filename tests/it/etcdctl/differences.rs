//! Every answer to etcdctl that is meant to differ from etcd's, with both answers. `docs/differences.md` says why.
//!
//! A line that is here and no longer differs fails as one that differs and is not here.

/// A line, and what each of the servers has printed: the exit code, standard output and standard error.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) line: &'static str,
    pub(super) etcd: String,
    pub(super) vigil: String,
}

/// What etcdctl prints of a call that was refused.
pub(super) fn refused(exit: i32, code: &str, text: &str) -> String {
    let error = format!("rpc error: code = {code} desc = {text}");
    // A text that etcd's client knows is shown without its code.
    let shown = if text.starts_with("etcdserver: ") {
        text
    } else {
        &error
    };
    let log = serde_json::json!({
        "attempt": 0,
        "error": error,
        "level": "warn",
        "logger": "etcd-client",
        "msg": "retrying of unary invoker failed",
    });
    format!("{exit}\n{log}\nError: {shown}\n")
}

fn listed(line: &'static str, etcd: &str, vigil: &str) -> Difference {
    Difference {
        line,
        etcd: etcd.to_owned(),
        vigil: vigil.to_owned(),
    }
}

/// All of them.
pub(super) fn all() -> Vec<Difference> {
    let mut all = vec![sort_without_order(), hash_of_a_compacted_revision()];
    all.extend(peer_urls());
    all.extend(second_members());
    all.push(status_of_a_snapshot());
    all
}

/// etcd cuts by key first and sorts what is left.
fn sort_without_order() -> Difference {
    listed(
        "get '' --prefix --sort-by=MODIFY --limit=2",
        "0\na\n5\na/1\nx\n",
        "0\nb\n2\nc\n3\n",
    )
}

/// etcd keeps the hashes of its last compactions.
fn hash_of_a_compacted_revision() -> Difference {
    let text = "etcdserver: mvcc: required revision has been compacted";
    let failed = format!("Failed to get the hash of endpoint ENDPOINT ({text})\nError: ");
    Difference {
        line: "endpoint hashkv --rev=4",
        etcd: "0\nENDPOINT, OWN\n".to_owned(),
        vigil: refused(1, "OutOfRange", text).replace("Error: ", &failed),
    }
}

/// Nobody calls the one member as a peer, so it has no address for that.
fn peer_urls() -> [Difference; 5] {
    let plain = |url: &str| format!("0\nMEMBER, started, default, {url}, http://ENDPOINT, false\n");
    let json = |urls: &str| {
        format!(
            "0\n{{\"header\":{{\"cluster_id\":CLUSTER,\"member_id\":MEMBER,\"raft_term\":OWN}},\
             \"members\":[{{\"ID\":MEMBER,\"name\":\"default\",{urls}\"clientURLs\":[\"http://ENDPOINT\"]}}]}}\n"
        )
    };
    let fields = |url: &str| {
        format!(
            "0\n\"ClusterID\" : CLUSTER\n\"MemberID\" : MEMBER\n\"Revision\" : 0\n\"RaftTerm\" : OWN\n\
             \"ID\" : MEMBER\n\"Name\" : \"default\"\n{url}\"ClientURL\" : \"http://ENDPOINT\"\n\
             \"IsLearner\" : false\n\n"
        )
    };
    let head = "0\nID, STATUS, NAME, PEER ADDRS, CLIENT ADDRS, IS LEARNER\n";
    let table = |url: &str| plain(url).replace("0\n", head);
    let of =
        |line, said: &dyn Fn(&str) -> String, theirs: &str| listed(line, &said(theirs), &said(""));
    [
        of("member list", &plain, "PEER"),
        of("member list --hex", &plain, "PEER"),
        of("member list -w json", &json, "\"peerURLs\":[\"PEER\"],"),
        of("member list -w fields", &fields, "\"PeerURL\" : \"PEER\"\n"),
        of("member list -w table", &table, "PEER"),
    ]
}

/// There never is a second member, and the one there is has no peers.
fn second_members() -> [Difference; 4] {
    let too_few = "etcdserver: re-configuration failed due to not enough started members";
    let too_many = "etcdserver: too many learner members in cluster";
    let few = refused(1, "FailedPrecondition", too_few);
    let learns = "0\nMember OWN added to cluster CLUSTER\n\nETCD_NAME=\"x\"\n\
        ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://127.0.0.1:2\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
    let joins = learns.replace("\"x\"", "\"y\"").replace(":2", ":3");
    let update = "vigil: MemberUpdate is not served";
    [
        // etcd has no code for this text, and the protocol has.
        listed("member remove {me}", &refused(1, "Unknown", too_few), &few),
        listed(
            "member update {me} --peer-urls=http://127.0.0.1:1",
            "0\nMember MEMBER updated in cluster CLUSTER\n",
            &refused(1, "Unimplemented", update),
        ),
        listed(
            "member add x --peer-urls=http://127.0.0.1:2 --learner",
            learns,
            &refused(1, "FailedPrecondition", too_many),
        ),
        listed("member add y --peer-urls=http://127.0.0.1:3", &joins, &few),
    ]
}

/// A snapshot is no database file of etcd's.
fn status_of_a_snapshot() -> Difference {
    let deprecated = "Deprecated: Use `etcdutl snapshot status` instead.\n\n";
    listed(
        "snapshot status {home}/saved",
        &format!("0\nOWN, OWN, OWN, OWN\n{deprecated}"),
        &format!("1\n{deprecated}Error: invalid database\n"),
    )
}
