//! `load` and `save`.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::progress::Display;
use crate::cli::session::Session;
use ferry_api::client::{Payload, Request};
use std::io::{IsTerminal, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `load`
pub(super) fn load(session: &Session, m: &Matches) -> Outcome {
    let reader: Box<dyn Read> = match m.get("input") {
        "" if std::io::stdin().is_terminal() => {
            return Err(Failure::text("requested load from stdin, but stdin is empty"));
        }
        "" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).map_err(|e| open_error(path, &e))?),
    };
    let quiet = m.on("quiet") || !std::io::stdout().is_terminal();
    let mut request = Request::post("/images/load").query("quiet", if quiet { "1" } else { "0" });
    for platform in super::platforms(m)? {
        request = request.query("platform", &platform);
    }
    let request = request.payload(Payload::Reader {
        content_type: "application/x-tar",
        reader,
    });
    let mut response = session.client()?.send(request)?;
    let mut out = std::io::stdout();
    Display::stdout(&mut out).run(&mut response.body, |_| {})
}

fn open_error(path: &str, error: &std::io::Error) -> Failure {
    let words = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::text(format!("open {path}: {words}"))
}

/// `save`
pub(super) fn save(session: &Session, m: &Matches) -> Outcome {
    let output = m.get("output");
    if output.is_empty() && std::io::stdout().is_terminal() {
        return Err(Failure::text(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let mut target = match output {
        "" => None,
        path => Some(Staged::create(path)?),
    };
    let mut request = Request::get("/images/get");
    for name in &m.args {
        request = request.query("names", name);
    }
    for platform in super::platforms(m)? {
        request = request.query("platform", &platform);
    }
    let mut response = session.client()?.send(request)?;
    let copied = match &mut target {
        Some(staged) => std::io::copy(&mut response.body, &mut staged.file),
        None => std::io::copy(&mut response.body, &mut std::io::stdout().lock()),
    };
    copied.map_err(|e| Failure::text(format!("saving the archive: {e}")))?;
    match target {
        Some(staged) => staged.commit(),
        None => Ok(()),
    }
}

/// A file that appears under its name only when it is whole.
struct Staged {
    file: std::fs::File,
    staged: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn create(path: &str) -> Outcome<Self> {
        let path = PathBuf::from(path);
        let dir = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(Failure::text(format!(
                "failed to save image: {} is a directory",
                path.display()
            )));
        }
        if !dir.is_dir() {
            return Err(Failure::text(format!(
                "failed to save image: invalid output path: stat {}: no such file or directory",
                dir.display()
            )));
        }
        let staged = dir.join(format!(".ferry-save-{}", std::process::id()));
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)
            .map_err(|e| Failure::text(format!("failed to save image: {}: {e}", staged.display())))?;
        Ok(Staged { file, staged, path })
    }

    fn commit(self) -> Outcome {
        let failed =
            |e: std::io::Error| Failure::text(format!("failed to save image: {}: {e}", self.path.display()));
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.staged, &self.path).map_err(failed)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing under the staged name any more.
        let _ = std::fs::remove_file(&self.staged);
    }
}
