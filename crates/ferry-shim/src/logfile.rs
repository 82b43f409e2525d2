//! A container's json-file log on disk: appended, rotated by size, and patient with a full disk.
//!
//! `<path>` is written, `<path>.1` is the last one before it, up to `.<max_file - 1>`. As Docker's: a file that has reached
//! `max_size` is moved away when the next entry comes, never in the middle of one, and with one file it is replaced.
//!
//! What the disk does not take is kept in memory. In blocking mode the caller stops reading the container until
//! [`Log::holds_back`] is false again; in non-blocking mode entries beyond `max_buffer` bytes are dropped and counted.

use crate::jsonlog::{self, Moment, Stream};
use crate::lines::Lines;
use ferry_shim_proto::LogTarget;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The bytes not yet on disk above which a batch is written before more is encoded.
const BATCH: usize = 32 * 1024;

/// The log of one container.
#[derive(Debug)]
pub struct Log {
    target: LogTarget,
    attributes: Vec<u8>,
    file: File,
    /// Bytes of `file`.
    size: u64,
    /// Whether the file ends in the middle of an entry, which must be completed before a rotation.
    inside_entry: bool,
    stdout: Lines,
    stderr: Lines,
    /// Encoded entries not written yet.
    pending: Vec<u8>,
    failing: bool,
    dropped: u64,
}

/// Opens or makes the file of a log, for appending.
///
/// # Errors
/// What open(2) says, with the path.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path);
    Ok(opened
        .map_err(|e| io::Error::new(e.kind(), format!("open log {}: {e}", path.display())))?
        .into())
}

impl Log {
    /// A log whose file is open already.
    ///
    /// # Errors
    /// When the file's size cannot be read.
    pub fn new(target: LogTarget, file: OwnedFd) -> io::Result<Log> {
        let file = File::from(file);
        let size = file.metadata()?.len();
        Ok(Log {
            attributes: jsonlog::attributes(&target.attrs),
            target,
            file,
            size,
            inside_entry: false,
            stdout: Lines::default(),
            stderr: Lines::default(),
            pending: Vec::new(),
            failing: false,
            dropped: 0,
        })
    }

    /// The open file, for a keep-list.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Takes output as it was read. Returns a sentence when the disk has begun to refuse it.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Option<String> {
        self.cut(stream, |lines, emit| lines.push(bytes, Moment::now, emit))
    }

    /// The stream has ended.
    pub fn finish(&mut self, stream: Stream) -> Option<String> {
        self.cut(stream, |lines, emit| lines.finish(Moment::now, emit))
    }

    /// Whether reading more of the container would lose or hoard it.
    pub fn holds_back(&self) -> bool {
        !self.pending.is_empty() && !self.target.non_blocking
    }

    /// Whether a write is to be tried again some time.
    pub fn is_failing(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Tries the disk again. Returns a sentence once when entries were lost meanwhile.
    pub fn retry(&mut self) -> Option<String> {
        if self.flush().is_err() {
            return None;
        }
        self.failing = false;
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| {
            format!(
                "the log {} lost {dropped} entries while it could not be written",
                self.target.path.display()
            )
        })
    }

    /// Opens the path anew, after somebody moved or truncated it.
    ///
    /// # Errors
    /// What open(2) says; the old file stays in use then.
    pub fn reopen(&mut self) -> io::Result<()> {
        let file = File::from(open(&self.target.path)?);
        self.size = file.metadata()?.len();
        self.file = file;
        self.inside_entry = false;
        Ok(())
    }

    /// The last try. Returns a sentence when something is lost.
    pub fn close(mut self) -> Option<String> {
        let failed = self.flush().err();
        let lost = self.dropped + self.pending.iter().filter(|b| **b == b'\n').count() as u64;
        let path = self.target.path.display();
        failed
            .map(|error| format!("write log {path}: {error}; the last {lost} entries are lost"))
            .or_else(|| {
                (lost > 0)
                    .then(|| format!("the log {path} lost {lost} entries while it could not be written"))
            })
    }

    fn cut(
        &mut self,
        stream: Stream,
        cut: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8], Moment)),
    ) -> Option<String> {
        let mut lines = std::mem::take(match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        });
        let mut failed = None;
        cut(&mut lines, &mut |text, at| {
            if self.failing && self.target.non_blocking && self.pending.len() as u64 >= self.target.max_buffer
            {
                self.dropped += 1;
                return;
            }
            jsonlog::entry(&mut self.pending, stream, text, &self.attributes, at);
            if self.pending.len() >= BATCH && failed.is_none() && !self.failing {
                failed = self.flush().err();
            }
        });
        match stream {
            Stream::Stdout => self.stdout = lines,
            Stream::Stderr => self.stderr = lines,
        }
        if failed.is_none() && !self.failing {
            failed = self.flush().err();
        }
        let error = failed?;
        self.failing = true;
        let next = if self.target.non_blocking {
            "entries are dropped"
        } else {
            "the container waits"
        };
        Some(format!(
            "write log {}: {error}; {next} until it can be written",
            self.target.path.display()
        ))
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            if self.target.max_size > 0 && self.size >= self.target.max_size && !self.inside_entry {
                self.rotate()?;
            }
            let end = self.until_rotation();
            let written = match self.file.write(&self.pending[..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.size += written as u64;
            self.inside_entry = self.pending[written - 1] != b'\n';
            if written == self.pending.len() {
                self.pending = Vec::new();
            } else {
                self.pending.drain(..written);
            }
        }
        Ok(())
    }

    /// How much of `pending` belongs into the current file: up to the end of the entry that fills it.
    fn until_rotation(&self) -> usize {
        let all = self.pending.len();
        if self.target.max_size == 0 {
            return all;
        }
        let room = usize::try_from(self.target.max_size.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let from = room.saturating_sub(1).min(all);
        self.pending[from..]
            .iter()
            .position(|b| *b == b'\n')
            .map_or(all, |newline| from + newline + 1)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.target.path;
        if self.target.max_file < 2 {
            ignore_missing(std::fs::remove_file(path))?;
        } else {
            for number in (1..self.target.max_file - 1).rev() {
                ignore_missing(std::fs::rename(
                    numbered(path, number),
                    numbered(path, number + 1),
                ))?;
            }
            ignore_missing(std::fs::rename(path, numbered(path, 1)))?;
        }
        self.reopen()
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &Path, max_size: u64, max_file: u32) -> LogTarget {
        LogTarget {
            path: path.into(),
            max_size,
            max_file,
            attrs: Vec::new(),
            non_blocking: false,
            max_buffer: 0,
        }
    }

    fn log(target: LogTarget) -> Log {
        let file = open(&target.path).expect("open");
        Log::new(target, file).expect("log")
    }

    fn messages(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let text_of = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).expect("one entry a line");
            value["log"].as_str().unwrap_or_default().to_owned()
        };
        text.lines().map(text_of).collect()
    }

    #[test]
    fn entries_rotate_whole_and_in_order() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("c-json.log");
        let mut log = log(target(&path, 200, 3));
        // One read with many lines, which must be spread over files all the same.
        let text: String = (0..20).map(|n| format!("line {n}\n")).collect();
        assert_eq!(log.write(Stream::Stdout, text.as_bytes()), None);
        assert_eq!(log.close(), None);
        let mut all = Vec::new();
        for file in [numbered(&path, 2), numbered(&path, 1), path.clone()] {
            let found = messages(&file);
            assert!((1..=4).contains(&found.len()), "{found:?}");
            all.extend(found);
        }
        let expected: Vec<String> = (20 - all.len()..20).map(|n| format!("line {n}\n")).collect();
        assert_eq!(all, expected);
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn a_single_file_is_replaced_and_a_reopened_one_found() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("log");
        let mut log = log(target(&path, 100, 1));
        for n in 0..5 {
            assert_eq!(log.write(Stream::Stdout, format!("{n}\n").as_bytes()), None);
        }
        assert_eq!(messages(&path), ["4\n"]);
        std::fs::rename(&path, dir.path().join("moved")).expect("rename");
        log.reopen().expect("reopen");
        assert_eq!(log.write(Stream::Stderr, b"rest"), None);
        assert_eq!(log.finish(Stream::Stderr), None);
        assert_eq!(messages(&path), ["rest"]);
    }

    fn full(non_blocking: bool) -> Log {
        let target = LogTarget {
            non_blocking,
            max_buffer: 150,
            ..target(Path::new("/dev/full"), 0, 1)
        };
        log(target)
    }

    #[test]
    fn a_full_disk_holds_back_or_drops_and_says_so_once() {
        let mut log = full(false);
        let said = log.write(Stream::Stdout, b"one\n").expect("said");
        assert!(
            said.contains("/dev/full") && said.contains("the container waits"),
            "{said}"
        );
        assert!(log.holds_back() && log.is_failing());
        assert_eq!(log.write(Stream::Stdout, b"two\n"), None);
        assert_eq!(log.retry(), None);
        let dir = tempfile::tempdir().expect("dir");
        log.target.path = dir.path().join("log");
        log.reopen().expect("reopen");
        assert_eq!(log.retry(), None);
        assert!(!log.holds_back());
        assert_eq!(messages(&dir.path().join("log")), ["one\n", "two\n"]);

        let mut log = full(true);
        assert!(
            log.write(Stream::Stdout, b"1\n")
                .expect("said")
                .contains("dropped")
        );
        for _ in 0..9 {
            assert_eq!(log.write(Stream::Stdout, b"more\n"), None);
        }
        assert!(!log.holds_back());
        let said = log.close().expect("said");
        assert!(said.contains("the last 10 entries are lost"), "{said}");
    }
}
