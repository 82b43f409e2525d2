//! The program around the engine: arguments, file, lock, pid file, log, signals.

use crate::Release;
use crate::config::{self, Action, Arguments, Settings};
use crate::pidfile::{PidFile, RootLock};
use crate::server::{Listen, ServeOptions, Server, serve};
use ferry_engine::{Engine, Kernel};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

type LogHandle = reload::Handle<LevelFilter, tracing_subscriber::Registry>;

/// Runs `ferry daemon` with these arguments (without the program's and the command's names) until a signal ends it. What is returned is
/// to be printed on standard output: the help or the version, or nothing. `kernel` is made only when the engine is to run.
///
/// # Errors
/// One sentence for standard error; the exit status is 1 then.
pub fn run(
    args: &[String],
    kernel: impl FnOnce() -> io::Result<Arc<dyn Kernel>>,
) -> Result<Option<String>, String> {
    let arguments = config::arguments(args).map_err(|e| e.0)?;
    let release = Release::default();
    match arguments.action {
        Action::Help => return Ok(Some(config::help())),
        Action::Version => {
            return Ok(Some(format!(
                "Ferry version {}, build {}\n",
                release.version, release.commit
            )));
        }
        Action::Validate | Action::Run => {}
    }
    let settings = load(&arguments)?;
    let group = group_id(&settings.group)?;
    let listeners = settings.listeners(group).map_err(|e| e.0)?;
    if arguments.action == Action::Validate {
        return Ok(Some("configuration OK\n".into()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err("the engine needs root: run it as root or with sudo".into());
    }
    let log = start_log(&settings)?;
    for listener in &listeners {
        warn_about(listener);
    }
    let _lock = RootLock::take(&settings.data_root)?;
    let _pidfile = PidFile::create(&settings.pidfile)?;
    let kernel = kernel().map_err(|e| format!("could not look at this kernel: {e}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("engine")
        .build()
        .map_err(|e| format!("could not start the engine's threads: {e}"))?;
    let ended = runtime.block_on(serve_until_told(settings, arguments, listeners, kernel, &log));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended.map(|()| None)
}

fn load(arguments: &Arguments) -> Result<Settings, String> {
    let (path, named) = &arguments.file;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !named => None,
        Err(e) => {
            return Err(format!(
                "unable to configure the engine with file {}: {e}",
                path.display()
            ));
        }
    };
    config::merge(arguments, text.as_deref()).map_err(|e| e.0)
}

/// The id of a group by number or name.
fn group_id(group: &str) -> Result<Option<u32>, String> {
    if group.is_empty() {
        return Ok(None);
    }
    if let Ok(id) = group.parse() {
        return Ok(Some(id));
    }
    let path = Path::new("/etc/group");
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("could not read {}: {e}", path.display()))?;
    let mut rows = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = rows
        .find(|fields| fields.first() == Some(&group))
        .and_then(|fields| fields.get(2)?.parse().ok());
    found.map(Some).ok_or_else(|| {
        format!("group {group} not found: make it, or give the socket to another group with --group")
    })
}

fn level(settings: &Settings) -> LevelFilter {
    match settings.log_level.as_str() {
        _ if settings.debug => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

fn start_log(settings: &Settings) -> Result<LogHandle, String> {
    let (filter, handle) = reload::Layer::new(level(settings));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|e| format!("could not start the log: {e}"))?;
    Ok(handle)
}

fn warn_about(listener: &Listen) {
    match listener {
        Listen::Tcp { address, tls: None } => tracing::warn!(
            %address,
            "whoever reaches this address is root on this machine: TLS is off"
        ),
        Listen::Tcp {
            address,
            tls: Some(files),
        } if !files.verify => tracing::warn!(
            %address,
            "whoever reaches this address is root on this machine: clients are not asked for a certificate"
        ),
        Listen::Tcp { .. } | Listen::Unix { .. } => {}
    }
}

async fn serve_until_told(
    settings: Settings,
    arguments: Arguments,
    listeners: Vec<Listen>,
    kernel: Arc<dyn Kernel>,
    log: &LogHandle,
) -> Result<(), String> {
    let installed = |e: io::Error| format!("could not watch for signals: {e}");
    let mut terminate = signal(SignalKind::terminate()).map_err(installed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(installed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(installed)?;
    let mut engine_config = settings.engine();
    engine_config.hosts = listeners.iter().map(ToString::to_string).collect();
    let engine = Engine::open(engine_config, kernel)
        .await
        .map_err(|e| format!("could not start the engine: {e}"))?;
    let options = ServeOptions {
        hosts: listeners,
        release: Release::default(),
    };
    let server = match serve(engine.clone(), options).await {
        Ok(server) => server,
        Err(e) => {
            engine.shutdown().await;
            return Err(e.to_string());
        }
    };
    let mut running = settings;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&mut running, &arguments, log),
        }
    }
    end(server, engine).await;
    Ok(())
}

async fn end(server: Server, engine: Engine) {
    tracing::info!("the engine ends; containers keep running");
    server.stop().await;
    engine.shutdown().await;
}

/// SIGHUP: the file is read again, what can change now does, and the rest is named.
fn reload(running: &mut Settings, arguments: &Arguments, log: &LogHandle) {
    let fresh = match load(arguments) {
        Ok(fresh) => fresh,
        Err(e) => return tracing::error!(error = e, "the configuration was not reloaded"),
    };
    let mut comparable = fresh.clone();
    comparable.debug = running.debug;
    comparable.log_level.clone_from(&running.log_level);
    if comparable != *running {
        tracing::warn!(
            "the configuration file changed in what takes a restart of the engine; debug and log-level are applied"
        );
    }
    if let Err(e) = log.reload(level(&fresh)) {
        tracing::error!(error = %e, "the log's level was not changed");
    }
    running.debug = fresh.debug;
    running.log_level = fresh.log_level;
    tracing::info!(
        debug = running.debug,
        level = running.log_level,
        "configuration reloaded"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn no_kernel() -> io::Result<Arc<dyn Kernel>> {
        Err(io::Error::other("not in this test"))
    }

    #[test]
    fn questions_are_answered_without_an_engine() {
        assert!(
            run(&words("--help"), no_kernel)
                .unwrap()
                .unwrap()
                .contains("--data-root")
        );
        assert!(
            run(&words("--version"), no_kernel)
                .unwrap()
                .unwrap()
                .starts_with("Ferry version")
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daemon.json");
        std::fs::write(&file, r#"{"debug":true}"#).unwrap();
        let line = format!("--validate --config-file {}", file.display());
        assert_eq!(
            run(&words(&line), no_kernel).unwrap().unwrap(),
            "configuration OK\n"
        );
        std::fs::write(&file, r#"{"nonsense":true}"#).unwrap();
        assert!(
            run(&words(&line), no_kernel)
                .unwrap_err()
                .contains("don't match any configuration option: nonsense")
        );
        let missing = format!("--validate --config-file {}", dir.path().join("x").display());
        assert!(run(&words(&missing), no_kernel).is_err());
    }

    #[test]
    fn groups_by_number_and_name() {
        assert_eq!(group_id("12"), Ok(Some(12)));
        assert_eq!(group_id("root"), Ok(Some(0)));
        assert!(group_id("no-such-group-here").unwrap_err().contains("not found"));
    }
}
