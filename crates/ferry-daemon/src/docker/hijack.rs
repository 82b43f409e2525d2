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
pub fn attach(call: &mut Call, attached: AttachStream) -> Answer {
    let kind = content_type(call, attached.tty);
    match call.upgrade.take() {
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

/// Answers as if attached, says `text` and ends: how a failed exec start is told.
pub fn say(call: &mut Call, tty: bool, text: &str) -> Answer {
    let mut bytes = Vec::new();
    if tty {
        bytes.extend(text.as_bytes());
    } else {
        super::stream::frame(1, text.as_bytes(), &mut bytes);
    }
    match call.upgrade.take() {
        Some(upgrade) => {
            run(upgrade, move |mut connection: Upgraded| async move {
                let written = connection.write_all(&bytes).await;
                if let Err(e) = written.and(connection.shutdown().await) {
                    tracing::debug!(error = %e, "telling why an exec did not start");
                }
            });
            switching(content_type(call, tty))
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
