//! The `vigil` binary: parse, log, run, exit code.

fn main() {}
