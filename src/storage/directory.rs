//! The directory of the data: makes it, and makes the names in it durable.
//!
//! A file that is synced under a name that is not can be gone after a power cut, so every name on the way to the data
//! is synced before the first write is acknowledged. What the files mean is not its business.

use super::StorageError;
use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Makes the directory if it is missing, with everything above it, and makes its name durable.
pub(super) fn create_directory(dir: &Path) -> Result<(), StorageError> {
    let missing = dir
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .count();
    if dir.exists() && !dir.is_dir() {
        let kind = ErrorKind::NotADirectory;
        return Err(directory(dir, &Error::new(kind, "it is not a directory")));
    }
    fs::create_dir_all(dir)
        .and_then(|()| fs::read_dir(dir))
        .map_err(|error| directory(dir, &error))?;
    let named_in = dir.ancestors().skip(1).map(|above| {
        // The parent of a bare name is the empty path, which no system opens.
        if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        }
    });
    // The parent of a directory that was there is synced as well: whoever made it may have died before it could.
    for (above, number) in named_in.take(missing.max(1)).zip(0..) {
        match sync(above) {
            // What was there before can be given to someone who may not look around beside it.
            Err(error) if number >= missing && error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|error| directory(above, &error))?,
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(dir: &Path) -> Result<(), StorageError> {
    sync(dir).map_err(|error| directory(dir, &error))
}

/// Makes a file or a directory durable.
fn sync(path: &Path) -> Result<(), Error> {
    File::open(path)?.sync_all()
}

/// An error that names the directory.
pub(super) fn directory(path: &Path, error: &Error) -> StorageError {
    StorageError::Directory {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}
