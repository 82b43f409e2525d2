//! Stop, restart, kill, remove, wait, rename, pause.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output;
use crate::cli::output::json::Json;
use crate::cli::session::Session;
use ferry_api::client::{Pending, Request, segment};

/// Requests under way at once.
const PARALLEL: usize = 50;

/// The path of a container's action.
pub(super) fn path(name: &str, action: &str) -> String {
    format!("/containers/{}/{action}", segment(name))
}

/// Runs the requests side by side and prints each name in order as its request succeeds. Errors are joined.
fn each(
    session: &Session,
    names: &[String],
    request: impl Fn(&str) -> Outcome<Request>,
    ignore_missing: bool,
) -> Outcome {
    let client = session.client()?;
    let mut errors = Vec::new();
    for batch in names.chunks(PARALLEL) {
        let pending: Vec<Outcome<Pending<'_>>> = batch
            .iter()
            .map(|name| Ok(client.begin(request(name)?)?))
            .collect();
        for (name, pending) in batch.iter().zip(pending) {
            match pending.and_then(|p| Ok(p.finish()?)) {
                Ok(_) => output::line(name),
                Err(error) if ignore_missing && error.not_found => {}
                Err(error) => errors.push(error.message),
            }
        }
    }
    join(errors)
}

/// All messages, a line each, as one failure.
pub(crate) fn join(errors: Vec<String>) -> Outcome {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::text(errors.join("\n")))
    }
}

fn with_timeout(m: &Matches, action: &'static str) -> Outcome<impl Fn(&str) -> Outcome<Request>> {
    if m.changed("time") && m.changed("timeout") {
        return Err(Failure::text(
            "conflicting options: cannot specify both --timeout and --time",
        ));
    }
    let timeout = ["timeout", "time"]
        .iter()
        .find(|f| m.changed(f))
        .map_or("", |f| m.get(f))
        .to_owned();
    let signal = m.get("signal").to_owned();
    Ok(move |name: &str| {
        Ok(Request::post(path(name, action))
            .query_some("signal", &signal)
            .query_some("t", &timeout))
    })
}

/// `stop`
pub(super) fn stop(session: &Session, m: &Matches) -> Outcome {
    each(session, &m.args, with_timeout(m, "stop")?, false)
}

/// `restart`
pub(super) fn restart(session: &Session, m: &Matches) -> Outcome {
    let request = with_timeout(m, "restart")?;
    let mut errors = Vec::new();
    for name in &m.args {
        match session.call(request(name)?) {
            Ok(()) => output::line(name),
            Err(error) => errors.push(error.message),
        }
    }
    join(errors)
}

/// `kill`
pub(super) fn kill(session: &Session, m: &Matches) -> Outcome {
    let request = |name: &str| Ok(Request::post(path(name, "kill")).query_some("signal", m.get("signal")));
    each(session, &m.args, request, false)
}

/// `rm`
pub(super) fn rm(session: &Session, m: &Matches) -> Outcome {
    let request = |name: &str| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(Failure::text("container name cannot be empty"));
        }
        Ok(Request::delete(format!("/containers/{}", segment(name)))
            .query_flag("v", m.on("volumes"))
            .query_flag("link", m.on("link"))
            .query_flag("force", m.on("force")))
    };
    each(session, &m.args, request, m.on("force"))
}

/// `wait`
pub(super) fn wait(session: &Session, m: &Matches) -> Outcome {
    let mut errors = Vec::new();
    for name in &m.args {
        match session.json(Request::post(path(name, "wait"))) {
            Ok(result) => output::line(&result.int("StatusCode").to_string()),
            Err(error) => errors.push(error.message),
        }
    }
    join(errors)
}

/// `rename`
pub(super) fn rename(session: &Session, m: &Matches) -> Outcome {
    let renamed = session.call(Request::post(path(m.arg(0), "rename")).query("name", m.arg(1)));
    renamed.map_err(|error| {
        Failure::text(format!(
            "{}\nError: failed to rename container named {}",
            error.message,
            m.arg(0)
        ))
    })
}

/// `pause`
pub(super) fn pause(session: &Session, m: &Matches) -> Outcome {
    each(
        session,
        &m.args,
        |name| Ok(Request::post(path(name, "pause"))),
        false,
    )
}

/// `unpause`
pub(super) fn unpause(session: &Session, m: &Matches) -> Outcome {
    each(
        session,
        &m.args,
        |name| Ok(Request::post(path(name, "unpause"))),
        false,
    )
}

/// The exit status in an answer to wait.
pub(super) fn exit_status(answer: &Json) -> Outcome<i64> {
    match answer.text("Error.Message") {
        "" => Ok(answer.int("StatusCode")),
        message => Err(Failure::new(
            125,
            format!("Error waiting for container: {message}"),
        )),
    }
}
