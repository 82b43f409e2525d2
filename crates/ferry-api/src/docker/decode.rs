//! JSON read as Go's `encoding/json` reads it, since every Docker client was written against that.
//!
//! Field names match without regard to case, unknown fields are passed over, `null` leaves a field at its zero value,
//! and what has the wrong type is refused with Go's sentence, which clients show. Structs must be `#[serde(default)]`.

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::Value;
use std::fmt;

/// Why a body was refused; `Display` is Docker's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl DecodeError {
    /// An error with this sentence.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self(msg.to_string())
    }
}

/// Reads exactly one JSON document; anything but white space after it is refused.
pub fn document(body: &[u8]) -> Result<Value, DecodeError> {
    let mut stream = serde_json::Deserializer::from_slice(body);
    let value = Value::deserialize(&mut stream).map_err(|e| syntax(&e, body))?;
    match stream.end() {
        Ok(()) => Ok(value),
        Err(_) => Err(DecodeError::new("unexpected content after JSON")),
    }
}

fn syntax(error: &serde_json::Error, body: &[u8]) -> DecodeError {
    if error.is_eof() {
        let blank = body.iter().all(u8::is_ascii_whitespace);
        return DecodeError::new(if blank {
            "invalid JSON: EOF"
        } else {
            "invalid JSON: unexpected EOF"
        });
    }
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    DecodeError(format!(
        "invalid JSON: {reason} at line {} column {}",
        error.line(),
        error.column()
    ))
}

/// Reads a body of type `T`; `name` is what Go calls the type, for error texts.
pub fn from_slice<T: DeserializeOwned>(body: &[u8], name: &str) -> Result<T, DecodeError> {
    from_value(document(body)?, name)
}

/// The same from a document that was read already.
pub fn from_value<T: DeserializeOwned>(value: Value, name: &str) -> Result<T, DecodeError> {
    T::deserialize(GoValue {
        value,
        path: name.to_owned(),
    })
    .map_err(|e| DecodeError(format!("invalid JSON: {e}")))
}

struct GoValue {
    value: Value,
    path: String,
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl GoValue {
    fn mismatch(&self, wanted: &str) -> DecodeError {
        let what = match &self.value {
            Value::Number(n) if wanted.contains("int") => format!("number {n}"),
            other => kind(other).to_owned(),
        };
        if self.path.contains('.') {
            DecodeError(format!(
                "json: cannot unmarshal {what} into Go struct field {} of type {wanted}",
                self.path
            ))
        } else {
            DecodeError(format!(
                "json: cannot unmarshal {what} into Go value of type {}",
                self.path
            ))
        }
    }

    fn child(path: &str, key: &str, value: Value) -> GoValue {
        GoValue {
            value,
            path: format!("{path}.{key}"),
        }
    }
}

impl<'de> IntoDeserializer<'de, DecodeError> for GoValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! integer {
    ($($method:ident $visit:ident $get:ident $name:literal),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match &self.value {
                Value::Null => visitor.$visit(0),
                Value::Number(n) => match n.$get().and_then(|n| n.try_into().ok()) {
                    Some(n) => visitor.$visit(n),
                    None => Err(self.mismatch($name)),
                },
                _ => Err(self.mismatch($name)),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for GoValue {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::String(s) => visitor.visit_string(s),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Number(ref n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (None, Some(n)) => visitor.visit_i64(n),
                (None, None) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            },
        }
    }

    integer! {
        deserialize_i8 visit_i8 as_i64 "int8", deserialize_i16 visit_i16 as_i64 "int16",
        deserialize_i32 visit_i32 as_i64 "int", deserialize_i64 visit_i64 as_i64 "int64",
        deserialize_u8 visit_u8 as_u64 "uint8", deserialize_u16 visit_u16 as_u64 "uint16",
        deserialize_u32 visit_u32 as_u64 "uint32", deserialize_u64 visit_u64 as_u64 "uint64"
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(n) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            _ => Err(self.mismatch("float64")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::String(s) => visitor.visit_string(s),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<GoValue>())),
            Value::Array(items) => {
                let path = self.path;
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(|value| GoValue {
                    value,
                    path: path.clone(),
                })))
            }
            _ => Err(self.mismatch("[]string")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(String, GoValue)>())),
            Value::Object(map) => {
                let path = self.path;
                visitor.visit_map(MapDeserializer::new(
                    map.into_iter()
                        .map(|(k, v)| (k.clone(), GoValue::child(&path, &k, v))),
                ))
            }
            _ => Err(self.mismatch("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, GoValue)>())),
            Value::Object(mut map) => {
                let mut found = Vec::with_capacity(map.len());
                for field in fields {
                    let key = match map.contains_key(*field) {
                        true => Some((*field).to_owned()),
                        false => map.keys().find(|k| k.eq_ignore_ascii_case(field)).cloned(),
                    };
                    if let Some(value) = key.and_then(|k| map.remove(&k)) {
                        found.push((*field, GoValue::child(&self.path, field, value)));
                    }
                }
                visitor.visit_map(MapDeserializer::new(found.into_iter()))
            }
            _ => Err(self.mismatch(name)),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct tuple_struct enum identifier ignored_any
    }
}

/// A list of words that may also be written as one string, as older clients do for `Cmd` and `Entrypoint`.
pub fn words<'de, D: de::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Words;
    impl<'de> Visitor<'de> for Words {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = seq.next_element_seed(Word)? {
                words.push(word);
            }
            Ok(Some(words))
        }
    }
    struct Word;
    impl<'de> DeserializeSeed<'de> for Word {
        type Value = String;

        fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<String, D::Error> {
            String::deserialize(d)
        }
    }
    deserializer.deserialize_any(Words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        memory: i64,
        small: u16,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, rename_all = "PascalCase")]
    struct Outer {
        image: String,
        #[serde(deserialize_with = "words")]
        cmd: Option<Vec<String>>,
        env: Option<Vec<String>>,
        labels: BTreeMap<String, String>,
        inner: Inner,
        tty: bool,
    }

    fn read(text: &str) -> Result<Outer, DecodeError> {
        from_slice(text.as_bytes(), "CreateRequest")
    }

    #[test]
    fn names_match_in_any_case_and_unknown_ones_are_passed_over() {
        let got = read(r#"{"image":"a","CMD":["x"],"Nope":{"a":1},"INNER":{"memory":5}}"#).unwrap();
        assert_eq!(got.image, "a");
        assert_eq!(got.cmd, Some(vec!["x".to_owned()]));
        assert_eq!(got.inner.memory, 5);
    }

    #[test]
    fn null_is_the_zero_value() {
        let got =
            read(r#"{"Image":null,"Cmd":null,"Env":null,"Labels":null,"Inner":null,"Tty":null}"#).unwrap();
        assert_eq!(got, Outer::default());
        let got = read(r#"{"Labels":{"a":null}}"#).unwrap();
        assert_eq!(got.labels["a"], "");
    }

    #[test]
    fn a_command_may_be_one_string() {
        assert_eq!(
            read(r#"{"Cmd":"true"}"#).unwrap().cmd,
            Some(vec!["true".to_owned()])
        );
    }

    #[test]
    fn refusals_read_as_go_writes_them() {
        let text = |s: &str| read(s).unwrap_err().to_string();
        assert_eq!(
            text(r#"{"Image":3}"#),
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string"
        );
        assert_eq!(
            text(r#"{"Inner":{"Memory":"x"}}"#),
            "invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Inner.Memory of type int64"
        );
        assert_eq!(
            text(r#"{"Inner":{"Small":70000}}"#),
            "invalid JSON: json: cannot unmarshal number 70000 into Go struct field CreateRequest.Inner.Small of type uint16"
        );
        assert_eq!(text(""), "invalid JSON: EOF");
        assert_eq!(text(r#"{"Image":"#), "invalid JSON: unexpected EOF");
        assert_eq!(text(r#"{} {}"#), "unexpected content after JSON");
        assert_eq!(
            text("[]"),
            "invalid JSON: json: cannot unmarshal array into Go value of type CreateRequest"
        );
    }
}
