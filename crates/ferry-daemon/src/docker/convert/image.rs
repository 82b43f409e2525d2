//! Images' views into answers.

use super::told;
use ferry_api::docker::Empty;
use ferry_api::docker::image::{
    DeleteItem, HistoryItem, ImageConfig, ImageData, Inspect, ManifestSize, ManifestSummary, Metadata,
    RootFs, Summary, UnpackedSize,
};
use ferry_api::docker::time::unix;
use ferry_engine::images::view::{HistoryEntry, ImageSummary, ImageView, Removed};
use ferry_oci::Reference;
use ferry_oci::image::ContainerDefaults;

fn names(references: &[Reference]) -> Vec<String> {
    references.iter().map(Reference::familiar).collect()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// One row of the list.
pub fn row(summary: &ImageSummary) -> Summary {
    #[rustfmt::skip]
    let ImageSummary {
        id, target, references, by_digest, created, size, shared_size, containers, labels, platform:
        _told_by_inspection,
    } = summary;
    Summary {
        containers: containers.map_or(-1, signed),
        created: created.map_or(0, |at| unix(at).0),
        id: id.to_string(),
        labels: labels.clone(),
        parent_id: String::new(),
        descriptor: Some(target.clone()),
        manifests: None,
        repo_digests: names(by_digest),
        repo_tags: names(references),
        shared_size: shared_size.map_or(-1, signed),
        size: signed(*size),
    }
}

fn config(defaults: &ContainerDefaults) -> ImageConfig {
    #[rustfmt::skip]
    let ContainerDefaults {
        user, exposed_ports, env, entrypoint, cmd, volumes, working_dir, labels, stop_signal, healthcheck,
        shell, on_build, args_escaped,
    } = defaults.clone();
    ImageConfig {
        user,
        exposed_ports: exposed_ports.into_keys().map(|k| (k, Empty {})).collect(),
        env,
        entrypoint: entrypoint.unwrap_or_default(),
        cmd: cmd.unwrap_or_default(),
        volumes: volumes.into_keys().map(|k| (k, Empty {})).collect(),
        working_dir,
        labels,
        stop_signal: stop_signal.unwrap_or_default(),
        args_escaped,
        healthcheck: healthcheck.as_ref().map(told::health),
        on_build: on_build.unwrap_or_default(),
        shell: shell.unwrap_or_default(),
    }
}

/// `GET /images/{name}/json`.
pub fn inspect(view: &ImageView) -> Inspect {
    let ImageView {
        id,
        target,
        manifest: _in_manifests,
        references,
        by_digest,
        config: document,
        config_bytes: _as_read,
        size,
        last_tagged,
    } = view;
    Inspect {
        id: id.to_string(),
        repo_tags: names(references),
        repo_digests: names(by_digest),
        comment: document.comment.clone().unwrap_or_default(),
        created: document.created.clone().unwrap_or_default(),
        author: document.author.clone().unwrap_or_default(),
        config: Some(config(&document.config)),
        architecture: document.architecture.clone(),
        variant: document.variant.clone().unwrap_or_default(),
        os: document.os.clone(),
        os_version: document.os_version.clone().unwrap_or_default(),
        size: signed(*size),
        graph_driver: None,
        root_fs: RootFs {
            kind: "layers".into(),
            layers: document.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata {
            last_tag_time: (*last_tagged).into(),
        },
        descriptor: Some(target.clone()),
        manifests: None,
    }
}

/// The one manifest of an image that is here; `containers` are those made from it.
pub fn manifest(view: &ImageView, history: &[HistoryEntry], containers: Vec<String>) -> ManifestSummary {
    let unpacked: u64 = history.iter().map(|h| h.size).sum();
    ManifestSummary {
        id: view.manifest.digest.to_string(),
        descriptor: view.manifest.clone(),
        available: true,
        size: ManifestSize {
            content: signed(view.size.saturating_sub(unpacked)),
            total: signed(view.size),
        },
        kind: "image".into(),
        image_data: Some(ImageData {
            platform: view.config.platform(),
            size: UnpackedSize {
                unpacked: signed(unpacked),
            },
            containers,
        }),
    }
}

/// One step of the history.
pub fn history(entry: &HistoryEntry) -> HistoryItem {
    let HistoryEntry {
        id,
        created,
        created_by,
        tags,
        size,
        comment,
    } = entry;
    HistoryItem {
        comment: comment.clone(),
        created: created.map_or(0, |at| unix(at).0),
        created_by: created_by.clone(),
        id: id
            .as_ref()
            .map_or_else(|| "<missing>".into(), ToString::to_string),
        size: signed(*size),
        tags: (!tags.is_empty()).then(|| tags.clone()),
    }
}

/// One act of a removal.
pub fn removed(act: &Removed) -> DeleteItem {
    match act {
        Removed::Untagged(name) => DeleteItem {
            untagged: name.clone(),
            ..DeleteItem::default()
        },
        Removed::Deleted(digest) => DeleteItem {
            deleted: digest.to_string(),
            ..DeleteItem::default()
        },
    }
}
