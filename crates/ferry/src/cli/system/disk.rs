//! `system df`

use crate::cli::failure::Outcome;
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::output::listing::{self, Listing};
use crate::cli::output::template::Format;
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
    kind: "formatter.diskUsageImagesContext",
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
    kind: "formatter.buildCacheContext",
};

const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";

/// `system df`
pub(super) fn df(session: &Session, m: &Matches) -> Outcome {
    let usage = session.json(Request::get("/system/df"))?;
    if m.on("verbose") {
        return verbose(&usage, m.get("format"));
    }
    let rows = [
        images(&usage),
        containers(&usage),
        volumes(&usage),
        build_cache(&usage),
    ];
    output::print(&LISTING.render(&LISTING.template(m.get("format"), false), &rows)?);
    Ok(())
}

fn images(usage: &Json) -> Json {
    let all = usage.list("Images");
    let in_use = all.iter().filter(|i| i.int("Containers") > 0);
    let held: i64 = all
        .iter()
        .filter(|i| i.int("Containers") != 0 && i.int("Size") != -1 && i.int("SharedSize") != -1)
        .map(|i| i.int("Size") - i.int("SharedSize"))
        .sum();
    let total = usage.int("LayersSize");
    row("Images", all.len(), in_use.count(), [total, total - held])
}

fn containers(usage: &Json) -> Json {
    let all = usage.list("Containers");
    let active = |c: &&Json| matches!(c.text("State"), "running" | "paused" | "restarting");
    let total: i64 = all.iter().map(|c| c.int("SizeRw")).sum();
    let idle: i64 = all.iter().filter(|c| !active(c)).map(|c| c.int("SizeRw")).sum();
    row(
        "Containers",
        all.len(),
        all.iter().filter(active).count(),
        [total, idle],
    )
}

fn volumes(usage: &Json) -> Json {
    let all = usage.list("Volumes");
    let size = |v: &Json| v.int("UsageData.Size").max(0);
    let unused = all.iter().filter(|v| v.int("UsageData.RefCount") == 0);
    let active = all.iter().filter(|v| v.int("UsageData.RefCount") > 0).count();
    row(
        "Local Volumes",
        all.len(),
        active,
        [all.iter().map(size).sum(), unused.map(size).sum()],
    )
}

fn build_cache(usage: &Json) -> Json {
    let all = usage.list("BuildCache");
    let total: i64 = all
        .iter()
        .filter(|c| !c.is_true("Shared"))
        .map(|c| c.int("Size"))
        .sum();
    let idle = all.iter().filter(|c| !c.is_true("Shared") && !c.is_true("InUse"));
    let active = all.iter().filter(|c| c.is_true("InUse")).count();
    row(
        "Build Cache",
        all.len(),
        active,
        [total, idle.map(|c| c.int("Size")).sum()],
    )
}

fn row(title: &str, count: usize, active: usize, [total, reclaimable]: [i64; 2]) -> Json {
    let mut shown = units::human_size(reclaimable as f64);
    if total > 0 && title != "Build Cache" {
        shown.push_str(&format!(" ({}%)", reclaimable * 100 / total));
    }
    listing::row(vec![
        ("Type", title.to_owned()),
        ("TotalCount", count.to_string()),
        ("Active", active.to_string()),
        ("Size", units::human_size(total as f64)),
        ("Reclaimable", shown),
    ])
}

fn verbose(usage: &Json, format: &str) -> Outcome {
    let images = image::disk_usage_rows(usage.list("Images"));
    let containers: Vec<Json> = usage
        .list("Containers")
        .iter()
        .map(|c| container::row(&without_root(c), true))
        .collect();
    let volumes: Vec<Json> = usage.list("Volumes").iter().map(volume::row).collect();
    if !matches!(format, "" | "table") {
        let all = Json::Object(vec![
            ("Images".into(), Json::Array(images)),
            ("Containers".into(), Json::Array(containers)),
            ("Volumes".into(), Json::Array(volumes)),
            ("BuildCache".into(), Json::Array(Vec::new())),
        ]);
        let text = Format::parse(&listing::source(format).1)?.render(&all)?;
        output::print(&text);
        return Ok(());
    }
    let cache: f64 = usage
        .list("BuildCache")
        .iter()
        .filter(|c| !c.is_true("Shared"))
        .map(|c| c.float("Size"))
        .sum();
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
