//! The runtime's command line by itself, and the init of containers that ask for one: what the kernel tests drive.
//!
//! `cargo run -p ferry-runtime --example run -- --root /tmp/states run -b BUNDLE ID`

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if name.to_string_lossy().ends_with("docker-init") {
        return ferry_runtime::init::main(args.collect());
    }
    ferry_runtime::cli::main(args.collect())
}
