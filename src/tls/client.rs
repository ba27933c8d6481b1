//! The client's side: whom a client trusts, and how it shows who it is.
//!
//! Without a file the system's own certificates are trusted. Nothing is trusted blindly unless the flag says so.

use super::{HTTP2, TlsError, pem, provider};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// The files of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// What stands before the names of the flags.
    pub flag_prefix: &'static str,
    /// Who vouches for the server; those whom the system trusts when not set.
    pub cacert: Option<PathBuf>,
    /// The client's certificate, and those that vouch for it.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Anybody may be the server.
    pub insecure_skip_tls_verify: bool,
}

impl ClientFiles {
    /// True when TLS is meant although the endpoint does not say so.
    pub fn ask_for_tls(&self) -> bool {
        self.cacert.is_some() || self.cert.is_some() || self.insecure_skip_tls_verify
    }
}

/// What a client's handshakes are made with.
pub fn client_config(files: &ClientFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let flag = |name: &str| format!("{}{name}", files.flag_prefix);
    let nowhere = Path::new("");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(&flag("cacert"), nowhere, error))?;
    let builder = if files.insecure_skip_tls_verify {
        let trusting = Arc::new(Trusting(provider()));
        builder
            .dangerous()
            .with_custom_certificate_verifier(trusting)
    } else {
        builder.with_root_certificates(match &files.cacert {
            Some(path) => {
                let flag = flag("cacert");
                pem::roots(&flag, path, &pem::read(&flag, path)?)?
            }
            None => systems_roots(),
        })
    };
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let (cert_flag, key_flag) = (flag("cert"), flag("key"));
            let chain = pem::certificates(&cert_flag, cert, &pem::read(&cert_flag, cert)?)?;
            let secret = pem::key(&key_flag, key, &pem::read(&key_flag, key)?)?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| TlsError::new(&key_flag, key, error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

/// Whom the system trusts; what cannot be read of that vouches for nobody.
fn systems_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Takes anybody for the server, who still has to hold the key of the certificate that was shown.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
