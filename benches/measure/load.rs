//! `vigil bench` as a child: one load on one server, and the JSON object that it prints.
//!
//! The generator is a process of its own, so that its threads and its memory are never the server's.

use crate::servers::Server;
use serde_json::Value;
use std::process::{Command, Stdio};

/// Puts a load on a server.
pub(crate) fn run(server: &Server, words: &[&str]) -> Result<Value, String> {
    let endpoint = ["--endpoint", &server.address, "--server-pid", &server.pid()];
    bench(&[words, &endpoint].concat())
}

/// Runs the generator.
pub(crate) fn bench(words: &[&str]) -> Result<Value, String> {
    let said = Command::new(env!("CARGO_BIN_EXE_vigil"))
        .arg("bench")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !said.status.success() {
        let text = String::from_utf8_lossy(&said.stderr);
        return Err(text.lines().last().unwrap_or("it failed").to_owned());
    }
    serde_json::from_slice(&said.stdout).map_err(|error| error.to_string())
}

/// Whether a server answers a read of the latest.
pub(crate) fn answers(address: &str) -> bool {
    Command::new(env!("CARGO_BIN_EXE_vigil"))
        .args(["get", "nothing", "--endpoint", address])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
