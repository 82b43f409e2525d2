//! The root file system and what is mounted in it.

use super::bundle::Bundle;
use serde_json::json;
use std::fs;

/// `mountinfo`'s per-mount options of a mount point.
fn options(mountinfo: &str, point: &str) -> String {
    let line = mountinfo.lines().rfind(|l| l.split(' ').nth(4) == Some(point));
    line.unwrap_or_else(|| panic!("{point} is not mounted:\n{mountinfo}"))
        .split(' ')
        .nth(5)
        .unwrap()
        .to_owned()
}

#[test]
fn the_root_is_alone() {
    let Some(mut bundle) = Bundle::new("the_root_is_alone") else {
        return;
    };
    let out = bundle
        .script("ls /; cat /proc/self/mountinfo; ls -di /..")
        .output();
    assert!(!out.contains("/states"), "{out}");
    let mounts: Vec<_> = out.lines().filter(|l| l.contains(" - ")).collect();
    assert_eq!(
        mounts.len(),
        12,
        "the root, six mounts, three masks and two read-only paths:\n{out}"
    );
}

#[test]
fn the_root_can_be_read_only() {
    let Some(mut bundle) = Bundle::new("the_root_can_be_read_only") else {
        return;
    };
    bundle.set("/root/readonly", json!(true));
    let said = bundle
        .script("touch /x; echo $?; touch /dev/shm/x; echo $?")
        .run();
    assert_eq!(said.out, "1\n0\n", "{said:?}");
}

#[test]
fn mounts_have_their_options() {
    let Some(mut bundle) = Bundle::new("mounts_have_their_options") else {
        return;
    };
    let source = bundle.path("source");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let bind = |to: &str, options: &[&str]| json!({ "destination": to, "source": source, "type": "bind", "options": options });
    bundle.set("/mounts/-", bind("/ro", &["rbind", "ro", "nosuid"]));
    bundle.set(
        "/mounts/-",
        bind("/deep/down/rw", &["bind", "nodev", "noexec", "noatime"]),
    );
    bundle.set("/mounts/-", bind("/rro", &["rbind", "rro"]));
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/file", "source": source.join("file"), "type": "none", "options": ["bind"] }),
    );
    bundle.set("/mounts/-", json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "nosuid"] }));
    let out = bundle
        .script("cat /proc/self/mountinfo; cat /file; touch /ro/x; touch /deep/down/rw/x && echo wrote; stat -c %a /tmp")
        .run()
        .out;
    assert!(options(&out, "/ro").starts_with("ro,nosuid"), "{out}");
    assert_eq!(options(&out, "/deep/down/rw"), "rw,nodev,noexec,noatime");
    assert!(options(&out, "/rro").starts_with("ro"));
    assert!(options(&out, "/tmp").starts_with("rw,nosuid"));
    assert!(
        out.contains("content") && out.contains("wrote") && out.contains("755"),
        "{out}"
    );
    assert!(!source.join("x").exists() || source.join("x").metadata().unwrap().len() == 0);
}

#[test]
fn devices_and_links_are_there() {
    let Some(mut bundle) = Bundle::new("devices_and_links_are_there") else {
        return;
    };
    bundle.set(
        "/linux/devices",
        json!([{ "type": "c", "path": "/dev/own/zero", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8 }]),
    );
    let out = bundle
        .script(
            "for d in null zero full random urandom tty own/zero; do stat -c '%n %t:%T %a %u:%g' /dev/$d; done;
             readlink /dev/fd; readlink /dev/ptmx; echo gone > /dev/null; head -c 3 /dev/zero | wc -c",
        )
        .output();
    for line in [
        "/dev/null 1:3 666 0:0",
        "/dev/zero 1:5 666 0:0",
        "/dev/full 1:7 666 0:0",
        "/dev/tty 5:0 666 0:0",
        "/dev/own/zero 1:5 640 7:8",
        "/proc/self/fd",
        "pts/ptmx",
        "3",
    ] {
        assert!(out.lines().any(|l| l == line), "no {line:?} in\n{out}");
    }
}

#[test]
fn masked_and_read_only_paths_hold() {
    let Some(mut bundle) = Bundle::new("masked_and_read_only_paths_hold") else {
        return;
    };
    let out = bundle
        .script(
            "wc -c < /proc/keys; ls /proc/acpi /sys/firmware | grep -v : | wc -w; touch /sys/firmware/x 2>/dev/null || echo masked;
             echo 1 > /proc/sys/kernel/core_uses_pid || echo denied; stat -c %t:%T /proc/keys",
        )
        .run()
        .out;
    assert_eq!(out, "0\n0\nmasked\ndenied\n1:3\n");
}

#[test]
fn tmpfs_keeps_what_it_hides_when_asked() {
    let Some(mut bundle) = Bundle::new("tmpfs_keeps_what_it_hides_when_asked") else {
        return;
    };
    let data = bundle.rootfs().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "kept").unwrap();
    std::os::unix::fs::symlink("sub/file", data.join("link")).unwrap();
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    let out = bundle
        .script("cat /data/link; echo new > /data/sub/file; stat -f -c %T /data")
        .output();
    assert_eq!(out, "kepttmpfs\n");
    assert_eq!(fs::read_to_string(data.join("sub/file")).unwrap(), "kept");
}

#[test]
fn an_overlay_takes_the_writes() {
    let Some(mut bundle) = Bundle::new("an_overlay_takes_the_writes") else {
        return;
    };
    let said = bundle
        .script("echo new > /etc/new; rm /etc/group; grep -c overlay /proc/self/mountinfo")
        .with_options("lenient");
    assert_eq!((said.code, said.out.as_str()), (0, "1\n"), "{said:?}");
    assert!(bundle.path("upper/etc/new").exists());
    assert!(bundle.rootfs().join("etc/group").exists() && !bundle.rootfs().join("etc/new").exists());
}

#[test]
fn own_cgroups_are_shown() {
    let Some(mut bundle) = Bundle::new("own_cgroups_are_shown") else {
        return;
    };
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"] }),
    );
    bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
    let script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>&1";
    let host = bundle.script(script).run();
    assert!(
        host.out.contains("77\n") && host.out.contains(&bundle.id),
        "{host:?}"
    );
    assert!(host.out.contains("Read-only file system"), "{host:?}");
    bundle.set("/linux/namespaces/-", json!({ "type": "cgroup" }));
    let private = bundle.run();
    assert!(
        private.out.contains("77\n") && !private.out.contains(&bundle.id),
        "{private:?}"
    );
}
