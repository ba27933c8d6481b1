//! The server's side: what a handshake is answered with, from files that may change while the server runs.
//!
//! The files are read again at each handshake, as etcd does, and compared as bytes, so that no clock decides whether a
//! new certificate is seen. Files that cannot be used are warned of once and never replace those that could.

use super::{HTTP1, HTTP2, TlsError, own, pem, provider};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

const CERT_FILE: &str = "cert-file";
const KEY_FILE: &str = "key-file";
const TRUSTED_CA_FILE: &str = "trusted-ca-file";

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// From files that somebody else takes care of.
    Files(ServerFiles),
    /// From files in the data directory, made at the first start.
    Own {
        /// Who vouches for clients; nobody needs to when this is not set.
        trusted_ca_file: Option<PathBuf>,
        /// Names and addresses that the certificate is good for.
        hosts: Vec<String>,
    },
}

/// The files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate, and those that vouch for it.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Who vouches for clients; nobody needs to when this is not set.
    pub trusted_ca_file: Option<PathBuf>,
}

/// What was in the files.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    trusted_ca: Option<Vec<u8>>,
}

/// A server's half of TLS, shared by all of its workers.
pub struct ServerTls {
    files: ServerFiles,
    current: Mutex<Current>,
}

struct Current {
    /// What the files held, or why they did not, when they were last looked at; it need not have been usable.
    seen: Result<Contents, TlsError>,
    /// Made of the last contents that were.
    config: Arc<ServerConfig>,
}

impl std::fmt::Debug for ServerTls {
    // The contents are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    pub fn open(files: ServerFiles) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let config = Arc::new(files.config(&contents)?);
        let current = Mutex::new(Current {
            seen: Ok(contents),
            config,
        });
        Ok(Self { files, current })
    }

    /// Reads the files of the data directory, which are made when they are missing.
    pub fn open_own(
        data_dir: &Path,
        trusted_ca_file: Option<PathBuf>,
        hosts: Vec<String>,
    ) -> Result<Self, TlsError> {
        let (cert_file, key_file) = own::certificate(data_dir, hosts)?;
        Self::open(ServerFiles {
            cert_file,
            key_file,
            trusted_ca_file,
        })
    }

    /// What the next handshake is answered with.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.files.read();
        if read != current.seen {
            let made = match &read {
                Ok(contents) => self.files.config(contents),
                Err(error) => Err(error.clone()),
            };
            match made {
                Ok(config) => {
                    log::info!("certificates reloaded");
                    current.config = Arc::new(config);
                }
                Err(error) => log::warn!("serving with the previous certificates: {error}"),
            }
            current.seen = read;
        }
        Arc::clone(&current.config)
    }
}

impl ServerFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        let trusted_ca = self.trusted_ca_file.as_deref();
        Ok(Contents {
            cert: pem::read(CERT_FILE, &self.cert_file)?,
            key: pem::read(KEY_FILE, &self.key_file)?,
            trusted_ca: trusted_ca
                .map(|path| pem::read(TRUSTED_CA_FILE, path))
                .transpose()?,
        })
    }

    fn config(&self, contents: &Contents) -> Result<ServerConfig, TlsError> {
        let chain = pem::certificates(CERT_FILE, &self.cert_file, &contents.cert)?;
        let key = pem::key(KEY_FILE, &self.key_file, &contents.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(CERT_FILE, &self.cert_file, error))?;
        let builder = match (&self.trusted_ca_file, &contents.trusted_ca) {
            (Some(path), Some(bytes)) => {
                let roots = Arc::new(pem::roots(TRUSTED_CA_FILE, path, bytes)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|error| TlsError::new(TRUSTED_CA_FILE, path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let cert_file = self.cert_file.display();
            let reason = format!("not usable with --cert-file {cert_file}: {error}");
            TlsError::new(KEY_FILE, &self.key_file, reason)
        })?;
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Ok(config)
    }
}
