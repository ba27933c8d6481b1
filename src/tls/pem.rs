//! PEM files: certificates, keys, and stores of trusted certificates.
//!
//! A file without what it should hold is an error, and never an empty list.

use super::TlsError;
use std::fs;
use std::path::Path;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The bytes of a file.
pub(super) fn read(flag: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::new(flag, path, error))
}

/// The certificates in a file, in its order, which is from the server's own to those that vouch for it.
pub(super) fn certificates(
    flag: &str,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = |reason: String| TlsError::new(flag, path, reason);
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| malformed(format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(malformed("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

/// The first private key in a file.
pub(super) fn key(
    flag: &str,
    path: &Path,
    bytes: &[u8],
) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        TlsError::new(
            flag,
            path,
            format!("there is no private key in it: {error}"),
        )
    })
}

/// The certificates in a file, as those that are trusted.
pub(super) fn roots(flag: &str, path: &Path, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(flag, path, bytes)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::new(flag, path, error))?;
    }
    Ok(roots)
}
