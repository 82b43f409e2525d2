//! `pull` and `push`.

use crate::cli::credentials::{self, Credentials};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::progress::Display;
use crate::cli::output::{self};
use crate::cli::session::Session;
use ferry_api::client::{Request, Response, segment};
use ferry_oci::reference::Reference;
use std::io::{Read, Write};

fn parse(name: &str) -> Outcome<Reference> {
    Ok(super::reference(name)?)
}

/// The credentials for a reference's registry.
fn credentials_for(session: &Session, reference: &Reference) -> Outcome<Credentials> {
    credentials::lookup(session.config(), credentials::key_of(reference.registry()))
}

/// Adds the tag that is meant, and says so.
fn with_default_tag(reference: Reference, m: &Matches) -> Outcome<Reference> {
    let name_only = reference.tag().is_none() && reference.digest().is_none();
    if m.on("all-tags") {
        if !name_only {
            return Err(Failure::text("tag can't be used with --all-tags/-a"));
        }
        return Ok(reference);
    }
    if name_only && !m.on("quiet") {
        output::line("Using default tag: latest");
    }
    Ok(reference.tagged())
}

/// `pull`
pub(super) fn pull(session: &Session, m: &Matches) -> Outcome {
    let reference = with_default_tag(parse(m.arg(0))?, m)?;
    let response = start_pull(session, &reference, m.get("platform"), m.on("all-tags"))?;
    show(response, m.on("quiet"))?;
    output::line(&canonical(&reference));
    Ok(())
}

fn canonical(reference: &Reference) -> String {
    reference.to_string()
}

fn start_pull(session: &Session, reference: &Reference, platform: &str, all: bool) -> Outcome<Response> {
    let mut request = Request::post("/images/create").query("fromImage", &reference.familiar_name());
    request = match (reference.digest(), reference.tag()) {
        _ if all => request,
        (Some(digest), _) => request.query("tag", &digest.to_string()),
        (None, tag) => request.query("tag", tag.unwrap_or("latest")),
    };
    let default = std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    let platform = if platform.is_empty() { &default } else { platform };
    let auth = credentials_for(session, reference)?.header();
    Ok(session.client()?.send(
        request
            .query_some("platform", platform)
            .header("X-Registry-Auth", &auth),
    )?)
}

fn show(mut response: Response, quiet: bool) -> Outcome {
    if quiet {
        return drain(&mut response.body);
    }
    let mut out = std::io::stdout();
    Display::stdout(&mut out).run(&mut response.body, |_| {})
}

/// Reads progress without showing it; an error in it still counts.
fn drain(stream: &mut dyn Read) -> Outcome {
    Display::plain(&mut std::io::sink()).run(stream, |_| {})
}

/// The pull that `run` and `create` do by themselves: progress goes to standard error.
pub(crate) fn pull_for_run(session: &Session, name: &str, platform: &str, quiet: bool) -> Outcome {
    let reference = parse(name)?.tagged();
    let mut response = start_pull(session, &reference, platform, false)?;
    if quiet {
        return drain(&mut response.body);
    }
    let mut err = std::io::stderr();
    Display::stderr(&mut err).run(&mut response.body, |_| {})
}

/// `push`
pub(super) fn push(session: &Session, m: &Matches) -> Outcome {
    let reference = with_default_tag(parse(m.arg(0))?, m)?;
    let platform = match m.get("platform") {
        "" => String::new(),
        text => super::platform_json(text)?,
    };
    let auth = credentials_for(session, &reference)?.header();
    let tag = if m.on("all-tags") {
        ""
    } else {
        reference.tag().unwrap_or_default()
    };
    let request = Request::post(format!("/images/{}/push", segment(&reference.familiar_name())))
        .query("tag", tag)
        .query_some("platform", &platform)
        .header("X-Registry-Auth", &auth);
    let mut response = session.client()?.send(request)?;
    let mut notes = Vec::new();
    let mut note = |aux: &crate::cli::output::json::Json| {
        if aux.is_true("manifestPushedInsteadOfIndex") {
            notes.push(format!(
                "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
                aux.text("originalIndex.digest"),
                aux.text("selectedManifest.digest")
            ));
        }
        if aux.is_true("contentMissing") {
            notes.push(
                "The image's index refers to platforms that are not here. Push one with --platform, or pull them first."
                    .to_owned(),
            );
        }
    };
    let result = if m.on("quiet") {
        Display::plain(&mut std::io::sink()).run(&mut response.body, &mut note)
    } else {
        let mut out = std::io::stdout();
        Display::stdout(&mut out).run(&mut response.body, &mut note)
    };
    for text in notes {
        writeln!(std::io::stderr(), "\ni Info → {text}")?;
    }
    result?;
    if m.on("quiet") {
        output::line(&canonical(&reference));
    }
    Ok(())
}
