//! What the filters of lists and prunes have in common.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Filters by key; an absent key matches everything.
pub(crate) struct Filters<'a>(pub &'a BTreeMap<String, Vec<String>>);

impl<'a> Filters<'a> {
    /// With these keys and no others.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`]: `invalid filter 'x'`.
    pub(crate) fn new(filters: &'a BTreeMap<String, Vec<String>>, keys: &[&str]) -> Result<Self> {
        match filters.keys().find(|k| !keys.contains(&k.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(Self(filters)),
        }
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether any value passes, or there is none.
    pub(crate) fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|v| test(v))
    }

    /// Whether the labels satisfy `label` (all of them) and `label!` (none of them).
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// A yes or no; `None` when it is not asked.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`]: `invalid filter 'key=[x]'`.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let values = self.values(key);
        let known = |v: &String| match v.as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        };
        match values {
            [] => Ok(None),
            [one] => known(one)
                .map(Some)
                .ok_or_else(|| Error::invalid(format!("invalid filter '{key}=[{one}]'"))),
            many => Err(Error::invalid(format!(
                "invalid filter '{key}=[{}]'",
                many.join(" ")
            ))),
        }
    }

    /// The one `until` of a prune.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for several, or one that is no time.
    pub(crate) fn until(&self, now: SystemTime) -> Result<Option<SystemTime>> {
        match self.values("until") {
            [] => Ok(None),
            [one] => timestamp(one, now)
                .map(Some)
                .ok_or_else(|| Error::invalid(format!("failed to parse value {one:?} of the until filter: want a duration, a unix time or RFC 3339"))),
            _ => Err(Error::invalid("more than one until filter specified")),
        }
    }
}

/// A time as Docker's filters take it: `10m` ago, seconds since the epoch with a fraction, or RFC 3339.
pub(crate) fn timestamp(text: &str, now: SystemTime) -> Option<SystemTime> {
    if let Some(ago) = go_duration(text) {
        return now.checked_sub(ago);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds >= 0.0)
            .then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?))
            .flatten();
    }
    let format = &time::format_description::well_known::Rfc3339;
    let padded = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    time::OffsetDateTime::parse(&padded, format)
        .ok()
        .map(SystemTime::from)
}

/// Go's duration: `1h30m`, `1.5s`, `300ms`.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ];
        let (unit, seconds) = units.into_iter().find(|(u, _)| tail.starts_with(u))?;
        total += number * seconds;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(total).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), v.iter().map(|s| (*s).into()).collect()))
            .collect()
    }

    #[test]
    fn keys_labels_and_booleans() {
        let map = filters(&[
            ("label", &["a=1", "b"]),
            ("label!", &["c"]),
            ("dangling", &["true"]),
        ]);
        let f = Filters::new(&map, &["label", "label!", "dangling"]).unwrap();
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(f.labels(&labels(&[("a", "1"), ("b", "x")])));
        assert!(!f.labels(&labels(&[("a", "2"), ("b", "x")])));
        assert!(!f.labels(&labels(&[("a", "1"), ("b", "x"), ("c", "")])));
        assert_eq!(f.boolean("dangling").unwrap(), Some(true));
        assert_eq!(
            Filters::new(&map, &["label"]).err().unwrap().to_string(),
            "invalid filter 'dangling'"
        );
        let map = filters(&[("dangling", &["perhaps"])]);
        assert_eq!(
            Filters(&map).boolean("dangling").unwrap_err().to_string(),
            "invalid filter 'dangling=[perhaps]'"
        );
    }

    #[test]
    fn times_are_read_in_all_spellings() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let at = |s| {
            timestamp(s, now)
                .unwrap()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_millis()
        };
        assert_eq!(at("1h"), 6_400_000);
        assert_eq!(at("1m30.5s"), 9_909_500);
        assert_eq!(at("500.25"), 500_250);
        assert_eq!(at("1970-01-01T00:00:01.5Z"), 1500);
        assert_eq!(at("1970-01-02"), 86_400_000);
        for bad in ["", "soon", "-1", "1x", "m"] {
            assert!(timestamp(bad, now).is_none(), "{bad}");
        }
    }
}
