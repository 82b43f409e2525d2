//! Limits, both ways.

use super::super::error::Result;
use super::refuse;
use ferry_api::docker::hostconfig as wire;
use ferry_engine::containers::spec::{self, Resources};

/// What no request may ask for here, by name.
fn refused(host: &wire::HostConfig) -> Result<()> {
    if let Some(field) = host.windows_field() {
        return Err(refuse(field, "it means something on Windows alone"));
    }
    if host.kernel_memory != 0 {
        return Err(refuse(
            "KernelMemory",
            "Linux has no kernel memory limit since 5.16",
        ));
    }
    if host.kernel_memory_tcp != 0 {
        return Err(refuse(
            "KernelMemoryTCP",
            "Docker removed it in API 1.42; limit Memory instead",
        ));
    }
    if host.device_requests.as_ref().is_some_and(|r| !r.is_empty()) {
        return Err(refuse(
            "DeviceRequests",
            "there are no device drivers; give the device nodes in Devices",
        ));
    }
    Ok(())
}

/// The limits of a request.
pub fn from_wire(host: &mut wire::HostConfig) -> Result<Resources> {
    refused(host)?;
    let weights = |list: &mut Option<Vec<wire::WeightDevice>>| {
        list.take()
            .into_iter()
            .flatten()
            .map(|wire::WeightDevice { path, weight }| (path, weight))
            .collect()
    };
    let rates = |list: &mut Option<Vec<wire::ThrottleDevice>>| {
        list.take()
            .into_iter()
            .flatten()
            .map(|wire::ThrottleDevice { path, rate }| (path, rate))
            .collect()
    };
    Ok(Resources {
        memory: host.memory,
        memory_reservation: host.memory_reservation,
        memory_swap: host.memory_swap,
        memory_swappiness: host.memory_swappiness.filter(|s| *s >= 0),
        oom_kill_disable: host.oom_kill_disable,
        nano_cpus: host.nano_cpus,
        cpu_shares: host.cpu_shares,
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_realtime_period: host.cpu_realtime_period,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        cpuset_cpus: std::mem::take(&mut host.cpuset_cpus),
        cpuset_mems: std::mem::take(&mut host.cpuset_mems),
        pids_limit: host.pids_limit,
        blkio_weight: host.blkio_weight,
        blkio_weight_device: weights(&mut host.blkio_weight_device),
        blkio_read_bps: rates(&mut host.blkio_device_read_bps),
        blkio_write_bps: rates(&mut host.blkio_device_write_bps),
        blkio_read_iops: rates(&mut host.blkio_device_read_iops),
        blkio_write_iops: rates(&mut host.blkio_device_write_iops),
        ulimits: host.ulimits.take().into_iter().flatten().map(ulimit).collect(),
        devices: host.devices.take().into_iter().flatten().map(device).collect(),
        device_cgroup_rules: host.device_cgroup_rules.take().unwrap_or_default(),
    })
}

fn ulimit(wire::Ulimit { name, hard, soft }: wire::Ulimit) -> spec::Ulimit {
    spec::Ulimit { name, soft, hard }
}

fn device(
    wire::DeviceMapping {
        path_on_host,
        path_in_container,
        cgroup_permissions,
    }: wire::DeviceMapping,
) -> spec::DeviceMapping {
    let container = if path_in_container.is_empty() {
        path_on_host.clone()
    } else {
        path_in_container
    };
    spec::DeviceMapping {
        host: path_on_host,
        container,
        permissions: cgroup_permissions,
    }
}

fn nothing_as_null<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The limits of a container, put into what inspection tells.
pub fn to_wire(resources: &Resources, host: &mut wire::HostConfig) {
    #[rustfmt::skip]
    let Resources {
        memory, memory_reservation, memory_swap, memory_swappiness, oom_kill_disable, nano_cpus, cpu_shares,
        cpu_period, cpu_quota, cpu_realtime_period, cpu_realtime_runtime, cpuset_cpus, cpuset_mems,
        pids_limit, blkio_weight, blkio_weight_device, blkio_read_bps, blkio_write_bps, blkio_read_iops,
        blkio_write_iops, ulimits, devices, device_cgroup_rules,
    } = resources.clone();
    let rates = |list: Vec<(String, u64)>| {
        Some(
            list.into_iter()
                .map(|(path, rate)| wire::ThrottleDevice { path, rate })
                .collect(),
        )
    };
    host.memory = memory;
    host.memory_reservation = memory_reservation;
    host.memory_swap = memory_swap;
    host.memory_swappiness = memory_swappiness;
    host.oom_kill_disable = oom_kill_disable;
    host.nano_cpus = nano_cpus;
    host.cpu_shares = cpu_shares;
    host.cpu_period = cpu_period;
    host.cpu_quota = cpu_quota;
    host.cpu_realtime_period = cpu_realtime_period;
    host.cpu_realtime_runtime = cpu_realtime_runtime;
    host.cpuset_cpus = cpuset_cpus;
    host.cpuset_mems = cpuset_mems;
    host.pids_limit = pids_limit.filter(|n| *n > 0);
    host.blkio_weight = blkio_weight;
    host.blkio_weight_device = Some(
        blkio_weight_device
            .into_iter()
            .map(|(path, weight)| wire::WeightDevice { path, weight })
            .collect(),
    );
    host.blkio_device_read_bps = rates(blkio_read_bps);
    host.blkio_device_write_bps = rates(blkio_write_bps);
    host.blkio_device_read_iops = rates(blkio_read_iops);
    host.blkio_device_write_iops = rates(blkio_write_iops);
    host.ulimits = Some(
        ulimits
            .into_iter()
            .map(|spec::Ulimit { name, soft, hard }| wire::Ulimit { name, hard, soft })
            .collect(),
    );
    host.devices = Some(devices.into_iter().map(device_told).collect());
    host.device_cgroup_rules = nothing_as_null(device_cgroup_rules);
}

fn device_told(
    spec::DeviceMapping {
        host,
        container,
        permissions,
    }: spec::DeviceMapping,
) -> wire::DeviceMapping {
    wire::DeviceMapping {
        path_on_host: host,
        path_in_container: container,
        cgroup_permissions: permissions,
    }
}
