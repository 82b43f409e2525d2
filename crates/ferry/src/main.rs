//! Ferry: engine, command line, runtime and launcher in one static binary.
//!
//! The only crate that composes the others, and the only one that prints. `role` decides what this process is before
//! any thread exists.

mod autostart;
mod cli;
mod engine;
mod hello;
mod kernel;
mod passport;
mod role;

use std::process::ExitCode;

fn main() -> ExitCode {
    role::run(std::env::args_os().collect())
}
