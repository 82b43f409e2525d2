//! The runtime's command line by itself: `cargo run -p ferry-runtime --example run -- --root /tmp/r run -b BUNDLE ID`.

fn main() -> std::process::ExitCode {
    ferry_runtime::cli::main(std::env::args_os().skip(1).collect())
}
