//! Older API versions, as adapters around the newest shapes. Nowhere else are versions compared.
//!
//! [`create`] lifts an old request to what the newest says; [`answers`] lowers the newest answers to what an old client
//! expects; the functions here tell which questions a version can ask.

pub mod answers;
pub mod create;

use super::version::ApiVersion;

const fn v(minor: u16) -> ApiVersion {
    ApiVersion::minor(minor)
}

/// 1.42: framed output has a content type of its own.
pub fn knows_multiplexed(version: ApiVersion) -> bool {
    version >= v(42)
}

/// 1.42: `stop` and `restart` take a signal.
pub fn knows_stop_signal(version: ApiVersion) -> bool {
    version >= v(42)
}

/// 1.42: an exec's terminal has a size from the start.
pub fn knows_console_size(version: ApiVersion) -> bool {
    version >= v(42)
}

/// 1.41: one sample of the meters without waiting for a second.
pub fn knows_one_shot(version: ApiVersion) -> bool {
    version >= v(41)
}

/// 1.42: `system df` of some kinds only.
pub fn knows_disk_usage_types(version: ApiVersion) -> bool {
    version >= v(42)
}

/// 1.52: `system df` in totals; before, lists alone.
pub fn knows_disk_usage_totals(version: ApiVersion) -> bool {
    version >= v(52)
}

/// 1.42: prune of volumes leaves named ones alone unless asked.
pub fn prunes_named_volumes(version: ApiVersion) -> bool {
    version < v(42)
}

/// 1.41: a platform at create.
pub fn knows_create_platform(version: ApiVersion) -> bool {
    version >= v(41)
}

/// 1.30: `wait` has conditions and answers its head at once.
pub fn knows_wait_condition(version: ApiVersion) -> bool {
    version >= v(30)
}

/// 1.52: events are `application/jsonl`.
pub fn events_content_type(version: ApiVersion) -> &'static str {
    if version >= v(52) {
        "application/jsonl"
    } else {
        "application/json"
    }
}

/// 1.55: an update may change disk limits.
pub fn updates_block_io(version: ApiVersion) -> bool {
    version >= v(55)
}

/// 1.40: an update may change the limit of tasks.
pub fn updates_pids(version: ApiVersion) -> bool {
    version >= v(40)
}

/// 1.48: images have manifests that can be asked for.
pub fn knows_manifests(version: ApiVersion) -> bool {
    version >= v(48)
}

/// 1.42: the list of images can count shared bytes.
pub fn knows_shared_size(version: ApiVersion) -> bool {
    version >= v(42)
}

/// 1.51: the list of images counts containers.
pub fn counts_containers(version: ApiVersion) -> bool {
    version >= v(51)
}

/// 1.54: logs as JSON documents.
pub fn knows_json_logs(version: ApiVersion) -> bool {
    version >= v(54)
}

/// 1.54: connecting to a network with a MAC address.
pub fn connects_with_mac_address(version: ApiVersion) -> bool {
    version >= v(54)
}

/// 1.48: networks without IPv4.
pub fn knows_ipv4_switch(version: ApiVersion) -> bool {
    version >= v(48)
}
