//! Starting the engine for a command that finds none.
//!
//! The engine must not be a child of somebody's shell: it gets a session and cgroups of its own, the default limits
//! and umask, and of the environment only proxies and locale. It is refused where process 1's mounts and network are
//! not the caller's: such an engine would serve a world that disappears with the caller.

use crate::cli::Failure;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit, setsid, umask};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Where the engine listens when nothing else is said.
pub(crate) const SOCKET: &str = "/run/ferry/ferry.sock";
/// What an engine that was started by a command prints.
const LOG: &str = "/var/lib/ferry/engine.log";
/// The word that makes this binary the starter; not a command for people.
pub(crate) const ROLE: &str = "engine-start";
/// How long an engine may take until it listens. It needs milliseconds; recovery after a crash more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the engine at the default place; one that is not there is started first.
pub(crate) fn connect() -> Result<UnixStream, Failure> {
    match UnixStream::connect(SOCKET) {
        Ok(stream) => return Ok(stream),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) => {}
        Err(e) => return Err(cannot_connect(&e)),
    }
    if std::env::var_os("FERRY_NO_AUTOSTART").is_some_and(|v| !v.is_empty()) {
        return Err(Failure::text(format!(
            "no engine answers at unix://{SOCKET} and FERRY_NO_AUTOSTART forbids starting one; run 'ferry daemon'"
        )));
    }
    check_place()?;
    start()?;
    eprintln!("Started the engine, since none was running (it logs to {LOG}).");
    UnixStream::connect(SOCKET).map_err(|e| cannot_connect(&e))
}

fn cannot_connect(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Failure::text(format!(
            "permission denied while trying to connect to the engine at unix://{SOCKET}; run the command as root"
        ));
    }
    Failure::text(format!(
        "cannot connect to the engine at unix://{SOCKET}: {error}"
    ))
}

/// Whether an engine may be started from here.
fn check_place() -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Err(Failure::text(format!(
            "no engine answers at unix://{SOCKET}, and starting one needs root; run the command as root, or 'sudo ferry daemon'"
        )));
    }
    for (kind, what) in [("mnt", "mount"), ("net", "network")] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"));
        let first = std::fs::read_link(format!("/proc/1/ns/{kind}"));
        if own.ok() != first.ok() {
            return Err(Failure::text(format!(
                "no engine answers at unix://{SOCKET}, and none is started from here: this process is not in the {what} namespace of process 1, and the engine would vanish with it; run 'ferry daemon' by hand to have one here all the same"
            )));
        }
    }
    Ok(())
}

/// This program. Its path gives the process its name; where it was replaced or removed the kernel's link still works.
fn program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|p| p.exists())
        .unwrap_or_else(|| "/proc/self/exe".into())
}

/// Runs the starter and waits for its word.
fn start() -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::text(format!("cannot start the engine: {e}"));
    let mut starter = Command::new(program())
        .arg0("ferry")
        .arg(ROLE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut words = String::new();
    if let Some(mut stderr) = starter.stderr.take() {
        stderr.read_to_string(&mut words).map_err(failed)?;
    }
    let status = starter.wait().map_err(failed)?;
    if status.success() {
        if !words.trim().is_empty() {
            eprintln!("{}", words.trim());
        }
        return Ok(());
    }
    Err(Failure::text(words.trim().to_owned()))
}

/// The starter: leaves the caller's session, starts the engine, and ends when it listens or has failed.
pub(crate) fn starter() -> ExitCode {
    match detach_and_start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn detach_and_start() -> Result<(), String> {
    setsid().map_err(|e| format!("cannot start the engine: setsid: {e}"))?;
    umask(Mode::from_raw_mode(0o022));
    std::env::set_current_dir("/").map_err(|e| format!("cannot start the engine: chdir /: {e}"))?;
    for warning in own_cgroups() {
        eprintln!("WARNING: {warning}");
    }
    default_limits();
    let log = open_log()?;
    let mut engine = spawn(log)?;
    wait_until_ready(&mut engine)
}

fn open_log() -> Result<File, String> {
    let path = Path::new(LOG);
    let failed = |e: io::Error| format!("cannot start the engine: {LOG}: {e}");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)
}

fn spawn(log: File) -> Result<Child, String> {
    let failed = |e: io::Error| format!("cannot start the engine: {e}");
    let keep = |name: &str| {
        let upper = name.to_ascii_uppercase();
        upper.ends_with("_PROXY") || upper == "LANG" || upper.starts_with("LC_")
    };
    let environment = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(keep));
    Command::new(program())
        .arg0("ferry")
        .arg("daemon")
        .env_clear()
        .envs(environment)
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)
}

fn wait_until_ready(engine: &mut Child) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if UnixStream::connect(SOCKET).is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = engine.try_wait() {
            return Err(format!(
                "the engine ended at once ({status}); its last words: {}",
                last_words()
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!(
        "the engine does not listen at {SOCKET} after {} s; see {LOG}",
        PATIENCE.as_secs()
    ))
}

/// The last line of the log.
fn last_words() -> String {
    let text = std::fs::read_to_string(LOG).unwrap_or_default();
    text.lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or("none")
        .to_owned()
}

/// The limits a service manager would give; a hard limit that may not be raised stays.
fn default_limits() {
    for (resource, soft, hard) in [
        (Resource::Nofile, Some(1024), Some(524_288)),
        (Resource::Core, None, None),
        (Resource::Fsize, None, None),
        (Resource::Cpu, None, None),
        (Resource::As, None, None),
        (Resource::Nproc, None, None),
    ] {
        if setrlimit(
            resource,
            Rlimit {
                current: soft,
                maximum: hard,
            },
        )
        .is_ok()
        {
            continue;
        }
        let ceiling = getrlimit(resource).maximum;
        let current = match (soft, ceiling) {
            (Some(soft), Some(ceiling)) => Some(soft.min(ceiling)),
            (None, ceiling) => ceiling,
            (soft, None) => soft,
        };
        // What is left is the caller's own limit: nothing more is allowed here.
        let _ = setrlimit(
            resource,
            Rlimit {
                current,
                maximum: ceiling,
            },
        );
    }
}

/// Joins a cgroup of its own in every hierarchy, so that neither the session's limits nor its end reach the engine.
fn own_cgroups() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut warnings = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let kind = right.split(' ').next().unwrap_or_default();
        let Some(place) = left.split(' ').nth(4).filter(|_| kind.starts_with("cgroup")) else {
            continue;
        };
        // A new cpuset has no processors until somebody fills them in; its root has them all.
        let is_cpuset = right
            .split(' ')
            .next_back()
            .is_some_and(|o| o.split(',').any(|o| o == "cpuset"));
        let dir = if is_cpuset {
            place.to_owned()
        } else {
            format!("{place}/ferry-engine")
        };
        let joined = match std::fs::create_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists && !is_cpuset => Err(e),
            _ => std::fs::write(format!("{dir}/cgroup.procs"), "0"),
        };
        if let Err(e) = joined {
            warnings.push(format!(
                "the engine stays in the caller's cgroup below {place}: {e}"
            ));
        }
    }
    warnings
}
