//! Packets over unix SEQPACKET sockets: one packet is one frame, descriptors beside it as SCM_RIGHTS (unix(7)).
//!
//! Synchronous and free of policy. The engine calls the `try_` forms when its readiness source says so; the single-threaded
//! processes call either. Every descriptor made or received here is close-on-exec.

use crate::{FrameError, MAX_FDS, MAX_FRAME, decode, encode};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What `sun_path` holds, with its closing zero (unix(7)).
const SUN_PATH: usize = 108;
/// The most bytes [`read_memfd`] takes; a request is a few ten thousand.
const MAX_MEMFD: u64 = 16 * 1024 * 1024;

/// Two connected ends.
///
/// # Errors
/// When the process or the system is out of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Two connected ends of a byte stream, for one attached client; each direction can be shut down alone.
///
/// # Errors
/// When the process or the system is out of descriptors.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Connects to a listening socket.
///
/// # Errors
/// `NotFound` when there is no socket, `ConnectionRefused` when nobody listens on it any more.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    with_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// Listens on a new socket at `path`, non-blocking. A socket left there by a dead process is removed first.
///
/// # Errors
/// When the directory is missing or not writable.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket()?;
    with_address(path, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, 8)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Takes the next connection of a listening socket.
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::retry_on_intr(|| {
        rustix::net::accept_with(&listener, SocketFlags::CLOEXEC)
    })?)
}

/// Sends one packet and waits for room.
///
/// # Errors
/// `BrokenPipe` when the other end is gone; `InvalidInput` when it exceeds [`MAX_FRAME`] or [`MAX_FDS`].
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket.as_fd(), bytes, fds, SendFlags::NOSIGNAL)
}

/// Sends one packet if there is room.
///
/// # Errors
/// As [`send`], and `WouldBlock`.
pub fn try_send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(
        socket.as_fd(),
        bytes,
        fds,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}

/// Waits for one packet. `(0, [])` says that the other end hung up; no frame is empty.
///
/// # Errors
/// `InvalidData` when the packet or its descriptors do not fit, with all that came of them closed again.
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    recv_with(socket.as_fd(), buffer, RecvFlags::CMSG_CLOEXEC)
}

/// Takes one packet if there is one.
///
/// # Errors
/// As [`recv`], and `WouldBlock`.
pub fn try_recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    recv_with(
        socket.as_fd(),
        buffer,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )
}

/// Encodes and sends one frame, and waits for room.
///
/// # Errors
/// As [`send`].
pub fn send_frame<T: Serialize>(socket: impl AsFd, frame: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(socket, &encode(frame).map_err(invalid)?, fds)
}

/// Waits for one frame; `None` when the other end hung up.
///
/// # Errors
/// As [`recv`], and `InvalidData` for what is no frame of this type.
pub fn recv_frame<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    frame_with(socket.as_fd(), RecvFlags::CMSG_CLOEXEC)
}

/// Takes one frame if there is one; `None` when the other end hung up.
///
/// # Errors
/// As [`try_recv`], and `InvalidData` for what is no frame of this type.
pub fn try_recv_frame<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    frame_with(socket.as_fd(), RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

/// A value as JSON in a sealed memfd: what does not fit a frame.
///
/// # Errors
/// When it cannot be encoded or memory is short.
pub fn memfd<T: Serialize>(name: &str, value: &T) -> io::Result<OwnedFd> {
    let bytes = serde_json::to_vec(value)?;
    let file = File::from(rustix::fs::memfd_create(
        name,
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    file.write_all_at(&bytes, 0)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}

/// Reads a value that [`memfd`] wrote.
///
/// # Errors
/// `InvalidData` when it is unsealed, too large or no such value.
pub fn read_memfd<T: DeserializeOwned>(fd: OwnedFd) -> io::Result<T> {
    let file = File::from(fd);
    let wanted = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    if !rustix::fs::fcntl_get_seals(&file)?.contains(wanted) {
        return Err(invalid("the request's memfd is not sealed"));
    }
    let length = file.metadata()?.len();
    if length > MAX_MEMFD {
        return Err(invalid(format!(
            "a request of {length} bytes exceeds {MAX_MEMFD}"
        )));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(invalid)?];
    file.read_exact_at(&mut bytes, 0)?;
    serde_json::from_slice(&bytes).map_err(invalid)
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// A path that `sun_path` cannot hold is reached through its directory's descriptor.
fn with_address(path: &Path, act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>) -> io::Result<()> {
    if path.as_os_str().len() < SUN_PATH {
        return Ok(act(&SocketAddrUnix::new(path)?)?);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} names no socket", path.display()),
        ));
    };
    let parent = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let short = Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(name);
    Ok(act(&SocketAddrUnix::new(short)?)?)
}

fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    if bytes.is_empty() || bytes.len() > MAX_FRAME || fds.len() > MAX_FDS {
        let message = format!(
            "a frame of {} bytes and {} descriptors; the limits are {MAX_FRAME} and {MAX_FDS}",
            bytes.len(),
            fds.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut space = vec![
        MaybeUninit::uninit();
        if fds.is_empty() {
            0
        } else {
            ancillary_space(fds.len())
        }
    ];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors of a frame"));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
    })?;
    Ok(())
}

/// Asks for the length first: a buffer of [`MAX_FRAME`] would stay in the heap of processes that are to be small.
fn frame_with<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let asking = flags.difference(RecvFlags::CMSG_CLOEXEC) | RecvFlags::PEEK | RecvFlags::TRUNC;
    let length = loop {
        match rustix::net::recv(socket, &mut [0u8; 0][..], asking) {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?.1,
        }
    };
    if length > MAX_FRAME {
        return Err(invalid(format!(
            "a frame of {length} bytes; the limit is {MAX_FRAME}"
        )));
    }
    let mut buffer = vec![0; length.max(1)];
    let (length, fds) = recv_with(socket, &mut buffer, flags)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((decode(&buffer[..length]).map_err(invalid)?, fds)))
}

fn recv_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags) {
            // A peer that ended with our frames unread: said once, before what it had sent, which comes next.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(invalid("a frame or its descriptors were cut short"));
    }
    Ok((received.bytes, fds))
}

fn ancillary_space(count: usize) -> usize {
    rustix::cmsg_space!(ScmRights(count))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        invalid(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromLauncher, ToLauncher};
    use std::io::{Read, Write};

    #[test]
    fn frames_and_descriptors_cross() {
        let (a, b) = pair().expect("pair");
        let (mut left, right) = std::os::unix::net::UnixStream::pair().expect("stream");
        let frame = ToLauncher::Exec {
            token: 7,
            attached: true,
        };
        send_frame(&a, &frame, &[right.as_fd(), a.as_fd()]).expect("send");
        drop(right);
        let (got, fds) = recv_frame::<ToLauncher>(&b).expect("recv").expect("frame");
        assert!(matches!(
            got,
            ToLauncher::Exec {
                token: 7,
                attached: true
            }
        ));
        assert_eq!(fds.len(), 2);
        left.write_all(b"x").expect("write");
        let mut byte = [0];
        File::from(fds.into_iter().next().expect("fd"))
            .read_exact(&mut byte)
            .expect("read");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn nothing_there_and_hung_up_differ() {
        let (a, b) = pair().expect("pair");
        let error = try_recv_frame::<FromLauncher>(&b).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(recv_frame::<FromLauncher>(&b).expect("recv").is_none());
        let error = send(&b, b"x", &[]).expect_err("gone");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_a_dead_peer_had_said_is_heard() {
        let (a, b) = pair().expect("pair");
        send(&a, b"unread", &[]).expect("send");
        send(&b, b"last words", &[]).expect("send");
        drop(b);
        let mut buffer = [0; 16];
        assert_eq!(recv(&a, &mut buffer).expect("recv").0, 10);
        assert_eq!(recv(&a, &mut buffer).expect("recv").0, 0);
    }

    #[test]
    fn the_largest_frame_and_most_descriptors_pass() {
        let (a, b) = pair().expect("pair");
        let bytes = vec![b'x'; MAX_FRAME];
        let fds = vec![a.as_fd(); MAX_FDS];
        send(&a, &bytes, &fds).expect("send");
        let mut buffer = vec![0; MAX_FRAME];
        let (length, fds) = recv(&b, &mut buffer).expect("recv");
        assert_eq!((length, fds.len()), (MAX_FRAME, MAX_FDS));
        let error = send(&a, &vec![0; MAX_FRAME + 1], &[]).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        send(&a, &bytes, &[]).expect("send");
        let error = recv(&b, &mut [0; 16]).expect_err("short buffer");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_path_longer_than_an_address_works_and_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).expect("mkdir");
        for path in [deep.join("shim.sock"), dir.path().join("s")] {
            assert_eq!(connect(&path).expect_err("none").kind(), io::ErrorKind::NotFound);
            drop(listen(&path).expect("listen"));
            assert_eq!(
                connect(&path).expect_err("stale").kind(),
                io::ErrorKind::ConnectionRefused
            );
            let listener = listen(&path).expect("listen again");
            assert_eq!(
                accept(&listener).expect_err("nobody").kind(),
                io::ErrorKind::WouldBlock
            );
            let client = connect(&path).expect("connect");
            let server = accept(&listener).expect("accept");
            send(&client, b"hi", &[]).expect("send");
            let mut buffer = [0; 8];
            assert_eq!(recv(&server, &mut buffer).expect("recv").0, 2);
        }
    }

    #[test]
    fn only_a_sealed_memfd_is_read() {
        let fd = memfd("request", &vec![1, 2, 3]).expect("memfd");
        assert!(
            File::from(fd.try_clone().expect("dup"))
                .write_at(b"[]", 0)
                .is_err()
        );
        assert_eq!(read_memfd::<Vec<i32>>(fd).expect("read"), [1, 2, 3]);
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC).expect("memfd");
        assert_eq!(
            read_memfd::<Vec<i32>>(open).expect_err("unsealed").kind(),
            io::ErrorKind::InvalidData
        );
    }
}
