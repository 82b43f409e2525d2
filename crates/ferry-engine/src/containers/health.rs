//! Health checks: a program run in the container time and again, and what its exit codes say.

use super::core::Core;
use super::spec::{ContainerSpec, ExecSpec};
use super::state::Phase;
use super::table::{Cell, Container};
use super::view::{Health, HealthResult};
use crate::execs::run::{self, Streams};
use crate::execs::{Exec, Stage, pair};
use crate::{Result, blocking};
use ferry_oci::image::Healthcheck;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Between two checks.
const INTERVAL: Duration = Duration::from_secs(30);
/// For one check.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two checks while the container comes up.
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row until it is unhealthy.
const RETRIES: u32 = 3;
/// Results that are kept.
const RESULTS: usize = 5;
/// Bytes of output that are kept.
const OUTPUT: usize = 4096;
/// For a killed check to be told over.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A check with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Check {
    /// `None` where nothing is to be checked.
    fn of(spec: &ContainerSpec) -> Option<Self> {
        let check: &Healthcheck = spec.healthcheck.as_ref()?;
        let (kind, rest) = check.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => {
                let shell = spec.process.shell.clone().filter(|s| !s.is_empty());
                let mut command = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
                command.extend_from_slice(rest);
                command
            }
            _ => return None,
        };
        let or = |nanoseconds: i64, default: Duration| match u64::try_from(nanoseconds) {
            Ok(n) if n > 0 => Duration::from_nanos(n),
            _ => default,
        };
        Some(Self {
            command,
            interval: or(check.interval, INTERVAL),
            timeout: or(check.timeout, TIMEOUT),
            start_period: or(check.start_period, Duration::ZERO),
            start_interval: or(check.start_interval, START_INTERVAL),
            retries: u32::try_from(check.retries)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(RETRIES),
        })
    }

    fn pause(&self, ran: Duration, status: &str) -> Duration {
        if ran < self.start_period && status == "starting" {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// Begins the checks of a run where there is something to check.
pub(crate) fn start(core: &Arc<Core>, container: &Arc<Container>, cell: &mut Cell) {
    let spec = Arc::clone(&cell.record.spec);
    let Some(check) = Check::of(&spec) else {
        cell.health = None;
        return;
    };
    cell.health = Some(Health {
        status: "starting".into(),
        ..Health::default()
    });
    let began = cell.state.started_at.unwrap_or_else(SystemTime::now);
    let task = tokio::spawn(watch(Arc::clone(core), Arc::clone(container), check, began));
    if let Some(before) = cell.health_task.replace(task.abort_handle()) {
        before.abort();
    }
}

async fn watch(core: Arc<Core>, container: Arc<Container>, check: Check, began: SystemTime) {
    let ran = || began.elapsed().unwrap_or(Duration::ZERO);
    loop {
        let status = container
            .cell()
            .health
            .as_ref()
            .map(|h| h.status.clone())
            .unwrap_or_default();
        tokio::time::sleep(check.pause(ran(), &status)).await;
        match container.state().phase {
            Phase::Running => {}
            // Frozen programs cannot answer.
            Phase::Paused => continue,
            _ => return,
        }
        let result = probe(&core, &container, &check).await;
        let mut cell = container.cell();
        if cell.state.phase != Phase::Running {
            continue;
        }
        let counts = ran() >= check.start_period;
        let changed = cell
            .health
            .as_mut()
            .and_then(|health| take(health, result, (check.retries, counts)));
        if let Some(status) = changed {
            core.publish(&cell, &format!("health_status: {status}"), &[]);
        }
    }
}

/// Takes a result in; the new status when it is another one.
fn take(health: &mut Health, result: HealthResult, (retries, counts): (u32, bool)) -> Option<String> {
    let before = health.status.clone();
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else if counts || before != "starting" {
        health.failing_streak = health.failing_streak.saturating_add(1);
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    health.log.push(result);
    let surplus = health.log.len().saturating_sub(RESULTS);
    health.log.drain(..surplus);
    (health.status != before).then(|| health.status.clone())
}

async fn probe(core: &Arc<Core>, container: &Arc<Container>, check: &Check) -> HealthResult {
    let start = SystemTime::now();
    let (exit_code, output) = match once(core, container, check).await {
        Ok(result) => result,
        Err(error) => (-1, error.to_string()),
    };
    HealthResult {
        start,
        end: SystemTime::now(),
        exit_code,
        output,
    }
}

async fn once(core: &Arc<Core>, container: &Arc<Container>, check: &Check) -> Result<(i32, String)> {
    let spec = ExecSpec {
        cmd: check.command.clone(),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecSpec::default()
    };
    let deadline = Instant::now() + check.timeout;
    let exec = run::create(core, container, spec)?;
    let (ours, theirs) = pair()?;
    let streams = Streams {
        stream: Some(theirs),
        wanted: (false, true, true),
    };
    exec.claim()?;
    let started = run::start(
        Arc::clone(core),
        Arc::clone(container),
        Arc::clone(&exec),
        (streams, [0, 0]),
    );
    blocking::owned(started).await?;
    let mut output = Output::default();
    let collected = async { tokio::join!(output.collect(ours), ended(&exec)).1 };
    let code = tokio::time::timeout_at(deadline, collected).await;
    if let Ok(code) = code {
        return Ok((code, output.text()));
    }
    run::kill(core, &exec);
    if tokio::time::timeout(KILL_TIMEOUT, ended(&exec)).await.is_err() {
        tracing::error!(
            exec = exec.id,
            container = container.id,
            "a killed health check does not end"
        );
    }
    Ok((
        -1,
        format!(
            "Health check exceeded timeout ({:?}): {}",
            check.timeout,
            output.text()
        ),
    ))
}

async fn ended(exec: &Exec) -> i32 {
    let mut stand = exec.watch();
    match stand.wait_for(|s| s.stage == Stage::Ended).await {
        Ok(stand) => stand.exit_code.unwrap_or(-1),
        Err(_) => -1,
    }
}

/// The beginning of what a check wrote, out of stdcopy frames.
#[derive(Debug, Default)]
struct Output {
    kept: Vec<u8>,
    cut: bool,
    header: Vec<u8>,
    left: usize,
}

impl Output {
    /// Until the stream ends; a broken one ends the output.
    async fn collect(&mut self, mut stream: UnixStream) {
        let mut buffer = vec![0; 8192];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return,
                Ok(n) => self.feed(&buffer[..n]),
                Err(error) => {
                    tracing::warn!(%error, "the output of a health check broke off");
                    return;
                }
            }
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (head, rest) = bytes.split_at(bytes.len().min(8 - self.header.len()));
                self.header.extend_from_slice(head);
                bytes = rest;
                if let [_, _, _, _, a, b, c, d] = self.header[..] {
                    self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                    self.header.clear();
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= payload.len();
            let room = OUTPUT - self.kept.len();
            self.cut |= payload.len() > room;
            self.kept.extend_from_slice(&payload[..payload.len().min(room)]);
            bytes = rest;
        }
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        let at = SystemTime::UNIX_EPOCH;
        HealthResult {
            start: at,
            end: at,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy() {
        let mut health = Health {
            status: "starting".into(),
            ..Health::default()
        };
        assert_eq!(take(&mut health, result(1), (2, false)), None);
        assert_eq!(health.failing_streak, 0);
        assert_eq!(
            take(&mut health, result(0), (2, false)).as_deref(),
            Some("healthy")
        );
        assert_eq!(take(&mut health, result(1), (2, false)), None);
        assert_eq!(
            take(&mut health, result(-1), (2, true)).as_deref(),
            Some("unhealthy")
        );
        assert_eq!(take(&mut health, result(1), (2, true)), None);
        assert_eq!(
            take(&mut health, result(0), (2, true)).as_deref(),
            Some("healthy")
        );
        assert_eq!((health.log.len(), health.failing_streak), (RESULTS, 0));
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let mut spec = ContainerSpec::default();
        assert_eq!(Check::of(&spec), None);
        spec.healthcheck = Some(Healthcheck {
            test: vec!["NONE".into()],
            ..Healthcheck::default()
        });
        assert_eq!(Check::of(&spec), None);
        spec.healthcheck = Some(Healthcheck {
            test: vec!["CMD-SHELL".into(), "true".into()],
            ..Healthcheck::default()
        });
        let check = Check::of(&spec).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "true"]);
        assert_eq!(
            (check.interval, check.timeout, check.retries),
            (INTERVAL, TIMEOUT, 3)
        );
        assert_eq!(check.pause(Duration::ZERO, "starting"), INTERVAL);
    }

    #[test]
    fn output_comes_out_of_its_frames_and_is_cut() {
        let mut output = Output::default();
        for byte in [
            &[1, 0, 0, 0, 0, 0, 0, 2][..],
            b"ab",
            &[2, 0, 0, 0, 0, 0, 0, 1],
            b"c",
        ]
        .concat()
        {
            output.feed(&[byte]);
        }
        assert_eq!(output.text(), "abc");
        output.feed(&[1, 0, 0, 0, 0, 0, 0x20, 0]);
        output.feed(&vec![b'x'; 0x2000]);
        assert_eq!((output.text().len(), output.left), (OUTPUT + 3, 0));
    }
}
