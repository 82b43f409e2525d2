//! JSON that remembers the order of its keys.
//!
//! `inspect` shows what the engine sent, in the engine's order, and `{{json .State}}` too; a sorted map would not.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// Any other number.
    Float(f64),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// Keys and values in order.
    Object(Vec<(String, Json)>),
    /// What templates can ask for and printed JSON leaves out.
    Hidden(Box<Json>),
}

impl Json {
    /// Parses a document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Json, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("the engine's answer is not JSON: {e}"))
    }

    /// The value at a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The value at a path of keys, `Null` when a step is missing.
    pub(crate) fn at(&self, path: &str) -> &Json {
        path.split('.')
            .try_fold(self, |v, key| v.get(key))
            .unwrap_or(&Json::Null)
    }

    /// The text at a path, empty when there is none.
    pub(crate) fn text(&self, path: &str) -> &str {
        match self.at(path) {
            Json::String(s) => s,
            _ => "",
        }
    }

    /// The integer at a path, 0 when there is none.
    pub(crate) fn int(&self, path: &str) -> i64 {
        match self.at(path) {
            Json::Int(n) => *n,
            Json::Uint(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Json::Float(f) => *f as i64,
            _ => 0,
        }
    }

    /// The number at a path as a float.
    pub(crate) fn float(&self, path: &str) -> f64 {
        match self.at(path) {
            Json::Int(n) => *n as f64,
            Json::Uint(n) => *n as f64,
            Json::Float(f) => *f,
            _ => 0.0,
        }
    }

    /// Whether the value at a path is `true`.
    pub(crate) fn is_true(&self, path: &str) -> bool {
        matches!(self.at(path), Json::Bool(true))
    }

    /// The list at a path, empty when there is none.
    pub(crate) fn list(&self, path: &str) -> &[Json] {
        match self.at(path) {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    /// The entries at a path, none when there is no object.
    pub(crate) fn entries(&self, path: &str) -> &[(String, Json)] {
        match self.at(path) {
            Json::Object(entries) => entries,
            _ => &[],
        }
    }

    /// This value itself as text.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Json::String(s) => s,
            _ => "",
        }
    }

    /// Without blanks.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// Indented by four spaces a level.
    pub(crate) fn pretty(&self) -> String {
        self.indented("    ")
    }

    /// Indented by this text a level.
    pub(crate) fn indented(&self, step: &'static str) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(Indent { step, level: 0 }));
        out
    }

    fn write(&self, out: &mut String, level: Option<Indent>) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Int(n) => out.push_str(&n.to_string()),
            Json::Uint(n) => out.push_str(&n.to_string()),
            Json::Float(f) => out.push_str(&f.to_string()),
            Json::String(s) => write_string(out, s),
            Json::Array(items) => {
                let items = items.iter().map(|v| (None, v));
                write_members(out, level, ('[', ']'), items);
            }
            Json::Object(entries) => {
                let shown: Vec<_> = entries
                    .iter()
                    .filter(|(_, v)| !matches!(v, Json::Hidden(_)))
                    .map(|(k, v)| (Some(k.as_str()), v))
                    .collect();
                write_members(out, level, ('{', '}'), shown.into_iter());
            }
            Json::Hidden(value) => value.write(out, level),
        }
    }
}

/// How deep a line begins.
#[derive(Clone, Copy)]
struct Indent {
    step: &'static str,
    level: usize,
}

impl Indent {
    fn deeper(self) -> Self {
        Indent {
            level: self.level + 1,
            ..self
        }
    }
}

fn write_members<'a>(
    out: &mut String,
    level: Option<Indent>,
    (open, close): (char, char),
    members: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Json)>,
) {
    out.push(open);
    let empty = members.len() == 0;
    for (i, (key, value)) in members.enumerate() {
        if i > 0 {
            out.push(',');
        }
        new_line(out, level.map(Indent::deeper));
        if let Some(key) = key {
            write_string(out, key);
            out.push_str(if level.is_some() { ": " } else { ":" });
        }
        value.write(out, level.map(Indent::deeper));
    }
    if !empty {
        new_line(out, level);
    }
    out.push(close);
}

fn new_line(out: &mut String, indent: Option<Indent>) {
    if let Some(indent) = indent {
        out.push('\n');
        out.push_str(&indent.step.repeat(indent.level));
    }
}

/// A JSON string as Go's encoder writes it without HTML escapes.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
        Ok(Json::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Json, E> {
        Ok(Json::Int(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Json, E> {
        Ok(i64::try_from(v).map_or(Json::Uint(v), Json::Int))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Json, E> {
        Ok(Json::Float(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<Json, E> {
        Ok(Json::String(v.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Object(entries))
    }
}

/// A value that printed JSON leaves out.
pub(crate) fn hidden(value: Json) -> Json {
    Json::Hidden(Box::new(value))
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Json::String(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_and_both_layouts_are_gos() {
        let text = r#"{"b":1,"a":[],"c":{"z":null,"y":[true,-2,1.5,18446744073709551615]},"d":{}}"#;
        let json = Json::parse(text.as_bytes()).expect("parse");
        assert_eq!(json.compact(), text);
        assert_eq!(
            Json::parse(br#"{"b":[1,{}],"a":[]}"#).expect("parse").pretty(),
            "{\n    \"b\": [\n        1,\n        {}\n    ],\n    \"a\": []\n}"
        );
    }

    #[test]
    fn paths_are_forgiving() {
        let json = Json::parse(br#"{"a":{"b":"x","n":3,"t":true}}"#).expect("parse");
        assert_eq!(
            (
                json.text("a.b"),
                json.int("a.n"),
                json.is_true("a.t"),
                json.text("q.r")
            ),
            ("x", 3, true, "")
        );
    }
}
