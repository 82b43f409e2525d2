//! The process: ids, capabilities, limits, directory, errors, init.

use super::bundle::Bundle;
use serde_json::json;

#[test]
fn ids_groups_and_umask() {
    let Some(mut bundle) = Bundle::new("ids_groups_and_umask") else {
        return;
    };
    bundle.set(
        "/process/user",
        json!({ "uid": 1000, "gid": 1000, "umask": 0o27, "additionalGids": [10, 4242] }),
    );
    let out = bundle.script("id -u; id -g; grep Groups /proc/self/status; umask; echo $HOME; echo x > /dev/stderr && echo open").run();
    assert_eq!(
        out.out, "1000\n1000\nGroups:\t10 4242 \n0027\n/home/bob\nopen\n",
        "{out:?}"
    );
}

#[test]
fn a_user_is_found_in_the_image() {
    let Some(mut bundle) = Bundle::new("a_user_is_found_in_the_image") else {
        return;
    };
    bundle.script("id -u; id -g; grep Groups /proc/self/status; echo $HOME");
    let bob = bundle.with_options("user=bob,group=77");
    assert_eq!(
        bob.out, "1000\n1000\nGroups:\t10 77 1000 \n/home/bob\n",
        "{bob:?}"
    );
    let nobody = bundle.with_options("user=nobody");
    assert!(
        nobody
            .err
            .contains("unable to find user nobody: no matching entries in passwd file"),
        "{nobody:?}"
    );
    std::fs::remove_file(bundle.rootfs().join("etc/passwd")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(bundle.rootfs().join("etc/passwd"))
        .status()
        .unwrap();
    assert!(made.success());
    let fifo = bundle.with_options("user=bob");
    assert!(fifo.err.contains("/etc/passwd is not a regular file"), "{fifo:?}");
}

#[test]
fn capabilities_are_exactly_those() {
    let Some(mut bundle) = Bundle::new("capabilities_are_exactly_those") else {
        return;
    };
    let script = "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '";
    // CHOWN 0, DAC_OVERRIDE 1, KILL 5, SETGID 6, SETUID 7, MKNOD 27
    let set = "00000000080000e3";
    let none = "0000000000000000";
    assert_eq!(
        bundle.script(script).output(),
        format!("{none} {set} {set} {set} {none} ")
    );
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(bundle.output(), format!("{none} {none} {none} {set} {none} "));
    bundle.set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
    bundle.set("/process/capabilities/ambient", json!(["CAP_KILL"]));
    let kill = "0000000000000020";
    assert_eq!(bundle.output(), format!("{kill} {kill} {kill} {set} {kill} "));
}

#[test]
fn limits_and_scores() {
    let Some(mut bundle) = Bundle::new("limits_and_scores") else {
        return;
    };
    bundle.set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]),
    );
    bundle.set("/process/oomScoreAdj", json!(321));
    bundle.set(
        "/process/ioPriority",
        json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }),
    );
    bundle.set(
        "/process/scheduler",
        json!({ "policy": "SCHED_BATCH", "nice": 3 }),
    );
    bundle.set("/process/noNewPrivileges", json!(true));
    let out = bundle
        .script(
            "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; ionice -p $$; cut -d' ' -f19,41 /proc/self/stat;
             grep NoNewPrivs /proc/self/status",
        )
        .output();
    assert_eq!(out, "99\n100\n321\nbest-effort: prio 6\n3 3\nNoNewPrivs:\t1\n");
}

#[test]
fn limits_that_cannot_be_are_lowered_only_when_allowed() {
    let Some(mut bundle) = Bundle::new("limits_that_cannot_be") else {
        return;
    };
    if ferry_runtime::HostFacts::probe().unwrap().can_raise_limits() {
        println!("SKIPPED limits_that_cannot_be: this host may raise limits");
        return;
    }
    bundle.set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": u64::MAX }]),
    );
    let strict = bundle.script("ulimit -Sn").run();
    assert!(
        strict.err.contains("error setting rlimit RLIMIT_NOFILE"),
        "{strict:?}"
    );
    assert_eq!(bundle.with_options("lenient").out, "64\n");
}

#[test]
fn the_working_directory_is_made_or_refused() {
    let Some(mut bundle) = Bundle::new("the_working_directory") else {
        return;
    };
    bundle.set("/process/cwd", json!("/made/deep")).script("pwd");
    assert_eq!(bundle.output(), "/made/deep\n");
    bundle.set("/process/cwd", json!("/etc/passwd"));
    let said = bundle.run();
    let words = "chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory";
    assert!(said.err.contains(&words.replace('"', "\\\"")), "{said:?}");
}

#[test]
fn missing_programs_have_dockers_words() {
    let Some(mut bundle) = Bundle::new("missing_programs") else {
        return;
    };
    std::fs::write(bundle.rootfs().join("bin/bad"), "\u{1}").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.rootfs().join("bin/bad"), mode).unwrap();
    for (program, words, code) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH", 127),
        (
            "/foo",
            "exec: \"/foo\": stat /foo: no such file or directory",
            127,
        ),
        ("/etc", "exec: \"/etc\": is a directory", 126),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", 126),
        ("/bin/bad", "exec /bin/bad: exec format error", 255),
    ] {
        bundle.set("/process/args", json!([program]));
        let said = bundle.with_options("lenient");
        assert_eq!((said.err.trim(), said.code), (words, code));
    }
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    let Some(mut bundle) = Bundle::new("an_init_reaps") else {
        return;
    };
    bundle.script(
        "tr '\\0' ' ' < /proc/1/cmdline; echo; echo me $$ $PPID; (sh -c 'sleep 0.1' &) ; sleep 0.4; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l;
         trap 'echo got; exit 3' TERM; kill -TERM 1; sleep 2",
    );
    let said = bundle.with_options("init");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.out.starts_with("/sbin/docker-init -- /bin/sh -c"),
        "{said:?}"
    );
    assert!(
        said.out.contains("me 2 1\n0\n") && said.out.ends_with("got\n"),
        "{said:?}"
    );
}

#[test]
fn a_filter_is_loaded() {
    let Some(mut bundle) = Bundle::new("a_filter_is_loaded") else {
        return;
    };
    bundle.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] }),
    );
    for no_new_privileges in [false, true] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        let said = bundle
            .script("grep Seccomp: /proc/self/status; mkdir /tmp/x")
            .run();
        assert_eq!(said.out, "Seccomp:\t2\n", "{said:?}");
        assert!(said.err.contains("not supported"), "{said:?}");
    }
}

#[test]
fn no_descriptor_is_left() {
    let Some(mut bundle) = Bundle::new("no_descriptor_is_left") else {
        return;
    };
    let out = bundle.script("ls /proc/1/fd | tr '\\n' ' '").output();
    assert_eq!(out, "0 1 2 ");
}
