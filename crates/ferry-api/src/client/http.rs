//! HTTP/1.1 on one connection: request heads out, response heads and bodies in.

use super::{Endpoint, Error, Hijacked, Payload, Stream};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// Longest response head that is read. The engine's are under 1 KiB.
const MAX_HEAD: usize = 64 * 1024;

/// One connection with what was read ahead of its use.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    position: usize,
    head: Option<Head>,
}

/// The parsed head of a response.
struct Head {
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
}

impl Connection {
    pub(super) fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        let stream = endpoint.connect().map_err(|source| Error::Connect {
            endpoint: endpoint.to_string(),
            source,
        })?;
        Ok(Self::from_stream(stream))
    }

    pub(super) fn from_stream(stream: Box<dyn Stream>) -> Self {
        Connection {
            stream,
            buffer: Vec::new(),
            position: 0,
            head: None,
        }
    }

    pub(super) fn write_request(&mut self, head: &[u8], payload: &mut Payload) -> Result<(), Error> {
        let io = |source| Error::Io {
            op: "sending the request",
            source,
        };
        match payload {
            Payload::Empty => self.stream.write_all(head).map_err(io)?,
            Payload::Json(body) => {
                let mut all = Vec::with_capacity(head.len() + body.len());
                all.extend_from_slice(head);
                all.extend_from_slice(body);
                self.stream.write_all(&all).map_err(io)?;
            }
            Payload::Reader { reader, .. } => {
                self.stream.write_all(head).map_err(io)?;
                self.write_chunks(reader.as_mut())?;
            }
        }
        self.stream.flush().map_err(io)
    }

    /// Copies the reader as chunks. An engine that answers early and hangs up is not an error here: its answer tells why.
    fn write_chunks(&mut self, reader: &mut dyn Read) -> Result<(), Error> {
        let mut chunk = vec![0_u8; 256 * 1024];
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::Io {
                        op: "reading the body to send",
                        source,
                    });
                }
            };
            let head = format!("{n:x}\r\n");
            let sent = self
                .stream
                .write_all(head.as_bytes())
                .and_then(|()| self.stream.write_all(&chunk[..n]))
                .and_then(|()| self.stream.write_all(b"\r\n"));
            match sent {
                Ok(()) if n == 0 => return Ok(()),
                Ok(()) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Ok(());
                }
                Err(source) => {
                    return Err(Error::Io {
                        op: "sending the body",
                        source,
                    });
                }
            }
        }
    }

    pub(super) fn read_head(&mut self) -> Result<(), Error> {
        loop {
            let head = self.read_one_head()?;
            // 100 to 199 but the upgrade announce another head.
            if head.status >= 200 || head.status == 101 {
                self.head = Some(head);
                return Ok(());
            }
        }
    }

    fn read_one_head(&mut self) -> Result<Head, Error> {
        loop {
            if let Some(end) = find_head_end(&self.buffer[self.position..]) {
                let text = self.buffer[self.position..self.position + end].to_vec();
                self.position += end + 4;
                return parse_head(&text);
            }
            if self.buffer.len() - self.position > MAX_HEAD {
                return Err(Error::Protocol(
                    "the response's head is longer than 64 KiB".into(),
                ));
            }
            let n = self.fill().map_err(|source| Error::Io {
                op: "waiting for the engine's answer",
                source,
            })?;
            if n == 0 {
                let source = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the engine closed the connection without an answer",
                );
                return Err(Error::Io {
                    op: "waiting for the engine's answer",
                    source,
                });
            }
        }
    }

    pub(super) fn head_status(&self) -> u16 {
        self.head.as_ref().map_or(0, |h| h.status)
    }

    /// Gives up HTTP on this connection.
    pub(super) fn hijack(self) -> Hijacked {
        let media_type = self
            .head
            .as_ref()
            .and_then(|h| h.header("content-type"))
            .unwrap_or_default()
            .to_owned();
        Hijacked {
            stream: self.stream,
            early: self.buffer[self.position..].to_vec(),
            media_type,
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.position > 0 {
            self.buffer.drain(..self.position);
            self.position = 0;
        }
        let start = self.buffer.len();
        self.buffer.resize(start + 32 * 1024, 0);
        let result = loop {
            match self.stream.read(&mut self.buffer[start..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(start + *result.as_ref().unwrap_or(&0));
        result
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.position == self.buffer.len() && self.fill()? == 0 {
            return Ok(0);
        }
        let n = out.len().min(self.buffer.len() - self.position);
        out[..n].copy_from_slice(&self.buffer[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 4096 {
            if self.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if byte[0] == b'\n' {
                return Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
            }
            line.push(byte[0]);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "line of a chunked body is too long",
        ))
    }
}

fn find_head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n")
}

fn parse_head(bytes: &[u8]) -> Result<Head, Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let bad = || Error::Protocol(format!("no HTTP status line: {status_line:?}"));
    let rest = status_line.strip_prefix("HTTP/1.").ok_or_else(bad)?;
    let mut parts = rest.splitn(3, ' ');
    let status = parts.nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    let reason = parts.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
        .collect();
    Ok(Head {
        status,
        reason,
        headers,
    })
}

/// How the end of a body is known (RFC 9112, section 6).
enum Framing {
    Length(u64),
    Chunked { left: u64, started: bool },
    UntilClose,
    Done,
}

/// A response's body as a reader. Read to its end, the connection goes back to the client.
pub struct Body {
    connection: Option<Connection>,
    framing: Framing,
    keep: bool,
    pool: Rc<RefCell<Vec<Connection>>>,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(connection) = self.connection.as_mut() else {
            return Ok(0);
        };
        let n = match &mut self.framing {
            Framing::Done | Framing::Length(0) => 0,
            Framing::UntilClose => connection.read(out)?,
            Framing::Length(left) => {
                let want = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let n = connection.read(&mut out[..want])?;
                if n == 0 && want > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= n as u64;
                n
            }
            Framing::Chunked { left, started } => {
                if *left == 0 {
                    *left = next_chunk(connection, *started)?;
                    *started = true;
                }
                let want = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let n = if *left == 0 {
                    0
                } else {
                    connection.read(&mut out[..want])?
                };
                if n == 0 && *left > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= n as u64;
                n
            }
        };
        if n == 0 || matches!(self.framing, Framing::Length(0)) {
            self.finish();
        }
        Ok(n)
    }
}

/// Reads the size line of the next chunk, and at the end the trailer.
fn next_chunk(connection: &mut Connection, started: bool) -> io::Result<u64> {
    if started {
        connection.read_line()?;
    }
    let line = connection.read_line()?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = u64::from_str_radix(size, 16)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("bad chunk size {size:?}")))?;
    if size == 0 {
        while !connection.read_line()?.is_empty() {}
    }
    Ok(size)
}

impl Body {
    fn finish(&mut self) {
        self.framing = Framing::Done;
        if let Some(connection) = self.connection.take()
            && self.keep
        {
            self.pool.borrow_mut().push(connection);
        }
    }
}

/// An answer whose body is still to be read.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

impl Response {
    pub(super) fn new(
        mut connection: Connection,
        headless: bool,
        pool: Rc<RefCell<Vec<Connection>>>,
    ) -> Result<Self, Error> {
        let head = connection
            .head
            .take()
            .ok_or_else(|| Error::Protocol("no response head".into()))?;
        let chunked = head
            .header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        let length = head.header("content-length").map(str::parse::<u64>);
        let framing = match (headless || matches!(head.status, 204 | 304), chunked, length) {
            (true, ..) => Framing::Length(0),
            (_, true, _) => Framing::Chunked {
                left: 0,
                started: false,
            },
            (_, _, Some(Ok(n))) => Framing::Length(n),
            (_, _, Some(Err(_))) => return Err(Error::Protocol("bad Content-Length".into())),
            _ => Framing::UntilClose,
        };
        let closes = head
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let keep = !closes && !matches!(framing, Framing::UntilClose);
        let mut body = Body {
            connection: Some(connection),
            framing,
            keep,
            pool,
        };
        if matches!(body.framing, Framing::Length(0)) {
            body.finish();
        }
        Ok(Response {
            status: head.status,
            reason: head.reason,
            headers: head.headers,
            body,
        })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The whole body.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        self.body.read_to_end(&mut out).map_err(|source| Error::Io {
            op: "reading the engine's answer",
            source,
        })?;
        Ok(out)
    }
}

/// Percent-encodes a query component.
pub(super) fn encode(text: &str) -> String {
    escape(text, b"-_.~")
}

/// Percent-encodes a path; `/` and `:` stay, since image references carry them.
pub(super) fn encode_path(text: &str) -> String {
    escape(text, b"-_.~/:@+,")
}

fn escape(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || keep.contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn connection(bytes: &[u8]) -> Connection {
        let (a, mut b) = UnixStream::pair().expect("socket pair");
        b.write_all(bytes).expect("write");
        Connection {
            stream: Box::new(a),
            buffer: Vec::new(),
            position: 0,
            head: None,
        }
    }

    fn response(bytes: &[u8], pool: &Rc<RefCell<Vec<Connection>>>) -> Response {
        let mut c = connection(bytes);
        c.read_head().expect("head");
        Response::new(c, false, Rc::clone(pool)).expect("response")
    }

    #[test]
    fn chunked_bodies_are_joined_and_the_connection_is_kept() {
        let pool = Rc::default();
        let r = response(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
            &pool,
        );
        assert_eq!(r.bytes().expect("body"), b"abcdefg");
        assert_eq!(pool.borrow().len(), 1);
    }

    #[test]
    fn sized_bodies_end_without_a_close() {
        let pool = Rc::default();
        let r = response(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nhi", &pool);
        assert_eq!((r.status, r.reason.as_str()), (404, "Not Found"));
        assert_eq!(r.bytes().expect("body"), b"hi");
        assert_eq!(pool.borrow().len(), 1);
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let pool = Rc::default();
        let r = response(b"HTTP/1.1 200 OK\r\n\r\nall of it", &pool);
        assert_eq!(r.bytes().expect("body"), b"all of it");
        assert_eq!(pool.borrow().len(), 0);
    }

    #[test]
    fn a_truncated_body_is_an_error() {
        let pool = Rc::default();
        let r = response(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", &pool);
        assert!(r.bytes().is_err());
        let r = response(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
            &pool,
        );
        assert!(r.bytes().is_err());
    }

    #[test]
    fn interim_answers_are_skipped_and_upgrades_keep_early_bytes() {
        let mut c = connection(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nearly");
        c.read_head().expect("head");
        assert_eq!(c.head_status(), 101);
        let h = c.hijack();
        assert_eq!(h.early, b"early");
        assert_eq!(h.media_type, "application/vnd.docker.raw-stream");
    }

    #[test]
    fn text_is_escaped_for_queries_and_paths() {
        assert_eq!(encode("{\"a\": 1}"), "%7B%22a%22%3A%201%7D");
        assert_eq!(encode_path("reg:5000/a/b:1 x?"), "reg:5000/a/b:1%20x%3F");
    }
}
