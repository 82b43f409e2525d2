//! A container's three streams: from its pipes or terminal to the log and to every attached client, and back.
//!
//! Nothing here waits. The owner polls what [`Stdio::interests`] names and hands back what is ready.

use crate::clients::{Client, Read, Wants};
use crate::jsonlog::Stream;
use crate::logfile::Log;
use rustix::event::PollFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes read at once.
const READ: usize = 16 * 1024;
/// How long a closed client may turn out to have died with the engine.
const LOST_GRACE: Duration = Duration::from_secs(1);

/// Something of the streams to be polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// An output of the container.
    Output(Stream),
    /// Its input.
    Input,
    /// A client, by its place.
    Client(usize),
}

/// The monitor's ends of a container's streams. For a terminal both are the master.
#[derive(Debug, Default)]
pub struct Ends {
    /// Where its input is written.
    pub stdin: Option<OwnedFd>,
    /// Where its output is read.
    pub stdout: Option<OwnedFd>,
    /// Where its error output is read.
    pub stderr: Option<OwnedFd>,
}

/// How standard input ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether there is a terminal.
    pub terminal: bool,
    /// Whether clients may write.
    pub open_stdin: bool,
    /// Whether input ends with the first client that shuts it down.
    pub stdin_once: bool,
    /// Whether a client that is lost ends it at once, rather than only while the engine lives.
    pub lost_is_end: bool,
}

#[derive(Debug)]
enum Input {
    /// The container is not there yet.
    Awaited,
    Open(OwnedFd),
    Closed,
}

/// The streams of one container or exec.
#[derive(Debug)]
pub struct Stdio {
    policy: Option<Policy>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    input: Input,
    /// Read from clients, not taken by the container yet.
    unwritten: Vec<u8>,
    end_input: bool,
    lost_since: Option<Instant>,
    clients: Vec<Client>,
    log: Option<Log>,
    buffer: Vec<u8>,
    connected: bool,
    /// Sentences for the engine's log.
    pub warnings: Vec<String>,
}

impl Stdio {
    /// Streams without a container yet.
    pub fn new() -> Stdio {
        Stdio {
            policy: None,
            stdout: None,
            stderr: None,
            input: Input::Awaited,
            unwritten: Vec::new(),
            end_input: false,
            lost_since: None,
            clients: Vec::new(),
            log: None,
            buffer: Vec::new(),
            connected: false,
            warnings: Vec::new(),
        }
    }

    /// How it will behave, and where it is logged.
    pub fn configure(&mut self, policy: Policy, log: Option<Log>) {
        self.policy = Some(policy);
        self.log = log;
        if !policy.open_stdin {
            self.clients.iter_mut().for_each(Client::stop_input);
        }
    }

    /// The container is there.
    pub fn connect(&mut self, ends: Ends) {
        self.stdout = ends.stdout;
        self.stderr = ends.stderr;
        self.input = ends.stdin.map_or(Input::Closed, Input::Open);
        self.connected = true;
        self.write_input();
    }

    /// A further client.
    pub fn attach(&mut self, socket: OwnedFd, wants: Wants) {
        let stdin = wants.stdin && self.policy.is_none_or(|policy| policy.open_stdin);
        let wants = Wants { stdin, ..wants };
        self.clients.push(Client::new(socket, wants));
    }

    /// The terminal's master or standard input's pipe, while it is open.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        if self.policy().terminal {
            self.stdout.as_ref().map(AsFd::as_fd)
        } else {
            None
        }
    }

    /// Ends standard input once what was read of clients is written.
    pub fn close_input(&mut self) {
        self.end_input = true;
        self.write_input();
    }

    /// Opens the log anew.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn reopen_log(&mut self) -> std::io::Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::reopen)
    }

    /// What to poll, and for what.
    pub fn interests<'a>(&'a self, mut add: impl FnMut(Port, BorrowedFd<'a>, PollFlags)) {
        if !self.holds_back() {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(fd) = self.output(stream) {
                    add(Port::Output(stream), fd.as_fd(), PollFlags::IN);
                }
            }
        }
        if let Input::Open(fd) = &self.input {
            if !self.unwritten.is_empty() {
                add(Port::Input, fd.as_fd(), PollFlags::OUT);
            } else if !self.policy().terminal {
                // Tells when the container has closed it.
                add(Port::Input, fd.as_fd(), PollFlags::empty());
            }
        }
        let reads_input = !matches!(self.input, Input::Awaited) && self.unwritten.is_empty();
        for (at, client) in self.clients.iter().enumerate() {
            if let Some(flags) = client.interest(reads_input) {
                add(Port::Client(at), client.as_fd(), flags);
            }
        }
    }

    /// Handles what is ready.
    pub fn ready(&mut self, port: Port, flags: PollFlags) {
        match port {
            Port::Output(stream) => self.read_output(stream),
            Port::Input if flags.contains(PollFlags::OUT) => self.write_input(),
            Port::Input => self.input_is_closed(),
            Port::Client(at) => {
                if let Some(client) = self.clients.get_mut(at) {
                    client.polled(flags);
                    if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::RDHUP) {
                        self.read_client(at);
                    }
                }
            }
        }
    }

    /// Forgets clients that are over; to be called between polls, since places move.
    pub fn sweep(&mut self) {
        self.clients.retain(|client| !client.is_over());
    }

    /// When [`Stdio::tick`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let retry = self
            .log
            .as_ref()
            .filter(|log| log.is_failing())
            .map(|_| Instant::now() + Duration::from_millis(200));
        let lost = self.lost_since.map(|since| since + LOST_GRACE);
        [retry, lost].into_iter().flatten().min()
    }

    /// What is due. `engine_lives`: whether an engine's link is up.
    pub fn tick(&mut self, engine_lives: bool) {
        if let Some(log) = self.log.as_mut().filter(|log| log.is_failing()) {
            self.warnings.extend(log.retry());
        }
        if self.lost_since.is_some_and(|since| since.elapsed() >= LOST_GRACE) {
            self.lost_since = None;
            if engine_lives {
                self.close_input();
            }
        }
    }

    /// Whether every output has ended.
    pub fn is_drained(&self) -> bool {
        self.connected && self.stdout.is_none() && self.stderr.is_none()
    }

    /// Reads what lies in the outputs now, whoever is slow, until they are empty or ended.
    pub fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A writer that goes on for ever is not waited for: a pipe holds a megabyte at the most.
            for _ in 0..(1 << 20) / READ + 1 {
                if self.output(stream).is_none() || !self.read_output_once(stream) {
                    break;
                }
            }
        }
    }

    /// The container is over: no more is read or logged, clients get the rest and their end.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.output_has_ended(stream);
        }
        self.input_is_closed();
        self.warnings.extend(self.log.take().and_then(Log::close));
        self.clients.iter_mut().for_each(Client::end);
        self.sweep();
    }

    /// Whether every client has had everything.
    pub fn is_flushed(&self) -> bool {
        self.clients.is_empty()
    }

    /// Lets go of clients that do not read.
    pub fn forget_clients(&mut self) {
        self.clients = Vec::new();
    }

    /// Gives buffers back.
    pub fn trim(&mut self) {
        self.buffer = Vec::new();
        if self.clients.is_empty() {
            self.clients = Vec::new();
        }
    }

    fn holds_back(&self) -> bool {
        self.log.as_ref().is_some_and(Log::holds_back) || self.clients.iter().any(Client::holds_back)
    }

    fn output(&self, stream: Stream) -> Option<&OwnedFd> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    fn read_output(&mut self, stream: Stream) {
        if !self.holds_back() {
            self.read_output_once(stream);
        }
    }

    /// Reads once; false when there is nothing.
    fn read_output_once(&mut self, stream: Stream) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ, 0);
        let result = self
            .output(stream)
            .map_or(Err(Errno::AGAIN), |fd| rustix::io::read(fd, &mut buffer[..]));
        match result {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: the terminal's last user has closed it.
            Ok(0) | Err(_) => self.output_has_ended(stream),
            Ok(read) => self.give(stream, &buffer[..read]),
        }
        self.buffer = buffer;
        matches!(result, Ok(1..))
    }

    fn policy(&self) -> Policy {
        self.policy.unwrap_or_default()
    }

    fn give(&mut self, stream: Stream, bytes: &[u8]) {
        let raw = self.policy().terminal;
        for client in &mut self.clients {
            client.give(stream, bytes, raw);
        }
        let said = self.log.as_mut().and_then(|log| log.write(stream, bytes));
        self.warnings.extend(said);
    }

    fn output_has_ended(&mut self, stream: Stream) {
        let ended = match stream {
            Stream::Stdout => self.stdout.take(),
            Stream::Stderr => self.stderr.take(),
        };
        if ended.is_some() {
            let said = self.log.as_mut().and_then(|log| log.finish(stream));
            self.warnings.extend(said);
        }
    }

    fn read_client(&mut self, at: usize) {
        let reads_input = !matches!(self.input, Input::Awaited) && self.unwritten.is_empty();
        if !reads_input || !self.clients[at].has_input() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ, 0);
        match self.clients[at].read(&mut buffer) {
            Read::Nothing => {}
            Read::Bytes(read) => {
                if matches!(self.input, Input::Open(_)) {
                    self.unwritten.extend_from_slice(&buffer[..read]);
                    self.write_input();
                }
            }
            Read::End => self.client_has_ended(at, false),
            Read::Lost => self.client_has_ended(at, true),
        }
        self.buffer = buffer;
    }

    fn client_has_ended(&mut self, at: usize, lost: bool) {
        self.clients[at].stop_input();
        if !self.policy().stdin_once || self.policy().terminal {
            self.clients[at].end();
        } else if lost && !self.policy().lost_is_end {
            self.lost_since = Some(Instant::now());
        } else {
            self.close_input();
        }
    }

    fn write_input(&mut self) {
        while let (Input::Open(fd), false) = (&self.input, self.unwritten.is_empty()) {
            match rustix::io::write(fd, &self.unwritten) {
                Ok(written) => drop(self.unwritten.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.input_is_closed(),
            }
        }
        self.unwritten = Vec::new();
        if self.end_input && matches!(self.input, Input::Open(_)) {
            self.input_is_closed();
        }
    }

    /// Nothing more is written; what clients go on sending is read and thrown away, so that their end is seen.
    fn input_is_closed(&mut self) {
        self.input = Input::Closed;
        self.unwritten = Vec::new();
    }
}

impl Default for Stdio {
    fn default() -> Self {
        Stdio::new()
    }
}
