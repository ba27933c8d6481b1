//! The bytes of a snapshot: a head, blocks, an end, zeros, and a checksum over all of it.
//!
//! How long one is, is known before its first byte is written, and its head says it. Nothing in it depends on how the data lay
//! on the disk but where one block ends and the next begins.

use super::super::StorageError;
use super::meta::Identity;
use super::{Place, to_u32};
use crate::fault::{Fault, active};
use crate::model::{LeaseId, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// What every snapshot begins with, and then the version of its format.
const NAME: &str = "vigilsn";
const VERSION: u8 = 1;
const MAGIC_BYTES: usize = NAME.len() + 1;
/// Kind, length, CRC-32.
const FRAME_HEAD_BYTES: usize = 9;
/// Main and sub revision.
const PLACE_BYTES: usize = 12;
/// What precedes the records in a block.
const BLOCK_HEAD_BYTES: usize = 16;
/// A head in bincode: four numbers of 64 bits and one more.
const HEAD_BYTES: usize = 40;
/// An end in bincode: a number of 64 bits and one of 32.
const END_BYTES: usize = 12;
/// A list of leases in bincode: its length, and two numbers for each.
const LEASES_HEAD_BYTES: usize = 8;
const LEASE_BYTES: usize = 16;
const SHA256_BYTES: usize = 32;
/// Clients of the API expect that a snapshot is so many bytes, some number of times, and then the checksum.
const UNIT_BYTES: u64 = 512;
/// How much is read of a file at a time.
const READ_BYTES: usize = 1 << 16;

const CUT_SHORT: &str = "it is cut short";

/// What a snapshot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    /// The store that it was taken from.
    pub identity: Identity,
    /// All changes up to here are in it.
    pub revision: Revision,
    /// The oldest revision that can be read from it.
    pub compact_revision: Revision,
    /// How long it is, the checksum included.
    pub bytes: u64,
}

/// How many records a snapshot has, and their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotEnd {
    pub records: u64,
    pub hash: u32,
}

/// A part of a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotFrame {
    /// The bytes of a block, which was kept under this place.
    Block(Place, Vec<u8>),
    /// Leases, each with how many seconds it lives.
    Leases(Vec<(LeaseId, i64)>),
    /// There are no more blocks.
    End(SnapshotEnd),
}

/// How many leases one part holds.
pub(crate) const SNAPSHOT_LEASES_PER_PART: usize = 4096;

/// How long a snapshot is whose records take so many bytes in so many blocks, and which has so many leases.
pub(crate) fn snapshot_bytes(record_bytes: u64, blocks: u64, leases: usize) -> u64 {
    let lease_parts = leases.div_ceil(SNAPSHOT_LEASES_PER_PART);
    let lease_bytes = lease_parts * (FRAME_HEAD_BYTES + LEASES_HEAD_BYTES) + leases * LEASE_BYTES;
    let per_block = (FRAME_HEAD_BYTES + PLACE_BYTES + BLOCK_HEAD_BYTES) as u64;
    let ends = MAGIC_BYTES + 2 * FRAME_HEAD_BYTES + HEAD_BYTES + END_BYTES;
    let bytes = record_bytes + blocks * per_block + (ends + lease_bytes) as u64;
    bytes.next_multiple_of(UNIT_BYTES) + SHA256_BYTES as u64
}

/// The first bytes.
pub(crate) fn encode_snapshot_head(head: &SnapshotHead) -> Result<Vec<u8>, StorageError> {
    let mut bytes = NAME.as_bytes().to_vec();
    bytes.push(VERSION);
    bytes.extend(frame(b'h', &encode(head)?));
    Ok(bytes)
}

/// A block, whole.
pub(crate) fn encode_snapshot_block(place: Place, block: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(PLACE_BYTES + block.len());
    body.extend_from_slice(&place.main.0.to_be_bytes());
    body.extend_from_slice(&place.sub.to_be_bytes());
    body.extend_from_slice(block);
    frame(b'r', &body)
}

/// Leases, each with how many seconds it lives; no more than [`SNAPSHOT_LEASES_PER_PART`].
pub(crate) fn encode_snapshot_leases(leases: &[(LeaseId, i64)]) -> Result<Vec<u8>, StorageError> {
    Ok(frame(b'l', &encode(&leases)?))
}

/// What follows the last block.
pub(crate) fn encode_snapshot_end(end: &SnapshotEnd) -> Result<Vec<u8>, StorageError> {
    Ok(frame(b'e', &encode(end)?))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StorageError> {
    bincode::serialize(value).map_err(|error| StorageError::disk("encode a snapshot", error))
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&to_u32(body.len()).to_be_bytes());
    bytes.extend_from_slice(&check(kind, body).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn check(kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(body);
    hasher.finalize()
}

/// The checksum of a snapshot while it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotSum(Sha256);

impl SnapshotSum {
    /// Adds bytes behind those before.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The last bytes of the snapshot.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

/// What a snapshot has before its checksum.
pub(crate) fn bytes_before_sum(snapshot_bytes: u64) -> u64 {
    snapshot_bytes.saturating_sub(SHA256_BYTES as u64)
}

/// Reads a snapshot from a file. Whatever is wrong with it is an error that names the file and the place.
#[derive(Debug)]
pub(crate) struct SnapshotReader {
    input: BufReader<File>,
    path: PathBuf,
    /// How much was read.
    at: u64,
    sum: SnapshotSum,
    head: SnapshotHead,
}

impl SnapshotReader {
    /// Begins a file.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(|error| unread(path, &error))?;
        let mut reader = Self {
            input: BufReader::with_capacity(READ_BYTES, file),
            path: path.to_path_buf(),
            at: 0,
            sum: SnapshotSum::default(),
            head: SnapshotHead {
                identity: Identity {
                    cluster_id: 0,
                    member_id: 0,
                },
                revision: Revision(0),
                compact_revision: Revision(0),
                bytes: 0,
            },
        };
        reader.read_magic()?;
        let at = reader.at;
        let (kind, body) = reader.frame()?;
        if kind != b'h' {
            return Err(reader.damaged(at, "its head is missing"));
        }
        reader.head = reader.decode(at, &body)?;
        Ok(reader)
    }

    /// What it stands for.
    pub(crate) fn head(&self) -> SnapshotHead {
        self.head
    }

    /// The next part, and where it begins. Behind the end is nothing to be read but by [`Self::finish`].
    pub(crate) fn next(&mut self) -> Result<(u64, SnapshotFrame), StorageError> {
        let at = self.at;
        let (kind, body) = self.frame()?;
        let frame = match kind {
            b'r' => {
                let place = body.split_at_checked(PLACE_BYTES).and_then(|(place, _)| {
                    let (main, sub) = place.split_at_checked(8)?;
                    Some(Place {
                        main: Revision(i64::from_be_bytes(main.try_into().ok()?)),
                        sub: u32::from_be_bytes(sub.try_into().ok()?),
                    })
                });
                let place = place.ok_or_else(|| self.damaged(at, "a block has no place"))?;
                let block = body.get(PLACE_BYTES..).unwrap_or_default().to_vec();
                SnapshotFrame::Block(place, block)
            }
            b'l' => SnapshotFrame::Leases(self.decode(at, &body)?),
            b'e' => SnapshotFrame::End(self.decode(at, &body)?),
            _ => return Err(self.damaged(at, "a part of an unknown kind")),
        };
        Ok((at, frame))
    }

    /// Reads what is behind the end, and compares the checksum.
    pub(crate) fn finish(mut self) -> Result<(), StorageError> {
        let end = bytes_before_sum(self.head.bytes);
        while self.at < end {
            let at = self.at;
            let zeros = self.read((end - self.at).min(READ_BYTES as u64), at)?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(self.damaged(at, "there is something behind its end"));
            }
        }
        let sum = std::mem::take(&mut self.sum).finish();
        let at = self.at;
        let is_whole = self.read(SHA256_BYTES as u64, at)? == sum;
        if !is_whole && !active(Fault::RestoreSkipsChecksum) {
            return Err(self.damaged(at, "its checksum is wrong"));
        }
        let mut more = [0];
        match self.input.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged(self.at, "it goes on behind its checksum")),
            Err(error) => Err(unread(&self.path, &error)),
        }
    }

    /// An error at a place of the file.
    pub(crate) fn damaged(&self, at: u64, reason: &str) -> StorageError {
        StorageError::Snapshot {
            path: self.path.clone(),
            at,
            reason: reason.to_owned(),
        }
    }

    fn read_magic(&mut self) -> Result<(), StorageError> {
        let mut magic = Vec::new();
        let input = Read::by_ref(&mut self.input);
        let read = input.take(MAGIC_BYTES as u64).read_to_end(&mut magic);
        read.map_err(|error| unread(&self.path, &error))?;
        let name = NAME.as_bytes();
        if !magic.starts_with(name) && !name.starts_with(&magic) {
            let path = self.path.clone();
            return Err(StorageError::NotSnapshot { path, name: NAME });
        }
        match magic.get(name.len()) {
            Some(&VERSION) => {}
            Some(&found) => {
                return Err(StorageError::Format {
                    what: "snapshot",
                    found,
                    known: VERSION,
                });
            }
            None => return Err(self.damaged(0, CUT_SHORT)),
        }
        self.sum.update(&magic);
        self.at = magic.len() as u64;
        Ok(())
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), StorageError> {
        let at = self.at;
        let head = self.read(FRAME_HEAD_BYTES as u64, at)?;
        let number = |from: usize| super::read_u32(&head, from).unwrap_or_default();
        let kind = head.first().copied().unwrap_or_default();
        let body = self.read(number(1).into(), at)?;
        if check(kind, &body) != number(5) {
            return Err(self.damaged(at, "a part of it fails its check"));
        }
        Ok((kind, body))
    }

    fn decode<T: DeserializeOwned>(&self, at: u64, body: &[u8]) -> Result<T, StorageError> {
        bincode::deserialize(body).map_err(|error| self.damaged(at, &error.to_string()))
    }

    /// So many bytes of a part that begins at `part_at`; memory is taken for those alone that are there.
    fn read(&mut self, bytes: u64, part_at: u64) -> Result<Vec<u8>, StorageError> {
        let mut read = Vec::new();
        let input = Read::by_ref(&mut self.input);
        if let Err(error) = input.take(bytes).read_to_end(&mut read) {
            return Err(unread(&self.path, &error));
        }
        if read.len() as u64 != bytes {
            return Err(self.damaged(part_at, CUT_SHORT));
        }
        self.sum.update(&read);
        self.at += bytes;
        Ok(read)
    }
}

fn unread(path: &Path, error: &std::io::Error) -> StorageError {
    StorageError::SnapshotUnread {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}
