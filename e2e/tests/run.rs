//! `run` with each of its flags, looked at from inside and from outside.

use crate::support::{Result, engine_with_busybox, wait_for};
use e2e::Engine;

/// Runs busybox with these flags and this shell text; its standard output.
fn inside(engine: &Engine, flags: &[&str], script: &str) -> Result<String> {
    let output = engine.ferry(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())?;
    Ok(output.ok()?.trim().to_owned())
}

#[test]
fn isolation_is_what_it_says() -> Result<()> {
    let Some(engine) = engine_with_busybox("isolation_is_what_it_says")? else {
        return Ok(());
    };
    assert_eq!(inside(&engine, &[], "echo $$")?, "1");
    let processes: u32 = inside(&engine, &[], "ls -d /proc/[0-9]* | wc -l")?.parse()?;
    assert!(processes <= 4, "{processes} processes are visible");
    assert_eq!(
        inside(
            &engine,
            &["--hostname", "box", "--domainname", "test"],
            "hostname; cat /proc/sys/kernel/domainname"
        )?,
        "box\ntest"
    );
    for kind in ["pid", "net", "ipc", "mnt", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?
            .display()
            .to_string();
        let theirs = inside(&engine, &[], &format!("readlink /proc/self/ns/{kind}"))?;
        assert_ne!(own, theirs, "{kind} is shared");
    }
    for (flag, kind) in [
        ("--pid", "pid"),
        ("--ipc", "ipc"),
        ("--uts", "uts"),
        ("--userns", "user"),
        ("--cgroupns", "cgroup"),
    ] {
        let host = engine.world.enter(|| {
            Ok(std::fs::read_link(format!("/proc/thread-self/ns/{kind}"))?
                .display()
                .to_string())
        })?;
        assert_eq!(
            inside(
                &engine,
                &[flag, "host"],
                &format!("readlink /proc/self/ns/{kind}")
            )?,
            host,
            "{flag} host"
        );
    }
    engine.finish()
}

#[test]
fn the_process_is_as_asked() -> Result<()> {
    let Some(engine) = engine_with_busybox("the_process_is_as_asked")? else {
        return Ok(());
    };
    assert_eq!(
        inside(&engine, &["-e", "A=1", "-e", "B=two words"], "echo $A $B")?,
        "1 two words"
    );
    assert_eq!(inside(&engine, &["-w", "/made/up"], "pwd")?, "/made/up");
    assert_eq!(
        inside(&engine, &["-u", "1000:1000"], "id -u; id -g")?,
        "1000\n1000"
    );
    assert_eq!(inside(&engine, &["-u", "user"], "id -u")?, "1000");
    assert_eq!(
        inside(&engine, &["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn")?,
        "100\n200"
    );
    assert_eq!(
        inside(
            &engine,
            &["--init"],
            "tr '\\0' ' ' </proc/1/cmdline | cut -d' ' -f1"
        )?,
        "/sbin/docker-init"
    );
    assert_eq!(
        inside(
            &engine,
            &["--sysctl", "net.ipv4.ip_default_ttl=42"],
            "cat /proc/sys/net/ipv4/ip_default_ttl"
        )?,
        "42"
    );
    assert_eq!(inside(&engine, &["--entrypoint", "echo"], "x")?, "sh -c x");
    let status = inside(
        &engine,
        &[],
        "grep -E 'Seccomp:|NoNewPrivs|CapEff|CapInh' /proc/self/status | tr -d '\\t' | tr '\\n' ' '",
    )?;
    assert_eq!(
        status.trim(),
        "CapInh:0000000000000000 CapEff:00000000a80425fb NoNewPrivs:0 Seccomp:2"
    );
    let bare = inside(
        &engine,
        &[
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--security-opt",
            "seccomp=unconfined",
        ],
        "grep -E 'Seccomp:|NoNewPrivs|CapEff' /proc/self/status | tr -d '\\t' | tr '\\n' ' '",
    )?;
    assert_eq!(bare.trim(), "CapEff:0000000000000000 NoNewPrivs:1 Seccomp:0");
    let more = inside(
        &engine,
        &["--cap-add", "SYS_TIME"],
        "grep CapEff /proc/self/status | tr -d '\\t'",
    )?;
    assert_eq!(more, "CapEff:00000000aa0425fb");
    engine.finish()
}

#[test]
fn exit_codes_are_dockers() -> Result<()> {
    let Some(engine) = engine_with_busybox("exit_codes_are_dockers")? else {
        return Ok(());
    };
    for (words, code) in [
        (&["busybox", "sh", "-c", "exit 42"][..], 42),
        (&["busybox", "sh", "-c", "sleep 100 & kill -9 $!; wait $!"], 137),
        (&["busybox", "nosuchprogram"], 127),
        (&["busybox", "/etc/passwd"], 126),
        (&["busybox", "/etc"], 126),
        (&["--no-such-flag", "busybox"], 125),
        (&["-u", "nobody-here", "busybox", "true"], 125),
    ] {
        let arguments = [&["run", "--rm"], words].concat();
        assert_eq!(engine.ferry(&arguments)?.code, code, "{words:?} by ferry");
        assert_eq!(engine.docker(&arguments)?.code, code, "{words:?} by docker");
    }
    engine.finish()
}

#[test]
fn files_and_mounts() -> Result<()> {
    let Some(engine) = engine_with_busybox("files_and_mounts")? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let host = folder.path().display().to_string();
    std::fs::write(folder.path().join("a"), "from the host")?;
    assert_eq!(
        inside(
            &engine,
            &["-v", &format!("{host}:/x")],
            "cat /x/a; echo back >/x/b"
        )?,
        "from the host"
    );
    assert_eq!(std::fs::read_to_string(folder.path().join("b"))?, "back\n");
    assert!(inside(&engine, &["-v", &format!("{host}:/x:ro")], "echo no >/x/c").is_err());
    assert!(
        inside(
            &engine,
            &["--mount", &format!("type=bind,src={host}/missing,dst=/x")],
            "true"
        )
        .is_err()
    );
    assert_eq!(
        inside(
            &engine,
            &["--tmpfs", "/t:size=1m"],
            "grep ' /t ' /proc/mounts | cut -d' ' -f3"
        )?,
        "tmpfs"
    );
    assert!(inside(&engine, &["--read-only"], "touch /x").is_err());
    assert_eq!(
        inside(
            &engine,
            &["--shm-size", "8m"],
            "df -k /dev/shm | tail -1 | awk '{print $2}'"
        )?,
        "8192"
    );
    inside(&engine, &["-v", "keep:/data"], "echo kept >/data/f")?;
    assert_eq!(
        inside(
            &engine,
            &["--mount", "type=volume,src=keep,dst=/d,ro"],
            "cat /d/f"
        )?,
        "kept"
    );
    assert_eq!(
        inside(&engine, &["-v", "copied:/etc"], "grep -c root /etc/passwd")?,
        "1"
    );
    engine.ferry(&["volume", "rm", "keep", "copied"])?.ok()?;
    let mounts = inside(
        &engine,
        &[],
        "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; (echo x >/proc/sys/kernel/hostname) 2>&1 | grep -c Read-only",
    )?;
    assert!(mounts.ends_with("0\n1") || mounts.ends_with("1"), "{mounts}");
    assert_eq!(
        inside(
            &engine,
            &["--device", "/dev/zero:/dev/nil"],
            "head -c 3 /dev/nil | wc -c"
        )?,
        "3"
    );
    engine.finish()
}

#[test]
fn limits_are_in_the_kernel() -> Result<()> {
    let Some(engine) = engine_with_busybox("limits_are_in_the_kernel")? else {
        return Ok(());
    };
    let flags = [
        "-m",
        "32m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "20",
    ];
    engine
        .ferry(
            &[
                &["run", "-d", "--name", "lim"],
                &flags[..],
                &["busybox", "sleep", "100"],
            ]
            .concat(),
        )?
        .ok()?;
    let id = engine.ferry(&["inspect", "-f", "{{.Id}}", "lim"])?.ok()?;
    let pid = engine.ferry(&["inspect", "-f", "{{.State.Pid}}", "lim"])?.ok()?;
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?;
    assert!(groups.contains(id.trim()), "{groups}");
    let read = |controller: &str, file: &str| -> Result<String> {
        let path = groups.lines().find_map(|l| {
            let mut parts = l.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            names.split(',').any(|n| n == controller).then(|| path.to_owned())
        });
        let path = path.unwrap_or_else(|| {
            groups
                .lines()
                .find_map(|l| l.strip_prefix("0::"))
                .unwrap_or("/")
                .to_owned()
        });
        let v1 = format!("/sys/fs/cgroup/{controller}{path}/{file}");
        Ok(std::fs::read_to_string(v1)?.trim().to_owned())
    };
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(read("memory", "memory.limit_in_bytes")?, (32 << 20).to_string());
        assert_eq!(read("cpu", "cpu.cfs_quota_us")?, "50000");
        assert_eq!(read("cpu", "cpu.shares")?, "512");
        assert_eq!(read("cpuset", "cpuset.cpus")?, "0");
        assert_eq!(read("pids", "pids.max")?, "20");
    }
    let forks = engine.ferry(&[
        "exec",
        "lim",
        "sh",
        "-c",
        "for i in $(seq 30); do sleep 5 & done; wait",
    ])?;
    assert!(forks.stderr.contains("can't fork"), "{forks:?}");
    engine.finish()
}

#[test]
fn streams_logs_and_attach() -> Result<()> {
    let Some(engine) = engine_with_busybox("streams_logs_and_attach")? else {
        return Ok(());
    };
    let both = engine.ferry(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"])?;
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let echoed = engine.ferry_with(&["run", "--rm", "-i", "busybox", "cat"], b"through stdin")?;
    assert_eq!(echoed.stdout, "through stdin");
    engine
        .ferry(&[
            "run",
            "--name",
            "talk",
            "busybox",
            "sh",
            "-c",
            "seq 1 1000; echo e >&2",
        ])?
        .ok()?;
    let logs = engine.ferry(&["logs", "talk"])?;
    assert_eq!(logs.stdout.lines().count(), 1000);
    assert_eq!(logs.stderr, "e\n");
    assert_eq!(
        engine.ferry(&["logs", "--tail", "3", "talk"])?.stdout,
        "999\n1000\n"
    );
    let docker = engine.docker(&["logs", "-t", "--tail", "1", "talk"])?;
    assert!(docker.stderr.ends_with(" e\n"), "{docker:?}");
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "slow",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3; do echo $i; sleep 0.2; done",
        ])?
        .ok()?;
    assert_eq!(engine.ferry(&["logs", "-f", "slow"])?.stdout, "1\n2\n3\n");
    engine.finish()
}

#[test]
fn exec_joins_and_tells_its_code() -> Result<()> {
    let Some(engine) = engine_with_busybox("exec_joins_and_tells_its_code")? else {
        return Ok(());
    };
    engine
        .ferry(&[
            "run", "-d", "--name", "ex", "-e", "A=1", "busybox", "sleep", "100",
        ])?
        .ok()?;
    for run in [Engine::ferry, Engine::docker] {
        assert_eq!(
            run(
                &engine,
                &["exec", "ex", "sh", "-c", "echo $A; ls -l /proc/1/exe >/dev/null"]
            )?
            .stdout,
            "1\n"
        );
        assert_eq!(run(&engine, &["exec", "ex", "sh", "-c", "exit 7"])?.code, 7);
        assert_eq!(run(&engine, &["exec", "ex", "nosuch"])?.code, 127);
        assert_eq!(
            run(
                &engine,
                &[
                    "exec",
                    "-u",
                    "user",
                    "-w",
                    "/tmp",
                    "-e",
                    "B=2",
                    "ex",
                    "sh",
                    "-c",
                    "id -u; pwd; echo $B"
                ]
            )?
            .stdout,
            "1000\n/tmp\n2\n"
        );
    }
    assert_eq!(
        engine.ferry_with(&["exec", "-i", "ex", "cat"], b"piped")?.stdout,
        "piped"
    );
    engine.finish()
}

#[test]
fn stop_kill_restart_pause_wait() -> Result<()> {
    let Some(engine) = engine_with_busybox("stop_kill_restart_pause_wait")? else {
        return Ok(());
    };
    let state = |name: &str| -> Result<String> {
        Ok(engine
            .ferry(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name])?
            .ok()?
            .trim()
            .to_owned())
    };
    let trap = "trap 'exit 3' TERM; while true; do sleep 0.1; done";
    engine
        .ferry(&["run", "-d", "--name", "st", "busybox", "sh", "-c", trap])?
        .ok()?;
    wait_for("the trap is set", || {
        engine.ferry(&["exec", "st", "true"]).is_ok_and(|o| o.code == 0)
    })?;
    engine.ferry(&["pause", "st"])?.ok()?;
    assert_eq!(state("st")?, "paused 0");
    engine.ferry(&["unpause", "st"])?.ok()?;
    engine.ferry(&["stop", "st"])?.ok()?;
    assert_eq!(state("st")?, "exited 3");
    engine.ferry(&["start", "st"])?.ok()?;
    engine.ferry(&["restart", "-t", "1", "st"])?.ok()?;
    assert_eq!(state("st")?, "running 0");
    engine.ferry(&["kill", "st"])?.ok()?;
    assert_eq!(engine.ferry(&["wait", "st"])?.ok()?.trim(), "137");
    engine.ferry(&["rename", "st", "tt"])?.ok()?;
    assert_eq!(state("tt")?, "exited 137");
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "again",
            "--restart",
            "on-failure:2",
            "busybox",
            "sh",
            "-c",
            "exit 1",
        ])?
        .ok()?;
    wait_for("it was tried three times", || {
        engine
            .ferry(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again"])
            .is_ok_and(|o| o.stdout.trim() == "2 exited")
    })?;
    engine.finish()
}

#[test]
fn containers_share_what_they_are_told_to() -> Result<()> {
    let Some(engine) = engine_with_busybox("containers_share_what_they_are_told_to")? else {
        return Ok(());
    };
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "aa",
            "--ipc",
            "shareable",
            "busybox",
            "sh",
            "-c",
            "echo shared >/dev/shm/f; nc -l -p 7 -e echo joined & sleep 100",
        ])?
        .ok()?;
    wait_for("the file is there", || {
        engine
            .ferry(&["exec", "aa", "cat", "/dev/shm/f"])
            .is_ok_and(|o| o.code == 0)
    })?;
    assert_eq!(
        inside(&engine, &["--ipc", "container:aa"], "cat /dev/shm/f")?,
        "shared"
    );
    assert_eq!(
        inside(&engine, &["--net", "container:aa"], "nc 127.0.0.1 7 </dev/null")?,
        "joined"
    );
    assert!(inside(&engine, &["--pid", "container:aa"], "ps")?.contains("sleep 100"));
    assert!(!inside(&engine, &[], "ps")?.contains("sleep 100"));
    assert!(inside(&engine, &[], "cat /dev/shm/f").is_err());
    let address = engine
        .ferry(&[
            "inspect",
            "-f",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            "aa",
        ])?
        .ok()?;
    assert!(
        inside(&engine, &[], &format!("ping -c 1 -W 2 {}", address.trim()))?.contains("1 packets received")
    );
    assert!(inside(&engine, &["--net", "none"], "ls /sys/class/net")?.trim() == "lo");
    assert!(inside(&engine, &["--net", "host"], "ls /sys/class/net")?.contains("ferry0"));
    let files = inside(
        &engine,
        &[
            "--dns",
            "192.0.2.53",
            "--add-host",
            "db:192.0.2.7",
            "--hostname",
            "me",
        ],
        "cat /etc/resolv.conf /etc/hosts /etc/hostname",
    )?;
    for part in ["nameserver 192.0.2.53", "192.0.2.7\tdb", "me"] {
        assert!(files.contains(part), "{part} not in\n{files}");
    }
    engine.finish()
}
