//! Docker's profile format: the specification's model with conditions on capabilities, architecture and kernel.

use super::arch::Architecture;
use super::default_rows::{ROWS, Row};
use super::{SeccompError, bad};
use ferry_oci::runtime::{Seccomp, Syscall, SyscallArg};
use serde::{Deserialize, Deserializer};

/// What conditions are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The machine's architecture.
    pub arch: Architecture,
    /// The kernel's version and major revision, `(6, 18)`.
    pub kernel: (u32, u32),
}

impl Facts {
    /// Those of this machine; `None` on an architecture whose calls are not known.
    pub fn detect() -> Option<Facts> {
        let name = rustix::system::uname();
        let kernel = parse_version(&name.release().to_string_lossy()).unwrap_or((0, 0));
        Some(Facts {
            arch: Architecture::native()?,
            kernel,
        })
    }
}

/// The first two numbers of `6.18.44-amd64`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let (version, rest) = release.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((version.parse().ok()?, rest[..digits].parse().ok()?))
}

/// When a rule counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    #[serde(deserialize_with = "null_default")]
    caps: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    arches: Vec<String>,
    #[serde(rename = "minKernel")]
    min_kernel: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerProfile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_default")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    arch_map: Vec<ArchitectureFamily>,
    #[serde(deserialize_with = "null_default")]
    flags: Vec<String>,
    listener_path: String,
    listener_metadata: String,
    #[serde(deserialize_with = "null_default")]
    syscalls: Vec<DockerRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ArchitectureFamily {
    architecture: String,
    #[serde(deserialize_with = "null_default")]
    sub_architectures: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerRule {
    name: String,
    #[serde(deserialize_with = "null_default")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_default")]
    args: Vec<SyscallArg>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Docker's default profile for a container with these capabilities (its bounding set, `CAP_…`).
pub fn default_profile(capabilities: &[String], facts: &Facts) -> Seccomp {
    let has = |cap: &str| capabilities.iter().any(|held| held == cap);
    let counts = |row: &&Row| {
        let arch = facts.arch.docker_name();
        (row.arches.is_empty() || row.arches.contains(&arch))
            && !row.not_arches.contains(&arch)
            && row.caps.iter().all(|cap| has(cap))
            && !row.not_caps.iter().any(|cap| has(cap))
            && facts.kernel >= row.kernel
    };
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(1),
        architectures: facts
            .arch
            .family()
            .iter()
            .map(|arch| arch.name().to_owned())
            .collect(),
        syscalls: ROWS.iter().filter(counts).map(Row::rule).collect(),
        ..Seccomp::default()
    }
}

/// A profile as `--security-opt seccomp=FILE` takes it, for a container with these capabilities (its bounding set).
///
/// A profile without default action and rules filters nothing, as Docker has it: `Ok(None)`.
///
/// # Errors
/// Bad JSON, contradictory fields, a bad kernel version. Actions and names are judged by `compile`.
pub fn parse_docker_profile(
    json: &[u8],
    capabilities: &[String],
    facts: &Facts,
) -> Result<Option<Seccomp>, SeccompError> {
    let profile: DockerProfile = serde_json::from_slice(json).map_err(SeccompError::Parse)?;
    if profile.default_action.is_empty() && profile.syscalls.is_empty() {
        return Ok(None);
    }
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        let reason = "use either 'architectures' or 'archMap', not both";
        return Err(bad("archMap", profile.architectures.join(","), reason));
    }
    let mut architectures = profile.architectures;
    if let Some(family) = profile
        .arch_map
        .into_iter()
        .find(|f| f.architecture == facts.arch.name())
    {
        architectures.push(family.architecture);
        architectures.extend(family.sub_architectures);
    }
    let mut syscalls = Vec::with_capacity(profile.syscalls.len());
    for rule in profile.syscalls {
        syscalls.extend(resolve(rule, capabilities, facts)?);
    }
    Ok(Some(Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

/// The rule without its conditions, if they hold.
fn resolve(
    rule: DockerRule,
    capabilities: &[String],
    facts: &Facts,
) -> Result<Option<Syscall>, SeccompError> {
    let DockerRule {
        name,
        mut names,
        action,
        errno_ret,
        args,
        includes,
        excludes,
    } = rule;
    if !name.is_empty() {
        if !names.is_empty() {
            return Err(bad(
                "syscalls.name",
                name,
                "use either 'name' or 'names', not both",
            ));
        }
        names = vec![name];
    }
    let arch = facts.arch.docker_name();
    if let Some(out) = excludes {
        let kernel = out.kernel()?.is_some_and(|least| facts.kernel >= least);
        if kernel
            || out.arches.iter().any(|a| a == arch)
            || out.caps.iter().any(|cap| capabilities.contains(cap))
        {
            return Ok(None);
        }
    }
    if let Some(only) = includes {
        let kernel = only.kernel()?.is_none_or(|least| facts.kernel >= least);
        let arches = only.arches.is_empty() || only.arches.iter().any(|a| a == arch);
        if !kernel || !arches || !only.caps.iter().all(|cap| capabilities.contains(cap)) {
            return Ok(None);
        }
    }
    Ok(Some(Syscall {
        names,
        action,
        errno_ret,
        args,
    }))
}

impl Conditions {
    fn kernel(&self) -> Result<Option<(u32, u32)>, SeccompError> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let parsed = text.split_once('.').and_then(|(kernel, major)| {
            Some((
                u32::from(kernel.parse::<u8>().ok()?),
                u32::from(major.parse::<u8>().ok()?),
            ))
        });
        match parsed {
            Some((0, 0)) | None => Err(bad("minKernel", text, "\"<kernel>.<major>\" is expected")),
            least => Ok(least),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        arch: Architecture::X86_64,
        kernel: (6, 1),
    };

    fn parse(json: &str, caps: &[&str]) -> Result<Vec<String>, String> {
        let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
        let profile = parse_docker_profile(json.as_bytes(), &caps, &FACTS).map_err(|e| e.to_string())?;
        Ok(profile
            .unwrap_or_default()
            .syscalls
            .into_iter()
            .flat_map(|rule| rule.names)
            .collect())
    }

    #[test]
    fn conditions() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"name":"one","action":"SCMP_ACT_ALLOW"},
            {"names":["two"],"includes":{"caps":["CAP_A","CAP_B"]}},
            {"names":["three"],"excludes":{"caps":["CAP_A","CAP_C"]}},
            {"names":["four"],"includes":{"arches":["arm64"]}},
            {"names":["five"],"includes":{"minKernel":"6.2"}},
            {"names":["six"],"excludes":{"minKernel":"4.8"},"args":null}]}"#;
        assert_eq!(parse(json, &[]).unwrap(), ["one", "three"]);
        assert_eq!(parse(json, &["CAP_A", "CAP_B"]).unwrap(), ["one", "two"]);
    }

    #[test]
    fn contradictions_are_named() {
        let refused = |json: &str| parse(json, &[]).unwrap_err();
        assert!(refused("{").starts_with("decoding the seccomp profile failed: "));
        let both = r#"{"defaultAction":"x","architectures":["a"],"archMap":[{"architecture":"b"}]}"#;
        assert!(refused(both).contains("not both"));
        let names = r#"{"syscalls":[{"name":"a","names":["b"]}]}"#;
        assert!(refused(names).contains("either 'name' or 'names'"));
        let kernel = r#"{"syscalls":[{"name":"a","includes":{"minKernel":"6"}}]}"#;
        assert!(refused(kernel).contains("minKernel"));
        assert_eq!(parse("{}", &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn the_architecture_family_is_the_machines() {
        let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
            {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}]}"#;
        let profile = parse_docker_profile(json, &[], &FACTS).unwrap().unwrap();
        assert_eq!(
            profile.architectures,
            ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        );
        assert_eq!(default_profile(&[], &FACTS).architectures, profile.architectures);
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(parse_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse_version("3.12-1-amd64"), Some((3, 12)));
        assert_eq!(parse_version("linux"), None);
    }
}
