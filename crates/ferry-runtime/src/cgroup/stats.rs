//! What a cgroup's meters say: one shape for v1 and v2, in base units (bytes, nanoseconds, counts).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A reading of every meter of one cgroup. What a machine does not meter is zero, empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory and swap.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Disks.
    pub blkio: BlkioStats,
    /// Huge pages, by size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// RDMA, by device.
    pub rdma: BTreeMap<String, RdmaStats>,
    /// Pressure on the processors, where the unified tree is mounted.
    pub cpu_pressure: Option<Pressure>,
    /// Pressure on memory.
    pub memory_pressure: Option<Pressure>,
    /// Pressure on disks.
    pub io_pressure: Option<Pressure>,
}

/// CPU time, ns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// All time used.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor; v1 only.
    pub per_cpu: Vec<u64>,
    /// Quota periods that have passed.
    pub periods: u64,
    /// Of these, periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time for which tasks had to wait for the next period, ns.
    pub throttled: u64,
    /// Periods in which burst was used.
    pub burst_periods: u64,
    /// Time used beyond the quota, ns.
    pub burst: u64,
}

/// Memory, bytes. A limit of `u64::MAX` is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// Most ever in use; `None` on v2 before 5.19.
    pub max_usage: Option<u64>,
    /// The limit.
    pub limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// In use with swap (v1: memory and swap together; v2: swap alone); `None` without swap accounting.
    pub swap_usage: Option<u64>,
    /// Its limit.
    pub swap_limit: Option<u64>,
    /// How often that limit was hit.
    pub swap_failcnt: u64,
    /// Kernel memory in use.
    pub kernel: Option<u64>,
    /// TCP buffers in use; v1 only.
    pub kernel_tcp: Option<u64>,
    /// `memory.stat`, as the kernel names it.
    pub stat: BTreeMap<String, u64>,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Processes and threads.
    pub current: u64,
    /// The limit; `u64::MAX` is none.
    pub limit: u64,
}

/// Disks, by device and operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes.
    pub bytes: Vec<BlkioEntry>,
    /// Operations.
    pub operations: Vec<BlkioEntry>,
}

/// One number of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// The kernel's word: `Read`, `Write`, … on v1, `read`, `write`, `discard` on v2.
    pub op: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Huge pages of one size, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HugetlbStats {
    /// In use.
    pub usage: u64,
    /// Most ever in use; v1 only.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// RDMA of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RdmaStats {
    /// Handles in use.
    pub handles: u64,
    /// Objects in use.
    pub objects: u64,
    /// Limit of handles; `u64::MAX` is none.
    pub handle_limit: u64,
    /// Limit of objects.
    pub object_limit: u64,
}

/// Pressure stall information (accounting/psi.rst).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// Time in which some task waited.
    pub some: PressureLine,
    /// Time in which all did.
    pub full: PressureLine,
}

/// One line of a pressure file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PressureLine {
    /// Per cent over 10 s.
    pub avg10: f64,
    /// Per cent over 60 s.
    pub avg60: f64,
    /// Per cent over 300 s.
    pub avg300: f64,
    /// Since the cgroup was made, µs.
    pub total: u64,
}
