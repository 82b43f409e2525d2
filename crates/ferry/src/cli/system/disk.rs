//! `system df`

use crate::cli::failure::Outcome;
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::output::listing::{self, Listing};
use crate::cli::output::template::{Format, Missing};
use crate::cli::output::{self, units};
use crate::cli::session::Session;
use crate::cli::{container, image, volume};
use ferry_api::client::Request;

static LISTING: Listing = Listing {
    columns: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
    quiet: "{{.Type}}",
};

static BUILD_CACHE: Listing = Listing {
    columns: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    table: "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    raw: "",
    quiet: "{{.ID}}",
};

const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";

/// `system df`
pub(super) fn df(session: &Session, m: &Matches) -> Outcome {
    let usage = session.json(Request::get("/system/df").query_flag("verbose", m.on("verbose")))?;
    if m.on("verbose") {
        return verbose(&usage, m.get("format"));
    }
    let rows: Vec<Json> = [
        ("Images", "ImageUsage", "ImagesDiskUsage"),
        ("Containers", "ContainerUsage", "ContainersDiskUsage"),
        ("Local Volumes", "VolumeUsage", "VolumesDiskUsage"),
        ("Build Cache", "BuildCacheUsage", "BuildCacheDiskUsage"),
    ]
    .into_iter()
    .map(|(title, key, other)| {
        row(
            title,
            usage.get(key).or_else(|| usage.get(other)).unwrap_or(&Json::Null),
        )
    })
    .collect();
    output::print(&LISTING.render(&LISTING.template(m.get("format"), false), &rows)?);
    Ok(())
}

fn row(title: &str, u: &Json) -> Json {
    let (total, reclaimable) = (u.int("TotalSize"), u.int("Reclaimable"));
    let mut shown = units::human_size(reclaimable as f64);
    if total > 0 && title != "Build Cache" {
        shown.push_str(&format!(" ({}%)", reclaimable * 100 / total));
    }
    listing::row(vec![
        ("Type", title.to_owned()),
        ("TotalCount", u.int("TotalCount").to_string()),
        ("Active", u.int("ActiveCount").to_string()),
        ("Size", units::human_size(total as f64)),
        ("Reclaimable", shown),
    ])
}

fn verbose(usage: &Json, format: &str) -> Outcome {
    let items = |key: &str| usage.get(key).map_or(&[][..], |u| u.list("Items"));
    let images = image::disk_usage_rows(items("ImageUsage"));
    let containers: Vec<Json> = items("ContainerUsage")
        .iter()
        .map(|c| container::row(&without_root(c), true))
        .collect();
    let volumes: Vec<Json> = items("VolumeUsage").iter().map(volume::row).collect();
    if !matches!(format, "" | "table") {
        let all = Json::Object(vec![
            ("Images".into(), Json::Array(images)),
            ("Containers".into(), Json::Array(containers)),
            ("Volumes".into(), Json::Array(volumes)),
            ("BuildCache".into(), Json::Array(Vec::new())),
        ]);
        let text = Format::parse(&listing::source(format).1, Missing::Refuse)?.render(&all)?;
        output::print(&text);
        return Ok(());
    }
    let cache = usage.get("BuildCacheUsage").map_or(0.0, |u| u.float("TotalSize"));
    output::print(&format!(
        "Images space usage:\n\n{}",
        image::LIST.render(IMAGES, &images)?
    ));
    output::print(&format!(
        "\nContainers space usage:\n\n{}",
        container::LIST.render(CONTAINERS, &containers)?
    ));
    output::print(&format!(
        "\nLocal Volumes space usage:\n\n{}",
        volume::LISTING.render(VOLUMES, &volumes)?
    ));
    let header = BUILD_CACHE.render(BUILD_CACHE.table, &[])?;
    output::print(&format!(
        "\nBuild cache usage: {}\n\n{header}",
        units::human_size(cache)
    ));
    Ok(())
}

/// The virtual size is not shown here.
fn without_root(c: &Json) -> Json {
    let mut c = c.clone();
    if let Json::Object(entries) = &mut c {
        entries.retain(|(k, _)| k != "SizeRootFs");
    }
    c
}
