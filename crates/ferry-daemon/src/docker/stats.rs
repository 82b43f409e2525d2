//! `GET /containers/{id}/stats`.

use super::answer::{Answer, ok, stream};
use super::compat::{self, answers};
use super::convert::stats::{Machine, stats as told};
use super::error::Result;
use super::extract::Call;
use super::stream::document;
use ferry_engine::containers::options::StatsSample;
use ferry_engine::{Engine, Kind};
use futures_util::stream::unfold;
use std::time::Duration;

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Samples as they come, one with the one before it, or one alone.
pub async fn stats(call: Call) -> Result<Answer> {
    let streaming = call.query.flag_or("stream", true);
    let one_shot = compat::knows_one_shot(call.version) && call.query.flag("one-shot");
    let id = call.var("id").to_owned();
    let first = call.engine().containers().stats(&id).await?;
    let os_type = answers::names_os_type(call.version);
    if streaming {
        let engine = call.engine().clone();
        let state = Live {
            engine,
            machine: call.app.machine,
            id,
            before: None,
            next: Some(first),
            os_type,
        };
        return Ok(stream("application/json", unfold(state, step)));
    }
    let (sample, before) = if one_shot || !first.running {
        (first, None)
    } else {
        tokio::time::sleep(PERIOD).await;
        (call.engine().containers().stats(&id).await?, Some(first))
    };
    let mut answer = told(&sample, before.as_ref(), call.app.machine);
    if !os_type {
        answer.os_type.clear();
    }
    ok(&answer)
}

struct Live {
    engine: Engine,
    machine: Machine,
    id: String,
    before: Option<StatsSample>,
    next: Option<StatsSample>,
    os_type: bool,
}

async fn sample(engine: &Engine, id: &str) -> Option<StatsSample> {
    match engine.containers().stats(id).await {
        Ok(sample) => Some(sample),
        Err(e) => {
            if e.kind() != Kind::NotFound {
                tracing::debug!(error = %e, "a stream of samples ended");
            }
            None
        }
    }
}

async fn step(mut live: Live) -> Option<(std::io::Result<bytes::Bytes>, Live)> {
    let now = match live.next.take() {
        Some(first) => first,
        None => {
            tokio::time::sleep(PERIOD).await;
            sample(&live.engine, &live.id).await?
        }
    };
    let mut answer = told(&now, live.before.as_ref(), live.machine);
    if !live.os_type {
        answer.os_type.clear();
    }
    live.before = Some(now);
    Some((document(&answer, "\n"), live))
}
