//! Reading logs back.

use super::options::LogLine;
use crate::Result;
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Lines of a log, as they come.
pub struct LogStream {
    /// Whether the container has a terminal: then everything is stream 1 and nothing is framed.
    pub tty: bool,
    pub(crate) lines: mpsc::Receiver<Result<LogLine>>,
}

impl Stream for LogStream {
    type Item = Result<LogLine>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_recv(cx)
    }
}
