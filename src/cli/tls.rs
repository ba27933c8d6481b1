//! The flags of TLS, with etcd's names: the server's own, and those of a client.

use crate::tls::ClientFiles;
use clap::{ArgAction, Args};
use std::path::PathBuf;

/// The TLS of `vigil serve`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct ServeTlsArgs {
    /// With files of somebody else's.
    #[command(flatten)]
    pub cert: CertArgs,
    /// Serve over TLS with a certificate that the server makes and keeps, unless --cert-file is given.
    #[arg(long, env = "VIGIL_AUTO_TLS", hide_env_values = true)]
    #[arg(action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    #[arg(hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auto_tls: bool,
}

/// The TLS of a server, with files of somebody else's.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct CertArgs {
    /// File with the server's certificate, as PEM; clients are served over TLS alone then.
    #[arg(
        long,
        env = "VIGIL_CERT_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub cert_file: Option<PathBuf>,
    /// File with the private key of --cert-file, as PEM.
    #[arg(
        long,
        env = "VIGIL_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub key_file: Option<PathBuf>,
    /// Serve only clients that show a certificate of --trusted-ca-file.
    #[arg(long, env = "VIGIL_CLIENT_CERT_AUTH", hide_env_values = true)]
    #[arg(action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    #[arg(hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub client_cert_auth: bool,
    /// File with the certificates that vouch for clients, as PEM; every client needs one then.
    #[arg(
        long,
        env = "VIGIL_TRUSTED_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub trusted_ca_file: Option<PathBuf>,
}

/// The TLS of a client.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// File with the certificates that vouch for the server, as PEM; the system's own when left out.
    #[arg(
        long,
        env = "VIGIL_CACERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub cacert: Option<PathBuf>,
    /// File with this client's certificate, as PEM.
    #[arg(long, env = "VIGIL_CERT", hide_env_values = true, value_name = "FILE")]
    #[arg(requires = "private_key")]
    pub cert: Option<PathBuf>,
    /// File with the private key of --cert, as PEM.
    #[arg(long, env = "VIGIL_KEY", hide_env_values = true, value_name = "FILE")]
    // `put` and others have an argument that is named `key` already.
    #[arg(id = "private_key", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Take anybody for the server: encrypted, but towards whom is not known.
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,
    /// What stands before the names of these flags.
    #[arg(skip)]
    pub flag_prefix: &'static str,
}

impl From<&TlsArgs> for ClientFiles {
    fn from(args: &TlsArgs) -> Self {
        Self {
            flag_prefix: args.flag_prefix,
            cacert: args.cacert.clone(),
            cert: args.cert.clone(),
            key: args.key.clone(),
            insecure_skip_tls_verify: args.insecure_skip_tls_verify,
        }
    }
}
