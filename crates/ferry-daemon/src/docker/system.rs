//! `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.

use super::answer::{Answer, empty, full, ok};
use super::compat::{self, answers};
use super::convert::{self, list};
use super::error::{ApiError, Result};
use super::extract::Call;
use ferry_api::docker::container::Summary as ContainerRow;
use ferry_api::docker::image::Summary as ImageRow;
use ferry_api::docker::registry::{AuthConfig, AuthResponse};
use ferry_api::docker::system::{DiskUsage, LegacyDiskUsage, Usage};
use ferry_api::docker::volume::Volume;
use ferry_engine::images::ImageListOptions;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use std::time::SystemTime;

/// `GET` and `HEAD /_ping`.
pub async fn ping(call: Call) -> Result<Answer> {
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    let set = |headers: &mut HeaderMap, name: &'static str, value: &'static str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    set(headers, "cache-control", "no-cache, no-store, must-revalidate");
    set(headers, "pragma", "no-cache");
    set(headers, "swarm", "inactive");
    // No BuildKit here: the classic builder is asked for, and answers that it is missing.
    set(headers, "builder-version", "1");
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if call.method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    } else {
        *answer.body_mut() = full("OK");
    }
    Ok(answer)
}

/// `GET /version`.
pub async fn version(call: Call) -> Result<Answer> {
    ok(&convert::system::version(&call.app.release, &call.app.host))
}

/// `GET /info`.
pub async fn info(call: Call) -> Result<Answer> {
    let info = convert::system::info(&call.engine().system().info().await?, &call.app.release);
    if answers::is_old(call.version) {
        let value = serde_json::to_value(&info).map_err(|e| ApiError::internal(e.to_string()))?;
        return ok(&answers::info(call.version, value));
    }
    ok(&info)
}

/// `POST /auth`.
pub async fn auth(mut call: Call) -> Result<Answer> {
    let config: AuthConfig = call.json("AuthConfig").await?;
    let server = config.serveraddress.clone();
    call.engine()
        .images()
        .auth(&server, &super::images::credentials(config))
        .await?;
    ok(&AuthResponse {
        identity_token: String::new(),
        status: "Login Succeeded".into(),
    })
}

#[derive(Clone, Copy, Default)]
struct Wanted {
    containers: bool,
    images: bool,
    volumes: bool,
    build_cache: bool,
}

fn wanted(call: &Call) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    if !compat::knows_disk_usage_types(call.version) || !call.query.has("type") {
        return Ok(Wanted {
            containers: true,
            images: true,
            volumes: true,
            build_cache: true,
        });
    }
    for kind in call.query.all("type") {
        match kind {
            "container" => wanted.containers = true,
            "image" => wanted.images = true,
            "volume" => wanted.volumes = true,
            "build-cache" => wanted.build_cache = true,
            other => return Err(ApiError::invalid(format!("unknown object type: {other}"))),
        }
    }
    Ok(wanted)
}

/// `GET /system/df`: lists for older clients, totals for newer ones, both where one cannot tell.
pub async fn disk_usage(call: Call) -> Result<Answer> {
    let wanted = wanted(&call)?;
    let totals = compat::knows_disk_usage_totals(call.version);
    let verbose = totals && call.query.flag("verbose");
    let gathered = gather(&call, wanted).await?;
    let legacy = (!verbose).then(|| LegacyDiskUsage {
        layers_size: gathered.images.as_ref().map_or(0, |u| u.total_size),
        images: items(gathered.images.as_ref()),
        containers: items(gathered.containers.as_ref()),
        volumes: items(gathered.volumes.as_ref()),
        build_cache: Vec::new(),
    });
    if !totals {
        let legacy = legacy.unwrap_or_default();
        let value = serde_json::to_value(&legacy).map_err(|e| ApiError::internal(e.to_string()))?;
        return ok(&answers::disk_usage(call.version, value));
    }
    ok(&DiskUsage {
        legacy,
        image_usage: gathered.images,
        container_usage: gathered.containers,
        volume_usage: gathered.volumes,
        build_cache_usage: wanted.build_cache.then(Usage::default),
    })
}

fn items<T: Clone>(usage: Option<&Usage<T>>) -> Vec<T> {
    usage.map_or_else(Vec::new, |u| u.items.clone())
}

#[derive(Default)]
struct Gathered {
    images: Option<Usage<ImageRow>>,
    containers: Option<Usage<ContainerRow>>,
    volumes: Option<Usage<Volume>>,
}

async fn gather(call: &Call, wanted: Wanted) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    if wanted.images {
        let options = ImageListOptions {
            shared_size: true,
            count_containers: true,
            ..ImageListOptions::default()
        };
        let rows = call.engine().images().list(options).await?;
        let usage = call.engine().images().usage().await?;
        gathered.images = Some(Usage {
            active_count: count(usage.active),
            items: rows.iter().map(convert::image::row).collect(),
            reclaimable: usage.reclaimable,
            total_count: count(usage.count),
            total_size: usage.total,
        });
    }
    if wanted.containers || wanted.volumes {
        let used = call.engine().system().disk_usage().await?;
        if wanted.containers {
            gathered.containers = Some(containers(&used.containers));
        }
        if wanted.volumes {
            let rows: Vec<Volume> = used
                .volumes
                .iter()
                .map(|v| convert::volume::volume(v, true))
                .collect();
            let size = |v: &Volume| {
                v.usage_data
                    .as_ref()
                    .map_or(0, |u| u64::try_from(u.size).unwrap_or(0))
            };
            let active = |v: &&Volume| v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0);
            gathered.volumes = Some(Usage {
                active_count: count(rows.iter().filter(active).count()),
                reclaimable: rows.iter().filter(|v| !active(v)).map(size).sum(),
                total_count: count(rows.len()),
                total_size: rows.iter().map(size).sum(),
                items: rows,
            });
        }
    }
    Ok(gathered)
}

fn containers(views: &[ferry_engine::containers::view::ContainerView]) -> Usage<ContainerRow> {
    let now = SystemTime::now();
    let rows: Vec<ContainerRow> = views
        .iter()
        .map(|v| list::row(v, v.spec.image.clone(), None, now))
        .collect();
    let active = |row: &&ContainerRow| matches!(row.state.as_str(), "running" | "paused" | "restarting");
    Usage {
        active_count: count(rows.iter().filter(active).count()),
        reclaimable: rows.iter().filter(|r| !active(r)).map(|r| r.size_rw).sum(),
        total_count: count(rows.len()),
        total_size: rows.iter().map(|r| r.size_rw).sum(),
        items: rows,
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
