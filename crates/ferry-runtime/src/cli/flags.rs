//! Flags as runc reads them: `--name value`, `--name=value`, `-n value`, `--switch`, `--switch=false`.

use super::Failure;

/// One flag that a verb knows.
#[derive(Clone, Copy)]
pub(super) struct Flag {
    pub name: &'static str,
    short: &'static str,
    pub takes_value: bool,
}

impl Flag {
    pub const fn value(name: &'static str) -> Flag {
        Flag {
            name,
            short: "",
            takes_value: true,
        }
    }

    pub const fn switch(name: &'static str) -> Flag {
        Flag {
            name,
            short: "",
            takes_value: false,
        }
    }

    pub const fn short(self, short: &'static str) -> Flag {
        Flag { short, ..self }
    }
}

/// What was given.
pub(super) struct Flags {
    given: Vec<(&'static str, String)>,
    /// What is not a flag.
    pub rest: Vec<String>,
}

impl Flags {
    /// Parses; with `stop` the first word that is no flag ends it, since what follows has flags of its own.
    pub fn parse(known: &[Flag], args: Vec<String>, stop: bool) -> Result<Flags, Failure> {
        let mut flags = Flags {
            given: Vec::new(),
            rest: Vec::new(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                flags.rest.extend(args);
                break;
            }
            let Some(name) = arg.strip_prefix('-').filter(|n| !n.is_empty()) else {
                flags.rest.push(arg);
                if stop {
                    flags.rest.extend(args);
                    break;
                }
                continue;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let flag = known
                .iter()
                .find(|f| f.name == name || f.short == name)
                .ok_or_else(|| Failure::new(format!("flag provided but not defined: -{name}")))?;
            let value = match (flag.takes_value, value) {
                (_, Some(value)) => value,
                (false, None) => "true".to_owned(),
                (true, None) => args
                    .next()
                    .ok_or_else(|| Failure::new(format!("flag needs an argument: -{name}")))?,
            };
            flags.given.push((flag.name, value));
        }
        Ok(flags)
    }

    /// The last value of a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .rev()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Every value of a flag.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given
            .iter()
            .filter(move |(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Whether a switch is on.
    pub fn has(&self, name: &str) -> bool {
        matches!(self.value(name), Some("true" | "1"))
    }

    /// A number, with 0 for absent.
    pub fn number(&self, name: &str) -> Result<usize, Failure> {
        match self.value(name) {
            None => Ok(0),
            Some(text) => text.parse().map_err(|_| {
                Failure::new(format!("invalid value \"{text}\" for flag -{name}: not a number"))
            }),
        }
    }

    /// The one argument of a verb that takes a container's id.
    pub fn container(&self, verb: &str) -> Result<&str, Failure> {
        match self.rest.as_slice() {
            [id] => Ok(id),
            other => Err(Failure::new(format!(
                "\"ferry runtime {verb}\" requires exactly 1 argument, {} given",
                other.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[
        Flag::value("bundle").short("b"),
        Flag::switch("detach").short("d"),
    ];

    fn parse(args: &[&str], stop: bool) -> Result<Flags, Failure> {
        Flags::parse(KNOWN, args.iter().map(|a| (*a).to_owned()).collect(), stop)
    }

    #[test]
    fn every_spelling_is_read() {
        for args in [["--bundle", "/x"], ["-b", "/x"], ["-bundle", "/x"]] {
            assert_eq!(parse(&args, false).ok().unwrap().value("bundle"), Some("/x"));
        }
        let flags = parse(&["id", "-b=/y", "--detach=false"], false).ok().unwrap();
        assert_eq!((flags.value("bundle"), flags.has("detach")), (Some("/y"), false));
        let flags = parse(&["-d", "id", "ls", "-l"], true).ok().unwrap();
        assert!(flags.has("detach"));
        assert_eq!(flags.rest, ["id", "ls", "-l"]);
    }

    #[test]
    fn an_unknown_flag_is_refused_by_name() {
        assert_eq!(
            parse(&["--frob"], false).err().unwrap().message,
            "flag provided but not defined: -frob"
        );
        assert!(parse(&["--bundle"], false).is_err());
    }
}
