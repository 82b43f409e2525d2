//! What the verbs on containers are given and answer.

use super::spec::{Resources, RestartPolicy};
use crate::kernel::CgroupStats;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// `create`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// The new container's id.
    pub id: String,
    /// What was asked for and is not quite had.
    pub warnings: Vec<String>,
}

/// How to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// The signal instead of the container's own.
    pub signal: Option<String>,
    /// Seconds until SIGKILL; negative is for ever; `None` is the container's own.
    pub timeout: Option<i64>,
}

/// How to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first where it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// A legacy link of this name instead of the container; refused.
    pub link: bool,
}

/// What `update` changes; what is zero or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// New limits.
    pub resources: Option<Resources>,
    /// New policy.
    pub restart: Option<RestartPolicy>,
}

/// Which streams to attach and how to let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// The client writes to standard input.
    pub stdin: bool,
    /// The client reads standard output.
    pub stdout: bool,
    /// The client reads standard error.
    pub stderr: bool,
    /// What was written so far comes first.
    pub logs: bool,
    /// What is written from now on.
    pub stream: bool,
    /// `ctrl-p,ctrl-q` and the like; empty is the default.
    pub detach_keys: String,
}

/// Which lines of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Standard output's.
    pub stdout: bool,
    /// Standard error's.
    pub stderr: bool,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Not after.
    pub until: Option<SystemTime>,
    /// The last so many; `None` is all.
    pub tail: Option<usize>,
    /// For the front-end: each line carries its time.
    pub timestamps: bool,
    /// What comes later too, until the container ends.
    pub follow: bool,
    /// For the front-end: each line carries its attributes.
    pub details: bool,
}

/// One line of a log, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 1 standard output, 2 standard error.
    pub stream: u8,
    /// When it was written.
    pub at: SystemTime,
    /// The bytes, with the newline where it ends a line.
    pub text: Vec<u8>,
    /// Attributes of the log options, sorted.
    pub attrs: Vec<(String, String)>,
    /// Whether the line goes on in the next item.
    pub partial: bool,
}

/// One sample of a container's meters.
#[derive(Clone, Debug)]
pub struct StatsSample {
    /// When it was taken.
    pub read: SystemTime,
    /// What the cgroup says; all zero when the container does not run.
    pub cgroup: CgroupStats,
    /// CPU time of the whole machine, nanoseconds.
    pub system_cpu_ns: u64,
    /// Processors on line.
    pub online_cpus: u32,
    /// Counters by link inside the container.
    pub networks: BTreeMap<String, NetCounters>,
    /// Whether it runs.
    pub running: bool,
    /// Its name, without a slash.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// Counters of one link, as `/proc/net/dev` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Received bytes.
    pub rx_bytes: u64,
    /// Received packets.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Dropped before sending.
    pub tx_dropped: u64,
}

/// Which containers `list` tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those that do not run too.
    pub all: bool,
    /// The newest so many, running or not.
    pub limit: Option<usize>,
    /// With the sizes of their layers.
    pub size: bool,
    /// By key: ancestor before exited expose health id is-task label name network publish since status volume.
    pub filters: BTreeMap<String, Vec<String>>,
}

/// Which objects a prune may take; the keys depend on the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// `until`, `label`, `label!`, and what the kind has beside.
    pub filters: BTreeMap<String, Vec<String>>,
}

/// What a prune took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Ids or names.
    pub deleted: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}
