//! The set of descriptors that netd waits for (epoll(7), level-triggered).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::Source;

/// Interest in something to read; also told of hang-ups.
pub const READ: EventFlags = EventFlags::IN;
/// Interest in room to write.
pub const WRITE: EventFlags = EventFlags::OUT;
/// So many events are taken at a time.
const BATCH: usize = 64;

/// A poll set whose members are known by a key that is never used again, so that an event of a descriptor that was
/// closed meanwhile finds nobody.
pub struct Poll {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    next: u64,
}

impl Poll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poll {
            epoll,
            sources: BTreeMap::new(),
            next: 1,
        })
    }

    /// Adds a descriptor; tells its key. Without interest in anything it is not even told of hang-ups, which would be
    /// told again and again.
    pub fn add(&mut self, fd: BorrowedFd<'_>, source: Source, interest: EventFlags) -> io::Result<u64> {
        let key = self.next;
        if !interest.is_empty() {
            epoll::add(&self.epoll, fd, EventData::new_u64(key), interest)?;
        }
        self.next += 1;
        self.sources.insert(key, source);
        Ok(key)
    }

    /// Changes what a descriptor is watched for.
    pub fn change(&self, fd: BorrowedFd<'_>, key: u64, interest: EventFlags) -> io::Result<()> {
        if interest.is_empty() {
            return Ok(epoll::delete(&self.epoll, fd)?);
        }
        match epoll::modify(&self.epoll, fd, EventData::new_u64(key), interest) {
            Err(Errno::NOENT) => Ok(epoll::add(&self.epoll, fd, EventData::new_u64(key), interest)?),
            other => Ok(other?),
        }
    }

    /// Takes a descriptor out, before it is closed: a copy of it in another process would keep it in the set.
    pub fn remove(&mut self, fd: BorrowedFd<'_>, key: u64) {
        self.sources.remove(&key);
        // It can only fail for a descriptor that is not in the set, which is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Takes a descriptor out by what it is.
    pub fn forget(&mut self, fd: BorrowedFd<'_>, is_it: impl Fn(Source) -> bool) {
        let key = self
            .sources
            .iter()
            .find(|(_, source)| is_it(**source))
            .map(|(key, _)| *key);
        if let Some(key) = key {
            self.remove(fd, key);
        }
    }

    /// Waits until something is ready or the time is up.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<(u64, Source)>> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let mut events = Vec::<Event>::with_capacity(BATCH);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let key = |event: &Event| event.data.u64();
        Ok(events
            .iter()
            .filter_map(|event| self.sources.get(&key(event)).map(|source| (key(event), *source)))
            .collect())
    }
}
