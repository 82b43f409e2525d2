//! Netlink (netlink(7)): building batches of messages and reading the kernel's answers.
//!
//! One [`Batch`] is one `sendmsg`: the kernel works through its messages in order, answers each one that asks for it, and
//! has queued every answer when the call returns. So nothing here ever waits.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, SendFlags};

use crate::NetError;

/// Length of `struct nlmsghdr`.
pub const HEADER_LEN: usize = 16;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_CAPPED` of an answer: the request is not repeated in it.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS` of an answer: attributes with the kernel's explanation follow.
const ACK_TLVS: u16 = 0x200;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const TYPE_MASK: u16 = 0x3fff;
/// `NLMSGERR_ATTR_MSG`.
const EXT_ACK_TEXT: u16 = 1;
/// The largest answer: the kernel fills at most 32 KiB for a dump.
const RECEIVE_BUFFER: usize = 32 << 10;
/// What a socket may send before its buffer must grow (the usual `net.core.wmem_default`, less its overhead).
const SEND_BUFFER: usize = 96 << 10;

/// Messages to be sent at once.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each message does, for error texts; its index is the sequence number.
    operations: Vec<Cow<'static, str>>,
    /// Where the message that is being written begins.
    start: usize,
    /// A length did not fit its field; the batch must not be sent.
    overflow: bool,
    /// The last message ends a transaction.
    closed: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Batch {
            bytes: Vec::with_capacity(512),
            ..Batch::default()
        }
    }

    /// Appends one message: its type, its flags besides `NLM_F_REQUEST`, its fixed part, then what `fill` writes.
    pub fn message(
        &mut self,
        operation: impl Into<Cow<'static, str>>,
        (kind, flags): (u16, u16),
        fixed: &[u8],
        fill: impl FnOnce(&mut Batch),
    ) {
        self.start = self.bytes.len();
        let sequence = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        self.operations.push(operation.into());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.raw(fixed);
        fill(self);
        let length = self.bytes.len() - self.start;
        match u32::try_from(length) {
            Ok(length) => self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
    }

    /// Appends a message behind the last one that counts: no answer is expected to it, nor is it what errors are told of.
    pub fn close(&mut self, operation: &'static str, kind: (u16, u16), fixed: &[u8]) {
        self.message(operation, kind, fixed, |_| {});
        self.closed = true;
    }

    /// The sequence number of the message whose answer is the last one.
    fn last(&self) -> u32 {
        let count = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        count.wrapping_sub(1 + u32::from(self.closed))
    }

    /// Appends bytes and pads them to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        let length = self.attribute_length(4 + payload.len());
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(payload);
    }

    /// Appends a text with its terminator.
    pub fn text(&mut self, kind: u16, text: &str) {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.attr(kind, &payload);
    }

    /// Appends a number in the host's byte order (rtnetlink).
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// Appends a number in network byte order (nfnetlink).
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that holds what `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Batch)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = self.attribute_length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute's length field is 16 bits wide: what does not fit must never be sent cut off (CVE-2021-43784).
    fn attribute_length(&mut self, length: usize) -> u16 {
        u16::try_from(length).unwrap_or_else(|_| {
            self.overflow = true;
            0
        })
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Asks for an answer to the message that was written last.
    pub fn acknowledge_last(&mut self) {
        self.bytes[self.start + 6] |= ACK.to_ne_bytes()[0];
    }

    fn operation(&self, sequence: u32) -> &str {
        self.operations
            .get(sequence as usize)
            .map_or("speak netlink", |operation| operation)
    }
}

/// A netlink socket. It belongs to the network namespace in which it was opened, for good.
pub struct Socket {
    inner: netlink_sys::Socket,
    send_buffer: usize,
}

impl Socket {
    /// Opens a socket of a protocol (`NETLINK_ROUTE`, `NETLINK_NETFILTER`) in the calling thread's network namespace.
    pub fn open(protocol: i32) -> Result<Self, NetError> {
        let failed = |error| NetError::io("open a netlink socket", error);
        let inner = netlink_sys::Socket::new(protocol as isize).map_err(failed)?;
        inner.set_ext_ack(true).map_err(failed)?;
        Ok(Socket {
            inner,
            send_buffer: SEND_BUFFER,
        })
    }

    /// The file descriptor, for `ioctl`s on links.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }

    /// Sends a batch whose last message asks for an answer, and reads answers up to that one. The first failure of any
    /// message is the result; the others were tried nevertheless.
    pub fn transact(&mut self, batch: &Batch) -> Result<(), NetError> {
        self.exchange(batch, &mut |_, _| {})
    }

    /// The same for a batch of one dump request: `each` gets the type and the payload of every object.
    pub fn dump(&mut self, batch: &Batch, mut each: impl FnMut(u16, &[u8])) -> Result<(), NetError> {
        self.exchange(batch, &mut each)
    }

    fn exchange(&mut self, batch: &Batch, each: &mut dyn FnMut(u16, &[u8])) -> Result<(), NetError> {
        let last = batch.last();
        let doing = batch.operation(last);
        if batch.overflow {
            return Err(NetError::Invalid(format!(
                "{doing}: a value is too long for a netlink attribute"
            )));
        }
        self.make_room(batch.len(), doing)?;
        rustix::net::send(self.as_fd(), &batch.bytes, SendFlags::empty())
            .map_err(|error| NetError::io(doing, error))?;
        let mut buffer = vec![0u8; RECEIVE_BUFFER];
        let mut failure = None;
        loop {
            let received = rustix::net::recv(self.as_fd(), &mut buffer[..], RecvFlags::DONTWAIT);
            let (length, _) = match received {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failure.unwrap_or_else(|| NetError::io(doing, error))),
                Ok(lengths) => lengths,
            };
            for message in messages(&buffer[..length]) {
                match message.kind {
                    ERROR => {
                        if let Err(error) = read_error(batch, &message)
                            && failure.is_none()
                        {
                            failure = Some(error);
                        }
                    }
                    DONE => {}
                    kind => {
                        each(kind, message.payload);
                        continue;
                    }
                }
                if message.sequence == last {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Grows the socket's buffer for a large batch: the kernel takes it whole or not at all.
    fn make_room(&mut self, length: usize, doing: &str) -> Result<(), NetError> {
        if length > self.send_buffer {
            let wanted = length.next_power_of_two();
            rustix::net::sockopt::set_socket_send_buffer_size_force(self.as_fd(), wanted)
                .map_err(|error| NetError::io(doing, error))?;
            self.send_buffer = wanted;
        }
        Ok(())
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// Reads a number in the host's byte order.
pub fn ne32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn ne16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = ne32(bytes, 0)? as usize;
        let message = Message {
            kind: ne16(bytes, 4)?,
            flags: ne16(bytes, 6)?,
            sequence: ne32(bytes, 8)?,
            payload: bytes.get(HEADER_LEN..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes in a run of bytes: type without its flags, and payload. Ends at the first one that is malformed.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(ne16(bytes, 0)?);
        let item = (ne16(bytes, 2)? & TYPE_MASK, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(item)
    })
}

/// One attribute by its type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, payload)| payload)
}

/// Text up to its terminator.
pub fn text_of(payload: &[u8]) -> String {
    let end = payload
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(payload.len());
    String::from_utf8_lossy(&payload[..end]).into_owned()
}

/// Reads `struct nlmsgerr`: an error number, the request's header, maybe the request itself, maybe an explanation.
fn read_error(batch: &Batch, message: &Message<'_>) -> Result<(), NetError> {
    let code = ne32(message.payload, 0).map_or(0, |code| code as i32);
    if code == 0 {
        return Ok(());
    }
    let request = if message.flags & CAPPED != 0 {
        HEADER_LEN
    } else {
        ne32(message.payload, 4).unwrap_or(0) as usize
    };
    let explanation = (message.flags & ACK_TLVS != 0)
        .then(|| message.payload.get(4 + request.next_multiple_of(4)..))
        .flatten()
        .and_then(|tail| attribute(tail, EXT_ACK_TEXT));
    Err(NetError::Io {
        op: batch.operation(message.sequence).to_owned(),
        source: std::io::Error::from_raw_os_error(-code),
        reason: explanation.map(text_of).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_wants_it() {
        let mut batch = Batch::new();
        batch.message("x", (0x10, ACK), &[1, 2], |batch| {
            batch.nest(7, |batch| batch.text(1, "ab"));
        });
        let mut expected = 32u32.to_ne_bytes().to_vec();
        expected.extend(0x10u16.to_ne_bytes());
        expected.extend(5u16.to_ne_bytes());
        expected.extend([0; 8]);
        expected.extend([1, 2, 0, 0]);
        expected.extend(12u16.to_ne_bytes());
        expected.extend((7 | NESTED).to_ne_bytes());
        expected.extend(7u16.to_ne_bytes());
        expected.extend(1u16.to_ne_bytes());
        expected.extend(b"ab\0\0");
        assert_eq!(batch.bytes, expected);
        assert!(!batch.overflow);
        let nested = attribute(&batch.bytes[20..], 7).unwrap();
        assert_eq!(text_of(attribute(nested, 1).unwrap()), "ab");
    }

    #[test]
    fn what_does_not_fit_is_never_sent() {
        let mut batch = Batch::new();
        batch.message("x", (0x10, ACK), &[], |batch| {
            batch.nest(1, |batch| batch.attr(1, &[0; 65_534]))
        });
        assert!(batch.overflow);
    }

    #[test]
    fn malformed_answers_end_the_reading() {
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
        assert_eq!(messages(&[1; 7]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}
