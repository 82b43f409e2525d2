//! Samples of meters into Docker's shape.

use ferry_api::docker::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, ThrottlingData,
};
use ferry_api::docker::time::Time;
use ferry_engine::containers::options::{NetCounters, StatsSample};
use ferry_engine::kernel::CgroupStats;

/// What does not change from sample to sample.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Bytes.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
}

/// `sample` with the one before it.
pub fn stats(sample: &StatsSample, before: Option<&StatsSample>, machine: Machine) -> Stats {
    let StatsSample {
        read,
        cgroup,
        system_cpu_ns: _,
        online_cpus: _,
        networks,
        running,
        name,
        id,
    } = sample;
    let named = Stats {
        id: id.clone(),
        name: format!("/{name}"),
        os_type: "linux".into(),
        ..Stats::default()
    };
    if !running {
        return named;
    }
    let network = |c: &NetCounters| NetworkStats {
        rx_bytes: c.rx_bytes,
        rx_packets: c.rx_packets,
        rx_errors: c.rx_errors,
        rx_dropped: c.rx_dropped,
        tx_bytes: c.tx_bytes,
        tx_packets: c.tx_packets,
        tx_errors: c.tx_errors,
        tx_dropped: c.tx_dropped,
    };
    let before = before.filter(|b| b.running);
    Stats {
        read: (*read).into(),
        cpu_stats: cpu(sample),
        memory_stats: memory(cgroup, machine),
        networks: (!networks.is_empty())
            .then(|| networks.iter().map(|(k, c)| (k.clone(), network(c))).collect()),
        pids_stats: PidsStats {
            current: cgroup.pids,
            limit: if cgroup.pids_limit == u64::MAX {
                0
            } else {
                cgroup.pids_limit
            },
        },
        blkio_stats: blkio(cgroup, machine),
        preread: before.map_or(Time(None), |b| b.read.into()),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        ..named
    }
}

fn cpu(sample: &StatsSample) -> CpuStats {
    let cgroup = &sample.cgroup;
    let (periods, throttled_periods, throttled_time) = cgroup.throttling;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cgroup.cpu_total,
            percpu_usage: cgroup.cpu_per.clone(),
            usage_in_kernelmode: cgroup.cpu_system,
            usage_in_usermode: cgroup.cpu_user,
        },
        system_cpu_usage: sample.system_cpu_ns,
        online_cpus: sample.online_cpus,
        throttling_data: ThrottlingData {
            periods,
            throttled_periods,
            throttled_time,
        },
    }
}

fn memory(cgroup: &CgroupStats, machine: Machine) -> MemoryStats {
    MemoryStats {
        usage: cgroup.memory_usage,
        max_usage: cgroup.memory_max,
        stats: cgroup
            .memory_stat
            .iter()
            .filter(|(key, _)| machine.cgroup_version != 1 || is_told(key))
            .map(|(key, value)| (key.clone(), *value))
            .collect(),
        failcnt: cgroup.memory_failcnt,
        limit: cgroup.memory_limit.min(machine.memory),
    }
}

/// What Docker tells of cgroup v1's `memory.stat`, by itself and as a total; newer kernels have more lines.
fn is_told(key: &str) -> bool {
    const KEYS: [&str; 15] = [
        "active_anon",
        "active_file",
        "cache",
        "dirty",
        "inactive_anon",
        "inactive_file",
        "mapped_file",
        "pgfault",
        "pgmajfault",
        "pgpgin",
        "pgpgout",
        "rss",
        "rss_huge",
        "unevictable",
        "writeback",
    ];
    let limits = ["hierarchical_memory_limit", "hierarchical_memsw_limit"];
    KEYS.contains(&key.strip_prefix("total_").unwrap_or(key)) || limits.contains(&key)
}

/// cgroup v1 tells all lists; v2 the bytes alone, and leaves out the others.
fn blkio(cgroup: &CgroupStats, machine: Machine) -> BlkioStats {
    let rows = |list: &[(u64, u64, String, u64)]| {
        list.iter()
            .map(|(major, minor, op, value)| BlkioEntry {
                major: *major,
                minor: *minor,
                op: op.clone(),
                value: *value,
            })
            .collect()
    };
    let mut stats = BlkioStats {
        io_service_bytes_recursive: Some(rows(&cgroup.blkio_bytes)),
        io_serviced_recursive: (machine.cgroup_version == 1).then(|| rows(&cgroup.blkio_ops)),
        ..BlkioStats::default()
    };
    if machine.cgroup_version == 1 {
        for list in [
            &mut stats.io_queue_recursive,
            &mut stats.io_service_time_recursive,
            &mut stats.io_wait_time_recursive,
            &mut stats.io_merged_recursive,
            &mut stats.io_time_recursive,
            &mut stats.sectors_recursive,
        ] {
            *list = Some(Vec::new());
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn sample(running: bool) -> StatsSample {
        let cgroup = CgroupStats {
            memory_limit: u64::MAX,
            pids_limit: u64::MAX,
            ..CgroupStats::default()
        };
        StatsSample {
            read: SystemTime::now(),
            cgroup,
            system_cpu_ns: 5,
            online_cpus: 2,
            networks: Default::default(),
            running,
            name: "n".into(),
            id: "i".into(),
        }
    }

    #[test]
    fn a_stopped_container_has_nothing_to_tell() {
        let machine = Machine {
            memory: 9,
            cgroup_version: 1,
        };
        let text = serde_json::to_string(&stats(&sample(false), None, machine)).unwrap();
        assert_eq!(
            text,
            r#"{"id":"i","name":"/n","os_type":"linux","read":"0001-01-01T00:00:00Z","cpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"memory_stats":{},"pids_stats":{},"blkio_stats":{"io_service_bytes_recursive":null,"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null},"num_procs":0,"storage_stats":{},"preread":"0001-01-01T00:00:00Z","precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}}}"#
        );
    }

    #[test]
    fn no_limit_is_the_machines() {
        let got = stats(
            &sample(true),
            Some(&sample(true)),
            Machine {
                memory: 9,
                cgroup_version: 2,
            },
        );
        assert_eq!((got.memory_stats.limit, got.pids_stats.limit), (9, 0));
        assert_eq!(got.precpu_stats.system_cpu_usage, 5);
        assert!(got.blkio_stats.io_serviced_recursive.is_none());
    }
}
