//! Writing tars: ustar where everything fits, PAX records where not. The same input gives the same bytes.

use super::{BLOCK, Kind};
use std::io::{self, Write};

/// What to write about one entry.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    /// A root-owned file or directory.
    pub(crate) fn new(kind: Kind, path: impl Into<Vec<u8>>, mode: u32, size: u64) -> Self {
        Self {
            path: path.into(),
            link: Vec::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size,
            mtime: 0,
            major: 0,
            minor: 0,
            xattrs: Vec::new(),
        }
    }
}

/// Writes entries one after another.
pub(crate) struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Begins an entry. For a file, exactly `size` bytes of data must follow through `data`, then `pad(size)`.
    pub(crate) fn header(&mut self, header: &Header) -> io::Result<()> {
        let records = records(header);
        if !records.is_empty() {
            let mut pax = Header::new(Kind::File, "PaxHeaders/entry", 0o644, records.len() as u64);
            pax.mtime = 0;
            self.sink.write_all(&block(&pax, b'x'))?;
            self.sink.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.sink.write_all(&block(header, type_byte(header.kind)))
    }

    /// A whole small file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.header(&Header::new(Kind::File, path, mode, bytes.len() as u64))?;
        self.data(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// A directory, its name with the slash.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.header(&Header::new(Kind::Directory, path, mode, 0))
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)
    }

    /// Zeros up to a whole block after `size` bytes.
    pub(crate) fn pad(&mut self, size: u64) -> io::Result<()> {
        let n = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0);
        self.sink.write_all(&[0; BLOCK][..n])
    }

    /// The two zero blocks of the end.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

fn type_byte(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Global => b'g',
        Kind::Unknown(byte) => byte,
    }
}

/// Name and prefix as ustar splits them, if they fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let slash = path.iter().take(156).rposition(|&b| b == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (slash > 0 && !name.is_empty() && name.len() <= 100).then_some((prefix, name))
}

fn octal_fits(value: u64, digits: u32) -> bool {
    value < 1 << (3 * digits)
}

fn records(h: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| out.extend_from_slice(&record(key, value));
    for (name, value) in &h.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    for (key, id) in [(&b"gid"[..], h.gid), (b"uid", h.uid)] {
        if !octal_fits(u64::from(id), 7) {
            add(key, id.to_string().as_bytes());
        }
    }
    if h.link.len() > 100 || !h.link.is_ascii() {
        add(b"linkpath", &h.link);
    }
    if u64::try_from(h.mtime).map_or(true, |t| !octal_fits(t, 11)) {
        add(b"mtime", h.mtime.to_string().as_bytes());
    }
    if split(&h.path).is_none() || !h.path.is_ascii() {
        add(b"path", &h.path);
    }
    if !octal_fits(h.size, 11) {
        add(b"size", h.size.to_string().as_bytes());
    }
    out
}

/// `"length key=value\n"`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn block(h: &Header, type_byte: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let (prefix, name) = split(&h.path).unwrap_or((&[], &h.path[..h.path.len().min(99)]));
    let fit = |value: u64, digits: usize| {
        let fits = octal_fits(value, u32::try_from(digits).unwrap_or(0));
        format!("{:0digits$o}\0", if fits { value } else { 0 })
    };
    put(0, name);
    put(345, prefix);
    put(100, fit(u64::from(h.mode & 0o7777), 7).as_bytes());
    put(108, fit(u64::from(h.uid), 7).as_bytes());
    put(116, fit(u64::from(h.gid), 7).as_bytes());
    put(124, fit(h.size, 11).as_bytes());
    put(136, fit(u64::try_from(h.mtime).unwrap_or(0), 11).as_bytes());
    put(148, b"        ");
    put(156, &[type_byte]);
    put(157, &h.link[..h.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, fit(u64::from(h.major), 7).as_bytes());
    put(337, fit(u64::from(h.minor), 7).as_bytes());
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
