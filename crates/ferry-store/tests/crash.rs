//! A process that works on the store is killed again and again at random moments; whatever it had been told is there, and
//! nothing half-made is.

use crate::records::image;
use crate::tarball::{Tar, descriptor, digest, noise};
use ferry_oci::media::Compression;
use ferry_oci::{Platform, Reference};
use ferry_store::{Durability, GcRoots, Limits, Store};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const ROOT: &str = "FERRY_STORE_CRASH_ROOT";

/// The child: does everything at once, says what was acknowledged. Does nothing when it is run as an ordinary test.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let store = Store::open(Path::new(&root)).unwrap();
    let first = store.meta().get::<u64>("crash", "round").unwrap().unwrap_or(0) + 1;
    store
        .meta()
        .put("crash", "round", &first, Durability::Durable)
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| records(&store, first));
        scope.spawn(|| images(&store, first));
        scope.spawn(|| layers(&store, first));
        scope.spawn(|| ingests(&store));
    });
}

fn told(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ACK {line}").unwrap();
    out.flush().unwrap();
}

fn records(store: &Store, round: u64) {
    for n in 0..100_000u64 {
        let key = format!("{round}-{n}");
        store.meta().put("kept", &key, &n, Durability::Durable).unwrap();
        told(&format!("record {key}"));
        store.meta().put("lazy", "last", &n, Durability::Lazy).unwrap();
    }
}

fn images(store: &Store, round: u64) {
    for n in 0..100_000u64 {
        let _lease = store.leases().acquire();
        let (target, _) = image(store, &format!("{round}-{n}"));
        let name: Reference = format!("crash:{round}-{n}").parse().unwrap();
        let resolved = store.images().resolve(&target.digest, &Platform::host()).unwrap();
        store.images().unpack(&resolved, &Limits::default()).unwrap();
        store.images().set(&name, &target).unwrap();
        told(&format!("image {}", name.familiar()));
        store
            .layers()
            .prepare(&format!("s{round}-{n}"), &resolved.diff_ids())
            .unwrap();
        if n % 5 == 4 {
            store.gc(&GcRoots::default()).unwrap();
        }
    }
}

fn layers(store: &Store, round: u64) {
    for n in 0..100_000u64 {
        let tar = (0..30)
            .fold(Tar::new().dir("d/"), |tar, i| {
                tar.file(&format!("d/f{i}"), &noise(round * 1000 + n * 30 + i, 20_000))
            })
            .finish();
        let id = digest(&tar);
        store
            .layers()
            .apply(&id, Compression::None, &mut &*tar, &Limits::default())
            .unwrap();
        store.layers().sync_image(&[id]).unwrap();
    }
}

fn ingests(store: &Store) {
    for n in 0..100_000u64 {
        let bytes = noise(n, 600_000);
        let blob = descriptor("x", &bytes);
        let mut ingest = store.content().ingest(&format!("i{n}"), &blob).unwrap();
        let at = usize::try_from(ingest.offset()).unwrap();
        for chunk in bytes[at..].chunks(50_000) {
            ingest.write(chunk).unwrap();
        }
        ingest.commit().unwrap();
    }
}

/// Runs the child for a while, kills it, and returns what it was told.
fn run(root: &Path, lifetime: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(ROOT, root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(lifetime);
    child.kill().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines
        .map_while(Result::ok)
        .filter_map(|l| Some(l.split_once("ACK ")?.1.to_owned()))
        .collect();
    let errors: Vec<String> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .collect();
    child.wait().unwrap();
    assert!(
        !errors.iter().any(|l| l.contains("panicked")),
        "the child failed by itself: {errors:?}"
    );
    told
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_torn_is_left() {
    if !ferry_testkit::is_root("killing a process that works on the store") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut told = Vec::new();
    for round in 0..12u64 {
        told.extend(run(&root, Duration::from_millis(60 + round * 53 % 400)));
        let store = Store::open(&root).unwrap();
        assert_eq!(store.warnings(), Vec::<String>::new(), "round {round}");
        check(&store, &told);
    }
    let kinds: BTreeSet<&str> = told.iter().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(kinds.len(), 2, "nothing was acknowledged in time: {told:?}");
    println!("{} acknowledgements survived", told.len());
}

fn check(store: &Store, told: &[String]) {
    let root = store.root();
    assert_eq!(fs::read_dir(root.join("staging")).unwrap().count(), 0);
    for line in told {
        match line.split_once(' ').unwrap() {
            ("record", key) => assert!(store.meta().get::<u64>("kept", key).unwrap().is_some(), "{key}"),
            ("image", name) => {
                let record = store.images().get(&name.parse().unwrap()).unwrap();
                let image = store
                    .images()
                    .resolve(&record.target.digest, &Platform::host())
                    .unwrap();
                assert!(store.images().is_unpacked(&image), "{name}");
                assert!(
                    image
                        .layers
                        .iter()
                        .all(|l| store.content().contains(&l.descriptor.digest)),
                    "{name}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    for (blob, _) in store.content().list().unwrap() {
        assert!(
            store.content().read(&blob, 1 << 20).is_ok(),
            "{blob} is not what it says"
        );
    }
    for id in store.layers().list().unwrap() {
        // One whose directory was not finished is none.
        if let Err(e) = store.layers().mounts(&id) {
            assert!(e.is_not_found(), "{id}: {e}");
        }
    }
    for layer in store
        .layers()
        .list_layers()
        .unwrap()
        .iter()
        .filter(|l| l.entries > 2)
    {
        let fs_dir = root.join("layers").join(layer.diff_id.hex()).join("fs/d");
        let sizes: Vec<u64> = fs::read_dir(fs_dir)
            .unwrap()
            .map(|f| f.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes, [20_000; 30]);
    }
    store.layers().empty_trash().unwrap();
    assert_eq!(fs::read_dir(root.join("trash")).unwrap().count(), 0);
}
