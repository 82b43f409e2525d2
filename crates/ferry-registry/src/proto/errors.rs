//! Error bodies: `{"errors":[{"code","message","detail"}]}`.

use serde::Deserialize;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
    /// What token servers say instead.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A sentence of an error body: every entry as `code: message`, or the first 200 characters of what is no such body.
pub fn sentence(body: &[u8]) -> String {
    if let Ok(parsed) = serde_json::from_slice::<Body>(body) {
        let entries: Vec<String> = parsed
            .errors
            .iter()
            .map(|e| format!("{}: {}", e.code.to_ascii_lowercase().replace('_', " "), e.message))
            .collect();
        if !entries.is_empty() {
            return entries.join("; ");
        }
        if let Some(text) = parsed.details.or(parsed.message) {
            return text;
        }
    }
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    if text.trim().is_empty() {
        "no reason given".into()
    } else {
        text.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_every_entry() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"},{"code":"X","message":"y"}]}"#;
        assert_eq!(sentence(body), "manifest unknown: manifest unknown; x: y");
        assert_eq!(sentence(b"<html>\n502</html>"), "<html>502</html>");
        assert_eq!(sentence(b""), "no reason given");
    }
}
