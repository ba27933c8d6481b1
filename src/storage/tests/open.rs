//! What a start finds in its directory: what a killed process left, and what an operator got wrong.

use super::super::testing::{put, small};
use super::super::{ReadView, Readers, StorageError, StorageLimits, Writer, open};
use crate::model::Revision;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn try_open(dir: &Path) -> Result<(Writer, ReadView), StorageError> {
    let limits = StorageLimits {
        lock_wait_ms_max: 0,
        ..small()
    };
    open(dir, limits, Readers::Inline)
}

/// A closed store with one key.
fn written(dir: &Path) {
    let (mut writer, _) = try_open(dir).unwrap();
    writer.apply(&put("a", "1"), false).unwrap();
    writer.commit().unwrap();
    writer.close().unwrap();
}

#[test]
fn process_killed_while_the_engine_wrote_its_snapshot_leaves_a_store_that_opens() {
    for kept in [0, 5, 40] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        // The next start makes a snapshot of what the last run wrote, and dies half-way.
        fs::write(
            dir.path().join("snap.00000000000FFFFF.generating"),
            vec![1; kept],
        )
        .unwrap();
        let (_, view) = try_open(dir.path()).unwrap();
        assert_eq!(view.revision(), Revision(2));
    }
}

#[test]
fn unfinished_snapshot_of_a_store_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = try_open(dir.path()).unwrap();
    let path = dir.path().join("snap.00000000000FFFFF.generating");
    fs::write(&path, b"being written").unwrap();
    let error = try_open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    assert!(path.exists());
    drop(first);
}

#[test]
fn process_killed_while_the_engine_wrote_its_settings_leaves_a_store_that_opens() {
    let made = tempfile::tempdir().unwrap();
    written(made.path());
    let settings = fs::read(made.path().join("conf")).unwrap();
    for kept in 0..settings.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("conf"), &settings[..kept]).unwrap();
        if let Err(error) = try_open(dir.path()) {
            panic!("{kept} bytes of {}: {error}", settings.len());
        }
    }
    // The same settings are asked for as long as there is data.
    fs::write(made.path().join("conf"), [0; 40]).unwrap();
    try_open(made.path()).unwrap_err();
}

#[test]
fn file_instead_of_a_directory_is_an_error_that_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = try_open(file.path()).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    assert!(error.contains("not a directory"), "{error}");
}

#[test]
fn directory_opens_though_its_parent_cannot_be_read() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    written(&dir);
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o311)).unwrap();
    let opened = try_open(&dir).map(|(_, view)| view.revision());
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o700)).unwrap();
    // To a superuser everything is readable, and the test says nothing.
    assert_eq!(opened, Ok(Revision(2)));
}
