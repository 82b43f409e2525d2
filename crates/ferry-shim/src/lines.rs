//! Cuts a container's output into log entries where Docker's copier does. Pure.
//!
//! A line is an entry. One that reaches [`LONGEST`] bytes without its newline is cut there; all its parts carry the first
//! part's time. What follows the last newline becomes an entry when the stream ends.

use crate::jsonlog::Moment;

/// Bytes of the longest entry without a newline.
pub const LONGEST: usize = 16 * 1024;

/// The cutter of one stream.
#[derive(Debug, Default)]
pub struct Lines {
    tail: Vec<u8>,
    /// When the first part of the line that is being cut was read.
    partial_since: Option<Moment>,
}

impl Lines {
    /// Takes what was read and hands every entry that is complete by it to `emit`, its newline included.
    pub fn push(&mut self, mut bytes: &[u8], now: impl Fn() -> Moment, mut emit: impl FnMut(&[u8], Moment)) {
        while !bytes.is_empty() {
            let room = LONGEST - self.tail.len();
            let window = &bytes[..bytes.len().min(room)];
            let Some(newline) = window.iter().position(|b| *b == b'\n') else {
                if window.len() < room {
                    self.tail.extend_from_slice(window);
                    return;
                }
                let at = *self.partial_since.get_or_insert_with(&now);
                self.emit(window, at, &mut emit);
                bytes = &bytes[window.len()..];
                continue;
            };
            let at = self.partial_since.take().unwrap_or_else(&now);
            self.emit(&bytes[..=newline], at, &mut emit);
            bytes = &bytes[newline + 1..];
        }
    }

    /// The stream has ended: what is left becomes an entry.
    pub fn finish(&mut self, now: impl Fn() -> Moment, mut emit: impl FnMut(&[u8], Moment)) {
        if !self.tail.is_empty() {
            let at = self.partial_since.take().unwrap_or_else(now);
            self.emit(&[], at, &mut emit);
        }
    }

    fn emit(&mut self, more: &[u8], at: Moment, emit: &mut impl FnMut(&[u8], Moment)) {
        if self.tail.is_empty() {
            return emit(more, at);
        }
        self.tail.extend_from_slice(more);
        emit(&self.tail, at);
        // A container that is silent for long holds no buffer.
        self.tail = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// Entries of `text` read in pieces of the sizes given, with a clock that ticks at each look.
    fn cut(text: &[u8], pieces: &[usize]) -> Vec<(Vec<u8>, i64)> {
        let clock = Cell::new(0);
        let now = || {
            clock.set(clock.get() + 1);
            Moment {
                seconds: clock.get(),
                nanoseconds: 0,
            }
        };
        let mut lines = Lines::default();
        let mut entries = Vec::new();
        let mut rest = text;
        for size in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            lines.push(piece, now, |text, at| entries.push((text.to_vec(), at.seconds)));
            rest = after;
        }
        lines.finish(now, |text, at| entries.push((text.to_vec(), at.seconds)));
        entries
    }

    #[test]
    fn a_long_line_is_cut_and_keeps_its_first_time() {
        let mut text = vec![b'x'; LONGEST * 2];
        text.extend_from_slice(b"end\nnext\nrest");
        let entries = cut(&text, &[5_000]);
        let lengths: Vec<_> = entries.iter().map(|(text, at)| (text.len(), *at)).collect();
        assert_eq!(lengths, [(LONGEST, 1), (LONGEST, 1), (4, 1), (5, 2), (4, 3)]);
        let exact: Vec<u8> = [vec![b'y'; LONGEST], b"\n".to_vec()].concat();
        let lengths: Vec<_> = cut(&exact, &[LONGEST + 1])
            .iter()
            .map(|(text, at)| (text.len(), *at))
            .collect();
        assert_eq!(lengths, [(LONGEST, 1), (1, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_reads_do_not_matter(
            parts in proptest::collection::vec((any::<u8>(), 0usize..20_000, any::<bool>()), 0..6),
            pieces in proptest::collection::vec(1usize..20_000, 1..5),
        ) {
            let mut text = Vec::new();
            for (byte, count, newline) in parts {
                text.extend(std::iter::repeat_n(byte, count));
                if newline {
                    text.push(b'\n');
                }
            }
            let entries = cut(&text, &pieces);
            let joined: Vec<u8> = entries.iter().flat_map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(&joined, &text);
            let whole: Vec<_> = cut(&text, &[usize::MAX]).into_iter().map(|(text, _)| text).collect();
            let pieced: Vec<_> = entries.into_iter().map(|(text, _)| text).collect();
            prop_assert_eq!(pieced, whole);
        }
    }
}
