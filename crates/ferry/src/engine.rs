//! The engine's processes: the daemon and its launcher.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// The launcher. Its control socket is standard input, as the engine started it.
pub(crate) fn launcher(exec_root: &Path) -> ExitCode {
    let control: OwnedFd = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(control) => control,
        Err(e) => {
            eprintln!("the launcher is started by the engine, with a socket as its standard input: {e}");
            return ExitCode::FAILURE;
        }
    };
    ferry_shim::launcher::main(control, exec_root)
}
