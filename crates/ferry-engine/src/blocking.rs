//! The one door from async code to work that blocks: files, the kernel, the store.
//!
//! The work is named, so that a slow one can be found in the log, and bounded, so that a burst cannot starve everything else. It
//! runs to its end even when the caller is dropped: a client that hangs up cannot cut a change to the disk in half.

use crate::{Error, Result};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How much may run at a time. Most of it waits for the disk or the kernel, hence more than processors.
const PERMITS: usize = 64;
/// From when on a piece of work is worth a line in the log.
const SLOW: Duration = Duration::from_secs(5);

static GATE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(PERMITS));

/// Runs `work` on the blocking pool and gives its result.
///
/// # Errors
/// Those of `work`, turned by `From`; [`crate::Kind::Internal`] when it panicked.
pub async fn run<T, E, F>(name: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
    F: FnOnce() -> std::result::Result<T, E> + Send + 'static,
{
    let permit = GATE.acquire().await.map_err(|e| Error::internal(name, e))?;
    let joined = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let began = Instant::now();
        let result = work();
        let took = began.elapsed();
        if took > SLOW {
            tracing::warn!(name, ?took, "slow work on the blocking pool");
        }
        result
    });
    joined
        .await
        .map_err(|e| Error::internal(name, e))?
        .map_err(Into::into)
}

/// Runs work that must not be cut short in a task of its own: a caller that goes away does not end it.
///
/// # Errors
/// Those of the work; [`crate::Kind::Internal`] when it panicked.
pub async fn owned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|e| Error::internal("an engine task", e))?
}
