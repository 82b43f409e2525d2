//! `ps`

use super::ports;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::values;
use crate::cli::output::json::{Json, hidden};
use crate::cli::output::listing::{self, Listing};
use crate::cli::output::{self, clock, ellipsis, quote, short_id, units};
use crate::cli::session::Session;
use ferry_api::client::Request;
use ferry_oci::reference::Reference;

/// The rows of `ps`.
pub(crate) static LISTING: Listing = Listing {
    columns: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
        ("HealthStatus", "HEALTH STATUS"),
    ],
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    quiet: "{{.ID}}",
    kind: "formatter.ContainerContext",
};

/// `ps`
pub(super) fn ps(session: &Session, m: &Matches) -> Outcome {
    let quiet = m.on("quiet");
    let format = match m.get("format") {
        "" if !quiet => session.config().format("psFormat"),
        format => format,
    };
    if quiet && !format.is_empty() {
        eprintln!("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let mut template = LISTING.template(format, quiet);
    if m.on("size") && !quiet && matches!(format, "" | "table") {
        template.push_str("\t{{.Size}}");
    }
    if m.on("size") && !quiet && format == "raw" {
        template.push_str("size: {{.Size}}\n");
    }
    let size =
        m.on("size") || (!quiet && (Listing::uses(&template, "Size") || template.contains("{{json .}}")));
    let last = if m.on("latest") { 1 } else { m.int("last") };
    let filters = values::filters(&m.all("filter"));
    let mut request = Request::get("/containers/json")
        .query_flag("all", m.on("all"))
        .query_flag("size", size)
        .query_some("filters", &filters);
    if last > 0 {
        request = request.query("limit", &last.to_string());
    }
    let Json::Array(containers) = session.json(request)? else {
        return Err(Failure::text(
            "unexpected answer from the engine: no list of containers",
        ));
    };
    let rows: Vec<Json> = containers.iter().map(|c| row(c, !m.on("no-trunc"))).collect();
    output::print(&LISTING.render(&template, &rows).map_err(|e| template_error(&e))?);
    Ok(())
}

/// `ps` looks at its template before it asks the engine, and says so.
fn template_error(error: &str) -> String {
    let why = error.trim_start_matches("template parsing error: ");
    match why.contains("executing \"\"") {
        true => format!("failed to execute template: {why}"),
        false => format!("failed to parse template: {why}"),
    }
}

/// One container as templates see it.
pub(crate) fn row(c: &Json, trunc: bool) -> Json {
    let id = if trunc {
        short_id(c.text("Id"))
    } else {
        c.text("Id")
    };
    let command = if trunc {
        ellipsis(c.text("Command"), 20)
    } else {
        c.text("Command").to_owned()
    };
    let age = units::human_duration(clock::now() - c.int("Created") as f64);
    let networks: Vec<&str> = c
        .entries("NetworkSettings.Networks")
        .iter()
        .map(|(k, _)| k.as_str())
        .collect();
    let local = c
        .list("Mounts")
        .iter()
        .filter(|m| m.text("Driver") == "local")
        .count();
    let fields = vec![
        ("ID", id.to_owned()),
        ("Names", names(c, trunc)),
        ("Image", image(c, trunc)),
        ("Command", quote(&command)),
        ("CreatedAt", clock::go_string(c.int("Created"))),
        ("RunningFor", format!("{age} ago")),
        ("Ports", ports::displayable(c.list("Ports"))),
        ("State", c.text("State").to_owned()),
        ("Status", c.text("Status").to_owned()),
        ("Size", size(c)),
        ("Labels", listing::join_labels(c.at("Labels"))),
        ("Mounts", mounts(c, trunc)),
        ("LocalVolumes", local.to_string()),
        ("Networks", networks.join(",")),
    ];
    let mut row = listing::labelled(fields, c.at("Labels"));
    if let Json::Object(entries) = &mut row {
        let at = entries
            .iter()
            .position(|(k, _)| k.as_str() > "Platform")
            .unwrap_or(entries.len());
        entries.push(("HealthStatus".into(), hidden(health(c).into())));
        entries.insert(
            at,
            (
                "Platform".into(),
                c.at("ImageManifestDescriptor.platform").clone(),
            ),
        );
    }
    row
}

fn names(c: &Json, trunc: bool) -> String {
    let mut names = c.list("Names").iter().map(|n| n.as_str().trim_start_matches('/'));
    if trunc {
        // Names with a slash inside are links of other containers.
        return names.find(|n| !n.contains('/')).unwrap_or_default().to_owned();
    }
    names.collect::<Vec<_>>().join(",")
}

fn image(c: &Json, trunc: bool) -> String {
    let image = c.text("Image");
    if image.is_empty() {
        return "<no image>".into();
    }
    if !trunc {
        return image.to_owned();
    }
    let id = short_id(c.text("ImageID"));
    if id == short_id(image) {
        return id.to_owned();
    }
    let Ok(reference) = image.parse::<Reference>() else {
        return image.to_owned();
    };
    match (reference.digest(), reference.tag()) {
        (Some(_), Some(tag)) => format!("{}:{tag}", reference.familiar_name()),
        (Some(_), None) => reference.familiar_name(),
        (None, _) => reference.familiar(),
    }
}

fn size(c: &Json) -> String {
    let own = units::human_size_precise(c.float("SizeRw"), 3);
    match c.float("SizeRootFs") {
        root if root > 0.0 => format!("{own} (virtual {})", units::human_size_precise(root, 3)),
        _ => own,
    }
}

fn mounts(c: &Json, trunc: bool) -> String {
    let names = c.list("Mounts").iter().map(|m| {
        let name = if m.text("Name").is_empty() {
            m.text("Source")
        } else {
            m.text("Name")
        };
        if trunc {
            ellipsis(name, 15)
        } else {
            name.to_owned()
        }
    });
    names.collect::<Vec<_>>().join(",")
}

fn health(c: &Json) -> String {
    let known = |s: &str| matches!(s, "healthy" | "unhealthy" | "starting");
    let own = c.text("Health.Status");
    if !own.is_empty() {
        return own.to_owned();
    }
    // Before API 1.52 only the status text has it.
    let status = c.text("Status");
    let inside = status
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or_default();
    let inside = inside.strip_prefix("health: ").unwrap_or(inside);
    if known(inside) {
        inside.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_ps() {
        let c = Json::parse(
            br#"{"Id":"0123456789abcdef0123","Names":["/other/web","/web"],"Image":"docker.io/library/nginx@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "ImageID":"sha256:ffff","Command":"/docker-entrypoint.sh nginx -g 'daemon off;'","Created":0,"Ports":[],"Labels":{"b":"2","a":"1"},
            "State":"running","Status":"Up 2 minutes (healthy)","SizeRw":12,"SizeRootFs":4300000,
            "NetworkSettings":{"Networks":{"bridge":{}}},"Mounts":[{"Name":"a-very-long-volume-name","Driver":"local"},{"Source":"/etc"}]}"#,
        )
        .expect("json");
        let row = row(&c, true);
        for (field, want) in [
            ("ID", "0123456789ab"),
            ("Names", "web"),
            ("Image", "nginx"),
            ("Command", "\"/docker-entrypoint.\u{2026}\""),
            ("Labels", "a=1,b=2"),
            ("Size", "12B (virtual 4.3MB)"),
            ("Mounts", "a-very-long-vo\u{2026},/etc"),
            ("LocalVolumes", "1"),
            ("Networks", "bridge"),
        ] {
            assert_eq!(row.text(field), want, "{field}");
        }
        assert_eq!(super::names(&c, false), "other/web,web");
    }
}
