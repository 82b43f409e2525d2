//! What a request says: its query, its body, its credentials.

use super::error::{ApiError, Result};
use super::version::ApiVersion;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use ferry_api::docker::registry::AuthConfig;
use ferry_api::docker::{decode, time};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The most bytes of a JSON body: far above any real one, far below what hurts.
const MAX_BODY: usize = 32 << 20;

/// Filters: key to values.
pub type Filters = BTreeMap<String, Vec<String>>;

/// A request that has found its handler.
pub struct Call {
    /// The front-end's shared state.
    pub app: std::sync::Arc<super::App>,
    /// The version that the client speaks.
    pub version: ApiVersion,
    /// The request's method.
    pub method: hyper::Method,
    /// Variables of the path, by name.
    pub vars: Vec<(&'static str, String)>,
    /// The query.
    pub query: Query,
    /// The head.
    pub headers: HeaderMap,
    /// The body.
    pub body: Incoming,
    /// Present where the client asked to upgrade.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Call {
    /// The engine.
    pub fn engine(&self) -> &ferry_engine::Engine {
        &self.app.engine
    }

    /// A variable of the path.
    pub fn var(&self, name: &str) -> &str {
        self.vars
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }

    /// The whole body, bounded.
    pub async fn bytes(&mut self) -> Result<Bytes> {
        let limited = Limited::new(&mut self.body, MAX_BODY);
        match limited.collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(e) => Err(ApiError::invalid(format!("reading the request body: {e}"))),
        }
    }

    /// A JSON body; none at all is the default.
    pub async fn json<T: DeserializeOwned + Default>(&mut self, name: &str) -> Result<T> {
        self.check_json()?;
        if self.body.size_hint().exact() == Some(0) {
            return Ok(T::default());
        }
        let bytes = self.bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        Ok(decode::from_slice(&bytes, name)?)
    }

    /// Refuses a body that does not call itself JSON.
    pub fn check_json(&self) -> Result<()> {
        let kind = self
            .headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        if kind.is_empty() {
            return match self.body.size_hint().exact() {
                Some(0) => Ok(()),
                _ => Err(ApiError::invalid(
                    "malformed Content-Type header (): mime: no media type",
                )),
            };
        }
        let essence = kind.split(';').next().unwrap_or("").trim();
        if essence.eq_ignore_ascii_case("application/json") {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "unsupported Content-Type header ({kind}): must be 'application/json'"
        )))
    }

    /// Credentials of `X-Registry-Auth`; what cannot be read means anonymous, as with Docker.
    pub fn credentials(&self) -> AuthConfig {
        self.headers
            .get("X-Registry-Auth")
            .and_then(|v| decode_auth(v.as_bytes()))
            .unwrap_or_default()
    }
}

/// base64url of JSON, padded or not.
fn decode_auth(header: &[u8]) -> Option<AuthConfig> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient);
    let standard = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let bytes = url.decode(header).or_else(|_| standard.decode(header)).ok()?;
    decode::from_slice(&bytes, "AuthConfig").ok()
}

/// A query: each key with its values in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=%20`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(key, true), unescape(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value, empty where there is none.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    /// Every value.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// Whether the key is there at all.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// Docker's idea of true: anything but nothing, `0`, `no`, `false`, `none`.
    pub fn flag(&self, key: &str) -> bool {
        !matches!(
            self.get(key).trim().to_ascii_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// The same, `default` where the key is not there.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.flag(key) } else { default }
    }

    /// A number, `None` where there is none.
    pub fn number(&self, key: &str) -> Result<Option<i64>> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
    }

    /// `seconds[.fraction]`; nothing and 0 are no time. The refusal names the key in `quote`s.
    pub fn time(&self, key: &str, quote: char) -> Result<Option<SystemTime>> {
        let text = self.get(key);
        if text.is_empty() || text == "0" {
            return Ok(None);
        }
        let refuse = || {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            let (what, part) = match seconds.parse::<i64>() {
                Ok(_) => ("nanoseconds", fraction),
                Err(_) => ("seconds", seconds),
            };
            ApiError::invalid(format!(
                "invalid value for {quote}{key}{quote}: invalid timestamp {text:?}: invalid {what} {part:?}: invalid syntax"
            ))
        };
        time::parse_unix(text).map(Some).ok_or_else(refuse)
    }

    /// A terminal's height or width.
    pub fn size(&self, key: &str, what: &str) -> Result<u16> {
        let text = self.get(key);
        let refuse = |why: &str| ApiError::invalid(format!("invalid resize {what} {text:?}: {why}"));
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("invalid syntax"));
        }
        text.parse::<u32>()
            .map(|n| u16::try_from(n).unwrap_or(u16::MAX))
            .map_err(|_| refuse("value out of range"))
    }

    /// Filters in both forms: `{"k":{"v":true}}` and `{"k":["v"]}`.
    pub fn filters(&self) -> Result<Filters> {
        parse_filters(self.get("filters"))
    }
}

fn parse_filters(text: &str) -> Result<Filters> {
    if text.is_empty() {
        return Ok(Filters::new());
    }
    let refuse = || ApiError::invalid("invalid filter");
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| refuse())?;
    let mut filters = Filters::new();
    for (key, values) in value.as_object().ok_or_else(refuse)? {
        let values = match values {
            serde_json::Value::Object(map) => {
                let chosen = map.iter().filter(|(_, on)| on.as_bool() != Some(false));
                chosen.map(|(v, _)| v.clone()).collect()
            }
            serde_json::Value::Array(list) => {
                let texts = list.iter().map(|v| v.as_str().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>().ok_or_else(refuse)?
            }
            _ => return Err(refuse()),
        };
        filters.insert(key.clone(), values);
    }
    Ok(filters)
}

/// Undoes percent escapes; `plus` also turns `+` into a blank, as in queries. A broken escape stays as it is.
pub fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 2;
            }
            (b'+', _, _) if plus => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_dockers() {
        let query = Query::parse("a=1&b=0&c=false&d=No&e=none&f=&g&h=x&i=%20");
        for (key, want) in [
            ("a", true),
            ("b", false),
            ("c", false),
            ("d", false),
            ("e", false),
            ("f", false),
            ("g", false),
            ("h", true),
            ("i", false),
            ("zz", false),
        ] {
            assert_eq!(query.flag(key), want, "{key}");
        }
        assert!(query.flag_or("zz", true) && !query.flag_or("b", true));
    }

    #[test]
    fn filters_have_two_forms() {
        let want = Filters::from([("name".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(
            parse_filters(r#"{"name":{"a":true,"b":true,"c":false}}"#).unwrap(),
            want
        );
        assert_eq!(parse_filters(r#"{"name":["a","b"]}"#).unwrap(), want);
        for bad in ["{", "[]", r#"{"a":"b"}"#, r#"{"a":[1]}"#] {
            assert_eq!(parse_filters(bad).unwrap_err().message, "invalid filter");
        }
    }

    #[test]
    fn sizes_are_refused_as_docker_does() {
        let query = Query::parse("h=x&w=20&n=-1&b=99999999999");
        assert_eq!(
            query.size("h", "height").unwrap_err().message,
            r#"invalid resize height "x": invalid syntax"#
        );
        assert_eq!(
            query.size("n", "height").unwrap_err().message,
            r#"invalid resize height "-1": value out of range"#
        );
        assert_eq!(
            query.size("b", "width").unwrap_err().message,
            r#"invalid resize width "99999999999": value out of range"#
        );
        assert_eq!(query.size("w", "width").unwrap(), 20);
    }

    #[test]
    fn credentials_are_base64_in_either_alphabet() {
        let json = br#"{"username":"u","password":"p?>","serveraddress":"r"}"#;
        let url = base64::engine::general_purpose::URL_SAFE.encode(json);
        let bare = base64::engine::general_purpose::STANDARD_NO_PAD.encode(json);
        for text in [url, bare] {
            assert_eq!(decode_auth(text.as_bytes()).unwrap().password, "p?>");
        }
        assert!(decode_auth(b"???").is_none());
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("a%2Fb+c%", true), "a/b c%");
        assert_eq!(unescape("a+b", false), "a+b");
    }
}
