//! Compressed bytes to tar bytes, and the bounded queue between that and whoever unpacks them.

use crate::error::{Result, StoreError};
use ferry_oci::media::Compression;
use std::io::{self, BufRead, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes a chunk of the queue has.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait.
const DEPTH: usize = 8;

/// What is known of the compressed side of a stream.
#[derive(Default)]
pub(crate) struct Intake {
    /// Compressed bytes read so far.
    pub(crate) bytes: AtomicU64,
    /// Whether reading failed, as opposed to the bytes being nonsense.
    pub(crate) failed: AtomicBool,
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    intake: Arc<Intake>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        match &read {
            Ok(n) => {
                self.intake.bytes.fetch_add(*n as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.intake.failed.store(true, Ordering::Relaxed),
        }
        read
    }
}

/// What the first bytes say a stream is.
pub(crate) fn detect(magic: &[u8]) -> std::result::Result<Compression, &'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // A zstd frame, or a skippable one before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Err("bzip2"),
        _ => Ok(Compression::None),
    }
}

/// Reads up to `n` bytes ahead; gives them and a reader of everything.
pub(crate) fn peek<'a>(reader: &'a mut dyn Read, n: u64) -> io::Result<(Vec<u8>, impl Read + 'a)> {
    let mut magic = Vec::new();
    (&mut *reader).take(n).read_to_end(&mut magic)?;
    Ok((magic.clone(), Cursor::new(magic).chain(reader)))
}

/// A reader of the tar within `reader`. The bytes decide what they are packed with, as they do for every other engine; the
/// media type's promise matters only where there are no bytes at all.
pub(crate) fn decoder<'a>(
    reader: &'a mut dyn Read,
    promised: Compression,
    intake: Arc<Intake>,
) -> Result<Box<dyn Read + 'a>> {
    let unreadable = |e: io::Error| StoreError::io("read", "layer", e);
    let (magic, rest) = peek(reader, 6).map_err(unreadable)?;
    if magic.is_empty() && promised != Compression::None {
        return Err(StoreError::invalid(
            "layer",
            "it is empty where a compressed tar was promised",
        ));
    }
    let counted = Counted { inner: rest, intake };
    match detect(&magic) {
        Ok(Compression::None) => Ok(Box::new(counted)),
        Ok(Compression::Gzip) => Ok(Box::new(flate2::read::MultiGzDecoder::new(counted))),
        Ok(Compression::Zstd) => Ok(Box::new(
            zstd::stream::read::Decoder::new(counted).map_err(unreadable)?,
        )),
        Err(name) => Err(StoreError::invalid(
            "layer",
            format!(
                "it is compressed with {name}, which no image format allows; repack it with gzip or zstd"
            ),
        )),
    }
}

enum Message {
    Data(Vec<u8>),
    End,
}

/// The end of the queue that takes tar bytes.
pub(crate) struct Feeder {
    sender: SyncSender<Message>,
    spare: Receiver<Vec<u8>>,
}

/// Sees every chunk; its error becomes the reader's.
type Tap = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// The end of the queue that gives them, as a buffered reader. Fails when the feeder vanished before its end.
pub(crate) struct Source {
    receiver: Receiver<Message>,
    spare: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
    tap: Tap,
}

/// A bounded queue. `tap` sees every chunk on the reading side, before it is read.
pub(crate) fn queue(tap: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> (Feeder, Source) {
    let (sender, receiver) = sync_channel(DEPTH);
    let (spare_sender, spare) = sync_channel(DEPTH + 2);
    let source = Source {
        receiver,
        spare: spare_sender,
        chunk: Vec::new(),
        at: 0,
        ended: false,
        tap: Box::new(tap),
    };
    (Feeder { sender, spare }, source)
}

/// How feeding ended.
pub(crate) enum Fed {
    /// Everything was delivered.
    All,
    /// The other side does not want more: it has failed and knows why.
    Unwanted,
}

impl Feeder {
    /// Reads `decoder` to its end into the queue.
    pub(crate) fn run(self, decoder: &mut dyn Read) -> io::Result<Fed> {
        loop {
            let mut chunk = self.spare.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let n = fill(decoder, &mut chunk)?;
            let last = n < CHUNK;
            chunk.truncate(n);
            if n > 0 && self.sender.send(Message::Data(chunk)).is_err() {
                return Ok(Fed::Unwanted);
            }
            if last {
                return Ok(if self.sender.send(Message::End).is_err() {
                    Fed::Unwanted
                } else {
                    Fed::All
                });
            }
        }
    }
}

/// Reads until `buffer` is full or the stream ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(m) => n += m,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() && !self.ended {
            match self.receiver.recv() {
                Ok(Message::Data(chunk)) => {
                    (self.tap)(&chunk)?;
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    self.at = 0;
                    // A full or closed return queue only means that the feeder allocates anew.
                    let _ = self.spare.try_send(used);
                }
                Ok(Message::End) => {
                    self.ended = true;
                }
                Err(_) => return Err(io::Error::other("the stream broke off")),
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
