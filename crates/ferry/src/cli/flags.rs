//! Flag definitions and their parser, in the syntax that Docker's users type (POSIX and GNU, as its pflag reads it).
//!
//! One definition gives the parser, the help text and the shells' completions. Nothing is built at start: the tables
//! are constants, and only the chosen command's are looked at.

use super::failure::Failure;

/// Checks and normalises a flag's value; the error is the reason alone.
pub(crate) type Check = fn(&str) -> Result<String, String>;

/// One flag of a command.
#[derive(Clone, Copy)]
pub(crate) struct Flag {
    /// Name after `--`.
    pub(crate) long: &'static str,
    /// One letter after `-`, or NUL.
    pub(crate) short: char,
    /// The value's type as help shows it; empty for a switch.
    pub(crate) value: &'static str,
    /// Value when not given.
    pub(crate) default: &'static str,
    /// The default as help shows it, where that differs.
    pub(crate) shown: &'static str,
    /// Help text.
    pub(crate) usage: &'static str,
    /// Left out of help and completions.
    pub(crate) hidden: bool,
    /// A reason that is printed when the flag is used.
    pub(crate) deprecated: &'static str,
    /// Known, but not there: refused by name.
    pub(crate) unsupported: bool,
    /// Validation.
    pub(crate) check: Option<Check>,
}

/// A flag with a value of the named type.
pub(crate) const fn flag(long: &'static str, value: &'static str, usage: &'static str) -> Flag {
    Flag {
        long,
        short: '\0',
        value,
        default: "",
        shown: "",
        usage,
        hidden: false,
        deprecated: "",
        unsupported: false,
        check: None,
    }
}

/// A switch.
pub(crate) const fn switch(long: &'static str, usage: &'static str) -> Flag {
    flag(long, "", usage).default("false")
}

impl Flag {
    /// Sets the letter.
    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = short;
        self
    }
    /// Sets the default.
    pub(crate) const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }
    /// Sets what help shows as the default.
    pub(crate) const fn shown(mut self, shown: &'static str) -> Self {
        self.shown = shown;
        self
    }
    /// Hides it.
    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
    /// Marks it deprecated.
    pub(crate) const fn deprecated(mut self, why: &'static str) -> Self {
        self.deprecated = why;
        self.hidden = true;
        self
    }
    /// Marks it as refused by name.
    pub(crate) const fn unsupported(mut self) -> Self {
        self.unsupported = true;
        self
    }
    /// Sets the validation.
    pub(crate) const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Whether it takes no value.
    pub(crate) fn is_switch(&self) -> bool {
        self.value.is_empty()
    }

    /// `-m, --memory` or `--name`.
    fn display(&self) -> String {
        if self.short == '\0' {
            format!("--{}", self.long)
        } else {
            format!("-{}, --{}", self.short, self.long)
        }
    }

    fn accept(&self, value: &str) -> Result<String, String> {
        if self.unsupported && !(self.is_switch() && value == "false") {
            return Err(format!("unsupported flag: --{}", self.long));
        }
        let invalid = |why: String| {
            format!(
                "invalid argument {} for \"{}\" flag: {why}",
                super::output::quote(value),
                self.display()
            )
        };
        let built_in: Option<Check> = match self.value {
            "" => Some(boolean),
            "int" => Some(integer),
            "uint" => Some(unsigned),
            "uint16" => Some(unsigned16),
            _ => None,
        };
        let value = match built_in {
            Some(check) => check(value).map_err(invalid)?,
            None => value.to_owned(),
        };
        match self.check {
            Some(check) => check(&value).map_err(invalid),
            None => Ok(value),
        }
    }
}

fn boolean(text: &str) -> Result<String, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".into()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".into()),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            super::output::quote(text)
        )),
    }
}

fn integer(text: &str) -> Result<String, String> {
    number(text, "strconv.ParseInt", i64::MIN.into(), i64::MAX.into())
}

fn unsigned(text: &str) -> Result<String, String> {
    number(text, "strconv.ParseUint", 0, u64::MAX.into())
}

fn unsigned16(text: &str) -> Result<String, String> {
    number(text, "strconv.ParseUint", 0, u16::MAX.into())
}

fn number(text: &str, what: &str, low: i128, high: i128) -> Result<String, String> {
    let quoted = super::output::quote(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty()
        || !digits.bytes().all(|b| b.is_ascii_digit())
        || (low == 0 && digits.len() < text.len())
    {
        return Err(format!("{what}: parsing {quoted}: invalid syntax"));
    }
    match text.parse::<i128>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n.to_string()),
        _ => Err(format!("{what}: parsing {quoted}: value out of range")),
    }
}

/// What was given on a command line.
#[derive(Clone)]
pub(crate) struct Matches {
    flags: Vec<&'static Flag>,
    given: Vec<(usize, String)>,
    /// Positional arguments.
    pub(crate) args: Vec<String>,
    /// The command's words as typed: `run`, `container run`.
    pub(crate) path: String,
}

impl Matches {
    /// The last value given, or the default. Names that the command does not define give an empty text.
    pub(crate) fn get(&self, long: &str) -> &str {
        let last = self.given.iter().rev().find(|(i, _)| self.flags[*i].long == long);
        match last {
            Some((_, value)) => value,
            None => self
                .flags
                .iter()
                .find(|f| f.long == long)
                .map_or("", |f| f.default),
        }
    }

    /// Whether a switch is on.
    pub(crate) fn on(&self, long: &str) -> bool {
        self.get(long) == "true"
    }

    /// Every value given, in order.
    pub(crate) fn all(&self, long: &str) -> Vec<&str> {
        self.given
            .iter()
            .filter(|(i, _)| self.flags[*i].long == long)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The values of several flags in the order of the command line.
    pub(crate) fn all_of(&self, longs: &[&str]) -> Vec<&str> {
        self.given
            .iter()
            .filter(|(i, _)| longs.contains(&self.flags[*i].long))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// Whether it was given at all.
    pub(crate) fn changed(&self, long: &str) -> bool {
        self.given.iter().any(|(i, _)| self.flags[*i].long == long)
    }

    /// A number; flags of a number type are validated when parsed.
    pub(crate) fn int(&self, long: &str) -> i64 {
        self.get(long).parse().unwrap_or(0)
    }

    /// The first positional argument, empty when there is none.
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }
}

/// How parsing can end without values.
pub(crate) enum Stop {
    /// `--help` was asked for.
    Help,
    /// Wrong usage; the text is the first line of the message.
    Usage(String),
    /// A known flag that Ferry does not do.
    Refused(Failure),
}

/// Reads `args`. With `interspersed` off, the first word that is no flag ends the flags (`run IMAGE -not-a-flag`).
pub(crate) fn parse(flags: Vec<&'static Flag>, args: &[String], interspersed: bool) -> Result<Matches, Stop> {
    let mut matches = Matches {
        flags,
        given: Vec::new(),
        args: Vec::new(),
        path: String::new(),
    };
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            matches.args.extend(rest.cloned());
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            long_flag(&mut matches, long, &mut rest)?;
        } else if word.len() > 1 && word.starts_with('-') {
            short_flags(&mut matches, &word[1..], &mut rest)?;
        } else {
            matches.args.push(word.clone());
            if !interspersed {
                matches.args.extend(rest.cloned());
                break;
            }
        }
    }
    Ok(matches)
}

fn long_flag<'a>(
    matches: &mut Matches,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), Stop> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(Stop::Usage(format!("bad flag syntax: --{word}")));
    }
    let Some(index) = matches.flags.iter().position(|f| f.long == name) else {
        return Err(if name == "help" {
            Stop::Help
        } else {
            Stop::Usage(format!("unknown flag: --{name}"))
        });
    };
    let value = match value {
        Some(value) => value,
        None if matches.flags[index].is_switch() => "true".to_owned(),
        None => match rest.next() {
            Some(value) => value.clone(),
            None => return Err(Stop::Usage(format!("flag needs an argument: --{name}"))),
        },
    };
    set(matches, index, &value)
}

fn short_flags<'a>(
    matches: &mut Matches,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), Stop> {
    let mut letters = word.chars();
    while let Some(letter) = letters.next() {
        let left = letters.as_str();
        let Some(index) = matches.flags.iter().position(|f| f.short == letter) else {
            if letter == 'h' {
                return Err(Stop::Help);
            }
            return Err(Stop::Usage(format!(
                "unknown shorthand flag: '{letter}' in -{letter}{left}"
            )));
        };
        let (value, done) = match left.strip_prefix('=') {
            Some(value) if !value.is_empty() => (value.to_owned(), true),
            _ if matches.flags[index].is_switch() => ("true".to_owned(), false),
            _ if !left.is_empty() => (left.to_owned(), true),
            _ => match rest.next() {
                Some(value) => (value.clone(), true),
                None => {
                    return Err(Stop::Usage(format!(
                        "flag needs an argument: '{letter}' in -{letter}"
                    )));
                }
            },
        };
        set(matches, index, &value)?;
        if done {
            break;
        }
    }
    Ok(())
}

fn set(matches: &mut Matches, index: usize, value: &str) -> Result<(), Stop> {
    let flag = matches.flags[index];
    if flag.unsupported {
        flag.accept(value)
            .map_err(|text| Stop::Refused(Failure::new(125, text)))?;
    }
    let value = flag.accept(value).map_err(Stop::Usage)?;
    if !flag.deprecated.is_empty() {
        eprintln!("Flag --{} has been deprecated, {}", flag.long, flag.deprecated);
    }
    if flag.long == "help" && value == "true" {
        return Err(Stop::Help);
    }
    matches.given.push((index, value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 6] = [
        switch("detach", "").short('d'),
        switch("tty", "").short('t'),
        switch("sig-proxy", "").default("true"),
        flag("env", "list", "").short('e'),
        flag("cpu-shares", "int", "").short('c'),
        flag("gpus", "gpu-request", "").unsupported(),
    ];

    fn run(line: &str, interspersed: bool) -> Result<Matches, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(FLAGS.iter().collect(), &args, interspersed).map_err(|stop| match stop {
            Stop::Help => "help".to_owned(),
            Stop::Usage(text) => text,
            Stop::Refused(failure) => format!("{} {}", failure.status, failure.message),
        })
    }

    #[test]
    fn spellings_of_the_same_thing() {
        for line in [
            "-dt -e A=1 img",
            "-d -t -eA=1 img",
            "--detach --tty --env A=1 img",
            "--tty=1 -dte A=1 img",
            "-td -e=A=1 img",
        ] {
            let m = run(line, false).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(m.on("detach") && m.on("tty"), "{line}");
            assert_eq!(m.all("env"), ["A=1"], "{line}");
            assert_eq!(m.args, ["img"], "{line}");
        }
    }

    #[test]
    fn what_follows_the_image_belongs_to_the_command() {
        let m = run("-d img sh -c --tty", false).expect("parse");
        assert_eq!(m.args, ["img", "sh", "-c", "--tty"]);
        let m = run("a -d b --sig-proxy=false", true).expect("parse");
        assert_eq!(m.args, ["a", "b"]);
        assert!(m.on("detach") && !m.on("sig-proxy"));
        assert_eq!(run("-- -d", true).expect("parse").args, ["-d"]);
    }

    #[test]
    fn errors_have_dockers_words() {
        for (line, want) in [
            ("--nope", "unknown flag: --nope"),
            ("-dz", "unknown shorthand flag: 'z' in -z"),
            ("-zd", "unknown shorthand flag: 'z' in -zd"),
            ("--env", "flag needs an argument: --env"),
            ("-e", "flag needs an argument: 'e' in -e"),
            (
                "-c x",
                "invalid argument \"x\" for \"-c, --cpu-shares\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "--tty=maybe",
                "invalid argument \"maybe\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("--gpus all", "125 unsupported flag: --gpus"),
            ("--help", "help"),
        ] {
            assert_eq!(run(line, false).err().as_deref(), Some(want), "{line}");
        }
    }
}
