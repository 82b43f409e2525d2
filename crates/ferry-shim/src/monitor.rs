//! The loop of a shim or an exec monitor: one thread, one poll, as long as its process lives.
//!
//! Creating → Created → Running → draining → Exited. It waits for nothing but poll, so no client, engine or disk can keep it
//! from seeing the others; and it is the only one to know the exit, which it writes down before it tells it.

mod birth;
mod end;

use crate::clients::Wants;
use crate::host::Host;
use crate::link::{Incoming, Link};
use crate::process;
use crate::report::{Accepted, Made, Order, window};
use crate::stdio::{Port, Stdio};
use ferry_shim_proto::{ExitRecord, FromShim, ShimState, ToShim, VERSION, transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitIdOptions, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long outputs are read on after the exit while somebody keeps them open; dockerd's own patience.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client may take for what it is owed after the exit was acknowledged.
const LINGER: Duration = Duration::from_secs(10);
/// After how long without any event buffers are given back.
const IDLE: Duration = Duration::from_millis(500);
/// How often a monitor that only waits for an engine looks whether one can still find it.
const LOOK: Duration = Duration::from_secs(30);

/// Whose monitor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A container's: a shim.
    Container,
    /// An exec's.
    Exec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Link,
    Listener,
    Setup,
    Process,
    Oom,
    Stdio(Port),
}

/// The set-up process.
#[derive(Debug)]
pub struct Setup {
    /// It.
    pub pid: i32,
    /// Reports come, an order goes.
    pub socket: OwnedFd,
}

/// One container's or exec's monitor.
#[derive(Debug)]
pub struct Monitor<'a> {
    host: &'a Host,
    role: Role,
    link: Link,
    listener: Option<OwnedFd>,
    setup: Option<Setup>,
    accepted: Accepted,
    state: ShimState,
    made: Made,
    pidfd: Option<OwnedFd>,
    oom: Option<OwnedFd>,
    held: Vec<OwnedFd>,
    stdio: Stdio,
    window: Option<(u16, u16)>,
    oom_kills: u64,
    oom_recheck: Option<Instant>,
    exit: Option<(ExitRecord, Instant)>,
    acknowledged: bool,
    failed: bool,
    trimmed: bool,
    /// When the next look is due, while nothing but an engine can come.
    look: Option<Instant>,
}

impl<'a> Monitor<'a> {
    /// A monitor whose set-up process has just been forked.
    pub fn new(host: &'a Host, role: Role, link: OwnedFd, setup: Setup) -> Monitor<'a> {
        let mut monitor = Monitor {
            host,
            role,
            link: Link::default(),
            listener: None,
            setup: Some(setup),
            accepted: Accepted::default(),
            state: ShimState::Creating,
            made: Made::default(),
            pidfd: None,
            oom: None,
            held: Vec::new(),
            stdio: Stdio::new(),
            window: None,
            oom_kills: 0,
            oom_recheck: None,
            exit: None,
            acknowledged: false,
            failed: false,
            trimmed: false,
            look: None,
        };
        monitor.greet(link);
        monitor
    }

    /// The client that came with the request.
    pub fn attach(&mut self, stream: OwnedFd, wants: Wants) {
        self.stdio.attach(stream, wants);
    }

    /// Runs until the container is over and everybody knows. Ends the container when it cannot go on.
    pub fn run(&mut self) -> i32 {
        while !self.is_over() {
            if let Err(error) = self.turn() {
                self.link.send(&FromShim::Warning(format!(
                    "the monitor fails and ends its container: {error}"
                )));
                self.kill();
                return 1;
            }
        }
        i32::from(self.failed)
    }

    /// Ends the process at once and records what is known, for a monitor that cannot go on.
    pub fn kill(&mut self) {
        if let Some(setup) = &self.setup {
            process::kill(setup.pid);
        }
        if let Some(pidfd) = self.pidfd.take() {
            // Gone already is as good.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            self.pidfd = Some(pidfd);
            self.reap_setup();
            self.collect(WaitIdOptions::EXITED);
            self.finish_exit();
        }
    }

    fn is_over(&self) -> bool {
        let told = self
            .link
            .interest()
            .is_none_or(|(_, flags)| !flags.contains(PollFlags::OUT));
        if self.failed {
            return told;
        }
        let Some((_, at)) = &self.exit else { return false };
        let known = self.acknowledged || (self.role != Role::Container && !self.link.is_up());
        known
            && matches!(self.state, ShimState::Exited(_))
            && (self.stdio.is_flushed() || at.elapsed() >= LINGER)
    }

    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        for (source, flags) in &ready {
            match source {
                Source::Link => self.hear_engine(*flags),
                Source::Listener => self.accept(),
                Source::Setup => self.hear_setup(),
                Source::Process => self.has_exited(),
                Source::Oom => self.check_memory(),
                Source::Stdio(port) => self.stdio.ready(*port, *flags),
            }
        }
        self.stdio.sweep();
        self.stdio.tick(self.link.is_up());
        if self.oom_recheck.is_some_and(|at| at <= Instant::now()) {
            self.count_kills();
        }
        if self
            .exit
            .as_ref()
            .is_some_and(|(_, at)| self.stdio.is_drained() || at.elapsed() >= DRAIN)
        {
            self.finish_exit();
        }
        self.look_for_socket();
        self.warn();
        if !ready.is_empty() {
            self.trimmed = false;
        } else if !self.trimmed {
            self.trimmed = true;
            self.stdio.trim();
            ferry_sys::fork::trim_heap();
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = Vec::with_capacity(12);
        let mut fds = Vec::with_capacity(12);
        if let Some((fd, flags)) = self.link.interest() {
            sources.push(Source::Link);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let running = self
            .exit
            .is_none()
            .then_some(&self.pidfd)
            .and_then(Option::as_ref);
        let started = running.filter(|_| matches!(self.state, ShimState::Running { .. }));
        let others = [
            (Source::Listener, self.listener.as_ref()),
            (Source::Setup, self.setup.as_ref().map(|setup| &setup.socket)),
            (Source::Process, started),
            (Source::Oom, self.oom.as_ref()),
        ];
        for (source, fd) in others {
            if let Some(fd) = fd {
                sources.push(source);
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        self.stdio.interests(|port, fd, flags| {
            sources.push(Source::Stdio(port));
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        });
        let timeout = self.timeout();
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let flags = fds.iter().map(PollFd::revents);
        Ok(sources
            .into_iter()
            .zip(flags)
            .filter(|(_, flags)| !flags.is_empty())
            .collect())
    }

    fn timeout(&self) -> Option<Timespec> {
        let now = Instant::now();
        let exit = self.exit.as_ref().map(|(_, at)| match self.state {
            ShimState::Exited(_) => *at + LINGER,
            _ => *at + DRAIN,
        });
        // Past its linger an unacknowledged exit waits for an engine alone.
        let exit = exit.filter(|at| *at > now || !matches!(self.state, ShimState::Exited(_)));
        let idle = (!self.trimmed).then(|| now + IDLE);
        let next = [self.stdio.deadline(), self.oom_recheck, exit, idle, self.look]
            .into_iter()
            .flatten()
            .min()?;
        let left = next.saturating_duration_since(now);
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    // The engine.

    /// Without its runtime directory no engine finds this monitor any more, and there is nobody to wait for.
    fn look_for_socket(&mut self) {
        if self.link.is_up() || matches!(self.state, ShimState::Creating | ShimState::Running { .. }) {
            self.look = None;
            return;
        }
        let now = Instant::now();
        if *self.look.get_or_insert(now + LOOK) > now {
            return;
        }
        self.look = Some(now + LOOK);
        if !self
            .accepted
            .exit_record
            .parent()
            .is_some_and(std::path::Path::exists)
        {
            self.order(Order::Abort);
            self.acknowledged = true;
        }
    }

    fn greet(&mut self, socket: OwnedFd) {
        self.link.renew(
            socket,
            &FromShim::Hello {
                version: VERSION,
                state: self.state.clone(),
            },
        );
    }

    fn accept(&mut self) {
        if let Some(Ok(socket)) = self.listener.as_ref().map(transport::accept) {
            self.greet(socket);
        }
    }

    fn hear_engine(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.link.flush();
        }
        loop {
            match self.link.receive() {
                Incoming::Frame(frame, fds) => self.obey(frame, fds),
                Incoming::Garbage(why) => self.link.send(&FromShim::Warning(why)),
                Incoming::Nothing | Incoming::HungUp => return,
            }
        }
    }

    fn obey(&mut self, frame: ToShim, fds: Vec<OwnedFd>) {
        match frame {
            ToShim::Start => self.order(Order::Start),
            ToShim::Abort => self.order(Order::Abort),
            ToShim::Attach {
                stdin,
                stdout,
                stderr,
            } => {
                if let Some(stream) = fds.into_iter().next() {
                    self.stdio.attach(
                        stream,
                        Wants {
                            stdin,
                            stdout,
                            stderr,
                        },
                    );
                    if matches!(self.state, ShimState::Exited(_)) {
                        self.stdio.finish();
                    }
                }
            }
            ToShim::Resize { height, width } => {
                self.window = Some((height, width));
                self.resize();
            }
            ToShim::ReopenLog => {
                if let Err(error) = self.stdio.reopen_log() {
                    self.link.send(&FromShim::Warning(error.to_string()));
                }
            }
            ToShim::CloseStdin => self.stdio.close_input(),
            ToShim::Acknowledge => self.acknowledged = matches!(self.state, ShimState::Exited(_)),
        }
    }

    fn order(&mut self, order: Order) {
        if self.role != Role::Container {
            return;
        }
        let Some(setup) = &self.setup else { return };
        if let Err(error) = transport::try_send(&setup.socket, &[order.byte()], &[]) {
            self.link
                .send(&FromShim::Warning(format!("pass {order:?} on: {error}")));
        }
    }

    fn resize(&self) {
        if let (Some(terminal), Some((rows, columns))) = (self.stdio.terminal(), self.window) {
            // Fails only for a terminal that has just been closed, whose size nobody sees.
            let _ = rustix::termios::tcsetwinsize(terminal, window(rows, columns));
        }
    }

    fn warn(&mut self) {
        for warning in std::mem::take(&mut self.stdio.warnings) {
            self.link.send(&FromShim::Warning(warning));
        }
    }
}
