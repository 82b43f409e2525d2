//! `memory`: limits on memory and swap.
//!
//! v1 limits memory and the sum of memory and swap (`memsw`), v2 each alone; the specification speaks v1's language.

use super::stats::MemoryStats;
use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, bad_value, unsupported};
use ferry_oci::runtime::{Memory, Resources};

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Memory,
    knobs,
    write,
    stats,
};

/// v1 shows "no limit" as the greatest multiple of the page size that fits i64; page sizes go up to 64 KiB.
const V1_UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

fn knobs(resources: &Resources, version: Version) -> Result<Vec<Knob>, CgroupError> {
    let Some(memory) = &resources.memory else {
        return Ok(Vec::new());
    };
    check(memory)?;
    match version {
        Version::V1 => Ok(v1(memory)),
        Version::V2 => v2(memory),
    }
}

fn check(memory: &Memory) -> Result<(), CgroupError> {
    for (field, value) in [
        ("memory.limit", memory.limit),
        ("memory.swap", memory.swap),
        ("memory.reservation", memory.reservation),
        ("memory.kernel", memory.kernel),
        ("memory.kernelTCP", memory.kernel_tcp),
    ] {
        if let Some(value @ ..-1) = value {
            return Err(bad_value(field, value, "bytes, or -1 for no limit, are needed"));
        }
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit, memory.swap)
        && swap < limit
    {
        return Err(bad_value(
            "memory.swap",
            swap,
            format!("it counts memory too: give at least {limit}"),
        ));
    }
    if let (Some(-1), Some(swap @ 1..)) = (memory.limit, memory.swap) {
        return Err(bad_value(
            "memory.swap",
            swap,
            "a limit on swap needs a limit on memory",
        ));
    }
    match memory.swappiness {
        Some(value @ 101..) => Err(bad_value("memory.swappiness", value, "0 to 100 is needed")),
        _ => Ok(()),
    }
}

/// Zero has always meant "not given" in this part of the specification.
fn given(value: Option<i64>) -> Option<i64> {
    value.filter(|v| *v != 0)
}

fn v1(memory: &Memory) -> Vec<Knob> {
    let mut knobs = Vec::new();
    let bytes = [
        ("memory.limit", "memory.limit_in_bytes", memory.limit),
        ("memory.swap", "memory.memsw.limit_in_bytes", memory.swap),
        (
            "memory.reservation",
            "memory.soft_limit_in_bytes",
            memory.reservation,
        ),
        ("memory.kernel", "memory.kmem.limit_in_bytes", memory.kernel),
        (
            "memory.kernelTCP",
            "memory.kmem.tcp.limit_in_bytes",
            memory.kernel_tcp,
        ),
    ];
    for (field, file, value) in bytes {
        if let Some(value) = given(value) {
            knobs.push(Knob::new(field, file, value.to_string()).initial_if(value == -1));
        }
    }
    if let Some(value) = memory.swappiness {
        knobs.push(Knob::new(
            "memory.swappiness",
            "memory.swappiness",
            value.to_string(),
        ));
    }
    if let Some(disable) = memory.disable_oom_killer {
        let knob = Knob::new(
            "memory.disableOOMKiller",
            "memory.oom_control",
            u8::from(disable).to_string(),
        );
        knobs.push(knob.initial_if(!disable));
    }
    if let Some(hierarchy) = memory.use_hierarchy {
        let value = u8::from(hierarchy).to_string();
        knobs.push(Knob::new("memory.useHierarchy", "memory.use_hierarchy", value));
    }
    knobs
}

fn v2(memory: &Memory) -> Result<Vec<Knob>, CgroupError> {
    for (field, asked) in [
        ("memory.kernel", given(memory.kernel).is_some_and(|v| v > 0)),
        (
            "memory.kernelTCP",
            given(memory.kernel_tcp).is_some_and(|v| v > 0),
        ),
        ("memory.swappiness", memory.swappiness.is_some()),
        ("memory.disableOOMKiller", memory.disable_oom_killer == Some(true)),
        ("memory.useHierarchy", memory.use_hierarchy == Some(false)),
    ] {
        if asked {
            return Err(unsupported(field, "cgroup v2 has no such control"));
        }
    }
    let max = |value: i64| {
        if value == -1 {
            "max".to_owned()
        } else {
            value.to_string()
        }
    };
    let mut knobs = Vec::new();
    if let Some(limit) = given(memory.limit) {
        knobs.push(Knob::new("memory.limit", "memory.max", max(limit)).initial_if(limit == -1));
    }
    let swap = match (given(memory.limit), given(memory.swap)) {
        (Some(-1), None) | (_, Some(-1)) => Some(-1),
        (Some(limit), Some(swap)) => Some(swap - limit),
        (None, Some(swap)) => {
            return Err(bad_value(
                "memory.swap",
                swap,
                "it counts memory too: give memory.limit with it",
            ));
        }
        (_, None) => None,
    };
    if let Some(swap) = swap {
        knobs.push(Knob::new("memory.swap", "memory.swap.max", max(swap)).initial_if(swap == -1));
    }
    if let Some(low) = given(memory.reservation) {
        let value = if low == -1 {
            "max".to_owned()
        } else {
            low.to_string()
        };
        knobs.push(Knob::new("memory.reservation", "memory.low", value));
    }
    Ok(knobs)
}

fn write(dir: &Dir, version: Version, knobs: &[Knob], resources: &Resources) -> Result<(), CgroupError> {
    let memory = resources.memory.as_ref();
    if memory.is_some_and(|m| m.check_before_update == Some(true)) {
        check_usage(dir, version, memory.and_then(|m| given(m.limit)))?;
    }
    // Without swap accounting there is nothing to lift.
    let lifts_nothing = |k: &Knob| k.field == "memory.swap" && k.initial && !dir.has(&k.file);
    let knobs: Vec<Knob> = knobs.iter().filter(|k| !lifts_nothing(k)).cloned().collect();
    tree::write_all(dir, version, &knobs, resources)
}

/// v2 would kill where v1 refuses a limit below the usage; the caller asked not to.
fn check_usage(dir: &Dir, version: Version, limit: Option<i64>) -> Result<(), CgroupError> {
    let file = if version == Version::V1 {
        "memory.usage_in_bytes"
    } else {
        "memory.current"
    };
    let usage = dir.number(file)?.unwrap_or(0);
    match limit {
        Some(limit @ 1..) if usage > limit.unsigned_abs() => Err(bad_value(
            "memory.limit",
            limit,
            format!("{usage} bytes are in use: nothing was changed"),
        )),
        _ => Ok(()),
    }
}

fn stats(dir: &Dir, version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    let stat = dir.read("memory.stat")?.unwrap_or_default();
    let stat = tree::flat_keyed(&stat)
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    stats.memory = match version {
        Version::V1 => stats_v1(dir)?,
        Version::V2 => stats_v2(dir)?,
    };
    stats.memory.stat = stat;
    if version == Version::V2 {
        stats.memory.kernel = stats.memory.stat.get("kernel").copied();
    }
    stats.memory.oom_kills = super::oom::kills(dir, version)?;
    Ok(())
}

fn stats_v1(dir: &Dir) -> Result<MemoryStats, CgroupError> {
    let unlimited = |value: u64| if value >= V1_UNLIMITED { u64::MAX } else { value };
    Ok(MemoryStats {
        usage: dir.number("memory.usage_in_bytes")?.unwrap_or(0),
        max_usage: dir.number("memory.max_usage_in_bytes")?,
        limit: dir.number("memory.limit_in_bytes")?.map_or(u64::MAX, unlimited),
        failcnt: dir.number("memory.failcnt")?.unwrap_or(0),
        swap_usage: dir.number("memory.memsw.usage_in_bytes")?,
        swap_limit: dir.number("memory.memsw.limit_in_bytes")?.map(unlimited),
        swap_failcnt: dir.number("memory.memsw.failcnt")?.unwrap_or(0),
        kernel: dir.number("memory.kmem.usage_in_bytes")?,
        kernel_tcp: dir.number("memory.kmem.tcp.usage_in_bytes")?,
        ..MemoryStats::default()
    })
}

fn stats_v2(dir: &Dir) -> Result<MemoryStats, CgroupError> {
    let hits = |file| -> Result<u64, CgroupError> {
        let events = dir.read(file)?.unwrap_or_default();
        Ok(tree::flat_keyed(&events)
            .find(|(key, _)| *key == "max")
            .map_or(0, |(_, value)| value))
    };
    Ok(MemoryStats {
        usage: dir.number("memory.current")?.unwrap_or(0),
        max_usage: dir.number("memory.peak")?,
        limit: dir.number("memory.max")?.unwrap_or(u64::MAX),
        failcnt: hits("memory.events")?,
        swap_failcnt: hits("memory.swap.events")?,
        swap_usage: dir.number("memory.swap.current")?,
        swap_limit: dir.number("memory.swap.max")?,
        ..MemoryStats::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(memory: Memory, version: Version) -> Result<Vec<(String, String, bool)>, String> {
        let resources = Resources {
            memory: Some(memory),
            ..Resources::default()
        };
        let knobs = knobs(&resources, version).map_err(|e| e.to_string())?;
        Ok(knobs.into_iter().map(|k| (k.file, k.value, k.initial)).collect())
    }

    fn pair(file: &str, value: &str) -> (String, String, bool) {
        (file.into(), value.into(), false)
    }

    fn limits(limit: i64, swap: i64) -> Memory {
        Memory {
            limit: Some(limit),
            swap: Some(swap),
            ..Memory::default()
        }
    }

    #[test]
    fn v1_limits_the_sum_and_v2_swap_alone() {
        assert_eq!(
            pairs(limits(100, 300), Version::V1).unwrap(),
            [
                pair("memory.limit_in_bytes", "100"),
                pair("memory.memsw.limit_in_bytes", "300")
            ]
        );
        assert_eq!(
            pairs(limits(100, 300), Version::V2).unwrap(),
            [pair("memory.max", "100"), pair("memory.swap.max", "200")]
        );
        assert_eq!(
            pairs(limits(100, 100), Version::V2).unwrap()[1],
            pair("memory.swap.max", "0")
        );
        let unlimited = pairs(limits(100, -1), Version::V2).unwrap();
        assert_eq!(unlimited[1], ("memory.swap.max".into(), "max".into(), true));
        assert_eq!(pairs(limits(0, 0), Version::V1).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |memory, version| pairs(memory, version).unwrap_err();
        assert_eq!(
            refused(limits(100, 50), Version::V1),
            "memory.swap = 50: it counts memory too: give at least 100"
        );
        assert!(refused(limits(-1, 50), Version::V1).starts_with("memory.swap = 50: "));
        assert!(refused(limits(-2, 0), Version::V2).starts_with("memory.limit = -2: "));
        let swap_only = Memory {
            swap: Some(9),
            ..Memory::default()
        };
        assert!(refused(swap_only, Version::V2).contains("give memory.limit with it"));
        let swappy = |n| Memory {
            swappiness: Some(n),
            ..Memory::default()
        };
        assert!(refused(swappy(101), Version::V1).contains("0 to 100"));
        assert_eq!(
            refused(swappy(60), Version::V2),
            "memory.swappiness is not supported here: cgroup v2 has no such control"
        );
        let deaf = Memory {
            disable_oom_killer: Some(true),
            ..Memory::default()
        };
        assert!(refused(deaf, Version::V2).starts_with("memory.disableOOMKiller"));
        let calm = Memory {
            disable_oom_killer: Some(false),
            ..Memory::default()
        };
        assert_eq!(pairs(calm, Version::V2).unwrap(), []);
    }
}
