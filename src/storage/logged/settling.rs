//! How a generation of the commit log goes into the engine, and what proves that it did.
//!
//! It never marks a generation as settled before its changes are durable.

use super::Layer;
use crate::fault::{self, Fault};
use crate::storage::StorageError;
use crate::storage::codec::{
    KEY_LAST_BLOCK, KEY_SETTLED, decode_last_block, encode_last_block, encode_settled,
    parse_block_key,
};
use crate::storage::database::{Change, Database, Stored};
use bytes::Bytes;

/// How large a batch is that goes into the engine, in records and bytes: it holds the engine's lock for its whole length.
const BATCH_RECORDS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Puts changes into the engine, durably, and then the mark that says so: the log may begin anew only behind the mark.
pub(super) fn settle(
    engine: &dyn Database,
    generation: u64,
    layer: &Layer,
) -> Result<(), StorageError> {
    write_layer(engine, layer)?;
    let is_unsynced = fault::active(Fault::SettledWithoutSync);
    if !fault::active(Fault::SettledMarkBeforeSync) && !is_unsynced {
        engine.sync()?;
    }
    write_marks(engine, generation, layer)?;
    if is_unsynced {
        return Ok(());
    }
    engine.sync()
}

/// The same for the copy of an engine, which nobody opens before it is synced as a whole.
pub(super) fn settle_copy(
    copy: &dyn Database,
    generation: u64,
    layer: &Layer,
) -> Result<(), StorageError> {
    write_layer(copy, layer)?;
    write_marks(copy, generation, layer)
}

fn write_layer(engine: &dyn Database, layer: &Layer) -> Result<(), StorageError> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (key, value) in layer {
        bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        batch.push(match value {
            Some(value) => Change::Put(key.clone(), value.clone()),
            None => Change::Remove(key.clone()),
        });
        if batch.len() >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX {
            engine.apply(std::mem::take(&mut batch))?;
            bytes = 0;
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    engine.apply(batch)
}

fn write_marks(engine: &dyn Database, generation: u64, layer: &Layer) -> Result<(), StorageError> {
    let mark = Change::Put(Bytes::from_static(KEY_SETTLED), encode_settled(generation)?);
    let mut marks = vec![mark];
    marks.extend(last_block(engine, layer)?);
    engine.apply(marks)
}

/// What changes of the record of the last block: without it, history that lost its end would look like one that is shorter.
fn last_block(engine: &dyn Database, layer: &Layer) -> Result<Option<Change>, StorageError> {
    let known = match engine.get(KEY_LAST_BLOCK)? {
        Some(known) => decode_last_block(known.as_ref())?,
        None => Vec::new(),
    };
    let is_block =
        |(key, value): &(&Bytes, &Option<Bytes>)| value.is_some() && parse_block_key(key).is_ok();
    let key = Bytes::from_static(KEY_LAST_BLOCK);
    Ok(match layer.iter().rev().find(is_block) {
        Some((last, _)) if last[..] > known[..] => Some(Change::Put(key, encode_last_block(last)?)),
        // It was removed, and which is the last now is known with the next.
        _ if layer.get(&known[..]) == Some(&None) => Some(Change::Remove(key)),
        _ => None,
    })
}

/// Sees that the engine has what it was given last: it may lose its end to damage, or a page, and say nothing. Where a
/// later generation has the same key it may have been given that already.
pub(super) fn check_settled(
    engine: &dyn Database,
    given: &Layer,
    after: &Layer,
) -> Result<(), StorageError> {
    let damaged = |key: &[u8]| {
        let reason = "it is not what was written: a part of the data is lost";
        Err(StorageError::corrupt(
            "data",
            format!("record {key:?}"),
            reason,
        ))
    };
    if let Some(last) = engine.get(KEY_LAST_BLOCK)? {
        let last = decode_last_block(last.as_ref())?;
        if !after.contains_key(&last[..]) && engine.get(&last)?.is_none() {
            return damaged(&last);
        }
    }
    for (key, value) in given.iter().filter(|(key, _)| !after.contains_key(*key)) {
        let found = engine.get(key)?;
        if found.as_ref().map(Stored::as_ref) != value.as_deref() {
            return damaged(key);
        }
    }
    Ok(())
}
