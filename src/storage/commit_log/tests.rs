//! What needs to look inside: a file that takes what is written and cannot make it durable.

use super::*;
use bytes::Bytes;

#[test]
fn record_that_cannot_be_made_durable_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = CommitLog::create(dir.path(), 4096).unwrap();
    let nowhere = OpenOptions::new().write(true).open("/dev/null").unwrap();
    log.files[1].file = nowhere;
    log.stage(&Change::Remove(Bytes::from_static(b"a")))
        .unwrap();
    let error = log.sync().unwrap_err().to_string();
    assert!(error.contains("commit.1.log"), "{error}");
    assert!(log.is_empty(), "it is not taken as written");
}
