//! Attaching to a container's or an exec's streams, and letting go by key.

use super::logs::LogStream;
use super::options::LogLine;
use crate::{Error, Result};
use futures_util::StreamExt;
use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// How much is read at a time.
const CHUNK: usize = 32 * 1024;

/// An attached stream.
pub struct AttachStream {
    /// Whether there is a terminal: then the bytes are raw, else they are in stdcopy frames.
    pub tty: bool,
    /// The shim's end is the container's streams; shutting down the writing half is the end of standard input.
    pub socket: UnixStream,
    /// What was written so far, to come first.
    pub replay: Option<LogStream>,
    /// Keys that let go.
    pub detach: DetachKeys,
}

/// A key sequence that lets go of a terminal. Matched over the whole stream, however it is cut into reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
}

impl Default for DetachKeys {
    /// ctrl-p, ctrl-q.
    fn default() -> Self {
        Self { keys: vec![16, 17] }
    }
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`, `a,b`; empty is the default.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for what is no key.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        keys.map(|keys| Self { keys })
            .ok_or_else(|| Error::invalid(format!("invalid detach keys ({text}) provided")))
    }

    /// A matcher at the beginning of a stream.
    pub fn matcher(&self) -> DetachMatcher {
        DetachMatcher {
            keys: self.keys.clone(),
            seen: 0,
        }
    }
}

/// One key: a character, or `ctrl-` and one of `a` to `z` and `@[\]^_`.
fn key(text: &str) -> Option<u8> {
    if let [single] = text.as_bytes() {
        return Some(*single);
    }
    match text.strip_prefix("ctrl-")?.as_bytes() {
        [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
        [c] if b"@[\\]^_".contains(c) => Some(c & 0x1f),
        _ => None,
    }
}

/// Follows one stream; see [`DetachKeys`].
#[derive(Debug)]
pub struct DetachMatcher {
    keys: Vec<u8>,
    seen: usize,
}

impl DetachMatcher {
    /// Appends to `out` what goes to the container; true when the sequence is complete, whose bytes are not passed on.
    /// A sequence that breaks off is passed on whole.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in input {
            if self.keys.is_empty() {
                out.push(byte);
                continue;
            }
            loop {
                if byte == self.keys[self.seen] {
                    self.seen += 1;
                    if self.seen == self.keys.len() {
                        self.seen = 0;
                        return true;
                    }
                    break;
                }
                if self.seen == 0 {
                    out.push(byte);
                    break;
                }
                self.give_up_one(out);
            }
        }
        false
    }

    /// Lets the oldest held byte go and keeps the longest rest that is a beginning of the sequence.
    fn give_up_one(&mut self, out: &mut Vec<u8>) {
        let held: VecDeque<u8> = self.keys[..self.seen].iter().copied().collect();
        let mut cut = 1;
        while !self
            .keys
            .starts_with(&held.iter().copied().skip(cut).collect::<Vec<u8>>())
        {
            cut += 1;
        }
        out.extend(held.iter().take(cut));
        self.seen -= cut;
    }
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// The container's side ended.
    Closed,
    /// The client let go by key.
    Detached,
}

/// Carries bytes both ways until the container's side ends or the client lets go.
///
/// The end of the client's input is passed on as the end of standard input; the output goes on.
///
/// # Errors
/// [`crate::Kind::Internal`] when a side fails.
pub async fn relay(
    stream: AttachStream,
    client_read: impl AsyncRead + Unpin + Send,
    mut client_write: impl AsyncWrite + Unpin + Send,
) -> Result<RelayEnd> {
    let AttachStream {
        tty,
        socket,
        replay,
        detach,
    } = stream;
    if let Some(mut lines) = replay {
        while let Some(line) = lines.next().await {
            let bytes = frame(&line?, tty);
            client_write.write_all(&bytes).await.map_err(broken)?;
        }
        client_write.flush().await.map_err(broken)?;
    }
    let (mut from, mut to) = socket.into_split();
    let matcher = tty.then(|| detach.matcher());
    let end = {
        let input = pump_input(client_read, &mut to, matcher);
        let output = pump_output(&mut from, &mut client_write);
        tokio::pin!(input, output);
        tokio::select! {
            ended = &mut output => ended,
            detached = &mut input => match detached {
                Ok(true) => Ok(RelayEnd::Detached),
                // The client's input ended or failed: what the container writes still goes out.
                Ok(false) | Err(_) => output.await,
            },
        }
    };
    client_write.shutdown().await.map_err(broken)?;
    end
}

/// True when the client let go by key.
async fn pump_input(
    mut client: impl AsyncRead + Unpin,
    container: &mut tokio::net::unix::OwnedWriteHalf,
    mut matcher: Option<DetachMatcher>,
) -> Result<bool> {
    let mut buffer = vec![0; CHUNK];
    let mut out = Vec::new();
    loop {
        let n = client.read(&mut buffer).await.map_err(broken)?;
        if n == 0 {
            container.shutdown().await.map_err(broken)?;
            return Ok(false);
        }
        out.clear();
        let detached = match &mut matcher {
            Some(matcher) => matcher.feed(&buffer[..n], &mut out),
            None => {
                out.extend_from_slice(&buffer[..n]);
                false
            }
        };
        container.write_all(&out).await.map_err(broken)?;
        if detached {
            return Ok(true);
        }
    }
}

async fn pump_output(
    container: &mut tokio::net::unix::OwnedReadHalf,
    client: &mut (impl AsyncWrite + Unpin),
) -> Result<RelayEnd> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = container.read(&mut buffer).await.map_err(broken)?;
        if n == 0 {
            return Ok(RelayEnd::Closed);
        }
        client.write_all(&buffer[..n]).await.map_err(broken)?;
        client.flush().await.map_err(broken)?;
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::internal("relaying an attached stream", error)
}

/// A log line as attached clients get it: raw for a terminal, else one stdcopy frame.
pub fn frame(line: &LogLine, tty: bool) -> Vec<u8> {
    if tty {
        return line.text.clone();
    }
    let length = u32::try_from(line.text.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![line.stream, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(&line.text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: &str, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut matcher = DetachKeys::parse(keys).unwrap().matcher();
        let mut out = Vec::new();
        for chunk in chunks {
            if matcher.feed(chunk, &mut out) {
                return (out, true);
            }
        }
        (out, false)
    }

    #[test]
    fn keys_are_found_wherever_the_stream_is_cut() {
        assert_eq!(run("", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(run("", &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(run("", &[b"\x10x\x11"]), (b"\x10x\x11".to_vec(), false));
        assert_eq!(run("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(run("ctrl-[", &[b"x\x1b"]), (b"x".to_vec(), true));
    }

    #[test]
    fn wrong_keys_are_refused() {
        for text in ["ctrl-1", "abc", "ctrl-", "a,,b", "CTRL-p"] {
            let error = DetachKeys::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid detach keys ({text}) provided"));
        }
    }

    #[tokio::test]
    async fn the_end_of_input_leaves_the_output_open() {
        let (socket, mut shim) = UnixStream::pair().unwrap();
        let stream = AttachStream {
            tty: false,
            socket,
            replay: None,
            detach: DetachKeys::default(),
        };
        let (client, mut far) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(client);
        let relayed = tokio::spawn(relay(stream, read, write));
        far.write_all(b"in").await.unwrap();
        far.shutdown().await.unwrap();
        let mut got = Vec::new();
        shim.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"in");
        shim.write_all(b"out").await.unwrap();
        drop(shim);
        assert_eq!(relayed.await.unwrap().unwrap(), RelayEnd::Closed);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"out");
    }
}
