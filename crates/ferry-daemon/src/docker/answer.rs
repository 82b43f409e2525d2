//! Answers: whole ones, and streams whose head is sent at once.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::io;

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// Every answer.
pub type Answer = Response<Body>;

/// Bytes that are there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::new(full(Vec::new()));
    *answer.status_mut() = status;
    answer
}

/// 204.
pub fn no_content() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// JSON as Go's encoder ends it: with a newline.
pub fn json(status: StatusCode, value: &impl Serialize) -> super::error::Result<Answer> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|e| super::error::ApiError::internal(format!("encoding the answer: {e}")))?;
    bytes.push(b'\n');
    let mut answer = Answer::new(full(bytes));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

/// 200 and JSON.
pub fn ok(value: &impl Serialize) -> super::error::Result<Answer> {
    json(StatusCode::OK, value)
}

/// 200 and what the stream gives, piece by piece. The head goes out at once; dropping the connection drops the stream.
pub fn stream<S>(content_type: &'static str, pieces: S) -> Answer
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync();
    let mut answer = Answer::new(body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
