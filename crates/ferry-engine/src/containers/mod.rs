//! Containers: from `create` to `rm`.

pub mod attach;
pub(crate) mod core;
mod create;
pub(crate) mod health;
pub(crate) mod launch;
pub(crate) mod lifecycle;
pub(crate) mod log_options;
pub mod logs;
mod look;
mod merge;
mod meter;
mod mounts;
pub mod options;
pub(crate) mod record;
pub(crate) mod recover;
mod remove;
pub mod spec;
pub mod state;
mod stop;
pub(crate) mod table;
pub(crate) mod to_oci;
mod validate;
pub mod view;

use self::attach::{AttachStream, DetachKeys};
use self::core::Core;
use self::logs::LogStream;
use self::options::{
    AttachOptions, Created, Filter, LogOptions, PruneFilter, PruneReport, RemoveOptions, StatsSample,
    StopOptions, Update,
};
use self::spec::ContainerSpec;
use self::table::{Container, Progress, Waiting};
use self::view::{Change, ContainerView, Top, WaitCondition, WaitResult};
use crate::{Error, Kind, Result, names};
use ferry_oci::Platform;
use ferry_shim_proto::ToShim;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Containers {
    core: Arc<Core>,
}

/// A wait that is registered already.
pub struct WaitHandle {
    progress: watch::Receiver<Progress>,
    condition: WaitCondition,
    exits: u64,
}

impl WaitHandle {
    /// Waits for what was asked.
    ///
    /// # Errors
    /// When the engine shuts down first.
    pub async fn result(mut self) -> Result<WaitResult> {
        let (condition, exits) = (self.condition, self.exits);
        let done = |p: &Progress| match condition {
            WaitCondition::NotRunning => !p.running(),
            WaitCondition::NextExit => p.exits > exits || p.removed,
            WaitCondition::Removed => p.removed,
        };
        let seen = self.progress.wait_for(done).await;
        let seen = seen.map_err(|_| Error::new(Kind::Unavailable, "the engine shuts down"))?;
        let error = Some(seen.error.clone()).filter(|e| !e.is_empty());
        Ok(WaitResult {
            code: seen.exit_code,
            error,
        })
    }
}

impl Containers {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    fn find(&self, key: &str) -> Result<Arc<Container>> {
        self.core.table.find(key)
    }

    /// Runs `work` in a task of its own, so that a client that goes away cannot cut it in half.
    async fn owned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        tokio::spawn(work)
            .await
            .map_err(|e| Error::internal("a container's task", e))?
    }

    /// Makes a container.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: `No such image: x`; [`Kind::Conflict`] for a name in use; [`Kind::Invalid`] for what cannot be.
    pub async fn create(
        &self,
        name: Option<String>,
        spec: ContainerSpec,
        platform: Option<Platform>,
    ) -> Result<Created> {
        let core = Arc::clone(&self.core);
        Self::owned(async move { create::create(&core, name, spec, platform).await }).await
    }

    /// Starts it and answers when its program runs.
    ///
    /// # Errors
    /// [`Kind::Unchanged`] when it runs; with an exit code where the program could not be executed.
    pub async fn start(&self, key: &str) -> Result<()> {
        let (core, container) = (Arc::clone(&self.core), self.find(key)?);
        Self::owned(async move { lifecycle::start(&core, &container).await }).await
    }

    /// Asks it to end, and kills it when it does not in time.
    ///
    /// # Errors
    /// [`Kind::Unchanged`] when it does not run.
    pub async fn stop(&self, key: &str, options: StopOptions) -> Result<()> {
        let (core, container) = (Arc::clone(&self.core), self.find(key)?);
        Self::owned(async move { stop::stop(&core, &container, &options).await }).await
    }

    /// Stops it where it runs, and starts it.
    ///
    /// # Errors
    /// Those of both.
    pub async fn restart(&self, key: &str, options: StopOptions) -> Result<()> {
        let (core, container) = (Arc::clone(&self.core), self.find(key)?);
        Self::owned(async move { stop::restart(&core, &container, &options).await }).await
    }

    /// Sends a signal, by name or number.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it does not run.
    pub async fn kill(&self, key: &str, signal: &str) -> Result<()> {
        let container = self.find(key)?;
        let (core, signal, name) = (Arc::clone(&self.core), signal.to_owned(), key.to_owned());
        let killed = Self::owned(async move { stop::kill(&core, &container, &signal).await }).await;
        killed.map_err(|e| match e.kind() {
            Kind::Conflict => Error::conflict(format!("cannot kill container: {name}: {e}")),
            _ => e,
        })
    }

    /// Freezes it.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it does not run or is frozen.
    pub async fn pause(&self, key: &str) -> Result<()> {
        let (core, container) = (Arc::clone(&self.core), self.find(key)?);
        Self::owned(async move { stop::freeze(&core, &container, true).await }).await
    }

    /// Thaws it.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it is not frozen.
    pub async fn unpause(&self, key: &str) -> Result<()> {
        let (core, container) = (Arc::clone(&self.core), self.find(key)?);
        Self::owned(async move { stop::freeze(&core, &container, false).await }).await
    }

    /// Gives it another name; durable when this answers.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for a name in use, [`Kind::Invalid`] for none.
    pub async fn rename(&self, key: &str, new_name: &str) -> Result<()> {
        let container = self.find(key)?;
        if new_name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let name = names::check(new_name.trim_start_matches('/'))?.to_owned();
        let old = container.record().name.clone();
        if old == name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.core
            .table
            .reserve(&name, &container.id)
            .map_err(|by| create::taken(&name, &by))?;
        let core = Arc::clone(&self.core);
        Self::owned(async move {
            Arc::make_mut(&mut container.cell().record).name.clone_from(&name);
            if let Err(error) = core.save_durably(&container).await {
                Arc::make_mut(&mut container.cell().record).name.clone_from(&old);
                core.table.release(&name, &container.id);
                return Err(error);
            }
            core.table.release(&old, &container.id);
            core.publish(&container.cell(), "rename", &[("oldName", &format!("/{old}"))]);
            Ok(())
        })
        .await
    }

    /// Removes it; durable when this answers.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it runs and `force` is not set.
    pub async fn remove(&self, key: &str, options: RemoveOptions) -> Result<()> {
        let (core, container) = (Arc::clone(&self.core), self.find(key)?);
        Self::owned(async move { remove::remove(&core, &container, &options).await }).await
    }

    /// Changes limits and restart policy; tells warnings.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for limits that cannot be.
    pub async fn update(&self, key: &str, update: Update) -> Result<Vec<String>> {
        let (core, key) = (Arc::clone(&self.core), key.to_owned());
        Self::owned(async move { look::update(&core, &key, update).await }).await
    }

    /// Registers a wait; it is registered when this answers.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    #[allow(clippy::unused_async)]
    pub async fn wait(&self, key: &str, condition: WaitCondition) -> Result<WaitHandle> {
        let progress = self.find(key)?.watch();
        let exits = progress.borrow().exits;
        Ok(WaitHandle {
            progress,
            condition,
            exits,
        })
    }

    /// Attaches to its streams; one that does not run yet is attached to when it starts.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for detach keys that are none; [`Kind::Conflict`] when it is frozen.
    pub async fn attach(&self, key: &str, options: AttachOptions) -> Result<AttachStream> {
        let container = self.find(key)?;
        let record = container.record();
        let detach = DetachKeys::parse(&options.detach_keys)?;
        if container.state().phase == state::Phase::Paused {
            return Err(Error::conflict(format!(
                "container {} is paused, unpause the container before attach",
                container.id
            )));
        }
        let replay = match options.logs {
            true => {
                let wanted = LogOptions {
                    stdout: options.stdout,
                    stderr: options.stderr,
                    ..LogOptions::default()
                };
                Some(logs::read(&self.core, &container, wanted).await?)
            }
            false => None,
        };
        let (ours, theirs) = UnixStream::pair().map_err(|e| Error::internal("making a stream", e))?;
        if options.stream {
            let theirs = theirs
                .into_std()
                .map_err(|e| Error::internal("handing a stream over", e))?;
            theirs
                .set_nonblocking(false)
                .map_err(|e| Error::internal("handing a stream over", e))?;
            let streams = (
                options.stdin && record.spec.process.open_stdin,
                options.stdout,
                options.stderr,
            );
            self.hand_over(&container, theirs.into(), streams).await?;
        }
        self.core.publish(&container.cell(), "attach", &[]);
        Ok(AttachStream {
            tty: record.spec.process.tty,
            socket: ours,
            replay,
            detach,
        })
    }

    /// To the shim where there is one, else to the one that comes.
    async fn hand_over(
        &self,
        container: &Container,
        stream: OwnedFd,
        streams: (bool, bool, bool),
    ) -> Result<()> {
        let run = {
            let mut cell = container.cell();
            match &cell.run {
                Some(run) if cell.state.alive() || cell.state.phase == state::Phase::Starting => {
                    Arc::clone(run)
                }
                _ => {
                    cell.waiting.push(Waiting { stream, streams });
                    return Ok(());
                }
            }
        };
        let (stdin, stdout, stderr) = streams;
        let frame = ToShim::Attach {
            stdin,
            stdout,
            stderr,
        };
        run.link
            .send(&frame, &[stream.as_fd()])
            .await
            .map_err(|e| Error::internal("attaching", e))
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it does not run.
    pub async fn resize(&self, key: &str, height: u16, width: u16) -> Result<()> {
        let container = self.find(key)?;
        let run = {
            let mut cell = container.cell();
            match (&cell.run, cell.state.phase) {
                (Some(run), _) => Arc::clone(run),
                (None, state::Phase::Starting) => {
                    cell.size = Some((height, width));
                    return Ok(());
                }
                (None, _) => {
                    return Err(Error::conflict(format!(
                        "container {} is not running",
                        container.id
                    )));
                }
            }
        };
        run.link
            .send(&ToShim::Resize { height, width }, &[])
            .await
            .map_err(|e| Error::internal("resizing", e))?;
        let (h, w) = (height.to_string(), width.to_string());
        self.core
            .publish(&container.cell(), "resize", &[("height", &h), ("width", &w)]);
        Ok(())
    }

    /// Reads its log.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where its driver keeps none.
    pub async fn logs(&self, key: &str, options: LogOptions) -> Result<LogStream> {
        let container = self.find(key)?;
        logs::read(&self.core, &container, options).await
    }

    /// One sample of its usage.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub async fn stats(&self, key: &str) -> Result<StatsSample> {
        meter::stats(&self.core, key).await
    }

    /// Its processes, as the host's ps shows them.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it does not run.
    pub async fn top(&self, key: &str, ps_args: &str) -> Result<Top> {
        meter::top(&self.core, key, ps_args).await
    }

    /// How its file system differs from its image.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub async fn changes(&self, key: &str) -> Result<Vec<Change>> {
        meter::changes(&self.core, key).await
    }

    /// Those that pass the filter, newest first.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an unknown filter.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<ContainerView>> {
        look::list(&self.core, filter).await
    }

    /// One, whole.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub async fn inspect(&self, key: &str, size: bool) -> Result<ContainerView> {
        look::inspect(&self.core, key, size).await
    }

    /// Removes what does not run.
    ///
    /// # Errors
    /// [`Kind::Conflict`] while another prune goes on.
    pub async fn prune(&self, filter: PruneFilter) -> Result<PruneReport> {
        let core = Arc::clone(&self.core);
        Self::owned(async move { look::prune(&core, filter).await }).await
    }
}
