//! `system prune`: containers, networks, volumes when asked for, images.

use crate::cli::container::confirm;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::values;
use crate::cli::output::{self, units};
use crate::cli::session::Session;
use ferry_api::client::Request;

/// `system prune`
pub(super) fn prune(session: &Session, m: &Matches) -> Outcome {
    let filters = m.all("filter");
    if m.on("volumes") && filters.iter().any(|f| f.starts_with("until=")) {
        return Err(Failure::text(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !m.on("force") {
        confirm(&warning(m, &filters), "system")?;
    }
    let mut reclaimed = 0.0;
    for (path, title, deleted) in [
        ("/containers/prune", "Deleted Containers:", "ContainersDeleted"),
        ("/networks/prune", "Deleted Networks:", "NetworksDeleted"),
        ("/volumes/prune", "Deleted Volumes:", "VolumesDeleted"),
        ("/images/prune", "Deleted Images:", "ImagesDeleted"),
    ] {
        if path.starts_with("/volumes") && !m.on("volumes") {
            continue;
        }
        let dangling = format!("dangling={}", !m.on("all"));
        let mut own = filters.clone();
        if path.starts_with("/images") {
            own.push(&dangling);
        }
        let report = session.json(Request::post(path).query_some("filters", &values::filters(&own)))?;
        reclaimed += report.float("SpaceReclaimed");
        let items = report.list(deleted);
        if items.is_empty() {
            continue;
        }
        output::line(title);
        for item in items {
            output::line(&match (item.text("Untagged"), item.text("Deleted")) {
                ("", "") => item.as_str().to_owned(),
                ("", id) => format!("deleted: {id}"),
                (name, _) => format!("untagged: {name}"),
            });
        }
        output::line("");
    }
    output::line(&format!(
        "Total reclaimed space: {}",
        units::human_size(reclaimed)
    ));
    Ok(())
}

fn warning(m: &Matches, filters: &[&str]) -> String {
    let mut what = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if m.on("volumes") {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.push(if m.on("all") {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    let list = |items: &[&str]| items.iter().map(|i| format!("\n  - {i}")).collect::<String>();
    let filtered = match filters {
        [] => String::new(),
        filters => format!("\n  Items to be pruned will be filtered with:{}\n", list(filters)),
    };
    format!(
        "WARNING! This will remove:{}\n{filtered}\nAre you sure you want to continue?",
        list(&what)
    )
}
