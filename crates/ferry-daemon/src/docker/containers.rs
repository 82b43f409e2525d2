//! `/containers`, but for streams.

use super::answer::{Answer, empty, json, no_content, ok, stream};
use super::compat::{self, answers};
use super::convert::{self, check, create as from, inspect as to, list as rows, resources};
use super::error::{ApiError, Result};
use super::extract::Call;
use super::stream::document;
use ferry_api::docker::config::{CreateRequest, CreateResponse};
use ferry_api::docker::container::{
    Change as WireChange, PruneResponse, Summary, Top as WireTop, UpdateResponse, WaitError, WaitResponse,
};
use ferry_api::docker::hostconfig::HostConfig;
use ferry_engine::containers::WaitHandle;
use ferry_engine::containers::options::{Filter, PruneFilter, RemoveOptions, StopOptions, Update};
use ferry_engine::containers::view::{Change, ContainerView, Top, WaitCondition, WaitResult};
use ferry_engine::images::ImageListOptions;
use ferry_oci::image::Descriptor;
use ferry_oci::{Platform, Reference};
use futures_util::stream::once;
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// `POST /containers/create`.
pub async fn create(mut call: Call) -> Result<Answer> {
    call.check_json()?;
    let body = call.bytes().await?;
    let mut request = CreateRequest::decode(&body)?;
    let notes = compat::create::lift(call.version, &mut request)?;
    let spec = from::spec(request)?;
    let platform = match call.query.get("platform") {
        "" => None,
        _ if !compat::knows_create_platform(call.version) => None,
        text => Some(
            text.parse::<Platform>()
                .map_err(|e| ApiError::invalid(e.to_string()))?,
        ),
    };
    let name = Some(call.query.get("name").to_owned()).filter(|n| !n.is_empty());
    let made = call.engine().containers().create(name, spec, platform).await?;
    let mut warnings = made.warnings;
    warnings.extend(notes);
    json(
        StatusCode::CREATED,
        &CreateResponse {
            id: made.id,
            warnings,
        },
    )
}

/// How images are called at this moment: names and manifests by id.
struct Names {
    by_name: BTreeMap<String, String>,
}

impl Names {
    async fn now(call: &Call) -> Result<Self> {
        let images = call.engine().images().list(ImageListOptions::default()).await?;
        let mut by_name = BTreeMap::new();
        for image in images {
            for reference in &image.references {
                by_name.insert(reference.to_string(), image.id.to_string());
            }
        }
        Ok(Self { by_name })
    }

    /// The name as the user gave it while it means the same image, else the image's id.
    fn of(&self, view: &ContainerView) -> String {
        let (asked, id) = (&view.spec.image, view.image.id.to_string());
        let Ok(reference) = asked.parse::<Reference>() else {
            return asked.clone();
        };
        match self.by_name.get(&reference.tagged().to_string()) {
            Some(now) if *now != id => id,
            None if !id.contains(asked.as_str()) && !self.by_name.values().any(|v| *v == id) => id,
            _ => asked.clone(),
        }
    }
}

/// The manifest that a container runs, where the image is still here.
async fn manifest(call: &Call, view: &ContainerView) -> Option<Descriptor> {
    let image = call
        .engine()
        .images()
        .inspect(&view.image.id.to_string(), None)
        .await
        .ok()?;
    if image.manifest.digest != view.image.manifest {
        return None;
    }
    let platform = image.config.platform();
    Some(Descriptor {
        platform: Some(platform),
        ..image.manifest
    })
}

/// `GET /containers/json`.
pub async fn list(call: Call) -> Result<Answer> {
    let filter = Filter {
        all: call.query.flag("all"),
        limit: call
            .query
            .number("limit")?
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0),
        size: call.query.flag("size"),
        filters: call.query.filters()?,
    };
    let views = call.engine().containers().list(&filter).await?;
    let names = Names::now(&call).await?;
    let now = SystemTime::now();
    let mut manifests: BTreeMap<String, Option<Descriptor>> = BTreeMap::new();
    let mut told: Vec<Summary> = Vec::with_capacity(views.len());
    for view in &views {
        let key = view.image.id.to_string();
        if !manifests.contains_key(&key) {
            manifests.insert(key.clone(), manifest(&call, view).await);
        }
        let manifest = manifests.get(&key).cloned().flatten();
        told.push(rows::row(view, names.of(view), manifest, now));
    }
    if answers::is_old(call.version) {
        let value = serde_json::to_value(&told).map_err(|e| ApiError::internal(e.to_string()))?;
        return ok(&answers::list(call.version, value));
    }
    ok(&told)
}

/// `GET /containers/{id}/json`.
pub async fn inspect(call: Call) -> Result<Answer> {
    let view = call
        .engine()
        .containers()
        .inspect(call.var("id"), call.query.flag("size"))
        .await?;
    let told = to::inspect(&view, manifest(&call, &view).await, &call.app.defaults);
    if answers::is_old(call.version) {
        let value = serde_json::to_value(&told).map_err(|e| ApiError::internal(e.to_string()))?;
        return ok(&answers::inspect(call.version, value));
    }
    ok(&told)
}

/// `GET /containers/{id}/top`.
pub async fn top(call: Call) -> Result<Answer> {
    let arguments = call.query.get("ps_args");
    let Top { titles, processes } = call.engine().containers().top(call.var("id"), arguments).await?;
    ok(&WireTop { processes, titles })
}

/// `GET /containers/{id}/changes`.
pub async fn changes(call: Call) -> Result<Answer> {
    let found = call.engine().containers().changes(call.var("id")).await?;
    let told = |Change { path, kind }: Change| WireChange {
        path,
        kind: match kind {
            'A' => 1,
            'D' => 2,
            _ => 0,
        },
    };
    if found.is_empty() {
        return ok(&serde_json::Value::Null);
    }
    ok(&found.into_iter().map(told).collect::<Vec<_>>())
}

/// `POST /containers/{id}/start`.
pub async fn start(call: Call) -> Result<Answer> {
    use hyper::body::Body as _;
    if call.body.size_hint().exact().is_none_or(|n| n > 7) {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if call.query.has("checkpoint") && !call.query.get("checkpoint").is_empty() {
        return Err(ApiError::unsupported(
            "starting from a checkpoint is not supported by this engine",
        ));
    }
    call.engine().containers().start(call.var("id")).await?;
    Ok(no_content())
}

fn stop_options(call: &Call) -> Result<StopOptions> {
    let signal = call.query.get("signal");
    let known = compat::knows_stop_signal(call.version) && !signal.is_empty();
    Ok(StopOptions {
        signal: known.then(|| signal.to_owned()),
        timeout: call.query.number("t")?,
    })
}

/// `POST /containers/{id}/stop`.
pub async fn stop(call: Call) -> Result<Answer> {
    call.engine()
        .containers()
        .stop(call.var("id"), stop_options(&call)?)
        .await?;
    Ok(no_content())
}

/// `POST /containers/{id}/restart`.
pub async fn restart(call: Call) -> Result<Answer> {
    call.engine()
        .containers()
        .restart(call.var("id"), stop_options(&call)?)
        .await?;
    Ok(no_content())
}

/// `POST /containers/{id}/kill`.
pub async fn kill(call: Call) -> Result<Answer> {
    let id = call.var("id");
    let killed = call
        .engine()
        .containers()
        .kill(id, call.query.get("signal"))
        .await;
    let prefix = format!("cannot kill container: {id}");
    killed.map_err(|e| match ApiError::from(e) {
        e if e.message.starts_with(&prefix) => e,
        e => e.context(prefix),
    })?;
    Ok(no_content())
}

/// `POST /containers/{id}/pause`.
pub async fn pause(call: Call) -> Result<Answer> {
    call.engine().containers().pause(call.var("id")).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/unpause`.
pub async fn unpause(call: Call) -> Result<Answer> {
    call.engine().containers().unpause(call.var("id")).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/rename`.
pub async fn rename(call: Call) -> Result<Answer> {
    let renamed = call
        .engine()
        .containers()
        .rename(call.var("id"), call.query.get("name"))
        .await;
    renamed.map_err(|e| match ApiError::from(e) {
        e if e.message.starts_with("Conflict.") => e.context("Error when allocating new name"),
        e => e,
    })?;
    Ok(no_content())
}

/// `DELETE /containers/{id}`.
pub async fn remove(call: Call) -> Result<Answer> {
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    call.engine().containers().remove(call.var("id"), options).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/update`. What belongs neither to limits nor to the policy is passed over, as Docker does.
pub async fn update(mut call: Call) -> Result<Answer> {
    let mut host: HostConfig = call.json("UpdateConfig").await?;
    if !compat::updates_pids(call.version) {
        host.pids_limit = None;
    }
    if !compat::updates_block_io(call.version) {
        host.blkio_weight_device = None;
        host.blkio_device_read_bps = None;
        host.blkio_device_write_bps = None;
        host.blkio_device_read_iops = None;
        host.blkio_device_write_iops = None;
    }
    if clears_rates(&host) {
        return Err(convert::refuse(
            "an empty list of device rates",
            "rates cannot be taken off a container yet",
        ));
    }
    host.pids_limit = host.pids_limit.map(|n| n.max(0));
    check::resources(&host, true)?;
    check::restart_policy(&host.restart_policy)?;
    let restart = (!host.restart_policy.name.is_empty()).then(|| from::policy(&host.restart_policy));
    let unchangeable = [
        (host.devices.as_ref().is_some_and(|d| !d.is_empty()), "Devices"),
        (
            host.device_cgroup_rules.as_ref().is_some_and(|d| !d.is_empty()),
            "DeviceCgroupRules",
        ),
        (host.ulimits.as_ref().is_some_and(|d| !d.is_empty()), "Ulimits"),
        (host.oom_kill_disable.is_some_and(|d| d), "OomKillDisable"),
        (!host.cgroup_parent.is_empty(), "CgroupParent"),
    ];
    if let Some((_, field)) = unchangeable.iter().find(|(set, _)| *set) {
        return Err(convert::refuse(
            field,
            "it is fixed when the container is created",
        ));
    }
    let limits = resources::from_wire(&mut host)?;
    let update = Update {
        resources: Some(limits),
        restart,
    };
    let warnings = call.engine().containers().update(call.var("id"), update).await?;
    ok(&UpdateResponse {
        warnings: (!warnings.is_empty()).then_some(warnings),
    })
}

/// From 1.55 an empty list means that the rules in force go, and `null` that they stay.
fn clears_rates(host: &HostConfig) -> bool {
    let rates = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    host.blkio_weight_device.as_ref().is_some_and(Vec::is_empty)
        || rates
            .into_iter()
            .any(|list| list.as_ref().is_some_and(Vec::is_empty))
}

/// `POST /containers/{id}/resize`.
pub async fn resize(call: Call) -> Result<Answer> {
    let (height, width) = (call.query.size("h", "height")?, call.query.size("w", "width")?);
    call.engine()
        .containers()
        .resize(call.var("id"), height, width)
        .await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /containers/{id}/wait`. The head goes out once the wait is registered: clients start the container only then.
pub async fn wait(call: Call) -> Result<Answer> {
    let conditions = compat::knows_wait_condition(call.version);
    let condition = match call.query.get("condition") {
        _ if !conditions => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let handle = call.engine().containers().wait(call.var("id"), condition).await?;
    // A container that is gone is what was waited for, however it ended.
    let gone = condition == WaitCondition::Removed;
    if !conditions {
        return ok(&waited(handle, gone).await);
    }
    let answer = async move { document(&waited(handle, gone).await, "\n") };
    Ok(stream("application/json", once(answer)))
}

async fn waited(handle: WaitHandle, gone: bool) -> WaitResponse {
    match handle.result().await {
        Ok(WaitResult { code, error }) => WaitResponse {
            status_code: i64::from(code),
            error: error.filter(|_| !gone).map(|message| WaitError { message }),
        },
        Err(e) => WaitResponse {
            status_code: -1,
            error: Some(WaitError {
                message: e.to_string(),
            }),
        },
    }
}

/// `POST /containers/prune`.
pub async fn prune(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    let report = call.engine().containers().prune(PruneFilter { filters }).await?;
    ok(&PruneResponse {
        containers_deleted: (!report.deleted.is_empty()).then_some(report.deleted),
        space_reclaimed: report.reclaimed,
    })
}

/// `GET /containers/{id}/export`.
pub async fn export(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "exporting a container's file system is not supported by this engine yet",
    ))
}

/// `/containers/{id}/archive`.
pub async fn archive(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "copying files to and from containers is not supported by this engine yet",
    ))
}

/// `/containers/{id}/checkpoints`.
pub async fn checkpoint(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "checkpoints are not supported by this engine",
    ))
}
