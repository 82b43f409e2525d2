//! Connections that stop being HTTP: attach and exec.
//!
//! With `Upgrade` the answer is `101 UPGRADED` and the socket carries bytes both ways, each direction closing on its own.
//! Without it the answer is a plain 200 whose body is the output; such a client cannot send input.

use super::answer::{Answer, full, stream};
use super::extract::Call;
use bytes::Bytes;
use ferry_engine::containers::attach::{AttachStream, relay};
use futures_util::stream::unfold;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

/// Output of a terminal, and every stream of older versions.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Output in stdcopy frames.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// How much is read at a time where there is no upgrade.
const CHUNK: usize = 32 * 1024;

type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// The content type for a client: framed output has its own name where the client knows it.
pub fn content_type(call: &Call, tty: bool) -> &'static str {
    if !tty && super::compat::knows_multiplexed(call.version) {
        MULTIPLEXED
    } else {
        RAW
    }
}

/// Answers and hands the connection to an attached stream.
pub fn attach(upgrade: Option<OnUpgrade>, kind: &'static str, attached: AttachStream) -> Answer {
    match upgrade {
        Some(upgrade) => {
            run(upgrade, move |connection| async move {
                let (read, write) = tokio::io::split(connection);
                if let Err(e) = relay(attached, read, write).await {
                    tracing::debug!(error = %e, "an attached connection ended");
                }
            });
            switching(kind)
        }
        None => {
            let (near, far) = tokio::io::duplex(CHUNK);
            tokio::spawn(async move {
                let (input, output) = tokio::io::split(near);
                if let Err(e) = relay(attached, input, output).await {
                    tracing::debug!(error = %e, "an attached connection ended");
                }
            });
            body(far)
        }
    }
}

/// Answers as if attached, sends `bytes` and ends: how a failed exec start is told.
pub fn say(upgrade: Option<OnUpgrade>, kind: &'static str, bytes: Vec<u8>) -> Answer {
    match upgrade {
        Some(upgrade) => {
            run(upgrade, move |mut connection: Upgraded| async move {
                let written = connection.write_all(&bytes).await;
                if let Err(e) = written.and(connection.shutdown().await) {
                    tracing::debug!(error = %e, "telling why an exec did not start");
                }
            });
            switching(kind)
        }
        None => {
            let mut answer = Answer::new(full(bytes));
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(RAW));
            answer
        }
    }
}

/// Answers first and asks for the stream when the connection was handed over: some clients lose output that comes together with the
/// answer's head. Where there is no stream, `begin`'s bytes are sent instead.
pub fn attach_later<F, Fut>(upgrade: OnUpgrade, kind: &'static str, begin: F) -> Answer
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<AttachStream, Vec<u8>>> + Send,
{
    run(upgrade, move |mut connection: Upgraded| async move {
        match begin().await {
            Ok(attached) => {
                let (read, write) = tokio::io::split(connection);
                if let Err(e) = relay(attached, read, write).await {
                    tracing::debug!(error = %e, "an attached connection ended");
                }
            }
            Err(bytes) => {
                let written = connection.write_all(&bytes).await;
                if let Err(e) = written.and(connection.shutdown().await) {
                    tracing::debug!(error = %e, "telling why an exec did not start");
                }
            }
        }
    });
    switching(kind)
}

fn switching(kind: &'static str) -> Answer {
    let mut answer = Answer::new(full(Vec::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    answer
}

fn run<F, Fut>(upgrade: OnUpgrade, work: F)
where
    F: FnOnce(Upgraded) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => work(TokioIo::new(connection)).await,
            Err(e) => tracing::debug!(error = %e, "a client left before its connection was handed over"),
        }
    });
}

fn body(far: DuplexStream) -> Answer {
    let (read, write): (ReadHalf<_>, WriteHalf<_>) = tokio::io::split(far);
    let pieces = unfold((read, write), |(mut read, write)| async move {
        let mut piece = vec![0; CHUNK];
        match read.read(&mut piece).await {
            Ok(0) => None,
            Ok(n) => {
                piece.truncate(n);
                Some((Ok(Bytes::from(piece)), (read, write)))
            }
            Err(e) => Some((Err(e), (read, write))),
        }
    });
    stream(RAW, pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_engine::containers::attach::DetachKeys;
    use hyper::service::service_fn;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};
    use tokio::io::AsyncBufReadExt;
    use tokio::io::BufReader;
    use tokio::net::UnixStream;

    /// A server of one connection that attaches every request to `container`, and the client's end.
    fn serve(container: UnixStream) -> UnixStream {
        let (client, server) = UnixStream::pair().unwrap();
        let attached = AttachStream {
            tty: false,
            socket: container,
            replay: None,
            detach: DetachKeys::default(),
        };
        let attached = Arc::new(Mutex::new(Some(attached)));
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            let attached = attached.lock().unwrap().take();
            async move {
                let asks = request.headers().contains_key(UPGRADE);
                let upgrade = asks.then(|| hyper::upgrade::on(&mut request));
                Ok::<_, Infallible>(match attached {
                    Some(attached) => attach(upgrade, MULTIPLEXED, attached),
                    None => say(upgrade, RAW, b"has already run\r\n".to_vec()),
                })
            }
        });
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            http.serve_connection(TokioIo::new(server), service)
                .with_upgrades()
                .await
                .unwrap();
        });
        client
    }

    async fn head(client: &mut BufReader<UnixStream>) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            client.read_line(&mut line).await.unwrap();
            if line.trim().is_empty() {
                return lines;
            }
            lines.push(line.trim().to_ascii_lowercase());
        }
    }

    #[tokio::test]
    async fn each_direction_closes_on_its_own() {
        let (container, mut shim) = UnixStream::pair().unwrap();
        let mut client = BufReader::new(serve(container));
        let request = b"POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nearly";
        client.get_mut().write_all(request).await.unwrap();
        let head = head(&mut client).await;
        assert_eq!(head[0], "http/1.1 101 upgraded");
        assert!(
            head.contains(&"upgrade: tcp".to_owned()) && head.contains(&"connection: upgrade".to_owned())
        );
        assert!(head.contains(&format!("content-type: {MULTIPLEXED}")), "{head:?}");
        client.get_mut().write_all(b" input").await.unwrap();
        client.get_mut().shutdown().await.unwrap();
        let mut input = Vec::new();
        shim.read_to_end(&mut input).await.unwrap();
        assert_eq!(input, b"early input");
        shim.write_all(b"late output").await.unwrap();
        drop(shim);
        let mut output = Vec::new();
        client.read_to_end(&mut output).await.unwrap();
        assert_eq!(output, b"late output");
    }

    #[tokio::test]
    async fn without_upgrade_the_output_is_a_body() {
        let (container, mut shim) = UnixStream::pair().unwrap();
        let mut client = BufReader::new(serve(container));
        let request = b"POST /attach HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        client.get_mut().write_all(request).await.unwrap();
        let head = head(&mut client).await;
        assert_eq!(head[0], "http/1.1 200 ok");
        assert!(head.contains(&format!("content-type: {RAW}")), "{head:?}");
        shim.write_all(b"output").await.unwrap();
        drop(shim);
        let mut body = String::new();
        client.read_to_string(&mut body).await.unwrap();
        assert!(body.contains("output") && body.ends_with("0\r\n\r\n"), "{body:?}");
    }

    #[tokio::test]
    async fn a_failure_is_told_in_the_stream() {
        let (container, shim) = UnixStream::pair().unwrap();
        drop(shim);
        let mut client = BufReader::new(serve(container));
        let plain = b"POST /a HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n";
        client.get_mut().write_all(plain).await.unwrap();
        head(&mut client).await;
        let mut end = [0; 5];
        client.read_exact(&mut end).await.unwrap();
        let upgrade = b"POST /a HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
        client.get_mut().write_all(upgrade).await.unwrap();
        assert_eq!(head(&mut client).await[0], "http/1.1 101 upgraded");
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "has already run\r\n");
    }
}
