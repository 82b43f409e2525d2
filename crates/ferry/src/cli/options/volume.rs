//! `-v`: `[source:]target[:options]`.

/// What one `-v` is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A bind or a named volume, as the engine's `Binds` has it.
    Bind(String),
    /// A volume without a name at this path.
    Anonymous(String),
}

/// Reads one value. A relative source (`./x`) becomes absolute here: the engine has another working directory.
pub(crate) fn parse(spec: &str) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    let invalid = |why: &str| format!("invalid spec: {spec}: {why}");
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.len() > 1 && parts.iter().any(|p| p.is_empty()) {
        return Err(invalid("empty section between colons"));
    }
    match parts.as_slice() {
        [target] => Ok(Volume::Anonymous((*target).to_owned())),
        [source, rest @ ..] if rest.len() <= 2 => {
            let rest = rest.join(":");
            if source.starts_with('.') {
                let absolute = std::path::absolute(source).map_err(|e| invalid(&e.to_string()))?;
                let absolute = super::values::clean(&absolute.to_string_lossy());
                return Ok(Volume::Bind(format!("{absolute}:{rest}")));
            }
            Ok(Volume::Bind(spec.to_owned()))
        }
        _ => Err(invalid("too many colons")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse("/a:/b:ro"), Ok(Volume::Bind("/a:/b:ro".into())));
        assert_eq!(parse("name:/b"), Ok(Volume::Bind("name:/b".into())));
        let here = std::env::current_dir().expect("cwd");
        assert_eq!(
            parse("./x/../y:/b"),
            Ok(Volume::Bind(format!("{}/y:/b", here.display())))
        );
        assert_eq!(parse(""), Err("invalid empty volume spec".into()));
        assert_eq!(
            parse("/a::ro"),
            Err("invalid spec: /a::ro: empty section between colons".into())
        );
        assert_eq!(
            parse("/a:/b:ro:x"),
            Err("invalid spec: /a:/b:ro:x: too many colons".into())
        );
    }
}
