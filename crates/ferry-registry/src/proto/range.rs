//! `Content-Range` of a resumed blob (RFC 9110 §14.4).

/// First byte, last byte and the whole length (`None` for `*`) of `bytes 5-9/10`; `None` for anything else.
pub fn parse_content_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
    let (span, whole) = header
        .trim()
        .strip_prefix("bytes")?
        .trim_start()
        .split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let whole = match whole.trim() {
        "*" => None,
        n => Some(n.parse().ok()?),
    };
    (first <= last && whole.is_none_or(|w| last < w)).then_some((first, last, whole))
}

#[cfg(test)]
mod tests {
    use super::parse_content_range;

    #[test]
    fn only_well_formed_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_content_range("bytes 0-0/*"), Some((0, 0, None)));
        for bad in ["", "bytes 9-5/10", "bytes 5-10/10", "items 1-2/3", "bytes */10"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
