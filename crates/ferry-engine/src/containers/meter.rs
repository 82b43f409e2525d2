//! What a container uses, which processes it has and what it changed: stats, top and diff.

use super::core::{Core, refused};
use super::options::{NetCounters, StatsSample};
use super::spec::NetworkMode;
use super::state::Conflict;
use super::table::{Container, Run};
use super::view::{Change, Status, Top};
use crate::kernel::CgroupStats;
use crate::{Error, Kind, Result, blocking};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long `ps` may take.
const PS_TIMEOUT: Duration = Duration::from_secs(10);
/// `/proc/stat` counts in USER_HZ, a hundredth of a second everywhere Linux runs.
const TICK_NS: u64 = 10_000_000;

/// One sample; zeros when it does not run.
pub(crate) async fn stats(core: &Arc<Core>, key: &str) -> Result<StatsSample> {
    let container = core.table.find(key)?;
    let (core, of) = (Arc::clone(core), Arc::clone(&container));
    let sampled = blocking::run("sample a container", move || sample(&core, &of)).await;
    match sampled {
        // It ended while it was looked at.
        Err(_) if !container.state().alive() => {
            blocking::run("sample the machine", move || idle(&container)).await
        }
        other => other,
    }
}

fn sample(core: &Core, container: &Container) -> Result<StatsSample> {
    let mut sample = idle(container)?;
    let (state, run) = (container.state(), container.run());
    let Some(run) = run.filter(|_| state.alive()) else {
        return Ok(sample);
    };
    let usage = core.kernel.cgroup_stats(&run.facts.cgroup);
    sample.cgroup =
        usage.map_err(|e| Error::internal(format!("reading the cgroup of container {}", container.id), e))?;
    if container.record().spec.network.mode != NetworkMode::Host {
        sample.networks = net_dev(&read(&format!("/proc/{}/net/dev", state.pid))?);
    }
    sample.running = true;
    Ok(sample)
}

/// What is told of a container that does not run.
fn idle(container: &Container) -> Result<StatsSample> {
    let (system_cpu_ns, online_cpus) = machine(&read("/proc/stat")?);
    Ok(StatsSample {
        read: SystemTime::now(),
        cgroup: CgroupStats::default(),
        system_cpu_ns,
        online_cpus,
        networks: BTreeMap::new(),
        running: false,
        name: container.record().name.clone(),
        id: container.id.clone(),
    })
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::internal(format!("reading {path}"), e))
}

/// CPU time of the machine in nanoseconds (without guests, whom `user` has already) and its processors.
fn machine(stat: &str) -> (u64, u32) {
    let all = stat
        .lines()
        .find_map(|l| l.strip_prefix("cpu "))
        .unwrap_or_default();
    let ticks: u64 = all
        .split_ascii_whitespace()
        .take(8)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    let own = |l: &&str| {
        l.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let cpus = stat.lines().filter(own).count();
    (
        ticks.saturating_mul(TICK_NS),
        u32::try_from(cpus).unwrap_or(u32::MAX),
    )
}

/// Counters by link, as proc_net(5) has them, without the loopback.
fn net_dev(text: &str) -> BTreeMap<String, NetCounters> {
    let counters = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let n: Vec<u64> = rest
            .split_ascii_whitespace()
            .map_while(|n| n.parse().ok())
            .collect();
        let &[
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = n.as_slice()
        else {
            return None;
        };
        let found = NetCounters {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        Some((name.trim().to_owned(), found))
    };
    text.lines()
        .filter_map(counters)
        .filter(|(name, _)| name != "lo")
        .collect()
}

/// Its processes, as the host's `ps` shows them.
pub(crate) async fn top(core: &Arc<Core>, key: &str, ps_args: &str) -> Result<Top> {
    let args = if ps_args.trim().is_empty() { "-ef" } else { ps_args };
    check_args(args)?;
    let container = core.table.find(key)?;
    let state = container.state();
    let no = |conflict| refused(conflict, &container.id, &state);
    if state.status() == Status::Restarting {
        return Err(no(Conflict::Restarting));
    }
    let run = container
        .run()
        .filter(|_| state.alive())
        .ok_or_else(|| no(Conflict::NotRunning))?;
    let pids = pids(core, run).await?;
    let output = ps(args, &pids).await?;
    rows(&output, &pids)
}

async fn pids(core: &Core, run: Arc<Run>) -> Result<BTreeSet<i32>> {
    let kernel = Arc::clone(&core.kernel);
    blocking::run("list a container's processes", move || {
        let found = kernel.cgroup_pids(&run.facts.cgroup);
        found
            .map(BTreeSet::from_iter)
            .map_err(|e| Error::internal("reading the container's cgroup", e))
    })
    .await
}

/// A column that only looks like `PID` would show other containers' processes.
fn check_args(args: &str) -> Result<()> {
    let mut words = args.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let Some((column, title)) = word.rsplit_once('=') else {
            continue;
        };
        let title = if title.is_empty() {
            words.next().unwrap_or_default()
        } else {
            title
        };
        if title.starts_with("PID") && column != "pid" {
            return Err(Error::invalid(format!(
                "specifying \"{column}={title}\" is not allowed"
            )));
        }
    }
    Ok(())
}

/// Asks for these processes alone, then, as not every option goes with that, for all that the arguments choose.
async fn ps(args: &str, pids: &BTreeSet<i32>) -> Result<String> {
    let words: Vec<&str> = args.split_ascii_whitespace().collect();
    let list = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let narrow: Vec<&str> = words.iter().copied().chain(["-q", &list]).collect();
    match run_ps(&narrow).await? {
        Ok(output) => Ok(output),
        Err(_) => run_ps(&words)
            .await?
            .map_err(|text| Error::new(Kind::Internal, format!("ps: {text}"))),
    }
}

/// What it printed, or the first line of its complaint.
async fn run_ps(args: &[&str]) -> Result<std::result::Result<String, String>> {
    let mut command = tokio::process::Command::new("ps");
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(PS_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(e)) => {
            return Err(Error::internal(
                "running the host's ps (install procps where it is missing)",
                e,
            ));
        }
        Err(_) => {
            let text = format!(
                "the host's ps did not end within {} seconds",
                PS_TIMEOUT.as_secs()
            );
            return Err(Error::new(Kind::Unavailable, text));
        }
    };
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let complaint = String::from_utf8_lossy(&output.stderr)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    Ok(Err(format!("{}: {complaint}", output.status)))
}

/// The lines of these processes; a line without a number (`-`, a thread) belongs to the process before it.
fn rows(output: &str, pids: &BTreeSet<i32>) -> Result<Top> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles.iter().position(|t| t == "PID");
    let column = column.ok_or_else(|| Error::new(Kind::Internal, "Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    let mut ours = false;
    for line in lines.filter(|l| !l.trim().is_empty()) {
        let mut fields: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        let pid = fields.get(column).map_or("", String::as_str);
        if pid != "-" {
            let number = pid.parse::<i32>();
            ours = pids.contains(&number.map_err(|e| Error::internal(format!("Unexpected pid '{pid}'"), e))?);
        }
        if !ours {
            continue;
        }
        if fields.len() > titles.len() {
            let rest = fields.split_off(titles.len() - 1).join(" ");
            fields.push(rest);
        }
        processes.push(fields);
    }
    Ok(Top { titles, processes })
}

/// How its root differs from the image; nothing where it was never started.
pub(crate) async fn changes(core: &Arc<Core>, key: &str) -> Result<Vec<Change>> {
    let id = core.table.find(key)?.id.clone();
    let store = core.store.clone();
    blocking::run(
        "compare a container with its image",
        move || -> Result<Vec<Change>> {
            let found = match store.layers().changes(&id) {
                Err(ferry_store::StoreError::NotFound { .. }) => Vec::new(),
                found => found?,
            };
            let change = |c: ferry_store::Change| Change {
                path: c.path.to_string_lossy().into_owned(),
                kind: c.kind.letter(),
            };
            Ok(by_the_container(found.into_iter().map(change).collect()))
        },
    )
    .await
}

/// Without what the runtime made for its own mounts: the targets of the three files, and their directory where nothing else changed there.
fn by_the_container(mut changes: Vec<Change>) -> Vec<Change> {
    const OWN: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let before = changes.len();
    changes.retain(|c| c.kind != 'A' || !OWN.contains(&c.path.as_str()));
    if changes.len() < before && !changes.iter().any(|c| c.path.starts_with("/etc/")) {
        changes.retain(|c| c.path != "/etc");
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_targets_are_no_changes() {
        let change = |kind, path: &str| Change {
            path: path.into(),
            kind,
        };
        let own = vec![change('C', "/etc"), change('A', "/etc/hosts"), change('A', "/x")];
        assert_eq!(by_the_container(own), [change('A', "/x")]);
        let edited = vec![
            change('C', "/etc"),
            change('A', "/etc/hosts"),
            change('C', "/etc/passwd"),
        ];
        assert_eq!(by_the_container(edited).len(), 2);
    }

    #[test]
    fn links_and_their_counters_are_read() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:       9       1    0    0    0     0          0         0        9       1    0    0    0     0       0          0\n  \
                    eth0:1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n";
        let found = net_dev(text);
        let expected = NetCounters {
            rx_bytes: 1000,
            rx_packets: 10,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 2000,
            tx_packets: 20,
            tx_errors: 3,
            tx_dropped: 4,
        };
        assert_eq!(found, BTreeMap::from([("eth0".to_owned(), expected)]));
    }

    #[test]
    fn the_machine_s_time_leaves_guests_out() {
        let stat =
            "cpu  1 2 3 4 5 6 7 8 900 900\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(machine(stat), (36 * TICK_NS, 2));
    }

    #[test]
    fn only_the_container_s_processes_are_told() {
        let output = "UID   PID  PPID CMD\nroot  1    0    init\nroot  20   1    sh -c sleep 5\nroot  -    1    thread\nroot  30   1    x\n";
        let top = rows(output, &BTreeSet::from([20])).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(
            top.processes,
            [["root", "20", "1", "sh -c sleep 5"], ["root", "-", "1", "thread"]]
        );
        let error = rows("CMD\nsh\n", &BTreeSet::new()).unwrap_err();
        assert_eq!(error.to_string(), "Couldn't find PID field in ps output");
        assert!(
            rows("PID CMD\nx sh\n", &BTreeSet::new())
                .unwrap_err()
                .to_string()
                .starts_with("Unexpected pid 'x'")
        );
    }

    #[test]
    fn a_column_cannot_pose_as_the_pid() {
        for fine in ["-ef", "aux", "-o pid,cmd", "-o pid=PID"] {
            check_args(fine).unwrap();
        }
        for bad in ["-o ppid=PID", "-e -o user= PID"] {
            assert!(check_args(bad).is_err(), "{bad}");
        }
    }
}
