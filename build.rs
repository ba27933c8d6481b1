//! Generates the protobuf messages and the gRPC stubs from `proto/`, in pure Rust: no `protoc` is needed.
//!
//! It reads `proto/` and writes to `OUT_DIR`, and never anywhere else. With `VIGIL_FAULTS=1` it lets the seeded faults of
//! `src/fault.rs` in, and never into a release.

#[path = "build/seeded.rs"]
mod seeded;

use prost::Message;
use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let_faults_in()?;
    let descriptors = protox::compile(["proto/rpc.proto"], ["proto"])?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // Server reflection answers from this.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

fn let_faults_in() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=VIGIL_FAULTS");
    println!("cargo::rustc-check-cfg=cfg(vigil_faults)");
    let asked = env::var("VIGIL_FAULTS").ok();
    if seeded::may_have_faults(asked.as_deref(), &env::var("PROFILE")?)? {
        println!("cargo::rustc-cfg=vigil_faults");
    }
    Ok(())
}
