//! What Docker's engine answered, read into the types and written again: the same bytes, so the same members in the same order.
//!
//! Numbers above 2^53 went through a tool that rounds, so that samples without them are compared.

use ferry_api::docker::{container, decode, events, exec, image, network, stats, system, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn same<T: DeserializeOwned + Serialize>(name: &str, text: &str) {
    let value: T = decode::from_slice(text.as_bytes(), name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let again = serde_json::to_string(&value).unwrap();
    if again == text.trim_end() {
        return;
    }
    let at = again
        .bytes()
        .zip(text.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let around = |s: &str| {
        s.get(at.saturating_sub(120)..s.len().min(at + 120))
            .unwrap_or(s)
            .to_owned()
    };
    panic!(
        "{name} differs at byte {at}\nours:   {}\nDocker: {}",
        around(&again),
        around(text)
    );
}

macro_rules! samples {
    ($($test:ident $kind:ty: $($file:literal),*;)*) => {
        $(#[test]
        fn $test() {
            $(same::<$kind>($file, include_str!(concat!("../testdata/", $file, ".json")));)*
        })*
    };
}

samples! {
    containers_are_inspected container::Inspect: "container-inspect", "container-exited";
    containers_are_listed Vec<container::Summary>: "container-list";
    processes_are_listed container::Top: "top";
    changes_are_listed Vec<container::Change>: "changes";
    waits_end container::WaitResponse: "wait";
    execs_are_inspected exec::ExecInspect: "exec-inspect";
    meters_are_read stats::Stats: "stats", "stats-stopped";
    images_are_inspected image::Inspect: "image-inspect";
    images_are_listed Vec<image::Summary>: "image-list", "image-list-manifests";
    history_is_told Vec<image::HistoryItem>: "image-history";
    volumes_are_listed volume::VolumeList: "volume-list";
    networks_are_listed Vec<network::Network>: "network-list";
    the_engine_tells_of_itself system::Info: "info";
    the_engine_tells_its_version system::Version: "version";
}

#[test]
fn networks_are_inspected() {
    let text = include_str!("../testdata/network-inspect.json");
    let value: network::NetworkInspect = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&value).unwrap(), text.trim_end());
}

#[test]
fn disk_usage_is_told() {
    let text = include_str!("../testdata/disk-usage.json");
    let value: system::DiskUsage = serde_json::from_str(text).unwrap();
    assert!(serde_json::to_string(&value).unwrap() == text.trim_end());
    let text = include_str!("../testdata/disk-usage-verbose.json");
    let mut value: system::DiskUsage = serde_json::from_str(text).unwrap();
    // Reading cannot tell empty lists from none.
    value.legacy = None;
    assert!(serde_json::to_string(&value).unwrap() == text.trim_end());
}

#[test]
fn events_are_told() {
    for line in include_str!("../testdata/events.jsonl").lines() {
        same::<events::Message>("event", line);
    }
}
