//! Commands about the engine itself.

mod check;
mod disk;
mod events;
mod info;
mod inspect;
mod prune;
mod stop;
mod version;

use super::command::{Arity, Command};
use super::container::{FORMAT_HELP, INSPECT_FORMAT_HELP};
use super::flags::{Flag, flag, switch};
use super::options::values;

pub(crate) use version::build;

static FORMAT: [Flag; 1] = [flag("format", "string", INSPECT_FORMAT_HELP).short('f')];

static EVENTS: [Flag; 4] = [
    flag("filter", "filter", "Filter output based on conditions provided")
        .short('f')
        .check(values::filter),
    flag("format", "string", INSPECT_FORMAT_HELP),
    flag("since", "string", "Show all events created since timestamp"),
    flag("until", "string", "Stream events until this timestamp"),
];

static DF: [Flag; 2] = [
    flag("format", "string", FORMAT_HELP),
    switch("verbose", "Show detailed information on space usage").short('v'),
];

static PRUNE: [Flag; 4] = [
    switch("all", "Remove all unused images not just dangling ones").short('a'),
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"label=<key>=<value>\")",
    )
    .check(values::filter),
    switch("force", "Do not prompt for confirmation").short('f'),
    switch("volumes", "Prune anonymous volumes"),
];

static INSPECT: [Flag; 3] = [
    flag("format", "string", INSPECT_FORMAT_HELP).short('f'),
    switch("size", "Display total file sizes if the type is container").short('s'),
    flag("type", "string", "Only inspect objects of the given type"),
];

static STOP: [Flag; 1] = [
    flag("timeout", "int", "Seconds to wait until the engine has ended")
        .short('t')
        .default("30"),
];

/// Commands about the engine.
pub(crate) static COMMANDS: [Command; 8] = [
    Command::new(
        &["version"],
        "[OPTIONS]",
        "Show the version information",
        Arity::None,
        version::version,
    )
    .flags(&[&FORMAT])
    .top(11),
    Command::new(
        &["system info", "info"],
        "[OPTIONS]",
        "Display system-wide information",
        Arity::None,
        info::info,
    )
    .flags(&[&FORMAT])
    .aliases("system info, info")
    .top(12),
    Command::new(
        &["system events", "events"],
        "[OPTIONS]",
        "Get real time events from the server",
        Arity::None,
        events::events,
    )
    .flags(&[&EVENTS])
    .aliases("system events, events"),
    Command::new(
        &["system df"],
        "[OPTIONS]",
        "Show docker disk usage",
        Arity::None,
        disk::df,
    )
    .flags(&[&DF]),
    Command::new(
        &["system prune"],
        "[OPTIONS]",
        "Remove unused data",
        Arity::None,
        prune::prune,
    )
    .flags(&[&PRUNE]),
    Command::new(
        &["system stop"],
        "[OPTIONS]",
        "Stop the engine; containers keep running",
        Arity::None,
        stop::stop,
    )
    .flags(&[&STOP]),
    Command::new(
        &["system check"],
        "[OPTIONS]",
        "List what the kernel offers and what that enables",
        Arity::None,
        check::check,
    )
    .flags(&[&FORMAT]),
    Command::new(
        &["inspect"],
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        Arity::Min(1),
        inspect::inspect,
    )
    .flags(&[&INSPECT]),
];
