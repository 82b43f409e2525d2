//! The program of the image `hello`: prints the container's passport, that is what the container is isolated from.
//!
//! It runs alone in an image without a C library, a shell or a file but itself, so it reads only procfs and sysfs.
//! What the host's namespaces are, the command line has told in the environment.

mod facts;
mod page;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Prints the passport.
pub(crate) fn main() -> ExitCode {
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let page = page::render(&facts::Facts::gather(), colours);
    match std::io::stdout().lock().write_all(page.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
