//! Runs a bundle in the foreground: `run BUNDLE`.
use ferry_runtime::launch::{Channel, Launch, Rootfs, Stdio, create};
use ferry_runtime::{HostFacts, plan};
use std::os::fd::AsFd;
fn main() {
    let bundle = std::env::args().nth(1).expect("BUNDLE");
    let bundle = std::fs::canonicalize(bundle).unwrap();
    let spec = serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
    let facts = HostFacts::probe().unwrap();
    let plan = plan::compile(&spec, &facts, &plan::Options { lenient: true, ..Default::default() }).unwrap();
    if std::env::args().nth(2).is_some() {
        print!("{plan}");
        return;
    }
    let layout = ferry_runtime::cgroup::Layout::detect().unwrap();
    let group = ferry_runtime::cgroup::Group::create(&layout, "/ferry-test/example", &Default::default()).unwrap();
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let launch = Launch {
        id: "example",
        bundle: &bundle,
        plan: &plan,
        rootfs: Rootfs::Directory(&bundle.join(&plan.root)),
        binds: vec![],
        stdio: Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        },
        group: Some(&group),
        keep: &[],
        filter: None,
        init: None,
        channel: Channel::private().unwrap(),
    };
    let done = create(launch).and_then(|c| c.start());
    match done {
        Ok(running) => {
            let status = rustix::process::waitid(
                rustix::process::WaitId::PidFd(running.pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            eprintln!("{:?}", status.unwrap().unwrap().exit_status());
        }
        Err(error) => eprintln!("{} {error}", error.exit_code()),
    }
    group.remove().unwrap();
}
