//! What every snapshotter must do. An implementation's test calls `conforms`, as root.
//!
//! What a container would see is looked at through a real overlay mount, in a mount namespace of the test's own.

mod tree;

use crate::error::StoreError;
use crate::hash::digest;
use crate::layer::Limits;
use crate::snapshot::{Mounts, Snapshotter};
use ferry_oci::media::Compression;
use ferry_oci::{Algorithm, Digest};
use ferry_testkit::World;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tree::{Layer, listing};

/// Opens the snapshotter that is to be tested, over this directory; a second call on the same directory is a restart.
pub(crate) type Open<'a> = &'a (dyn Fn(&Path) -> Box<dyn Snapshotter> + Sync);

pub(crate) fn conforms(open: Open<'_>) {
    let world = World::new().unwrap();
    for (name, check) in [
        ("applies once, and verifies", applies_once as fn(&Path, Open<'_>)),
        ("refuses what is not there", refuses_what_is_not_there),
        ("shows a stack as a container must see it", shows_a_stack),
        ("keeps every attribute", keeps_attributes),
        ("knows what implied directories mean", implied_directories),
        ("tells changes and turns them into a layer", changes_and_diff),
        ("forgets torn layers and keeps synced ones", restarts),
        ("applies a layer that many want once", many_at_once),
    ] {
        println!("snapshotter suite: {name}");
        let dir = tempfile::tempdir().unwrap();
        world
            .enter(|| {
                check(dir.path(), open);
                Ok(())
            })
            .unwrap();
    }
}

fn apply(store: &dyn Snapshotter, layer: &[u8]) -> Digest {
    let id = digest(Algorithm::Sha256, layer);
    store
        .apply(&id, Compression::None, &mut &*layer, &Limits::default())
        .unwrap();
    id
}

/// Mounts a snapshot and shows it.
fn mounted<T>(mounts: &Mounts, dir: &Path, look: impl FnOnce(&Path) -> T) -> T {
    let root = dir.join("mounted");
    fs::create_dir_all(&root).unwrap();
    let lowers: Vec<&str> = mounts.lowers.iter().map(|l| l.to_str().unwrap()).collect();
    let (upper, work) = (mounts.upper.display(), mounts.work.display());
    let options = format!(
        "lowerdir={},upperdir={upper},workdir={work},redirect_dir=off",
        lowers.join(":")
    );
    let options = CString::new(options).unwrap();
    mount(
        "overlay",
        &root,
        "overlay",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .unwrap();
    let seen = look(&root);
    unmount(&root, UnmountFlags::empty()).unwrap();
    seen
}

fn applies_once(dir: &Path, open: Open<'_>) {
    let store = open(dir);
    let layer = Layer::new().file("a", b"1").file("b", b"22").tar();
    let id = digest(Algorithm::Sha256, &layer);
    assert!(!store.has(&id));
    let wrong = digest(Algorithm::Sha256, b"another");
    let refused = store.apply(&wrong, Compression::None, &mut &*layer, &Limits::default());
    assert!(
        matches!(refused, Err(StoreError::DigestMismatch { .. })),
        "{refused:?}"
    );
    assert!(!store.has(&wrong) && !store.has(&id));
    let info = store
        .apply(&id, Compression::None, &mut &*layer, &Limits::default())
        .unwrap();
    assert_eq!(
        (info.diff_id.clone(), info.size, info.entries),
        (id.clone(), 3, 2)
    );
    // The second time nothing is read.
    let again = store
        .apply(&id, Compression::Gzip, &mut &b"nonsense"[..], &Limits::default())
        .unwrap();
    assert_eq!(again, info);
    assert_eq!(store.list_layers().unwrap(), vec![info]);
    store.remove_layer(&id).unwrap();
    store.remove_layer(&id).unwrap();
    assert!(!store.has(&id));
    store.empty_trash().unwrap();
}

fn refuses_what_is_not_there(dir: &Path, open: Open<'_>) {
    let store = open(dir);
    let id = digest(Algorithm::Sha256, b"nothing");
    assert!(
        store
            .prepare("c", std::slice::from_ref(&id))
            .unwrap_err()
            .is_not_found()
    );
    assert!(store.mounts("c").unwrap_err().is_not_found());
    assert!(store.size(&id).unwrap_err().is_not_found());
    assert!(store.changes("c").unwrap_err().is_not_found());
    for bad in ["", ".", "..", "a/b", "../c", ".hidden"] {
        assert!(
            matches!(store.prepare(bad, &[]), Err(StoreError::Invalid { .. })),
            "{bad}"
        );
    }
    store.remove("c").unwrap();
    let empty = store.prepare("c", &[]).unwrap();
    assert_eq!(mounted(&empty, dir, listing), Vec::<String>::new());
    assert_eq!(store.list().unwrap(), ["c"]);
    store.remove("c").unwrap();
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
}

fn shows_a_stack(dir: &Path, open: Open<'_>) {
    let store = open(dir);
    let base = Layer::new()
        .dir("gone/", 0o755)
        .file("gone/x", b"x")
        .dir("opaque/", 0o755)
        .file("opaque/old", b"x")
        .dir("kept/", 0o755)
        .file("kept/old", b"x")
        .file("file-to-dir", b"x")
        .dir("dir-to-file/", 0o755)
        .file("dir-to-file/x", b"x")
        .dir("again/", 0o755)
        .file("again/old", b"x")
        .file("changed", b"old");
    let top = Layer::new()
        .file(".wh.gone", b"")
        .dir("opaque/", 0o755)
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"y")
        .file("kept/new", b"y")
        .file("kept/.wh.old", b"")
        .dir("file-to-dir/", 0o755)
        .file("file-to-dir/y", b"y")
        .file("dir-to-file", b"y")
        .file(".wh.again", b"")
        .dir("again/", 0o755)
        .file("again/new", b"y")
        .file("changed", b"new");
    let ids = [apply(&*store, &base.tar()), apply(&*store, &top.tar())];
    let mounts = store.prepare("c", &ids).unwrap();
    let seen = mounted(&mounts, dir, |root| {
        assert_eq!(fs::read(root.join("changed")).unwrap(), b"new");
        listing(root)
    });
    let wanted = [
        "again",
        "again/new",
        "changed",
        "dir-to-file",
        "file-to-dir",
        "file-to-dir/y",
        "kept",
        "kept/new",
        "opaque",
        "opaque/new",
    ];
    assert_eq!(seen, wanted);
    // A root that hides everything below.
    let bare = Layer::new().file(".wh..wh..opq", b"").file("only", b"1");
    let ids = [ids[0].clone(), ids[1].clone(), apply(&*store, &bare.tar())];
    let mounts = store.prepare("d", &ids).unwrap();
    assert_eq!(mounted(&mounts, dir, listing), ["only"]);
}

fn keeps_attributes(dir: &Path, open: Open<'_>) {
    let store = open(dir);
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let mut layer = Layer::new()
        .dir("d/", 0o1770)
        .file("setuid", b"x")
        .file(&long, b"long")
        .link("hard", "setuid")
        .symlink("soft", "/etc/passwd")
        .device("null", (1, 3))
        .fifo("pipe");
    layer.last_mut("setuid", |h| {
        (h.mode, h.uid, h.gid, h.mtime) = (0o4755, 1000, 70_000, 1_234_567_890);
        h.xattrs.push((b"user.note".to_vec(), b"n\0b".to_vec()));
        h.xattrs.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
    });
    layer.last_mut("d/", |h| h.mtime = 1_000_000_000);
    let layer = layer.file("d/late", b"a child that would touch its directory's time");
    let mounts = store.prepare("c", &[apply(&*store, &layer.tar())]).unwrap();
    mounted(&mounts, dir, |root| {
        let file = fs::symlink_metadata(root.join("setuid")).unwrap();
        assert_eq!(
            (file.mode() & 0o7777, file.uid(), file.gid()),
            (0o4755, 1000, 70_000)
        );
        assert_eq!((file.mtime(), file.nlink()), (1_234_567_890, 2));
        let mut value = [0u8; 16];
        let n = rustix::fs::getxattr(root.join("setuid"), "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..n], b"n\0b");
        let directory = fs::symlink_metadata(root.join("d")).unwrap();
        assert_eq!(
            (directory.mode() & 0o7777, directory.mtime()),
            (0o1770, 1_000_000_000)
        );
        assert_eq!(fs::read(root.join(&long)).unwrap(), b"long");
        assert_eq!(
            fs::read_link(root.join("soft")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(
            fs::symlink_metadata(root.join("null")).unwrap().rdev(),
            rustix::fs::makedev(1, 3)
        );
        assert_eq!(fs::symlink_metadata(root).unwrap().mode() & 0o7777, 0o755);
    });
}

fn implied_directories(dir: &Path, open: Open<'_>) {
    let store = open(dir);
    let mut base = Layer::new()
        .dir("tmp/", 0o1777)
        .dir("srv/", 0o750)
        .dir("srv/own/", 0o700);
    base.last_mut("srv/own/", |h| (h.uid, h.mtime) = (33, 1_000_000_000));
    let top = Layer::new()
        .file("tmp/x", b"1")
        .file("srv/own/y", b"1")
        .file("new/z", b"1");
    let ids = [apply(&*store, &base.tar()), apply(&*store, &top.tar())];
    for id in ["c", "d"] {
        let mounts = store.prepare(id, &ids).unwrap();
        mounted(&mounts, dir, |root| {
            let mode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().mode() & 0o7777;
            assert_eq!(
                (mode("tmp"), mode("srv"), mode("srv/own"), mode("new")),
                (0o1777, 0o750, 0o700, 0o755)
            );
            let own = fs::symlink_metadata(root.join("srv/own")).unwrap();
            assert_eq!((own.uid(), own.mtime()), (33, 1_000_000_000));
            assert!(root.join("tmp/x").exists() && root.join("srv/own/y").exists());
        });
        assert_eq!(store.changes(id).unwrap(), []);
    }
    // What the layer itself says stands; alone, an implied directory is an ordinary one.
    let named = Layer::new().file("tmp/x", b"1").dir("tmp/", 0o700);
    let ids = [ids[0].clone(), apply(&*store, &named.tar())];
    let mounts = store.prepare("e", &ids).unwrap();
    mounted(&mounts, dir, |root| {
        assert_eq!(
            fs::symlink_metadata(root.join("tmp")).unwrap().mode() & 0o7777,
            0o700
        );
    });
}

/// What a busy container does to its files.
fn edit(root: &Path) {
    fs::write(root.join("etc/edit"), b"changed").unwrap();
    fs::set_permissions(root.join("etc/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(root.join("etc/drop")).unwrap();
    fs::remove_dir_all(root.join("var")).unwrap();
    fs::create_dir_all(root.join("new/deep")).unwrap();
    fs::write(root.join("new/deep/file"), b"1").unwrap();
    fs::hard_link(root.join("new/deep/file"), root.join("new/twin")).unwrap();
    symlink("x", root.join("new/link")).unwrap();
    fs::remove_dir_all(root.join("remade")).unwrap();
    fs::create_dir(root.join("remade")).unwrap();
    fs::write(root.join("remade/fresh"), b"1").unwrap();
    // Opened for writing, so copied up, but not changed.
    drop(
        fs::OpenOptions::new()
            .append(true)
            .open(root.join("etc/keep"))
            .unwrap(),
    );
}

fn changes_and_diff(dir: &Path, open: Open<'_>) {
    let store = open(dir);
    let base = Layer::new()
        .dir("etc/", 0o755)
        .file("etc/keep", b"x")
        .file("etc/edit", b"x")
        .file("etc/mode", b"x")
        .file("etc/drop", b"x")
        .dir("var/", 0o755)
        .file("var/a", b"x")
        .dir("remade/", 0o755)
        .file("remade/same", b"x")
        .file("remade/lost", b"x");
    let id = apply(&*store, &base.tar());
    let mounts = store.prepare("c", std::slice::from_ref(&id)).unwrap();
    assert_eq!(store.changes("c").unwrap(), []);
    let before = mounted(&mounts, dir, |root| {
        edit(root);
        tree::snapshot(root)
    });
    let changes: Vec<String> = store
        .changes("c")
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", c.kind.letter(), c.path.display()))
        .collect();
    let wanted = [
        "C /etc",
        "D /etc/drop",
        "C /etc/edit",
        "C /etc/mode",
        "A /new",
        "A /new/deep",
        "A /new/deep/file",
        "A /new/link",
        "A /new/twin",
        "C /remade",
        "A /remade/fresh",
        "D /remade/lost",
        "D /remade/same",
        "D /var",
    ];
    assert_eq!(changes, wanted);
    assert!(store.usage("c").unwrap() > 0);
    let mut diff = Vec::new();
    store.diff("c", &mut diff).unwrap();
    let ids = [id, apply(&*store, &diff)];
    let mounts = store.prepare("again", &ids).unwrap();
    assert_eq!(mounted(&mounts, dir, tree::snapshot), before);
}

fn restarts(dir: &Path, open: Open<'_>) {
    let (kept, torn) = (
        Layer::new().file("k", b"1").tar(),
        Layer::new().file("t", b"1").tar(),
    );
    let store = open(dir);
    let (kept, torn_id) = (apply(&*store, &kept), apply(&*store, &torn));
    store.sync_image(std::slice::from_ref(&kept)).unwrap();
    let mounts = store.prepare("c", std::slice::from_ref(&kept)).unwrap();
    fs::write(mounts.upper.join("w"), b"written").unwrap();
    drop(store);
    let store = open(dir);
    assert!(store.has(&kept) && !store.has(&torn_id));
    assert_eq!(store.mounts("c").unwrap(), mounts);
    assert_eq!(store.parents("c").unwrap(), std::slice::from_ref(&kept));
    assert_eq!(
        store.prepare("c", &[kept]).unwrap(),
        mounts,
        "preparing again changes nothing"
    );
    assert_eq!(fs::read(mounts.upper.join("w")).unwrap(), b"written");
    assert_eq!(apply(&*store, &torn), torn_id);
}

fn many_at_once(dir: &Path, open: Open<'_>) {
    struct Counting<'a>(&'a [u8], &'a AtomicUsize);
    impl std::io::Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = std::io::Read::read(&mut self.0, buffer)?;
            self.1.fetch_add(n, Ordering::Relaxed);
            Ok(n)
        }
    }
    let store = open(dir);
    let layer = Layer::new().file("big", &vec![7; 300_000]).tar();
    let id = digest(Algorithm::Sha256, &layer);
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut reader = Counting(&layer, &read);
                store
                    .apply(&id, Compression::None, &mut reader, &Limits::default())
                    .unwrap();
            });
        }
    });
    assert_eq!(
        read.load(Ordering::Relaxed),
        layer.len(),
        "exactly one of them read it"
    );
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (store, id) = (&store, &id);
            scope.spawn(move || store.prepare(&format!("c{n}"), std::slice::from_ref(id)).unwrap());
        }
    });
    assert_eq!(store.list().unwrap().len(), 8);
}
