//! What Docker refuses of a create request before anything is made, with its words.

use super::super::error::{ApiError, Result};
use ferry_api::docker::config::{Config, HealthConfig};
use ferry_api::docker::hostconfig::{HostConfig, RestartPolicy};

/// The least memory a container can be given, bytes.
const MIN_MEMORY: i64 = 6 << 20;

fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(ApiError::invalid(message))
}

/// Everything below.
pub fn request(config: &Config, host: &HostConfig) -> Result<()> {
    network_mode(config, host)?;
    if !matches!(host.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        ));
    }
    if host.io_maximum_bandwidth != 0 {
        return invalid("invalid option: QoS maximum bandwidth configuration is not supported on linux");
    }
    if host.io_maximum_iops != 0 {
        return invalid("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    if host.cpu_realtime_runtime > host.cpu_realtime_period && host.cpu_realtime_period != 0 {
        return invalid("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if host.cpu_shares < 0 {
        return invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    config_alone(config)?;
    host_alone(host)?;
    resources(host, false)
}

fn network_mode(config: &Config, host: &HostConfig) -> Result<()> {
    let mode = host.network_mode.as_str();
    let joined = mode.strip_prefix("container:");
    if joined == Some("") || mode == "container" {
        return invalid("invalid network mode: invalid container format container:<name|id>");
    }
    if !config.hostname.is_empty() && (joined.is_some() || host.uts_mode == "host") {
        let what = if joined.is_some() { "network" } else { "UTS" };
        return invalid(format!("conflicting options: hostname and the {what} mode"));
    }
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if some(&host.links) && mode == "host" {
        return invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if joined.is_none() {
        return Ok(());
    }
    if some(&host.links) {
        return invalid(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        );
    }
    if some(&host.dns) {
        return invalid("conflicting options: dns and the network mode");
    }
    if some(&host.extra_hosts) {
        return invalid("conflicting options: custom host-to-IP mapping and the network mode");
    }
    if host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        return invalid("conflicting options: port publishing and the container type network mode");
    }
    if !config.exposed_ports.is_empty() {
        return invalid("conflicting options: port exposing and the container type network mode");
    }
    Ok(())
}

fn config_alone(config: &Config) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    environment(config.env.iter().flatten())?;
    if let Some(check) = &config.healthcheck {
        health(check)?;
    }
    Ok(())
}

/// Names must not be empty.
pub fn environment<'a>(mut env: impl Iterator<Item = &'a String>) -> Result<()> {
    match env.find(|e| e.is_empty() || e.starts_with('=')) {
        Some(e) => invalid(format!("invalid environment variable: {e}")),
        None => Ok(()),
    }
}

fn health(check: &HealthConfig) -> Result<()> {
    let HealthConfig {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = check;
    let durations = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ];
    for (name, nanos) in durations {
        if *nanos != 0 && *nanos < 1_000_000 {
            return invalid(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    if *retries < 0 {
        return invalid("Retries in Healthcheck cannot be negative");
    }
    match test.as_deref() {
        None | Some([]) => Ok(()),
        Some([kind, ..]) if matches!(kind.as_str(), "" | "NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some([kind, ..]) => invalid(format!(
            "Unknown Healthcheck type {kind:?} in Healthcheck.Test: use NONE, CMD or CMD-SHELL"
        )),
    }
}

/// Docker's rules for a policy.
pub fn restart_policy(policy: &RestartPolicy) -> Result<()> {
    let RestartPolicy {
        name,
        maximum_retry_count,
    } = policy;
    match name.as_str() {
        "always" | "unless-stopped" | "no" if *maximum_retry_count != 0 => {
            let more = if *maximum_retry_count < 0 {
                " and cannot be negative"
            } else {
                ""
            };
            invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{more}"
            ))
        }
        "on-failure" if *maximum_retry_count < 0 => {
            invalid("invalid restart policy: maximum retry count cannot be negative")
        }
        "" | "always" | "unless-stopped" | "no" | "on-failure" => Ok(()),
        other => invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

fn host_alone(host: &HostConfig) -> Result<()> {
    restart_policy(&host.restart_policy)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    if host.shm_size < 0 {
        return invalid("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.annotations.contains_key("") {
        return invalid("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    let bare = |entry: &&String| {
        entry
            .split_once([':', '='])
            .is_none_or(|(name, ip)| name.is_empty() || (ip != "host-gateway" && !is_address(ip)))
    };
    if let Some(entry) = host.extra_hosts.iter().flatten().find(bare) {
        return invalid(format!("invalid extra host: {entry:?} is not name:address"));
    }
    Ok(())
}

/// An address, IPv6 possibly in brackets.
fn is_address(text: &str) -> bool {
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>()
        .is_ok()
}

/// Limits; `update` allows swap without memory, since that is there already.
pub fn resources(host: &HostConfig, update: bool) -> Result<()> {
    memory(host, update)?;
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = i64::try_from(processors)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    if host.nano_cpus < 0 || host.nano_cpus > most {
        return invalid(format!(
            "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        ));
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    Ok(())
}

fn memory(host: &HostConfig, update: bool) -> Result<()> {
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(swappiness) = host.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if host.memory_reservation > 0 && host.memory_reservation < MIN_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}
