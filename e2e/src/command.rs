//! Running a program with a bound in time, no standard input unless given, and its output kept.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + n for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// Standard output of a success.
    ///
    /// # Errors
    /// With everything it said when it failed.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!(
                "exit code {}\nstdout: {}\nstderr: {}",
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self.stdout)
    }
}

/// Runs `program` with `arguments`, for at most a minute.
///
/// # Errors
/// When it cannot be started, or takes longer.
pub fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    bounded(
        Command::new(program).args(arguments),
        b"",
        Duration::from_secs(60),
    )
    .with_context(|| format!("{program} {}", arguments.join(" ")))
}

/// Runs `command` with this standard input for at most `limit`, then kills it.
///
/// # Errors
/// When it cannot be started, or takes longer.
pub fn bounded(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let began = Instant::now();
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting")?;
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || {
            // A program that does not read to the end is the test's business, seen in its output.
            drop(pipe.write_all(&input));
        });
    }
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, began + limit)?;
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Some(code) = status else {
        bail!("not over after {limit:?}\nstdout: {stdout}\nstderr: {stderr}")
    };
    Ok(Output {
        code,
        stdout,
        stderr,
        took: began.elapsed(),
    })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still shown.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

/// The exit code, or `None` after killing it at the deadline.
pub fn wait(child: &mut Child, deadline: Instant) -> Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt;
    loop {
        if let Some(status) = child.try_wait().context("waiting")? {
            return Ok(Some(
                status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            ));
        }
        if Instant::now() > deadline {
            child.kill().context("killing")?;
            child.wait().context("reaping")?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asks `question` every 10 ms until it says yes, for at most `limit`.
///
/// # Errors
/// When it never did.
pub fn eventually(what: &str, limit: Duration, mut question: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !question() {
        if Instant::now() > deadline {
            bail!("{what}: not so after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
