//! Attacks that have worked on runtimes; each is carried out, not looked for in the code.

use super::bundle::Bundle;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

/// CVE-2019-5736: the runtime's binary, through the container's view of a process that runs it.
#[test]
fn the_binary_cannot_be_written() {
    let Some(mut bundle) = Bundle::new("the_binary_cannot_be_written") else {
        return;
    };
    let said = bundle
        .script(
            "exec 3</proc/1/exe; for i in 1 2 3; do echo x > /proc/1/exe; echo x > /proc/self/fd/3; done;
             mount -o remount,rw /proc/1/exe 2>/dev/null; chmod 777 /proc/1/exe; echo tried",
        )
        .with_options("init");
    assert!(said.out.contains("tried"), "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 7, "{said:?}");
}

/// CVE-2019-19921, CVE-2023-27561: /proc is a symlink of the image's.
#[test]
fn a_symlink_for_proc_is_refused() {
    for name in ["proc", "sys"] {
        let Some(mut bundle) = Bundle::new("a_symlink_for_proc_is_refused") else {
            return;
        };
        fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
        symlink("/elsewhere", bundle.rootfs().join(name)).unwrap();
        let said = bundle.script("echo started").run();
        assert!(said.code == 1 && !said.out.contains("started"), "{said:?}");
    }
}

/// CVE-2019-16884: a mount over procfs, directly or through a symlink of the image's.
#[test]
fn nothing_is_mounted_in_proc() {
    let Some(mut bundle) = Bundle::new("nothing_is_mounted_in_proc") else {
        return;
    };
    let source = bundle.path("source");
    fs::create_dir(&source).unwrap();
    symlink("/proc/self/attr", bundle.rootfs().join("innocent")).unwrap();
    for (destination, code) in [("/proc/self", 1), ("/innocent", 1), ("/tmp/../proc/sys", 1)] {
        let mut again = Bundle::new("nothing_is_mounted_in_proc").unwrap();
        symlink("/proc/self/attr", again.rootfs().join("innocent")).unwrap();
        again.set(
            "/mounts/-",
            json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind"] }),
        );
        let said = again.script("echo started").run();
        assert_eq!(
            (said.code, said.out.as_str()),
            (code, ""),
            "{destination}: {said:?}"
        );
        assert!(said.err.contains("because it is inside /proc"), "{said:?}");
    }
    bundle.script("true").output();
}

/// CVE-2021-30465, CVE-2026-41579: mount targets and /dev that are symlinks to the host's files.
#[test]
fn symlinks_stay_in_the_root() {
    let Some(mut bundle) = Bundle::new("symlinks_stay_in_the_root") else {
        return;
    };
    let outside = bundle.path("outside");
    fs::create_dir(&outside).unwrap();
    let source = bundle.path("source");
    fs::create_dir(&source).unwrap();
    symlink(&outside, bundle.rootfs().join("absolute")).unwrap();
    symlink(
        "../../../../../../..".to_owned() + outside.to_str().unwrap(),
        bundle.rootfs().join("relative"),
    )
    .unwrap();
    fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(&outside, bundle.rootfs().join("dev")).unwrap();
    for to in ["/absolute/made", "/relative/made"] {
        bundle.set(
            "/mounts/-",
            json!({ "destination": to, "type": "bind", "source": source, "options": ["bind"] }),
        );
    }
    let said = bundle.script("true").run();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{said:?}");
    // Inside the root the same path exists by now, or the run was refused; either way the host saw nothing.
    assert!(said.code == 0 || said.code == 1);
}

/// CVE-2024-21626: a working directory through a leaked descriptor.
#[test]
fn the_working_directory_is_inside() {
    let Some(mut bundle) = Bundle::new("the_working_directory_is_inside") else {
        return;
    };
    for number in 0..16 {
        bundle.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        let said = bundle
            .script("pwd; ls ../../../../etc/hostname ../../../../var 2>&1")
            .run();
        assert!(
            said.code != 0 || !said.out.contains("/var:"),
            "{number}: {said:?}"
        );
    }
}

/// CVE-2025-31133: the container's null device is something else when paths are masked.
#[test]
fn a_false_null_device_masks_nothing_else() {
    let Some(mut bundle) = Bundle::new("a_false_null_device") else {
        return;
    };
    let source = bundle.path("secret");
    fs::write(&source, "secret").unwrap();
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/dev/null", "type": "bind", "source": source, "options": ["bind"] }),
    );
    let said = bundle
        .script("stat -c %t:%T /proc/keys; wc -c < /proc/keys")
        .run();
    assert_eq!(said.out, "1:3\n0\n", "{said:?}");
}

/// CVE-2016-9962 and what R3 adds: a container with CAP_SYS_PTRACE looks at every process that enters it.
#[test]
fn an_exec_shows_nothing_to_a_tracer() {
    let Some(mut bundle) = Bundle::new("an_exec_shows_nothing_to_a_tracer") else {
        return;
    };
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}/-"), json!("CAP_SYS_PTRACE"));
    }
    // Whatever enters: its capabilities, and its descriptors beyond the three streams.
    bundle.script(
        "end=$(( $(date +%s) + 4 )); while [ $(date +%s) -lt $end ]; do for p in /proc/[0-9]*; do
           case $p in /proc/1|/proc/$$) continue;; esac;
           c=$(grep CapPrm $p/status 2>/dev/null); case $c in *00000000080800e3|*0000000000000000|'') ;; *) echo LEAK $c;; esac;
           for f in $p/fd/*; do t=$(readlink $f 2>/dev/null); case $t in *cgroup*|*config*|*states*) echo LEAK $t;; esac; done;
         done; done; echo done",
    );
    bundle.start();
    for _ in 0..60 {
        assert_eq!(bundle.exec("true").code, 0);
    }
    for _ in 0..100 {
        if fs::read_to_string(bundle.path("out")).unwrap().contains("done") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(fs::read_to_string(bundle.path("out")).unwrap(), "done\n");
}
