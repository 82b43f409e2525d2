//! `exec`

use super::lifecycle::path;
use super::run::keys;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::environment::{self, Bare};
use crate::cli::session::Session;
use crate::cli::streams::{self, Attachment};
use ferry_api::client::Request;
use serde_json::{Value, json};

/// `exec`
pub(super) fn exec(session: &Session, m: &Matches) -> Outcome {
    let env = environment::collect(&m.all("env-file"), &m.all("env"), Bare::FromEnvironment)?;
    let keys = keys(session, m)?;
    let client = session.client()?;
    let (tty, detach) = (m.on("tty"), m.on("detach"));
    let stdin = m.on("interactive") && !detach;
    if !detach {
        streams::check_tty(stdin, tty)?;
    }
    let (rows, columns) = streams::terminal_size();
    let size = if tty { json!([rows, columns]) } else { Value::Null };
    let body = json!({
        "User": m.get("user"),
        "Privileged": m.on("privileged"),
        "Tty": tty,
        "ConsoleSize": size,
        "AttachStdin": stdin,
        "AttachStdout": !detach,
        "AttachStderr": !detach,
        "DetachKeys": m.get("detach-keys"),
        "Env": env,
        "WorkingDir": m.get("workdir"),
        "Cmd": &m.args[1..],
    });
    let created = session.json(Request::post(path(m.arg(0), "exec")).json(&body))?;
    let id = created.text("Id");
    if id.is_empty() {
        return Err(Failure::text("exec ID empty"));
    }
    let start = Request::post(format!("/exec/{id}/start"))
        .json(&json!({"Detach": detach, "Tty": tty, "ConsoleSize": size}));
    if detach {
        return session.call(start);
    }
    let signals = streams::catch(false, tty)?;
    let stream = client.hijack(start)?;
    let attachment = Attachment {
        client,
        resize: format!("/exec/{id}"),
        signals: None,
        tty,
        stdin,
        output: [true, true],
        keys,
    };
    if tty {
        streams::resize(client, &attachment.resize);
    }
    if streams::run(&attachment, stream, signals)? == streams::Ended::Detached {
        return Err(Failure::text("read escape sequence"));
    }
    match session
        .json(Request::get(format!("/exec/{id}/json")))?
        .int("ExitCode")
    {
        0 => Ok(()),
        status => Err(Failure::status(status as i32)),
    }
}
