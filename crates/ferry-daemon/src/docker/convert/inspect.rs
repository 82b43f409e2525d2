//! A container's view into its inspection.

use super::endpoint;
use super::told::{self, Defaults};
use ferry_api::docker::container::{
    Health as WireHealth, HealthcheckResult, Inspect, MountPoint as WireMount, NetworkSettings,
    RootFsStorage, Snapshot, State as WireState, Storage,
};
use ferry_api::docker::network::EndpointSettings;
use ferry_engine::containers::spec::MountKind;
use ferry_engine::containers::view::{ContainerView, Health, HealthResult, MountPoint, State, Status};
use ferry_oci::image::Descriptor;
use std::collections::BTreeMap;

/// Docker's name of the snapshotter that stacks directories.
pub const DRIVER: &str = "overlayfs";

/// The word for a status.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Removing => "removing",
        Status::Exited => "exited",
        Status::Dead => "dead",
    }
}

/// Whether Docker calls it running.
pub fn is_running(status: Status) -> bool {
    matches!(status, Status::Running | Status::Paused | Status::Restarting)
}

fn state(state: &State) -> WireState {
    let State {
        status: at,
        pid,
        exit_code,
        error,
        oom_killed,
        started_at,
        finished_at,
        health,
    } = state;
    WireState {
        status: status(*at).into(),
        running: is_running(*at),
        paused: *at == Status::Paused,
        restarting: *at == Status::Restarting,
        oom_killed: *oom_killed,
        dead: *at == Status::Dead,
        pid: i64::from(*pid),
        exit_code: i64::from(*exit_code),
        error: error.clone(),
        started_at: (*started_at).into(),
        finished_at: (*finished_at).into(),
        health: health.as_ref().map(self::health),
    }
}

fn health(health: &Health) -> WireHealth {
    let Health {
        status,
        failing_streak,
        log,
    } = health;
    let result = |HealthResult {
                      start,
                      end,
                      exit_code,
                      output,
                  }: &HealthResult| HealthcheckResult {
        start: (*start).into(),
        end: (*end).into(),
        exit_code: i64::from(*exit_code),
        output: output.clone(),
    };
    WireHealth {
        status: status.clone(),
        failing_streak: i64::from(*failing_streak),
        log: Some(log.iter().map(result).collect()),
    }
}

/// A mount in force.
pub fn mount(mount: &MountPoint) -> WireMount {
    let MountPoint {
        kind,
        name,
        source,
        destination,
        driver,
        mode,
        writable,
        propagation,
    } = mount.clone();
    let kind = match kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    };
    WireMount {
        kind: kind.into(),
        name,
        source,
        destination,
        driver,
        mode,
        rw: writable,
        propagation,
    }
}

/// Endpoints by network name.
pub fn networks(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    let asked = &view.spec.network.endpoints;
    let told = view.endpoints.iter().map(|e| {
        let own = asked.get(&e.network).or_else(|| asked.get(&e.network_id));
        let user_defined = super::super::compat::create::is_user_defined(&e.network);
        let mut settings = endpoint::told(e, own, user_defined);
        if view.state.status == Status::Created {
            // Docker looks a network up when it first starts.
            settings.network_id.clear();
        }
        (e.network.clone(), settings)
    });
    told.collect()
}

/// `GET /containers/{id}/json`.
pub fn inspect(view: &ContainerView, manifest: Option<Descriptor>, defaults: &Defaults) -> Inspect {
    #[rustfmt::skip]
    let ContainerView {
        id, name, created, spec, image, state: at, mounts, endpoints: _, ports, restart_count,
        manually_stopped: _, path, args, files, execs, size, cgroup_path: _, sandbox,
    } = view;
    let running = is_running(at.status);
    // Docker makes these files at the first start, however that ends.
    let untouched = at.status == Status::Created && at.error.is_empty();
    let file = |path: &String| if untouched { String::new() } else { path.clone() };
    Inspect {
        id: id.clone(),
        created: (*created).into(),
        path: path.clone(),
        args: args.clone(),
        state: state(at),
        image: image.id.to_string(),
        resolv_conf_path: file(&files.resolv_conf),
        hostname_path: file(&files.hostname),
        hosts_path: file(&files.hosts),
        log_path: file(&files.log),
        name: format!("/{name}"),
        restart_count: i64::from(*restart_count),
        driver: DRIVER.into(),
        platform: "linux".into(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: String::new(),
        exec_ids: (!execs.is_empty()).then(|| execs.clone()),
        host_config: told::host(spec, defaults),
        graph_driver: None,
        storage: Some(Storage {
            root_fs: Some(RootFsStorage {
                snapshot: Some(Snapshot { name: DRIVER.into() }),
            }),
        }),
        size_rw: size.map(|(own, _)| own),
        size_root_fs: size.map(|(_, all)| all),
        mounts: mounts.iter().map(mount).collect(),
        config: told::config(spec, id, defaults),
        network_settings: NetworkSettings {
            sandbox_id: sandbox.0.clone(),
            sandbox_key: sandbox.1.clone(),
            ports: if running {
                endpoint::ports(ports)
            } else {
                BTreeMap::new()
            },
            networks: networks(view),
        },
        image_manifest_descriptor: manifest,
    }
}
