//! A thin, synchronous client of the Docker Engine API: HTTP/1.1 over a unix socket, TCP or TLS.
//!
//! No runtime, no threads, nothing read from the environment: a command line must be able to send its first
//! request within a millisecond of its start. Connections are kept alive and reused; one that is upgraded
//! (attach, exec) leaves the pool and becomes a [`Hijacked`] stream.

mod http;
mod stdcopy;
mod stream;
mod tls;

pub use http::{Body, Response};
pub use stdcopy::{Demux, StreamKind};
pub use stream::{Endpoint, Hijacked, Stream};
pub use tls::TlsFiles;

use http::Connection;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// Why a request had no usable answer.
#[derive(Debug)]
pub enum Error {
    /// Nothing answers at the endpoint.
    Connect {
        /// The endpoint, as the user would write it.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke.
    Io {
        /// What was being done.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The answer was no HTTP/1.1, or not what was asked for.
    Protocol(String),
    /// The engine refused. `message` is its own words.
    Api {
        /// HTTP status.
        status: u16,
        /// The engine's message.
        message: String,
    },
}

impl Error {
    /// The HTTP status, when the engine answered at all.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether nobody listens at the endpoint.
    pub fn is_connect(&self) -> bool {
        matches!(self, Error::Connect { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect { endpoint, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "permission denied while trying to connect to the docker API at {endpoint}"
                )
            }
            Error::Connect { endpoint, source } => match source.kind() {
                // These words are what scripts look for.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    write!(
                        f,
                        "Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?"
                    )
                }
                _ => {
                    let words = plain_words(source);
                    write!(
                        f,
                        "error during connect: cannot reach the engine at {endpoint}: {words}"
                    )
                }
            },
            Error::Io { op, source } => write!(f, "{op}: {source}"),
            Error::Protocol(text) => write!(f, "unexpected answer from the engine: {text}"),
            Error::Api { message, .. } => write!(f, "Error response from daemon: {message}"),
        }
    }
}

/// A system error in the kernel's words: no number, no capital.
fn plain_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect { source, .. } | Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What a request carries.
pub enum Payload {
    /// Nothing.
    Empty,
    /// A JSON document.
    Json(Vec<u8>),
    /// A stream of unknown length, sent chunked.
    Reader {
        /// Its media type.
        content_type: &'static str,
        /// The bytes.
        reader: Box<dyn Read>,
    },
}

/// One request.
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    payload: Payload,
}

impl Request {
    /// `GET path`. The path starts with `/` and has no version prefix.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path.into())
    }

    /// `POST path`.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path.into())
    }

    /// `DELETE path`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path.into())
    }

    /// `HEAD path`.
    pub fn head(path: impl Into<String>) -> Self {
        Self::new("HEAD", path.into())
    }

    /// `PUT path`.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new("PUT", path.into())
    }

    fn new(method: &'static str, path: String) -> Self {
        Request {
            method,
            path,
            headers: Vec::new(),
            payload: Payload::Empty,
        }
    }

    /// Adds a query parameter, percent-encoded.
    pub fn query(mut self, key: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(&http::encode(key));
        self.path.push('=');
        self.path.push_str(&http::encode(value));
        self
    }

    /// Adds a query parameter when the value is not empty.
    pub fn query_some(self, key: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.query(key, value)
        }
    }

    /// Adds `key=1` when the switch is on.
    pub fn query_flag(self, key: &str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Sets a JSON body.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.payload(Payload::Json(value.to_string().into_bytes()))
    }
}

/// Escapes one path segment: a container's name, an image's reference.
pub fn segment(text: &str) -> String {
    http::encode_path(text)
}

/// A request that was sent and not yet answered.
pub struct Pending<'a> {
    client: &'a Client,
    connection: Connection,
}

impl Pending<'_> {
    /// Waits for the answer; 400 and above becomes [`Error::Api`].
    pub fn finish(mut self) -> Result<Response, Error> {
        self.connection.read_head()?;
        let response = Response::new(self.connection, false, Rc::clone(&self.client.idle))?;
        if response.status >= 400 {
            Err(self.client.refusal(response))
        } else {
            Ok(response)
        }
    }
}

/// The version that an engine names when the wanted one is too new for it.
fn maximum_version(error: &Error) -> Option<String> {
    match error {
        Error::Api { status: 400, message } => {
            let (_, version) = message.split_once("is too new. Maximum supported API version is ")?;
            Some(version.trim().trim_end_matches('.').to_owned())
        }
        _ => None,
    }
}

/// Connections to one engine.
pub struct Client {
    endpoint: Endpoint,
    prefix: RefCell<String>,
    headers: Vec<(String, String)>,
    idle: Rc<RefCell<Vec<Connection>>>,
}

impl Client {
    /// A client that speaks the engine's newest version. Connects when first used.
    pub fn new(endpoint: Endpoint) -> Self {
        Client {
            endpoint,
            prefix: RefCell::default(),
            headers: Vec::new(),
            idle: Rc::default(),
        }
    }

    /// Pins the API version, `1.43`; an empty one takes the engine's newest.
    pub fn with_version(self, version: &str) -> Self {
        self.set_version(version);
        self
    }

    fn set_version(&self, version: &str) {
        *self.prefix.borrow_mut() = if version.is_empty() {
            String::new()
        } else {
            format!("/v{version}")
        };
    }

    /// Gives the client a connection that is open already.
    pub fn with_connection(self, stream: Box<dyn Stream>) -> Self {
        self.idle.borrow_mut().push(Connection::from_stream(stream));
        self
    }

    /// Adds a header to every request (docker's `HttpHeaders`).
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where this client connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request; an answer of 400 and above becomes [`Error::Api`] with the engine's message.
    ///
    /// An engine that does not know the wanted version yet is asked again with its own newest.
    pub fn send(&self, mut request: Request) -> Result<Response, Error> {
        let response = self.send_once(&mut request)?;
        if response.status < 400 {
            return Ok(response);
        }
        let refusal = self.refusal(response);
        let Some(version) =
            maximum_version(&refusal).filter(|_| !matches!(request.payload, Payload::Reader { .. }))
        else {
            return Err(refusal);
        };
        self.set_version(&version);
        let response = self.send_once(&mut request)?;
        if response.status >= 400 {
            Err(self.refusal(response))
        } else {
            Ok(response)
        }
    }

    fn send_once(&self, request: &mut Request) -> Result<Response, Error> {
        let head = self.head(
            request.method,
            &request.path,
            &request.headers,
            &request.payload,
            false,
        );
        let headless = request.method == "HEAD";
        let pooled = self.idle.borrow_mut().pop();
        if let Some(mut connection) = pooled {
            match self.exchange(&mut connection, &head, &mut request.payload) {
                Ok(()) => return Response::new(connection, headless, Rc::clone(&self.idle)),
                // The engine closed the idle connection: nothing of this request was answered.
                Err(Error::Io { .. }) if !matches!(request.payload, Payload::Reader { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = Connection::open(&self.endpoint)?;
        self.exchange(&mut connection, &head, &mut request.payload)?;
        Response::new(connection, headless, Rc::clone(&self.idle))
    }

    /// Sends a request and does not wait: several can be under way, each on a connection of its own.
    pub fn begin(&self, request: Request) -> Result<Pending<'_>, Error> {
        let Request {
            method,
            path,
            headers,
            mut payload,
        } = request;
        let head = self.head(method, &path, &headers, &payload, false);
        let mut connection = Connection::open(&self.endpoint)?;
        connection.write_request(&head, &mut payload)?;
        Ok(Pending {
            client: self,
            connection,
        })
    }

    /// Sends a request and decodes the JSON answer.
    pub fn json(&self, request: Request) -> Result<serde_json::Value, Error> {
        let bytes = self.send(request)?.bytes()?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Protocol(format!("not JSON: {e}")))
    }

    /// Sends a request with `Upgrade: tcp` and hands over the raw connection (attach, exec).
    pub fn hijack(&self, request: Request) -> Result<Hijacked, Error> {
        let Request {
            method,
            path,
            headers,
            mut payload,
        } = request;
        let head = self.head(method, &path, &headers, &payload, true);
        let pooled = self.idle.borrow_mut().pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => Connection::open(&self.endpoint)?,
        };
        if self.exchange(&mut connection, &head, &mut payload).is_err() {
            connection = Connection::open(&self.endpoint)?;
            self.exchange(&mut connection, &head, &mut payload)?;
        }
        let status = connection.head_status();
        if status == 101 || status == 200 {
            return Ok(connection.hijack());
        }
        Err(self.refusal(Response::new(connection, false, Rc::clone(&self.idle))?))
    }

    fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        payload: &Payload,
        upgrade: bool,
    ) -> Vec<u8> {
        let mut head = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\n",
            self.prefix.borrow(),
            self.endpoint.authority()
        );
        head.push_str("User-Agent: Ferry-Client/0.1 (linux)\r\n");
        for (name, value) in self.headers.iter().chain(headers) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if upgrade {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        match payload {
            Payload::Empty if method == "POST" || method == "PUT" => head.push_str("Content-Length: 0\r\n"),
            Payload::Empty => {}
            Payload::Json(body) => {
                head.push_str(&format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n",
                    body.len()
                ));
            }
            Payload::Reader { content_type, .. } => {
                head.push_str(&format!(
                    "Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
                ));
            }
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn exchange(&self, connection: &mut Connection, head: &[u8], payload: &mut Payload) -> Result<(), Error> {
        connection.write_request(head, payload)?;
        connection.read_head()
    }

    fn refusal(&self, response: Response) -> Error {
        let status = response.status;
        let reason = response.reason.clone();
        let body = response.bytes().unwrap_or_default();
        let message = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|v| {
                v.get("message")
                    .and_then(|m| m.as_str())
                    .map(|m| m.trim().to_owned())
            })
            .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        if message.is_empty() {
            return Error::Api {
                status,
                message: format!("the engine answered {status} {reason} without a message"),
            };
        }
        Error::Api { status, message }
    }
}
