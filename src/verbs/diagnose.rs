//! What is likely the matter when a server is there and no call gets through, in words about the flags.
//!
//! It looks at the server once more and sends it nothing but the beginning of a connection.

use super::VerbError;
use super::connect::secret;
use crate::cli::ClientArgs;
use crate::tls::{ClientFiles, Target, client_config};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// An error with what to do about it, if a mistake in the flags is likely.
pub(super) async fn advised(error: VerbError, client: &ClientArgs) -> VerbError {
    if !error.is_transport() {
        return error;
    }
    match advice(&client.endpoint, &ClientFiles::from(&client.tls)).await {
        Some(advice) => VerbError::Misled {
            said: Box::new(error),
            advice,
        },
        None => error,
    }
}

/// What to do about a connection that comes to nothing; `None` when nothing speaks for a mistake in the flags.
async fn advice(endpoint: &str, files: &ClientFiles) -> Option<String> {
    let target = Target::read(endpoint, files)?;
    let look = async {
        if target.is_tls {
            refusal(&target, files).await
        } else {
            speaks_tls(&target, files).await
        }
    };
    timeout(LOOK_MAX, look).await.ok()?
}

/// Whether TLS is what a server without it in mind was asked for.
async fn speaks_tls(target: &Target, files: &ClientFiles) -> Option<String> {
    let anybody = ClientFiles {
        insecure_skip_tls_verify: true,
        ..ClientFiles::default()
    };
    let connector = TlsConnector::from(client_config(&anybody).ok()?);
    match secret(connector, target.clone()).await {
        Err(error) if !is_alert(&error) => return None,
        _ => {}
    }
    let (authority, prefix) = (&target.authority, files.flag_prefix);
    let how = if files.ask_for_tls() {
        format!("http:// goes without it whatever --{prefix}cacert says")
    } else {
        format!("with --{prefix}cacert for whom to trust")
    };
    Some(format!(
        "the server speaks TLS: give https://{authority}, {how}"
    ))
}

/// Whether a server that speaks TLS turns this client away, or a server does not speak it.
async fn refusal(target: &Target, files: &ClientFiles) -> Option<String> {
    let connector = TlsConnector::from(client_config(files).ok()?);
    // Nothing is sent behind the handshake, so that nothing overtakes what the server says of it.
    let said = match secret(connector, target.clone()).await {
        Ok(mut stream) => stream.read_u8().await.err()?,
        Err(error) => error,
    };
    let (authority, prefix) = (&target.authority, files.flag_prefix);
    if is_alert(&said) {
        return Some(if files.cert.is_some() {
            format!("the server does not take the certificate of --{prefix}cert")
        } else {
            format!(
                "the server may want a certificate of the client: give --{prefix}cert and --{prefix}key"
            )
        });
    }
    let text = said.to_string();
    if text.contains("UnknownIssuer") {
        return Some(format!(
            "give --{prefix}cacert with the certificates that vouch for the server"
        ));
    }
    let is_other = text.contains("InvalidContentType")
        || matches!(
            said.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
        );
    is_other.then(|| format!("the server may not speak TLS: http://{authority} goes without it"))
}

/// True when the other side has spoken TLS and said no.
fn is_alert(error: &io::Error) -> bool {
    error.to_string().contains("fatal alert")
}
