//! What was asked and what the image says, put together as Docker does.

use super::spec::{ContainerSpec, LogConfig, NamespaceMode, NetworkMode, ProcessSpec};
use crate::kernel::HostInfo;
use crate::{Config, Error, Result};
use ferry_oci::image::{ContainerDefaults, Healthcheck};

/// Entrypoint and arguments: what is executed, in two parts.
pub(crate) fn command(process: &ProcessSpec) -> [Vec<String>; 2] {
    [
        process.entrypoint.clone().unwrap_or_default(),
        process.cmd.clone().unwrap_or_default(),
    ]
}

/// Fills what was not asked from the image.
///
/// # Errors
/// [`crate::Kind::Invalid`]: `no command specified`.
pub(crate) fn merge(spec: &mut ContainerSpec, image: &ContainerDefaults) -> Result<()> {
    let process = &mut spec.process;
    let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if none(&process.entrypoint) {
        if none(&process.cmd) {
            process.cmd.clone_from(&image.cmd);
            process.args_escaped |= image.args_escaped;
        }
        if process.entrypoint.is_none() {
            process.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if process
        .entrypoint
        .as_ref()
        .is_some_and(|e| e.len() == 1 && e[0].is_empty())
    {
        process.entrypoint = None;
    }
    if command(process).concat().is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(n, _)| n).to_owned();
    for entry in &image.env {
        if !process.env.iter().any(|own| name(own) == name(entry)) {
            process.env.push(entry.clone());
        }
    }
    fill(&mut process.user, &image.user);
    fill(&mut process.working_dir, &image.working_dir);
    fill(&mut spec.stop_signal, image.stop_signal.as_deref().unwrap_or(""));
    for (label, value) in &image.labels {
        spec.labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    union(&mut spec.exposed_ports, image.exposed_ports.keys());
    union(&mut spec.volumes, image.volumes.keys());
    merge_health(&mut spec.healthcheck, image.healthcheck.as_ref());
    Ok(())
}

fn fill(own: &mut String, image: &str) {
    if own.is_empty() {
        image.clone_into(own);
    }
}

fn union<'a>(own: &mut Vec<String>, image: impl Iterator<Item = &'a String>) {
    for entry in image {
        if !own.contains(entry) {
            own.push(entry.clone());
        }
    }
}

fn merge_health(own: &mut Option<Healthcheck>, image: Option<&Healthcheck>) {
    let Some(image) = image else { return };
    let Some(own) = own else {
        *own = Some(image.clone());
        return;
    };
    if own.test.is_empty() {
        own.test.clone_from(&image.test);
    }
    let pairs = [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ];
    for (own, image) in pairs {
        if *own == 0 {
            *own = image;
        }
    }
}

/// Puts the engine's defaults where neither request nor image say anything.
pub(crate) fn defaults(spec: &mut ContainerSpec, id: &str, config: &Config, host: &HostInfo) {
    let resources = &mut spec.resources;
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    if spec.shm_size == 0 {
        spec.shm_size = config.default_shm_size;
    }
    if spec.runtime.is_empty() {
        spec.runtime.clone_from(&config.default_runtime);
    }
    let isolation = &mut spec.isolation;
    if isolation.ipc == NamespaceMode::Default {
        let shareable = config.default_ipc_mode == "shareable";
        isolation.ipc = if shareable {
            NamespaceMode::Shareable
        } else {
            NamespaceMode::Private
        };
    }
    if isolation.cgroup == NamespaceMode::Default {
        let own = match config.default_cgroupns_mode.as_str() {
            "private" => true,
            "host" => false,
            _ => host.cgroup_version == 2 && !isolation.privileged,
        };
        isolation.cgroup = if own {
            NamespaceMode::Private
        } else {
            NamespaceMode::Host
        };
    }
    if spec.hostname.is_empty() && isolation.uts != NamespaceMode::Host {
        spec.hostname = match spec.network.mode {
            NetworkMode::Host => host_name(),
            NetworkMode::Container(_) => String::new(),
            _ => id.get(..12).unwrap_or(id).to_owned(),
        };
    }
    if spec.network.mode_text.is_empty() {
        spec.network.mode_text = "default".into();
    }
    log_defaults(&mut spec.log, config);
}

/// The engine's options count only for its own driver.
fn log_defaults(log: &mut LogConfig, config: &Config) {
    if log.driver.is_empty() {
        log.driver.clone_from(&config.log_driver);
    }
    if log.driver == config.log_driver {
        for (key, value) in &config.log_opts {
            log.options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The host's own name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|s| (*s).into()).collect())
    }

    #[test]
    fn commands_merge_as_docker_s() {
        let image = ContainerDefaults {
            entrypoint: list(&["/entry"]),
            cmd: list(&["serve"]),
            ..ContainerDefaults::default()
        };
        let cases = [
            (None, None, vec!["/entry", "serve"]),
            (None, list(&["x"]), vec!["/entry", "x"]),
            (list(&["/own"]), None, vec!["/own"]),
            (list(&["/own"]), list(&["x"]), vec!["/own", "x"]),
            (list(&[""]), list(&["x"]), vec!["x"]),
        ];
        for (entrypoint, cmd, want) in cases {
            let mut spec = ContainerSpec::default();
            (spec.process.entrypoint, spec.process.cmd) = (entrypoint, cmd);
            merge(&mut spec, &image).unwrap();
            assert_eq!(command(&spec.process).concat(), want);
        }
        let mut nothing = ContainerSpec::default();
        let error = merge(&mut nothing, &ContainerDefaults::default()).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }

    #[test]
    fn the_request_comes_over_the_image() {
        let image = ContainerDefaults {
            cmd: list(&["x"]),
            env: vec!["A=image".into(), "B=image".into()],
            user: "nobody".into(),
            working_dir: "/srv".into(),
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".into()],
                interval: 5,
                retries: 7,
                ..Healthcheck::default()
            }),
            ..ContainerDefaults::default()
        };
        let mut spec = ContainerSpec::default();
        spec.process.env = vec!["A=own".into()];
        spec.healthcheck = Some(Healthcheck {
            interval: 9,
            ..Healthcheck::default()
        });
        merge(&mut spec, &image).unwrap();
        assert_eq!(spec.process.env, ["A=own", "B=image"]);
        assert_eq!(
            (spec.process.user.as_str(), spec.process.working_dir.as_str()),
            ("nobody", "/srv")
        );
        let health = spec.healthcheck.unwrap();
        assert_eq!((health.interval, health.retries, health.test.len()), (9, 7, 1));
    }

    #[test]
    fn the_engine_s_defaults_fill_the_rest() {
        let mut config = Config::new("/d", "/e");
        config.log_opts.insert("max-size".into(), "1m".into());
        let mut spec = ContainerSpec::default();
        spec.resources.memory = 64 << 20;
        let host = HostInfo {
            cgroup_version: 1,
            ..HostInfo::default()
        };
        defaults(&mut spec, &"ab".repeat(32), &config, &host);
        assert_eq!(spec.hostname, "abababababab");
        assert_eq!(spec.resources.memory_swap, 128 << 20);
        assert_eq!(
            (spec.isolation.ipc, spec.isolation.cgroup),
            (NamespaceMode::Private, NamespaceMode::Host)
        );
        assert_eq!(
            (spec.log.driver.as_str(), spec.log.options["max-size"].as_str()),
            ("json-file", "1m")
        );
    }
}
