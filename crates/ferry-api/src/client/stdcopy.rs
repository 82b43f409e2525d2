//! The multiplexed stream of attach, exec and logs without a terminal.
//!
//! A frame is 1 byte stream (0 stdin, 1 stdout, 2 stderr, 3 an error of the engine), 3 zero bytes, a big-endian
//! 4-byte length and as many bytes (moby's api/pkg/stdcopy).

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The engine's own error text; it ends the stream.
    System,
}

/// A frame's reader that takes bytes as they arrive and keeps only its 8-byte header.
#[derive(Default)]
pub struct Demux {
    header: Vec<u8>,
    left: usize,
    kind: Option<StreamKind>,
}

impl Demux {
    /// Hands each piece of payload to `sink`, in order, without waiting for a frame to be whole.
    ///
    /// # Errors
    /// A stream number that does not exist, as text; or what `sink` returned.
    pub fn feed<E: From<String>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(StreamKind, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if let (Some(kind), true) = (self.kind, self.left > 0) {
                let n = self.left.min(bytes.len());
                sink(kind, &bytes[..n])?;
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (8 - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.header.len() == 8 {
                self.kind = Some(match self.header[0] {
                    0 | 1 => StreamKind::Stdout,
                    2 => StreamKind::Stderr,
                    3 => StreamKind::System,
                    other => return Err(format!("unrecognized stream: {other}").into()),
                });
                let size = [self.header[4], self.header[5], self.header[6], self.header[7]];
                self.left = u32::from_be_bytes(size) as usize;
                self.header.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &str) -> Vec<u8> {
        let mut out = vec![kind, 0, 0, 0];
        out.extend((text.len() as u32).to_be_bytes());
        out.extend(text.as_bytes());
        out
    }

    #[test]
    fn any_split_gives_the_same_text() {
        let mut all = frame(1, "hello ");
        all.extend(frame(2, "oops"));
        all.extend(frame(1, ""));
        all.extend(frame(1, "world"));
        for step in 1..all.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for piece in all.chunks(step) {
                demux
                    .feed(piece, |kind, bytes| -> Result<(), String> {
                        match kind {
                            StreamKind::Stdout => out.extend_from_slice(bytes),
                            _ => err.extend_from_slice(bytes),
                        }
                        Ok(())
                    })
                    .expect("feed");
            }
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hello world"[..], &b"oops"[..]),
                "step {step}"
            );
        }
    }

    #[test]
    fn unknown_streams_are_refused() {
        let result: Result<(), String> = Demux::default().feed(&frame(9, "x"), |_, _| Ok(()));
        assert_eq!(result, Err("unrecognized stream: 9".to_owned()));
    }
}
