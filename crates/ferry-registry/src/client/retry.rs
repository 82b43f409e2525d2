//! Which failures are worth another try, and when.

use crate::RegistryError;
use std::time::Duration;

/// Tries in all.
pub(crate) const TRIES: u32 = 5;

/// Whether the same request may succeed a moment later.
pub(crate) fn worth(error: &RegistryError) -> bool {
    match error {
        RegistryError::Network { .. } => true,
        RegistryError::Protocol { message, .. } => ["408", "425", "429", "500", "502", "503", "504"]
            .iter()
            .any(|s| message.starts_with(s)),
        _ => false,
    }
}

/// How long to wait before try `n` (1 is the second): 0.25 s doubling to 4 s.
pub(crate) fn pause(n: u32) -> Duration {
    Duration::from_millis(250 << n.saturating_sub(1).min(4))
}

/// Runs `attempt` until it succeeds, fails for good, or [`TRIES`] are over.
pub(crate) async fn retry<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, RegistryError>
where
    F: Future<Output = Result<T, RegistryError>>,
{
    let mut n = 1;
    loop {
        match attempt().await {
            Err(error) if n < TRIES && worth(&error) => {
                tracing::debug!(%error, "trying again");
                tokio::time::sleep(pause(n)).await;
                n += 1;
            }
            other => return other,
        }
    }
}
