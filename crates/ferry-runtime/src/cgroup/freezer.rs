//! Stopping, continuing, listing and killing all processes of a cgroup.

use super::tree::Dir;
use super::{CgroupError, Version, tree};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// How long a freeze may take: a task in an uninterruptible wait cannot stop before that ends.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);
/// The same where the freeze only keeps processes from forking while they are killed.
const KILL_PATIENCE: Duration = Duration::from_millis(200);
/// v1 misses tasks that fork while it freezes; asking again after this long takes them in.
const FREEZE_AGAIN: Duration = Duration::from_millis(20);

/// Freezes or thaws, and waits until that is so.
pub(super) fn set(dir: &Dir, version: Version, frozen: bool) -> Result<(), CgroupError> {
    set_within(dir, version, frozen, FREEZE_PATIENCE)
}

fn set_within(dir: &Dir, version: Version, frozen: bool, patience: Duration) -> Result<(), CgroupError> {
    let (file, value) = match (version, frozen) {
        (Version::V1, true) => ("freezer.state", "FROZEN"),
        (Version::V1, false) => ("freezer.state", "THAWED"),
        (Version::V2, true) => ("cgroup.freeze", "1"),
        (Version::V2, false) => ("cgroup.freeze", "0"),
    };
    let start = Instant::now();
    let (mut asked, mut pause) = (None::<Instant>, Duration::from_micros(20));
    loop {
        if asked.is_none_or(|at| at.elapsed() >= FREEZE_AGAIN) {
            dir.write(file, value)
                .map_err(|errno| missing_or_io(dir, file, errno))?;
            asked = Some(Instant::now());
        }
        if get(dir, version)? == frozen {
            return Ok(());
        }
        if start.elapsed() >= patience {
            // Half frozen is no state to leave a container in.
            let thawed = if version == Version::V1 { "THAWED" } else { "0" };
            dir.write(file, thawed)
                .map_err(|errno| dir.io("write", file, errno))?;
            return Err(dir.io("freeze", "", Errno::TIMEDOUT));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(2));
    }
}

fn missing_or_io(dir: &Dir, file: &str, errno: Errno) -> CgroupError {
    match errno {
        Errno::NOENT | Errno::NODEV => CgroupError::NotFound {
            path: dir.path().to_owned(),
        },
        errno => dir.io("write", file, errno),
    }
}

/// Whether every process is stopped.
pub(super) fn get(dir: &Dir, version: Version) -> Result<bool, CgroupError> {
    let file = if version == Version::V1 {
        "freezer.state"
    } else {
        "cgroup.events"
    };
    let Some(text) = dir.read(file)? else {
        return Err(CgroupError::NotFound {
            path: dir.path().to_owned(),
        });
    };
    Ok(match version {
        Version::V1 => text.trim() == "FROZEN",
        Version::V2 => tree::flat_keyed(&text).any(|(key, value)| key == "frozen" && value == 1),
    })
}

/// Every process here and below. A cgroup that vanishes meanwhile has none.
pub(super) fn pids(dir: &Dir) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut visit = |dir: &Dir| {
        let text = dir.read("cgroup.procs").ok().flatten().unwrap_or_default();
        // 0 is a process that this pid namespace does not show.
        pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        );
        Ok(())
    };
    // Only `visit` could say more than "it is gone", and it never fails.
    let _ = dir.walk(&mut visit);
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// `cgroup.kill` (5.14), or SIGKILL to each while frozen.
pub(super) fn kill_v2(dir: &Dir) -> Result<(), CgroupError> {
    match dir.write("cgroup.kill", "1") {
        Ok(()) | Err(Errno::NODEV) => Ok(()),
        Err(Errno::NOENT) if !dir.has("cgroup.procs") => Ok(()),
        Err(Errno::NOENT | Errno::OPNOTSUPP) => kill_rounds(&|| pids(dir)),
        Err(errno) => Err(dir.io("write", "cgroup.kill", errno)),
    }
}

/// SIGKILL to each process, in a freeze so that none escapes by forking.
pub(super) fn kill_v1(freezer: Option<&Dir>, pids: &dyn Fn() -> Vec<i32>) -> Result<(), CgroupError> {
    let Some(freezer) = freezer else {
        return kill_rounds(pids);
    };
    if !pids().is_empty() {
        // One round is enough for what does not fork, and takes 0.01 ms where a freeze takes milliseconds.
        kill_each(&pids())?;
        thaw_v1(freezer)?;
        if survivors(pids) {
            let frozen = set_within(freezer, Version::V1, true, KILL_PATIENCE);
            kill_each(&pids())?;
            thaw_v1(freezer)?;
            // A freeze that failed has thawed again; SIGKILL was sent to all that were listed.
            if frozen.is_err() {
                return kill_rounds(pids);
            }
        }
    }
    thaw_v1(freezer)
}

/// Lets v1's frozen processes run, or die.
pub(super) fn thaw_v1(freezer: &Dir) -> Result<(), CgroupError> {
    match freezer.write("freezer.state", "THAWED") {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(freezer.io("write", "freezer.state", errno)),
    }
}

/// Whether processes remain a moment after they were killed.
fn survivors(pids: &dyn Fn() -> Vec<i32>) -> bool {
    for pause in [0, 50, 200, 500, 1000] {
        std::thread::sleep(Duration::from_micros(pause));
        if pids().is_empty() {
            return false;
        }
    }
    true
}

/// Kills until none is left, for at most a second.
fn kill_rounds(pids: &dyn Fn() -> Vec<i32>) -> Result<(), CgroupError> {
    for _ in 0..1000 {
        let list = pids();
        if list.is_empty() {
            return Ok(());
        }
        kill_each(&list)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn kill_each(pids: &[i32]) -> Result<(), CgroupError> {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                return Err(tree::io(
                    "kill",
                    format!("process {}", pid.as_raw_nonzero()),
                    errno,
                ));
            }
        }
    }
    Ok(())
}
