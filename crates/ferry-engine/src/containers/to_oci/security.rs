//! Capabilities, security options, hidden and read-only paths.

use crate::containers::spec::ContainerSpec;
use crate::kernel::HostInfo;
use crate::{Error, Result};
use ferry_oci::runtime::Capabilities;
use std::path::Path;

/// Every capability of capabilities(7).
pub(crate) const KNOWN: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What containers have by default.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What containers may not write by default.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What containers do not see by default, without what depends on the host.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// The paths hidden by default on this host: with each processor's thermal counters (GHSA-6fw5-f8r9-fgfm).
pub(crate) fn host_masked_paths() -> Vec<String> {
    let processors = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = processors
        .trim()
        .rsplit(['-', ','])
        .next()
        .and_then(|n| n.parse::<u32>().ok())
        .unwrap_or(0);
    let thermal = (0..=last).map(|n| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle"));
    MASKED
        .iter()
        .map(|p| (*p).to_owned())
        .chain(thermal.filter(|p| Path::new(p).exists()))
        .collect()
}

/// The parsed `--security-opt`s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `apparmor=`.
    pub apparmor: Option<String>,
    /// `seccomp=`: `unconfined`, `builtin` or the profile itself.
    pub seccomp: Option<String>,
    /// `writable-cgroups`.
    pub writable_cgroups: Option<bool>,
    /// `label=`, or `disable`.
    pub labels: Vec<String>,
}

impl Options {
    /// Parses them; a later one wins.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] with Docker's words for what it does not know.
    pub(crate) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        match option {
            "no-new-privileges" => self.no_new_privileges = true,
            "writable-cgroups" => self.writable_cgroups = Some(true),
            "disable" => self.labels.push("disable".into()),
            _ => {
                let separator = if option.contains('=') { '=' } else { ':' };
                let (key, value) = option
                    .split_once(separator)
                    .ok_or_else(|| Error::invalid(format!("invalid --security-opt 1: {option:?}")))?;
                self.set(option, key, value)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, option: &str, key: &str, value: &str) -> Result<()> {
        let invalid = || Error::invalid(format!("invalid --security-opt 2: {option:?}"));
        match key {
            "label" => self.labels.push(value.into()),
            "apparmor" => self.apparmor = Some(value.into()),
            "seccomp" => self.seccomp = Some(value.into()),
            "no-new-privileges" => self.no_new_privileges = boolean(value).ok_or_else(invalid)?,
            "writable-cgroups" => self.writable_cgroups = Some(boolean(value).ok_or_else(invalid)?),
            // Clients turn it into empty lists of masked and read-only paths, which say it all.
            "systempaths" if value == "unconfined" => {}
            _ => return Err(invalid()),
        }
        Ok(())
    }

    /// Refuses what this host has no means for, by name.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`].
    pub(crate) fn check(&self, host: &HostInfo) -> Result<()> {
        if let Some(label) = self.labels.iter().find(|l| *l != "disable") {
            return Err(Error::unsupported(format!(
                "--security-opt label={label}: SELinux labels are not supported; only label=disable is"
            )));
        }
        match &self.apparmor {
            Some(profile) if profile != "unconfined" && !host.lsms.iter().any(|l| l == "apparmor") => {
                Err(Error::unsupported(format!(
                    "--security-opt apparmor={profile}: AppArmor is not enabled on this host"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The AppArmor profile to enter; empty is none.
pub(super) fn apparmor(options: &Options, privileged: bool, host: &HostInfo) -> Result<String> {
    options.check(host)?;
    match options.apparmor.as_deref() {
        Some("unconfined") if !host.lsms.iter().any(|l| l == "apparmor") => Ok(String::new()),
        Some(profile) => Ok(profile.to_owned()),
        None if privileged => Ok(String::new()),
        None => Ok(String::new()),
    }
}

/// `NET_ADMIN`, `cap_net_admin` → `CAP_NET_ADMIN`; `ALL` stays.
///
/// # Errors
/// [`crate::Kind::Invalid`] for one that nobody knows or this host cannot give.
pub(crate) fn normalise(names: &[String], host: &HostInfo) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let full = match upper.as_str() {
            "ALL" | "CAP_ALL" => "ALL".to_owned(),
            _ if upper.starts_with("CAP_") => upper,
            _ => format!("CAP_{upper}"),
        };
        if full != "ALL" && !KNOWN.contains(&full.as_str()) {
            return Err(Error::invalid(format!("unknown capability: {name:?}")));
        }
        if full != "ALL" && !host.capabilities.is_empty() && !host.capabilities.contains(&full) {
            return Err(Error::invalid(format!(
                "capability not supported by your kernel or not available in the current environment: {full:?}"
            )));
        }
        all.push(full);
    }
    Ok(all)
}

/// What the container's processes may have at most.
///
/// # Errors
/// As [`normalise`] for those added; a dropped one need not be there.
pub(crate) fn capabilities(
    add: &[String],
    drop: &[String],
    privileged: bool,
    host: &HostInfo,
) -> Result<Vec<String>> {
    let everything = || -> Vec<String> {
        let known = KNOWN.iter().map(|c| (*c).to_owned());
        known
            .filter(|c| host.capabilities.is_empty() || host.capabilities.contains(c))
            .collect()
    };
    if privileged {
        return Ok(everything());
    }
    let add = normalise(add, host)?;
    let any_host = HostInfo::default();
    let drop = normalise(drop, &any_host)?;
    let all = |list: &[String]| list.iter().any(|c| c == "ALL");
    let mut have: Vec<String> = if all(&add) {
        everything().into_iter().filter(|c| !drop.contains(c)).collect()
    } else if all(&drop) {
        Vec::new()
    } else {
        DEFAULT
            .iter()
            .map(|c| (*c).to_owned())
            .filter(|c| !drop.contains(c))
            .collect()
    };
    for capability in add.into_iter().filter(|c| c != "ALL") {
        if !have.contains(&capability) {
            have.push(capability);
        }
    }
    Ok(have)
}

/// Bounding, permitted and effective; never inheritable or ambient (CVE-2022-24769).
pub(crate) fn sets(capabilities: &[String]) -> Capabilities {
    Capabilities {
        bounding: capabilities.to_vec(),
        effective: capabilities.to_vec(),
        permitted: capabilities.to_vec(),
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

/// Hidden and read-only paths.
pub(super) fn paths(asked: &ContainerSpec, masked: &[String]) -> (Vec<String>, Vec<String>) {
    let isolation = &asked.isolation;
    if isolation.privileged {
        return (Vec::new(), Vec::new());
    }
    let read_only = || READ_ONLY.iter().map(|p| (*p).to_owned()).collect();
    (
        isolation.masked_paths.clone().unwrap_or_else(|| masked.to_vec()),
        isolation.readonly_paths.clone().unwrap_or_else(read_only),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::host;
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn capabilities_are_tweaked_as_docker_does() {
        let count =
            |add: &[&str], drop: &[&str]| capabilities(&names(add), &names(drop), false, &host()).unwrap();
        assert_eq!(count(&[], &[]), DEFAULT);
        assert_eq!(count(&["net_admin"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(
            count(&["ALL"], &["CAP_MKNOD"]).len(),
            KNOWN.len() - 2,
            "the host lacks one, one is dropped"
        );
        assert_eq!(count(&["CAP_CHOWN"], &["KILL"]).len(), 13);
        assert!(count(&[], &["SYS_RESOURCE"]).len() == 14);
        assert_eq!(
            capabilities(&[], &names(&["ALL"]), true, &host()).unwrap().len(),
            KNOWN.len() - 1
        );
        let error = capabilities(&names(&["FLY"]), &[], false, &host())
            .unwrap_err()
            .to_string();
        assert_eq!(error, "unknown capability: \"FLY\"");
        let error = capabilities(&names(&["SYS_RESOURCE"]), &[], false, &host())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("capability not supported by your kernel"),
            "{error}"
        );
    }

    #[test]
    fn options_are_dockers() {
        let parsed = Options::parse(&names(&[
            "no-new-privileges:true",
            "seccomp=unconfined",
            "label=disable",
        ]))
        .unwrap();
        assert!(parsed.no_new_privileges && parsed.seccomp.as_deref() == Some("unconfined"));
        assert!(parsed.check(&host()).is_ok());
        for (option, text) in [
            ("nonsense", "invalid --security-opt 1: \"nonsense\""),
            ("what=ever", "invalid --security-opt 2: \"what=ever\""),
            (
                "no-new-privileges=maybe",
                "invalid --security-opt 2: \"no-new-privileges=maybe\"",
            ),
        ] {
            assert_eq!(Options::parse(&names(&[option])).unwrap_err().to_string(), text);
        }
        let error = Options::parse(&names(&["apparmor=mine"]))
            .unwrap()
            .check(&host())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "--security-opt apparmor=mine: AppArmor is not enabled on this host"
        );
    }
}
