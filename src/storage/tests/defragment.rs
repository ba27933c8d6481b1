//! Defragmentation: the new engine has everything, whatever goes on meanwhile, and a crash at any write leaves one that has.

use super::super::database::{Change, Database, Defragment};
use super::super::engines::Engines;
use super::super::logged::LoggedDatabase;
use super::super::testing::{
    Kept, LoggedDisk, MemoryDisk, MemoryEngines, history, plain, put as put_key, tiny,
};
use super::super::{Readers, StorageError};
use super::log::{Image, copied, log_limits, put, remove, seen, write};
use crate::model::Revision;
use bytes::Bytes;
use proptest::prelude::*;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use tempfile::TempDir;

/// How it ended, once it has.
type Ended = Arc<Mutex<Vec<Result<(), StorageError>>>>;

fn order(ended: &Ended) -> Defragment {
    let ended = Arc::clone(ended);
    Defragment {
        free_bytes_min: 1000,
        done: Box::new(move |defragmented| ended.lock().unwrap().push(defragmented)),
    }
}

fn open_on(dir: &Path, engines: &MemoryEngines) -> LoggedDatabase {
    LoggedDatabase::open(dir, engines.open(), &log_limits(), Readers::Inline).unwrap()
}

/// Writes until it has ended: each commit does one slice of the work.
fn drive(db: &LoggedDatabase, ended: &Ended) {
    for _ in 0..10_000 {
        if !ended.lock().unwrap().is_empty() {
            return;
        }
        db.sync().unwrap();
    }
    panic!("a defragmentation that is driven ends");
}

/// A store of many records, some of them in the engine and some in the log alone.
fn filled(dir: &Path, engines: &MemoryEngines) -> LoggedDatabase {
    let db = open_on(dir, engines);
    for number in 0..60 {
        write(
            &db,
            vec![put(&format!("k{number:03}"), &"v".repeat(100 + number))],
        );
    }
    db
}

fn started() -> (TempDir, MemoryEngines, LoggedDatabase, Ended) {
    let (dir, engines) = (
        tempfile::tempdir().unwrap(),
        MemoryEngines::on(MemoryDisk::default()),
    );
    let db = filled(dir.path(), &engines);
    (dir, engines, db, Ended::default())
}

#[test]
fn another_engine_takes_its_place_and_has_the_same() {
    let (_dir, engines, db, ended) = started();
    let (before, old) = (seen(&db), engines.chosen());
    db.defragment(order(&ended));
    drive(&db, &ended);
    assert_eq!(*ended.lock().unwrap(), [Ok(())]);
    assert_eq!((engines.choices(), engines.made().is_none()), (1, true));
    assert_eq!(seen(&db), before);
    assert_eq!(engines.chosen().records(), old.records());
    write(&db, vec![put("later", "1"), remove("k000")]);
    db.close();
    assert!(engines.chosen().records().contains_key(&b"later"[..]));
    assert!(
        !old.records().contains_key(&b"later"[..]),
        "nobody writes to it any more"
    );
}

#[test]
fn what_is_written_meanwhile_is_in_both() {
    let (dir, engines, db, ended) = started();
    db.defragment(order(&ended));
    let mut rounds = 0;
    while ended.lock().unwrap().is_empty() {
        // Records before, at and behind where the copy is; each is large enough that generations are settled.
        let key = format!("k{:03}", (rounds * 7) % 61);
        write(
            &db,
            vec![
                put(&key, &format!("{rounds}{}", "n".repeat(300))),
                remove("k030"),
            ],
        );
        rounds += 1;
        assert!(rounds < 10_000, "a defragmentation that is driven ends");
    }
    assert_eq!(*ended.lock().unwrap(), [Ok(())]);
    let expected = seen(&db);
    db.close();
    let again = open_on(copied(dir.path()).path(), &engines);
    assert_eq!(seen(&again), expected);
}

/// Each commit fills a generation, and a slice is far less than that.
#[test]
fn who_writes_as_fast_as_it_settles_does_not_stay_ahead_of_the_copy() {
    let (_dir, _, db, ended) = started();
    db.defragment(order(&ended));
    for number in 0..1000 {
        if !ended.lock().unwrap().is_empty() {
            break;
        }
        // Behind everything that is there.
        write(&db, vec![put(&format!("z{number:04}"), &"n".repeat(1800))]);
    }
    assert_eq!(*ended.lock().unwrap(), [Ok(())]);
}

#[test]
fn who_is_told_may_panic_and_the_store_goes_on() {
    let (_dir, engines, db, _) = started();
    db.defragment(Defragment {
        free_bytes_min: 0,
        done: Box::new(|_| panic!("the test says so")),
    });
    while engines.choices() == 0 {
        db.sync().unwrap();
    }
    write(&db, vec![put("later", "1")]);
    db.close();
    assert!(engines.chosen().records().contains_key(&b"later"[..]));
}

#[test]
fn who_asks_while_one_runs_is_answered_with_it() {
    let (_dir, engines, db, ended) = started();
    db.defragment(order(&ended));
    db.sync().unwrap();
    db.defragment(order(&ended));
    drive(&db, &ended);
    assert_eq!(*ended.lock().unwrap(), [Ok(()), Ok(())]);
    assert_eq!(engines.choices(), 1);
}

#[test]
fn a_copy_that_fails_at_any_write_harms_nobody() {
    for calls in 0.. {
        let (_dir, engines, db, ended) = started();
        let before = seen(&db);
        engines.fail_made_after(calls);
        db.defragment(order(&ended));
        drive(&db, &ended);
        assert_eq!(seen(&db), before);
        write(&db, vec![put("later", "1")]);
        if *ended.lock().unwrap() == [Ok(())] {
            assert!(calls > 3, "a copy is several writes");
            return;
        }
        assert!(matches!(
            ended.lock().unwrap()[..],
            [Err(StorageError::Disk { .. })]
        ));
        assert_eq!((engines.choices(), engines.made().is_none()), (0, true));
        ended.lock().unwrap().clear();
        db.defragment(order(&ended));
        drive(&db, &ended);
        assert_eq!(
            *ended.lock().unwrap(),
            [Ok(())],
            "the next one is not the worse for it"
        );
    }
}

#[test]
fn a_copy_that_has_lost_something_is_found_out() {
    let (_dir, engines, db, ended) = started();
    db.defragment(order(&ended));
    // Once the record is copied, the copy loses it.
    while engines
        .made()
        .is_none_or(|made| !made.records().contains_key(&b"k010"[..]))
    {
        db.sync().unwrap();
    }
    engines.made().unwrap().overwrite(b"k010", None);
    drive(&db, &ended);
    let said = ended.lock().unwrap()[0].clone().unwrap_err().to_string();
    assert!(said.contains("the copy differs from the data"), "{said}");
    assert_eq!((engines.choices(), engines.made().is_none()), (0, true));
}

#[test]
fn a_copy_that_has_something_more_is_found_out() {
    let (_dir, engines, db, ended) = started();
    db.defragment(order(&ended));
    while engines.made().is_none() {
        db.sync().unwrap();
    }
    engines
        .made()
        .unwrap()
        .overwrite(b"\xff\xfe", Some(b"?".to_vec()));
    drive(&db, &ended);
    let said = ended.lock().unwrap()[0].clone().unwrap_err().to_string();
    assert!(said.contains("the copy differs from the data"), "{said}");
}

#[test]
fn a_choice_that_fails_ends_the_store() {
    let (_dir, engines, db, ended) = started();
    engines.fail_to_choose();
    db.defragment(order(&ended));
    while ended.lock().unwrap().is_empty() {
        drop(db.sync());
    }
    assert!(ended.lock().unwrap()[0].is_err());
    assert!(
        db.apply(vec![put("later", "1")]).is_err(),
        "neither engine may get ahead of the other"
    );
}

#[test]
fn a_disk_without_room_is_left_alone() {
    let (_dir, engines, db, ended) = started();
    engines.chosen().set_free_bytes(999);
    db.defragment(order(&ended));
    drive(&db, &ended);
    let said = ended.lock().unwrap()[0].clone().unwrap_err().to_string();
    assert!(
        said.contains("999 bytes are free on the disk, and 1000 have to stay so"),
        "{said}"
    );
    assert_eq!(engines.choices(), 0);
    engines.chosen().set_free_bytes(1000);
    ended.lock().unwrap().clear();
    db.defragment(order(&ended));
    drive(&db, &ended);
    assert_eq!(*ended.lock().unwrap(), [Ok(())]);
}

#[test]
fn closing_gives_up_what_has_not_ended() {
    let (dir, engines, db, ended) = started();
    let before = seen(&db);
    db.defragment(order(&ended));
    for _ in 0..3 {
        db.sync().unwrap();
    }
    assert!(engines.made().is_some(), "it has begun");
    db.close();
    assert_eq!(*ended.lock().unwrap(), [Err(StorageError::Closed)]);
    assert!(engines.made().is_none());
    assert_eq!(seen(&open_on(dir.path(), &engines)), before);
}

#[test]
fn a_reader_who_is_slow_reads_on_in_the_new_engine() {
    let (dir, engines) = (
        tempfile::tempdir().unwrap(),
        MemoryEngines::on(MemoryDisk::default()),
    );
    let limits = log_limits();
    let db = Arc::new(
        LoggedDatabase::open(dir.path(), engines.open(), &limits, Readers::Threads(1)).unwrap(),
    );
    for number in 0..200 {
        write(&db, vec![put(&format!("k{number:03}"), &"v".repeat(50))]);
    }
    let expected = seen(db.as_ref());
    let mut slow = db.scan(&[0], &[0xff]);
    let mut read: Image = Image::new();
    for (number, record) in slow.by_ref().take(100).enumerate() {
        let (key, value) = record.unwrap();
        read.insert(key.as_ref().to_vec(), value.as_ref().to_vec());
        if number == 10 {
            let (done, ended) = mpsc::channel();
            db.defragment(Defragment {
                free_bytes_min: 0,
                done: Box::new(move |defragmented| done.send(defragmented).unwrap()),
            });
            assert_eq!(ended.recv().unwrap(), Ok(()));
        }
    }
    for record in slow {
        let (key, value) = record.unwrap();
        read.insert(key.as_ref().to_vec(), value.as_ref().to_vec());
    }
    assert_eq!((read, engines.choices()), (expected, 1));
}

/// What a store does in a run.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u16),
    Remove(u8),
    Defragment,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<u8>(), 1..600u16).prop_map(|(key, bytes)| Step::Put(key % 40, bytes)),
        3 => any::<u8>().prop_map(|key| Step::Remove(key % 40)),
        1 => Just(Step::Defragment),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is lost and nothing comes back, whatever is written while engines are copied, and whenever all stops.
    #[test]
    fn whatever_is_written_meanwhile_survives(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let engines = MemoryEngines::on(MemoryDisk::default());
        let db = open_on(dir.path(), &engines);
        let (mut model, ended) = (Image::new(), Ended::default());
        for (step, number) in steps.into_iter().zip(0..) {
            match step {
                Step::Put(key, bytes) => {
                    let value = format!("{number}{}", "x".repeat(usize::from(bytes)));
                    write(&db, vec![put(&format!("k{key:02}"), &value)]);
                    model.insert(format!("k{key:02}").into_bytes(), value.into_bytes());
                }
                Step::Remove(key) => {
                    write(&db, vec![Change::Remove(Bytes::from(format!("k{key:02}")))]);
                    model.remove(format!("k{key:02}").as_bytes());
                }
                Step::Defragment => db.defragment(order(&ended)),
            }
            if number % 8 > 0 {
                continue;
            }
            prop_assert_eq!(&seen(&db), &model);
            // The power goes: the log is what it is, and of the engine in use only what is durable is left.
            let after = MemoryEngines::on(engines.chosen().after_power_cut(0));
            prop_assert_eq!(&seen(&open_on(copied(dir.path()).path(), &after)), &model);
        }
        prop_assert!(ended.lock().unwrap().iter().all(Result::is_ok));
    }
}

#[test]
fn a_power_cut_at_any_sync_leaves_a_store_that_has_everything() {
    let disk = Arc::new(LoggedDisk::default());
    let cuts: Arc<Mutex<Vec<LoggedDisk>>> = Arc::default();
    {
        let (disk, cuts) = (Arc::downgrade(&disk), Arc::clone(&cuts));
        disk.upgrade().unwrap().while_syncing(move || {
            if let Some(disk) = disk.upgrade() {
                let mut cuts = cuts.lock().unwrap();
                cuts.push(disk.after_power_cut(Kept::Oldest(0)));
                cuts.push(disk.after_power_cut(Kept::Newest));
            }
        });
    }
    let limits = super::super::StorageLimits {
        log_bytes_max: super::log::LOG_BYTES_MAX,
        ..tiny()
    };
    let (mut writer, _view) = disk.open(limits.clone()).unwrap();
    let ended = Ended::default();
    let mut acknowledged = Vec::new();
    for number in 0..80 {
        if number % 20 == 5 {
            let ended = Arc::clone(&ended);
            writer.defragment(Box::new(move |done| ended.lock().unwrap().push(done)));
        }
        writer
            .apply(
                &put_key(&format!("k{}", number % 9), &"v".repeat(90)),
                false,
            )
            .unwrap();
        let commits = writer.commit().unwrap();
        acknowledged.push((cuts.lock().unwrap().len(), plain(&commits[0])));
    }
    assert!(!ended.lock().unwrap().is_empty() && ended.lock().unwrap().iter().all(Result::is_ok));
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    assert!(
        cuts.len() > 160,
        "there is a cut at every sync: {}",
        cuts.len()
    );
    for (number, cut) in cuts.into_iter().enumerate() {
        let (_, view) = cut.open(limits.clone()).unwrap();
        let expected: Vec<_> = acknowledged
            .iter()
            .filter(|(cuts, _)| *cuts <= number)
            .map(|(_, commit)| commit.clone())
            .collect();
        let through = expected
            .last()
            .map_or(Revision(1), |(revision, _)| *revision);
        let found = history(&view, 2, through.0).unwrap();
        assert_eq!(
            found.iter().map(|commit| plain(commit)).collect::<Vec<_>>(),
            expected,
            "cut {number}"
        );
    }
}

#[test]
fn what_is_not_chosen_is_removed_as_the_store_is_opened() {
    let (dir, engines) = (
        tempfile::tempdir().unwrap(),
        MemoryEngines::on(MemoryDisk::default()),
    );
    engines.make().map(drop).unwrap();
    assert!(engines.made().is_some());
    open_on(dir.path(), &engines).close();
    assert!(engines.made().is_none());
}
