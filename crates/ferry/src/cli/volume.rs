//! Commands about volumes.

use super::command::{Arity, Command};
use super::container::{FORMAT_HELP, INSPECT_FORMAT_HELP, confirm};
use super::failure::{Failure, Outcome};
use super::flags::{Flag, Matches, flag, switch};
use super::options::{create, values};
use super::output::json::Json;
use super::output::listing::{self, Listing};
use super::output::{self, units};
use super::session::Session;
use ferry_api::client::{Request, segment};
use serde_json::json;

/// The rows of `volume ls`.
pub(crate) static LISTING: Listing = Listing {
    columns: &[
        ("Name", "VOLUME NAME"),
        ("Group", "GROUP"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.Driver}}\t{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
    quiet: "{{.Name}}",
    kind: "formatter.volumeContext",
};

static CREATE: [Flag; 4] = [
    flag("driver", "string", "Specify volume driver name")
        .short('d')
        .default("local"),
    flag("label", "list", "Set metadata for a volume").check(values::label),
    flag("name", "string", "Specify volume name").hidden(),
    flag("opt", "map", "Set driver specific options")
        .short('o')
        .shown("map[]"),
];

static LS: [Flag; 3] = [
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"dangling=true\")",
    )
    .short('f')
    .check(values::filter),
    flag("format", "string", FORMAT_HELP),
    switch("quiet", "Only display volume names").short('q'),
];

static INSPECT: [Flag; 1] = [flag("format", "string", INSPECT_FORMAT_HELP).short('f')];

static RM: [Flag; 1] = [switch("force", "Force the removal of one or more volumes").short('f')];

static PRUNE: [Flag; 3] = [
    switch("all", "Remove all unused volumes, not just anonymous ones").short('a'),
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"label=<label>\")",
    )
    .check(values::filter),
    switch("force", "Do not prompt for confirmation").short('f'),
];

/// Commands about volumes.
pub(crate) static COMMANDS: [Command; 5] = [
    Command::new(
        &["volume create"],
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        Arity::Max(1),
        create_volume,
    )
    .flags(&[&CREATE]),
    Command::new(
        &["volume ls", "volume list"],
        "[OPTIONS]",
        "List volumes",
        Arity::None,
        ls,
    )
    .flags(&[&LS])
    .aliases("volume ls, volume list"),
    Command::new(
        &["volume inspect"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        Arity::Min(1),
        inspect,
    )
    .flags(&[&INSPECT]),
    Command::new(
        &["volume rm", "volume remove"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        Arity::Min(1),
        rm,
    )
    .flags(&[&RM])
    .aliases("volume rm, volume remove")
    .long("Remove one or more volumes. You cannot remove a volume that is in use by a container."),
    Command::new(
        &["volume prune"],
        "[OPTIONS]",
        "Remove unused local volumes",
        Arity::None,
        prune,
    )
    .flags(&[&PRUNE]),
];

fn create_volume(session: &Session, m: &Matches) -> Outcome {
    let name = match (m.arg(0), m.get("name")) {
        ("", name) | (name, "") => name,
        _ => {
            return Err(Failure::text(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
    };
    let body = json!({
        "Name": name,
        "Driver": m.get("driver"),
        "DriverOpts": create::pairs(&m.all("opt")),
        "Labels": create::pairs(&m.all("label")),
    });
    let volume = session.json(Request::post("/volumes/create").json(&body))?;
    output::line(volume.text("Name"));
    Ok(())
}

fn ls(session: &Session, m: &Matches) -> Outcome {
    let answer =
        session.json(Request::get("/volumes").query_some("filters", &values::filters(&m.all("filter"))))?;
    let mut volumes: Vec<&Json> = answer.list("Volumes").iter().collect();
    volumes.sort_by_key(|v| super::container::natural_key(v.text("Name")));
    let format = match m.get("format") {
        "" if !m.on("quiet") => session.config().format("volumesFormat"),
        format => format,
    };
    let rows: Vec<Json> = volumes.into_iter().map(row).collect();
    output::print(&LISTING.render(&LISTING.template(format, m.on("quiet")), &rows)?);
    Ok(())
}

/// One volume as templates see it.
pub(crate) fn row(v: &Json) -> Json {
    let usage = v.get("UsageData").filter(|u| matches!(u, Json::Object(_)));
    let of_usage = |text: &dyn Fn(&Json) -> String| usage.map_or_else(|| "N/A".to_owned(), text);
    listing::labelled(
        vec![
            ("Name", v.text("Name").to_owned()),
            ("Group", "N/A".into()),
            ("Driver", v.text("Driver").to_owned()),
            ("Scope", v.text("Scope").to_owned()),
            ("Availability", "N/A".into()),
            ("Mountpoint", v.text("Mountpoint").to_owned()),
            ("Labels", listing::join_labels(v.at("Labels"))),
            ("Links", of_usage(&|u| u.int("RefCount").to_string())),
            ("Size", of_usage(&|u| units::human_size(u.float("Size")))),
            ("Status", "N/A".into()),
        ],
        v.at("Labels"),
    )
}

fn inspect(session: &Session, m: &Matches) -> Outcome {
    super::container::inspect_one(m, |name| {
        session.json(Request::get(format!("/volumes/{}", segment(name))))
    })
}

fn rm(session: &Session, m: &Matches) -> Outcome {
    let mut errors = Vec::new();
    for name in &m.args {
        match session
            .call(Request::delete(format!("/volumes/{}", segment(name))).query_flag("force", m.on("force")))
        {
            Ok(()) => output::line(name),
            Err(error) => errors.push(error.message),
        }
    }
    super::container::join(errors)
}

fn prune(session: &Session, m: &Matches) -> Outcome {
    let mut filters = m.all("filter");
    let what = if m.on("all") { "all" } else { "anonymous" };
    if m.on("all") {
        filters.push("all=true");
    }
    if !m.on("force") {
        let warning = format!(
            "WARNING! This will remove {what} local volumes not used by at least one container.\nAre you sure you want to continue?"
        );
        confirm(&warning, "volume")?;
    }
    let report =
        session.json(Request::post("/volumes/prune").query_some("filters", &values::filters(&filters)))?;
    let deleted = report.list("VolumesDeleted");
    if !deleted.is_empty() {
        output::line("Deleted Volumes:");
        for name in deleted {
            output::line(name.as_str());
        }
        output::line("");
    }
    output::line(&format!(
        "Total reclaimed space: {}",
        units::human_size(report.float("SpaceReclaimed"))
    ));
    Ok(())
}
