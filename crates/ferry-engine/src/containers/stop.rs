//! stop, restart, kill, pause and unpause.

use super::core::{Core, refused};
use super::lifecycle::{self, settle};
use super::options::StopOptions;
use super::state::{Conflict, Effect, Event};
use super::table::Container;
use crate::{Error, Kind, Result, blocking};
use std::sync::Arc;
use std::time::Duration;

/// How long a killed process may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Seconds that `stop` waits where nobody says.
const STOP_TIMEOUT: i64 = 10;

/// Names of signal(7), without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// First and last real-time signal as the C library numbers them.
const REALTIME: (i32, i32) = (34, 64);

/// `SIGTERM`, `term`, `15`, `RTMIN+3`.
///
/// # Errors
/// [`Kind::Invalid`]: `invalid signal: x`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=REALTIME.1).contains(&number) {
            Ok(number)
        } else {
            Err(invalid())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let alias = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        name => name,
    };
    if let Some(index) = SIGNALS.iter().position(|s| *s == alias) {
        return i32::try_from(index + 1).map_err(|_| invalid());
    }
    let offset = |rest: &str| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.parse::<i32>().ok()
        }
    };
    let number = match (alias.strip_prefix("RTMIN"), alias.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest).map(|o| REALTIME.0 + o),
        (_, Some(rest)) => offset(rest).map(|o| REALTIME.1 + o),
        _ => None,
    };
    number
        .filter(|n| (REALTIME.0..=REALTIME.1).contains(n))
        .ok_or_else(invalid)
}

/// Stops a container and answers when it has ended.
pub(crate) async fn stop(core: &Arc<Core>, container: &Arc<Container>, options: &StopOptions) -> Result<()> {
    stop_by(core, container, options, Event::Stop).await
}

async fn stop_by(
    core: &Arc<Core>,
    container: &Arc<Container>,
    options: &StopOptions,
    event: Event,
) -> Result<()> {
    let record = container.record();
    let number = match &options.signal {
        Some(signal) => parse_signal(signal)?,
        None => stop_signal(&record.spec.stop_signal)?,
    };
    let timeout = options
        .timeout
        .or(record.spec.stop_timeout)
        .unwrap_or(STOP_TIMEOUT);
    let exits = container.watch().borrow().exits;
    let effects = loop {
        match core.apply(container, event.clone()) {
            Ok(effects) => break effects,
            Err(Conflict::Starting) => settle(container).await?,
            Err(conflict) => return Err(refused(conflict, &container.id, &container.state())),
        }
    };
    if !effects.contains(&Effect::Signal) {
        return Ok(());
    }
    send(core, container, number, &effects).await?;
    let ended = match u64::try_from(timeout) {
        Ok(seconds) => wait_end(container, exits, Some(Duration::from_secs(seconds))).await,
        Err(_) => wait_end(container, exits, None).await,
    };
    if !ended {
        tracing::info!(
            container = container.id,
            signal = number,
            timeout,
            "it did not end in time and is killed"
        );
        kill_hard(core, container, exits).await?;
    }
    core.publish(&container.cell(), "stop", &[]);
    Ok(())
}

/// The container's own stop signal.
pub(crate) fn stop_signal(text: &str) -> Result<i32> {
    if text.is_empty() {
        Ok(15)
    } else {
        parse_signal(text)
    }
}

/// SIGKILL, then, where that is not enough, the whole cgroup.
async fn kill_hard(core: &Arc<Core>, container: &Arc<Container>, exits: u64) -> Result<()> {
    let effects = match core.apply(container, Event::Kill { ends: true }) {
        Ok(effects) => effects,
        Err(Conflict::NotRunning) => return Ok(()),
        Err(conflict) => return Err(refused(conflict, &container.id, &container.state())),
    };
    send(core, container, 9, &effects).await?;
    if wait_end(container, exits, Some(KILL_WAIT)).await {
        return Ok(());
    }
    if let Some(run) = container.run() {
        let kernel = Arc::clone(&core.kernel);
        blocking::run("kill a cgroup", move || {
            kernel
                .cgroup_kill(&run.facts.cgroup)
                .map_err(|e| Error::internal("killing a cgroup", e))
        })
        .await?;
    }
    if wait_end(container, exits, Some(Duration::from_secs(2))).await {
        return Ok(());
    }
    Err(Error::new(
        Kind::Internal,
        "tried to kill container, but did not receive an exit event",
    ))
}

/// Whether it ended (again) within this time.
async fn wait_end(container: &Container, exits: u64, limit: Option<Duration>) -> bool {
    let mut progress = container.watch();
    let ended = progress.wait_for(|p| p.exits > exits || p.removed);
    match limit {
        Some(limit) => tokio::time::timeout(limit, ended).await.is_ok(),
        None => ended.await.is_ok(),
    }
}

/// Tells of `kill`, sends the signal, and thaws where that was decided.
async fn send(core: &Arc<Core>, container: &Arc<Container>, number: i32, effects: &[Effect]) -> Result<()> {
    if !effects.contains(&Effect::Signal) {
        return Ok(());
    }
    let Some(run) = container.run() else { return Ok(()) };
    core.publish(&container.cell(), "kill", &[("signal", &number.to_string())]);
    let sent = lifecycle::signal(core, &run, number).map_err(|e| {
        Error::new(
            Kind::Internal,
            format!("Cannot kill container {}: {e}", container.id),
        )
    })?;
    if !sent {
        tracing::debug!(container = container.id, "it ended before the signal came");
    }
    if effects.contains(&Effect::Thaw) {
        let (kernel, cgroup) = (Arc::clone(&core.kernel), run.facts.cgroup.clone());
        blocking::run("thaw a container", move || {
            kernel
                .cgroup_freeze(&cgroup, false)
                .map_err(|e| Error::internal("thawing a cgroup", e))
        })
        .await?;
        // It may have ended meanwhile, and then it is not frozen any more.
        let _ = core.apply(container, Event::Unpaused);
    }
    Ok(())
}

/// Sends a signal; SIGKILL waits for the end.
pub(crate) async fn kill(core: &Arc<Core>, container: &Arc<Container>, text: &str) -> Result<()> {
    let number = if text.is_empty() { 9 } else { parse_signal(text)? };
    let own = container.record().spec.stop_signal.clone();
    let ends = own.is_empty() || number == 9 || parse_signal(&own)? == number;
    let exits = container.watch().borrow().exits;
    if number == 9 {
        let phase = container.state();
        if !container.watch().borrow().running() {
            return Err(refused(Conflict::NotRunning, &container.id, &phase));
        }
        return kill_hard(core, container, exits).await;
    }
    match core.apply(container, Event::Kill { ends }) {
        Ok(effects) => send(core, container, number, &effects).await,
        Err(conflict) => Err(refused(conflict, &container.id, &container.state())),
    }
}

/// Kills a container that is to be removed; fine when it does not run.
pub(crate) async fn kill_to_remove(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    let exits = container.watch().borrow().exits;
    match kill_hard(core, container, exits).await {
        Err(e) if e.kind() == Kind::Conflict => settle(container).await,
        done => done,
    }
}

/// Stops it where it runs, and starts it.
pub(crate) async fn restart(
    core: &Arc<Core>,
    container: &Arc<Container>,
    options: &StopOptions,
) -> Result<()> {
    let stopped = stop_by(core, container, options, Event::StopToRestart).await;
    let started = match stopped {
        Err(e) if e.kind() != Kind::Unchanged => Err(e),
        _ => lifecycle::start(core, container).await,
    };
    // Always legal.
    let _ = core.apply(container, Event::RestartDone);
    match started {
        Err(e) if e.kind() == Kind::Unchanged => {}
        Err(e) => {
            return Err(Error::new(
                e.kind(),
                format!("Cannot restart container {}: {e}", container.record().name),
            ));
        }
        Ok(()) => {}
    }
    core.publish(&container.cell(), "restart", &[]);
    Ok(())
}

/// Freezes a container, or thaws it.
pub(crate) async fn freeze(core: &Arc<Core>, container: &Arc<Container>, frozen: bool) -> Result<()> {
    let id = &container.id;
    let state = container.state();
    let event = if frozen { Event::Paused } else { Event::Unpaused };
    super::state::step(state.clone(), event.clone()).map_err(|c| refused(c, id, &state))?;
    let run = container
        .run()
        .ok_or_else(|| refused(Conflict::NotRunning, id, &state))?;
    let kernel = Arc::clone(&core.kernel);
    let verb = if frozen { "pause" } else { "unpause" };
    blocking::run("freeze or thaw a container", move || {
        kernel
            .cgroup_freeze(&run.facts.cgroup, frozen)
            .map_err(|e| Error::internal(format!("cannot {verb} container"), e))
    })
    .await
    .map_err(|e| {
        Error::new(
            Kind::Internal,
            e.to_string()
                .replacen("container:", &format!("container {id}:"), 1),
        )
    })?;
    core.apply(container, event)
        .map_err(|c| refused(c, id, &container.state()))?;
    core.publish(&container.cell(), verb, &[]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_spellings() {
        for (text, number) in [
            ("TERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("SIGIOT", 6),
            ("USR2", 12),
            ("SYS", 31),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
            ("poll", 29),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "TERMINATE", "RTMIN+31", "RTMAX+1"] {
            assert_eq!(
                parse_signal(bad).unwrap_err().to_string(),
                format!("invalid signal: {bad}")
            );
        }
    }
}
