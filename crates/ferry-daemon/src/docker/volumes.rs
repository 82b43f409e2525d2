//! `/volumes`.

use super::answer::{Answer, json, no_content, ok};
use super::compat;
use super::convert::volume::volume;
use super::error::{ApiError, Result};
use super::extract::Call;
use ferry_api::docker::volume::{VolumeCreateRequest, VolumeList, VolumePruneResponse};
use ferry_engine::containers::options::PruneFilter;
use hyper::StatusCode;

/// `GET /volumes`.
pub async fn list(call: Call) -> Result<Answer> {
    let found = call.engine().volumes().list(&call.query.filters()?).await?;
    ok(&VolumeList {
        volumes: found.iter().map(|v| volume(v, false)).collect(),
        warnings: None,
    })
}

/// `GET /volumes/{name}`.
pub async fn inspect(call: Call) -> Result<Answer> {
    ok(&volume(
        &call.engine().volumes().inspect(call.var("name")).await?,
        false,
    ))
}

/// `POST /volumes/create`.
pub async fn create(mut call: Call) -> Result<Answer> {
    let request: VolumeCreateRequest = call.json("CreateRequest").await?;
    let VolumeCreateRequest {
        cluster_volume_spec,
        driver,
        driver_opts,
        labels,
        name,
    } = request;
    if cluster_volume_spec.is_some() {
        return Err(super::convert::refuse(
            "ClusterVolumeSpec",
            "this engine has no swarm",
        ));
    }
    let volumes = call.engine().volumes();
    let made = volumes
        .create(
            &name,
            &driver,
            driver_opts.unwrap_or_default(),
            labels.unwrap_or_default(),
        )
        .await?;
    json(StatusCode::CREATED, &volume(&made, false))
}

/// `PUT /volumes/{name}`: swarm's.
pub async fn update(_call: Call) -> Result<Answer> {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}

/// `DELETE /volumes/{name}`.
pub async fn remove(call: Call) -> Result<Answer> {
    call.engine()
        .volumes()
        .remove(call.var("name"), call.query.flag("force"))
        .await?;
    Ok(no_content())
}

/// `POST /volumes/prune`.
pub async fn prune(call: Call) -> Result<Answer> {
    let mut filters = call.query.filters()?;
    if compat::prunes_named_volumes(call.version) {
        filters.entry("all".into()).or_insert_with(|| vec!["true".into()]);
    }
    let report = call.engine().volumes().prune(PruneFilter { filters }).await?;
    ok(&VolumePruneResponse {
        volumes_deleted: (!report.deleted.is_empty()).then_some(report.deleted),
        space_reclaimed: report.reclaimed,
    })
}
