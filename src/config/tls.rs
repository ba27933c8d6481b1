//! The flags of TLS: what they have to say together, and with the address that is listened on.
//!
//! No file is read here; whether one is any good is seen when it is.

use super::ConfigError;
use crate::cli::{CertArgs, ServeArgs};
use crate::tls::{ServerFiles, TlsSource};

/// Where the certificate comes from, if there is to be one.
pub(super) fn source(args: &ServeArgs) -> Result<Option<TlsSource>, ConfigError> {
    let source = match files(&args.tls.cert)? {
        Some(files) => Some(TlsSource::Files(files)),
        None if args.tls.auto_tls => Some(TlsSource::Own {
            trusted_ca_file: args.tls.cert.trusted_ca_file.clone(),
            hosts: own_hosts(args),
        }),
        None => {
            let needed = "--cert-file and --key-file, or --auto-tls";
            nobody_asks(&args.tls.cert, needed)?;
            None
        }
    };
    let needed = "https needs --cert-file and --key-file, or --auto-tls";
    let unused = "http would not use --cert-file or --auto-tls";
    agrees(&args.listen_client, source.is_some(), (needed, unused))?;
    Ok(source)
}

/// The same where no certificate is made.
pub(super) fn given(
    args: &CertArgs,
    listen_client: &str,
) -> Result<Option<ServerFiles>, ConfigError> {
    let files = files(args)?;
    if files.is_none() {
        nobody_asks(args, "--cert-file and --key-file")?;
    }
    let needed = "https needs --cert-file and --key-file";
    let unused = "http would not use --cert-file";
    agrees(listen_client, files.is_some(), (needed, unused))?;
    Ok(files)
}

fn files(args: &CertArgs) -> Result<Option<ServerFiles>, ConfigError> {
    let CertArgs {
        cert_file,
        key_file,
        client_cert_auth,
        trusted_ca_file,
    } = args.clone();
    let alone = |flag, needed| Err(ConfigError::Alone { flag, needed });
    if client_cert_auth && trusted_ca_file.is_none() {
        return alone("client-cert-auth", "--trusted-ca-file");
    }
    match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Ok(Some(ServerFiles {
            cert_file,
            key_file,
            trusted_ca_file,
        })),
        (Some(_), None) => alone("cert-file", "--key-file"),
        (None, Some(_)) => alone("key-file", "--cert-file"),
        (None, None) => Ok(None),
    }
}

/// Without TLS, clients cannot show certificates.
fn nobody_asks(args: &CertArgs, needed: &'static str) -> Result<(), ConfigError> {
    let flag = "trusted-ca-file";
    match args.trusted_ca_file {
        Some(_) => Err(ConfigError::Alone { flag, needed }),
        None => Ok(()),
    }
}

/// The scheme of the address says the same as the files; else the reason is the first of these, or the second.
fn agrees(
    listen_client: &str,
    is_tls: bool,
    (needed, unused): (&'static str, &'static str),
) -> Result<(), ConfigError> {
    let reason = match (split_scheme(listen_client).0, is_tls) {
        (Some("https"), false) => needed,
        (Some("http"), true) => unused,
        _ => return Ok(()),
    };
    Err(ConfigError::Scheme {
        value: listen_client.to_owned(),
        reason,
    })
}

/// What a certificate of one's own is good for: where the server listens, what clients are told, and this machine.
fn own_hosts(args: &ServeArgs) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let urls = [
        Some(&args.listen_client),
        args.advertise_client_url.as_ref(),
    ];
    for url in urls.into_iter().flatten() {
        let (_, rest) = split_scheme(url);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        if !host.is_empty() && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// The scheme of an address that has one, and the rest of it.
pub(super) fn split_scheme(address: &str) -> (Option<&str>, &str) {
    match address.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        _ => (None, address),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn certificates_and_schemes_have_to_say_the_same() {
        let refused = |flags: &[&str], said: &str| assert_eq!(config(flags).unwrap_err(), said);
        refused(&["--cert-file", "c"], "--cert-file needs --key-file");
        refused(&["--key-file", "k"], "--key-file needs --cert-file");
        let needed = "--client-cert-auth needs --trusted-ca-file";
        refused(&["--client-cert-auth", "--auto-tls"], needed);
        let needed = "--trusted-ca-file needs --cert-file and --key-file, or --auto-tls";
        refused(&["--trusted-ca-file", "ca"], needed);
        let https = ["--listen-client", "https://127.0.0.1:1"];
        let needed = "https needs --cert-file and --key-file, or --auto-tls";
        let line = format!("--listen-client is \"https://127.0.0.1:1\", and {needed}");
        refused(&https, &line);
        let http = ["--listen-client", "http://127.0.0.1:1"];
        let line = "--listen-client is \"http://127.0.0.1:1\", and http would not use --cert-file or --auto-tls";
        refused(&[&http[..], &["--auto-tls"]].concat(), line);
        let plain = config(&http).unwrap().serve;
        assert_eq!((plain.listen_client.port(), plain.tls), (1, None));
        let advertised = [
            "--auto-tls",
            "--advertise-client-url",
            "https://a.example:1/",
        ];
        let secret = config(&[&https[..], &advertised].concat()).unwrap().serve;
        let Some(TlsSource::Own { hosts, .. }) = secret.tls else {
            panic!("no certificate of its own");
        };
        assert_eq!(hosts, ["localhost", "127.0.0.1", "::1", "a.example"]);
    }
}
