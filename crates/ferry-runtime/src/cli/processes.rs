//! exec, ps, pause, resume.

use super::attach::{self, Signals};
use super::flags::{Flag, Flags};
use super::lifecycle::{connect, write_pid};
use super::state::{Place, Record, Status};
use super::{Context, Failure, Outcome, log};
use crate::exec::ExecRequest;
use crate::host::HostFacts;
use crate::launch::Stdio;
use crate::plan::{Options, compile_exec};
use ferry_oci::runtime::{Process, Spec};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub(super) const EXEC: &[Flag] = &[
    Flag::value("process").short("p"),
    Flag::value("console-socket"),
    Flag::value("cwd"),
    Flag::value("env").short("e"),
    Flag::switch("tty").short("t"),
    Flag::value("user").short("u"),
    Flag::value("additional-gids").short("g"),
    Flag::switch("detach").short("d"),
    Flag::value("pid-file"),
    Flag::value("apparmor"),
    Flag::value("process-label"),
    Flag::switch("no-new-privs"),
    Flag::value("cap").short("c"),
    Flag::value("preserve-fds"),
    Flag::switch("ignore-paused"),
];

pub(super) const PS: &[Flag] = &[Flag::value("format").short("f")];

pub(super) fn exec(context: &Context, flags: Flags) -> Outcome {
    let Some((id, arguments)) = flags.rest.split_first() else {
        return Err(Failure::new("\"ferry runtime exec\" requires a container"));
    };
    let place = Place::of(context, id)?;
    let record = place.record()?;
    let target = running(&record, &place, flags.has("ignore-paused"))?;
    let spec = place.spec()?;
    let process = wanted(&flags, &spec, arguments)?;
    let facts = HostFacts::probe().map_err(|e| Failure::about("cannot look at the host", e))?;
    let plan = compile_exec(&spec, &process, &facts, &Options::default())
        .map_err(|e| Failure::new(e.to_string()))?;
    for warning in &plan.warnings {
        context.log.warning(warning);
    }
    let group = record.group()?;
    let detached = flags.has("detach");
    let signals = if detached { None } else { Some(Signals::hold()?) };
    let socket = flags
        .value("console-socket")
        .filter(|s| !s.is_empty())
        .map(connect)
        .transpose()?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stdio = match (process.terminal, &socket) {
        (false, _) => Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        },
        (true, Some(socket)) => Stdio::TerminalTo(socket.as_fd()),
        (true, None) if detached => {
            return Err(Failure::new(
                "cannot allocate tty if runc will detach without setting console socket",
            ));
        }
        (true, None) => Stdio::Terminal,
    };
    let kept: Vec<i32> = (3..).take(flags.number("preserve-fds")?).collect();
    let request = ExecRequest {
        plan: &plan,
        target: target.as_fd(),
        stdio,
        group: Some(&group),
        keep: &kept,
        filter: None,
    };
    let executed = crate::exec::exec(request).map_err(|error| Failure {
        message: format!("exec failed: unable to start container process: {error}"),
        code: 255,
    })?;
    if let Some(path) = flags.value("pid-file") {
        write_pid(Path::new(path), executed.pid)?;
    }
    match &signals {
        Some(signals) => attach::wait(executed.pidfd.as_fd(), signals, executed.console),
        None => Ok(0),
    }
}

fn running(record: &Record, place: &Place, paused_too: bool) -> Result<std::os::fd::OwnedFd, Failure> {
    match record.status(place) {
        Status::Stopped => Err(Failure::new("cannot exec in a stopped container")),
        Status::Created => Err(Failure::new(
            "cannot exec in a container that is not running: start it first",
        )),
        Status::Paused if !paused_too => Err(Failure::new("cannot exec in a paused container")),
        Status::Running | Status::Paused => record
            .process()
            .ok_or_else(|| Failure::new("cannot exec in a stopped container")),
    }
}

/// The process file, or the container's own process with what the flags change.
fn wanted(flags: &Flags, spec: &Spec, arguments: &[String]) -> Result<Process, Failure> {
    if let Some(path) = flags.value("process") {
        let text = std::fs::read(path).map_err(|e| Failure::about(&format!("cannot read {path}"), e))?;
        return serde_json::from_slice(&text)
            .map_err(|e| Failure::about(&format!("{path} is not a process"), e));
    }
    if arguments.is_empty() {
        return Err(Failure::new("process args cannot be empty"));
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = arguments.to_vec();
    process.terminal = flags.has("tty");
    process.no_new_privileges |= flags.has("no-new-privs");
    process.env.extend(flags.values("env").map(str::to_owned));
    if let Some(cwd) = flags.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    if let Some(profile) = flags.value("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    if let Some(label) = flags.value("process-label") {
        process.selinux_label = label.to_owned();
    }
    if let Some(user) = flags.value("user") {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        process.user.uid = number("user", uid)?;
        if !gid.is_empty() {
            process.user.gid = number("user", gid)?;
        }
    }
    for gid in flags.values("additional-gids") {
        process.user.additional_gids.push(number("additional-gids", gid)?);
    }
    let added: Vec<String> = flags.values("cap").map(str::to_owned).collect();
    if !added.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        // Never inheritable (R12).
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(added.iter().cloned());
        }
    }
    Ok(process)
}

fn number(flag: &str, text: &str) -> Result<u32, Failure> {
    text.parse()
        .map_err(|_| Failure::new(format!("invalid value \"{text}\" for flag -{flag}: not an id")))
}

pub(super) fn ps(context: &Context, flags: Flags) -> Outcome {
    let Some((id, options)) = flags.rest.split_first() else {
        return Err(Failure::new("\"ferry runtime ps\" requires a container"));
    };
    if !options.is_empty() {
        return Err(Failure::new(
            "ps options are not supported: the table has PID and CMD",
        ));
    }
    let pids = Place::of(context, id)?.record()?.group()?.pids();
    match flags.value("format") {
        Some("json") => log::print(&format!("{}\n", serde_json::json!(pids)))?,
        None | Some("table") => {
            let mut table = String::from("PID     CMD\n");
            for pid in pids {
                let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                table.push_str(&format!("{pid:<7} {}\n", command.trim_end()));
            }
            log::print(&table)?;
        }
        Some(other) => return Err(Failure::new(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

pub(super) fn pause(context: &Context, flags: Flags) -> Outcome {
    let place = Place::of(context, flags.container("pause")?)?;
    let record = place.record()?;
    match record.status(&place) {
        Status::Running | Status::Created => record
            .group()?
            .freeze()
            .map(|()| 0)
            .map_err(|e| Failure::new(e.to_string())),
        other => Err(Failure::new(format!(
            "container not running or created: {}",
            other.name()
        ))),
    }
}

pub(super) fn resume(context: &Context, flags: Flags) -> Outcome {
    let place = Place::of(context, flags.container("resume")?)?;
    let record = place.record()?;
    match record.status(&place) {
        Status::Paused => record
            .group()?
            .thaw()
            .map(|()| 0)
            .map_err(|e| Failure::new(e.to_string())),
        _ => Err(Failure::new("container not paused")),
    }
}
