//! `-v` spellings and `--mount` objects into mounts.

use super::super::error::{ApiError, Result};
use super::refuse;
use ferry_api::docker::mount::{BindOptions, Driver, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
use ferry_engine::containers::spec::{MountKind, MountSpec};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

fn nothing(kind: MountKind, target: &str) -> MountSpec {
    MountSpec {
        kind,
        source: String::new(),
        target: target.to_owned(),
        read_only: false,
        propagation: String::new(),
        non_recursive: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        create_source: false,
        no_copy: false,
        subpath: String::new(),
        volume_driver: String::new(),
        volume_options: Default::default(),
        volume_labels: Default::default(),
        tmpfs_size: 0,
        tmpfs_mode: 0,
        tmpfs_options: Vec::new(),
        mode: String::new(),
        from_mounts: false,
    }
}

/// At most one word of each kind, and no unknown one.
fn valid_mode(mode: &str) -> bool {
    let mut seen = [0; 5];
    if mode.is_empty() {
        return true;
    }
    for word in mode.split(',') {
        let class = match word {
            "ro" | "rw" => 0,
            "z" | "Z" => 1,
            "nocopy" => 2,
            "consistent" | "cached" | "delegated" | "default" => 3,
            _ if PROPAGATIONS.contains(&word) => 4,
            _ => return false,
        };
        seen[class] += 1;
    }
    seen.iter().all(|n| *n <= 1)
}

/// One `-v` spelling: `target`, `source:target`, `source:target:mode`.
pub fn bind(text: &str, volume_driver: &str) -> Result<MountSpec> {
    let refused = || ApiError::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        [target, mode] if valid_mode(mode) && !mode.is_empty() && target.starts_with('/') => {
            return Err(refused());
        }
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(refused()),
    };
    if (parts.len() > 1 && source.is_empty()) || target.is_empty() {
        return Err(refused());
    }
    if !valid_mode(mode) {
        return Err(ApiError::invalid(format!("invalid mode: {mode}")));
    }
    if !target.starts_with('/') {
        let why = format!("invalid mount path: '{target}' mount path must be absolute");
        return Err(refused().with(&why, "invalid mount config for type \"volume\""));
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(refused().with(
            "destination can't be '/'",
            "invalid mount config for type \"bind\"",
        ));
    }
    let kind = if source.starts_with('/') {
        MountKind::Bind
    } else {
        MountKind::Volume
    };
    let words: Vec<&str> = mode.split(',').collect();
    let mut mount = nothing(kind, target);
    mount.source = source.to_owned();
    mount.read_only = words.contains(&"ro");
    mount.mode = mode.to_owned();
    mount.no_copy = words.contains(&"nocopy");
    let propagation = words.iter().find(|w| PROPAGATIONS.contains(w));
    match kind {
        MountKind::Bind => {
            mount.create_source = true;
            mount.propagation = propagation.map_or_else(String::new, |p| (*p).to_owned());
        }
        MountKind::Volume | MountKind::Tmpfs => {
            if propagation.is_some() {
                return Err(ApiError::invalid(format!("invalid mode: {mode}")));
            }
            mount.volume_driver = volume_driver.to_owned();
        }
    }
    Ok(mount)
}

impl ApiError {
    fn with(self, why: &str, config: &str) -> Self {
        Self::invalid(format!("{}: {config}: {why}", self.message))
    }
}

/// One `--mount`.
pub fn mount(mount: Mount) -> Result<MountSpec> {
    let label = mount.kind.clone();
    convert(mount).map_err(|e| match e {
        Refusal::Reason(why) => ApiError::invalid(format!("invalid mount config for type {label:?}: {why}")),
        Refusal::Whole(e) => e,
    })
}

enum Refusal {
    Reason(String),
    Whole(ApiError),
}

fn reason<T>(why: impl Into<String>) -> std::result::Result<T, Refusal> {
    Err(Refusal::Reason(why.into()))
}

fn convert(mount: Mount) -> std::result::Result<MountSpec, Refusal> {
    #[rustfmt::skip]
    let Mount {
        kind, source, target, read_only, consistency: _means_nothing_on_linux, bind_options, volume_options,
        image_options, tmpfs_options, cluster_options,
    } = mount;
    if target.is_empty() {
        return reason("field Target must not be empty");
    }
    if target.trim_end_matches('/').is_empty() {
        return reason("destination can't be '/'");
    }
    if !target.starts_with('/') {
        return reason(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        ));
    }
    let extra = [
        (kind != "bind" && bind_options.is_some(), "BindOptions"),
        (kind != "volume" && volume_options.is_some(), "VolumeOptions"),
        (kind != "image" && image_options.is_some(), "ImageOptions"),
        (kind != "tmpfs" && tmpfs_options.is_some(), "TmpfsOptions"),
        (kind != "cluster" && cluster_options.is_some(), "ClusterOptions"),
    ];
    if let Some((_, name)) = extra.iter().find(|(wrong, _)| *wrong) {
        return reason(format!("field {name} must not be specified"));
    }
    let mut spec = match kind.as_str() {
        "bind" => bound(&source, &target, bind_options.unwrap_or_default(), read_only)?,
        "volume" => volume(&source, &target, volume_options.unwrap_or_default())?,
        "tmpfs" => tmpfs(&source, &target, tmpfs_options.unwrap_or_default())?,
        "image" => {
            let ImageOptions {
                subpath: _refused_with_the_rest,
            } = image_options.unwrap_or_default();
            return Err(Refusal::Whole(refuse(
                "mount type \"image\"",
                "images cannot be mounted into containers yet",
            )));
        }
        "cluster" => {
            return Err(Refusal::Whole(refuse(
                "mount type \"cluster\"",
                "this engine has no swarm",
            )));
        }
        "npipe" => {
            return Err(Refusal::Whole(refuse(
                "mount type \"npipe\"",
                "it exists on Windows alone",
            )));
        }
        _ => return reason("mount type unknown"),
    };
    spec.read_only = read_only;
    spec.from_mounts = true;
    Ok(spec)
}

fn bound(
    source: &str,
    target: &str,
    options: BindOptions,
    read_only: bool,
) -> std::result::Result<MountSpec, Refusal> {
    let BindOptions {
        propagation,
        non_recursive,
        create_mountpoint,
        read_only_non_recursive,
        read_only_force_recursive,
    } = options;
    if source.is_empty() {
        return reason("field Source must not be empty");
    }
    if !propagation.is_empty() && !PROPAGATIONS.contains(&propagation.as_str()) {
        return reason(format!("invalid propagation mode: {propagation}"));
    }
    if !source.starts_with('/') {
        return reason(format!(
            "invalid mount path: '{source}' mount path must be absolute"
        ));
    }
    if !read_only && (read_only_non_recursive || read_only_force_recursive) {
        let name = if read_only_non_recursive {
            "ReadOnlyNonRecursive"
        } else {
            "ReadOnlyForceRecursive"
        };
        return reason(format!("BindOptions.{name} requires ReadOnly to be set"));
    }
    if read_only_force_recursive && propagation != "rprivate" && !propagation.is_empty() {
        return reason("BindOptions.ReadOnlyForceRecursive requires Propagation to be \"rprivate\"");
    }
    let mut spec = nothing(MountKind::Bind, target);
    spec.source = source.to_owned();
    spec.propagation = propagation;
    spec.non_recursive = non_recursive;
    spec.create_source = create_mountpoint;
    spec.read_only_non_recursive = read_only_non_recursive;
    spec.read_only_force_recursive = read_only_force_recursive;
    Ok(spec)
}

fn volume(source: &str, target: &str, options: VolumeOptions) -> std::result::Result<MountSpec, Refusal> {
    let VolumeOptions {
        no_copy,
        labels,
        subpath,
        driver_config,
    } = options;
    let Driver { name, options } = driver_config.unwrap_or_default();
    if !subpath.is_empty() {
        if source.is_empty() {
            return reason("must not set Subpath when using anonymous volumes");
        }
        if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
            return reason("subpath must be a relative path within the volume");
        }
    }
    let mut spec = nothing(MountKind::Volume, target);
    spec.source = source.to_owned();
    spec.no_copy = no_copy;
    spec.subpath = subpath;
    spec.volume_driver = name;
    spec.volume_options = options.unwrap_or_default();
    spec.volume_labels = labels.unwrap_or_default();
    Ok(spec)
}

fn tmpfs(source: &str, target: &str, options: TmpfsOptions) -> std::result::Result<MountSpec, Refusal> {
    let TmpfsOptions {
        size_bytes,
        mode,
        options,
    } = options;
    if !source.is_empty() {
        return reason("field Source must not be specified");
    }
    let mut spec = nothing(MountKind::Tmpfs, target);
    spec.tmpfs_size = size_bytes;
    spec.tmpfs_mode = mode;
    for option in options.unwrap_or_default() {
        match option.as_slice() {
            [key] => spec.tmpfs_options.push(key.clone()),
            [key, value] => spec.tmpfs_options.push(format!("{key}={value}")),
            _ => return reason("invalid option array length"),
        }
    }
    Ok(spec)
}

fn some<T: Default + PartialEq>(options: T) -> Option<T> {
    (options != T::default()).then_some(options)
}

/// A `--mount`, told again as it was asked.
pub fn told(mount: &MountSpec) -> Mount {
    #[rustfmt::skip]
    let MountSpec {
        kind, source, target, read_only, propagation, non_recursive, read_only_non_recursive,
        read_only_force_recursive, create_source, no_copy, subpath, volume_driver, volume_options,
        volume_labels, tmpfs_size, tmpfs_mode, tmpfs_options, mode: _of_binds, from_mounts: _known,
    } = mount.clone();
    let map = |m: std::collections::BTreeMap<String, String>| (!m.is_empty()).then_some(m);
    let mut told = Mount {
        source,
        target,
        read_only,
        ..Mount::default()
    };
    match kind {
        MountKind::Bind => {
            told.kind = "bind".into();
            told.bind_options = some(BindOptions {
                propagation,
                non_recursive,
                create_mountpoint: create_source,
                read_only_non_recursive,
                read_only_force_recursive,
            });
        }
        MountKind::Volume => {
            told.kind = "volume".into();
            told.volume_options = some(VolumeOptions {
                no_copy,
                labels: map(volume_labels),
                subpath,
                driver_config: some(Driver {
                    name: volume_driver,
                    options: map(volume_options),
                }),
            });
        }
        MountKind::Tmpfs => {
            told.kind = "tmpfs".into();
            let options = tmpfs_options
                .iter()
                .map(|o| o.splitn(2, '=').map(str::to_owned).collect())
                .collect();
            told.tmpfs_options = some(TmpfsOptions {
                size_bytes: tmpfs_size,
                mode: tmpfs_mode,
                options: (!tmpfs_options.is_empty()).then_some(options),
            });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_read() {
        let b = bind("/a:/b:ro,z,rslave", "").unwrap();
        assert_eq!(
            (b.kind, b.source.as_str(), b.target.as_str()),
            (MountKind::Bind, "/a", "/b")
        );
        assert!(b.read_only && b.create_source);
        assert_eq!(
            (b.propagation.as_str(), b.mode.as_str()),
            ("rslave", "ro,z,rslave")
        );
        let v = bind("vol:/b:nocopy", "d").unwrap();
        assert_eq!(
            (v.kind, v.source.as_str(), v.volume_driver.as_str(), v.no_copy),
            (MountKind::Volume, "vol", "d", true)
        );
        assert_eq!(bind("/only", "").unwrap().source, "");
    }

    #[test]
    fn wrong_binds_are_refused() {
        for text in [
            "",
            ":",
            "/a:",
            ":/b",
            "/a:/b:ro:rw",
            "/a:ro",
            "/a:/b:ro,rw",
            "/a:/b:x",
            "vol:/b:shared",
            "/a:b",
            "/a:/",
        ] {
            assert!(bind(text, "").is_err(), "{text}");
        }
        assert_eq!(bind("/a:/b:x", "").unwrap_err().message, "invalid mode: x");
        assert_eq!(
            bind("/a:ro", "").unwrap_err().message,
            "invalid volume specification: '/a:ro'"
        );
    }

    #[test]
    fn mounts_are_told_again_as_asked() {
        let texts = [
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rprivate","NonRecursive":true}}"#,
            r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"Subpath":"s","DriverConfig":{"Name":"local","Options":{"o":"x"}}}}"#,
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":10,"Mode":511,"Options":[["uid","1"],["noexec"]]}}"#,
            r#"{"Type":"volume","Target":"/b"}"#,
        ];
        for text in texts {
            let wire: Mount = serde_json::from_str(text).unwrap();
            let again = told(&mount(wire).unwrap());
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
        }
    }

    #[test]
    fn wrong_mounts_are_refused() {
        let cases = [
            (
                r#"{"Type":"bind","Target":"/b"}"#,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                r#"{"Type":"volume"}"#,
                "invalid mount config for type \"volume\": field Target must not be empty",
            ),
            (
                r#"{"Type":"x","Target":"/b"}"#,
                "invalid mount config for type \"x\": mount type unknown",
            ),
            (
                r#"{"Type":"tmpfs","Source":"a","Target":"/b"}"#,
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
        ];
        for (text, want) in cases {
            let wire: Mount = serde_json::from_str(text).unwrap();
            assert_eq!(mount(wire).unwrap_err().message, want);
        }
    }
}
