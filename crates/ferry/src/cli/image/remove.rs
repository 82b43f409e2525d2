//! `rmi` and `image prune`.

use crate::cli::container::confirm;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::values;
use crate::cli::output::json::Json;
use crate::cli::output::{self, units};
use crate::cli::session::Session;
use ferry_api::client::{Request, segment};

/// `rmi`
pub(super) fn rmi(session: &Session, m: &Matches) -> Outcome {
    let platforms = super::platforms(m)?;
    let (mut errors, mut fatal) = (Vec::new(), false);
    for name in &m.args {
        let mut request = Request::delete(format!("/images/{}", segment(name)))
            .query_flag("force", m.on("force"))
            .query_flag("noprune", m.on("no-prune"));
        for platform in &platforms {
            request = request.query("platforms", platform);
        }
        match session.json(request) {
            Ok(Json::Array(items)) => {
                for item in &items {
                    match item.text("Deleted") {
                        "" => output::line(&format!("Untagged: {}", item.text("Untagged"))),
                        id => output::line(&format!("Deleted: {id}")),
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                fatal |= !error.not_found;
                errors.push(error.message);
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let text = errors.join("\n");
    if !m.on("force") || fatal {
        return Err(Failure::text(text));
    }
    eprintln!("{text}");
    Ok(())
}

/// `image prune`
pub(super) fn prune(session: &Session, m: &Matches) -> Outcome {
    let what = if m.on("all") {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    if !m.on("force") {
        confirm(
            &format!("WARNING! This will remove {what}.\nAre you sure you want to continue?"),
            "image",
        )?;
    }
    let dangling = format!("dangling={}", !m.on("all"));
    let mut filters = m.all("filter");
    filters.push(&dangling);
    let report = session.json(Request::post("/images/prune").query("filters", &values::filters(&filters)))?;
    let deleted = report.list("ImagesDeleted");
    if !deleted.is_empty() {
        output::line("Deleted Images:");
        for item in deleted {
            match item.text("Untagged") {
                "" => output::line(&format!("deleted: {}", item.text("Deleted"))),
                name => output::line(&format!("untagged: {name}")),
            }
        }
        output::line("");
    }
    output::line(&format!(
        "Total reclaimed space: {}",
        units::human_size(report.float("SpaceReclaimed"))
    ));
    Ok(())
}
