//! Files of `KEY=value` lines, for `--env-file` and `--label-file`.

use std::io::ErrorKind;

/// What a name without a value means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    /// The value comes from this process's environment; without one the line is left out.
    FromEnvironment,
    /// The line is left out.
    Skip,
}

/// The lines of all files, then the values given directly, which override them.
pub(crate) fn collect(files: &[&str], direct: &[&str], bare: Bare) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read(file, bare)?);
    }
    all.extend(direct.iter().map(|s| (*s).to_owned()));
    Ok(all)
}

fn read(file: &str, bare: Bare) -> Result<Vec<String>, String> {
    let bytes = std::fs::read(file).map_err(|e| match e.kind() {
        ErrorKind::NotFound => format!("open {file}: no such file or directory"),
        ErrorKind::PermissionDenied => format!("open {file}: permission denied"),
        _ => format!("open {file}: {e}"),
    })?;
    parse(&bytes, bare).map_err(|why| format!("invalid env file ({file}): {why}"))
}

fn parse(bytes: &[u8], bare: Bare) -> Result<Vec<String>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("invalid utf8 bytes at line {}: {line:?}", number + 1))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split('=').next().unwrap_or_default();
        if key.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if key.contains([' ', '\t']) {
            return Err(format!("variable '{key}' contains whitespaces"));
        }
        if line.contains('=') {
            lines.push(line.to_owned());
        } else if bare == Bare::FromEnvironment
            && let Ok(value) = std::env::var(line)
        {
            lines.push(format!("{key}={value}"));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_blanks() {
        let text = "\u{feff}A=1\n# no\n\n  B= two words \nNOT_SET_ANYWHERE\nC\u{3d}\r\n";
        assert_eq!(
            parse(text.as_bytes(), Bare::FromEnvironment).expect("parse"),
            ["A=1", "B= two words ", "C="]
        );
        assert_eq!(
            parse(b"A B=1", Bare::Skip).unwrap_err(),
            "variable 'A B' contains whitespaces"
        );
        assert_eq!(
            parse(b"=1", Bare::Skip).unwrap_err(),
            "no variable name on line '=1'"
        );
    }
}
