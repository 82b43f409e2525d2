//! Records, leases and gc, and what becomes of damage.

use crate::tarball::{Tar, descriptor, digest, gzip};
use ferry_oci::image::Descriptor;
use ferry_oci::{Platform, Reference, media};
use ferry_store::{Batch, Durability, GcRoots, Limits, Store, StoreError};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Puts a whole image with one file into the store and returns its target and its layer's tar.
pub fn image(store: &Store, marker: &str) -> (Descriptor, Vec<u8>) {
    let tar = Tar::new().file("marker", marker.as_bytes()).finish();
    let layer = gzip(&tar);
    let blob = descriptor(media::OCI_LAYER_GZIP, &layer);
    let mut ingest = store.content().ingest(&blob.digest.to_string(), &blob).unwrap();
    ingest
        .write(&layer[usize::try_from(ingest.offset()).unwrap()..])
        .unwrap();
    ingest.commit().unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]}
    });
    let config = config.to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, config.as_bytes()),
        "layers": [blob],
    });
    let manifest = manifest.to_string();
    store.content().put(config.as_bytes()).unwrap();
    store.content().put(manifest.as_bytes()).unwrap();
    (descriptor(media::OCI_MANIFEST, manifest.as_bytes()), tar)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn unpack(store: &Store, target: &Descriptor) -> Vec<ferry_oci::Digest> {
    let image = store.images().resolve(&target.digest, &Platform::host()).unwrap();
    store.images().unpack(&image, &Limits::default()).unwrap();
    image.diff_ids()
}

#[test]
fn records_are_typed_sorted_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let meta = store.meta();
    let mut batch = Batch::new();
    for n in [3u32, 1, 2] {
        batch.put("a", &format!("k{n}"), &n).unwrap();
    }
    batch.put("ab", "k9", &9u32).unwrap();
    batch.delete("a", "k2").unwrap();
    meta.write(batch, Durability::Durable).unwrap();
    assert_eq!(
        meta.scan::<u32>("a", "").unwrap(),
        [("k1".into(), 1), ("k3".into(), 3)]
    );
    assert_eq!(meta.scan::<u32>("a", "k3").unwrap(), [("k3".into(), 3)]);
    assert!(matches!(
        meta.get::<bool>("a", "k1"),
        Err(StoreError::Corrupt { .. })
    ));
    assert!(meta.put("a\0b", "k", &1u32, Durability::Lazy).is_err());
    meta.put("a", "k1", &10u32, Durability::Lazy).unwrap();
    meta.delete("a", "k3", Durability::Lazy).unwrap();
    assert_eq!(meta.scan::<u32>("a", "").unwrap(), [("k1".into(), 10)]);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.meta().scan::<u32>("a", "").unwrap(), [("k1".into(), 10)]);
    assert_eq!(store.meta().get::<u32>("ab", "k9").unwrap(), Some(9));
}

#[test]
fn writers_at_the_same_time_share_commits_and_readers_never_wait() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (meta, stop) = (store.meta(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let start = Instant::now();
                let rows = meta.scan::<u32>("t", "").unwrap();
                slowest = slowest.max(start.elapsed());
                assert!(rows.iter().all(|(key, value)| *key == format!("{value:04}")));
            }
            slowest
        });
        let writers: Vec<_> = (0..16u32)
            .map(|n| {
                scope.spawn(move || {
                    for i in 0..20 {
                        let value = n * 20 + i;
                        let durability = if i % 2 == 0 {
                            Durability::Durable
                        } else {
                            Durability::Lazy
                        };
                        meta.put("t", &format!("{value:04}"), &value, durability).unwrap();
                        assert_eq!(meta.get::<u32>("t", &format!("{value:04}")).unwrap(), Some(value));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        println!("slowest scan: {:?}", reader.join().unwrap());
    });
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.meta().scan::<u32>("t", "").unwrap().len(), 320);
}

#[test]
fn lost_records_are_set_aside_and_names_come_back() {
    for damage in ["garbage", "a flipped page", "empty head"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (kept, _) = image(&store, "kept");
        let (lost, _) = image(&store, "lost");
        store.images().set(&name("kept:1"), &kept).unwrap();
        store.images().set(&name("gone:1"), &kept).unwrap();
        store.images().set(&name("lost:1"), &lost).unwrap();
        store.images().remove(&name("gone:1")).unwrap();
        store.content().remove(&lost.digest).unwrap();
        drop(store);
        let path = dir.path().join("meta.redb");
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            "garbage" => bytes = b"not a database at all".repeat(400),
            "a flipped page" => bytes.iter_mut().skip(4096).for_each(|b| *b ^= 0x55),
            _ => bytes[..4096].fill(0),
        }
        fs::write(&path, bytes).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let warnings = store.warnings().join("\n");
        assert!(
            warnings.contains("set aside") || warnings.contains("quarantine/"),
            "{damage}: {warnings}"
        );
        assert!(
            store.meta().was_rebuilt() && warnings.contains("lost:1"),
            "{damage}: {warnings}"
        );
        let names: Vec<String> = store
            .images()
            .list()
            .unwrap()
            .iter()
            .map(|r| r.reference.as_ref().unwrap().familiar())
            .collect();
        assert_eq!(names, ["kept:1"], "{damage}");
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert!(
            !store.meta().was_rebuilt() && store.warnings().is_empty(),
            "{damage}"
        );
    }
}

#[test]
fn names_move_and_ids_are_found_by_their_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let images = store.images();
    let ((one, _), (two, _)) = (image(&store, "1"), image(&store, "2"));
    assert_eq!(images.set(&name("app"), &one).unwrap(), None);
    assert_eq!(images.get(&name("app:latest")).unwrap().target, one);
    assert_eq!(images.set(&name("app"), &two).unwrap(), Some(one.clone()));
    // The old one has lost its only name and stays without.
    let records = images.list().unwrap();
    assert_eq!(records.len(), 2);
    assert!(records.iter().any(|r| r.reference.is_none() && r.target == one));
    assert_eq!(images.find(&one.digest.hex()[..12]).unwrap().target, one);
    assert_eq!(images.find(&one.digest.to_string()).unwrap().target, one);
    assert_eq!(images.find("app").unwrap().target, two);
    let pinned = name("app").with_digest(two.digest.clone());
    assert_eq!(images.get(&pinned).unwrap().target, two);
    assert!(
        images
            .get(&name("app").with_digest(one.digest.clone()))
            .unwrap_err()
            .is_not_found()
    );
    // Named again, it is no unnamed one any more.
    images.set(&name("old:1"), &one).unwrap();
    assert!(images.list().unwrap().iter().all(|r| r.reference.is_some()));
    assert!(images.find("nope").unwrap_err().is_not_found());
    assert!(images.remove(&name("nope")).unwrap_err().is_not_found());
    let missing = descriptor(media::OCI_MANIFEST, b"nowhere");
    assert!(images.set(&name("x"), &missing).unwrap_err().is_not_found());
    let arm = "linux/arm64".parse().unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
        {"mediaType": media::OCI_MANIFEST, "digest": one.digest, "size": one.size,
         "platform": {"os": "linux", "architecture": "amd64"}}]});
    let digest = store.content().put(index.to_string().as_bytes()).unwrap();
    let resolved = images.resolve(&digest, &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!(
        (resolved.index, resolved.manifest_digest),
        (Some(digest.clone()), one.digest)
    );
    match images.resolve(&digest, &arm) {
        Err(StoreError::NoPlatform { wanted, offered, .. }) => {
            assert_eq!(
                (wanted.as_str(), offered.as_slice()),
                ("linux/arm64", &["linux/amd64".to_owned()][..])
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn gc_takes_what_nobody_refers_to_and_nothing_else() {
    if !ferry_testkit::is_root("gc") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (named, _) = image(&store, "named");
    let (running, _) = image(&store, "running");
    let (dead, _) = image(&store, "dead");
    let running_layers = unpack(&store, &running);
    let named_layers = unpack(&store, &named);
    let dead_layers = unpack(&store, &dead);
    store.images().set(&name("named"), &named).unwrap();
    store.layers().prepare("c1", &running_layers).unwrap();
    let roots = GcRoots {
        images: vec![running.digest.clone()],
        ..GcRoots::default()
    };
    let report = store.gc(&roots).unwrap();
    assert_eq!(
        (report.blobs, report.layers, report.problems.clone()),
        (3, 1, vec![]),
        "{report:?}"
    );
    assert!(!store.layers().has(&dead_layers[0]) && !store.content().contains(&dead.digest));
    assert!(store.layers().has(&named_layers[0]) && store.layers().has(&running_layers[0]));
    // A layer that a snapshot stands on stays, though its image goes.
    let report = store.gc(&GcRoots::default()).unwrap();
    assert_eq!((report.blobs, report.layers), (3, 0));
    assert!(store.layers().mounts("c1").is_ok());
    store.layers().remove("c1").unwrap();
    assert_eq!(store.gc(&GcRoots::default()).unwrap().layers, 1);
    // Work in progress is spared, whether it was made or only looked at.
    let lease = store.leases().acquire();
    let (fresh, _) = image(&store, "fresh");
    assert_eq!(store.gc(&GcRoots::default()).unwrap().blobs, 0);
    drop(lease);
    let lease = store.leases().acquire();
    assert!(store.content().contains(&fresh.digest));
    assert_eq!(store.gc(&GcRoots::default()).unwrap().blobs, 2);
    assert!(store.content().contains(&fresh.digest));
    drop(lease);
    assert_eq!(store.gc(&GcRoots::default()).unwrap().blobs, 1);
    let usage = store.usage().unwrap();
    assert_eq!((usage.blobs, usage.layers, usage.ingest_bytes), (3, 1, 0));
}

#[test]
fn damaged_objects_are_set_aside_and_come_back() {
    if !ferry_testkit::is_root("damaged objects") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (target, tar) = image(&store, "x");
    let layers = unpack(&store, &target);
    store.images().set(&name("x"), &target).unwrap();
    drop(store);
    let layer = dir.path().join("layers").join(layers[0].hex());
    fs::write(layer.join("layer.json"), b"{").unwrap();
    fs::create_dir(dir.path().join("blobs/sha256/not-a-blob")).unwrap();
    fs::write(dir.path().join("staging/torn"), b"half").unwrap();
    fs::create_dir(dir.path().join("layers").join(digest(b"torn").hex())).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let warnings = store.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 0);
    let image = store.images().resolve(&target.digest, &Platform::host()).unwrap();
    assert!(!store.images().is_unpacked(&image));
    store.images().unpack(&image, &Limits::default()).unwrap();
    assert!(store.images().is_unpacked(&image));
    // A blob that rots is noticed when it is read, and can come again.
    let path = dir.path().join("blobs/sha256").join(target.digest.hex());
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[10] ^= 1;
    fs::write(&path, &bad).unwrap();
    let error = store
        .images()
        .resolve(&target.digest, &Platform::host())
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(!store.content().contains(&target.digest) && store.warnings().len() == 3);
    store.content().put_as(&target.digest, &good).unwrap();
    assert!(store.content().put_as(&target.digest, &bad).is_err());
    assert!(store.images().resolve(&target.digest, &Platform::host()).is_ok());
    assert!(tar.len() > 512);
}

#[test]
fn ingests_verify_resume_and_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let content = store.content();
    let blob = descriptor("x", b"0123456789");
    let key = blob.digest.to_string();
    let mut ingest = content.ingest(&key, &blob).unwrap();
    ingest.write(b"0123").unwrap();
    assert!(matches!(
        ingest.commit(),
        Err(StoreError::Truncated {
            expected: 10,
            actual: 4,
            ..
        })
    ));
    let mut ingest = content.ingest(&key, &blob).unwrap();
    assert_eq!(ingest.offset(), 4);
    assert!(matches!(
        ingest.write(b"4567890"),
        Err(StoreError::TooLarge { .. })
    ));
    ingest.write(b"4567xx").unwrap();
    assert!(matches!(ingest.commit(), Err(StoreError::DigestMismatch { .. })));
    let mut ingest = content.ingest(&key, &blob).unwrap();
    assert_eq!(ingest.offset(), 0, "what did not verify is not resumed");
    ingest.write(b"01").unwrap();
    ingest.restart().unwrap();
    std::thread::scope(|scope| {
        // Waits for its turn and then finds the blob there.
        let second = scope.spawn(|| {
            let ingest = content.ingest(&key, &blob).unwrap();
            assert_eq!(ingest.offset(), 10);
            ingest.commit().unwrap();
        });
        std::thread::sleep(Duration::from_millis(50));
        ingest.write(b"0123456789").unwrap();
        ingest.commit().unwrap();
        second.join().unwrap();
    });
    assert_eq!(content.read(&blob.digest, 10).unwrap(), b"0123456789");
    assert!(matches!(
        content.read(&blob.digest, 9),
        Err(StoreError::TooLarge { .. })
    ));
    assert!(content.read(&digest(b"absent"), 10).unwrap_err().is_not_found());
    let lie = Descriptor {
        size: 11,
        ..blob.clone()
    };
    assert!(matches!(
        content.ingest("lie", &lie),
        Err(StoreError::Invalid { .. })
    ));
    assert!(matches!(
        content.ingest("../x", &blob),
        Err(StoreError::Invalid { .. })
    ));
    let empty = descriptor("x", b"");
    content.ingest("empty", &empty).unwrap().commit().unwrap();
    assert_eq!(content.size(&empty.digest).unwrap(), 0);
}

#[test]
fn nobody_else_may_look_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mode = |path: &Path| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap()) & 0o777;
    assert_eq!(mode(store.root()), 0o700);
    for part in fs::read_dir(store.root()).unwrap() {
        assert_eq!(mode(&part.unwrap().path()) & 0o077, 0);
    }
}
