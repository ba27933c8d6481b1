//! Generates the protobuf messages and the gRPC stubs from `proto/`, in pure Rust: no `protoc` is needed. Compiles the one
//! function that makes the engine's writes durable, for which there is no safe Rust, and the settings of the allocator.
//!
//! It reads `proto/` and that source and writes to `OUT_DIR`, and never anywhere else. With `VIGIL_FAULTS=1` it lets the seeded faults of
//! `src/fault.rs` in, and never into a release.

#[path = "build/seeded.rs"]
mod seeded;

use prost::Message;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let_faults_in()?;
    let descriptors = protox::compile(
        [
            "proto/rpc.proto",
            "proto/lock.proto",
            "proto/election.proto",
        ],
        ["proto"],
    )?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // Server reflection answers from this.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::api::codec::RoomyCodec")
        .compile_fds(descriptors)?;
    compile_durable_writes(&out_dir);
    compile_allocator_settings();
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

/// All of the archive is linked, because nothing but the engine asks for what is in it, and the engine would be content with
/// the C library's.
fn compile_durable_writes(out_dir: &Path) {
    const SOURCE: &str = "src/storage/durable_writes.c";
    println!("cargo:rerun-if-changed={SOURCE}");
    cc::Build::new()
        .file(SOURCE)
        .warnings_into_errors(true)
        .cargo_metadata(false)
        .compile("vigil_durable_writes");
    println!("cargo:rustc-link-search=native={}", out_dir.display());
    println!("cargo:rustc-link-lib=static:+whole-archive=vigil_durable_writes");
}

/// Only the binary is linked with them: an application that embeds the engine chooses its allocator and how it is set.
fn compile_allocator_settings() {
    const SOURCE: &str = "src/allocator_settings.c";
    println!("cargo:rerun-if-changed={SOURCE}");
    if env::var_os("CARGO_FEATURE_JEMALLOC").is_none() {
        return;
    }
    let objects = cc::Build::new()
        .file(SOURCE)
        .warnings_into_errors(true)
        .cargo_metadata(false)
        .compile_intermediates();
    for object in objects {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
}
