//! Every record comes back as it was written, and no bytes make a panic.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the numbers of a test are small"
)]

use super::super::database::Stored;
use super::super::key_index::Slot;
use super::*;
use crate::model::{KeyValue, LeaseId};
use bytes::Bytes;
use proptest::prelude::*;

fn key_value() -> impl Strategy<Value = KeyValue> {
    let bytes = |len| prop::collection::vec(any::<u8>(), 0..len).prop_map(Bytes::from);
    (
        bytes(20),
        bytes(300),
        0..i64::MAX,
        0..i64::MAX,
        any::<i64>(),
    )
        .prop_map(|(key, value, create, version, lease)| KeyValue {
            key,
            value,
            create_revision: Revision(create),
            version,
            lease: LeaseId(lease),
            ..KeyValue::default()
        })
}

fn place_of(number: usize) -> Place {
    Place {
        main: Revision(10 + number as i64 / 3),
        sub: number as u32 % 3,
    }
}

fn build(kvs: &mut [KeyValue], complete: bool, piece_bytes_max: usize) -> Vec<Vec<u8>> {
    let mut builder = BlockBuilder::default();
    let mut expected_bytes = 0;
    for (kv, number) in kvs.iter_mut().zip(0..) {
        let place = place_of(number);
        kv.mod_revision = place.main;
        expected_bytes = builder.bytes_with(kv);
        builder.push(place.sub, kv).unwrap();
    }
    let pieces = builder
        .finish(place_of(0), complete, piece_bytes_max)
        .unwrap();
    assert_eq!(pieces.iter().map(Vec::len).sum::<usize>(), expected_bytes);
    pieces
}

fn join(pieces: &[Vec<u8>]) -> Result<Block, StorageError> {
    let stored = pieces
        .iter()
        .map(|piece| Stored::from(Bytes::copy_from_slice(&piece[..])))
        .collect();
    Block::join(place_of(0), stored)
}

proptest! {
    #[test]
    fn block_comes_back_as_it_was_written(
        mut kvs in prop::collection::vec(key_value(), 1..12),
        complete: bool,
        piece_bytes_max in 16..2000_usize,
    ) {
        let pieces = build(&mut kvs, complete, piece_bytes_max);
        prop_assert!(pieces.iter().all(|piece| piece.len() <= piece_bytes_max));
        let count = piece_count(place_of(0), &pieces[0]).unwrap();
        prop_assert_eq!(usize::from(count), pieces.len());
        let block = join(&pieces).unwrap();
        prop_assert_eq!(block.is_complete(), complete);
        prop_assert_eq!(usize::from(block.pieces()), pieces.len());
        let found: Vec<_> = block.iter().map(|record| record.unwrap().to_key_value()).collect();
        prop_assert_eq!(&found, &kvs);
        for (kv, number) in kvs.iter().zip(0..) {
            let record = block.find(place_of(number)).unwrap().unwrap();
            prop_assert_eq!(&record.to_key_value(), kv);
            prop_assert_eq!(block.lower_bound(place_of(number)).unwrap(), number as u32);
        }
        prop_assert!(block.find(place_of(kvs.len())).unwrap().is_none());
        prop_assert!(block.find(Place::default()).unwrap().is_none());
    }

    #[test]
    fn changed_byte_of_a_block_is_damage(
        mut kvs in prop::collection::vec(key_value(), 1..4),
        at: prop::sample::Index,
        change in 1..=u8::MAX,
    ) {
        let mut pieces = build(&mut kvs, true, usize::MAX);
        let at = at.index(pieces[0].len());
        pieces[0][at] ^= change;
        join(&pieces).unwrap_err();
    }

    #[test]
    fn any_bytes_are_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let stored = Stored::from(Bytes::copy_from_slice(&bytes[..]));
        prop_assert!(Block::join(Place::default(), vec![stored]).is_err());
        prop_assert!(decode_identity(&bytes).is_err());
        prop_assert!(decode_compaction(&bytes).is_err());
        prop_assert!(decode_marks(Place::default(), 3, &bytes).is_err());
        prop_assert!(CheckpointReader::new(&bytes[..]).is_err());
        if let Ok((place, piece)) = parse_block_key(&bytes) {
            prop_assert_eq!(block_key(place, piece), bytes);
        }
    }

    #[test]
    fn keys_sort_as_their_places_do(
        (main, sub, piece) in (0..i64::MAX, any::<u32>(), any::<u16>()),
        (other_main, other_sub, other_piece) in (0..i64::MAX, any::<u32>(), any::<u16>()),
    ) {
        let place = Place { main: Revision(main), sub };
        let other = Place { main: Revision(other_main), sub: other_sub };
        let (key, other_key) = (block_key(place, piece), block_key(other, other_piece));
        prop_assert_eq!(key.cmp(&other_key), (place, piece).cmp(&(other, other_piece)));
        prop_assert_eq!(parse_block_key(&key).unwrap(), (place, piece));
        prop_assert_eq!(parse_marks_key(&marks_key(place)).unwrap(), place);
        let (from, until) = block_bounds(place, Some(other));
        prop_assert_eq!((from..until).contains(&key), place < other);
    }
}

#[test]
fn block_under_the_key_of_another_is_damage() {
    let pieces = build(&mut [KeyValue::default()], true, 1000);
    let stored = vec![Stored::from(Bytes::copy_from_slice(&pieces[0][..]))];
    Block::join(place_of(3), stored).unwrap_err();
}

#[test]
fn block_of_a_later_format_is_refused_by_name() {
    let mut pieces = build(&mut [KeyValue::default()], true, 1000);
    pieces[0][0] = 2;
    let error = join(&pieces).unwrap_err();
    assert_eq!(
        error.to_string(),
        "block has format 2, and this program knows 1"
    );
}

#[test]
fn small_records_come_back_as_they_were_written() {
    let identity = Identity {
        cluster_id: 7,
        member_id: 9,
    };
    let state = CompactionState {
        scheduled: Revision(5),
        finished: Revision(-1),
        steps: 3,
    };
    assert_eq!(
        decode_identity(&encode_identity(&identity).unwrap()).unwrap(),
        identity
    );
    assert_eq!(
        decode_compaction(&encode_compaction(&state).unwrap()).unwrap(),
        state
    );
    let marks = encode_marks(9, vec![0, 4, 8]).unwrap();
    assert_eq!(
        decode_marks(Place::default(), 9, &marks).unwrap(),
        [0, 4, 8]
    );
    decode_marks(Place::default(), 8, &marks).unwrap_err();
    let disordered = encode_marks(9, vec![4, 0]).unwrap();
    decode_marks(Place::default(), 9, &disordered).unwrap_err();
}

#[test]
fn checkpoint_comes_back_as_it_was_written_and_only_whole() {
    let head = CheckpointHead {
        identity: Identity {
            cluster_id: 1,
            member_id: 2,
        },
        revision: Revision(50),
        compaction_steps: 4,
    };
    let slot = Slot {
        main: Revision(3),
        create_revision: Revision(2),
        version: 2,
        sub: 1,
        value_bytes: 5,
    };
    let keys = vec![
        (Bytes::from("a"), vec![slot, slot]),
        (Bytes::from("b"), vec![slot]),
    ];
    let mut writer = CheckpointWriter::new(Vec::new(), &head).unwrap();
    writer.keys(&keys).unwrap();
    writer
        .blocks(&[(place_of(0), super::super::block_table::BlockStat::default())])
        .unwrap();
    let attached = vec![(Bytes::from_static(b"a"), LeaseId(-9))];
    writer.attached(&attached).unwrap();
    let file = writer.finish().unwrap();

    let whole = |file: &[u8]| -> Result<usize, StorageError> {
        let (found, mut reader) = CheckpointReader::new(file)?;
        assert_eq!(found, head);
        let mut frames = 0;
        loop {
            match reader.next()? {
                Frame::Keys(found) => assert_eq!(found, keys),
                Frame::Blocks(found) => assert_eq!(found[0].0, place_of(0)),
                Frame::Attached(found) => assert_eq!(found, attached),
                Frame::End => return Ok(frames),
            }
            frames += 1;
        }
    };
    assert_eq!(whole(&file).unwrap(), 3);
    for len in 0..file.len() {
        whole(&file[..len]).unwrap_err();
    }
}
