//! Streams of a container: attach, its WebSocket form, and logs.

use super::answer::{Answer, full, stream};
use super::error::{ApiError, Result};
use super::extract::Call;
use super::stream::{JSON_SEQUENCE, LineStyle, accepted, log_bytes, log_documents};
use super::{hijack, socket};
use ferry_engine::containers::options::{AttachOptions, LogOptions};
use hyper::header::{CONTENT_TYPE, HeaderValue};

fn options(call: &Call) -> AttachOptions {
    AttachOptions {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
        detach_keys: call.query.get("detachKeys").to_owned(),
    }
}

/// `POST /containers/{id}/attach`. A failure is plain text, as Docker writes it past its own error handling.
pub async fn attach(mut call: Call) -> Result<Answer> {
    let options = options(&call);
    match call.engine().containers().attach(call.var("id"), options).await {
        Ok(attached) => {
            let kind = hijack::content_type(&call, attached.tty);
            Ok(hijack::attach(call.upgrade.take(), kind, attached))
        }
        Err(e) => {
            let error = ApiError::from(e);
            let mut answer = Answer::new(full(format!("{}\r\n", error.message)));
            *answer.status_mut() = error.status;
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(hijack::RAW));
            Ok(answer)
        }
    }
}

/// `GET /containers/{id}/attach/ws`: binary frames, never multiplexed.
pub async fn websocket(mut call: Call) -> Result<Answer> {
    let mut options = options(&call);
    if !super::compat::knows_multiplexed(call.version) {
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let accept = socket::accept(&call)?;
    let attached = call.engine().containers().attach(call.var("id"), options).await?;
    let upgrade = call.upgrade.take().ok_or_else(socket::not_a_websocket)?;
    Ok(socket::serve(upgrade, accept, attached))
}

/// `GET /containers/{id}/logs`.
pub async fn logs(call: Call) -> Result<Answer> {
    let (stdout, stderr) = (call.query.flag("stdout"), call.query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid(
            "must specify at least one of 'stdout' or 'stderr'",
        ));
    }
    let options = LogOptions {
        stdout,
        stderr,
        since: call.query.time("since", '"')?,
        until: call.query.time("until", '"')?,
        // Anything that is no number, and negative ones, mean all.
        tail: call.query.get("tail").parse().ok(),
        timestamps: call.query.flag("timestamps"),
        follow: call.query.flag("follow"),
        details: call.query.flag("details"),
    };
    let format = log_format(&call)?;
    let style = (options.timestamps, options.details);
    let lines = call.engine().containers().logs(call.var("id"), options).await?;
    if let Some(format) = format {
        return Ok(stream(
            format,
            log_documents(lines, style.1, format == JSON_SEQUENCE),
        ));
    }
    let kind = hijack::content_type(&call, lines.tty);
    let style = LineStyle {
        timestamps: style.0,
        details: style.1,
        raw: lines.tty,
    };
    Ok(stream(kind, log_bytes(lines, style)))
}

/// The content type where the client asks for JSON documents.
fn log_format(call: &Call) -> Result<Option<&'static str>> {
    if !super::compat::knows_json_logs(call.version) {
        return Ok(None);
    }
    match (call.query.get("format"), accepted(call)) {
        ("", asked) => Ok(asked),
        ("json", asked) => Ok(Some(asked.unwrap_or("application/x-ndjson"))),
        _ => Err(ApiError::invalid("unsupported log format")),
    }
}
