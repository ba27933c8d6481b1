//! Reads single changes by place: from the cache, or the block that holds them.
//!
//! It decides nothing: a change that is not there any more is answered as absent, and the caller asks why.

use super::StorageError;
use super::codec::{Block, Place, block_bounds, block_key, parse_block_key, piece_count};
use super::core::Core;
use super::database::{Database, Scan, Stored};
use crate::model::KeyValue;
use std::collections::HashMap;
use std::sync::Arc;

/// Changes in the order in which they were asked for; absent ones were compacted away.
pub(crate) type Fetched = Vec<Option<Arc<KeyValue>>>;

/// The changes at these places if all are cached.
pub(crate) fn fetch_cached(core: &Core, places: &[Place]) -> Option<Fetched> {
    places
        .iter()
        .map(|place| core.values.get(*place).map(Some))
        .collect()
}

/// The changes at these places, each block read once.
pub(crate) fn fetch(core: &Core, places: &[Place]) -> Result<Fetched, StorageError> {
    let mut found: Fetched = places.iter().map(|place| core.values.get(*place)).collect();
    let mut missing: Vec<Place> = places
        .iter()
        .zip(&found)
        .filter_map(|(place, kv)| kv.is_none().then_some(*place))
        .collect();
    if missing.is_empty() {
        return Ok(found);
    }
    missing.sort_unstable();
    missing.dedup();
    let mut read = HashMap::with_capacity(missing.len());
    for places in missing.chunks(core.limits.keys_per_lock_max.max(1)) {
        read_missing(core, places, &mut read)?;
    }
    for (place, kv) in places.iter().zip(&mut found) {
        if kv.is_none() {
            *kv = read.get(place).cloned();
        }
    }
    Ok(found)
}

/// Reads these ascending places from disk into `read`, and caches them.
fn read_missing(
    core: &Core,
    places: &[Place],
    read: &mut HashMap<Place, Arc<KeyValue>>,
) -> Result<(), StorageError> {
    let blocks: Vec<Option<Place>> = {
        let index = core.index();
        let block_of = |place: &Place| index.blocks.block_of(*place).map(|(at, _)| at);
        places.iter().map(block_of).collect()
    };
    let mut open: Option<Block> = None;
    for (place, block_at) in places.iter().zip(blocks) {
        let Some(block_at) = block_at else { continue };
        if open.as_ref().is_none_or(|block| block.place() != block_at) {
            open = read_block(core, block_at)?;
        }
        let Some(block) = &open else { continue };
        if let Some(record) = block.find(*place)? {
            let kv = Arc::new(record.to_key_value());
            core.values.insert(*place, Arc::clone(&kv));
            read.insert(*place, kv);
        }
    }
    Ok(())
}

/// One block, or nothing when it is gone.
pub(crate) fn read_block(core: &Core, at: Place) -> Result<Option<Block>, StorageError> {
    let Some(first) = core.db.get(&block_key(at, 0))? else {
        return Ok(None);
    };
    let pieces = piece_count(at, first.as_ref())?;
    let mut all = Vec::with_capacity(usize::from(pieces));
    all.push(first);
    for piece in 1..pieces {
        match core.db.get(&block_key(at, piece))? {
            Some(bytes) => all.push(bytes),
            None if is_gone(core, at) => return Ok(None),
            None => return Err(missing_piece(at, piece)),
        }
    }
    Block::join(at, all).map(Some)
}

/// True when compaction has removed the block: it is forgotten before its first piece goes.
fn is_gone(core: &Core, at: Place) -> bool {
    let found = core.index().blocks.block_of(at);
    found.is_none_or(|(found, _)| found != at)
}

fn missing_piece(at: Place, piece: u16) -> StorageError {
    StorageError::corrupt("block", at.to_string(), format!("piece {piece} is missing"))
}

/// The blocks of a part of history, in order.
pub(crate) struct Blocks<'a> {
    scan: Scan<'a>,
    /// Where to ask whether a block that has lost a piece was compacted away; nothing while the store is opened.
    core: Option<&'a Core>,
    /// The record behind a block that has lost a piece.
    ahead: Option<(Stored, Stored)>,
}

impl<'a> Blocks<'a> {
    /// The blocks kept at `from` or later, before `until`.
    pub(crate) fn new(core: &'a Core, from: Place, until: Place) -> Self {
        let (from, until) = block_bounds(from, Some(until));
        Self {
            scan: core.db.scan(&from, &until),
            core: Some(core),
            ahead: None,
        }
    }

    /// All blocks from `from` on of a store that nobody else uses yet.
    pub(crate) fn of(db: &'a dyn Database, from: Place) -> Self {
        let (from, until) = block_bounds(from, None);
        Self {
            scan: db.scan(&from, &until),
            core: None,
            ahead: None,
        }
    }

    /// The block that begins with this record, or nothing when it went while it was read.
    fn read(&mut self, key: &Stored, first: Stored) -> Result<Option<Block>, StorageError> {
        let (at, piece) = parse_block_key(key.as_ref())?;
        if piece != 0 {
            return Err(missing_piece(at, 0));
        }
        let pieces = piece_count(at, first.as_ref())?;
        let mut all = Vec::with_capacity(usize::from(pieces));
        all.push(first);
        for piece in 1..pieces {
            let next = self.scan.next().transpose()?;
            match next {
                Some((key, bytes)) if parse_block_key(key.as_ref())? == (at, piece) => {
                    all.push(bytes);
                }
                next if self.core.is_some_and(|core| is_gone(core, at)) => {
                    self.ahead = next;
                    return Ok(None);
                }
                _ => return Err(missing_piece(at, piece)),
            }
        }
        Block::join(at, all).map(Some)
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let item = match self.ahead.take() {
                Some(ahead) => Ok(ahead),
                None => self.scan.next()?,
            };
            let block = item.and_then(|(key, bytes)| self.read(&key, bytes));
            match block.transpose() {
                // A last piece whose block went is no block; go on behind it.
                None => {}
                block => return block,
            }
        }
    }
}
