//! Where Docker's words meet the domain: requests into specs, views into answers.
//!
//! Every type is taken apart without `..`, so that a new field does not compile until it is decided whether Ferry does it, tells it
//! again, or refuses it by name.

pub mod check;
pub mod create;
pub mod endpoint;
pub mod image;
pub mod inspect;
pub mod list;
pub mod mounts;
pub mod network;
pub mod resources;
pub mod stats;
pub mod system;
pub mod told;
pub mod volume;

use super::error::ApiError;

/// A field that Ferry cannot do, by name.
pub fn refuse(field: &str, why: &str) -> ApiError {
    ApiError::invalid(format!("{field} is not supported: {why}"))
}

#[cfg(test)]
mod tests {
    use super::{create, told};
    use ferry_api::docker::config::CreateRequest;
    use serde_json::{Value, json};

    /// What Docker's engine told of containers that its own command line had made.
    const RECORDED: [(&str, &str); 4] = [
        ("plain", include_str!("../../../testdata/container-plain.json")),
        ("flags", include_str!("../../../testdata/container-flags.json")),
        (
            "user-network",
            include_str!("../../../testdata/container-user-network.json"),
        ),
        ("host", include_str!("../../../testdata/container-host.json")),
    ];

    fn defaults() -> told::Defaults {
        told::Defaults {
            cgroupns: "host".into(),
            ipc: "private".into(),
            log_driver: "json-file".into(),
            runtime: "runc".into(),
            shm_size: 64 << 20,
            hostname: "vm".into(),
            oom_kill_disable: true,
        }
    }

    /// Text, so that the order of members counts too.
    fn text(value: &impl serde::Serialize) -> String {
        serde_json::to_string_pretty(value).unwrap()
    }

    /// A recorded object in the order in which it was written.
    fn member(document: &str, name: &str) -> Box<serde_json::value::RawValue> {
        let mut map: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(document).unwrap();
        map.remove(name).unwrap()
    }

    fn without_blanks(raw: &str) -> String {
        raw.lines().map(str::trim_start).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_created_from_an_inspection_is_told_again() {
        for (name, document) in RECORDED {
            let recorded: Value = serde_json::from_str(document).unwrap();
            let mut body = recorded["Config"].clone();
            body["HostConfig"] = recorded["HostConfig"].clone();
            if recorded["HostConfig"]["UTSMode"] == "host" {
                // Told, but refused when asked for.
                body["Hostname"] = json!("");
            }
            body["NetworkingConfig"] = json!({"EndpointsConfig": recorded["EndpointsConfig"]});
            let request = CreateRequest::decode(body.to_string().as_bytes()).unwrap();
            let spec = create::spec(request).unwrap_or_else(|e| panic!("{name}: {e}"));
            let id = recorded["Config"]["Hostname"].as_str().unwrap();
            for (part, got) in [
                ("Config", text(&told::config(&spec, id, &defaults()))),
                ("HostConfig", text(&told::host(&spec, &defaults()))),
            ] {
                let want = without_blanks(member(document, part).get());
                assert_eq!(without_blanks(&got), want, "{name}: {part}");
            }
        }
    }

    #[test]
    fn every_field_of_a_request_is_done_or_refused() {
        // A field that neither shows in the spec nor is refused would be passed over in silence.
        let plain = create::spec(CreateRequest::decode(br#"{"Image":"a"}"#).unwrap()).unwrap();
        let template = serde_json::to_value(CreateRequest::default()).unwrap();
        let silent = ["Consistency", "ArgsEscaped"];
        for (field, value) in template["HostConfig"].as_object().unwrap() {
            let set = sample(field, value);
            let body = json!({"Image": "a", "HostConfig": {field: set}});
            let request = CreateRequest::decode(body.to_string().as_bytes()).unwrap();
            match create::spec(request) {
                Ok(spec) => assert!(
                    spec != plain || silent.contains(&field.as_str()),
                    "HostConfig.{field} is passed over"
                ),
                Err(e) => assert!(!e.message.is_empty()),
            }
        }
        for (field, value) in template.as_object().unwrap() {
            if matches!(field.as_str(), "HostConfig" | "NetworkingConfig") {
                continue;
            }
            let mut body = json!({"Image": "a"});
            body[field] = sample(field, value);
            let request = CreateRequest::decode(body.to_string().as_bytes()).unwrap();
            let spec = create::spec(request).unwrap_or_else(|e| panic!("{field}: {e}"));
            assert!(spec != plain, "Config.{field} is passed over");
        }
    }

    /// A value that is not the default, by name where the shape needs one and else by type.
    fn sample(field: &str, default: &Value) -> Value {
        match field {
            "Binds" => json!(["/a:/b"]),
            "LogConfig" => json!({"Type": "none"}),
            "NetworkMode" => json!("host"),
            "PortBindings" => json!({"80/tcp": [{}]}),
            "RestartPolicy" => json!({"Name": "always"}),
            "ConsoleSize" => json!([1, 2]),
            "CapAdd" | "CapDrop" => json!(["KILL"]),
            "CgroupnsMode" | "IpcMode" => json!("private"),
            "PidMode" | "UTSMode" | "UsernsMode" => json!("host"),
            "BlkioWeight" | "OomScoreAdj" => json!(100),
            "BlkioWeightDevice" => json!([{"Path": "/d", "Weight": 1}]),
            "BlkioDeviceReadBps" | "BlkioDeviceWriteBps" | "BlkioDeviceReadIOps" | "BlkioDeviceWriteIOps" => {
                json!([{"Path": "/d", "Rate": 1}])
            }
            "Devices" => json!([{"PathOnHost": "/d"}]),
            "DeviceRequests" => json!([{"Count": 1}]),
            "Ulimits" => json!([{"Name": "nofile", "Hard": 1, "Soft": 1}]),
            "Memory" | "MemoryReservation" => json!(64 << 20),
            "MemorySwap" => json!(-1),
            "CpuPeriod" | "CpuQuota" => json!(5000),
            "ExtraHosts" => json!(["a:1.2.3.4"]),
            "Cmd" | "Entrypoint" | "Env" => json!(["x"]),
            "Volumes" => json!({"/v": {}}),
            "WorkingDir" => json!("/w"),
            "Image" => json!("b"),
            "Labels" => json!({"a": "b"}),
            "OomKillDisable" => json!(true),
            "MemorySwappiness" | "PidsLimit" => json!(5),
            "CpuRealtimeRuntime" => json!(1),
            _ => match default {
                Value::Bool(_) => json!(true),
                Value::Number(_) => json!(1),
                Value::String(_) => json!("x"),
                _ => json!(["x"]),
            },
        }
    }
}
