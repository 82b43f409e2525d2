//! The stream of entries.

use super::pax::{self, Records};
use super::sparse::{self, Map};
use super::{BLOCK, Entry, Kind, MAX_SPECIAL, TarError, header, malformed};
use std::io::{BufRead, Read};

/// Reads a tar front to back. After an error it must not be used again.
pub(crate) struct Reader<R> {
    source: R,
    /// Stored bytes of the current entry that have not been read.
    stored: u64,
    /// Zeros after them, up to a whole block.
    padding: u64,
    /// Where the current entry's stored bytes belong; `None` when it is not sparse.
    map: Option<Map>,
    ended: bool,
}

/// What extension headers said about the next entry.
#[derive(Default)]
struct Extensions {
    records: Records,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            stored: 0,
            padding: 0,
            map: None,
            ended: false,
        }
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the previous one is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.finish_entry()?;
            let Some(block) = self.read_header()? else {
                return Ok(None);
            };
            let raw = header::Raw::parse(&block)?;
            self.begin_data(kind(raw.type_byte), raw.size)?;
            match raw.type_byte {
                b'x' => extensions.records = pax::parse(&self.read_special()?)?,
                b'L' => extensions.long_name = header::text(&self.read_special()?).to_vec(),
                b'K' => extensions.long_link = header::text(&self.read_special()?).to_vec(),
                b'g' => {
                    pax::parse(&self.read_special()?)?;
                    return entry(&raw, Kind::Global).map(Some);
                }
                _ => return self.build(&block, raw, extensions).map(Some),
            }
        }
    }

    fn build(&mut self, block: &[u8; BLOCK], raw: header::Raw, ext: Extensions) -> Result<Entry, TarError> {
        let mut entry = entry(&raw, kind(raw.type_byte))?;
        let mut size = raw.size;
        merge(&mut entry, &mut size, &ext.records)?;
        if !ext.long_name.is_empty() {
            entry.path = ext.long_name;
        }
        if !ext.long_link.is_empty() {
            entry.link = ext.long_link;
        }
        if raw.type_byte == 0 && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        self.begin_data(entry.kind, size)?;
        entry.size = self.stored;
        let map = match raw.type_byte {
            b'S' if !raw.is_gnu => return Err(malformed("a sparse file in an unknown format")),
            b'S' => Some(self.old_sparse_map(block, &mut entry)?),
            _ => self.pax_sparse_map(&mut entry, &ext.records)?,
        };
        if let Some(map) = &map {
            if entry.kind != Kind::File {
                return Err(malformed(format!("{} is sparse, but no file", entry.name())));
            }
            sparse::validate(map, entry.size)?;
            if map.iter().map(|&(_, length)| length).sum::<u64>() != self.stored {
                return Err(malformed(format!(
                    "the sparse map of {} does not fit its data",
                    entry.name()
                )));
            }
        }
        self.map = map;
        Ok(entry)
    }

    fn old_sparse_map(&mut self, block: &[u8; BLOCK], entry: &mut Entry) -> Result<Map, TarError> {
        entry.size = u64::try_from(header::number(&block[483..495])?)
            .map_err(|_| malformed("a sparse file of negative size"))?;
        let mut map = Map::new();
        sparse::old_gnu(&block[386..482], &mut map)?;
        let (mut extended, mut total) = (block[482] != 0, 0u64);
        while extended {
            total += BLOCK as u64;
            if total > MAX_SPECIAL {
                return Err(TarError::TooLarge("a sparse map is larger than 1 MiB".into()));
            }
            let mut next = [0; BLOCK];
            self.read_exact(&mut next)?;
            sparse::old_gnu(&next[..504], &mut map)?;
            extended = next[504] != 0;
        }
        Ok(map)
    }

    fn pax_sparse_map(&mut self, entry: &mut Entry, records: &Records) -> Result<Option<Map>, TarError> {
        let get = |key: &str| records.get(key.as_bytes()).map_or(&[][..], Vec::as_slice);
        let text = records.get(pax::SPARSE_MAP).map_or(&[][..], Vec::as_slice);
        let v1 = match (get("GNU.sparse.major"), get("GNU.sparse.minor")) {
            (b"0", b"0" | b"1") => false,
            (b"1", b"0") => true,
            (b"", b"") if !text.is_empty() => false,
            _ => return Ok(None),
        };
        if !get("GNU.sparse.name").is_empty() {
            entry.path = get("GNU.sparse.name").to_vec();
        }
        let size = match get("GNU.sparse.size") {
            b"" => get("GNU.sparse.realsize"),
            size => size,
        };
        if !size.is_empty() {
            entry.size = u64::try_from(pax::decimal(size)?)
                .map_err(|_| malformed("a sparse file of negative size"))?;
        }
        if v1 {
            return sparse::pax_1_0(|| self.data_block()).map(Some);
        }
        sparse::pax_0_1(get("GNU.sparse.numblocks"), text).map(Some)
    }

    /// Gives the entry's data to `take`, each stretch with its offset in the file.
    pub(crate) fn data<E: From<TarError>>(
        &mut self,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let map = self.map.take().unwrap_or_else(|| vec![(0, self.stored)]);
        for (start, length) in map {
            let mut done = 0;
            while done < length {
                let chunk = self.source.fill_buf().map_err(TarError::from)?;
                if chunk.is_empty() {
                    return Err(TarError::Truncated.into());
                }
                let n = chunk
                    .len()
                    .min(usize::try_from(length - done).unwrap_or(usize::MAX));
                take(start + done, &chunk[..n])?;
                self.source.consume(n);
                self.stored -= n as u64;
                done += n as u64;
            }
        }
        Ok(())
    }

    /// The whole data of a small entry; holes are refused.
    pub(crate) fn read_all(&mut self, entry: &Entry, max: u64) -> Result<Vec<u8>, TarError> {
        if entry.size > max || self.map.is_some() {
            return Err(TarError::TooLarge(format!(
                "{} is larger than {max} bytes",
                entry.name()
            )));
        }
        let mut bytes = Vec::new();
        self.data(|_, chunk| {
            bytes.extend_from_slice(chunk);
            Ok::<(), TarError>(())
        })?;
        Ok(bytes)
    }

    /// Reads what follows the end of the archive, so that a hash over the source sees everything.
    pub(crate) fn drain(mut self) -> Result<(), TarError> {
        loop {
            let n = self.source.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            self.source.consume(n);
        }
    }

    fn begin_data(&mut self, kind: Kind, size: i64) -> Result<(), TarError> {
        let has_data = matches!(kind, Kind::File | Kind::Global | Kind::Unknown(_));
        let size = if has_data { size } else { 0 };
        self.stored = u64::try_from(size).map_err(|_| malformed("an entry of negative size"))?;
        self.padding = self.stored.next_multiple_of(BLOCK as u64) - self.stored;
        self.map = None;
        Ok(())
    }

    /// Skips what is left of the current entry. Missing padding at the very end is forgiven, missing data is not.
    fn finish_entry(&mut self) -> Result<(), TarError> {
        let mut left = self.stored + self.padding;
        while left > 0 {
            let n = self.source.fill_buf()?.len();
            if n == 0 && left > self.padding {
                return Err(TarError::Truncated);
            }
            if n == 0 {
                break;
            }
            let n = n.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.source.consume(n);
            left -= n as u64;
        }
        (self.stored, self.padding, self.map) = (0, 0, None);
        Ok(())
    }

    /// The next header block; `None` at a clean end: nothing more, one zero block and nothing more, or two zero blocks.
    fn read_header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.ended || self.source.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.read_exact(&mut block)?;
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        self.ended = true;
        if self.source.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.read_exact(&mut block)?;
        if block == [0; BLOCK] {
            Ok(None)
        } else {
            Err(malformed("a single block of zeros before another entry"))
        }
    }

    fn data_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.stored = self.stored.checked_sub(BLOCK as u64).ok_or(TarError::Truncated)?;
        self.read_exact(&mut block)?;
        Ok(block)
    }

    fn read_special(&mut self) -> Result<Vec<u8>, TarError> {
        if self.stored > MAX_SPECIAL {
            return Err(TarError::TooLarge(format!(
                "an extended header of {} bytes exceeds 1 MiB",
                self.stored
            )));
        }
        let mut bytes = Vec::new();
        let wanted = self.stored;
        (&mut self.source).take(wanted).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < wanted {
            return Err(TarError::Truncated);
        }
        self.stored = 0;
        Ok(bytes)
    }

    fn read_exact(&mut self, block: &mut [u8; BLOCK]) -> Result<(), TarError> {
        self.source.read_exact(block).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => TarError::Truncated,
            _ => TarError::Io(e),
        })
    }
}

fn kind(type_byte: u8) -> Kind {
    match type_byte {
        0 | b'0' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'g' => Kind::Global,
        other => Kind::Unknown(other),
    }
}

fn entry(raw: &header::Raw, kind: Kind) -> Result<Entry, TarError> {
    // Only a device has such numbers; what other entries have there is noise.
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let device = |n: i64| match u32::try_from(n) {
        Err(_) if is_device => Err(malformed(format!("{n} is no device number"))),
        n => Ok(n.unwrap_or(0)),
    };
    Ok(Entry {
        path: raw.name.clone(),
        link: raw.link.clone(),
        kind,
        mode: u32::try_from(raw.mode & 0o7777).unwrap_or(0),
        uid: id(raw.uid)?,
        gid: id(raw.gid)?,
        size: 0,
        mtime: (raw.mtime, 0),
        major: device(raw.major)?,
        minor: device(raw.minor)?,
        xattrs: Vec::new(),
    })
}

/// A user or group id; 2^32-1 means "leave as it is" to chown and is none.
fn id(number: i64) -> Result<u32, TarError> {
    u32::try_from(number)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| malformed(format!("{number} is no user or group id")))
}

fn merge(entry: &mut Entry, size: &mut i64, records: &Records) -> Result<(), TarError> {
    for (key, value) in records.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_slice() {
            b"path" => entry.path.clone_from(value),
            b"linkpath" => entry.link.clone_from(value),
            b"uid" => entry.uid = id(pax::decimal(value)?)?,
            b"gid" => entry.gid = id(pax::decimal(value)?)?,
            b"mtime" => entry.mtime = pax::time(value)?,
            b"size" => *size = pax::decimal(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    entry.xattrs.push((name.to_vec(), value.clone()));
                }
            }
        }
    }
    Ok(())
}
