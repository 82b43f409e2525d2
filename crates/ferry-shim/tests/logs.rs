//! The log of a running container.

use crate::Test;
use crate::rig::{Rig, entries};
use ferry_shim_proto::{FromShim, ToShim};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    ("logs::files_rotate", files_rotate),
    ("logs::a_moved_file_is_opened_anew", a_moved_file_is_opened_anew),
    (
        "logs::a_full_disk_holds_the_container_and_loses_nothing",
        a_full_disk_holds_the_container_and_loses_nothing,
    ),
    (
        "logs::a_full_disk_does_not_hold_a_non_blocking_log",
        a_full_disk_does_not_hold_a_non_blocking_log,
    ),
];

fn files_rotate(rig: &mut Rig) {
    let mut request = rig.request(&["seq", "1", "3000"]);
    let log = request.log.as_mut().expect("log");
    (log.max_size, log.max_file) = (64 * 1024, 3);
    let mut container = rig.run(&request, false);
    assert_eq!(container.finish(), 0);
    let mut all = Vec::new();
    for suffix in [".2", ".1", ""] {
        let path = PathBuf::from(format!("{}{suffix}", container.log.display()));
        assert!(std::fs::metadata(&path).expect("file").len() < 65 * 1024);
        all.extend(entries(&path).into_iter().map(|(_, text)| text));
    }
    let expected: Vec<_> = (3001 - all.len()..=3000).map(|n| format!("{n}\n")).collect();
    assert!(all.len() > 1000 && all == expected);
}

fn a_moved_file_is_opened_anew(rig: &mut Rig) {
    let mut request = rig.request(&["sh", "-c", "echo a; read x; echo b"]);
    request.open_stdin = true;
    let mut container = rig.run(&request, true);
    container.started();
    let mut stream = container.stream.take().expect("stream");
    crate::rig::read_until(&mut stream, "a\n");
    std::fs::remove_file(&container.log).expect("remove");
    container.say(&ToShim::ReopenLog);
    crate::rig::write(&mut stream, "\n");
    assert_eq!(container.finish(), 0);
    assert_eq!(container.log(), [("stdout".into(), "b\n".into())]);
}

/// A disk of 64 KB at the place of a request's log.
fn small_disk(request: &ferry_shim_proto::LogTarget) -> PathBuf {
    let at = request.path.parent().expect("parent").join("disk");
    std::fs::create_dir(&at).expect("mkdir");
    mount("tmpfs", &at, "tmpfs", MountFlags::empty(), Some(c"size=64k")).expect("mount");
    at
}

fn a_full_disk_holds_the_container_and_loses_nothing(rig: &mut Rig) {
    let mut request = rig.request(&["seq", "1", "20000"]);
    let log = request.log.as_mut().expect("log");
    let disk = small_disk(log);
    log.path = disk.join("log");
    // A launcher sees what was mounted before it came.
    rig.replace_launcher();
    let mut container = rig.run(&request, false);
    let said = container.until("Warning", |frame| match frame {
        FromShim::Warning(said) => Some(said.clone()),
        FromShim::Exited(_) => panic!("it ended"),
        _ => None,
    });
    assert!(
        said.contains("the container waits") && said.contains("No space left"),
        "{said}"
    );
    std::thread::sleep(std::time::Duration::from_millis(300));
    // The launcher's namespace has a copy of the mount, but the file system is the same.
    mount_remount(&disk, MountFlags::empty(), c"size=16m").expect("more room");
    assert_eq!(container.finish(), 0);
    let expected: Vec<_> = (1..=20_000)
        .map(|n| ("stdout".to_owned(), format!("{n}\n")))
        .collect();
    assert!(container.log() == expected, "{} entries", container.log().len());
    unmount(&disk, UnmountFlags::empty()).expect("unmount");
}

fn a_full_disk_does_not_hold_a_non_blocking_log(rig: &mut Rig) {
    let mut request = rig.request(&["seq", "1", "20000"]);
    let log = request.log.as_mut().expect("log");
    log.path = small_disk(log).join("log");
    let log_path = log.path.clone();
    (log.non_blocking, log.max_buffer) = (true, 4096);
    rig.replace_launcher();
    let mut container = rig.run(&request, true);
    let (out, _) = crate::rig::demultiplex(&container.output());
    assert_eq!(out.lines().count(), 20_000, "clients are not concerned");
    assert_eq!(container.finish(), 0);
    let warnings = container
        .seen
        .iter()
        .filter(|f| matches!(f, FromShim::Warning(_)))
        .count();
    assert_eq!(
        warnings, 2,
        "once that it begins, once what is lost: {:?}",
        container.seen
    );
    unmount(log_path.parent().expect("disk"), UnmountFlags::empty()).expect("unmount");
}
