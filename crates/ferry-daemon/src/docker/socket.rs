//! Attach over a WebSocket (RFC 6455): what the container writes comes as binary messages, what the client sends is its input.

use super::answer::{Answer, full};
use super::error::{ApiError, Result};
use super::extract::Call;
use ferry_engine::containers::attach::{AttachStream, relay};
use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How much is buffered in each direction, and the most that one message carries.
const CHUNK: usize = 32 * 1024;

/// The refusal of a request that does not ask for a WebSocket.
pub fn not_a_websocket() -> ApiError {
    ApiError::invalid("not a WebSocket request: Upgrade: websocket and Sec-WebSocket-Key are needed")
}

/// The `Sec-WebSocket-Accept` of a request.
pub fn accept(call: &Call) -> Result<HeaderValue> {
    let upgrade = call
        .headers
        .get(UPGRADE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let key = call
        .headers
        .get("Sec-WebSocket-Key")
        .ok_or_else(not_a_websocket)?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err(not_a_websocket());
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| not_a_websocket())
}

/// Answers and carries the stream over the WebSocket. Frames of streams without a terminal are taken off.
pub fn serve(upgrade: OnUpgrade, accept: HeaderValue, attached: AttachStream) -> Answer {
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => carry(TokioIo::new(connection), attached).await,
            Err(e) => tracing::debug!(error = %e, "a client left before its connection was handed over"),
        }
    });
    let mut answer = Answer::new(full(Vec::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(HeaderName::from_static("sec-websocket-accept"), accept);
    answer
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn carry(connection: TokioIo<hyper::upgrade::Upgraded>, attached: AttachStream) {
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let raw = attached.tty;
    let (near, far) = tokio::io::duplex(CHUNK);
    let (input, output) = tokio::io::split(near);
    let (from_container, to_container) = tokio::io::split(far);
    let (out, inward) = socket.split();
    let relayed = relay(attached, input, output);
    let (relayed, (), ()) = tokio::join!(
        relayed,
        outward(from_container, out, raw),
        inwards(inward, to_container)
    );
    if let Err(e) = relayed {
        tracing::debug!(error = %e, "an attached WebSocket ended");
    }
}

async fn outward(
    mut from: ReadHalf<DuplexStream>,
    mut out: futures_util::stream::SplitSink<Socket, Message>,
    raw: bool,
) {
    loop {
        let piece = if raw {
            read_some(&mut from).await
        } else {
            read_frame(&mut from).await
        };
        let Some(piece) = piece else { break };
        if out.send(Message::Binary(piece.into())).await.is_err() {
            return;
        }
    }
    if let Err(e) = out.close().await {
        tracing::debug!(error = %e, "closing a WebSocket");
    }
}

async fn read_some(from: &mut ReadHalf<DuplexStream>) -> Option<Vec<u8>> {
    let mut piece = vec![0; CHUNK];
    let n = from.read(&mut piece).await.ok().filter(|n| *n > 0)?;
    piece.truncate(n);
    Some(piece)
}

async fn read_frame(from: &mut ReadHalf<DuplexStream>) -> Option<Vec<u8>> {
    let mut head = [0; 8];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mut piece = vec![0; usize::try_from(length).ok()?];
    from.read_exact(&mut piece).await.ok()?;
    Some(piece)
}

async fn inwards(mut from: futures_util::stream::SplitStream<Socket>, mut to: WriteHalf<DuplexStream>) {
    while let Some(Ok(message)) = from.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            _ => continue,
        };
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    if let Err(e) = to.shutdown().await {
        tracing::debug!(error = %e, "ending a container's input");
    }
}
