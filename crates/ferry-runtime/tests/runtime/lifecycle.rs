//! Verbs, hooks, and what is left.

use super::bundle::Bundle;
use serde_json::{Value, json};
use std::fs;

fn status(bundle: &Bundle) -> String {
    let said = bundle.runtime(&["state", &bundle.id]);
    let state: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
    state["status"].as_str().unwrap().to_owned()
}

fn leftovers(bundle: &Bundle) -> Vec<String> {
    let mut left = Vec::new();
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        if tree.path().join(&bundle.id).exists() {
            left.push(tree.path().display().to_string());
        }
    }
    if bundle.path("states").join(&bundle.id).exists() {
        left.push("state".into());
    }
    left
}

#[test]
fn create_start_kill_delete() {
    let Some(mut bundle) = Bundle::new("create_start_kill_delete") else {
        return;
    };
    bundle.script("trap 'exit 4' TERM; while :; do sleep 0.05; done");
    fs::write(bundle.path("config.json"), bundle.spec.to_string()).unwrap();
    let pid_file = bundle.path("pid").display().to_string();
    // The container keeps its streams, so they may not be a pipe that somebody reads to its end.
    let shell = format!(
        "exec {} --root states create --pid-file {pid_file} {} > created 2>&1 < /dev/null",
        example(),
        bundle.id
    );
    let directory = bundle.directory.path().to_owned();
    let made = bundle.inside_world(move || {
        std::process::Command::new("timeout")
            .args(["30", "sh", "-c", &shell])
            .current_dir(directory)
            .status()
            .unwrap()
    });
    assert!(
        made.success(),
        "{}",
        fs::read_to_string(bundle.path("created")).unwrap()
    );
    assert_eq!(status(&bundle), "created");
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert!(fs::read_link(format!("/proc/{pid}/exe")).is_ok());
    assert_eq!(bundle.runtime(&["start", &bundle.id]).code, 0);
    assert_eq!(status(&bundle), "running");
    assert_eq!(bundle.runtime(&["start", &bundle.id]).code, 1, "it runs already");
    let said = bundle.runtime(&["delete", &bundle.id]);
    assert!(said.err.contains("that is not stopped: running"), "{said:?}");
    assert_eq!(bundle.runtime(&["pause", &bundle.id]).code, 0);
    assert_eq!(status(&bundle), "paused");
    assert_eq!(bundle.runtime(&["resume", &bundle.id]).code, 0);
    assert_eq!(bundle.runtime(&["kill", &bundle.id, "KILL"]).code, 0);
    for _ in 0..100 {
        if status(&bundle) == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(bundle.runtime(&["delete", &bundle.id]).code, 0);
    assert_eq!(leftovers(&bundle), Vec::<String>::new());
    let gone = bundle.runtime(&["state", &bundle.id]);
    assert!(
        gone.code == 1 && gone.err.contains("container does not exist"),
        "{gone:?}"
    );
}

fn example() -> String {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/run")
        .display()
        .to_string()
}

#[test]
fn a_failed_run_leaves_nothing() {
    let Some(mut bundle) = Bundle::new("a_failed_run_leaves_nothing") else {
        return;
    };
    bundle.set("/process/args", json!(["/no/such/program"]));
    assert_eq!(bundle.run().code, 1);
    assert_eq!(leftovers(&bundle), Vec::<String>::new());
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"] }),
    );
    let said = bundle.run();
    assert!(
        said.err.contains("/no/such/source") && said.err.contains("no such file or directory"),
        "{said:?}"
    );
    assert_eq!(leftovers(&bundle), Vec::<String>::new());
}

#[test]
fn exec_is_like_the_container() {
    let Some(mut bundle) = Bundle::new("exec_is_like_the_container") else {
        return;
    };
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.script("exec sleep 30").start();
    let said = bundle.exec(
        "id -u; hostname; ls /proc/self/fd | wc -l; grep -c . /etc/passwd; grep CapBnd /proc/self/status; readlink /proc/self/ns/pid; exit 6",
    );
    assert_eq!(said.code, 6, "{said:?}");
    let lines: Vec<_> = said.out.lines().collect();
    // Three streams, and what lists them.
    assert_eq!(
        &lines[..5],
        ["1000", "inside", "4", "2", "CapBnd:\t00000000080000e3"],
        "{said:?}"
    );
    let first = bundle.exec("readlink /proc/1/ns/pid; readlink /proc/self/ns/pid; cat /proc/1/cgroup /proc/self/cgroup | sort | uniq -c | grep -vc ' 2 '");
    let lines: Vec<_> = first.out.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(
        lines[2], "0",
        "an exec is in every cgroup of its container: {first:?}"
    );
    let missing = bundle.runtime(&["exec", &bundle.id, "nothing"]);
    assert!(
        missing.err.contains("executable file not found in $PATH"),
        "{missing:?}"
    );
    let terminal = bundle.runtime(&["exec", "--tty", &bundle.id, "tty"]);
    assert_eq!(terminal.out.trim(), "/dev/pts/0", "{terminal:?}");
    let ambient = bundle.runtime(&[
        "exec",
        "--cap",
        "CAP_KILL",
        &bundle.id,
        "grep",
        "Cap[IA]",
        "/proc/self/status",
    ]);
    assert_eq!(
        ambient.out, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n",
        "{ambient:?}"
    );
}

#[test]
fn hooks_run_at_their_points() {
    let Some(mut bundle) = Bundle::new("hooks_run_at_their_points") else {
        return;
    };
    let log = bundle.path("hooks.log");
    fs::write(&log, "").unwrap();
    let mut hooks = json!({});
    for timing in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        let script = format!(
            "echo {timing} $(grep -o '\"status\":\"[a-z]*\"' | cut -d'\"' -f4) $(hostname) >> {}",
            log.display()
        );
        hooks[timing] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
    }
    // Inside, where the host's paths are not.
    let inside = "echo startContainer $(hostname) > /tmp/inside";
    hooks["startContainer"] =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", inside], "env": ["PATH=/bin"] }]);
    bundle.set("/hooks", hooks).script("cat /tmp/inside");
    assert_eq!(bundle.output(), "startContainer inside\n");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let expected = format!(
        "prestart creating {host}\ncreateRuntime creating {host}\ncreateContainer creating inside\npoststart running {host}\npoststop stopped {host}\n"
    );
    assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    bundle.set(
        "/hooks/createRuntime",
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"] }]),
    );
    let said = bundle.run();
    assert!(
        said.err
            .contains("createRuntime hook #0: exit status 3, stderr: why"),
        "{said:?}"
    );
    bundle.set(
        "/hooks/createRuntime",
        json!([{ "path": "/bin/sleep", "args": ["sleep", "20"], "timeout": 1 }]),
    );
    assert!(bundle.run().err.contains("longer than its timeout"));
    assert_eq!(leftovers(&bundle), Vec::<String>::new());
}

#[test]
fn the_command_line_is_runcs() {
    let Some(bundle) = Bundle::new("the_command_line_is_runcs") else {
        return;
    };
    let unknown = bundle.runtime(&["run", "--criu-manager", "x"]);
    assert!(
        unknown.code == 1
            && unknown
                .err
                .contains("flag provided but not defined: -criu-manager"),
        "{unknown:?}"
    );
    let log = bundle.path("log.json").display().to_string();
    bundle.runtime(&["--log", &log, "--log-format", "json", "state", "nobody"]);
    let line: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(
        (line["level"].as_str(), line["msg"].as_str()),
        (Some("error"), Some("container does not exist"))
    );
    let features: Value = serde_json::from_str(&bundle.runtime(&["features"]).out).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert_eq!(bundle.runtime(&["spec"]).code, 0);
    let spec: ferry_oci::runtime::Spec =
        serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
    let facts = ferry_runtime::HostFacts::probe().unwrap();
    ferry_runtime::plan::compile(&spec, &facts, &Default::default()).unwrap();
    let bad = bundle.runtime(&["state", "../x"]);
    assert!(bad.err.contains("invalid container ID format"), "{bad:?}");
}
