//! From the set-up process's reports to a running container.

use super::{Monitor, Role};
use crate::logfile::Log;
use crate::report::{Accepted, Handles, Made, Report};
use crate::{confine, process, record};
use ferry_shim_proto::{Failure, FromShim, ShimRecord, ShimState, VERSION, transport};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Monitor<'_> {
    pub(super) fn hear_setup(&mut self) {
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
    pub(super) fn reap_setup(&mut self) {
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
}
