//! The flags of the verbs that carry keys from one place to another.

use super::{ClientArgs, TlsArgs};
use clap::Args;
use std::path::PathBuf;

/// Operations of one transaction, unless the server has been told otherwise.
const TXN_OPS_MAX: usize = 128;

/// `vigil mirror`.
#[derive(Clone, Debug, Args)]
pub struct MirrorArgs {
    /// Address of the server that is written to; --endpoint is the one that is read.
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Mirror only keys that start with this.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// What stands at the destination in place of --prefix; the same when left out.
    #[arg(long, value_name = "PREFIX")]
    pub dest_prefix: Option<String>,
    /// Leave --prefix away at the destination.
    #[arg(long, conflicts_with = "dest_prefix")]
    pub no_dest_prefix: bool,
    /// Copy nothing, and follow what happens from this revision of the source on.
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub rev: i64,
    /// Remove at the destination what the source does not have, from the start on; what is equal is left alone then.
    #[arg(long)]
    pub prune: bool,
    /// Operations of one transaction at the destination.
    #[arg(long, value_name = "COUNT", default_value_t = TXN_OPS_MAX)]
    pub max_txn_ops: usize,
    /// File with the certificates that vouch for the destination, as PEM.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub dest_cacert: Option<PathBuf>,
    /// File with the certificate that is shown to the destination, as PEM.
    #[arg(long, value_name = "FILE", requires = "dest_key", help_heading = "TLS")]
    pub dest_cert: Option<PathBuf>,
    /// File with the private key of --dest-cert, as PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "dest_cert",
        help_heading = "TLS"
    )]
    pub dest_key: Option<PathBuf>,
    /// Take anybody for the destination.
    #[arg(long, help_heading = "TLS")]
    pub dest_insecure_skip_tls_verify: bool,
    /// The source.
    #[command(flatten)]
    pub client: ClientArgs,
}

impl MirrorArgs {
    /// The way to the destination.
    pub fn destination(&self) -> ClientArgs {
        ClientArgs {
            endpoint: self.destination.clone(),
            tls: TlsArgs {
                cacert: self.dest_cacert.clone(),
                cert: self.dest_cert.clone(),
                key: self.dest_key.clone(),
                insecure_skip_tls_verify: self.dest_insecure_skip_tls_verify,
                flag_prefix: "dest-",
            },
            ..self.client.clone()
        }
    }
}

/// `vigil export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Export only keys that start with this.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// The revision to export; 0 is the latest.
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub rev: i64,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `vigil import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// The file to read; standard input when left out.
    pub file: Option<PathBuf>,
    /// Operations of one transaction.
    #[arg(long, value_name = "COUNT", default_value_t = TXN_OPS_MAX)]
    pub max_txn_ops: usize,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}
