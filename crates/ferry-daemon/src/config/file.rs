//! `daemon.json`.

use super::options::{Kind, by_key, unsupported};
use super::{ConfigError, Given, error};
use serde_json::Value;

/// What may change while the engine runs, as with dockerd: the rest takes a restart.
const RELOADABLE: [&str; 2] = ["debug", "log-level"];

/// Whether a change of this key takes effect on SIGHUP.
pub fn reloadable(key: &str) -> bool {
    RELOADABLE.contains(&key)
}

/// The file's options as texts.
pub fn read(text: &str) -> Result<Given, ConfigError> {
    let value: Value = match text.trim() {
        "" => return Ok(Given::new()),
        text => serde_json::from_str(text).map_err(|e| ConfigError(format!("invalid JSON: {e}")))?,
    };
    let Value::Object(map) = value else {
        return error("invalid JSON: want an object of options");
    };
    let unknown: Vec<&str> = map
        .keys()
        .filter(|k| by_key(k).is_none() && unsupported(k).is_none())
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        return error(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ));
    }
    let mut given = Given::new();
    for (key, value) in &map {
        if let Some(why) = unsupported(key) {
            return error(format!("{key} is not supported by this engine: {why}"));
        }
        let Some(option) = by_key(key) else { continue };
        let texts = texts(value, option.kind).ok_or_else(|| {
            ConfigError(format!(
                "{key}: {value} has the wrong type: want {}",
                wanted(option.kind)
            ))
        })?;
        given.insert(option.key, texts);
    }
    Ok(given)
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Text => "a text",
        Kind::Number => "a number",
        Kind::List => "a list of texts",
        Kind::Map => "an object of texts",
        Kind::Ulimits => "an object such as {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 1, \"Hard\": 2}}",
        Kind::Pools => "a list such as [{\"base\": \"10.0.0.0/8\", \"size\": 24}]",
    }
}

fn texts(value: &Value, kind: Kind) -> Option<Vec<String>> {
    match kind {
        Kind::Bool => Some(vec![value.as_bool()?.to_string()]),
        Kind::Text => Some(vec![value.as_str()?.to_owned()]),
        Kind::Number => Some(vec![value.as_i64()?.to_string()]),
        Kind::List => value
            .as_array()?
            .iter()
            .map(|v| v.as_str().map(str::to_owned))
            .collect(),
        Kind::Map => value
            .as_object()?
            .iter()
            .map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
            .collect(),
        Kind::Ulimits => value
            .as_object()?
            .iter()
            .map(|(name, v)| Some(format!("{name}={}:{}", v["Soft"].as_i64()?, v["Hard"].as_i64()?)))
            .collect(),
        Kind::Pools => value
            .as_array()?
            .iter()
            .map(|v| {
                Some(format!(
                    "base={},size={}",
                    v["base"].as_str()?,
                    v["size"].as_i64()?
                ))
            })
            .collect(),
    }
}
