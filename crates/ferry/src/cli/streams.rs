//! An attached terminal or pipe: bytes both ways, detach keys, signals and window sizes, in one thread with poll.

use super::failure::{Failure, Outcome};
use ferry_api::client::{Client, Demux, Hijacked, Request, StreamKind, segment};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Input that waits for the engine beyond this is not read further.
const MAX_PENDING: usize = 256 * 1024;

/// Leaves a container running: `ctrl-p,ctrl-q`.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// Bytes of a key sequence such as `ctrl-a,x,DEL`.
pub(crate) fn parse_keys(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(DEFAULT_KEYS.to_vec());
    }
    let unknown = |key: &str| format!("invalid detach keys ({text}): Unknown character: '{key}'");
    text.split(',')
        .map(|key| match key.as_bytes() {
            [one] => Ok(*one),
            b"DEL" => Ok(127),
            [b'c', b't', b'r', b'l', b'-', one] => match one {
                b'a'..=b'z' => Ok(one - b'a' + 1),
                b'@' => Ok(0),
                b'[' | b'\\' | b']' | b'^' | b'_' => Ok(one - b'@'),
                _ => Err(unknown(key)),
            },
            _ => Err(unknown(key)),
        })
        .collect()
}

/// Standard input in raw mode; the old mode comes back when this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let old = tcgetattr(&stdin).ok()?;
        if std::env::var_os("NORAW").is_some_and(|v| !v.is_empty()) {
            return None;
        }
        let mut raw = old.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(RawTerminal(old))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone by now; there is nobody to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What an attached session is about.
pub(crate) struct Attachment<'a> {
    /// For signals and sizes while the stream runs.
    pub(crate) client: &'a Client,
    /// Where resize requests go: `/containers/ID` or `/exec/ID`.
    pub(crate) resize: String,
    /// The container that gets this process's signals; `None` forwards none.
    pub(crate) signals: Option<String>,
    /// Whether the container has a terminal.
    pub(crate) tty: bool,
    /// Whether standard input is sent.
    pub(crate) stdin: bool,
    /// Whether output and errors are shown.
    pub(crate) output: [bool; 2],
    /// The key sequence that detaches, from [`parse_keys`].
    pub(crate) keys: Vec<u8>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The container's side closed.
    Closed,
    /// The detach keys were typed.
    Detached,
}

/// The size of the terminal on standard output: rows and columns.
pub(crate) fn terminal_size() -> (u16, u16) {
    let out = io::stdout();
    if !out.is_terminal() {
        return (0, 0);
    }
    tcgetwinsize(&out).map_or((0, 0), |s| (s.ws_row, s.ws_col))
}

/// Refuses input for a terminal that is none.
pub(crate) fn check_tty(stdin: bool, tty: bool) -> Outcome {
    if stdin && tty && !io::stdin().is_terminal() {
        return Err(Failure::text("the input device is not a TTY"));
    }
    Ok(())
}

/// Signals that arrive as readable bytes, so that poll sees them.
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// The signals that are caught: all that can be, but those about children, pipes and faults.
pub(crate) fn catch(forward: bool, tty: bool) -> Outcome<Option<Signals>> {
    use signal_hook::consts as s;
    let mut wanted: Vec<i32> = Vec::new();
    if forward {
        wanted.extend([
            s::SIGHUP,
            s::SIGINT,
            s::SIGQUIT,
            s::SIGTERM,
            s::SIGUSR1,
            s::SIGUSR2,
            s::SIGALRM,
            s::SIGCONT,
            s::SIGTSTP,
            s::SIGTTIN,
            s::SIGTTOU,
            s::SIGWINCH,
            s::SIGIO,
            s::SIGPROF,
            s::SIGVTALRM,
            s::SIGXCPU,
            s::SIGXFSZ,
        ]);
    } else if tty {
        wanted.push(s::SIGWINCH);
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let (read, write) = UnixStream::pair()?;
    Ok(Some(Signals(SignalDelivery::with_pipe(
        read, write, SignalOnly, wanted,
    )?)))
}

/// Names of signals for the engine.
fn signal_name(number: i32) -> Option<&'static str> {
    signal_hook::low_level::signal_name(number).map(|n| n.trim_start_matches("SIG"))
}

/// Copies until one side ends. `signals` were caught before the container started, so that none is lost.
pub(crate) fn run(
    a: &Attachment<'_>,
    mut hijacked: Hijacked,
    mut signals: Option<Signals>,
) -> Outcome<Ended> {
    let raw = if a.stdin && a.tty {
        RawTerminal::enter()
    } else {
        None
    };
    let early = std::mem::take(&mut hijacked.early);
    let mut pump = Pump {
        a,
        hijacked,
        demux: Demux::default(),
        pending: Vec::new(),
        keys_seen: 0,
        input_open: a.stdin,
        writing: true,
    };
    let ended = pump.run(&early, signals.as_mut());
    drop(raw);
    ended
}

struct Pump<'a> {
    a: &'a Attachment<'a>,
    hijacked: Hijacked,
    demux: Demux,
    pending: Vec<u8>,
    keys_seen: usize,
    input_open: bool,
    writing: bool,
}

impl Pump<'_> {
    fn run(&mut self, early: &[u8], mut signals: Option<&mut Signals>) -> Outcome<Ended> {
        self.hijacked.stream.set_nonblocking(true)?;
        self.show(early)?;
        self.finish_input();
        loop {
            let ready = self.poll(signals.as_deref())?;
            if ready.signal
                && let Some(signals) = signals.as_deref_mut()
            {
                for number in signals.0.pending() {
                    self.signal(number);
                }
            }
            if ready.input && self.read_input()? == Ended::Detached {
                return Ok(Ended::Detached);
            }
            if ready.writable {
                self.write_pending();
            }
            if ready.readable && !self.read_output()? {
                return Ok(Ended::Closed);
            }
        }
    }

    fn poll(&self, signals: Option<&Signals>) -> Outcome<Ready> {
        let stdin = io::stdin();
        let mut socket = PollFlags::IN;
        if !self.pending.is_empty() && self.writing {
            socket |= PollFlags::OUT;
        }
        let stream = self.hijacked.stream.descriptor();
        let mut fds = vec![PollFd::from_borrowed_fd(stream, socket)];
        let input = self.input_open && self.pending.len() < MAX_PENDING;
        if input {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        if let Some(signals) = signals {
            fds.push(PollFd::new(signals, PollFlags::IN));
        }
        let timeout = self
            .hijacked
            .stream
            .has_buffered()
            .then_some(rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {
                return Ok(Ready {
                    signal: signals.is_some(),
                    ..Ready::default()
                });
            }
            Err(e) => return Err(Failure::text(format!("poll: {e}"))),
        }
        let socket = fds[0].revents();
        Ok(Ready {
            readable: timeout.is_some() || socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            writable: socket.intersects(PollFlags::OUT),
            input: input && !fds[1].revents().is_empty(),
            signal: signals.is_some() && fds.last().is_some_and(|f| !f.revents().is_empty()),
        })
    }

    /// Reads standard input once. Bytes of an unfinished detach sequence are held back.
    fn read_input(&mut self) -> Outcome<Ended> {
        let mut buffer = [0; 32 * 1024];
        let n = match io::stdin().lock().read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Ended::Closed),
            Err(_) => 0,
        };
        if n == 0 {
            self.input_open = false;
            self.finish_input();
            return Ok(Ended::Closed);
        }
        if !self.a.tty {
            self.pending.extend_from_slice(&buffer[..n]);
        } else if self.watch_keys(&buffer[..n]) {
            return Ok(Ended::Detached);
        }
        self.write_pending();
        Ok(Ended::Closed)
    }

    fn watch_keys(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte != self.a.keys[self.keys_seen] {
                self.pending.extend_from_slice(&self.a.keys[..self.keys_seen]);
                self.keys_seen = 0;
            }
            if *byte == self.a.keys[self.keys_seen] {
                self.keys_seen += 1;
                if self.keys_seen == self.a.keys.len() {
                    return true;
                }
            } else {
                self.pending.push(*byte);
            }
        }
        false
    }

    fn write_pending(&mut self) {
        while !self.pending.is_empty() {
            match self.hijacked.stream.write(&self.pending) {
                Ok(n) => {
                    self.pending.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The reading side tells how it ended.
                Err(_) => {
                    self.pending.clear();
                    self.input_open = false;
                    self.writing = false;
                }
            }
        }
        // TLS keeps records of its own until they are flushed.
        let _ = self.hijacked.stream.flush();
        self.finish_input();
    }

    /// Tells the engine about the end of input once everything was sent.
    fn finish_input(&mut self) {
        if !self.input_open && self.pending.is_empty() && self.writing {
            self.writing = false;
            // A peer that is gone already shows itself when read.
            let _ = self.hijacked.stream.close_write();
        }
    }

    /// Reads what the engine sent; false at its end.
    fn read_output(&mut self) -> Outcome<bool> {
        let mut buffer = [0; 64 * 1024];
        match self.hijacked.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.show(&buffer[..n])?;
                Ok(true)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(Failure::text(format!("reading the container's output: {e}"))),
        }
    }

    fn show(&mut self, bytes: &[u8]) -> Outcome {
        if self.a.tty {
            return if self.a.output[0] || self.a.output[1] {
                write_out(bytes)
            } else {
                Ok(())
            };
        }
        let output = self.a.output;
        self.demux
            .feed(bytes, |kind, bytes| show_frame(output, kind, bytes))
    }

    fn signal(&self, number: i32) {
        if number == signal_hook::consts::SIGWINCH && self.a.tty {
            resize(self.a.client, &self.a.resize);
        }
        if let (Some(id), Some(name)) = (&self.a.signals, signal_name(number)) {
            // The container may have ended meanwhile: then there is nobody left to get it.
            let _ = self
                .a
                .client
                .send(Request::post(format!("/containers/{}/kill", segment(id))).query("signal", name));
        }
    }
}

#[derive(Default)]
struct Ready {
    readable: bool,
    writable: bool,
    input: bool,
    signal: bool,
}

/// Shows one frame of a multiplexed stream.
pub(crate) fn show_frame(output: [bool; 2], kind: StreamKind, bytes: &[u8]) -> Outcome {
    match kind {
        StreamKind::Stdout if output[0] => write_out(bytes),
        StreamKind::Stderr if output[1] => {
            let mut err = io::stderr().lock();
            Ok(err.write_all(bytes)?)
        }
        StreamKind::System => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            Err(Failure::text(format!("error from daemon in stream: {text}")))
        }
        _ => Ok(()),
    }
}

/// Writes to standard output; a reader that went away ends the program as SIGPIPE would.
pub(crate) fn write_out(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::status(141),
            _ => Failure::text(format!("writing to standard output: {e}")),
        })
}

/// Tells the engine the terminal's size. An ended container has none: not an error.
pub(crate) fn resize(client: &Client, path: &str) {
    let (rows, columns) = terminal_size();
    if rows > 0 || columns > 0 {
        resize_to(client, path, rows, columns);
    }
}

/// Sets a size.
pub(crate) fn resize_to(client: &Client, path: &str, rows: u16, columns: u16) {
    let request = Request::post(format!("{path}/resize"))
        .query("h", &rows.to_string())
        .query("w", &columns.to_string());
    // A container that ended meanwhile has no terminal any more.
    let _ = client.send(request);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sequences() {
        assert_eq!(parse_keys("").expect("default"), [16, 17]);
        assert_eq!(
            parse_keys("ctrl-a,x,DEL,ctrl-[,ctrl-@").expect("keys"),
            [1, b'x', 127, 27, 0]
        );
        assert_eq!(
            parse_keys("ctrl-A").unwrap_err(),
            "invalid detach keys (ctrl-A): Unknown character: 'ctrl-A'"
        );
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(15), Some("TERM"));
        assert_eq!(signal_name(28), Some("WINCH"));
    }
}
