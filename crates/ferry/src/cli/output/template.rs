//! Go templates for `--format`, over ordered JSON. The only module that knows the template engine.
//!
//! The engine keeps maps sorted, so `{{json .State}}` would lose the engine's order of keys. Therefore every map made
//! here is remembered by its address with its JSON text, and the `json` function looks there first.

use super::json::Json;
use gotmpl::{MissingKey, Template, TemplateError, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What the rendered values are, which decides small things that Go's types would.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// An answer as it came.
    Plain,
    /// A row of a list: its JSON has `<`, `>` and `&` escaped.
    Row,
    /// An inspected thing: what is `null` prints as the empty list, map or pointer that it is in Go.
    Inspected,
}

/// A parsed template.
pub(crate) struct Format {
    source: String,
    values: Values,
}

impl Format {
    /// Parses, so that a bad template is refused before the engine is asked for anything.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let source = call_methods(source);
        build(&source, HashMap::new(), false)?;
        Ok(Format {
            source,
            values: Values::Plain,
        })
    }

    /// Sets what the values are.
    pub(crate) fn of(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// Renders one value.
    pub(crate) fn render(&self, data: &Json) -> Result<String, String> {
        let text = self.execute(data, false)?;
        // A null that is left in an inspected thing is a pointer.
        Ok(if self.values == Values::Inspected {
            text.replace("<no value>", "<nil>")
        } else {
            text
        })
    }

    /// Renders a table's header: `data` maps field names to column titles, and functions leave them alone.
    pub(crate) fn header(&self, data: &Json) -> Result<String, String> {
        self.execute(data, true)
    }

    fn execute(&self, data: &Json, header: bool) -> Result<String, String> {
        let mut conversion = Conversion {
            values: self.values,
            remember: self.source.contains("json"),
            texts: HashMap::new(),
        };
        let value = conversion.value(data, "");
        let template = build(&self.source, conversion.texts, header)?;
        template
            .execute_to_string(&value)
            .map_err(|e| execution_error(&e, &self.source))
    }
}

fn execution_error(error: &TemplateError, source: &str) -> String {
    if let TemplateError::MissingKey { key } = error {
        let column = source.find(&format!(".{key}")).unwrap_or(0);
        let is_path = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '$');
        let start = source[..column].rfind(|c| !is_path(c)).map_or(0, |at| at + 1);
        let path = &source[start..column];
        return format!(
            "template parsing error: template: :1:{column}: executing \"\" at <{path}.{key}>: map has no entry for key \"{key}\""
        );
    }
    format!("template parsing error: {error}")
}

/// Go names the line of a syntax error alone: `template: :1: unclosed action`.
fn syntax_error(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template parsing error: template: :{line}: {message}")
        }
        other => format!("template parsing error: {other}"),
    }
}

/// The key of an object under which a method with one text argument lives (`.Label "x"`).
const METHODS: [&str; 1] = ["Label"];

/// Turns `.Label "x"` into `call .Label "x"`: the engine calls functions kept in a field only that way.
fn call_methods(source: &str) -> String {
    let mut out = source.to_owned();
    for method in METHODS {
        for quote in ['"', '`'] {
            out = out.replace(&format!(".{method} {quote}"), &format!("call .{method} {quote}"));
        }
    }
    out
}

fn build(source: &str, texts: HashMap<usize, String>, header: bool) -> Result<Template, String> {
    // A field that does not exist is an error that names it, but in a header, where a flag has no title.
    let option = if header {
        MissingKey::Invalid
    } else {
        MissingKey::Error
    };
    let mut template = Template::new("").missing_key(option);
    if header {
        for name in ["json", "split", "join", "title", "lower", "upper", "truncate"] {
            template = template.func(name, |args| Ok(args.first().cloned().unwrap_or(Value::Nil)));
        }
    } else {
        template = template
            .func("json", move |args| {
                Ok(text(&json_of(args.first().unwrap_or(&Value::Nil), &texts)))
            })
            .func("split", split)
            .func("join", join)
            .func("title", |args| Ok(text(&title(&string(args, 0)))))
            .func("lower", |args| Ok(text(&string(args, 0).to_lowercase())))
            .func("upper", |args| Ok(text(&string(args, 0).to_uppercase())))
            .func("truncate", |args| {
                Ok(text(&truncate(&string(args, 0), number(args, 1))))
            });
    }
    template
        .func("pad", |args| {
            Ok(text(&pad(&string(args, 0), number(args, 1), number(args, 2))))
        })
        .parse(source)
        .map_err(|e| syntax_error(&e))
}

fn text(s: &str) -> Value {
    Value::String(s.into())
}

fn string(args: &[Value], index: usize) -> String {
    args.get(index).map(ToString::to_string).unwrap_or_default()
}

fn number(args: &[Value], index: usize) -> usize {
    args.get(index)
        .and_then(Value::as_int)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0)
}

fn split(args: &[Value]) -> Result<Value, TemplateError> {
    let (subject, separator) = (string(args, 0), string(args, 1));
    let parts: Vec<Value> = subject.split(separator.as_str()).map(text).collect();
    Ok(Value::List(parts.into()))
}

fn join(args: &[Value]) -> Result<Value, TemplateError> {
    let separator = string(args, 1);
    let parts: Vec<String> = match args.first() {
        None | Some(Value::Nil) => Vec::new(),
        Some(Value::List(items)) => items.iter().map(ToString::to_string).collect(),
        Some(Value::Map(map)) => {
            let mut values: Vec<String> = map.values().map(ToString::to_string).collect();
            values.sort();
            values
        }
        Some(other) => {
            return Err(TemplateError::Exec(format!(
                "error calling join: expected slice, got {}",
                other.type_name()
            )));
        }
    };
    Ok(text(&parts.join(&separator)))
}

/// Upper-cases the first letter of each word.
fn title(text: &str) -> String {
    let mut at_start = true;
    text.chars()
        .flat_map(|c| {
            let upper = at_start && c.is_alphabetic();
            at_start = !(c.is_alphanumeric() || c == '_' || c == '\'');
            let mapped: Vec<char> = if upper {
                c.to_uppercase().collect()
            } else {
                vec![c]
            };
            mapped
        })
        .collect()
}

fn pad(text: &str, before: usize, after: usize) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{}{text}{}", " ".repeat(before), " ".repeat(after))
    }
}

fn truncate(text: &str, length: usize) -> String {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// From JSON to the engine's values.
struct Conversion {
    values: Values,
    remember: bool,
    texts: HashMap<usize, String>,
}

impl Conversion {
    /// `key` is the field that the value is in.
    fn value(&mut self, json: &Json, key: &str) -> Value {
        match json {
            Json::Null if self.values == Values::Inspected => self.null(key),
            Json::Null => Value::Nil,
            Json::Bool(b) => Value::Bool(*b),
            Json::Int(n) => Value::Int(*n),
            Json::Uint(n) => Value::Uint(*n),
            Json::Float(f) => Value::Float(*f),
            Json::String(s) => text(s),
            Json::Array(items) => Value::List(items.iter().map(|i| self.value(i, "")).collect()),
            Json::Object(entries) => self.map(json, entries),
            Json::Hidden(value) => self.value(value, key),
        }
    }

    fn map(&mut self, json: &Json, entries: &[(String, Json)]) -> Value {
        let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        for (key, value) in entries {
            map.insert(key.as_str().into(), self.value(value, key));
        }
        if let Some((_, Json::Hidden(labels))) = entries.iter().find(|(k, _)| k == super::listing::LABEL_SET)
        {
            map.insert("Label".into(), label_function(labels));
        }
        let map = Arc::new(map);
        if self.remember {
            let mut text = json.compact();
            if self.values == Values::Row {
                text = escape_html(&text);
            }
            self.texts.insert(Arc::as_ptr(&map) as usize, text);
        }
        Value::Map(map)
    }

    /// Go's type of a field that the API sends as null.
    fn null(&mut self, key: &str) -> Value {
        const POINTERS: [&str; 12] = [
            "Health",
            "Healthcheck",
            "IPAMConfig",
            "ImageManifestDescriptor",
            "Init",
            "MemorySwappiness",
            "OomKillDisable",
            "PidsLimit",
            "StopTimeout",
            "UsageData",
            "BindOptions",
            "Descriptor",
        ];
        const MAPS: [&str; 12] = [
            "Annotations",
            "DriverOpts",
            "ExposedPorts",
            "Labels",
            "Options",
            "Data",
            "Ports",
            "PortBindings",
            "StorageOpt",
            "Sysctls",
            "Tmpfs",
            "Volumes",
        ];
        if POINTERS.contains(&key) {
            return Value::Nil;
        }
        if MAPS.contains(&key) {
            let map = Arc::new(BTreeMap::new());
            self.texts.insert(Arc::as_ptr(&map) as usize, "null".to_owned());
            return Value::Map(map);
        }
        let list: Arc<[Value]> = Arc::new([]);
        self.texts.insert(list.as_ptr() as usize, "null".to_owned());
        Value::List(list)
    }
}

/// What Go's JSON encoder does to a row before the template sees it.
pub(crate) fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// `.Label "x"` of a row; in a header it gives the last part of the name.
fn label_function(labels: &Json) -> Value {
    let labels = labels.clone();
    Value::Function(Arc::new(move |args| {
        let name = string(args, 0);
        Ok(match &labels {
            Json::Null => text(&name.rsplit('.').next().unwrap_or(&name).replace(['-', '_'], " ")),
            labels => text(labels.get(&name).map_or("", Json::as_str)),
        })
    }))
}

fn json_of(value: &Value, texts: &HashMap<usize, String>) -> String {
    match value {
        Value::Nil | Value::Function(_) => "null".into(),
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => value.to_string(),
        Value::String(s) => {
            let mut out = String::new();
            super::json::write_string(&mut out, s);
            out
        }
        Value::List(items) if texts.contains_key(&(items.as_ptr() as usize)) => "null".into(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|v| json_of(v, texts)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(map) => match texts.get(&(Arc::as_ptr(map) as usize)) {
            Some(text) => text.clone(),
            None => {
                let entries: Vec<String> = map
                    .iter()
                    .map(|(k, v)| format!("{}:{}", json_of(&text(k), texts), json_of(v, texts)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, json: &str) -> Result<String, String> {
        Format::parse(source)?.render(&Json::parse(json.as_bytes())?)
    }

    #[test]
    fn docker_functions_and_gos() {
        let data = r#"{"Name":"/web one","List":["a","b"],"State":{"Z":1,"A":{"Y":null,"B":[{"K":"<x>","C":2}]}},"N":3,"M":{"b":"2","a":"1"}}"#;
        for (source, want) in [
            ("{{.Name}} {{.N}}", "/web one 3"),
            (
                "{{json .State}}",
                r#"{"Z":1,"A":{"Y":null,"B":[{"K":"<x>","C":2}]}}"#,
            ),
            ("{{range .State.A.B}}{{json .}}{{end}}", r#"{"K":"<x>","C":2}"#),
            ("{{json .List}}{{json .Name}}", r#"["a","b"]"/web one""#),
            (r#"{{join .List ", "}}"#, "a, b"),
            (r#"{{join .M "-"}}"#, "1-2"),
            (r#"{{range split .Name " "}}<{{.}}>{{end}}"#, "</web><one>"),
            (
                "{{upper .Name}} {{title .Name}} {{lower \"ABC\"}}",
                "/WEB ONE /Web One abc",
            ),
            (
                "[{{pad .Name 1 2}}] [{{pad \"\" 1 2}}] {{truncate .Name 3}}",
                "[ /web one  ] [] /we",
            ),
            ("{{println .N}}{{if eq .N 3}}three{{end}}", "3\nthree"),
            ("{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
            (
                "{{index .M \"a\"}} {{len .List}} {{.State.A.Y}}",
                "1 2 <no value>",
            ),
        ] {
            assert_eq!(render(source, data).as_deref(), Ok(want), "{source}");
        }
    }

    #[test]
    fn bad_templates_and_fields_are_named() {
        assert!(
            render("{{.Name", "{}")
                .unwrap_err()
                .starts_with("template parsing error: template:")
        );
        assert_eq!(
            render("{{.Nope}}", "{}").unwrap_err(),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
        );
    }

    #[test]
    fn labels_are_asked_by_name() {
        let row = Json::Object(vec![(
            super::super::listing::LABEL_SET.into(),
            super::super::json::hidden(Json::Object(vec![(
                "com.example.some-key".into(),
                "va-l_ue".into(),
            )])),
        )]);
        let format = Format::parse("{{.Label \"com.example.some-key\"}}|{{.Label `none`}}").expect("parse");
        assert_eq!(format.render(&row).as_deref(), Ok("va-l_ue|"));
        let header = Json::Object(vec![(
            super::super::listing::LABEL_SET.into(),
            super::super::json::hidden(Json::Null),
        )]);
        assert_eq!(format.header(&header).as_deref(), Ok("some key|none"));
    }
}
