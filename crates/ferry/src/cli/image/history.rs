//! `history`

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::output::listing::{self, Listing};
use crate::cli::output::{self, clock, ellipsis, short_id, units};
use crate::cli::session::Session;
use ferry_api::client::{Request, segment};

static LISTING: Listing = Listing {
    columns: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    raw: "",
    quiet: "{{.ID}}",
    kind: "image.historyContext",
};

const EXACT: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// `history`
pub(super) fn history(session: &Session, m: &Matches) -> Outcome {
    let platform = match m.get("platform") {
        "" => String::new(),
        text => super::platform_json(text)?,
    };
    let request =
        Request::get(format!("/images/{}/history", segment(m.arg(0)))).query_some("platform", &platform);
    let Json::Array(entries) = session.json(request)? else {
        return Err(Failure::text("unexpected answer from the engine: no history"));
    };
    let (human, trunc) = (m.on("human"), !m.on("no-trunc"));
    let template = match (m.get("format"), m.on("quiet")) {
        ("" | "table", false) if !human => EXACT.to_owned(),
        (format, quiet) => LISTING.template(format, quiet),
    };
    let rows: Vec<Json> = entries.iter().map(|e| row(e, human, trunc)).collect();
    output::print(&LISTING.render(&template, &rows)?);
    Ok(())
}

fn row(entry: &Json, human: bool, trunc: bool) -> Json {
    let id = if trunc {
        short_id(entry.text("Id"))
    } else {
        entry.text("Id")
    };
    let created = entry.int("Created");
    // Layers whose history has no date carry the zero time of the image format.
    let since = if created <= -62_135_596_800 {
        "N/A".to_owned()
    } else {
        format!("{} ago", units::human_duration(clock::now() - created as f64))
    };
    let by = entry.text("CreatedBy").replace('\t', " ");
    let by = if trunc { ellipsis(&by, 45) } else { by };
    let size = if human {
        units::human_size_precise(entry.float("Size"), 3)
    } else {
        entry.int("Size").to_string()
    };
    listing::row(vec![
        ("ID", id.to_owned()),
        (
            "CreatedSince",
            if human {
                since
            } else {
                clock::rfc3339(created, None)
            },
        ),
        ("CreatedAt", clock::rfc3339(created, None)),
        ("CreatedBy", by),
        ("Size", size),
        ("Comment", entry.text("Comment").to_owned()),
    ])
}
