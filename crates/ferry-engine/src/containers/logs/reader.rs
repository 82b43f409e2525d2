//! The files of a json-file log, read in the order they were written, also while they are rotated. Blocks.
//!
//! `<path>` is written, `<path>.1` is the last one before it, and so on. A file keeps its inode when it is rotated, which is how
//! it is known again.

use crate::containers::options::{LogLine, LogOptions};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How much is read at a time.
const BLOCK: usize = 64 * 1024;
/// The longest line that is taken for one; the writer's are far below.
const LINE_MAX: usize = 4 << 20;

/// What a look at the log gave.
#[derive(Debug)]
pub(crate) enum Found {
    /// These; perhaps none of those asked for.
    Lines(Vec<LogLine>),
    /// Everything that was written is read.
    Nothing,
    /// Nothing that is asked for can come any more.
    Over,
}

/// Reads one log.
pub(crate) struct Reader {
    path: PathBuf,
    options: LogOptions,
    /// Oldest first; the first one is being read.
    files: VecDeque<Open>,
    /// The beginning of a line whose rest is not written yet.
    rest: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: (u64, u64),
    at: u64,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: String,
}

impl Reader {
    /// Opens the files, and finds the place to begin at.
    pub(crate) fn open(path: PathBuf, options: LogOptions) -> Result<Self> {
        let files = newer(&path, None)?;
        let mut reader = Self {
            path,
            options,
            files: VecDeque::new(),
            rest: Vec::new(),
        };
        let mut wanted = reader.options.tail;
        // From the newest on, as far back as is asked for.
        for mut open in files {
            match wanted {
                None => {
                    if reader.too_old(&open)? {
                        break;
                    }
                    reader.files.push_front(open);
                }
                Some(count) => {
                    if count == 0 && !reader.files.is_empty() {
                        break;
                    }
                    let (at, found) = tail(&open.file, count).map_err(|e| reader.failed(e))?;
                    open.at = at;
                    wanted = Some(count - found);
                    reader.files.push_front(open);
                }
            }
        }
        Ok(reader)
    }

    /// Written to for the last time before anything that is asked for; never true of the newest.
    fn too_old(&self, open: &Open) -> Result<bool> {
        let Some(since) = self.options.since.filter(|_| !self.files.is_empty()) else {
            return Ok(false);
        };
        let modified = open
            .file
            .metadata()
            .and_then(|m| m.modified())
            .map_err(|e| self.failed(e))?;
        Ok(modified < since)
    }

    /// The next lines.
    pub(crate) fn next(&mut self) -> Result<Found> {
        if let (Some(until), Some(since)) = (self.options.until, self.options.since)
            && until < since
        {
            return Ok(Found::Over);
        }
        loop {
            if self.files.is_empty() {
                self.files = newer(&self.path, None)?.into_iter().rev().collect();
            }
            let Some(open) = self.files.front_mut() else {
                return Ok(Found::Nothing);
            };
            let block = read_on(open);
            let (block, restarted) = block.map_err(|e| self.failed(e))?;
            if restarted {
                self.rest.clear();
            }
            if !block.is_empty() {
                self.rest.extend_from_slice(&block);
                return self.lines();
            }
            if !self.advance()? {
                return Ok(Found::Nothing);
            }
        }
    }

    /// Goes on to the next file when this one is read and written no more.
    fn advance(&mut self) -> Result<bool> {
        let Some(open) = self.files.front() else {
            return Ok(false);
        };
        if self.files.len() == 1 {
            let later = newer(&self.path, Some(open.inode))?;
            if later.is_empty() {
                return Ok(false);
            }
            self.files.extend(later.into_iter().rev());
            // It may have been written to between the last look and its rotation.
            return Ok(true);
        }
        self.files.pop_front();
        if !self.rest.is_empty() {
            tracing::warn!(path = %self.path.display(), "a log file ends in the middle of a line");
            self.rest.clear();
        }
        Ok(true)
    }

    fn lines(&mut self) -> Result<Found> {
        let rest = std::mem::take(&mut self.rest);
        let mut lines = Vec::new();
        let mut begin = 0;
        for (end, _) in rest.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            let text = &rest[begin..end];
            begin = end + 1;
            let line = match parse(text, self.options.details) {
                Ok(line) => line,
                Err(error) => {
                    // What a crash of the machine leaves; the lines behind it are good.
                    tracing::warn!(path = %self.path.display(), error, "a line of a log cannot be read and is left out");
                    continue;
                }
            };
            if self.options.until.is_some_and(|until| line.at > until) {
                return Ok(if lines.is_empty() {
                    Found::Over
                } else {
                    self.finish(lines)
                });
            }
            let wanted = if line.stream == 2 {
                self.options.stderr
            } else {
                self.options.stdout
            };
            if wanted && self.options.since.is_none_or(|since| line.at >= since) {
                lines.push(line);
            }
        }
        self.rest = rest[begin..].to_vec();
        if self.rest.len() > LINE_MAX {
            return Err(self.failed(io::Error::new(
                io::ErrorKind::InvalidData,
                "a line without an end",
            )));
        }
        Ok(Found::Lines(lines))
    }

    /// These are the last ones: the next look finds the range closed.
    fn finish(&mut self, lines: Vec<LogLine>) -> Found {
        self.options.since = self
            .options
            .until
            .map(|until| until + std::time::Duration::from_nanos(1));
        Found::Lines(lines)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::internal(format!("reading {}", self.path.display()), error)
    }
}

/// The files, newest first, down to the one after `known`.
fn newer(path: &Path, known: Option<(u64, u64)>) -> Result<Vec<Open>> {
    let mut found: Vec<Open> = Vec::new();
    for number in 0u32.. {
        let name = if number == 0 {
            path.to_path_buf()
        } else {
            PathBuf::from(format!("{}.{number}", path.display()))
        };
        let opened = File::open(&name).and_then(|file| file.metadata().map(|m| (file, (m.dev(), m.ino()))));
        let (file, inode) = match opened {
            Ok(opened) => opened,
            // Between the renames of a rotation the newest is missing.
            Err(e) if e.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(Error::internal(format!("opening {}", name.display()), e)),
        };
        if known == Some(inode) {
            break;
        }
        // Rotated while we looked: it is there under its old name already.
        if found.iter().all(|open| open.inode != inode) {
            found.push(Open { file, inode, at: 0 });
        }
    }
    Ok(found)
}

/// The next bytes of a file; true when it was cut off below the place where we were.
fn read_on(open: &mut Open) -> io::Result<(Vec<u8>, bool)> {
    let restarted = open.file.metadata()?.len() < open.at;
    if restarted {
        open.at = 0;
    }
    let mut block = vec![0; BLOCK];
    open.file.seek(SeekFrom::Start(open.at))?;
    let length = open.file.read(&mut block)?;
    block.truncate(length);
    open.at += length as u64;
    Ok((block, restarted))
}

/// Where the last `count` lines begin, and how many there are (at most `count`). Reads backwards, no further than it has to. A
/// line whose end is not written yet does not count.
fn tail(file: &File, count: usize) -> io::Result<(u64, usize)> {
    let mut end = file.metadata()?.len();
    let mut seen = 0;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact_at(part, start)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            if seen == count {
                return Ok((start + at as u64 + 1, count));
            }
            seen += 1;
        }
        end = start;
    }
    Ok((0, seen))
}

fn parse(text: &[u8], details: bool) -> std::result::Result<LogLine, String> {
    let entry: Entry = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let at = OffsetDateTime::parse(&entry.time, &Rfc3339).map_err(|e| format!("{:?}: {e}", entry.time))?;
    Ok(LogLine {
        stream: if entry.stream == "stderr" { 2 } else { 1 },
        at: SystemTime::from(at),
        partial: !entry.log.ends_with('\n'),
        text: entry.log.into_bytes(),
        attrs: if details {
            entry.attrs.into_iter().collect()
        } else {
            Vec::new()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    fn entry(n: u32) -> String {
        let stream = if n.is_multiple_of(5) { "stderr" } else { "stdout" };
        let (minutes, seconds) = (n / 60, n % 60);
        format!(
            "{{\"log\":\"line {n}\\n\",\"stream\":\"{stream}\",\"attrs\":{{\"b\":\"2\",\"a\":\"1\"}},\"time\":\"1970-01-01T00:{minutes:02}:{seconds:02}.5Z\"}}\n"
        )
    }

    fn append(path: &Path, numbers: std::ops::Range<u32>) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        numbers.for_each(|n| file.write_all(entry(n).as_bytes()).unwrap());
    }

    fn all() -> LogOptions {
        LogOptions {
            stdout: true,
            stderr: true,
            ..LogOptions::default()
        }
    }

    fn rest(reader: &mut Reader) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Found::Lines(lines) = reader.next().unwrap() {
            for line in lines {
                let text = String::from_utf8(line.text).unwrap();
                numbers.push(text.trim_start_matches("line ").trim_end().parse().unwrap());
            }
        }
        numbers
    }

    fn read(path: &Path, options: LogOptions) -> Vec<u32> {
        rest(&mut Reader::open(path.into(), options).unwrap())
    }

    fn rotated() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        append(&dir.path().join("c-json.log.2"), 0..10);
        append(&dir.path().join("c-json.log.1"), 10..20);
        append(&path, 20..25);
        (dir, path)
    }

    #[test]
    fn the_tail_goes_over_rotated_files() {
        let (_dir, path) = rotated();
        assert_eq!(read(&path, all()), (0..25).collect::<Vec<_>>());
        for count in [0, 1, 5, 6, 15, 24, 25, 100] {
            let options = LogOptions {
                tail: Some(count),
                ..all()
            };
            let first = 25u32.saturating_sub(u32::try_from(count).unwrap());
            assert_eq!(read(&path, options), (first..25).collect::<Vec<_>>(), "{count}");
        }
    }

    #[test]
    fn a_tail_longer_than_a_block_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, 0..3000);
        let options = LogOptions {
            tail: Some(2500),
            ..all()
        };
        assert_eq!(read(&path, options), (500..3000).collect::<Vec<_>>());
    }

    #[test]
    fn times_and_streams_are_chosen() {
        let (_dir, path) = rotated();
        let at = |s: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(s * 1000 + 500));
        let options = LogOptions {
            since: at(8),
            until: at(12),
            ..all()
        };
        assert_eq!(read(&path, options), [8, 9, 10, 11, 12]);
        let options = LogOptions {
            stdout: false,
            until: at(12),
            ..all()
        };
        assert_eq!(read(&path, options), [0, 5, 10]);
        let options = LogOptions {
            since: at(9),
            until: at(8),
            ..all()
        };
        assert_eq!(read(&path, options), [0u32; 0]);
    }

    #[test]
    fn what_is_written_later_is_found_over_rotations() {
        let (dir, path) = rotated();
        let mut reader = Reader::open(
            path.clone(),
            LogOptions {
                tail: Some(0),
                ..all()
            },
        )
        .unwrap();
        assert_eq!(rest(&mut reader), [0u32; 0]);
        append(&path, 25..27);
        let name = |n: u32| dir.path().join(format!("c-json.log.{n}"));
        for _ in 0..2 {
            std::fs::rename(name(1), name(2)).unwrap();
            std::fs::rename(&path, name(1)).unwrap();
            append(&path, 27..28);
        }
        append(&path, 28..30);
        assert_eq!(rest(&mut reader), [25, 26, 27, 27, 28, 29]);
        let half = entry(30);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&half.as_bytes()[..9]).unwrap();
        assert_eq!(rest(&mut reader), [0u32; 0]);
        file.write_all(&half.as_bytes()[9..]).unwrap();
        assert_eq!(rest(&mut reader), [30]);
        file.set_len(0).unwrap();
        assert_eq!(rest(&mut reader), [0u32; 0]);
        append(&path, 31..32);
        assert_eq!(rest(&mut reader), [31]);
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_found_when_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = Reader::open(path.clone(), all()).unwrap();
        assert_eq!(rest(&mut reader), [0u32; 0]);
        append(&path, 0..2);
        assert_eq!(rest(&mut reader), [0, 1]);
    }

    #[test]
    fn a_line_tells_its_parts() {
        let line = parse(entry(5).as_bytes(), true).unwrap();
        assert_eq!(
            (line.stream, line.partial, line.text),
            (2, false, b"line 5\n".to_vec())
        );
        assert_eq!(
            line.attrs,
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
        let text = br#"{"log":"part","stream":"stdout","time":"1970-01-01T00:00:01.000000002Z"}"#;
        let line = parse(text, false).unwrap();
        assert!(line.partial && line.attrs.is_empty());
        assert_eq!(line.at, SystemTime::UNIX_EPOCH + Duration::new(1, 2));
        assert!(parse(b"{", false).is_err());
    }
}
