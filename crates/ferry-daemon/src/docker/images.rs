//! `/images`, `/distribution`, and what builds images.

use super::answer::{Answer, empty, ok, stream};
use super::compat::{self, answers};
use super::convert::image;
use super::error::{ApiError, Result};
use super::extract::Call;
use super::stream::progress_bytes;
use bytes::Bytes;
use ferry_api::docker::image::{DeleteItem, HistoryItem, PruneResponse, Summary};
use ferry_api::docker::registry::AuthConfig;
use ferry_engine::containers::options::Filter;
use ferry_engine::images::{ImageListOptions, ImageRemoveOptions};
use ferry_oci::{Platform, Reference};
use ferry_registry::Credentials;
use futures_util::stream::unfold;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use hyper::StatusCode;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

/// How much of an archive is sent at a time.
const CHUNK: usize = 64 * 1024;

/// Credentials in the registry client's words; `auth` is `user:password` in base64.
pub fn credentials(config: AuthConfig) -> Credentials {
    use base64::Engine as _;
    let AuthConfig {
        mut username,
        mut password,
        auth,
        serveraddress: _,
        identitytoken,
        registrytoken,
    } = config;
    if username.is_empty() && !auth.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth).ok();
        let text = decoded
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default();
        if let Some((user, secret)) = text.split_once(':') {
            (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
    }
    Credentials {
        username,
        password,
        identity_token: identitytoken,
        registry_token: registrytoken,
    }
}

fn reference(text: &str) -> Result<Reference> {
    text.parse::<Reference>()
        .map_err(|e| ApiError::invalid(e.to_string()))
}

/// `name` and a tag or digest beside it.
fn named(name: &str, tag: &str) -> Result<Reference> {
    if tag.is_empty() {
        return reference(name);
    }
    if tag.contains(':') {
        reference(&format!("{name}@{tag}"))
    } else {
        reference(&format!("{name}:{tag}"))
    }
}

/// `os/arch[/variant]`.
fn plain_platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e: ferry_oci::platform::InvalidPlatform| ApiError::invalid(e.to_string()))
}

/// A platform as JSON; one only.
fn json_platform(call: &Call, key: &str) -> Result<Option<Platform>> {
    if !compat::knows_manifests(call.version) {
        return Ok(None);
    }
    let values = call.query.all(key);
    if values.len() > 1 {
        return Err(ApiError::invalid(format!(
            "{key}: more than one platform is not supported by this engine"
        )));
    }
    match values.first().copied().unwrap_or("") {
        "" => Ok(None),
        text => serde_json::from_str(text)
            .map(Some)
            .map_err(|e| ApiError::invalid(format!("failed to parse platform: {e}"))),
    }
}

/// `GET /images/json`.
pub async fn list(call: Call) -> Result<Answer> {
    let mut filters = call.query.filters()?;
    let pattern = call.query.get("filter");
    if !pattern.is_empty() {
        filters
            .entry("reference".into())
            .or_default()
            .push(pattern.to_owned());
    }
    let options = ImageListOptions {
        all: call.query.flag("all"),
        filters,
        shared_size: compat::knows_shared_size(call.version) && call.query.flag("shared-size"),
        count_containers: compat::counts_containers(call.version),
    };
    let found = call.engine().images().list(options).await?;
    let mut told: Vec<Summary> = found.iter().map(image::row).collect();
    if compat::knows_manifests(call.version) && call.query.flag("manifests") {
        for row in &mut told {
            row.manifests = Some(vec![manifest(&call, &row.id).await?]);
        }
    }
    if answers::is_old(call.version) {
        let value = serde_json::to_value(&told).map_err(|e| ApiError::internal(e.to_string()))?;
        return ok(&answers::images(call.version, value));
    }
    ok(&told)
}

async fn manifest(call: &Call, id: &str) -> Result<ferry_api::docker::image::ManifestSummary> {
    let images = call.engine().images();
    let view = images.inspect(id, None).await?;
    let history = images.history(id, None).await?;
    let filters = std::collections::BTreeMap::from([("ancestor".to_owned(), vec![id.to_owned()])]);
    let users = call
        .engine()
        .containers()
        .list(&Filter {
            all: true,
            filters,
            ..Filter::default()
        })
        .await?;
    Ok(image::manifest(
        &view,
        &history,
        users.into_iter().map(|c| c.id).collect(),
    ))
}

/// `GET /images/{name}/json`.
pub async fn inspect(call: Call) -> Result<Answer> {
    let name = call.var("name");
    let platform = json_platform(&call, "platform")?;
    let manifests = compat::knows_manifests(call.version) && call.query.flag("manifests");
    if manifests && platform.is_some() {
        return Err(ApiError::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let mut told = image::inspect(&call.engine().images().inspect(name, platform.as_ref()).await?);
    if manifests {
        told.manifests = Some(vec![manifest(&call, &told.id).await?]);
    }
    if answers::is_old(call.version) {
        let value = serde_json::to_value(&told).map_err(|e| ApiError::internal(e.to_string()))?;
        return ok(&answers::image(call.version, value));
    }
    ok(&told)
}

/// `GET /images/{name}/history`.
pub async fn history(call: Call) -> Result<Answer> {
    let platform = json_platform(&call, "platform")?;
    let steps = call
        .engine()
        .images()
        .history(call.var("name"), platform.as_ref())
        .await?;
    ok(&steps.iter().map(image::history).collect::<Vec<HistoryItem>>())
}

/// `POST /images/create`: a pull. Importing a tar is not done.
pub async fn create(call: Call) -> Result<Answer> {
    let from = call.query.get("fromImage");
    if from.is_empty() {
        return Err(ApiError::unsupported(
            "fromSrc: importing an image from a tar is not supported by this engine yet",
        ));
    }
    let asked = named(from.trim(), call.query.get("tag").trim())?;
    let platform = plain_platform(call.query.get("platform"))?;
    // A repository without a tag means all of its tags here: clients that want one say so.
    let all = asked.tag().is_none() && asked.digest().is_none();
    let credentials = credentials(call.credentials());
    let mut steps = call
        .engine()
        .images()
        .pull(asked, platform, credentials, all)
        .await?;
    // A failure before the first step is still told by the status.
    let first = match steps.try_next().await {
        Ok(first) => first,
        Err(e) => return Err(e.into()),
    };
    let steps = Box::pin(futures_util::stream::iter(first.map(Ok)).chain(steps));
    Ok(stream("application/json", progress_bytes(steps)))
}

/// `POST /images/{name}/push`.
pub async fn push(call: Call) -> Result<Answer> {
    let asked = named(call.var("name"), call.query.get("tag"))?;
    let platform = json_platform(&call, "platform")?;
    let credentials = credentials(call.credentials());
    let steps = call.engine().images().push(asked, platform, credentials).await?;
    Ok(stream("application/json", progress_bytes(steps)))
}

/// `POST /images/{name}/tag`.
pub async fn tag(call: Call) -> Result<Answer> {
    let (repo, tag) = (call.query.get("repo"), call.query.get("tag"));
    let target = named(repo, tag)?;
    if target.digest().is_some() {
        return Err(ApiError::invalid("cannot import digest reference"));
    }
    call.engine()
        .images()
        .tag(call.var("name"), &target.tagged())
        .await?;
    Ok(empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`.
pub async fn remove(call: Call) -> Result<Answer> {
    if !call.query.all("platforms").is_empty() {
        return Err(ApiError::unsupported(
            "platforms: removing a part of an image is not supported by this engine yet",
        ));
    }
    let options = ImageRemoveOptions {
        force: call.query.flag("force"),
        no_prune: call.query.flag("noprune"),
    };
    let acts = call.engine().images().remove(call.var("name"), options).await?;
    ok(&acts.iter().map(image::removed).collect::<Vec<DeleteItem>>())
}

/// `POST /images/prune`.
pub async fn prune(call: Call) -> Result<Answer> {
    let (acts, reclaimed) = call.engine().images().prune(&call.query.filters()?).await?;
    let told: Vec<DeleteItem> = acts.iter().map(image::removed).collect();
    ok(&PruneResponse {
        images_deleted: (!told.is_empty()).then_some(told),
        space_reclaimed: reclaimed,
    })
}

/// `POST /images/load`.
pub async fn load(call: Call) -> Result<Answer> {
    if !call.query.all("platform").is_empty() {
        return Err(ApiError::unsupported(
            "platform: loading a part of an archive is not supported by this engine yet",
        ));
    }
    let quiet = call.query.flag("quiet");
    let engine = call.engine().clone();
    let pieces = call.body.into_data_stream().map_err(io::Error::other);
    let steps = engine.images().load(StreamReader::new(pieces), quiet).await?;
    Ok(stream("application/json", progress_bytes(steps)))
}

/// `GET /images/get`.
pub async fn save_many(call: Call) -> Result<Answer> {
    let names: Vec<String> = call.query.all("names").into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::invalid("no images to save: give at least one name"));
    }
    save(&call, names).await
}

/// `GET /images/{name}/get`.
pub async fn save_one(call: Call) -> Result<Answer> {
    save(&call, vec![call.var("name").to_owned()]).await
}

async fn save(call: &Call, names: Vec<String>) -> Result<Answer> {
    let archive = call
        .engine()
        .images()
        .save(names, json_platform(call, "platform")?)
        .await?;
    Ok(stream("application/x-tar", pieces(archive)))
}

fn pieces(archive: Box<dyn AsyncRead + Send + Unpin>) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    unfold(archive, |mut archive| async move {
        let mut piece = vec![0; CHUNK];
        match archive.read(&mut piece).await {
            Ok(0) => None,
            Ok(n) => {
                piece.truncate(n);
                Some((Ok(Bytes::from(piece)), archive))
            }
            Err(e) => Some((Err(e), archive)),
        }
    })
}

/// `GET /images/search`.
pub async fn search(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "searching a registry is not supported by this engine yet",
    ))
}

/// `GET /images/{name}/attestations`.
pub async fn attestations(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "attestations are not supported by this engine yet",
    ))
}

/// `GET /distribution/{name}/json`.
pub async fn distribution(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "asking a registry about an image without pulling it is not supported by this engine yet",
    ))
}

/// `POST /build`.
pub async fn build(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "building images is not supported by this engine yet",
    ))
}

/// `POST /build/prune`: nothing is built here, so that no cache is left; `docker system prune` asks.
pub async fn prune_builds(call: Call) -> Result<Answer> {
    call.query.filters()?;
    ok(&serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

/// `POST /commit`.
pub async fn commit(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "making an image from a container is not supported by this engine yet",
    ))
}
