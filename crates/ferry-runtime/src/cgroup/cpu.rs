//! `cpu` and `cpuacct`: processor time, limited and metered.

use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, bad_value, unsupported};
use ferry_oci::runtime::{Cpu, Resources};

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Cpu,
    knobs,
    write,
    stats: throttling,
};
pub(super) const ACCOUNTING: ControllerRow = ControllerRow {
    controller: Controller::Cpuacct,
    knobs: |_, _| Ok(Vec::new()),
    write: tree::write_all,
    stats: usage,
};

/// The bounds of v1's `cpu.shares`, which the kernel enforces silently (kernel/sched/sched.h, MIN_SHARES and MAX_SHARES).
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// What `cpu.shares` and `cpu.weight` are in a new cgroup.
const INITIAL_SHARES: u64 = 1024;
/// Stands in `cpu.max` for the quota that is there already.
const KEEP: &str = "keep";

fn knobs(resources: &Resources, version: Version) -> Result<Vec<Knob>, CgroupError> {
    let Some(cpu) = &resources.cpu else {
        return Ok(Vec::new());
    };
    if let Some(shares) = cpu.shares.filter(|s| *s != 0)
        && !SHARES.contains(&shares)
    {
        return Err(bad_value("cpu.shares", shares, "2 to 262144 is needed"));
    }
    if let Some(idle) = cpu.idle
        && !(0..=1).contains(&idle)
    {
        return Err(bad_value("cpu.idle", idle, "0 or 1 is needed"));
    }
    if let Some(quota @ ..-1) = cpu.quota {
        return Err(bad_value(
            "cpu.quota",
            quota,
            "microseconds, or -1 for no limit, are needed",
        ));
    }
    match version {
        Version::V1 => Ok(v1(cpu)),
        Version::V2 => v2(cpu),
    }
}

fn v1(cpu: &Cpu) -> Vec<Knob> {
    let mut knobs = Vec::new();
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        let knob = Knob::new("cpu.shares", "cpu.shares", shares.to_string());
        knobs.push(knob.initial_if(shares == INITIAL_SHARES));
    }
    if let Some(period) = cpu.period.filter(|p| *p != 0) {
        let knob = Knob::new("cpu.period", "cpu.cfs_period_us", period.to_string());
        knobs.push(knob.initial_if(period == 100_000));
    }
    if let Some(quota) = cpu.quota.filter(|q| *q != 0) {
        let knob = Knob::new("cpu.quota", "cpu.cfs_quota_us", quota.to_string());
        knobs.push(knob.initial_if(quota == -1));
    }
    if let Some(burst) = cpu.burst {
        let knob = Knob::new("cpu.burst", "cpu.cfs_burst_us", burst.to_string());
        knobs.push(knob.initial_if(burst == 0));
    }
    if let Some(period) = cpu.realtime_period.filter(|p| *p != 0) {
        knobs.push(Knob::new(
            "cpu.realtimePeriod",
            "cpu.rt_period_us",
            period.to_string(),
        ));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|r| *r != 0) {
        knobs.push(Knob::new(
            "cpu.realtimeRuntime",
            "cpu.rt_runtime_us",
            runtime.to_string(),
        ));
    }
    if let Some(idle) = cpu.idle {
        knobs.push(Knob::new("cpu.idle", "cpu.idle", idle.to_string()).initial_if(idle == 0));
    }
    knobs
}

fn v2(cpu: &Cpu) -> Result<Vec<Knob>, CgroupError> {
    if cpu.realtime_period.unwrap_or(0) != 0 || cpu.realtime_runtime.unwrap_or(0) != 0 {
        return Err(unsupported(
            "cpu.realtimeRuntime",
            "cgroup v2 has no such control",
        ));
    }
    let mut knobs = Vec::new();
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        let knob = Knob::new("cpu.shares", "cpu.weight", weight(shares).to_string());
        knobs.push(knob.initial_if(shares == INITIAL_SHARES));
    }
    let period = cpu
        .period
        .filter(|p| *p != 0)
        .map(|p| format!(" {p}"))
        .unwrap_or_default();
    let quota = match cpu.quota.filter(|q| *q != 0) {
        Some(-1) => Some("max".to_owned()),
        Some(quota) => Some(quota.to_string()),
        None if period.is_empty() => None,
        None => Some(KEEP.to_owned()),
    };
    if let Some(quota) = quota {
        let initial = quota == "max" && matches!(cpu.period, None | Some(0 | 100_000));
        knobs.push(Knob::new("cpu.quota", "cpu.max", quota + &period).initial_if(initial));
    }
    if let Some(burst) = cpu.burst {
        let knob = Knob::new("cpu.burst", "cpu.max.burst", burst.to_string());
        knobs.push(knob.initial_if(burst == 0));
    }
    if let Some(idle) = cpu.idle {
        knobs.push(Knob::new("cpu.idle", "cpu.idle", idle.to_string()).initial_if(idle == 0));
    }
    Ok(knobs)
}

/// v1's shares as v2's weight: the curve through (2, 1), (1024, 100) and (262144, 10000) that container runtimes agreed on,
/// `10^((l² + 125 l) / 612 − 7/34)` with `l = log2(shares)`, so that both defaults meet.
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        _ => {}
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

fn write(dir: &Dir, version: Version, knobs: &[Knob], resources: &Resources) -> Result<(), CgroupError> {
    let mut knobs = knobs.to_vec();
    for knob in &mut knobs {
        if let Some(period) = knob.value.strip_prefix(KEEP) {
            let text = dir.read(&knob.file)?.unwrap_or_default();
            let quota = text.split_ascii_whitespace().next().unwrap_or("max");
            knob.value = format!("{quota}{period}");
        }
    }
    tree::write_all(dir, version, &knobs, resources)
}

fn throttling(dir: &Dir, version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    let text = dir.read("cpu.stat")?.unwrap_or_default();
    let cpu = &mut stats.cpu;
    for (key, value) in tree::flat_keyed(&text) {
        match (key, version) {
            ("nr_periods", _) => cpu.periods = value,
            ("nr_throttled", _) => cpu.throttled_periods = value,
            ("throttled_time", Version::V1) => cpu.throttled = value,
            ("throttled_usec", Version::V2) => cpu.throttled = value.saturating_mul(1000),
            ("nr_bursts", _) => cpu.burst_periods = value,
            ("burst_time", Version::V1) => cpu.burst = value,
            ("burst_usec", Version::V2) => cpu.burst = value.saturating_mul(1000),
            _ => {}
        }
    }
    Ok(())
}

fn usage(dir: &Dir, version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    if version == Version::V2 {
        let text = dir.read("cpu.stat")?.unwrap_or_default();
        for (key, value) in tree::flat_keyed(&text) {
            let nanoseconds = value.saturating_mul(1000);
            match key {
                "usage_usec" => stats.cpu.total = nanoseconds,
                "user_usec" => stats.cpu.user = nanoseconds,
                "system_usec" => stats.cpu.system = nanoseconds,
                _ => {}
            }
        }
        return Ok(());
    }
    stats.cpu.total = dir.number("cpuacct.usage")?.unwrap_or(0);
    let text = dir.read("cpuacct.usage_percpu")?.unwrap_or_default();
    stats.cpu.per_cpu = text.split_ascii_whitespace().filter_map(tree::number).collect();
    let text = dir.read("cpuacct.stat")?.unwrap_or_default();
    // In clock ticks, of which user space always sees 100 a second (include/asm-generic/param.h, USER_HZ).
    for (key, ticks) in tree::flat_keyed(&text) {
        let nanoseconds = ticks.saturating_mul(10_000_000);
        match key {
            "user" => stats.cpu.user = nanoseconds,
            "system" => stats.cpu.system = nanoseconds,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(cpu: Cpu, version: Version) -> Result<Vec<String>, String> {
        let resources = Resources {
            cpu: Some(cpu),
            ..Resources::default()
        };
        let knobs = knobs(&resources, version).map_err(|e| e.to_string())?;
        let line = |k: &Knob| {
            format!(
                "{} {}{}",
                k.file,
                k.value,
                if k.initial { " initial" } else { "" }
            )
        };
        Ok(knobs.iter().map(line).collect())
    }

    #[test]
    fn both_versions() {
        let cpu = Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(200_000),
            burst: Some(0),
            idle: Some(1),
            ..Cpu::default()
        };
        assert_eq!(
            lines(cpu.clone(), Version::V1).unwrap(),
            [
                "cpu.shares 512",
                "cpu.cfs_period_us 200000",
                "cpu.cfs_quota_us 50000",
                "cpu.cfs_burst_us 0 initial",
                "cpu.idle 1"
            ]
        );
        assert_eq!(
            lines(cpu, Version::V2).unwrap(),
            [
                "cpu.weight 59",
                "cpu.max 50000 200000",
                "cpu.max.burst 0 initial",
                "cpu.idle 1"
            ]
        );
        let none = Cpu {
            quota: Some(-1),
            shares: Some(1024),
            ..Cpu::default()
        };
        assert_eq!(
            lines(none, Version::V2).unwrap(),
            ["cpu.weight 100 initial", "cpu.max max initial"]
        );
    }

    #[test]
    fn a_period_alone_keeps_the_quota() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("cpu.max"), "30000 100000\n").unwrap();
        let root = rustix::fs::open(
            temp.path(),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let dir = Dir::open(std::os::fd::AsFd::as_fd(&root), "", "/g".into()).unwrap();
        let cpu = Cpu {
            period: Some(50_000),
            ..Cpu::default()
        };
        let resources = Resources {
            cpu: Some(cpu),
            ..Resources::default()
        };
        let knobs = knobs(&resources, Version::V2).unwrap();
        write(&dir, Version::V2, &knobs, &resources).unwrap();
        let text = std::fs::read_to_string(temp.path().join("cpu.max")).unwrap();
        assert!(text.starts_with("30000 50000"), "{text}");
    }

    #[test]
    fn weights_meet_at_the_ends_and_the_default() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
        let mut last = 0;
        for shares in 2..5000 {
            assert!(weight(shares) >= last);
            last = weight(shares);
        }
    }

    #[test]
    fn refused() {
        let refused = |cpu, version| lines(cpu, version).unwrap_err();
        assert_eq!(
            refused(
                Cpu {
                    shares: Some(1),
                    ..Cpu::default()
                },
                Version::V1
            ),
            "cpu.shares = 1: 2 to 262144 is needed"
        );
        assert!(
            refused(
                Cpu {
                    idle: Some(2),
                    ..Cpu::default()
                },
                Version::V1
            )
            .starts_with("cpu.idle = 2")
        );
        let realtime = Cpu {
            realtime_runtime: Some(5),
            ..Cpu::default()
        };
        assert!(refused(realtime, Version::V2).starts_with("cpu.realtimeRuntime is not supported"));
    }
}
