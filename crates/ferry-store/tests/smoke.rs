//! From blobs to a mounted-looking root, and back after a restart.

use crate::tarball::{Tar, descriptor, digest, gzip};
use ferry_oci::media::{self, Compression};
use ferry_oci::{Platform, Reference};
use ferry_store::{Durability, Limits, Store};
use std::fs;

#[test]
fn an_image_from_blobs_to_a_snapshot_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    let tar = Tar::new()
        .dir("etc/")
        .file("etc/motd", b"hello\n")
        .symlink("bin", "usr/bin")
        .finish();
    let layer = gzip(&tar);
    let layer_descriptor = descriptor(media::OCI_LAYER_GZIP, &layer);
    let mut ingest = store
        .content()
        .ingest(&layer_descriptor.digest.to_string(), &layer_descriptor)
        .unwrap();
    ingest.write(&layer[..10]).unwrap();
    drop(ingest);
    let mut ingest = store
        .content()
        .ingest(&layer_descriptor.digest.to_string(), &layer_descriptor)
        .unwrap();
    assert_eq!(ingest.offset(), 10);
    ingest.write(&layer[10..]).unwrap();
    ingest.commit().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&tar)
    );
    let config_digest = store.content().put(config.as_bytes()).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config_digest}","size":{}}},"layers":[{}]}}"#,
        media::OCI_MANIFEST,
        media::OCI_CONFIG,
        config.len(),
        serde_json::to_string(&layer_descriptor).unwrap()
    );
    let target = descriptor(media::OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(store.content().put(manifest.as_bytes()).unwrap(), target.digest);
    let image = store
        .images()
        .resolve(&target.digest, &"linux/amd64".parse::<Platform>().unwrap())
        .unwrap();
    assert_eq!(image.layers[0].compression, Compression::Gzip);
    store.images().unpack(&image, &Limits::default()).unwrap();
    let name: Reference = "app:1".parse().unwrap();
    store.images().set(&name, &target).unwrap();
    let mounts = store.layers().prepare("c1", &image.diff_ids()).unwrap();
    fs::write(mounts.upper.join("new"), b"x").unwrap();
    store
        .meta()
        .put("containers", "c1", &"a record", Durability::Lazy)
        .unwrap();
    assert_eq!(
        store.meta().get::<String>("containers", "c1").unwrap().as_deref(),
        Some("a record")
    );
    drop(store);

    let store = Store::open(&root).unwrap();
    assert_eq!(store.warnings(), Vec::<String>::new());
    assert_eq!(store.images().find(target.digest.short()).unwrap().target, target);
    assert_eq!(store.images().get(&name).unwrap().target, target);
    assert!(store.images().is_unpacked(&image));
    assert_eq!(
        store.meta().get::<String>("containers", "c1").unwrap().as_deref(),
        Some("a record")
    );
    let mounts = store.layers().mounts("c1").unwrap();
    assert_eq!(fs::read(mounts.lowers[0].join("etc/motd")).unwrap(), b"hello\n");
    assert_eq!(
        fs::read_link(mounts.lowers[0].join("bin")).unwrap().to_str(),
        Some("usr/bin")
    );
    let changes = store.layers().changes("c1").unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].kind.letter(), changes[0].path.to_str()),
        ('A', Some("/new"))
    );
    store.layers().remove("c1").unwrap();
    store.layers().empty_trash().unwrap();
    assert!(store.layers().mounts("c1").unwrap_err().is_not_found());
    assert!(matches!(
        Store::open(&root),
        Err(ferry_store::StoreError::Locked { .. })
    ));
}
