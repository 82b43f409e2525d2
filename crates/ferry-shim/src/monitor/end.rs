//! Kills for memory, the exit, and what is let go after it.

use super::Monitor;
use crate::jsonlog::Moment;
use crate::record;
use ferry_shim_proto::{ExitRecord, FromShim, ShimState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long after the kernel's notice its count of kills may lag.
const OOM_LAG: Duration = Duration::from_millis(20);

impl Monitor<'_> {
    pub(super) fn check_memory(&mut self) {
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

    pub(super) fn count_kills(&mut self) {
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

    pub(super) fn has_exited(&mut self) {
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
    pub(super) fn collect(&mut self, options: WaitIdOptions) {
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
    pub(super) fn finish_exit(&mut self) {
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

    pub(super) fn remove_cgroup(&mut self) {
        let removed = self.host.group(&self.accepted.cgroup).map(|group| group.remove());
        if let Some(Err(error)) = removed {
            self.link
                .send(&FromShim::Warning(format!("remove the cgroup: {error}")));
        }
    }
}
