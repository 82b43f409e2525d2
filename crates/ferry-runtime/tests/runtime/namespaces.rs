//! All eight namespaces, new and joined.

use super::bundle::Bundle;
use serde_json::json;

#[test]
fn new_namespaces_are_new() {
    let Some(mut bundle) = Bundle::new("new_namespaces_are_new") else {
        return;
    };
    for kind in ["cgroup", "time"] {
        bundle.set("/linux/namespaces/-", json!({ "type": kind }));
    }
    bundle.set(
        "/linux/timeOffsets",
        json!({ "boottime": { "secs": 1_000_000, "nanosecs": 0 } }),
    );
    bundle.set("/domainname", json!("outside"));
    let out = bundle
        .script(
            "for n in pid net ipc uts mnt cgroup time user; do readlink /proc/self/ns/$n; done;
             hostname; cat /proc/sys/kernel/domainname; echo $$; cut -d. -f1 /proc/uptime; ip addr show lo | grep -c 127.0.0.1",
        )
        .output();
    let lines: Vec<_> = out.lines().collect();
    for (index, kind) in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "time", "user"]
        .into_iter()
        .enumerate()
    {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(
            host.to_string_lossy() == lines[index],
            kind == "user",
            "{kind}: {out}"
        );
    }
    assert_eq!(&lines[8..11], ["inside", "outside", "1"]);
    assert!(lines[11].parse::<u64>().unwrap() >= 1_000_000, "{out}");
    assert_eq!(lines[12], "1");
}

#[test]
fn a_user_namespace_maps_ids() {
    let Some(mut bundle) = Bundle::new("a_user_namespace_maps_ids") else {
        return;
    };
    bundle.set("/linux/namespaces/-", json!({ "type": "user" }));
    for field in ["uidMappings", "gidMappings"] {
        bundle.set(
            &format!("/linux/{field}"),
            json!([{ "containerID": 0, "hostID": 200_000, "size": 65536 }]),
        );
    }
    let rootfs = bundle.rootfs();
    let owned = std::process::Command::new("chown")
        .args(["-R", "200000:200000"])
        .arg(&rootfs)
        .status()
        .unwrap();
    assert!(owned.success());
    // The mapped root must reach the bundle.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.directory.path(), open).unwrap();
    let said = bundle
        .script("id -u; cat /proc/self/uid_map; touch /tmp/made; stat -c %t:%T /dev/null; echo x > /dev/null && echo ok; grep CapEff /proc/self/status")
        .run();
    assert_eq!(said.code, 0, "{said:?}");
    let words: Vec<_> = said.out.split_whitespace().collect();
    assert_eq!(
        &words[..6],
        ["0", "0", "200000", "65536", "1:3", "ok"],
        "{said:?}"
    );
    let made = std::fs::metadata(rootfs.join("tmp/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 200_000);
}

#[test]
fn namespaces_are_joined_by_path() {
    let Some(mut first) = Bundle::new("namespaces_are_joined_by_path") else {
        return;
    };
    first
        .set("/hostname", json!("first"))
        .set("/process/args", json!(["/bin/sleep", "30"]));
    first.start();
    let state: serde_json::Value = serde_json::from_str(&first.runtime(&["state", &first.id]).out).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let mut second = Bundle::new("namespaces_are_joined_by_path").unwrap();
    let joined: Vec<_> = [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")]
        .into_iter()
        .map(|(kind, file)| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }))
        .chain([json!({ "type": "mount" })])
        .collect();
    second
        .set("/linux/namespaces", json!(joined))
        .set("/hostname", json!(""));
    let said = second
        .script("hostname; tr '\\0' ' ' < /proc/1/cmdline; echo; [ $$ != 1 ] && echo guest; exit 9")
        .run();
    assert_eq!(said.code, 9, "{said:?}");
    assert!(said.out.starts_with("first\n/bin/sleep 30"), "{said:?}");
    assert!(said.out.ends_with("guest\n"), "{said:?}");
}

#[test]
fn kernel_parameters_are_set_and_the_hosts_are_refused() {
    let Some(mut bundle) = Bundle::new("kernel_parameters") else {
        return;
    };
    bundle.set(
        "/linux/sysctl",
        json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4242" }),
    );
    let out = bundle
        .script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
        .output();
    assert_eq!(out, "1\n4242\n");
    bundle.set("/linux/sysctl", json!({ "vm.swappiness": "1" }));
    let said = bundle.run();
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("is not in a separate kernel namespace"),
        "{said:?}"
    );
}
