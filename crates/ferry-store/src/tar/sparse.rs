//! Maps of sparse files: where in the file each stretch of stored data belongs.

use super::{TarError, header, malformed, pax};

/// Offset and length of each stored stretch, in order.
pub(super) type Map = Vec<(u64, u64)>;

/// The most stretches: a map of `MAX_SPECIAL` bytes cannot hold more.
const MAX_STRETCHES: usize = 1 << 18;

/// Refuses a map that overlaps, goes backwards or leaves the file.
pub(super) fn validate(map: &Map, size: u64) -> Result<(), TarError> {
    let mut end = 0u64;
    for &(offset, length) in map {
        let next = offset.checked_add(length).filter(|&n| offset >= end && n <= size);
        end = next.ok_or_else(|| malformed("a sparse map overlaps itself or leaves its file"))?;
    }
    Ok(())
}

/// The entries of an old GNU header (4) or of one of its extension blocks (21); stops at the first empty one.
pub(super) fn old_gnu(fields: &[u8], map: &mut Map) -> Result<(), TarError> {
    for entry in fields.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        push(map, header::number(&entry[..12])?, header::number(&entry[12..])?)?;
    }
    Ok(())
}

/// GNU sparse 0.1: `offset,length,offset,length,…`
pub(super) fn pax_0_1(count: &[u8], text: &[u8]) -> Result<Map, TarError> {
    let mut map = Map::new();
    let numbers: Vec<&[u8]> = match text {
        [] => Vec::new(),
        _ => text.split(|&b| b == b',').collect(),
    };
    let count = usize::try_from(pax::decimal(count)?).ok();
    if count.and_then(|n| n.checked_mul(2)) != Some(numbers.len()) {
        return Err(malformed("a sparse map has not as many entries as it says"));
    }
    for pair in numbers.chunks_exact(2) {
        push(&mut map, pax::decimal(pair[0])?, pax::decimal(pair[1])?)?;
    }
    Ok(map)
}

/// GNU sparse 1.0: the map precedes the data in whole blocks, one number a line, the count first.
/// `next_block` gives the entry's next data block.
pub(super) fn pax_1_0(
    mut next_block: impl FnMut() -> Result<[u8; super::BLOCK], TarError>,
) -> Result<Map, TarError> {
    let mut buffer: Vec<u8> = Vec::new();
    let mut at = 0;
    let mut number = || -> Result<i64, TarError> {
        loop {
            if let Some(length) = buffer[at..].iter().position(|&b| b == b'\n') {
                let value = pax::decimal(&buffer[at..at + length])?;
                at += length + 1;
                return Ok(value);
            }
            if buffer.len() as u64 >= super::MAX_SPECIAL {
                return Err(TarError::TooLarge("a sparse map is larger than 1 MiB".into()));
            }
            buffer.extend_from_slice(&next_block()?);
        }
    };
    let count = usize::try_from(number()?).map_err(|_| malformed("a sparse map has a negative count"))?;
    let mut map = Map::new();
    for _ in 0..count {
        let (offset, length) = (number()?, number()?);
        push(&mut map, offset, length)?;
    }
    Ok(map)
}

fn push(map: &mut Map, offset: i64, length: i64) -> Result<(), TarError> {
    if map.len() >= MAX_STRETCHES {
        return Err(TarError::TooLarge("a sparse map has too many entries".into()));
    }
    match (u64::try_from(offset), u64::try_from(length)) {
        (Ok(offset), Ok(length)) => map.push((offset, length)),
        _ => return Err(malformed("a sparse map has a negative number")),
    }
    Ok(())
}
