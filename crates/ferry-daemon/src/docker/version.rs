//! API versions: `1.xx`, as the path or nothing says.

use super::error::ApiError;
use std::fmt;

/// A minor version of major version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(u16);

/// The newest that is served, and what a path without a version means.
pub const NEWEST: ApiVersion = ApiVersion(56);
/// The oldest that is served.
pub const OLDEST: ApiVersion = ApiVersion(24);

impl ApiVersion {
    /// 1.`minor`.
    pub const fn minor(minor: u16) -> Self {
        Self(minor)
    }

    /// Reads the part of a path between `/v` and the next slash, and refuses what is not served, with Docker's words.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let refuse = |adjective: &str, bound: &str, limit, advice: &str| {
            ApiError::invalid(format!(
                "client version {text} is too {adjective}. {bound} supported API version is {limit}{advice}"
            ))
        };
        let number = |part: &str| part.parse::<u64>().unwrap_or(0);
        let (major, minor) = text.split_once('.').unwrap_or((text, ""));
        let (major, minor) = (number(major), number(minor.split('.').next().unwrap_or("")));
        if (major, minor) < (1, u64::from(OLDEST.0)) {
            let advice = ", please upgrade your client to a newer version";
            return Err(refuse("old", "Minimum", OLDEST, advice));
        }
        match u16::try_from(minor) {
            Ok(minor) if major == 1 && minor <= NEWEST.0 => Ok(Self(minor)),
            _ => Err(refuse("new", "Maximum", NEWEST, "")),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Whether a version lies below what is served: then the refusal is plain text, for clients that know no JSON errors.
pub fn is_ancient(text: &str) -> bool {
    ApiVersion::parse(text).is_err_and(|e| e.message.contains("too old"))
}

/// Splits `/v1.41/info` into the version's text and the rest; a path without a version is the rest alone.
pub fn split(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    match rest.find('/') {
        Some(end) if end > 0 && rest[..end].bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            (Some(&rest[..end]), &rest[end..])
        }
        _ => (None, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split() {
        assert_eq!(split("/v1.41/info"), (Some("1.41"), "/info"));
        assert_eq!(split("/info"), (None, "/info"));
        assert_eq!(split("/volumes"), (None, "/volumes"));
        assert_eq!(split("/version"), (None, "/version"));
        assert_eq!(split("/v1.24"), (None, "/v1.24"));
    }

    #[test]
    fn refusals_are_dockers() {
        let text = |v| ApiVersion::parse(v).unwrap_err().message;
        assert_eq!(
            text("9.99"),
            "client version 9.99 is too new. Maximum supported API version is 1.56"
        );
        assert_eq!(
            text("1.10"),
            "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(ApiVersion::parse("1.24").unwrap(), OLDEST);
        assert_eq!(ApiVersion::parse("1.56").unwrap(), NEWEST);
        assert!(ApiVersion::parse("1.57").is_err() && is_ancient("1.23") && !is_ancient("1.57"));
    }
}
