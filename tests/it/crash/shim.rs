//! Builds the library that sees a child's system calls, and preloads it.
//!
//! It is built once per process, under a name of its own, so that tests that run side by side never share a half-built one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/crash/shim.c");

static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("crash-shim-{}.so", std::process::id());
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", SOURCE, "-o"])
        .arg(&library)
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("a C compiler: run scripts/setup");
    assert!(built.success(), "{SOURCE} compiles");
    library
});

/// Lets `command` see to `dir` through the shim, and has its calls recorded in `trace`.
pub(super) fn preload(command: &mut Command, dir: &Path, trace: &Path) {
    command
        .env("LD_PRELOAD", LIBRARY.as_path())
        .env("VIGIL_SHIM_DIR", dir.canonicalize().expect("a directory"))
        .env("VIGIL_SHIM_TRACE", trace);
}

/// Has the `number`th sync of the files called `name` fail.
pub(super) fn fail_sync(command: &mut Command, name: &str, number: usize) {
    command.env("VIGIL_SHIM_FAIL", format!("{name}:{number}"));
}

/// Has it fail only once all other threads of the process sleep.
pub(super) fn fail_late(command: &mut Command) {
    command.env("VIGIL_SHIM_LATE", "1");
}
