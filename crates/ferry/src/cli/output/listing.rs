//! Lists of things: the `--format` rules that `ps`, `images`, `volume ls` and the others share.

use super::json::{Json, hidden};
use super::table;
use super::template::{Format, Values};

/// A row's labels for `.Label "name"`; no template can spell this key and it is left out of JSON.
pub(crate) const LABEL_SET: &str = "\u{0}labels";

/// One kind of row: its fields with their column titles, and the default table.
pub(crate) struct Listing {
    /// `(field, column title)`; every row has just these fields.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// The table template used when none is given.
    pub(crate) table: &'static str,
    /// The template of `--format raw`.
    pub(crate) raw: &'static str,
    /// The field that `--quiet` prints.
    pub(crate) quiet: &'static str,
    /// What messages call a row.
    pub(crate) kind: &'static str,
}

impl Listing {
    /// The template that `--format` and `--quiet` amount to.
    pub(crate) fn template(&self, format: &str, quiet: bool) -> String {
        match format {
            "" | "table" if quiet => self.quiet.to_owned(),
            "" | "table" => self.table.to_owned(),
            "raw" if !self.raw.is_empty() => self.raw.to_owned(),
            _ if quiet => self.quiet.to_owned(),
            other => other.to_owned(),
        }
    }

    /// Renders all rows with such a template.
    pub(crate) fn render(&self, template: &str, rows: &[Json]) -> Result<String, String> {
        let (is_table, source) = source(template);
        let format = Format::parse(&source)?.of(Values::Row);
        let mut body = String::new();
        for row in rows {
            body.push_str(&format.render(row).map_err(|e| self.field_error(e))?);
            body.push('\n');
        }
        if !is_table {
            return Ok(body);
        }
        let mut titles: Vec<(String, Json)> = self
            .columns
            .iter()
            .map(|(f, t)| ((*f).to_owned(), (*t).into()))
            .collect();
        titles.push((LABEL_SET.into(), hidden(Json::Null)));
        let header = format.header(&Json::Object(titles))?;
        Ok(table::align(&format!("{header}\n{body}")))
    }

    /// Go names the type where a map would name the key.
    fn field_error(&self, error: String) -> String {
        match error.split_once(">: map has no entry for key ") {
            Some((head, key)) => {
                let key = key.trim_matches('"');
                format!("{head}>: can't evaluate field {key} in type *{}", self.kind)
            }
            None => error,
        }
    }

    /// Whether a template mentions a field.
    pub(crate) fn uses(template: &str, field: &str) -> bool {
        template.contains(&format!(".{field}"))
    }
}

/// Splits off the `table` directive; backslash escapes become what they stand for.
pub(crate) fn source(template: &str) -> (bool, String) {
    if template == "json" {
        return (false, "{{json .}}".to_owned());
    }
    let (is_table, rest) = match template.strip_prefix("table") {
        Some(rest) => (true, rest),
        None => (false, template),
    };
    (
        is_table,
        rest.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n"),
    )
}

/// A row from fields in alphabetical order, as Go's JSON of such a row has them.
pub(crate) fn row(mut fields: Vec<(&'static str, String)>) -> Json {
    fields.sort_by_key(|(name, _)| *name);
    Json::Object(
        fields
            .into_iter()
            .map(|(k, v)| (k.to_owned(), Json::String(v)))
            .collect(),
    )
}

/// The same with labels for `.Label`.
pub(crate) fn labelled(fields: Vec<(&'static str, String)>, labels: &Json) -> Json {
    let mut row = row(fields);
    if let Json::Object(entries) = &mut row {
        let labels = if matches!(labels, Json::Object(_)) {
            labels.clone()
        } else {
            Json::Object(Vec::new())
        };
        entries.push((LABEL_SET.into(), hidden(labels)));
    }
    row
}

/// `a=1,b=2`, sorted.
pub(crate) fn join_labels(labels: &Json) -> String {
    let mut all: Vec<String> = labels
        .entries_here()
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str()))
        .collect();
    all.sort();
    all.join(",")
}

impl Json {
    /// This value's own entries.
    pub(crate) fn entries_here(&self) -> &[(String, Json)] {
        match self {
            Json::Object(entries) => entries,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing {
        columns: &[("ID", "THING ID"), ("Name", "NAME")],
        table: "table {{.ID}}\t{{.Name}}",
        raw: "",
        quiet: "{{.ID}}",
        kind: "thingContext",
    };

    fn rows() -> Vec<Json> {
        vec![
            row(vec![("Name", "one".into()), ("ID", "1".into())]),
            row(vec![("ID", "22".into()), ("Name", "two".into())]),
        ]
    }

    #[test]
    fn the_forms_of_format() {
        for (format, quiet, want) in [
            ("", false, "THING ID   NAME\n1          one\n22         two\n"),
            ("table", true, "1\n22\n"),
            (
                "json",
                false,
                "{\"ID\":\"1\",\"Name\":\"one\"}\n{\"ID\":\"22\",\"Name\":\"two\"}\n",
            ),
            ("{{.Name}}", false, "one\ntwo\n"),
            (
                "table {{.Name}}\\t{{upper .Name}}",
                false,
                "NAME      NAME\none       ONE\ntwo       TWO\n",
            ),
        ] {
            assert_eq!(
                LISTING
                    .render(&LISTING.template(format, quiet), &rows())
                    .as_deref(),
                Ok(want),
                "{format}"
            );
        }
        assert!(
            LISTING
                .render("{{.Nope}}", &rows())
                .unwrap_err()
                .contains("can't evaluate field Nope")
        );
    }
}
