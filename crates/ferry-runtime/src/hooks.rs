//! The specification's hooks: programs of the caller's at points of the life cycle, with the state on standard input.

use ferry_oci::runtime::{Hook, State, VERSION};
use ferry_sys::clone;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Why a hook stops what it was called from.
#[derive(Debug)]
pub enum HookError {
    /// It ended with a failure.
    Failed {
        /// `createRuntime`, say.
        timing: &'static str,
        /// Its index.
        index: usize,
        /// How it ended.
        how: String,
        /// The end of its standard error.
        output: String,
    },
    /// It could not be started or waited for.
    Io {
        /// Its timing.
        timing: &'static str,
        /// Its index.
        index: usize,
        /// Its program.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookError::Failed {
                timing,
                index,
                how,
                output,
            } => {
                write!(f, "error running {timing} hook #{index}: {how}")?;
                if output.is_empty() {
                    Ok(())
                } else {
                    write!(f, ", stderr: {output}")
                }
            }
            HookError::Io {
                timing,
                index,
                path,
                source,
            } => {
                write!(f, "error running {timing} hook #{index}: {path}: {source}")
            }
        }
    }
}

impl std::error::Error for HookError {}

/// The state that hooks are told.
pub fn state(id: &str, status: &str, pid: i32, bundle: &Path) -> State {
    State {
        oci_version: VERSION.to_owned(),
        id: id.to_owned(),
        status: status.to_owned(),
        pid: (pid > 0).then_some(pid),
        bundle: bundle.to_string_lossy().into_owned(),
        annotations: Default::default(),
    }
}

/// Runs hooks in the caller's own namespaces, in order; the first failure ends it.
pub fn run(hooks: &[Hook], timing: &'static str, state: &State) -> Result<(), HookError> {
    run_each(hooks, timing, state, None)
}

/// Runs hooks in the namespaces of the process that `pidfd` is.
pub fn run_inside(
    hooks: &[Hook],
    timing: &'static str,
    state: &State,
    pidfd: BorrowedFd<'_>,
) -> Result<(), HookError> {
    run_each(hooks, timing, state, Some(pidfd))
}

fn run_each(
    hooks: &[Hook],
    timing: &'static str,
    state: &State,
    inside: Option<BorrowedFd<'_>>,
) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        let wrap = |source| HookError::Io {
            timing,
            index,
            path: hook.path.clone(),
            source,
        };
        let ended = one(hook, state, inside).map_err(wrap)?;
        if let Some((how, output)) = ended {
            return Err(HookError::Failed {
                timing,
                index,
                how,
                output,
            });
        }
    }
    Ok(())
}

/// None when it went well; else how it ended and what it said.
fn one(hook: &Hook, state: &State, inside: Option<BorrowedFd<'_>>) -> io::Result<Option<(String, String)>> {
    if !hook.path.starts_with('/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of a hook is absolute",
        ));
    }
    let limit = match hook.timeout {
        Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds.unsigned_abs())),
        Some(_) => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a timeout is above zero",
            ));
        }
        None => None,
    };
    let mut command = Command::new(&hook.path);
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    command.env_clear();
    for entry in &hook.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(name, value);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = match inside {
        None => command.spawn()?,
        Some(pidfd) => ferry_sys::process::spawn_inside(&mut command, pidfd, INSIDE)?,
    };
    if let Some(mut input) = child.stdin.take() {
        let text = serde_json::to_vec(state)?;
        match input.write_all(&text) {
            // A hook need not read it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    wait(&mut child, limit)
}

/// The namespaces that differ between hooks that run inside and those that do not.
const INSIDE: u64 =
    clone::NEWNS | clone::NEWNET | clone::NEWIPC | clone::NEWUTS | clone::NEWCGROUP | clone::NEWPID;

fn wait(child: &mut Child, limit: Option<Duration>) -> io::Result<Option<(String, String)>> {
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            child.kill()?;
            child.wait()?;
            return Ok(Some(("it took longer than its timeout".to_owned(), said(child))));
        }
        match limit {
            Some(_) => std::thread::sleep(Duration::from_millis(2)),
            None => break child.wait()?,
        }
    };
    if status.success() {
        return Ok(None);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "no status".to_owned(),
    };
    Ok(Some((how, said(child))))
}

/// The last of what the hook wrote to its standard error, without waiting for what it may have left behind.
fn said(child: &mut Child) -> String {
    const MOST: usize = 4096;
    let Some(errors) = child.stderr.take() else {
        return String::new();
    };
    if rustix::io::ioctl_fionbio(&errors, true).is_err() {
        return String::new();
    }
    let mut text = vec![0; MOST];
    let read = rustix::io::read(&errors, &mut text[..]).unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).trim().to_owned()
}
