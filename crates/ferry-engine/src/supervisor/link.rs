//! One SEQPACKET link as the engine sees it: frames out and in, without blocking a thread.

use ferry_shim_proto::transport;
use ferry_shim_proto::{MAX_FRAME, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One end: sends `Out`, receives `In`. Cloning gives another handle to the same end.
pub(crate) struct Link<Out, In> {
    socket: Arc<AsyncFd<OwnedFd>>,
    frames: PhantomData<fn(Out) -> In>,
}

impl<Out, In> Clone for Link<Out, In> {
    fn clone(&self) -> Self {
        Self {
            socket: Arc::clone(&self.socket),
            frames: PhantomData,
        }
    }
}

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    /// Takes an end over; has to be called within the runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        // The unsound part of `new` is a descriptor that its owner closes early; an `OwnedFd` that is moved in cannot be.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(Self {
            socket: Arc::new(socket),
            frames: PhantomData,
        })
    }

    /// Sends one frame; waits only where the other side is far behind.
    pub(crate) async fn send(&self, frame: &Out, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = encode(frame)?;
        match transport::try_send(self.socket.get_ref(), &bytes, fds) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                transport::try_send(socket, &bytes, fds)
            })
            .await
    }

    /// The next frame with its descriptors; `None` once the other side is gone. Safe to drop at any await.
    pub(crate) async fn recv(&self) -> io::Result<Option<(In, Vec<OwnedFd>)>> {
        let (bytes, fds) = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                let mut buffer = vec![0; MAX_FRAME];
                let (length, fds) = transport::try_recv(socket.as_fd(), &mut buffer)?;
                buffer.truncate(length);
                Ok((buffer, fds))
            })
            .await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some((decode(&bytes)?, fds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_shim_proto::{FromShim, ToShim};

    #[tokio::test]
    async fn frames_cross_and_a_hang_up_is_told() {
        let (a, b) = transport::pair().unwrap();
        let engine = Link::<ToShim, FromShim>::new(a).unwrap();
        let shim = Link::<FromShim, ToShim>::new(b).unwrap();
        engine.send(&ToShim::Start, &[]).await.unwrap();
        assert!(matches!(shim.recv().await.unwrap(), Some((ToShim::Start, _))));
        shim.send(&FromShim::Oom, &[]).await.unwrap();
        drop(shim);
        assert!(matches!(engine.recv().await.unwrap(), Some((FromShim::Oom, _))));
        assert!(engine.recv().await.unwrap().is_none());
    }
}
