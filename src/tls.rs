//! TLS for both ends of a connection: files of certificates and keys become what rustls takes.
//!
//! It knows files, flags by their names, and rustls; no socket is opened and no request understood here. A private key
//! never leaves it in words: errors name files and say what is wrong with them.

mod client;
mod own;
mod pem;
mod server;
mod target;

pub use client::{ClientFiles, client_config};
pub use server::{ServerFiles, ServerTls, TlsSource};
pub use target::Target;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

/// What a client and a server agree on when they speak HTTP/2.
const HTTP2: &[u8] = b"h2";
/// What they agree on otherwise.
const HTTP1: &[u8] = b"http/1.1";

/// Why a file of certificates or keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} {}: {reason}", path.display())]
pub struct TlsError {
    /// The flag that named the file.
    flag: String,
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    reason: String,
}

impl TlsError {
    fn new(flag: &str, path: &Path, reason: impl ToString) -> Self {
        Self {
            flag: flag.to_owned(),
            path: path.to_path_buf(),
            reason: reason.to_string(),
        }
    }
}

/// Named at each use and never installed for the whole process: an application around us may have one of its own.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
