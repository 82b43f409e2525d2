//! `attach` and `start`.

use super::lifecycle::{exit_status, path};
use super::run::{attach_stream, finish, keys, wait_for_exit};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output;
use crate::cli::output::json::Json;
use crate::cli::session::Session;
use crate::cli::streams::{self, Attachment, Ended};
use ferry_api::client::Request;

/// The container, if one can attach to it now.
fn running(session: &Session, name: &str) -> Outcome<Json> {
    let container = session.json(Request::get(path(name, "json")))?;
    let why = match () {
        () if !container.is_true("State.Running") => "cannot attach to a stopped container, start it first",
        () if container.is_true("State.Paused") => "cannot attach to a paused container, unpause it first",
        () if container.is_true("State.Restarting") => {
            "cannot attach to a restarting container, wait until it is running"
        }
        () => return Ok(container),
    };
    Err(Failure::text(why))
}

/// `attach`
pub(super) fn attach(session: &Session, m: &Matches) -> Outcome {
    let name = m.arg(0);
    let keys = keys(session, m)?;
    let client = session.client()?;
    let container = running(session, name)?;
    let tty = container.is_true("Config.Tty");
    streams::check_tty(!m.on("no-stdin"), tty)?;
    let waiting = client.send(Request::post(path(name, "wait")))?;
    let stdin = !m.on("no-stdin") && container.is_true("Config.OpenStdin");
    let forward = m.on("sig-proxy") && !tty;
    let signals = streams::catch(forward, tty)?;
    let stream = attach_stream(session, name, [stdin, true, true], m.get("detach-keys"))?;
    // It may have ended between the look and the attach: then nothing would ever come.
    running(session, name)?;
    let attachment = Attachment {
        client,
        resize: format!("/containers/{}", container.text("Id")),
        signals: forward.then(|| name.to_owned()),
        tty,
        stdin,
        output: [true, true],
        keys,
    };
    if tty {
        // A size that differs first makes programs redraw their screen for the newcomer.
        let (rows, columns) = streams::terminal_size();
        if rows > 0 {
            streams::resize_to(client, &attachment.resize, rows + 1, columns + 1);
        }
        streams::resize(client, &attachment.resize);
    }
    if streams::run(&attachment, stream, signals)? == Ended::Detached {
        return Err(Failure::text("read escape sequence"));
    }
    let answer = Json::parse(&waiting.bytes()?)?;
    match exit_status(&answer)? {
        0 => Ok(()),
        status => Err(Failure::status(status as i32)),
    }
}

/// `start`
pub(super) fn start(session: &Session, m: &Matches) -> Outcome {
    if m.on("attach") || m.on("interactive") {
        return start_attached(session, m);
    }
    let mut failed = Vec::new();
    for name in &m.args {
        match session.call(Request::post(path(name, "start"))) {
            Ok(()) => output::line(name),
            Err(error) => {
                eprintln!("{}", error.message);
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::text(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

fn start_attached(session: &Session, m: &Matches) -> Outcome {
    if m.args.len() > 1 {
        return Err(Failure::text(
            "you cannot start and attach multiple containers at once",
        ));
    }
    let keys = keys(session, m)?;
    let client = session.client()?;
    let container = session.json(Request::get(path(m.arg(0), "json")))?;
    let id = container.text("Id");
    let tty = container.is_true("Config.Tty");
    let removed = container.is_true("HostConfig.AutoRemove");
    let stdin = m.on("interactive") && container.is_true("Config.OpenStdin");
    let signals = streams::catch(!tty, tty)?;
    let stream = attach_stream(session, id, [stdin, true, true], m.get("detach-keys"))?;
    let waiting = wait_for_exit(session, id, removed)?;
    if let Err(error) = session.call(Request::post(path(id, "start"))) {
        drop(stream);
        if removed {
            waiting.bytes()?;
        }
        return Err(error);
    }
    let attachment = Attachment {
        client,
        resize: format!("/containers/{id}"),
        signals: (!tty).then(|| id.to_owned()),
        tty,
        stdin,
        output: [true, true],
        keys,
    };
    if tty {
        streams::resize(client, &attachment.resize);
    }
    if streams::run(&attachment, stream, signals)? == Ended::Detached {
        return Ok(());
    }
    finish(waiting)
}
