//! state, list, features, spec.

use super::flags::{Flag, Flags};
use super::state::{Place, Record, Status};
use super::{Context, Failure, Outcome, log};
use crate::capability;
use crate::host::{CgroupMode, HostFacts};
use serde_json::{Value, json};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) const LIST: &[Flag] = &[Flag::value("format").short("f"), Flag::switch("quiet").short("q")];
pub(super) const SPEC: &[Flag] = &[Flag::value("bundle").short("b")];

fn describe(place: &Place, record: &Record) -> Value {
    let status = record.status(place);
    let pid = if status == Status::Stopped { 0 } else { record.pid };
    let owner = std::fs::metadata(&place.directory).map(|m| m.uid()).unwrap_or(0);
    let annotations = place.spec().map(|s| s.annotations).unwrap_or_default();
    let mut value = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid,
        "status": status.name(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": if owner == 0 { String::new() } else { owner.to_string() },
    });
    if !annotations.is_empty() {
        value["annotations"] = json!(annotations);
    }
    value
}

fn pretty(value: &Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::about("cannot write JSON", e))
}

pub(super) fn state(context: &Context, flags: Flags) -> Outcome {
    let place = Place::of(context, flags.container("state")?)?;
    let record = place.record()?;
    log::print(&format!("{}\n", pretty(&describe(&place, &record))?))?;
    Ok(0)
}

pub(super) fn list(context: &Context, flags: Flags) -> Outcome {
    if !flags.rest.is_empty() {
        return Err(Failure::new("\"ferry runtime list\" takes no argument"));
    }
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(&context.root) {
        Ok(entries) => entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Failure::about("cannot list", e))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(Failure::about(
                &format!("cannot list {}", context.root.display()),
                error,
            ));
        }
    };
    for entry in entries {
        let place = Place {
            directory: entry.path(),
        };
        // A directory without a state is a creation that is under way or has failed.
        if let Ok(record) = place.record() {
            all.push(describe(&place, &record));
        }
    }
    all.sort_by_key(|c| c["id"].as_str().map(str::to_owned));
    let text = |value: &Value, key: &str| match &value[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if flags.has("quiet") {
        for container in &all {
            log::print(&format!("{}\n", text(container, "id")))?;
        }
        return Ok(0);
    }
    match flags.value("format") {
        Some("json") => log::print(&Value::Array(all).to_string())?,
        None | Some("table") => {
            let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            for container in &all {
                rows.push(["id", "pid", "status", "bundle", "created", "owner"].map(|k| text(container, k)));
            }
            log::print(&table(&rows))?;
        }
        Some(_) => return Err(Failure::new("invalid format option")),
    }
    Ok(0)
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|r| r[column].chars().count())
            .max()
            .unwrap_or(0)
            .max(9)
            + 3
    };
    let mut text = String::new();
    for row in rows {
        let line: String = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<0$}", width(column)))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Told from what the code and the kernel have, in the specification's form.
pub(super) fn features(_: &Context, _: Flags) -> Outcome {
    let facts = HostFacts::probe().map_err(|e| Failure::about("cannot look at the host", e))?;
    let namespaces: Vec<&str> = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]
        .into_iter()
        .filter(|n| (*n != "time" || facts.time_namespaces) && (*n != "user" || facts.user_namespaces))
        .collect();
    let known = (1u64 << (facts.last_capability + 1).min(63)) - 1;
    let value = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": ferry_oci::runtime::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": crate::plan::mount_option_names(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capability::names(known).collect::<Vec<_>>(),
            "cgroup": {
                "v1": matches!(facts.cgroups, CgroupMode::V1 | CgroupMode::Hybrid),
                "v2": facts.cgroups == CgroupMode::V2,
                "systemd": false,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": facts.has_lsm("apparmor") },
            "selinux": { "enabled": facts.has_lsm("selinux") },
            "intelRdt": { "enabled": false },
            "memoryPolicy": {
                "modes": crate::plan::MEMORY_MODES,
                "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING"],
            },
            "mountExtensions": { "idmap": { "enabled": false } },
            "netDevices": { "enabled": false },
        },
        "annotations": { "org.ferry.kernel": facts.release },
    });
    log::print(&format!("{}\n", pretty(&value)?))?;
    Ok(0)
}

/// A `config.json` to start from.
pub(super) fn spec(_: &Context, flags: Flags) -> Outcome {
    let path = Path::new(flags.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(Failure::new(format!(
            "File {} exists. Remove it first",
            path.display()
        )));
    }
    let text = pretty(&example())?;
    std::fs::write(&path, text)
        .map_err(|e| Failure::about(&format!("cannot write {}", path.display()), e))?;
    Ok(0)
}

fn example() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": ferry_oci::runtime::VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "ferry",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
