//! One 512-byte header block: v7, ustar, pax, star and GNU layouts.

use super::{BLOCK, TarError, malformed};

/// The fields of one block before extensions are applied.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) type_byte: u8,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) is_gnu: bool,
}

#[derive(PartialEq)]
enum Layout {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Raw {
    /// Reads a block that is not all zeros.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, TarError> {
        verify_checksum(block)?;
        let layout = match (&block[257..263], &block[263..265], &block[508..512]) {
            (b"ustar\0", b"00", b"tar\0") => Layout::Star,
            (b"ustar\0", b"00", _) => Layout::Ustar,
            (b"ustar ", b" \0", _) => Layout::Gnu,
            _ => Layout::V7,
        };
        let mut raw = Self {
            name: text(&block[0..100]).to_vec(),
            link: text(&block[157..257]).to_vec(),
            type_byte: block[156],
            mode: number(&block[100..108])?,
            uid: number(&block[108..116])?,
            gid: number(&block[116..124])?,
            size: number(&block[124..136])?,
            mtime: number(&block[136..148])?,
            major: 0,
            minor: 0,
            is_gnu: layout == Layout::Gnu,
        };
        if layout != Layout::V7 {
            raw.major = number(&block[329..337])?;
            raw.minor = number(&block[337..345])?;
        }
        let prefix = match layout {
            Layout::V7 => &[][..],
            Layout::Ustar => text(&block[345..500]),
            Layout::Star => text(&block[345..476]),
            Layout::Gnu => gnu_prefix(block),
        };
        if !prefix.is_empty() {
            raw.name = [prefix, b"/", &raw.name].concat();
        }
        Ok(raw)
    }
}

/// Go before 1.8 sometimes wrote a ustar prefix over GNU's access and change times; such a field is no number.
fn gnu_prefix(block: &[u8; BLOCK]) -> &[u8] {
    let time_ok = |field: &[u8]| field[0] == 0 || number(field).is_ok();
    let prefix = text(&block[345..500]);
    if (time_ok(&block[345..357]) && time_ok(&block[357..369])) || !prefix.is_ascii() {
        &[]
    } else {
        prefix
    }
}

fn verify_checksum(block: &[u8; BLOCK]) -> Result<(), TarError> {
    let stored = octal(&block[148..156])?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (i, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stored == unsigned || stored == signed {
        Ok(())
    } else {
        Err(malformed("a header's checksum is wrong"))
    }
}

/// Up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or(&[])
}

/// Octal, or base-256 in two's complement when the first bit is set.
pub(super) fn number(field: &[u8]) -> Result<i64, TarError> {
    let Some(&first) = field.first() else { return Ok(0) };
    if first & 0x80 == 0 {
        return octal(field);
    }
    let invert = if first & 0x40 != 0 { 0xff } else { 0 };
    let mut value = 0u64;
    for (i, &byte) in field.iter().enumerate() {
        let byte = (byte ^ invert) & if i == 0 { 0x7f } else { 0xff };
        if value >> 56 != 0 {
            return Err(malformed("a base-256 number is too large"));
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| malformed("a base-256 number is too large"))?;
    Ok(if invert == 0 { value } else { !value })
}

fn octal(field: &[u8]) -> Result<i64, TarError> {
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !blank(b)).map_or(start, |i| i + 1);
    let digits = text(&field[start..end]);
    let mut value = 0u64;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(malformed(format!(
                "{:?} is no octal number",
                String::from_utf8_lossy(field)
            )));
        }
        // Fields have at most twelve digits, 36 bits.
        value = value << 3 | u64::from(digit - b'0');
    }
    Ok(value.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_reads_them() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b" 644  \0 ").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\x00").unwrap(), 256);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe").unwrap(), -2);
        assert!(number(b"0000648\0").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
