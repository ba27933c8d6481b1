//! `snapshot save`: all data of a server, into a file.
//!
//! The file has its name only once all of it is there, is what the server sent, and is durable. Any server of the API will do:
//! what its bytes mean is its own affair, but they end with a checksum over themselves.

use super::{VerbError, connect::connect, within};
use crate::api::pb::etcdserverpb::{SnapshotRequest, maintenance_client::MaintenanceClient};
use crate::cli::SnapshotSaveArgs;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What follows the name of a file that is not whole yet.
const UNFINISHED: &str = ".part";
const SHA256_BYTES: usize = 32;
/// The bytes before the checksum are a multiple of this.
const UNIT_BYTES: u64 = 512;

/// Saves a snapshot; answers how large it is. Each of its parts has the time that is allowed for an answer.
pub(super) async fn save(args: &SnapshotSaveArgs) -> Result<u64, VerbError> {
    let client = &args.client;
    let mut parts = within(client, async {
        let channel = connect(client).await?;
        let mut server = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(server.snapshot(SnapshotRequest {}).await?.into_inner())
    })
    .await?;
    let mut saving = Saving::begin(&args.file)?;
    while let Some(part) = within(client, async { Ok(parts.message().await?) }).await? {
        saving.add(&part.blob)?;
    }
    saving.finish(&args.file)
}

/// A file that is being written; it is removed when it is not finished.
struct Saving {
    file: File,
    path: PathBuf,
    sum: Sha256,
    /// The last bytes, which may be the checksum.
    last: Vec<u8>,
    bytes: u64,
    is_whole: bool,
}

impl Saving {
    fn begin(target: &Path) -> Result<Self, VerbError> {
        let mut path = OsString::from(target);
        path.push(UNFINISHED);
        let path = PathBuf::from(path);
        let file = File::create(&path).map_err(|source| failed(&path, source))?;
        Ok(Self {
            file,
            path,
            sum: Sha256::new(),
            last: Vec::new(),
            bytes: 0,
            is_whole: false,
        })
    }

    fn add(&mut self, part: &[u8]) -> Result<(), VerbError> {
        let written = self.file.write_all(part);
        written.map_err(|source| failed(&self.path, source))?;
        self.bytes += part.len() as u64;
        self.last.extend_from_slice(part);
        let before = self.last.len().saturating_sub(SHA256_BYTES);
        self.sum.update(self.last.get(..before).unwrap_or_default());
        self.last.drain(..before);
        Ok(())
    }

    fn finish(mut self, target: &Path) -> Result<u64, VerbError> {
        if self.bytes % UNIT_BYTES != SHA256_BYTES as u64 {
            let reason = "its length is not that of one";
            return Err(VerbError::SnapshotCut { reason });
        }
        let sum = std::mem::take(&mut self.sum).finalize();
        if sum[..] != self.last[..] {
            let reason = "its checksum is wrong";
            return Err(VerbError::SnapshotCut { reason });
        }
        let above = match target.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let named = self.file.sync_all().and_then(|()| {
            fs::rename(&self.path, target)?;
            File::open(above)?.sync_all()
        });
        named.map_err(|source| failed(target, source))?;
        self.is_whole = true;
        Ok(self.bytes)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if !self.is_whole {
            // It is of no use to anybody; why it is not whole is told already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, source: std::io::Error) -> VerbError {
    VerbError::Save {
        path: path.to_path_buf(),
        source,
    }
}
