//! `/containers/{id}/exec` and `/exec`.

use super::answer::{Answer, empty, json, ok};
use super::error::{ApiError, Result};
use super::extract::Call;
use super::stream::frame;
use super::{compat, convert, hijack};
use base64::Engine as _;
use ferry_api::docker::IdResponse;
use ferry_api::docker::exec::{ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest};
use ferry_engine::containers::spec::ExecSpec;
use ferry_engine::containers::view::ExecView;
use ferry_engine::execs::StartExec;
use hyper::StatusCode;

fn size(size: Option<[u32; 2]>) -> [u16; 2] {
    size.unwrap_or_default()
        .map(|n| u16::try_from(n).unwrap_or(u16::MAX))
}

/// `POST /containers/{id}/exec`.
pub async fn create(mut call: Call) -> Result<Answer> {
    let request: ExecCreateRequest = call.json("ExecCreateRequest").await?;
    #[rustfmt::skip]
    let ExecCreateRequest {
        user, privileged, tty, console_size, attach_stdin, attach_stderr, attach_stdout, detach_keys, env,
        working_dir, cmd,
    } = request;
    let cmd = cmd.unwrap_or_default();
    if cmd.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    convert::check::environment(env.iter().flatten())?;
    let console_size = console_size.filter(|_| compat::knows_console_size(call.version));
    let spec = ExecSpec {
        cmd,
        env: env.unwrap_or_default(),
        working_dir,
        user,
        tty,
        attach_stdin,
        attach_stdout,
        attach_stderr,
        privileged,
        detach_keys,
        console_size: size(console_size),
    };
    let id = call.engine().execs().create(call.var("id"), spec).await?;
    json(StatusCode::CREATED, &IdResponse { id })
}

/// `POST /exec/{id}/start`. Where it is attached, a failure is told in the stream, after the connection was handed over: clients count on it,
/// also when they start an exec a second time.
pub async fn start(mut call: Call) -> Result<Answer> {
    let ExecStartRequest {
        detach,
        tty,
        console_size,
    } = call.json("ExecStartRequest").await?;
    let id = call.var("id").to_owned();
    call.engine().execs().inspect(&id).await?;
    let console_size = console_size.filter(|_| tty && compat::knows_console_size(call.version));
    let options = StartExec {
        detach,
        tty,
        console_size: size(console_size),
    };
    if !detach && let Some(upgrade) = call.upgrade.take() {
        let engine = call.engine().clone();
        let begin = move || async move {
            match engine.execs().start(&id, options).await {
                Ok(Some(stream)) => Ok(stream),
                Ok(None) => Err(Vec::new()),
                Err(e) => Err(said(tty, &format!("{e}\r\n"))),
            }
        };
        return Ok(hijack::attach_later(
            upgrade,
            hijack::content_type(&call, tty),
            begin,
        ));
    }
    let bytes = match call.engine().execs().start(&id, options).await {
        Ok(Some(stream)) => return Ok(hijack::attach(None, hijack::RAW, stream)),
        Ok(None) if detach => return Ok(empty(StatusCode::OK)),
        Err(e) if detach => return Err(e.into()),
        Ok(None) => Vec::new(),
        Err(e) => said(tty, &format!("{e}\r\n")),
    };
    Ok(hijack::say(None, hijack::RAW, bytes))
}

/// Text as the client reads it: framed where it does not take the stream for a terminal.
fn said(tty: bool, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if tty {
        bytes.extend(text.as_bytes());
    } else {
        frame(1, text.as_bytes(), &mut bytes);
    }
    bytes
}

/// `POST /exec/{id}/resize`.
pub async fn resize(call: Call) -> Result<Answer> {
    let (height, width) = (call.query.size("h", "height")?, call.query.size("w", "width")?);
    call.engine()
        .execs()
        .resize(call.var("id"), height, width)
        .await?;
    Ok(empty(StatusCode::OK))
}

/// `GET /exec/{id}/json`.
pub async fn inspect(call: Call) -> Result<Answer> {
    ok(&told(&call.engine().execs().inspect(call.var("id")).await?))
}

fn told(view: &ExecView) -> ExecInspect {
    let ExecView {
        id,
        container_id,
        spec,
        running,
        exit_code,
        pid,
        can_remove: _,
    } = view;
    let (entrypoint, arguments) = spec
        .cmd
        .split_first()
        .map_or((String::new(), Vec::new()), |(e, a)| (e.clone(), a.to_vec()));
    let keys: Vec<u8> = spec.detach_keys.split(',').filter_map(key).collect();
    ExecInspect {
        id: id.clone(),
        running: *running,
        exit_code: *exit_code,
        process_config: ExecProcessConfig {
            tty: spec.tty,
            entrypoint,
            arguments,
            privileged: Some(spec.privileged),
            user: spec.user.clone(),
        },
        open_stdin: spec.attach_stdin,
        open_stderr: spec.attach_stderr,
        open_stdout: spec.attach_stdout,
        can_remove: false,
        container_id: container_id.clone(),
        detach_keys: base64::engine::general_purpose::STANDARD.encode(keys),
        pid: *pid,
    }
}

/// The byte of `a` or `ctrl-a`.
fn key(text: &str) -> Option<u8> {
    match text.strip_prefix("ctrl-") {
        Some(letter) => letter.bytes().next().map(|b| b.to_ascii_uppercase() & 0x1f),
        None => text.bytes().next(),
    }
}
