//! Attached clients: what they are owed of the outputs and what they put in.
//!
//! A client's socket is never waited for. What it does not take at once is kept for it; while anything is kept, the caller
//! reads no more of the container, so at most one read (and what a pipe held at the exit) is ever in memory. A client that
//! is gone is forgotten and holds nobody back.

use crate::jsonlog::Stream;
use crate::stdcopy;
use rustix::event::PollFlags;
use rustix::io::{Errno, IoSlice};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Which streams a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// It may write.
    pub stdin: bool,
    /// It gets standard output, or the terminal.
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
}

/// One attached client.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    wants: Wants,
    pending: Vec<u8>,
    /// To be closed once `pending` is written.
    ending: bool,
    /// Its other end is closed altogether; there may be input left to read.
    gone: bool,
}

/// What reading a client gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// It has shut its writing side down.
    End,
    /// It was closed without saying so.
    Lost,
}

impl Client {
    /// A client on this socket.
    pub fn new(socket: OwnedFd, wants: Wants) -> Client {
        Client {
            socket,
            wants,
            pending: Vec::new(),
            ending: false,
            gone: false,
        }
    }

    /// What to poll for, if anything. `reads_input`: whether there is room for what it writes.
    pub fn interest(&self, reads_input: bool) -> Option<PollFlags> {
        let mut flags = PollFlags::empty();
        if self.wants.stdin && reads_input && !self.ending {
            flags |= PollFlags::IN;
        }
        if !self.pending.is_empty() {
            flags |= PollFlags::OUT;
        }
        // A closed socket is always ready: it is asked for only while there is something to do with it.
        (!self.gone || flags.contains(PollFlags::IN)).then_some(flags)
    }

    /// Takes note of what poll said beside readiness.
    pub fn polled(&mut self, flags: PollFlags) {
        if flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            self.gone = true;
            self.pending = Vec::new();
        }
        if flags.contains(PollFlags::OUT) {
            self.flush();
        }
    }

    /// Whether its output waits for it.
    pub fn holds_back(&self) -> bool {
        !self.gone && !self.pending.is_empty()
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        (self.gone && (!self.wants.stdin || self.ending)) || (self.ending && self.pending.is_empty())
    }

    /// It gets what is kept for it, and then the end.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// It writes no more.
    pub fn stop_input(&mut self) {
        self.wants.stdin = false;
    }

    /// Whether it may write.
    pub fn has_input(&self) -> bool {
        self.wants.stdin && !self.ending
    }

    /// Hands it output, raw or in a stdcopy frame.
    pub fn give(&mut self, stream: Stream, bytes: &[u8], raw: bool) {
        let wanted = match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        };
        if !wanted || self.gone || self.ending {
            return;
        }
        let header = stdcopy::header(stream, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let header: &[u8] = if raw { &[] } else { &header };
        let sent = if self.pending.is_empty() {
            self.send(&[header, bytes])
        } else {
            0
        };
        let from_header = sent.min(header.len());
        if !self.gone && sent < header.len() + bytes.len() {
            self.pending.extend_from_slice(&header[from_header..]);
            self.pending.extend_from_slice(&bytes[sent - from_header..]);
        }
    }

    /// Reads what it wrote.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        match rustix::net::recv(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) if self.is_closed() => Read::Lost,
            Ok((0, _)) => Read::End,
            Ok((read, _)) => Read::Bytes(read),
            Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
            Err(_) => Read::Lost,
        }
    }

    /// Whether the other end is closed and not only shut down.
    fn is_closed(&self) -> bool {
        use rustix::event::{PollFd, Timespec, poll};
        let mut asked = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut asked, Some(&now)).is_err() || asked[0].revents().contains(PollFlags::HUP)
    }

    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let sent = self.send(&[&pending]);
        if sent < pending.len() && !self.gone {
            self.pending = pending;
            self.pending.drain(..sent);
        }
    }

    /// How much of the parts the socket took. An error other than a full buffer means that nobody reads any more.
    fn send(&mut self, parts: &[&[u8]]) -> usize {
        let slices = [
            IoSlice::new(parts[0]),
            IoSlice::new(parts.get(1).copied().unwrap_or_default()),
        ];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match rustix::net::sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => return sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return 0,
                Err(_) => {
                    self.gone = true;
                    self.pending = Vec::new();
                    return 0;
                }
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    fn client(wants: Wants) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        (Client::new(ours.into(), wants), theirs)
    }

    const ALL: Wants = Wants {
        stdin: true,
        stdout: true,
        stderr: true,
    };

    #[test]
    fn a_slow_client_gets_everything_in_order() {
        let (mut client, mut other) = client(ALL);
        let mut expected = Vec::new();
        let mut total = 0;
        while !client.holds_back() {
            let chunk = vec![total as u8; 10_000];
            client.give(Stream::Stderr, &chunk, false);
            expected.extend_from_slice(&stdcopy::header(Stream::Stderr, 10_000));
            expected.extend_from_slice(&chunk);
            total += 1;
        }
        client.give(Stream::Stdout, b"last", false);
        expected.extend_from_slice(b"\x01\0\0\0\0\0\0\x04last");
        client.end();
        let mut got = vec![0; expected.len()];
        let mut at = 0;
        while at < got.len() {
            at += other.read(&mut got[at..]).expect("read");
            client.polled(PollFlags::OUT);
        }
        assert!(client.is_over() && got == expected);
    }

    #[test]
    fn a_dead_client_holds_nobody_back_but_its_input_is_read() {
        let (mut client, mut other) = client(ALL);
        other.write_all(b"input").expect("write");
        drop(other);
        client.give(Stream::Stdout, b"x", true);
        assert!(!client.holds_back() && !client.is_over());
        assert_eq!(client.interest(true), Some(PollFlags::IN));
        assert_eq!(client.interest(false), None);
        let mut buffer = [0; 16];
        assert_eq!(client.read(&mut buffer), Read::Bytes(5));
        assert_eq!(client.read(&mut buffer), Read::Lost);
        client.stop_input();
        assert!(client.is_over());
    }

    #[test]
    fn a_shut_down_is_not_a_loss_and_unwanted_streams_stay_away() {
        let (mut client, mut other) = client(Wants { stderr: false, ..ALL });
        other.shutdown(std::net::Shutdown::Write).expect("shutdown");
        assert_eq!(client.read(&mut [0; 4]), Read::End);
        client.give(Stream::Stderr, b"no", true);
        client.give(Stream::Stdout, b"yes", true);
        drop(client);
        let mut got = String::new();
        other.read_to_string(&mut got).expect("read");
        assert_eq!(got, "yes");
    }
}
