//! The pid file, and the lock that keeps two engines off one data root.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A pid file; removed when it is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process's id.
    ///
    /// # Errors
    /// When the file names a process that runs, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, String> {
        let failed = |e: io::Error| format!("could not write the pid file {}: {e}", path.display());
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(format!(
                "process with PID {pid} is still running: the pid file {} names it; stop it, or choose another --pidfile",
                path.display()
            ));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, format!("{}", std::process::id())).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), error = %e, "could not remove the pid file");
        }
    }
}

/// The lock of a data root; held until it is dropped, or the process ends however it ends.
#[derive(Debug)]
pub struct RootLock {
    _file: File,
}

impl RootLock {
    /// Takes it, without waiting.
    ///
    /// # Errors
    /// One sentence when another engine holds it, or it cannot be made.
    pub fn take(data_root: &Path) -> Result<Self, String> {
        let path = data_root.join("engine.lock");
        let failed = |e: io::Error| format!("could not lock the data root {}: {e}", data_root.display());
        std::fs::create_dir_all(data_root).map_err(failed)?;
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let mut file = open.map_err(failed)?;
        if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if e == rustix::io::Errno::WOULDBLOCK {
                let pid = std::fs::read_to_string(&path).unwrap_or_default();
                let who = if pid.trim().is_empty() {
                    String::new()
                } else {
                    format!(" (PID {})", pid.trim())
                };
                return Err(format!(
                    "another engine{who} uses the data root {}: stop it, or choose another --data-root",
                    data_root.display()
                ));
            }
            return Err(failed(e.into()));
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_engine_a_data_root() {
        let root = tempfile::tempdir().unwrap();
        let held = RootLock::take(root.path()).unwrap();
        let refused = RootLock::take(root.path()).unwrap_err();
        assert!(
            refused.contains("another engine (PID") && refused.contains("--data-root"),
            "{refused}"
        );
        drop(held);
        RootLock::take(root.path()).unwrap();
    }

    #[test]
    fn a_stale_pid_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/ferry.pid");
        let first = PidFile::create(&path).unwrap();
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "4194304999").unwrap();
        let _second = PidFile::create(&path).unwrap();
        std::fs::write(&path, "1").unwrap();
        assert!(
            PidFile::create(&path)
                .unwrap_err()
                .contains("process with PID 1 is still running")
        );
    }
}
