//! The checkpoint file: the index in frames, each with a check of its own.
//!
//! A file is good only as a whole: the last frame says how much there was. It is never needed, only faster than
//! reading all blocks, so whoever reads it may throw it away for any fault.

use super::super::StorageError;
use super::super::block_table::BlockStat;
use super::super::key_index::Slot;
use super::{Identity, Place, read_u32, to_u32};
use crate::model::{LeaseId, Revision};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// First bytes of the file; the last is the version.
const MAGIC: &[u8; 8] = b"vigilix\x02";
/// Kind, length and CRC-32 of a frame.
const FRAME_HEAD_BYTES: usize = 9;
/// No frame is larger, in bytes: a damaged length must not ask for all memory.
const FRAME_BYTES_MAX: usize = 1 << 30;
const WHAT: &str = "checkpoint";

/// What a checkpoint stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointHead {
    /// Whose it is.
    pub identity: Identity,
    /// The last revision in it.
    pub revision: Revision,
    /// How many batches compaction had written in all: after one more it is of no use.
    pub compaction_steps: u64,
}

/// How much a checkpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    keys: u64,
    blocks: u64,
    attached: u64,
}

/// One frame.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Keys in order with their changes.
    Keys(Vec<(Bytes, Vec<Slot>)>),
    /// Blocks in order.
    Blocks(Vec<(Place, BlockStat)>),
    /// Keys in order with the leases they are attached to.
    Attached(Vec<(Bytes, LeaseId)>),
    /// There is no more, and nothing is missing.
    End,
}

/// Writes a checkpoint.
#[derive(Debug)]
pub(crate) struct CheckpointWriter<W> {
    out: W,
    totals: Totals,
}

impl<W: Write> CheckpointWriter<W> {
    /// Begins a file.
    pub(crate) fn new(mut out: W, head: &CheckpointHead) -> Result<Self, StorageError> {
        out.write_all(MAGIC).map_err(failed)?;
        let mut writer = Self {
            out,
            totals: Totals::default(),
        };
        writer.frame(b'h', head)?;
        Ok(writer)
    }

    /// Adds keys behind those before.
    pub(crate) fn keys(&mut self, keys: &[(Bytes, Vec<Slot>)]) -> Result<(), StorageError> {
        self.totals.keys += keys.len() as u64;
        self.frame(b'k', keys)
    }

    /// Adds blocks behind those before.
    pub(crate) fn blocks(&mut self, blocks: &[(Place, BlockStat)]) -> Result<(), StorageError> {
        self.totals.blocks += blocks.len() as u64;
        self.frame(b'b', blocks)
    }

    /// Adds keys that are attached to leases behind those before.
    pub(crate) fn attached(&mut self, attached: &[(Bytes, LeaseId)]) -> Result<(), StorageError> {
        self.totals.attached += attached.len() as u64;
        self.frame(b'l', attached)
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> Result<W, StorageError> {
        let totals = self.totals;
        self.frame(b'e', &totals)?;
        Ok(self.out)
    }

    fn frame<T: Serialize + ?Sized>(&mut self, kind: u8, value: &T) -> Result<(), StorageError> {
        let body = bincode::serialize(value).map_err(failed)?;
        let mut head = vec![kind];
        head.extend_from_slice(&to_u32(body.len()).to_be_bytes());
        head.extend_from_slice(&frame_check(kind, &body).to_be_bytes());
        self.out.write_all(&head).map_err(failed)?;
        self.out.write_all(&body).map_err(failed)
    }
}

/// Reads a checkpoint.
#[derive(Debug)]
pub(crate) struct CheckpointReader<R> {
    input: R,
    totals: Totals,
}

impl<R: Read> CheckpointReader<R> {
    /// Begins a file.
    pub(crate) fn new(mut input: R) -> Result<(CheckpointHead, Self), StorageError> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).map_err(damaged)?;
        if &magic != MAGIC {
            return Err(damaged("not a checkpoint, or of another version"));
        }
        let mut reader = Self {
            input,
            totals: Totals::default(),
        };
        match reader.raw_frame()? {
            (b'h', body) => Ok((parse(&body)?, reader)),
            _ => Err(damaged("it has no head")),
        }
    }

    /// The next frame.
    pub(crate) fn next(&mut self) -> Result<Frame, StorageError> {
        let (kind, body) = self.raw_frame()?;
        match kind {
            b'k' => {
                let keys: Vec<(Bytes, Vec<Slot>)> = parse(&body)?;
                self.totals.keys += keys.len() as u64;
                Ok(Frame::Keys(keys))
            }
            b'b' => {
                let blocks: Vec<(Place, BlockStat)> = parse(&body)?;
                self.totals.blocks += blocks.len() as u64;
                Ok(Frame::Blocks(blocks))
            }
            b'l' => {
                let attached: Vec<(Bytes, LeaseId)> = parse(&body)?;
                self.totals.attached += attached.len() as u64;
                Ok(Frame::Attached(attached))
            }
            b'e' if parse::<Totals>(&body)? == self.totals => Ok(Frame::End),
            _ => Err(damaged("a frame is missing or unknown")),
        }
    }

    fn raw_frame(&mut self) -> Result<(u8, Vec<u8>), StorageError> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.input.read_exact(&mut head).map_err(damaged)?;
        let (Some(&kind), Some(len), Some(check)) =
            (head.first(), read_u32(&head, 1), read_u32(&head, 5))
        else {
            return Err(damaged("it is cut short"));
        };
        let len = len as usize;
        if len > FRAME_BYTES_MAX {
            return Err(damaged("a frame is too long"));
        }
        let mut body = Vec::new();
        let read = (&mut self.input).take(len as u64).read_to_end(&mut body);
        if read.map_err(damaged)? != len || frame_check(kind, &body) != check {
            return Err(damaged("a checksum is wrong"));
        }
        Ok((kind, body))
    }
}

fn frame_check(kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(body);
    hasher.finalize()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, StorageError> {
    bincode::deserialize(body).map_err(damaged)
}

fn failed(reason: impl ToString) -> StorageError {
    StorageError::disk("write the checkpoint", reason)
}

fn damaged(reason: impl ToString) -> StorageError {
    StorageError::corrupt(WHAT, "checkpoint file", reason.to_string())
}
