//! Random ids: sixty-four lower-case hexadecimal digits.

use crate::{Error, Result};

/// A new id.
///
/// Never all digits in its first twelve characters: that is what becomes a host name, and a number there is read as an address by some programs.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn random() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
                .map_err(|e| Error::internal("reading random bytes", std::io::Error::from(e)))?;
        }
        let id = hex(&bytes);
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// Lower-case hexadecimal digits of these bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| {
            [
                DIGITS[usize::from(b >> 4)] as char,
                DIGITS[usize::from(b & 15)] as char,
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let (a, b) = (super::random().unwrap(), super::random().unwrap());
        assert_ne!(a, b);
        assert!(
            a.len() == 64
                && a.bytes()
                    .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        );
    }
}
