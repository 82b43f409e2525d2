//! What went wrong, as HTTP.

use super::answer::{Answer, full};
use ferry_api::docker::decode::DecodeError;
use ferry_api::docker::error::ErrorResponse;
use ferry_engine::Kind;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use std::fmt;

/// A status and a sentence.
#[derive(Debug)]
pub struct ApiError {
    /// From 400 on, or 304.
    pub status: StatusCode,
    /// For the user.
    pub message: String,
}

/// A handler's result.
pub type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// This status with this sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 501, for what is named but cannot be done.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The same with words before its sentence.
    #[must_use]
    pub fn context(mut self, words: impl fmt::Display) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// The answer: `{"message": …}`, or nothing with 304.
    pub fn answer(&self) -> Answer {
        let mut answer = Answer::new(full(Vec::new()));
        *answer.status_mut() = self.status;
        if self.status != StatusCode::NOT_MODIFIED {
            let body = ErrorResponse {
                message: self.message.clone(),
            };
            let mut bytes = serde_json::to_vec(&body).unwrap_or_default();
            bytes.push(b'\n');
            *answer.body_mut() = full(bytes);
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        answer
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Docker's status for each kind of failure.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Unchanged => StatusCode::NOT_MODIFIED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<ferry_engine::Error> for ApiError {
    fn from(error: ferry_engine::Error) -> Self {
        Self::new(status(error.kind()), error.to_string())
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_dockers_statuses() {
        let table = [
            (Kind::NotFound, 404),
            (Kind::Conflict, 409),
            (Kind::Invalid, 400),
            (Kind::Unauthenticated, 401),
            (Kind::Denied, 403),
            (Kind::Unchanged, 304),
            (Kind::Unavailable, 503),
            (Kind::Unsupported, 501),
            (Kind::Internal, 500),
        ];
        for (kind, want) in table {
            assert_eq!(status(kind).as_u16(), want, "{kind:?}");
        }
    }

    #[test]
    fn unchanged_has_no_body() {
        let answer = ApiError::from(ferry_engine::Error::unchanged()).answer();
        assert_eq!(answer.status(), 304);
        assert!(answer.headers().get(CONTENT_TYPE).is_none());
    }
}
