//! The loop of a shim or an exec monitor: one thread, one poll, as long as its process lives.
//!
//! Creating → Created → Running → draining → Exited. It waits for nothing but poll, so no client, engine or disk can keep it
//! from seeing the others; and it is the only one to know the exit, which it writes down before it tells it.

use crate::clients::Wants;
use crate::host::Host;
use crate::jsonlog::Moment;
use crate::link::{Incoming, Link};
use crate::logfile::Log;
use crate::report::{Accepted, Handles, Made, Order, Report, window};
use crate::stdio::{Port, Stdio};
use crate::{confine, process, record};
use ferry_shim_proto::{ExitRecord, Failure, FromShim, ShimRecord, ShimState, ToShim, VERSION, transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long outputs are read on after the exit while somebody keeps them open; dockerd's own patience.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client may take for what it is owed after the exit was acknowledged.
const LINGER: Duration = Duration::from_secs(10);
/// After how long without any event buffers are given back.
const IDLE: Duration = Duration::from_millis(500);
/// How long after the kernel's notice its count of kills may lag.
const OOM_LAG: Duration = Duration::from_millis(20);

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
        let next = [self.stdio.deadline(), self.oom_recheck, exit, idle]
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

    // The set-up process.

    fn hear_setup(&mut self) {
        let Some(setup) = &self.setup else { return };
        let report = transport::try_recv_frame::<Report>(&setup.socket);
        match report {
            Ok(Some((report, fds))) => self.take(report, fds),
            Ok(None) => self.setup_has_ended(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.fail(Failure {
                code: 125,
                message: format!("hear the set-up process: {error}"),
            }),
        }
    }

    fn take(&mut self, report: Report, fds: Vec<OwnedFd>) {
        match report {
            Report::Accepted(accepted) => self.configure(accepted, fds),
            Report::Created(made) => self.created(made, fds),
            Report::Started(at) => {
                self.held = fds;
                self.started(at);
            }
            Report::Failed(failure) => self.fail(failure),
            Report::Warning(warning) => self.link.send(&FromShim::Warning(warning)),
        }
    }

    fn configure(&mut self, mut accepted: Accepted, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        if accepted.listens {
            self.listener = fds.next();
        }
        let log = accepted
            .log
            .take()
            .zip(fds.next())
            .map(|(target, file)| Log::new(target, file));
        match log.transpose() {
            Ok(log) => self.stdio.configure(accepted.policy, log),
            Err(error) => self.fail(Failure {
                code: 125,
                message: format!("open the log: {error}"),
            }),
        }
        self.accepted = accepted;
    }

    fn created(&mut self, made: Made, fds: Vec<OwnedFd>) {
        let Some(handles) = Handles::receive(&made, fds) else {
            return self.fail(Failure {
                code: 125,
                message: "the set-up process sent too few descriptors".into(),
            });
        };
        self.made = made;
        self.pidfd = Some(handles.pidfd);
        self.oom = handles.oom;
        self.stdio.connect(handles.ends);
        self.resize();
        if self.role == Role::Container {
            self.state = ShimState::Created { pid: made.pid };
            self.link.send(&FromShim::Created {
                pid: made.pid,
                start_time: made.start_time,
            });
        }
    }

    fn started(&mut self, at: u128) {
        self.state = ShimState::Running {
            pid: self.made.pid,
            started_at: at,
        };
        if self.role == Role::Container {
            self.record_start(at);
        }
        // Told last: whoever knows finds the record.
        self.link.send(&FromShim::Started {
            pid: self.made.pid,
            at,
        });
    }

    fn record_start(&mut self, at: u128) {
        let own = process::own_pid();
        let record = ShimRecord {
            version: VERSION,
            shim_pid: own,
            shim_start_time: record::start_time(own).unwrap_or(0),
            pid: self.made.pid,
            start_time: self.made.start_time,
            started_at: at,
        };
        if let Err(error) = record::write(&self.accepted.exit_record.with_file_name("shim.json"), &record) {
            self.link.send(&FromShim::Warning(error.to_string()));
        }
    }

    fn setup_has_ended(&mut self) {
        self.reap_setup();
        if !matches!(self.state, ShimState::Running { .. }) {
            if !self.failed {
                self.fail(Failure {
                    code: 125,
                    message: "the set-up process died".into(),
                });
            }
            return;
        }
        if let Err(error) = confine::confine(self.host, self.accepted.shares_pids) {
            self.link.send(&FromShim::Warning(format!(
                "the monitor keeps more privileges than it needs: {error}"
            )));
        }
    }

    /// Waits for the set-up process, which has nothing left to do; its child is ours from then on.
    fn reap_setup(&mut self) {
        if let Some(pid) = self.setup.take().and_then(|setup| Pid::from_raw(setup.pid)) {
            // ECHILD would mean that it is reaped already.
            let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
            process::stop_adopting();
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failed = true;
        self.link.send(&FromShim::Failed(failure));
        if let Some(setup) = &self.setup {
            // It has ended by itself but in the case that we did not understand it.
            process::kill(setup.pid);
            self.reap_setup();
        }
        if let Some(pidfd) = self.pidfd.take() {
            // Dead already unless the set-up process was lost; either way it is ours now.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        self.held.clear();
        self.stdio.finish();
        self.warn();
        self.remove_cgroup();
    }

    // The container.

    fn check_memory(&mut self) {
        let mut counter = [0; 512];
        if let Some(fd) = &self.oom {
            // An eventfd or an inotify descriptor, both non-blocking: read to be quiet until the next time.
            if matches!(rustix::io::read(fd, &mut counter), Ok(0)) {
                self.oom = None;
            }
        }
        self.count_kills();
        self.oom_recheck = Some(Instant::now() + OOM_LAG);
    }

    fn count_kills(&mut self) {
        self.oom_recheck = None;
        let kills = self
            .host
            .group(&self.accepted.cgroup)
            .map_or(0, |group| group.oom_kills().unwrap_or(0));
        if kills > self.oom_kills {
            self.oom_kills = kills;
            self.link.send(&FromShim::Oom);
        }
    }

    fn has_exited(&mut self) {
        // The container becomes our child only when the set-up process has ended, which it does right after its last report.
        while let Some(setup) = &self.setup {
            let mut one = [PollFd::new(&setup.socket, PollFlags::IN)];
            if poll(&mut one, None).is_ok() {
                self.hear_setup();
            }
        }
        self.collect(WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if self.exit.is_some() && self.accepted.shares_pids {
            self.kill_rest();
        }
        if self.exit.is_some() {
            self.stdio.drain();
        }
    }

    /// Takes the status; nothing changes when there is none yet.
    fn collect(&mut self, options: WaitIdOptions) {
        let Some(pidfd) = &self.pidfd else { return };
        let code = match rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), options)) {
            Ok(None) => return,
            Ok(Some(status)) => status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
                .unwrap_or(255),
            Err(error) => {
                self.link
                    .send(&FromShim::Warning(format!("the exit code is lost: {error}")));
                255
            }
        };
        if self.oom.is_some() && (code == 137 || self.oom_recheck.is_some()) {
            self.count_kills();
        }
        let record = ExitRecord {
            code,
            at: Moment::now().as_nanoseconds(),
            oom_killed: self.oom_kills > 0,
        };
        self.exit = Some((record, Instant::now()));
    }

    fn kill_rest(&mut self) {
        let killed = self.host.group(&self.accepted.cgroup).map(|group| group.kill());
        if let Some(Err(error)) = killed {
            self.link.send(&FromShim::Warning(format!(
                "kill what is left of the container: {error}"
            )));
        }
    }

    /// Records and tells the exit; what is slow comes afterwards.
    fn finish_exit(&mut self) {
        if matches!(self.state, ShimState::Exited(_)) {
            return;
        }
        let Some((record, _)) = self.exit.clone() else {
            return;
        };
        self.stdio.finish();
        self.warn();
        if let Err(error) = record::write(&self.accepted.exit_record, &record) {
            self.link.send(&FromShim::Warning(error.to_string()));
        }
        self.state = ShimState::Exited(record.clone());
        self.link.send(&FromShim::Exited(record));
        self.oom = None;
        self.oom_recheck = None;
        self.pidfd = None;
        self.held.clear();
        self.remove_cgroup();
    }

    fn remove_cgroup(&mut self) {
        let removed = self.host.group(&self.accepted.cgroup).map(|group| group.remove());
        if let Some(Err(error)) = removed {
            self.link
                .send(&FromShim::Warning(format!("remove the cgroup: {error}")));
        }
    }
}
