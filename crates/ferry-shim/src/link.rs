//! The newest link to an engine: frames out in order, without ever waiting for it.

use ferry_shim_proto::{FromShim, ToShim, decode, encode, transport};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Frames to the engine are small; a longer one is no frame of this protocol.
const LONGEST_INCOMING: usize = 512;
/// News kept for an engine to come; more than that says nothing new.
const MOST_NEWS: usize = 32;

/// A link that may be down.
#[derive(Debug, Default)]
pub struct Link {
    socket: Option<OwnedFd>,
    unsent: VecDeque<Vec<u8>>,
    /// What no state tells, for the next engine: out-of-memory kills and warnings.
    news: Vec<FromShim>,
}

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A frame and its descriptors.
    Frame(ToShim, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The engine is gone.
    HungUp,
    /// Something that is no frame; a sentence.
    Garbage(String),
}

impl Link {
    /// From now on this engine gets every frame: `hello` first, then what happened while none was there.
    pub fn renew(&mut self, socket: OwnedFd, hello: &FromShim) {
        self.socket = Some(socket);
        self.unsent.clear();
        self.send(hello);
        for news in std::mem::take(&mut self.news) {
            self.send(&news);
        }
    }

    /// Whether an engine is there.
    pub fn is_up(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends a frame, or keeps it when it is news that the next engine cannot learn otherwise.
    pub fn send(&mut self, frame: &FromShim) {
        if self.socket.is_none() {
            if matches!(frame, FromShim::Oom | FromShim::Warning(_)) && self.news.len() < MOST_NEWS {
                self.news.push(frame.clone());
            }
            return;
        }
        // Cannot fail for frames of this size.
        if let Ok(bytes) = encode(frame) {
            self.unsent.push_back(bytes);
        }
        self.flush();
    }

    /// Sends what the socket had no room for.
    pub fn flush(&mut self) {
        while let (Some(socket), Some(bytes)) = (&self.socket, self.unsent.front()) {
            match transport::try_send(socket, bytes, &[]) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.hang_up(),
            }
        }
    }

    /// What to poll, and for what.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let flags = if self.unsent.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        };
        self.socket.as_ref().map(|socket| (socket.as_fd(), flags))
    }

    /// Takes the next frame. On a hang-up the link is down.
    pub fn receive(&mut self) -> Incoming {
        let Some(socket) = &self.socket else {
            return Incoming::HungUp;
        };
        let mut buffer = [0; LONGEST_INCOMING];
        match transport::try_recv(socket, &mut buffer) {
            Ok((0, _)) => {
                self.hang_up();
                Incoming::HungUp
            }
            Ok((length, fds)) => match decode(&buffer[..length]) {
                Ok(frame) => Incoming::Frame(frame, fds),
                Err(error) => Incoming::Garbage(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Incoming::Nothing,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Incoming::Garbage(error.to_string()),
            Err(_) => {
                self.hang_up();
                Incoming::HungUp
            }
        }
    }

    fn hang_up(&mut self) {
        self.socket = None;
        self.unsent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_wait_for_an_engine_and_the_newest_gets_all() {
        let mut link = Link::default();
        link.send(&FromShim::Oom);
        link.send(&FromShim::Created {
            pid: 1,
            start_time: 2,
        });
        let hello = FromShim::Warning("hello".into());
        let (ours, theirs) = transport::pair().expect("pair");
        link.renew(ours, &hello);
        let mut got = Vec::new();
        while let Ok(Some((frame, _))) = transport::try_recv_frame::<FromShim>(&theirs) {
            got.push(frame);
        }
        assert_eq!(got, [hello.clone(), FromShim::Oom]);

        let (ours, newer) = transport::pair().expect("pair");
        link.renew(ours, &hello);
        assert!(
            transport::recv_frame::<FromShim>(&theirs)
                .expect("recv")
                .is_none(),
            "the older one is hung up"
        );
        transport::send_frame(&newer, &ToShim::Start, &[]).expect("send");
        assert!(matches!(link.receive(), Incoming::Frame(ToShim::Start, _)));
        assert!(matches!(link.receive(), Incoming::Nothing));
        transport::send(&newer, b"rubbish", &[]).expect("send");
        assert!(matches!(link.receive(), Incoming::Garbage(_)));
        drop(newer);
        assert!(matches!(link.receive(), Incoming::HungUp) && !link.is_up());
    }

    #[test]
    fn a_busy_engine_gets_frames_later_and_in_order() {
        let mut link = Link::default();
        let (ours, theirs) = transport::pair().expect("pair");
        link.renew(ours, &FromShim::Oom);
        for n in 0..2_000 {
            link.send(&FromShim::Warning(n.to_string()));
        }
        assert!(link.interest().expect("up").1.contains(PollFlags::OUT));
        let mut expected = 0;
        assert!(matches!(
            transport::recv_frame(&theirs),
            Ok(Some((FromShim::Oom, _)))
        ));
        while expected < 2_000 {
            match transport::try_recv_frame::<FromShim>(&theirs) {
                Ok(Some((FromShim::Warning(n), _))) => {
                    assert_eq!(n, expected.to_string());
                    expected += 1;
                }
                _ => link.flush(),
            }
        }
    }
}
