//! stdcopy frames: both outputs in one byte stream, as Docker's attach carries them. Pure.

use crate::jsonlog::Stream;

/// Bytes of a frame before its payload: the stream's number, three zeros, the length, big-endian.
pub const HEADER: usize = 8;

/// The header of a frame of `length` bytes.
pub fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let [stream, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            frames.push((*stream, rest[..length].to_vec()));
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty());
        frames
    }

    proptest! {
        #[test]
        fn frames_split_where_they_were_joined(
            parts in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..300)), 0..20)
        ) {
            let mut joined = Vec::new();
            let mut expected = Vec::new();
            for (out, payload) in parts {
                let stream = if out { Stream::Stdout } else { Stream::Stderr };
                joined.extend_from_slice(&header(stream, payload.len() as u32));
                joined.extend_from_slice(&payload);
                expected.push((if out { 1 } else { 2 }, payload));
            }
            prop_assert_eq!(split(&joined), expected);
        }
    }
}
