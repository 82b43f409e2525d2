//! `inspect`: finds out what a name means.

use crate::cli::container::inspect_one;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::session::Session;
use ferry_api::client::{Request, segment};

/// Kinds of things in the order in which they are tried.
const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

/// `inspect`
pub(super) fn inspect(session: &Session, m: &Matches) -> Outcome {
    let kind = m.get("type");
    let known = ["config", "node", "plugin", "secret", "service", "task"];
    if known.contains(&kind) {
        return Err(Failure::text(format!(
            "unsupported type: {kind} (Ferry has containers, images, networks and volumes)"
        )));
    }
    if !kind.is_empty() && !KINDS.contains(&kind) {
        return Err(Failure::text(format!(
            "unknown type: \"{kind}\": must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
        )));
    }
    if m.changed("type") && kind.is_empty() {
        return Err(Failure::text(
            "type is empty: must be one of \"container\", \"image\", \"network\", \"volume\"",
        ));
    }
    inspect_one(m, |name| find(session, name, kind, m.on("size")))
}

fn find(session: &Session, name: &str, kind: &str, size: bool) -> Outcome<Json> {
    let path = |kind: &str| match kind {
        "container" => format!("/containers/{}/json", segment(name)),
        "image" => format!("/images/{}/json", segment(name)),
        "network" => format!("/networks/{}", segment(name)),
        _ => format!("/volumes/{}", segment(name)),
    };
    let get =
        |kind: &str| session.json(Request::get(path(kind)).query_flag("size", size && kind == "container"));
    if !kind.is_empty() {
        return get(kind);
    }
    for kind in KINDS {
        match get(kind) {
            Err(error) if error.not_found => {}
            other => return other,
        }
    }
    Err(Failure::text(format!("Error: No such object: {name}")))
}
