//! The order of fields in the docker command's own types.
//!
//! `{{json .State}}` prints a field in the order of Go's type, whatever order the engine sent; older API versions
//! send some answers sorted.

use super::json::{Json, hidden};

/// By the field that an object is in (empty for a container itself): its fields in order.
const ORDERS: [(&str, &str); 9] = [
    (
        "",
        "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver SizeRw SizeRootFs Mounts Config NetworkSettings ImageManifestDescriptor",
    ),
    (
        "State",
        "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt Health",
    ),
    (
        "Config",
        "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce Env Cmd Healthcheck ArgsEscaped Image Volumes WorkingDir Entrypoint NetworkDisabled MacAddress OnBuild Labels StopSignal StopTimeout Shell",
    ),
    (
        "HostConfig",
        "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver VolumesFrom ConsoleSize Annotations CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt StorageOpt Tmpfs UTSMode UsernsMode ShmSize Sysctls Runtime Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth Mounts MaskedPaths ReadonlyPaths Init",
    ),
    ("LogConfig", "Type Config"),
    ("RestartPolicy", "Name MaximumRetryCount"),
    (
        "NetworkSettings",
        "Bridge SandboxID SandboxKey Ports HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress IPPrefixLen IPv6Gateway MacAddress Networks",
    ),
    ("RootFS", "Type Layers"),
    (
        "Server",
        "Platform Components Version ApiVersion MinAPIVersion GitCommit GoVersion Os Arch KernelVersion Experimental BuildTime",
    ),
];

/// An endpoint of a network.
const ENDPOINT: &str = "IPAMConfig Links Aliases MacAddress DriverOpts GwPriority NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen DNSNames";

/// The same value, each known object in its type's order. Fields that the type lacks come last, as they came.
pub(crate) fn typed(json: Json, field: &str) -> Json {
    match json {
        Json::Object(entries) => {
            let known = !field.is_empty() || entries.iter().any(|(k, _)| k == "HostConfig");
            let order = ORDERS
                .iter()
                .find(|(f, _)| known && *f == field)
                .map_or("", |(_, order)| order);
            let mut entries: Vec<(String, Json)> = entries
                .into_iter()
                .map(|(key, value)| {
                    let value = if field == "Networks" {
                        sort(value, ENDPOINT)
                    } else {
                        typed(value, &key)
                    };
                    (key, value)
                })
                .collect();
            entries.sort_by_key(|(key, _)| place(order, key));
            if field.trim().is_empty() || !order.is_empty() {
                add_go_names(&mut entries);
            }
            Json::Object(entries)
        }
        Json::Array(items) => Json::Array(items.into_iter().map(|i| typed(i, " ")).collect()),
        other => other,
    }
}

/// Templates may use the name of Go's field where JSON has another.
fn add_go_names(entries: &mut Vec<(String, Json)>) {
    const NAMES: [(&str, &str); 14] = [
        ("Id", "ID"),
        ("HostIp", "HostIP"),
        ("Dns", "DNS"),
        ("DnsSearch", "DNSSearch"),
        ("DnsOptions", "DNSOptions"),
        ("NanoCpus", "NanoCPUs"),
        ("CpuCount", "CPUCount"),
        ("CpuPercent", "CPUPercent"),
        ("CpuPeriod", "CPUPeriod"),
        ("CpuQuota", "CPUQuota"),
        ("CpuShares", "CPUShares"),
        ("HttpProxy", "HTTPProxy"),
        ("HttpsProxy", "HTTPSProxy"),
        ("CpuRealtimePeriod", "CPURealtimePeriod"),
    ];
    for (json, go) in NAMES {
        if let Some((_, value)) = entries.iter().find(|(k, _)| k == json) {
            let value = hidden(value.clone());
            entries.push((go.to_owned(), value));
        }
    }
}

fn sort(json: Json, order: &str) -> Json {
    match json {
        Json::Object(mut entries) => {
            entries.sort_by_key(|(key, _)| place(order, key));
            Json::Object(entries)
        }
        other => other,
    }
}

fn place(order: &str, key: &str) -> usize {
    order.split(' ').position(|k| k == key).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_objects_get_their_order() {
        let sorted = br#"{"Args":[],"Id":"x","HostConfig":{},"State":{"Dead":false,"New":1,"Status":"exited"},"Zoo":{"b":1,"a":2}}"#;
        let json = typed(Json::parse(sorted).expect("json"), "");
        assert_eq!(
            json.compact(),
            r#"{"Id":"x","Args":[],"State":{"Status":"exited","Dead":false,"New":1},"HostConfig":{},"Zoo":{"b":1,"a":2}}"#
        );
    }
}
