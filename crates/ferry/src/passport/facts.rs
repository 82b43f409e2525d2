//! What a process can learn of its own confinement.

use crate::hello::{HOST_NAMESPACE, NAMESPACES};
use std::collections::BTreeMap;
use std::fs::read_to_string;

/// A namespace here and on the host.
pub(super) struct Namespace {
    /// `pid`, `net`, …
    pub(super) name: &'static str,
    /// The inode that names it.
    pub(super) here: String,
    /// The host's, empty when not known.
    pub(super) host: String,
}

/// A mount.
pub(super) struct Mount {
    pub(super) place: String,
    pub(super) kind: String,
    pub(super) read_only: bool,
}

/// Everything on the page.
pub(super) struct Facts {
    pub(super) pid: u32,
    pub(super) hostname: String,
    pub(super) user: String,
    pub(super) capabilities: Vec<String>,
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: &'static str,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) limits: Vec<(&'static str, String)>,
    pub(super) mounts: Vec<Mount>,
    pub(super) addresses: Vec<String>,
}

/// Capabilities by their numbers (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Facts {
    /// Reads them all; what cannot be read is shown as unknown.
    pub(super) fn gather() -> Self {
        let status = status(&read_to_string("/proc/self/status").unwrap_or_default());
        let field = |name: &str| status.get(name).map_or("", String::as_str);
        Facts {
            pid: std::process::id(),
            hostname: read_to_string("/proc/sys/kernel/hostname")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            user: user(),
            capabilities: capabilities(field("CapEff")),
            no_new_privileges: field("NoNewPrivs") == "1",
            seccomp: match field("Seccomp") {
                "0" => "off",
                "1" => "strict",
                "2" => "filtered",
                _ => "unknown",
            },
            namespaces: namespaces(),
            limits: limits(),
            mounts: mounts(&read_to_string("/proc/self/mountinfo").unwrap_or_default()),
            addresses: addresses(),
        }
    }
}

fn status(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|l| l.split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.trim().to_owned()))
        .collect()
}

fn user() -> String {
    let (uid, gid) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let name = if uid == 0 { " (root)" } else { "" };
    format!("{uid}:{gid}{name}")
}

fn capabilities(mask: &str) -> Vec<String> {
    let mask = u64::from_str_radix(mask, 16).unwrap_or(0);
    (0..64)
        .filter(|bit| mask & (1 << bit) != 0)
        .map(|bit| {
            CAPABILITIES
                .get(bit)
                .map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned())
        })
        .collect()
}

fn namespaces() -> Vec<Namespace> {
    NAMESPACES
        .into_iter()
        .map(|name| {
            let here = std::fs::read_link(format!("/proc/self/ns/{name}")).map(|l| l.display().to_string());
            let host = std::env::var(format!("{HOST_NAMESPACE}{}", name.to_uppercase())).unwrap_or_default();
            Namespace {
                name,
                here: inode(&here.unwrap_or_default()),
                host: inode(&host),
            }
        })
        .collect()
}

/// `4026531836` of `pid:[4026531836]`.
fn inode(link: &str) -> String {
    link.split_once('[')
        .map_or("", |(_, rest)| rest.trim_end_matches(']'))
        .to_owned()
}

/// Limits from whichever cgroup version is mounted here.
fn limits() -> Vec<(&'static str, String)> {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let read = |controller: &str, file: &str| -> Option<String> {
        let path = own.lines().find_map(|l| {
            let mut parts = l.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            names.split(',').any(|n| n == controller).then(|| path.to_owned())
        })?;
        // With a private cgroup namespace or docker's binds the container's own directory is the mount's root.
        [
            format!("/sys/fs/cgroup/{controller}{path}/{file}"),
            format!("/sys/fs/cgroup/{controller}/{file}"),
        ]
        .iter()
        .find_map(|p| read_to_string(p).ok())
        .map(|text| text.trim().to_owned())
    };
    let v2 = |file: &str| {
        read_to_string(format!("/sys/fs/cgroup/{file}"))
            .ok()
            .map(|t| t.trim().to_owned())
    };
    let memory = v2("memory.max").or_else(|| read("memory", "memory.limit_in_bytes"));
    let pids = v2("pids.max").or_else(|| read("pids", "pids.max"));
    let cpu = v2("cpu.max").or_else(|| {
        Some(format!(
            "{} {}",
            read("cpu", "cpu.cfs_quota_us")?,
            read("cpu", "cpu.cfs_period_us")?
        ))
    });
    let cpus = v2("cpuset.cpus.effective").or_else(|| read("cpuset", "cpuset.cpus"));
    vec![
        ("memory", memory.map_or_else(unknown, |m| size(&m))),
        ("cpu time", cpu.map_or_else(unknown, |c| processors(&c))),
        ("processors", cpus.unwrap_or_else(unknown)),
        (
            "processes",
            pids.map_or_else(unknown, |p| if p == "max" { "unlimited".into() } else { p }),
        ),
    ]
}

fn unknown() -> String {
    "unknown".into()
}

/// Bytes for people; version 1 says "none" with a number near 2^63.
fn size(text: &str) -> String {
    match text.parse::<u64>() {
        Ok(n) if n < 1 << 60 => crate::cli::bytes_size(n as f64),
        _ => "unlimited".into(),
    }
}

/// `50000 100000` is half a processor.
fn processors(text: &str) -> String {
    let mut parts = text.split_whitespace().map(|p| p.parse::<f64>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(quota), Some(period)) if quota > 0.0 && period > 0.0 => {
            format!("{} of a processor", quota / period)
        }
        _ => "unlimited".into(),
    }
}

fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ').skip(4);
            let (place, options) = (fields.next()?, fields.next()?);
            let kind = right.split(' ').next()?.to_owned();
            Some(Mount {
                place: place.replace("\\040", " "),
                kind,
                read_only: options.split(',').any(|o| o == "ro"),
            })
        })
        .collect()
}

/// Every address of every interface: the kernel's own routes for IPv4, the interface table for IPv6.
fn addresses() -> Vec<String> {
    let mut found = local_ipv4(&read_to_string("/proc/net/fib_trie").unwrap_or_default());
    for line in read_to_string("/proc/net/if_inet6").unwrap_or_default().lines() {
        let mut fields = line.split_whitespace();
        let (Some(bits), Some(name)) = (fields.next(), fields.next_back()) else {
            continue;
        };
        if let Ok(bits) = u128::from_str_radix(bits, 16) {
            found.push(format!("{} ({name})", std::net::Ipv6Addr::from_bits(bits)));
        }
    }
    found
}

/// Leaves of the trie marked `/32 host LOCAL`.
fn local_ipv4(trie: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut leaf = "";
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address;
        } else if line == "/32 host LOCAL" && !found.iter().any(|f| f == leaf) {
            found.push(leaf.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_read() {
        assert_eq!(inode("pid:[4026531836]"), "4026531836");
        assert_eq!(capabilities("0000000000000401"), ["CHOWN", "NET_BIND_SERVICE"]);
        assert_eq!(size("9223372036854771712"), "unlimited");
        assert_eq!(size("67108864"), "64MiB");
        assert_eq!(processors("50000 100000"), "0.5 of a processor");
        assert_eq!(processors("max 100000"), "unlimited");
        assert_eq!(processors("-1 100000"), "unlimited");
        let trie = "Main:\n  +-- 0.0.0.0/0\n     |-- 172.17.0.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 172.17.255.255\n        /32 link BROADCAST\n";
        assert_eq!(local_ipv4(trie), ["172.17.0.2", "127.0.0.1"]);
        let all = mounts("36 35 98:0 / /proc ro,nosuid shared:1 - proc proc rw\n");
        assert_eq!(
            (all[0].place.as_str(), all[0].kind.as_str(), all[0].read_only),
            ("/proc", "proc", true)
        );
    }
}
