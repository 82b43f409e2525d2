//! `/networks`.

use super::answer::{Answer, empty, json, no_content, ok};
use super::compat::{self, answers};
use super::convert::{endpoint, network};
use super::error::{ApiError, Result};
use super::extract::Call;
use ferry_api::docker::network::{
    ConnectRequest, DisconnectRequest, Network, NetworkCreateRequest, NetworkCreateResponse,
    NetworkPruneResponse,
};
use ferry_engine::containers::options::PruneFilter;
use hyper::StatusCode;

/// `GET /networks`.
pub async fn list(call: Call) -> Result<Answer> {
    let found = call.engine().networks().list(&call.query.filters()?).await?;
    ok(&found.iter().map(network::row).collect::<Vec<Network>>())
}

/// `GET /networks/{id}`.
pub async fn inspect(call: Call) -> Result<Answer> {
    let id = call.var("id");
    let scope = call.query.get("scope");
    if !matches!(scope, "" | "local") {
        return Err(ApiError::not_found(format!("network {id} not found")));
    }
    let told = network::inspect(&call.engine().networks().inspect(id).await?);
    if answers::is_old(call.version) {
        let mut told = told;
        told.status = None;
        return ok(&told);
    }
    ok(&told)
}

/// `POST /networks/create`.
pub async fn create(mut call: Call) -> Result<Answer> {
    let mut request: NetworkCreateRequest = call.json("CreateRequest").await?;
    if !compat::knows_ipv4_switch(call.version) {
        request.enable_ipv4 = None;
    }
    let (id, warning) = call
        .engine()
        .networks()
        .create(network::request(request)?)
        .await?;
    json(StatusCode::CREATED, &NetworkCreateResponse { id, warning })
}

/// `POST /networks/{id}/connect`.
pub async fn connect(mut call: Call) -> Result<Answer> {
    let ConnectRequest {
        container,
        endpoint_config,
    } = call.json("ConnectRequest").await?;
    let mut settings = endpoint_config.unwrap_or_default();
    if !compat::connects_with_mac_address(call.version) {
        settings.mac_address.clear();
    }
    let endpoint = endpoint::spec(settings)?;
    call.engine()
        .networks()
        .connect(call.var("id"), &container, endpoint)
        .await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`.
pub async fn disconnect(mut call: Call) -> Result<Answer> {
    let DisconnectRequest { container, force } = call.json("DisconnectRequest").await?;
    call.engine()
        .networks()
        .disconnect(call.var("id"), &container, force)
        .await?;
    Ok(empty(StatusCode::OK))
}

/// `DELETE /networks/{id}`.
pub async fn remove(call: Call) -> Result<Answer> {
    call.engine().networks().remove(call.var("id")).await?;
    Ok(no_content())
}

/// `POST /networks/prune`.
pub async fn prune(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    let report = call.engine().networks().prune(PruneFilter { filters }).await?;
    ok(&NetworkPruneResponse {
        networks_deleted: (!report.deleted.is_empty()).then_some(report.deleted),
    })
}
