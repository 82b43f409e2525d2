//! `--mount`: comma-separated `key=value` fields, quoted as in CSV.

use crate::cli::output::{quote, units};
use serde_json::{Map, Value, json};

/// Validation only; the text itself is kept, since several mounts are converted together.
pub(crate) fn check(text: &str) -> Result<String, String> {
    parse(text).map(|_| text.to_owned())
}

/// The request's form of one mount.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".into());
    }
    let mut mount = Map::new();
    mount.insert("Type".into(), json!("volume"));
    for field in split_csv(text)? {
        let (key, value) = split_field(&field)?;
        set(&mut mount, &key, value.as_deref(), &field)?;
    }
    validate(&mount)?;
    Ok(Value::Object(mount))
}

/// Fields of one CSV record (RFC 4180).
pub(crate) fn split_csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if let Some(at) = rest[..end].find('"') {
                    let column = text.len() - rest.len() + at + 1;
                    return Err(format!(
                        "parse error on line 1, column {column}: bare \" in non-quoted-field"
                    ));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

fn take_quoted(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest
            .find('"')
            .ok_or("parse error on line 1: extraneous or missing \" in quoted-field")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if rest.is_empty() || rest.starts_with(',') => return Ok((field, rest)),
            None => return Err("parse error on line 1: extraneous or missing \" in quoted-field".into()),
        }
    }
}

fn split_field(field: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (field, None),
    };
    if key.trim() != key {
        return Err(format!(
            "invalid option '{}' in '{field}': option should not have whitespace",
            key.trim()
        ));
    }
    if let Some(value) = value {
        if value.trim().is_empty() {
            return Err(format!("invalid value for '{key}': value is empty"));
        }
        if value.trim() != value {
            return Err(format!(
                "invalid value for '{key}' in '{field}': value should not have whitespace"
            ));
        }
    }
    let key = key.to_lowercase();
    let alone = [
        "readonly",
        "ro",
        "volume-nocopy",
        "bind-nonrecursive",
        "bind-create-src",
    ];
    if value.is_none() && !alone.contains(&key.as_str()) {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    }
    Ok((key, value.map(str::to_owned)))
}

fn set(mount: &mut Map<String, Value>, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let text = value.unwrap_or_default();
    let bad = || format!("invalid value for {key}: {text}");
    match key {
        "type" => put(mount, &["Type"], json!(text.to_lowercase())),
        "source" | "src" => put(mount, &["Source"], json!(absolute(text))),
        "target" | "dst" | "destination" => put(mount, &["Target"], json!(text)),
        "readonly" | "ro" => put(mount, &["ReadOnly"], json!(boolean(key, value)?)),
        "consistency" => put(mount, &["Consistency"], json!(text.to_lowercase())),
        "bind-propagation" => put(mount, &["BindOptions", "Propagation"], json!(text.to_lowercase())),
        "bind-nonrecursive" => {
            return Err("bind-nonrecursive is deprecated, use bind-recursive=disabled instead".into());
        }
        "bind-recursive" => match text {
            "enabled" => {}
            "disabled" => put(mount, &["BindOptions", "NonRecursive"], json!(true)),
            "writable" => put(mount, &["BindOptions", "ReadOnlyNonRecursive"], json!(true)),
            "readonly" => put(mount, &["BindOptions", "ReadOnlyForceRecursive"], json!(true)),
            _ => {
                return Err(format!(
                    "invalid value for {key}: {text} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "bind-create-src" => put(
            mount,
            &["BindOptions", "CreateMountpoint"],
            json!(boolean(key, value)?),
        ),
        "volume-subpath" => put(mount, &["VolumeOptions", "Subpath"], json!(text)),
        "volume-nocopy" => put(mount, &["VolumeOptions", "NoCopy"], json!(boolean(key, value)?)),
        "volume-label" => put_pair(mount, &["VolumeOptions", "Labels"], text),
        "volume-driver" => put(mount, &["VolumeOptions", "DriverConfig", "Name"], json!(text)),
        "volume-opt" => put_pair(mount, &["VolumeOptions", "DriverConfig", "Options"], text),
        "image-subpath" => put(mount, &["ImageOptions", "Subpath"], json!(text)),
        "tmpfs-size" => {
            put(
                mount,
                &["TmpfsOptions", "SizeBytes"],
                json!(units::ram_in_bytes(text).map_err(|_| bad())?),
            );
        }
        "tmpfs-mode" => {
            put(
                mount,
                &["TmpfsOptions", "Mode"],
                json!(u32::from_str_radix(text, 8).map_err(|_| bad())?),
            );
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn absolute(path: &str) -> String {
    if path.starts_with('.')
        && let Ok(full) = std::path::absolute(path)
    {
        return super::values::clean(&full.to_string_lossy());
    }
    path.to_owned()
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(other) => Err(format!(
            "invalid value for '{key}': invalid boolean value ({}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
            quote(other)
        )),
    }
}

fn put(map: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [key] => {
            map.insert((*key).into(), value);
        }
        [key, rest @ ..] => {
            if let Value::Object(inner) = map.entry(*key).or_insert_with(|| json!({})) {
                put(inner, rest, value);
            }
        }
        [] => {}
    }
}

fn put_pair(map: &mut Map<String, Value>, path: &[&str], pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let full: Vec<&str> = path.iter().copied().chain([key]).collect();
    put(
        map,
        if key.is_empty() { path } else { &full },
        if key.is_empty() { json!({}) } else { json!(value) },
    );
}

fn validate(mount: &Map<String, Value>) -> Result<(), String> {
    let kind = mount["Type"].as_str().unwrap_or_default();
    if kind.is_empty() {
        return Err("type is required".into());
    }
    if !mount.contains_key("Target") {
        return Err("target is required".into());
    }
    for (key, owner) in [
        ("BindOptions", "bind"),
        ("VolumeOptions", "volume"),
        ("ImageOptions", "image"),
        ("TmpfsOptions", "tmpfs"),
    ] {
        if mount.contains_key(key) && kind != owner {
            return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}'"));
        }
    }
    let bind = |key: &str| mount.get("BindOptions").and_then(|b| b.get(key));
    let readonly = mount.get("ReadOnly") == Some(&json!(true));
    if bind("ReadOnlyNonRecursive").is_some() && !readonly {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".into(),
        );
    }
    if bind("ReadOnlyForceRecursive").is_some() {
        if !readonly {
            return Err(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".into(),
            );
        }
        if bind("Propagation") != Some(&json!("rprivate")) {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".into()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        for (text, want) in [
            (
                "type=bind,src=/a,dst=/b,ro",
                json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}),
            ),
            (
                "src=data,target=/b",
                json!({"Type": "volume", "Source": "data", "Target": "/b"}),
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
                json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 1023}}),
            ),
            (
                "dst=/v,\"volume-opt=o=addr=1,rw\",volume-driver=local",
                json!({"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"o": "addr=1,rw"}}}}),
            ),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=rslave,readonly=false",
                json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": false, "BindOptions": {"Propagation": "rslave"}}),
            ),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refused_forms() {
        for (text, want) in [
            ("", "value is empty"),
            ("type", "invalid field 'type' must be a key=value pair"),
            ("nope=1", "unknown option 'nope' in 'nope=1'"),
            ("src=", "invalid value for 'src': value is empty"),
            (
                "type=bind,dst=/a,tmpfs-size=1",
                "cannot mix 'tmpfs-*' options with mount type 'bind'",
            ),
            (
                "type=tmpfs,dst=/a,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
            (
                "dst=/a,ro=maybe",
                "invalid value for 'ro': invalid boolean value (\"maybe\"): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
    }
}
