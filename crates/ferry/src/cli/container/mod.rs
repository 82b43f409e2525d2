//! Commands about containers.

mod attach;
mod exec;
mod lifecycle;
mod list;
mod logs;
mod look;
mod ports;
mod prune;
mod run;
mod stats;

use super::command::{Arity, Command};
use super::flags::{Flag, flag, switch};
use super::options::{table, values};

pub(crate) use lifecycle::join;
pub(crate) use list::{LISTING as LIST, row};
pub(crate) use logs::timestamp;
pub(crate) use look::{inspect_one, natural_key};
pub(crate) use prune::confirm;

/// `--format` of lists.
pub(crate) const FORMAT_HELP: &str = "Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// `--format` of inspect.
pub(crate) const INSPECT_FORMAT_HELP: &str = "Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

static DETACH_KEYS: Flag = flag(
    "detach-keys",
    "string",
    "Override the key sequence for detaching a container",
);

static ATTACH: [Flag; 3] = [
    DETACH_KEYS,
    switch("no-stdin", "Do not attach STDIN"),
    switch("sig-proxy", "Proxy all received signals to the process").default("true"),
];

static EXEC: [Flag; 9] = [
    switch("detach", "Detached mode: run command in the background").short('d'),
    DETACH_KEYS,
    flag("env", "list", "Set environment variables")
        .short('e')
        .check(values::env),
    flag("env-file", "list", "Read in a file of environment variables"),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    switch("privileged", "Give extended privileges to the command"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    flag(
        "user",
        "string",
        "Username or UID (format: \"<name|uid>[:<group|gid>]\")",
    )
    .short('u'),
    flag("workdir", "string", "Working directory inside the container").short('w'),
];

static START: [Flag; 5] = [
    switch("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
    flag("checkpoint", "string", "Restore from this checkpoint")
        .hidden()
        .unsupported(),
    flag(
        "checkpoint-dir",
        "string",
        "Use a custom checkpoint storage directory",
    )
    .hidden()
    .unsupported(),
    DETACH_KEYS,
    switch("interactive", "Attach container's STDIN").short('i'),
];

static STOP: [Flag; 3] = [
    flag("signal", "string", "Signal to send to the container").short('s'),
    flag("time", "int", "Seconds to wait before killing the container")
        .default("0")
        .deprecated("use --timeout instead"),
    flag("timeout", "int", "Seconds to wait before killing the container")
        .short('t')
        .default("0"),
];

static KILL: [Flag; 1] = [flag("signal", "string", "Signal to send to the container").short('s')];

static RM: [Flag; 3] = [
    switch("force", "Force the removal of a running container (uses SIGKILL)").short('f'),
    switch("link", "Remove the specified link").short('l'),
    switch(
        "volumes",
        "Remove anonymous volumes associated with the container",
    )
    .short('v'),
];

static LOGS: [Flag; 6] = [
    switch("details", "Show extra details provided to logs"),
    switch("follow", "Follow log output").short('f'),
    flag(
        "since",
        "string",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    flag(
        "tail",
        "string",
        "Number of lines to show from the end of the logs",
    )
    .short('n')
    .default("all"),
    switch("timestamps", "Show timestamps").short('t'),
    flag(
        "until",
        "string",
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

static PS: [Flag; 8] = [
    switch("all", "Show all containers (default shows just running)").short('a'),
    flag("filter", "filter", "Filter output based on conditions provided")
        .short('f')
        .check(values::filter),
    flag("format", "string", FORMAT_HELP),
    flag(
        "last",
        "int",
        "Show n last created containers (includes all states)",
    )
    .short('n')
    .default("-1"),
    switch(
        "latest",
        "Show the latest created container (includes all states)",
    )
    .short('l'),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only display container IDs").short('q'),
    switch("size", "Display total file sizes").short('s'),
];

static INSPECT: [Flag; 2] = [
    flag("format", "string", INSPECT_FORMAT_HELP).short('f'),
    switch("size", "Display total file sizes").short('s'),
];

static STATS: [Flag; 4] = [
    switch("all", "Show all containers (default shows just running)").short('a'),
    flag("format", "string", FORMAT_HELP),
    switch(
        "no-stream",
        "Disable streaming stats and only pull the first result",
    ),
    switch("no-trunc", "Do not truncate output"),
];

static PRUNE: [Flag; 2] = [
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"until=<timestamp>\")",
    )
    .check(values::filter),
    switch("force", "Do not prompt for confirmation").short('f'),
];

const IMAGE_AND_COMMAND: &str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
const SEVERAL: &str = "CONTAINER [CONTAINER...]";
const SEVERAL_WITH_OPTIONS: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// Commands that make, run and end containers.
pub(crate) static COMMANDS: [Command; 13] = [
    Command::new(
        &["container run", "run"],
        IMAGE_AND_COMMAND,
        "Create and run a new container from an image",
        Arity::Min(1),
        run::run,
    )
    .flags(&[&table::CONTAINER, &table::RUN])
    .aliases("container run, run")
    .top(1)
    .flags_first(),
    Command::new(
        &["container create", "create"],
        IMAGE_AND_COMMAND,
        "Create a new container",
        Arity::Min(1),
        run::create,
    )
    .flags(&[&table::CONTAINER, &table::CREATE])
    .aliases("container create, create")
    .flags_first(),
    Command::new(
        &["container exec", "exec"],
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        Arity::Min(2),
        exec::exec,
    )
    .flags(&[&EXEC])
    .aliases("container exec, exec")
    .top(2)
    .flags_first(),
    Command::new(
        &["container attach", "attach"],
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        Arity::Exact(1),
        attach::attach,
    )
    .flags(&[&ATTACH])
    .aliases("container attach, attach"),
    Command::new(
        &["container start", "start"],
        SEVERAL_WITH_OPTIONS,
        "Start one or more stopped containers",
        Arity::Min(1),
        attach::start,
    )
    .flags(&[&START])
    .aliases("container start, start"),
    Command::new(
        &["container stop", "stop"],
        SEVERAL_WITH_OPTIONS,
        "Stop one or more running containers",
        Arity::Min(1),
        lifecycle::stop,
    )
    .flags(&[&STOP])
    .aliases("container stop, stop"),
    Command::new(
        &["container restart", "restart"],
        SEVERAL_WITH_OPTIONS,
        "Restart one or more containers",
        Arity::Min(1),
        lifecycle::restart,
    )
    .flags(&[&STOP])
    .aliases("container restart, restart"),
    Command::new(
        &["container kill", "kill"],
        SEVERAL_WITH_OPTIONS,
        "Kill one or more running containers",
        Arity::Min(1),
        lifecycle::kill,
    )
    .flags(&[&KILL])
    .aliases("container kill, kill"),
    Command::new(
        &["container rm", "container remove", "rm"],
        SEVERAL_WITH_OPTIONS,
        "Remove one or more containers",
        Arity::Min(1),
        lifecycle::rm,
    )
    .flags(&[&RM])
    .aliases("container rm, container remove, rm"),
    Command::new(
        &["container wait", "wait"],
        SEVERAL,
        "Block until one or more containers stop, then print their exit codes",
        Arity::Min(1),
        lifecycle::wait,
    )
    .aliases("container wait, wait"),
    Command::new(
        &["container rename", "rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
        Arity::Exact(2),
        lifecycle::rename,
    )
    .aliases("container rename, rename"),
    Command::new(
        &["container pause", "pause"],
        SEVERAL,
        "Pause all processes within one or more containers",
        Arity::Min(1),
        lifecycle::pause,
    )
    .aliases("container pause, pause"),
    Command::new(
        &["container unpause", "unpause"],
        SEVERAL,
        "Unpause all processes within one or more containers",
        Arity::Min(1),
        lifecycle::unpause,
    )
    .aliases("container unpause, unpause"),
];

/// Commands that look at containers.
pub(crate) static MORE_COMMANDS: [Command; 8] = [
    Command::new(
        &["container ls", "container list", "container ps", "ps"],
        "[OPTIONS]",
        "List containers",
        Arity::None,
        list::ps,
    )
    .flags(&[&PS])
    .aliases("container ls, container list, container ps, ps")
    .top(3),
    Command::new(
        &["container logs", "logs"],
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        Arity::Exact(1),
        logs::logs,
    )
    .flags(&[&LOGS])
    .aliases("container logs, logs"),
    Command::new(
        &["container top", "top"],
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        Arity::Min(1),
        look::top,
    )
    .aliases("container top, top")
    .flags_first(),
    Command::new(
        &["container diff", "diff"],
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        Arity::Exact(1),
        look::diff,
    )
    .aliases("container diff, diff"),
    Command::new(
        &["container port", "port"],
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        Arity::Range(1, 2),
        look::port,
    )
    .aliases("container port, port"),
    Command::new(
        &["container inspect"],
        SEVERAL_WITH_OPTIONS,
        "Display detailed information on one or more containers",
        Arity::Min(1),
        look::inspect,
    )
    .flags(&[&INSPECT]),
    Command::new(
        &["container stats", "stats"],
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        Arity::Min(0),
        stats::stats,
    )
    .flags(&[&STATS])
    .aliases("container stats, stats"),
    Command::new(
        &["container prune"],
        "[OPTIONS]",
        "Remove all stopped containers",
        Arity::None,
        prune::prune,
    )
    .flags(&[&PRUNE]),
];
