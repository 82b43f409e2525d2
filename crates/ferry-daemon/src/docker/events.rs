//! `GET /events`.

use super::answer::{Answer, stream};
use super::compat::{self, answers};
use super::error::{ApiError, Result};
use super::extract::Call;
use super::stream::{JSON_SEQUENCE, RECORD_SEPARATOR, accepted};
use super::version::ApiVersion;
use bytes::Bytes;
use ferry_api::docker::events::{Actor, Message};
use ferry_api::docker::time::{unix, unix_nanos};
use ferry_engine::Event;
use futures_util::StreamExt;
use std::io;

/// Streams what happens, past events first.
pub async fn events(call: Call) -> Result<Answer> {
    let (since, until) = (call.query.time("since", '\'')?, call.query.time("until", '\'')?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        let (since, until) = (call.query.get("since"), call.query.get("until"));
        return Err(ApiError::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let happened = call
        .engine()
        .events()
        .subscribe(since, until, call.query.filters()?)?;
    let version = call.version;
    let kind = accepted(&call).unwrap_or_else(|| compat::events_content_type(version));
    let pieces = happened.filter_map(move |event| async move {
        let skip = answers::skips_event(version, event.kind, &event.action);
        (!skip).then(|| encode(event, version, kind == JSON_SEQUENCE))
    });
    Ok(stream(kind, pieces))
}

fn message(event: Event) -> Message {
    let Event {
        kind,
        action,
        id,
        attributes,
        at,
    } = event;
    Message {
        kind: kind.to_owned(),
        action,
        actor: Actor { id, attributes },
        scope: "local".into(),
        time: unix(at).0,
        time_nano: unix_nanos(at),
    }
}

fn encode(event: Event, version: ApiVersion, sequence: bool) -> io::Result<Bytes> {
    let message = message(event);
    let mut bytes = if sequence {
        vec![RECORD_SEPARATOR]
    } else {
        Vec::new()
    };
    if answers::lowers_events(version) {
        let value = serde_json::to_value(&message).map_err(io::Error::other)?;
        bytes.extend(serde_json::to_vec(&answers::event(value)).map_err(io::Error::other)?);
    } else {
        bytes.extend(serde_json::to_vec(&message).map_err(io::Error::other)?);
    }
    bytes.push(b'\n');
    Ok(bytes.into())
}
