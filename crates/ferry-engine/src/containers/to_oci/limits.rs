//! Limits of the cgroup and of processes.

use crate::containers::spec::{Resources, Ulimit};
use crate::{Error, Result};
use ferry_oci::runtime as oci;
use std::collections::BTreeMap;

/// The period that `--cpus` is counted in, µs.
const CPU_PERIOD: i64 = 100_000;

/// Limits that setrlimit(2) knows.
const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Major and minor numbers of block devices, by path.
pub(crate) type BlockDevices = BTreeMap<String, (i64, i64)>;

/// Limits without the device rules.
pub(crate) fn resources(asked: &Resources, block: &BlockDevices) -> oci::Resources {
    let Resources {
        memory: _,
        memory_reservation: _,
        memory_swap: _,
        memory_swappiness: _,
        oom_kill_disable: _,
        nano_cpus: _,
        cpu_shares: _,
        cpu_period: _,
        cpu_quota: _,
        cpu_realtime_period: _,
        cpu_realtime_runtime: _,
        cpuset_cpus: _,
        cpuset_mems: _,
        pids_limit,
        blkio_weight: _,
        blkio_weight_device: _,
        blkio_read_bps: _,
        blkio_write_bps: _,
        blkio_read_iops: _,
        blkio_write_iops: _,
        ulimits: _,
        devices: _,
        device_cgroup_rules: _,
    } = asked;
    let pids = pids_limit.filter(|l| *l != 0).map(|l| oci::Pids {
        limit: Some(l.max(-1)),
    });
    oci::Resources {
        memory: memory(asked),
        cpu: cpu(asked),
        pids,
        block_io: block_io(asked, block),
        ..oci::Resources::default()
    }
}

fn memory(asked: &Resources) -> Option<oci::Memory> {
    let positive = |n: i64| (n > 0).then_some(n);
    let memory = oci::Memory {
        limit: positive(asked.memory),
        reservation: positive(asked.memory_reservation),
        swap: (asked.memory_swap != 0).then_some(asked.memory_swap),
        swappiness: asked.memory_swappiness.and_then(|s| u64::try_from(s).ok()),
        disable_oom_killer: asked.oom_kill_disable.filter(|d| *d),
        ..oci::Memory::default()
    };
    (memory != oci::Memory::default()).then_some(memory)
}

fn cpu(asked: &Resources) -> Option<oci::Cpu> {
    let unsigned = |n: i64| u64::try_from(n).ok().filter(|n| *n != 0);
    let mut cpu = oci::Cpu {
        shares: unsigned(asked.cpu_shares),
        period: unsigned(asked.cpu_period),
        quota: (asked.cpu_quota != 0).then_some(asked.cpu_quota),
        realtime_period: unsigned(asked.cpu_realtime_period),
        realtime_runtime: (asked.cpu_realtime_runtime != 0).then_some(asked.cpu_realtime_runtime),
        cpus: asked.cpuset_cpus.clone(),
        mems: asked.cpuset_mems.clone(),
        ..oci::Cpu::default()
    };
    if asked.nano_cpus > 0 {
        cpu.period = unsigned(CPU_PERIOD);
        cpu.quota = Some(
            i64::try_from(i128::from(asked.nano_cpus) * i128::from(CPU_PERIOD) / 1_000_000_000)
                .unwrap_or(i64::MAX),
        );
    }
    (cpu != oci::Cpu::default()).then_some(cpu)
}

fn block_io(asked: &Resources, block: &BlockDevices) -> Option<oci::BlockIo> {
    let number = |path: &String| block.get(path).copied().unwrap_or_default();
    let throttle = |list: &[(String, u64)]| -> Vec<oci::ThrottleDevice> {
        list.iter()
            .map(|(path, rate)| oci::ThrottleDevice {
                major: number(path).0,
                minor: number(path).1,
                rate: *rate,
            })
            .collect()
    };
    let weights = asked.blkio_weight_device.iter();
    let io = oci::BlockIo {
        weight: (asked.blkio_weight != 0).then_some(asked.blkio_weight),
        leaf_weight: None,
        weight_device: weights
            .map(|(path, weight)| oci::WeightDevice {
                major: number(path).0,
                minor: number(path).1,
                weight: Some(*weight),
                leaf_weight: None,
            })
            .collect(),
        throttle_read_bps_device: throttle(&asked.blkio_read_bps),
        throttle_write_bps_device: throttle(&asked.blkio_write_bps),
        throttle_read_iops_device: throttle(&asked.blkio_read_iops),
        throttle_write_iops_device: throttle(&asked.blkio_write_iops),
    };
    (io != oci::BlockIo::default()).then_some(io)
}

/// The container's, then the engine's defaults for those it does not name.
pub(super) fn rlimits(asked: &[Ulimit], defaults: &[Ulimit]) -> Result<Vec<oci::Rlimit>> {
    let missing = defaults
        .iter()
        .filter(|d| !asked.iter().any(|a| a.name == d.name));
    asked.iter().chain(missing).map(rlimit).collect()
}

/// One limit.
///
/// # Errors
/// [`crate::Kind::Invalid`] for a name that the kernel does not know or a soft limit above the hard one.
pub(crate) fn rlimit(asked: &Ulimit) -> Result<oci::Rlimit> {
    if !RLIMITS.contains(&asked.name.as_str()) {
        return Err(Error::invalid(format!("invalid ulimit type: {}", asked.name)));
    }
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let (soft, hard) = (value(asked.soft), value(asked.hard));
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            asked.soft, asked.hard
        )));
    }
    Ok(oci::Rlimit {
        kind: format!("RLIMIT_{}", asked.name.to_uppercase()),
        hard,
        soft,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_specification_s() {
        let asked = Resources {
            memory: 64 << 20,
            memory_swap: -1,
            memory_swappiness: Some(0),
            nano_cpus: 1_500_000_000,
            cpu_shares: 512,
            cpuset_cpus: "0-1".into(),
            pids_limit: Some(-5),
            blkio_weight: 300,
            blkio_read_bps: vec![("/dev/sda".into(), 9)],
            ..Resources::default()
        };
        let made = resources(&asked, &BlockDevices::from([("/dev/sda".into(), (8, 0))]));
        let memory = made.memory.unwrap();
        assert_eq!(
            (memory.limit, memory.swap, memory.swappiness),
            (Some(64 << 20), Some(-1), Some(0))
        );
        let cpu = made.cpu.unwrap();
        assert_eq!(
            (cpu.quota, cpu.period, cpu.shares),
            (Some(150_000), Some(100_000), Some(512))
        );
        assert_eq!(made.pids.unwrap().limit, Some(-1));
        let io = made.block_io.unwrap();
        assert_eq!(
            (
                io.throttle_read_bps_device[0].major,
                io.throttle_read_bps_device[0].rate
            ),
            (8, 9)
        );
        let none = resources(
            &Resources {
                pids_limit: Some(0),
                ..Resources::default()
            },
            &BlockDevices::new(),
        );
        assert_eq!(none, oci::Resources::default());
    }

    #[test]
    fn ulimits_are_checked_and_defaults_fill_up() {
        let limit = |name: &str, soft, hard| Ulimit {
            name: name.into(),
            soft,
            hard,
        };
        let made = rlimits(
            &[limit("nofile", 10, -1)],
            &[limit("nofile", 1, 1), limit("core", 0, 0)],
        )
        .unwrap();
        assert_eq!(made.len(), 2);
        assert_eq!(
            (made[0].kind.as_str(), made[0].soft, made[0].hard),
            ("RLIMIT_NOFILE", 10, u64::MAX)
        );
        assert!(rlimit(&limit("files", 1, 1)).is_err());
        assert!(rlimit(&limit("core", -1, 1)).is_err());
    }
}
