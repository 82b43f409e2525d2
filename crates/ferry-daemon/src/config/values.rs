//! How each kind of value is read from text.

use ferry_engine::config::AddressPool;
use ferry_engine::containers::spec::Ulimit;
use ipnet::IpNet;

type Read<T> = Result<T, String>;

/// Go's booleans.
pub fn boolean(text: &str) -> Read<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("want true or false".into()),
    }
}

/// A whole number.
pub fn number(text: &str) -> Read<i64> {
    text.parse().map_err(|_| "want a whole number".into())
}

/// Bytes: a number with `b`, `k`, `m`, `g`, `t`, possibly with `b` or `ib` behind, powers of 1024.
pub fn bytes(text: &str) -> Read<i64> {
    let wrong = || format!("invalid size: '{text}': want a number of bytes, possibly with b, k, m or g");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim_end();
    let shift = match lower[digits.len()..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift / 2));
    if number < 0.0 || !bytes.is_finite() || bytes > 9e18 {
        Err(wrong())
    } else {
        Ok(bytes as i64)
    }
}

/// An address with its prefix length.
pub fn net(text: &str) -> Read<IpNet> {
    text.parse()
        .map_err(|_| "want an address with a prefix length, such as 10.0.0.1/24".into())
}

/// An address.
pub fn ip(text: &str) -> Read<std::net::IpAddr> {
    text.parse().map_err(|_| "want an IP address".into())
}

/// `nofile=1024:2048` or `nofile=1024`.
pub fn ulimit(text: &str) -> Read<Ulimit> {
    let wrong = || "want name=soft[:hard]".to_owned();
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (
        soft.parse().map_err(|_| wrong())?,
        hard.parse().map_err(|_| wrong())?,
    );
    if name.is_empty() || (hard != -1 && soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// `base=10.0.0.0/8,size=24`.
pub fn pool(text: &str) -> Read<AddressPool> {
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("base", value)) => base = Some(net(value)?.trunc()),
            Some(("size", value)) => size = value.parse::<u8>().ok(),
            _ => return Err(format!("unexpected {part:?}: want base=<CIDR>,size=<number>")),
        }
    }
    match (base, size) {
        (Some(base), Some(size)) if size >= base.prefix_len() && size <= base.max_prefix_len() => {
            Ok(AddressPool { base, size })
        }
        (Some(base), Some(size)) => Err(format!("networks of size {size} cannot be cut from {base}")),
        _ => Err("want base=<CIDR>,size=<number>".into()),
    }
}

/// `key=value`.
pub fn pair(text: &str) -> Read<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("want key=value".into()),
    }
}

/// One of a few words.
pub fn word(text: &str, allowed: &[&str]) -> Read<String> {
    if allowed.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("use {}", allowed.join(" or ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("64m", 64 << 20),
            ("1g", 1 << 30),
            ("5", 5),
            ("1.5k", 1536),
            ("2MiB", 2 << 20),
            ("1tb", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in ["", "x", "-1m", "1z"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pools_and_limits() {
        assert!(pool("base=10.0.0.0/8,size=24").is_ok());
        assert!(pool("base=10.0.0.0/8,size=4").is_err() && pool("base=10.0.0.0/8").is_err());
        assert_eq!(ulimit("nofile=5").unwrap().hard, 5);
        assert!(ulimit("nofile=5:4").is_err() && ulimit("x").is_err());
    }
}
