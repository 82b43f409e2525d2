//! Descriptors by number, ranges of them, and their way through a socket.

use crate::{Errno, check};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The descriptor with this number, for a process that knows its own table (a child between clone and exec).
///
/// A number that is not open makes the system calls that use it fail with EBADF; nothing else can come of it, because
/// nothing here keeps it.
///
/// # Panics
/// On -1, which no descriptor has.
pub fn borrow(number: RawFd) -> BorrowedFd<'static> {
    assert!(number >= 0, "a descriptor's number is not negative");
    // SAFETY: not -1; the callers are single-threaded children that decide what is open, as the doc says.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes ownership of an inherited descriptor (systemd's `LISTEN_FDS`, a number on the command line) once it is seen
/// to be open. The caller must be the only one to do so for that number.
pub fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_getfd(borrow(number.max(0)))?;
    // SAFETY: it is open, and by contract nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// close_range(2): every descriptor from `first` to `last`, both included.
pub fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved; the caller is about to replace or end the process, or owns the range.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC`: marked, and closed by the next exec.
pub fn cloexec_range(first: u32, last: u32) -> Result<(), Errno> {
    const CLOEXEC: u32 = 4;
    // SAFETY: no memory is involved, nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOEXEC) }).map(drop)
}

/// Makes `number` the same open file as `from`, kept over exec, whatever `number` was.
pub fn place(from: RawFd, number: RawFd) -> Result<(), Errno> {
    if from == number {
        return rustix::io::fcntl_setfd(borrow(from), rustix::io::FdFlags::empty());
    }
    // SAFETY: no memory is involved; whoever owned `number` has given it up by calling this.
    check(unsafe { libc::syscall(libc::SYS_dup3, from, number, 0) }).map(drop)
}

/// The gaps between the descriptors to keep, from `first` on: what [`close_range`] must be called with.
pub fn gaps(first: u32, keep: &mut [RawFd]) -> Vec<(u32, u32)> {
    keep.sort_unstable();
    let mut gaps = Vec::with_capacity(keep.len() + 1);
    let mut next = first;
    for &number in keep.iter() {
        let Ok(number) = u32::try_from(number) else {
            continue;
        };
        if number < next {
            continue;
        }
        if number > next {
            gaps.push((next, number - 1));
        }
        next = number + 1;
    }
    gaps.push((next, u32::MAX));
    gaps
}

/// Sends `bytes` (at least one) with one descriptor over a unix socket. Does not allocate.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
}

/// Receives bytes, and one descriptor (close-on-exec) when one came with them.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let received = rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut all) = message {
            descriptor = all.next();
        }
    }
    Ok((received.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_leave_the_kept_alone() {
        assert_eq!(gaps(3, &mut [7, 3, 4]), [(5, 6), (8, u32::MAX)]);
        assert_eq!(gaps(3, &mut []), [(3, u32::MAX)]);
        assert_eq!(gaps(0, &mut [-1, 0, 0]), [(1, u32::MAX)]);
    }
}
