//! The newest answers lowered to what an older client expects.
//!
//! They work on JSON trees, whose members come out sorted by name: Docker's older shapes do, too.

use super::super::version::ApiVersion;
use super::v;
use serde_json::{Map, Value, json};

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// `GET /containers/{id}/json`.
pub fn inspect(version: ApiVersion, mut answer: Value) -> Value {
    if version < v(45) {
        short_ids_as_aliases(&mut answer);
    }
    let map = object(&mut answer);
    if version < v(48) {
        map.remove("ImageManifestDescriptor");
    }
    let bridge = map["NetworkSettings"]["Networks"].get("bridge").cloned();
    if let Some(bridge) = bridge {
        let settings = object(&mut map["NetworkSettings"]);
        for key in [
            "EndpointID",
            "Gateway",
            "GlobalIPv6Address",
            "GlobalIPv6PrefixLen",
            "IPAddress",
            "IPPrefixLen",
            "IPv6Gateway",
            "MacAddress",
        ] {
            settings.insert(key.into(), bridge.get(key).cloned().unwrap_or_default());
        }
    }
    if let Some(name) = map
        .remove("Storage")
        .and_then(|s| s["RootFS"]["Snapshot"]["Name"].as_str().map(str::to_owned))
    {
        map.insert("GraphDriver".into(), json!({"Data": null, "Name": name}));
    }
    answer
}

/// Below 1.45 an endpoint's aliases told the short id and the host name too.
fn short_ids_as_aliases(answer: &mut Value) {
    let id: String = answer["Id"].as_str().unwrap_or("").chars().take(12).collect();
    let hostname = answer["Config"]["Hostname"].as_str().unwrap_or("").to_owned();
    let Some(networks) = answer["NetworkSettings"]["Networks"].as_object_mut() else {
        return;
    };
    for (name, endpoint) in networks {
        if !super::create::is_user_defined(name) {
            continue;
        }
        let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        for more in [&id, &hostname] {
            if !aliases.iter().any(|a| a.as_str() == Some(more)) {
                aliases.push(more.as_str().into());
            }
        }
        endpoint["Aliases"] = aliases.into();
    }
}

/// `GET /containers/json`.
pub fn list(version: ApiVersion, mut answer: Value) -> Value {
    for row in answer.as_array_mut().into_iter().flatten() {
        let map = object(row);
        if version < v(46) {
            object(&mut map["HostConfig"]).remove("Annotations");
        }
        if version < v(48) {
            map.remove("ImageManifestDescriptor");
        }
        map.remove("Health");
    }
    answer
}

/// `GET /images/{name}/json`.
pub fn image(version: ApiVersion, mut answer: Value) -> Value {
    let map = object(&mut answer);
    if version < v(44) {
        map.insert("VirtualSize".into(), map["Size"].clone());
        if map.get("Created").is_none() {
            map.insert("Created".into(), "0001-01-01T00:00:00Z".into());
        }
    }
    if version < v(45) {
        map.insert("Container".into(), "".into());
        map.insert("ContainerConfig".into(), Value::Null);
    }
    if version < v(48) {
        map.remove("Descriptor");
    }
    for key in ["Parent", "Comment", "DockerVersion", "Author"] {
        map.entry(key).or_insert_with(|| "".into());
    }
    map.insert("GraphDriver".into(), json!({"Data": null, "Name": "overlayfs"}));
    let config = object(map.entry("Config").or_insert_with(|| json!({})));
    for key in ["User", "WorkingDir"] {
        config.entry(key).or_insert_with(|| "".into());
    }
    for key in ["Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"] {
        config.entry(key).or_insert(Value::Null);
    }
    if version < v(50) {
        for key in ["Hostname", "Domainname", "Image"] {
            config.entry(key).or_insert_with(|| "".into());
        }
        for key in [
            "AttachStdin",
            "AttachStdout",
            "AttachStderr",
            "Tty",
            "OpenStdin",
            "StdinOnce",
        ] {
            config.entry(key).or_insert_with(|| false.into());
        }
    }
    answer
}

/// One row of `GET /images/json`.
pub fn image_row(version: ApiVersion, row: &mut Value) {
    let map = object(row);
    if version < v(43) {
        let empty = |key: &str, map: &Map<String, Value>| map[key].as_array().is_none_or(Vec::is_empty);
        if empty("RepoTags", map) && empty("RepoDigests", map) {
            map.insert("RepoTags".into(), json!(["<none>:<none>"]));
            map.insert("RepoDigests".into(), json!(["<none>@<none>"]));
        }
    }
    if version < v(44) {
        map.insert("VirtualSize".into(), map["Size"].clone());
    }
    if version < v(48) {
        map.remove("Descriptor");
        map.remove("Manifests");
    }
    if version < v(51) {
        map.insert("Containers".into(), json!(-1));
    }
}

/// `GET /images/json`.
pub fn images(version: ApiVersion, mut answer: Value) -> Value {
    for row in answer.as_array_mut().into_iter().flatten() {
        image_row(version, row);
    }
    answer
}

/// `GET /system/df`.
pub fn disk_usage(version: ApiVersion, mut answer: Value) -> Value {
    if version < v(44) {
        for row in answer["Images"].as_array_mut().into_iter().flatten() {
            let size = row["Size"].clone();
            object(row).insert("VirtualSize".into(), size);
        }
    }
    answer
}

/// `GET /info`.
pub fn info(version: ApiVersion, mut answer: Value) -> Value {
    let map = object(&mut answer);
    if version < v(44) {
        for runtime in map["Runtimes"]
            .as_object_mut()
            .into_iter()
            .flat_map(|r| r.values_mut())
        {
            object(runtime).remove("status");
        }
    }
    if version < v(47) {
        let registry = object(&mut map["RegistryConfig"]);
        registry.insert("AllowNondistributableArtifactsCIDRs".into(), Value::Null);
        registry.insert("AllowNondistributableArtifactsHostnames".into(), Value::Null);
    }
    if version < v(49) {
        map.remove("FirewallBackend");
        for key in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            let commit = object(&mut map[key]);
            commit.insert("Expected".into(), commit["ID"].clone());
        }
    }
    if version < v(50) {
        map.insert("BridgeNfIptables".into(), false.into());
        map.insert("BridgeNfIp6tables".into(), false.into());
    }
    answer
}

/// `GET /networks/{id}`.
pub fn network(mut answer: Value) -> Value {
    object(&mut answer).remove("Status");
    answer
}

/// One event: older clients read `status`, `id` and `from`.
pub fn event(mut answer: Value) -> Value {
    let map = object(&mut answer);
    let (kind, action) = (map["Type"].clone(), map["Action"].clone());
    if kind == "container" {
        map.insert(
            "from".into(),
            map["Actor"]["Attributes"]
                .get("image")
                .cloned()
                .unwrap_or_default(),
        );
    }
    if kind == "container" || kind == "image" {
        map.insert("status".into(), action);
        map.insert("id".into(), map["Actor"]["ID"].clone());
    }
    answer
}

/// Whether events have the older members.
pub fn lowers_events(version: ApiVersion) -> bool {
    version < v(52)
}

/// Whether an answer of containers, images or networks has to be lowered at all.
pub fn is_old(version: ApiVersion) -> bool {
    version < v(52)
}

/// 1.46: creation of an image is an event.
pub fn skips_event(version: ApiVersion, kind: &str, action: &str) -> bool {
    version < v(46) && kind == "image" && action == "create"
}

/// One sample of the meters.
pub fn names_os_type(version: ApiVersion) -> bool {
    version >= v(51)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_inspect_has_the_bridge_at_the_top() {
        let new = json!({"Id": "0123456789abcdef", "Config": {"Hostname": "h"}, "ImageManifestDescriptor": {},
            "Storage": {"RootFS": {"Snapshot": {"Name": "overlayfs"}}},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "1.2.3.4"}, "n": {"Aliases": ["a"]}}}});
        let old = inspect(v(44), new.clone());
        assert_eq!(old["NetworkSettings"]["IPAddress"], "1.2.3.4");
        assert_eq!(old["GraphDriver"]["Name"], "overlayfs");
        assert_eq!(
            old["NetworkSettings"]["Networks"]["n"]["Aliases"],
            json!(["a", "0123456789ab", "h"])
        );
        assert!(old.get("ImageManifestDescriptor").is_none() && old.get("Storage").is_none());
        let newer = inspect(v(51), new);
        assert!(newer.get("ImageManifestDescriptor").is_some());
        assert_eq!(newer["NetworkSettings"]["Networks"]["n"]["Aliases"], json!(["a"]));
    }

    #[test]
    fn old_images_have_what_was_cut() {
        let new = json!({"Size": 7, "Config": {"Cmd": ["a"]}, "Descriptor": {}});
        let old = image(v(43), new.clone());
        assert_eq!(
            (&old["VirtualSize"], &old["Container"], &old["Author"]),
            (&json!(7), &json!(""), &json!(""))
        );
        assert_eq!(
            (&old["Config"]["Env"], &old["Config"]["Cmd"]),
            (&Value::Null, &json!(["a"]))
        );
        let newer = image(v(51), new);
        assert!(newer.get("VirtualSize").is_none() && newer["Config"].get("Hostname").is_none());
        assert_eq!(newer["Config"].get("Env"), Some(&Value::Null));
        let mut row = json!({"Size": 7, "RepoTags": [], "RepoDigests": []});
        image_row(v(42), &mut row);
        assert_eq!(row["RepoTags"], json!(["<none>:<none>"]));
    }

    #[test]
    fn old_events_have_their_members() {
        let new =
            json!({"Type": "container", "Action": "die", "Actor": {"ID": "i", "Attributes": {"image": "b"}}});
        let old = event(new);
        assert_eq!(
            (&old["status"], &old["id"], &old["from"]),
            (&json!("die"), &json!("i"), &json!("b"))
        );
        assert!(
            event(json!({"Type": "network", "Action": "x", "Actor": {"ID": "i"}}))
                .get("status")
                .is_none()
        );
    }
}
