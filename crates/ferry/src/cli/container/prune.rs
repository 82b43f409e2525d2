//! `container prune`, and the question that prunes ask.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::values;
use crate::cli::output::{self, units};
use crate::cli::session::Session;
use ferry_api::client::Request;
use std::io::BufRead;

/// Asks; anything but yes is a no.
pub(crate) fn confirm(warning: &str, what: &str) -> Outcome {
    output::print(&format!("{warning} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::text(format!("{what} prune has been cancelled")))
}

/// `container prune`
pub(super) fn prune(session: &Session, m: &Matches) -> Outcome {
    if !m.on("force") {
        confirm(
            "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?",
            "container",
        )?;
    }
    let filters = values::filters(&m.all("filter"));
    let report = session.json(Request::post("/containers/prune").query_some("filters", &filters))?;
    let deleted = report.list("ContainersDeleted");
    if !deleted.is_empty() {
        output::line("Deleted Containers:");
        for id in deleted {
            output::line(id.as_str());
        }
        output::line("");
    }
    output::line(&format!(
        "Total reclaimed space: {}",
        units::human_size(report.float("SpaceReclaimed"))
    ));
    Ok(())
}
