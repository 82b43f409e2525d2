//! What a command is: its words, its flags, its arguments, the function behind it.

use super::failure::{Failure, Outcome};
use super::flags::{Flag, Matches};
use super::session::Session;

/// How many positional arguments a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arity {
    /// None.
    None,
    /// Exactly so many.
    Exact(usize),
    /// At least.
    Min(usize),
    /// At most.
    Max(usize),
    /// Between, both included.
    Range(usize, usize),
}

/// One command.
pub(crate) struct Command {
    /// Every spelling, the canonical one first: `container run`, `run`.
    pub(crate) paths: &'static [&'static str],
    /// What help lists under "Aliases"; empty when there are none.
    pub(crate) aliases: &'static str,
    /// Usage after the words.
    pub(crate) usage: &'static str,
    /// One sentence.
    pub(crate) short: &'static str,
    /// A longer text instead of it.
    pub(crate) long: &'static str,
    /// Place among the common commands, 0 for none.
    pub(crate) top: u8,
    /// Positional arguments.
    pub(crate) arity: Arity,
    /// Whether flags may follow arguments.
    pub(crate) interspersed: bool,
    /// Its flags, in tables.
    pub(crate) flags: &'static [&'static [Flag]],
    /// What it does.
    pub(crate) run: fn(&Session, &Matches) -> Outcome,
}

impl Command {
    /// A command without flags that may stand anywhere among its arguments.
    pub(crate) const fn new(
        paths: &'static [&'static str],
        usage: &'static str,
        short: &'static str,
        arity: Arity,
        run: fn(&Session, &Matches) -> Outcome,
    ) -> Self {
        Command {
            paths,
            aliases: "",
            usage,
            short,
            long: "",
            top: 0,
            arity,
            interspersed: true,
            flags: &[],
            run,
        }
    }

    /// Sets the flags.
    pub(crate) const fn flags(mut self, flags: &'static [&'static [Flag]]) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the list of aliases.
    pub(crate) const fn aliases(mut self, aliases: &'static str) -> Self {
        self.aliases = aliases;
        self
    }

    /// Puts it among the common commands.
    pub(crate) const fn top(mut self, place: u8) -> Self {
        self.top = place;
        self
    }

    /// Sets the long text.
    pub(crate) const fn long(mut self, text: &'static str) -> Self {
        self.long = text;
        self
    }

    /// The first argument ends the flags.
    pub(crate) const fn flags_first(mut self) -> Self {
        self.interspersed = false;
        self
    }

    /// Every flag, sorted by name.
    pub(crate) fn all_flags(&self) -> Vec<&'static Flag> {
        let mut all: Vec<&Flag> = self.flags.iter().flat_map(|t| t.iter()).collect();
        all.sort_by_key(|f| f.long);
        all
    }

    /// Checks the number of arguments.
    pub(crate) fn check_arity(&self, matches: &Matches, program: &str) -> Outcome {
        let n = matches.args.len();
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let (what, see) = match self.arity {
            Arity::None if n > 0 => ("accepts no arguments".to_owned(), "Run"),
            Arity::Exact(want) if n != want => (format!("requires {want} {}", plural(want)), "Run"),
            Arity::Min(want) if n < want => (format!("requires at least {want} {}", plural(want)), "See"),
            Arity::Max(want) if n > want => (format!("requires at most {want} {}", plural(want)), "Run"),
            Arity::Range(low, high) if n < low || n > high => (
                format!("requires at least {low} and at most {high} {}", plural(high)),
                "Run",
            ),
            _ => return Ok(()),
        };
        let path = format!("{program} {}", matches.path);
        let usage = format!("{path} {}", self.usage);
        let usage = usage.trim_end();
        Err(Failure::text(format!(
            "{program}: '{path}' {what}\n\nUsage:  {usage}\n\n{see} '{path} --help' for more information"
        )))
    }
}

/// A word that only groups commands.
pub(crate) struct Group {
    /// The word.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) short: &'static str,
}
