//! What a shim leaves in the container's runtime directory, and the clocks it is written with.

use serde::Serialize;
use std::io;
use std::path::Path;

/// Writes `value` to `path` so that nobody ever sees half of it. No fsync: the directory is on tmpfs.
///
/// # Errors
/// What the file system says, with the path.
pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let bytes = serde_json::to_vec(value)?;
    std::fs::write(&staged, bytes)
        .and_then(|()| std::fs::rename(&staged, path))
        .map_err(|e| io::Error::new(e.kind(), format!("write {}: {e}", path.display())))
}

/// Field 22 of `/proc/<pid>/stat`: when it started, in clock ticks since boot; with the pid, its identity.
///
/// # Errors
/// `NotFound` when there is no such process.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, the name, may contain anything but ends with the last parenthesis.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = after_name.split(' ').nth(19).and_then(|f| f.parse().ok());
    field.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat has no start time"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole_and_processes_have_a_start() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("exit.json");
        write(&path, &[1, 2]).expect("write");
        write(&path, &[3]).expect("write again");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "[3]");
        assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 1);
        let own = i32::try_from(std::process::id()).expect("pid");
        assert!(start_time(own).expect("start") > 0);
        assert_eq!(
            start_time(i32::MAX).expect_err("none").kind(),
            io::ErrorKind::NotFound
        );
    }
}
