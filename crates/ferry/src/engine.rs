//! The engine's processes: the daemon and its launcher.

use crate::kernel::HostKernel;
use ferry_engine::Kernel;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// `ferry daemon`: the engine in the foreground, until a signal ends it.
pub(crate) fn daemon(args: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = args.map(|a| a.to_string_lossy().into_owned()).collect();
    let kernel = || HostKernel::probe().map(|k| Arc::new(k) as Arc<dyn Kernel>);
    match ferry_daemon::command::run(&words, kernel) {
        Ok(text) => {
            print!("{}", text.unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

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
