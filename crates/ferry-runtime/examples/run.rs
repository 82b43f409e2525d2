//! The runtime's command line by itself, and the init of containers that ask for one: what the kernel tests drive.
//!
//! `cargo run -p ferry-runtime --example run -- --root /tmp/states run -b BUNDLE ID`; `with-options init,user=bob BUNDLE`
//! does what only the engine asks for.

use ferry_runtime::launch::{Channel, Launch, LaunchError, Rootfs, Stdio, create};
use ferry_runtime::{HostFacts, cgroup, plan, sealed};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if name.to_string_lossy().ends_with("docker-init") {
        return ferry_runtime::init::main(args.collect());
    }
    let rest: Vec<_> = args.collect();
    match rest.as_slice() {
        [verb, options, bundle] if verb == "with-options" => {
            match with_options(&options.to_string_lossy(), Path::new(bundle)) {
                Ok(code) => ExitCode::from(code),
                Err(error) => {
                    eprintln!("{error}");
                    let code = error
                        .downcast_ref::<LaunchError>()
                        .map_or(125, LaunchError::exit_code);
                    ExitCode::from(code)
                }
            }
        }
        _ => ferry_runtime::cli::main(rest),
    }
}

fn options(text: &str) -> plan::Options {
    let mut options = plan::Options::default();
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("user", user)) => options.user = Some(user.to_owned()),
            Some(("group", group)) => options.groups.push(group.to_owned()),
            _ => {
                options.init |= word == "init";
                options.lenient |= word == "lenient";
            }
        }
    }
    options
}

/// A container with an overlay for its root: `BUNDLE/rootfs` below, `BUNDLE/upper` and `BUNDLE/work` beside it.
fn with_options(text: &str, bundle: &Path) -> Outcome<u8> {
    let spec: ferry_oci::runtime::Spec = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    let plan = plan::compile(&spec, &HostFacts::probe()?, &options(text))?;
    let linux = spec.linux.unwrap_or_default();
    let layout = cgroup::Layout::detect()?;
    let group = cgroup::Group::create(&layout, &linux.cgroups_path, &linux.resources.unwrap_or_default())?;
    let done = run(&plan, bundle, &group);
    group.remove()?;
    done
}

fn run(plan: &plan::Plan, bundle: &Path, group: &cgroup::Group) -> Outcome<u8> {
    let (upper, work, lower) = (bundle.join("upper"), bundle.join("work"), bundle.join("rootfs"));
    for directory in [&upper, &work] {
        std::fs::create_dir_all(directory)?;
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let init = sealed::open()?;
    let created = create(Launch {
        id: "example",
        bundle,
        plan,
        rootfs: Rootfs::Overlay {
            lowers: &[&lower],
            upper: &upper,
            work: &work,
            volatile: false,
        },
        binds: Vec::new(),
        stdio: Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        },
        group: Some(group),
        keep: &[],
        filter: None,
        init: Some(init.as_fd()),
        channel: Channel::private()?,
    })?;
    let running = created.start()?;
    let status = waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    let code = status.and_then(|s| s.exit_status().or(s.terminating_signal().map(|n| 128 + n)));
    Ok(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(255))
}
