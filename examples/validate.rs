//! Judges a recorded file: one line for each property, and every fault with the line that shows it.
//!
//! `cargo run --example validate -- FILE`
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the verdict is what it is for"
)]

#[path = "../tests/validator/mod.rs"]
mod validator;

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

fn main() -> ExitCode {
    match validate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("validate: {why}");
            ExitCode::from(2)
        }
    }
}

/// Prints the verdict; true when every property holds.
fn validate() -> Result<bool, String> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    let lines = validator::record::read(BufReader::new(file))?;
    let verdict = validator::judge(&lines);
    print!("{verdict}");
    for fault in &verdict.faults {
        println!("{fault}");
        if let Some(line) = lines.get(fault.line) {
            println!("    {}", validator::record::text_of(line));
        }
    }
    Ok(verdict.holds())
}
