//! A certificate of the server's own, which nobody vouches for but itself.
//!
//! It is made once and kept in the data directory, where etcd keeps its own, so that clients that trust it go on to after
//! a restart. Files that are there are never written over.

use super::TlsError;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const FLAG: &str = "auto-tls";
/// How long a certificate is good for. It is not renewed by itself: that would end the trust that clients put in it.
const VALID_FOR: Duration = Duration::from_hours(10 * 365 * 24);
/// A clock that is a little behind ours must not refuse what is new.
const VALID_BEFORE: Duration = Duration::from_hours(1);
/// Nobody but us reads a key.
const MODE: u32 = 0o600;

/// The files of the certificate and of its key, made when either is missing.
pub(super) fn certificate(
    data_dir: &Path,
    hosts: Vec<String>,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let dir = data_dir.join("fixtures").join("client");
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    if cert_file.exists() && key_file.exists() {
        return Ok((cert_file, key_file));
    }
    let (cert, key) = make(hosts).map_err(|error| TlsError::new(FLAG, &cert_file, error))?;
    fs::create_dir_all(&dir).map_err(|error| TlsError::new(FLAG, &dir, error))?;
    for (path, text) in [(&key_file, key), (&cert_file, cert)] {
        write(path, &text).map_err(|error| TlsError::new(FLAG, path, error))?;
    }
    Ok((cert_file, key_file))
}

/// A certificate and its key, as PEM.
#[expect(
    clippy::disallowed_methods,
    reason = "a certificate is dated by the clock on the wall"
)]
fn make(hosts: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch.unwrap_or_default();
    params.not_before = now - VALID_BEFORE;
    params.not_after = now + VALID_FOR;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "vigil");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Under its name, a file is whole or not there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("pem.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(MODE);
    let mut file = options.open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
