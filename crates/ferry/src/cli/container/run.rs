//! `run` and `create`.
//!
//! Order on the wire: create, attach, wait, start. Attach and wait stand before the program runs, so that neither a
//! byte nor the exit status of a short one is lost.

use super::lifecycle::{exit_status, path};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::image;
use crate::cli::options::create::{self, CreateBody};
use crate::cli::output;
use crate::cli::output::json::Json;
use crate::cli::session::Session;
use crate::cli::streams::{self, Attachment, Ended};
use crate::hello;
use ferry_api::client::{Hijacked, Request, Response};
use ferry_oci::reference::{InvalidReference, Reference};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// `create`
pub(super) fn create(session: &Session, m: &Matches) -> Outcome {
    check_pull(session, m)?;
    let mut body = read_options(session, m)?;
    let id = create_container(session, m, &mut body)?;
    output::line(&id);
    Ok(())
}

/// `run`
pub(super) fn run(session: &Session, m: &Matches) -> Outcome {
    check_pull(session, m)?;
    let mut body = read_options(session, m)?;
    if m.on("detach") {
        if m.changed("attach") {
            return Err(Failure::text(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        body.attach = [false; 3];
        for key in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
            body.json[key] = json!(false);
        }
    } else {
        streams::check_tty(body.attach[0], body.tty)?;
    }
    let keys = keys(session, m)?;
    let id = create_container(session, m, &mut body).map_err(|e| refused(session, e))?;
    if body.attach == [false; 3] {
        session
            .call(Request::post(path(&id, "start")))
            .map_err(|e| refused(session, e))?;
        output::line(&id);
        return Ok(());
    }
    run_attached(session, m, &body, &id, keys)
}

/// The detach keys of the command line, else of the configuration.
pub(super) fn keys(session: &Session, m: &Matches) -> Outcome<Vec<u8>> {
    let text = match m.get("detach-keys") {
        "" => session.config().detach_keys(),
        keys => keys,
    };
    Ok(streams::parse_keys(text)?)
}

fn run_attached(session: &Session, m: &Matches, body: &CreateBody, id: &str, keys: Vec<u8>) -> Outcome {
    let client = session.client()?;
    let forward = m.on("sig-proxy");
    let signals = streams::catch(forward, body.tty)?;
    let stream = attach_stream(session, id, body.attach, m.get("detach-keys"))?;
    let waiting = wait_for_exit(session, id, m.on("rm"))?;
    if let Err(error) = session.call(Request::post(path(id, "start"))) {
        drop(stream);
        if m.on("rm") {
            // The failed container is being removed; its name is free only afterwards.
            waiting.bytes()?;
        }
        return Err(refused(session, error));
    }
    let attachment = Attachment {
        client,
        resize: format!("/containers/{id}"),
        signals: forward.then(|| id.to_owned()),
        tty: body.tty,
        stdin: body.attach[0],
        output: [body.attach[1], body.attach[2]],
        keys,
    };
    if body.tty {
        streams::resize(client, &attachment.resize);
    }
    if streams::run(&attachment, stream, signals)? == Ended::Detached {
        return Ok(());
    }
    finish(waiting)
}

/// Opens the attach stream.
pub(super) fn attach_stream(session: &Session, id: &str, attach: [bool; 3], keys: &str) -> Outcome<Hijacked> {
    let request = Request::post(path(id, "attach"))
        .query("stream", "1")
        .query_flag("stdin", attach[0])
        .query_flag("stdout", attach[1])
        .query_flag("stderr", attach[2])
        .query_some("detachKeys", keys);
    Ok(session.client()?.hijack(request)?)
}

/// Sends wait; its answer's head says that the engine listens.
pub(super) fn wait_for_exit(session: &Session, id: &str, removed: bool) -> Outcome<Response> {
    let condition = if removed { "removed" } else { "next-exit" };
    Ok(session
        .client()?
        .send(Request::post(path(id, "wait")).query("condition", condition))?)
}

/// Ends with the container's exit status.
pub(super) fn finish(waiting: Response) -> Outcome {
    let answer = Json::parse(&waiting.bytes()?)?;
    match exit_status(&answer)? {
        0 => Ok(()),
        status => Err(Failure::status(status as i32)),
    }
}

fn check_pull(session: &Session, m: &Matches) -> Outcome {
    match m.get("pull") {
        "" | "always" | "missing" | "never" => Ok(()),
        other => Err(with_help(
            session,
            &m.path,
            125,
            &format!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""),
        )),
    }
}

fn with_help(session: &Session, verb: &str, status: i32, message: &str) -> Failure {
    let program = session.program;
    let verb = verb.rsplit(' ').next().unwrap_or(verb);
    Failure::new(
        status,
        format!("{program}: {message}\n\nRun '{program} {verb} --help' for more information"),
    )
}

/// The exit status that scripts know: 127 not found, 126 not executable, 125 anything else.
fn refused(session: &Session, error: Failure) -> Failure {
    let has = |words: &[&str]| words.iter().any(|w| error.message.contains(w));
    let status = match () {
        () if error.status != 1 => error.status,
        () if has(&[
            "executable file not found",
            "no such file or directory",
            "system cannot find the file specified",
        ]) =>
        {
            127
        }
        () if has(&["permission denied", "is a directory"]) => 126,
        () => 125,
    };
    with_help(session, "run", status, &error.message)
}

fn read_options(session: &Session, m: &Matches) -> Outcome<CreateBody> {
    let proxies = session.config().proxies("default");
    let mut body = create::body(m, m.arg(0), &m.args[1..], &proxies)
        .map_err(|why| with_help(session, &m.path, 125, &why))?;
    let (rows, columns) = streams::terminal_size();
    body.json["HostConfig"]["ConsoleSize"] = json!([rows, columns]);
    Ok(body)
}

/// Creates the container; an image that is not there is pulled unless `--pull never`.
fn create_container(session: &Session, m: &Matches, body: &mut CreateBody) -> Outcome<String> {
    let cid_file = CidFile::open(m.get("cidfile"))?;
    let name = m.arg(0).to_owned();
    let familiar = familiar(&name)?;
    let platform = platform(m.get("platform"));
    let is_hello = hello::is_name(&name);
    if is_hello {
        hello::describe_host(&mut body.json);
    } else if m.get("pull") == "always" {
        image::pull_for_run(session, &name, &platform, m.on("quiet"))?;
    }
    let request = || {
        Request::post("/containers/create")
            .query_some("name", m.get("name"))
            .query_some("platform", &platform)
            .json(&body.json)
    };
    let answer = match session.json(request()) {
        Err(error) if error.not_found && is_hello => {
            hello::load(session.client()?)?;
            session.json(request())?
        }
        Err(error)
            if error.not_found
                && matches!(m.get("pull"), "missing" | "")
                && error.message.contains("No such image") =>
        {
            if !m.on("quiet") {
                eprintln!("Unable to find image '{familiar}' locally");
            }
            image::pull_for_run(session, &name, &platform, m.on("quiet"))?;
            session.json(request())?
        }
        other => other?,
    };
    for warning in answer.list("Warnings") {
        eprintln!("WARNING: {}", warning.as_str());
    }
    let id = answer.text("Id").to_owned();
    cid_file.write(&id)?;
    Ok(id)
}

/// The platform asked for; an operating system alone means this machine's architecture.
fn platform(given: &str) -> String {
    let default = std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    let text = if given.is_empty() { &default } else { given };
    match text {
        "linux" => format!("linux/{}", hello::architecture()),
        other => other.to_owned(),
    }
}

/// `name:tag` as people write it. An image's id is no reference and needs none.
fn familiar(name: &str) -> Outcome<String> {
    match name.parse::<Reference>() {
        Ok(reference) => Ok(reference.tagged().familiar()),
        Err(InvalidReference::LooksLikeId(_)) => Ok(name.to_owned()),
        Err(_) => Err(Failure::text(image::reference(name).err().unwrap_or_default())),
    }
}

/// The file of `--cidfile`, gone again unless an id was written.
struct CidFile(Option<(PathBuf, std::fs::File)>);

impl CidFile {
    fn open(path: &str) -> Outcome<Self> {
        if path.is_empty() {
            return Ok(CidFile(None));
        }
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => Failure::text(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )),
                _ => Failure::text(format!(
                    "failed to create the container ID file: open {path}: {e}"
                )),
            })?;
        Ok(CidFile(Some((path.into(), file))))
    }

    fn write(mut self, id: &str) -> Outcome {
        let Some((path, mut file)) = self.0.take() else {
            return Ok(());
        };
        file.write_all(id.as_bytes()).map_err(|e| {
            Failure::text(format!(
                "failed to write the container ID ({id}) to file {}: {e}",
                path.display()
            ))
        })
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.0 {
            // Nothing was written: an empty file would say that a container exists.
            let _ = std::fs::remove_file(path);
        }
    }
}
