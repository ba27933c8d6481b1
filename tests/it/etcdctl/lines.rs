//! Command lines that end by themselves, in the order in which both servers get them.
//!
//! A new one is one line. Single quotes quote; what is typed on standard input stands behind `<<`; `{lease}` is the last
//! lease that was granted, `{me}` the member, `{here}` the endpoint, and `{home}` a directory.

use super::both::Both;
use super::differences;

/// Puts, reads and deletes, by all of their flags.
const KEYS: &str = "
get a
put a 1
put a 2 --prev-kv
put b << typed
put b << 2
put c 3 -w json
put d 4 -w fields
put a 5 --prev-kv -w json
put a 5 --prev-kv -w fields
put a 5 --prev-kv -w protobuf
put a/1 x
put a/2 y
put '' z
put
put -- -dash -value
get -- -dash
get a
get a b
get a b c
get a --prefix
get a --prefix --keys-only
get a --prefix --print-value-only
get a --prefix --count-only
get a --prefix --count-only -w fields
get a --prefix --limit=2
get a --prefix --limit=2 -w json
get a --prefix --limit=2 -w fields
get a --prefix --limit=2 -w protobuf
get a --prefix --limit=2 -w simple
get a --prefix -w table
get a --write-out=nope
get b --from-key
get '' --from-key
get '' --prefix --keys-only
get '' --prefix --keys-only -w json
get '' --prefix --hex
get '' --prefix --hex -w json
get a --rev=2
get a --rev=1
get a --rev=99
get a --rev=-1
get a/ --prefix --rev=11
get '' --prefix --order=DESCEND
get '' --prefix --order=ASCEND --sort-by=VALUE
get '' --prefix --order=DESCEND --sort-by=CREATE
get '' --prefix --order=ASCEND --sort-by=MODIFY --limit=2
get '' --prefix --order=DESCEND --sort-by=VERSION
get '' --prefix --sort-by=KEY
get '' --prefix --sort-by=CREATE
get '' --prefix --sort-by=MODIFY --limit=2
get '' --prefix --order=NOPE
get '' --prefix --sort-by=NOPE
get a --consistency=s
get a --consistency=l
get a --consistency=x
get a b --prefix
get a --prefix --from-key
get a --keys-only --count-only
get a --keys-only --print-value-only
get
put a --ignore-value
put a --ignore-value --prev-kv
put a x --ignore-value
put missing --ignore-value
put a y --ignore-lease
put missing y --ignore-lease
put a z --lease=99
put a z --lease=zz
put a z -w table
--command-timeout=3s --dial-timeout=3s get a
--user=root:word get a
--user=root --password=word put a signed
del
del -- -dash
del a --prev-kv
del a
del a -w protobuf
del a/ --prefix --prev-kv -w json
del b d
del b --range
del a b --prefix
del a --prefix --from-key
del d --from-key -w fields
del '' --from-key
del '' --prefix
";

/// Transactions as they are typed: compares, what runs when they hold, and what runs when they do not.
const TRANSACTIONS: &str = "
put b 3
txn << value(\"b\") = \"3\"\\n\\nput b 4\\nget b\\n\\nput b 5\\n\\n
txn << value(\"b\") = \"3\"\\n\\nput b 4\\nget b\\n\\nput b 5\\n\\n
txn -w json << mod(\"b\") > \"0\"\\n\\nget b\\ndel b\\nput c 1\\n\\n\\n
txn -w fields << ver(\"b\") = \"0\"\\ncreate(\"c\") < \"99\"\\n\\nput x y\\n\\nget x\\n\\n
txn --interactive << mod(\"x\") != \"0\"\\n\\nget x\\nput y 1 --prev-kv\\n\\ndel x\\n\\n
txn -i << version(\"x\") > \"7\"\\n\\nget x\\n\\ndel x --prev-kv\\nget '' --prefix --keys-only\\n\\n
txn << val(\"c\") < \"2\"\\n\\nget c\\n\\nput c --ignore-value\\n\\n
txn << \\nget '' --prefix --limit=1\\nget c --rev=5\\nput q 1\\n\\n\\n
txn << \\nput k v --lease=99\\n\\n\\n
txn << \\nget c --rev=99\\n\\n\\n
txn << \\nput a 1\\nput a 2\\n\\n\\n
txn << \\nput k v --prev-kv\\ndel k --prev-kv\\n\\n\\n
txn << \\nput '' v\\n\\n\\n
txn << nonsense\\n\\n\\n\\n
txn << \\nfoo k\\n\\n\\n
txn << \\n\\n\\n\\n
txn arguments
get '' --prefix -w fields
";

/// Compactions, and reads and watches around them.
const COMPACTIONS: &str = "
put a 1
put a 2
put a 3
del a
put a 4
put b 5
compaction 3
compact 3
compact 2
compact 99
compact -- -1
compact 0
compact x
compact
compact 4 --physical
compaction 5 --physical=false
get a --rev=4
get a --rev=5
get a --rev=6
watch a --rev=2
watch a --rev=2 -w json
watch a --rev=-1
watch b a
watch
watch --prefix a b
watch -i
watch -i << nonsense\\n
watch -i << watch a --rev=zz\\n
endpoint hashkv --rev=4
endpoint hashkv --rev=5
";

/// Leases, and what ends by itself of what lives on one.
const LEASES: &str = "
lease list
lease grant 600
lease grant 700
lease grant 500
lease list
lease list -w json
lease list -w fields
lease grant 0
lease grant -- -5
lease grant 9000000001
lease grant x
lease grant
lease grant 800
put a 1 --lease={lease}
put a 2 --ignore-lease
get a -w fields
get a -w json
put a --ignore-value --ignore-lease
put a 3 --lease={lease} --prev-kv -w json
lease timetolive {lease}
lease timetolive {lease} --keys
lease timetolive {lease} --keys -w json
lease timetolive {lease} --keys -w fields
lease timetolive {lease} -w json
lease timetolive 99
lease timetolive 99 --keys -w json
lease timetolive zz
lease timetolive
lease keep-alive {lease} --once
lease keep-alive {lease} --once -w json
lease keep-alive {lease} --once -w fields
lease keep-alive 99 --once
lease keep-alive 99
lease keep-alive zz
lease keep-alive
lease revoke {lease}
lease revoke {lease}
lease revoke 99
lease revoke zz
lease revoke
put a 1 --lease={lease}
get '' --prefix
lock door echo inside
lock door --ttl=60 -- sh -c 'exit 3'
lock door --ttl=60 printenv ETCD_LOCK_KEY
lock door /nowhere
lock --ttl=9000000001 door true
lock
elect
elect --listen
elect race me twice
get '' --prefix
";

/// What operators ask.
const OPERATIONS: &str = "
put a 1
put a 2
endpoint health
endpoint health -w json
endpoint health -w fields
endpoint health -w table
endpoint health --cluster
endpoint status
endpoint status -w json
endpoint status -w fields
endpoint status -w table
endpoint status --cluster
endpoint hashkv
endpoint hashkv -w json
endpoint hashkv -w fields
endpoint hashkv -w table
endpoint hashkv --cluster
endpoint hashkv --rev=1
endpoint hashkv --rev=2
endpoint hashkv --rev=99
defrag
defrag --cluster
alarm list
alarm list -w json
alarm list -w fields
alarm disarm
alarm disarm -w json
snapshot save {home}/saved
snapshot save
snapshot save {home}/no/directory
snapshot status {home}/saved
snapshot status {home}/missing
member list
member list -w json
member list -w fields
member list -w table
member list --hex
member add
member add x
member add x --peer-urls=nowhere
member remove
member remove zz
member remove 123
member remove {me}
member update 123 --peer-urls=http://127.0.0.1:1
member update {me}
member update {me} --peer-urls=nowhere
member update zz --peer-urls=http://127.0.0.1:1
member update {me} --peer-urls=http://127.0.0.1:1
member promote 123
member promote {me}
member promote
move-leader {me}
move-leader 123
move-leader zz
move-leader
check datascale --load=nope
make-mirror
make-mirror {here} --dest-prefix=x --no-dest-prefix
version
nonsense
put a 3
member add x --peer-urls=http://127.0.0.1:2 --learner
member add y --peer-urls=http://127.0.0.1:3
";

/// Users, roles and permissions: etcd's commands all succeed in this order.
const AUTH: &str = "
auth status
user add root:word
user add typed --interactive=false << word\\n
user add named --no-password
user add given --new-user-password=word
user get root
user get root --detail
user list
user passwd root --interactive=false << other\\n
role add reader
role list
role get reader
role grant-permission reader read a b
role grant-permission reader write c --prefix
role grant-permission reader readwrite d --from-key
role revoke-permission reader a b
role revoke-permission reader c --prefix
role revoke-permission reader d --from-key
user grant-role root reader
user revoke-role root reader
role delete reader
user delete typed
role add root
user grant-role root root
auth disable
auth enable
";

/// All of the lines, for those who look for what is missing.
pub(super) const ALL: [&str; 6] = [KEYS, TRANSACTIONS, COMPACTIONS, LEASES, OPERATIONS, AUTH];

async fn compare(lines: &str) {
    let mut both = Both::start().await;
    both.compare(lines, &differences::all());
}

#[tokio::test]
async fn keys_are_read_and_written_as_with_etcd() {
    compare(KEYS).await;
}

#[tokio::test]
async fn transactions_are_answered_as_with_etcd() {
    compare(TRANSACTIONS).await;
}

#[tokio::test]
async fn compactions_and_what_they_end_are_told_as_with_etcd() {
    compare(COMPACTIONS).await;
}

#[tokio::test]
async fn leases_locks_and_elections_are_as_with_etcd() {
    compare(LEASES).await;
}

#[tokio::test]
async fn operators_are_answered_as_by_etcd() {
    compare(OPERATIONS).await;
}

#[tokio::test]
async fn users_and_roles_are_refused_by_one_clear_error() {
    let mut both = Both::start().await;
    for line in AUTH.lines().filter(|line| !line.is_empty()) {
        let (etcd, vigil) = both.say(line);
        assert!(etcd.starts_with("0\n"), "{line}: {etcd}");
        let refusal = differences::refused(1, "Unimplemented", "vigil: Auth is not served");
        assert_eq!(vigil, refusal, "{line}");
    }
}
