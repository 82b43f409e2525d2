//! An engine of a test's own: its world, its folders, its socket; ended with the test.

use crate::command::{Output, bounded, eventually, wait};
use anyhow::{Context, Result, bail};
use ferry_testkit::{Census, World};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one command of a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A running engine.
pub struct Engine {
    /// Where it lives.
    pub world: World,
    folder: tempfile::TempDir,
    child: Option<Child>,
    flags: Vec<String>,
    before: Option<Census>,
}

/// The binary under test: `FERRY_BIN`, or the one built beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FERRY_BIN") {
        return Ok(path.into());
    }
    let here = std::env::current_exe().context("finding this test")?;
    let folder = here
        .parent()
        .and_then(Path::parent)
        .context("this test lies in no target folder")?;
    let path = folder.join("ferry");
    if !path.exists() {
        bail!("{} is not built: cargo build --package ferry", path.display());
    }
    Ok(path)
}

impl Engine {
    /// Starts one in a new world, with further daemon flags.
    ///
    /// # Errors
    /// With the engine's log when it does not answer.
    pub fn start(flags: &[&str]) -> Result<Self> {
        Self::start_in(World::new()?, flags)
    }

    /// The same in this world.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_in(world: World, flags: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("ferry-e2e-")
            .tempdir()
            .context("making a folder")?;
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let before = world.enter(|| Ok(census()))?;
        let mut engine = Self {
            world,
            folder,
            child: None,
            flags,
            before: Some(before),
        };
        engine.launch()?;
        Ok(engine)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from("/run/ferry/ferry.sock")
    }

    /// Its data root.
    pub fn data_root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("engine.log")).unwrap_or_default()
    }

    /// The engine's pid.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.child
            .as_ref()
            .map(Child::id)
            .context("the engine does not run")
    }

    /// Starts the engine again after [`Engine::kill`] or [`Engine::stop`].
    ///
    /// # Errors
    /// With its log when it does not answer.
    pub fn launch(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("engine.log"))?;
        let mut command = Command::new(binary()?);
        command
            .arg("daemon")
            .args(["--data-root".as_ref(), self.data_root().as_os_str()])
            .args([
                "--exec-root",
                "/run/ferry",
                "--pidfile",
                "/run/ferry/ferry.pid",
                "-H",
                "unix:///run/ferry/ferry.sock",
            ])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let socket = self.socket();
        let child = self.world.enter(|| {
            let mut child = command.spawn().context("starting the engine")?;
            let deadline = Instant::now() + Duration::from_secs(20);
            while std::os::unix::net::UnixStream::connect(&socket).is_err() {
                if child.try_wait()?.is_some() || Instant::now() > deadline {
                    drop(child.kill());
                    drop(child.wait());
                    return Ok(None);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Some(child))
        })?;
        let Some(child) = child else {
            bail!("the engine does not answer:\n{}", self.log())
        };
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: what a crash looks like.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the engine does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end within 20 seconds.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the engine does not run")?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .context("asking the engine to end")?;
        match wait(&mut child, Instant::now() + Duration::from_secs(20))? {
            Some(0) => Ok(()),
            Some(code) => bail!("the engine ended with {code}:\n{}", self.log()),
            None => bail!("the engine did not end:\n{}", self.log()),
        }
    }

    /// Ferry's own command line against this engine.
    ///
    /// # Errors
    /// When it cannot be started or hangs; a failure of its own is in the output.
    pub fn ferry(&self, arguments: &[&str]) -> Result<Output> {
        self.ferry_with(arguments, b"")
    }

    /// The same with standard input.
    ///
    /// # Errors
    /// As [`Engine::ferry`].
    pub fn ferry_with(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command
            .env("DOCKER_HOST", "unix:///run/ferry/ferry.sock")
            .env("DOCKER_CONFIG", self.folder.path())
            .args(arguments);
        self.bounded(command, arguments, input)
    }

    /// The real docker command against this engine.
    ///
    /// # Errors
    /// As [`Engine::ferry`].
    pub fn docker(&self, arguments: &[&str]) -> Result<Output> {
        self.docker_with(arguments, b"")
    }

    /// The same with standard input.
    ///
    /// # Errors
    /// As [`Engine::ferry`].
    pub fn docker_with(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_HOST", "unix:///run/ferry/ferry.sock")
            .env("DOCKER_CONFIG", self.folder.path())
            .args(arguments);
        self.bounded(command, arguments, input)
    }

    fn bounded(&self, mut command: Command, arguments: &[&str], input: &[u8]) -> Result<Output> {
        command.current_dir(self.folder.path());
        let what = || format!("{} \nengine log:\n{}", arguments.join(" "), tail(&self.log(), 40));
        self.world
            .enter(|| bounded(&mut command, input, LIMIT))
            .with_context(what)
    }

    /// Removes every container, ends the engine and says what it left behind. The last act of a test.
    ///
    /// # Errors
    /// With every leak by name.
    pub fn finish(mut self) -> Result<()> {
        let listed = self.ferry(&["ps", "-aq", "--no-trunc"])?.ok()?;
        for id in listed.lines() {
            self.ferry(&["rm", "-f", "-v", id])?.ok()?;
        }
        let before = self.before.take().context("finished twice")?;
        let mut leaks = Vec::new();
        let clean = eventually("nothing is left", Duration::from_secs(10), || {
            leaks = self
                .world
                .enter(|| Ok(before.leaked(&census())))
                .unwrap_or_default();
            leaks.retain(|l| !expected(l));
            leaks.is_empty()
        });
        self.stop()?;
        if clean.is_err() {
            bail!("{}\nengine log:\n{}", leaks.join("\n"), tail(&self.log(), 60));
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn census() -> Census {
    Census::take(&["ferry"], &["ferry-shim", "ferry-exec"])
}

/// What a running engine has and a stopped test world does not matter for: its bridge, and its rules' fixed frame.
fn expected(leak: &str) -> bool {
    leak == "link left behind: ferry0" || leak.starts_with("nft rule")
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
