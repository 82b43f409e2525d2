//! The flags of `create` and `run`: all of Docker's. Those that Ferry does not do are refused by name.

use super::{mount, network, values};
use crate::cli::flags::{Flag, flag, switch};

/// Flags that become the container's configuration.
pub(crate) static CONTAINER: [Flag; 103] = [
    flag("add-host", "list", "Add a custom host-to-IP mapping (host:ip)").check(values::extra_host),
    flag("annotation", "map", "Add an annotation to the container (passed through to the OCI runtime)").shown("map[]"),
    flag("attach", "list", "Attach to STDIN, STDOUT or STDERR").short('a').check(values::attach),
    flag("blkio-weight", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
        .default("0"),
    flag("blkio-weight-device", "list", "Block IO weight (relative device weight)")
        .shown("[]")
        .check(values::weight_device),
    flag("cap-add", "list", "Add Linux capabilities"),
    flag("cap-drop", "list", "Drop Linux capabilities"),
    flag("cgroup-parent", "string", "Optional parent cgroup for the container"),
    flag("cgroupns", "string", CGROUPNS),
    flag("cidfile", "string", "Write the container ID to the file"),
    flag("cpu-count", "int", "CPU count (Windows only)").unsupported(),
    flag("cpu-percent", "int", "CPU percent (Windows only)").unsupported(),
    flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period").default("0"),
    flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota").default("0"),
    flag("cpu-rt-period", "int", "Limit CPU real-time period in microseconds").default("0"),
    flag("cpu-rt-runtime", "int", "Limit CPU real-time runtime in microseconds").default("0"),
    flag("cpu-shares", "int", "CPU shares (relative weight)").short('c').default("0"),
    flag("cpus", "decimal", "Number of CPUs").check(values::cpus),
    flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    flag("device", "list", "Add a host device to the container"),
    flag("device-cgroup-rule", "list", "Add a rule to the cgroup allowed devices list").check(values::device_rule),
    flag("device-read-bps", "list", "Limit read rate (bytes per second) from a device")
        .shown("[]")
        .check(values::throttle_bytes),
    flag("device-read-iops", "list", "Limit read rate (IO per second) from a device")
        .shown("[]")
        .check(values::throttle_operations),
    flag("device-write-bps", "list", "Limit write rate (bytes per second) to a device")
        .shown("[]")
        .check(values::throttle_bytes),
    flag("device-write-iops", "list", "Limit write rate (IO per second) to a device")
        .shown("[]")
        .check(values::throttle_operations),
    flag("dns", "list", "Set custom DNS servers").check(values::address),
    flag("dns-opt", "list", "Set DNS options").hidden(),
    flag("dns-option", "list", "Set DNS options"),
    flag("dns-search", "list", "Set custom DNS search domains").check(values::dns_search),
    flag("domainname", "string", "Container NIS domain name"),
    flag("entrypoint", "string", "Overwrite the default ENTRYPOINT of the image"),
    flag("env", "list", "Set environment variables").short('e').check(values::env),
    flag("env-file", "list", "Read in a file of environment variables"),
    flag("expose", "list", "Expose a port or a range of ports"),
    flag("gpus", "gpu-request", "GPU devices to add to the container ('all' to pass all GPUs)").unsupported(),
    flag("group-add", "list", "Add additional groups to join"),
    flag("health-cmd", "string", "Command to run to check health"),
    flag("health-interval", "duration", "Time between running the check (ms|s|m|h) (default 0s)")
        .default("0")
        .check(values::duration),
    flag("health-retries", "int", "Consecutive failures needed to report unhealthy").default("0"),
    flag(
        "health-start-interval",
        "duration",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    )
    .default("0")
    .check(values::duration),
    flag(
        "health-start-period",
        "duration",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    )
    .default("0")
    .check(values::duration),
    flag("health-timeout", "duration", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
        .default("0")
        .check(values::duration),
    switch("help", "Print usage"),
    flag("hostname", "string", "Container host name").short('h'),
    switch("init", "Run an init inside the container that forwards signals and reaps processes"),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    flag("io-maxbandwidth", "bytes", "Maximum IO bandwidth limit for the system drive (Windows only)").unsupported(),
    flag("io-maxiops", "uint", "Maximum IOps limit for the system drive (Windows only)").unsupported(),
    flag("ip", "string", "IPv4 address (e.g., 172.30.100.104)").check(values::plain_address),
    flag("ip6", "string", "IPv6 address (e.g., 2001:db8::33)").check(values::plain_address),
    flag("ipc", "string", "IPC mode to use"),
    flag("isolation", "string", "Container isolation technology"),
    flag("kernel-memory", "bytes", "Kernel memory limit")
        .check(values::bytes)
        .deprecated("and no longer supported by the kernel"),
    flag("label", "list", "Set meta data on a container").short('l').check(values::label),
    flag("label-file", "list", "Read in a line delimited file of labels"),
    flag("link", "list", "Add link to another container").check(values::link),
    flag("link-local-ip", "list", "Container IPv4/IPv6 link-local addresses"),
    flag("log-driver", "string", "Logging driver for the container"),
    flag("log-opt", "list", "Log driver options"),
    flag("mac-address", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    flag("memory", "bytes", "Memory limit").short('m').check(values::bytes),
    flag("memory-reservation", "bytes", "Memory soft limit").check(values::bytes),
    flag("memory-swap", "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
        .check(values::bytes_or_unlimited),
    flag("memory-swappiness", "int", "Tune container memory swappiness (0 to 100)").default("-1"),
    flag("mount", "mount", "Attach a filesystem mount to the container").check(mount::check),
    flag("net", "network", "Connect a container to a network").hidden().check(network::check),
    flag("net-alias", "list", "Add network-scoped alias for the container").hidden(),
    flag("network", "network", "Connect a container to a network").check(network::check),
    flag("network-alias", "list", "Add network-scoped alias for the container"),
    switch("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    switch("oom-kill-disable", "Disable OOM Killer"),
    flag("oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000)").default("0"),
    flag("pid", "string", "PID namespace to use"),
    flag("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)").default("0"),
    switch("privileged", "Give extended privileges to this container"),
    flag("publish", "list", "Publish a container's port(s) to the host").short('p'),
    switch("publish-all", "Publish all exposed ports to random ports").short('P'),
    switch("read-only", "Mount the container's root filesystem as read only"),
    flag("restart", "string", "Restart policy to apply when a container exits").default("no"),
    switch("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    flag("runtime", "string", "Runtime to use for this container"),
    flag("security-opt", "list", "Security Options"),
    flag("shm-size", "bytes", "Size of /dev/shm").check(values::bytes),
    flag("stop-signal", "string", "Signal to stop the container"),
    flag("stop-timeout", "int", "Timeout (in seconds) to stop a container").default("0"),
    flag("storage-opt", "list", "Storage driver options for the container"),
    flag("sysctl", "map", "Sysctl options").shown("map[]").check(values::sysctl),
    flag("tmpfs", "list", "Mount a tmpfs directory"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    flag("ulimit", "ulimit", "Ulimit options").shown("[]").check(values::ulimit),
    flag("user", "string", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    flag("userns", "string", "User namespace to use"),
    flag("uts", "string", "UTS namespace to use"),
    flag("volume", "list", "Bind mount a volume").short('v'),
    flag("volume-driver", "string", "Optional volume driver for the container"),
    flag("volumes-from", "list", "Mount volumes from the specified container(s)"),
    flag("workdir", "string", "Working directory inside the container").short('w'),
    flag("name", "string", "Assign a name to the container"),
    flag("platform", "string", "Set platform if server is multi-platform capable"),
    switch("quiet", "Suppress the pull output").short('q'),
    switch("use-api-socket", "Bind mount Docker API socket and required auth").unsupported(),
    switch("disable-content-trust", "Skip image verification")
        .default("true")
        .deprecated("support for docker content trust was removed"),
];

/// Only of `create`.
pub(crate) static CREATE: [Flag; 1] = [flag(
    "pull",
    "string",
    "Pull image before creating (\"always\", \"missing\", \"never\")",
)
.default("missing")];

/// Only of `run`.
pub(crate) static RUN: [Flag; 4] = [
    switch("detach", "Run container in background and print container ID").short('d'),
    flag(
        "detach-keys",
        "string",
        "Override the key sequence for detaching a container",
    ),
    flag(
        "pull",
        "string",
        "Pull image before running (\"always\", \"missing\", \"never\")",
    )
    .default("missing"),
    switch("sig-proxy", "Proxy received signals to the process").default("true"),
];

const CGROUPNS: &str = "Cgroup namespace to use (host|private)
'host':    Run the container in the Docker host's cgroup namespace
'private': Run the container in its own private cgroup namespace
'':        Use the cgroup namespace as configured by the
           default-cgroupns-mode option on the daemon (default)";
