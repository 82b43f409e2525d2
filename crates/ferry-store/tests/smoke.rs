//! From blobs to a container's root, and all of it again after a restart.

use crate::records::image;
use crate::tarball::descriptor;
use ferry_oci::media::Compression;
use ferry_oci::{Platform, Reference};
use ferry_store::{Durability, Limits, Store, StoreError};
use std::fs;

#[test]
fn an_image_from_blobs_to_a_snapshot_and_after_a_restart() {
    if !ferry_testkit::is_root("an image from blobs to a snapshot") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    let (target, _) = image(&store, "hello");
    let resolved = store.images().resolve(&target.digest, &Platform::host()).unwrap();
    assert_eq!(resolved.layers[0].compression, Compression::Gzip);
    store.images().unpack(&resolved, &Limits::default()).unwrap();
    let name: Reference = "app:1".parse().unwrap();
    store.images().set(&name, &target).unwrap();
    let before = store.layers().prepare("c1", &resolved.diff_ids()).unwrap();
    fs::write(before.upper.join("new"), b"x").unwrap();
    store
        .meta()
        .put("containers", "c1", &"a record", Durability::Lazy)
        .unwrap();
    let blob = descriptor("x", b"0123456789");
    store
        .content()
        .ingest("half", &blob)
        .unwrap()
        .write(b"01234")
        .unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::Locked { .. })));
    drop(store);

    let store = Store::open(&root).unwrap();
    assert_eq!(store.warnings(), Vec::<String>::new());
    assert_eq!(store.images().find(target.digest.short()).unwrap().target, target);
    assert_eq!(store.images().get(&name).unwrap().target, target);
    assert!(store.images().is_unpacked(&resolved));
    let record: Option<String> = store.meta().get("containers", "c1").unwrap();
    assert_eq!(record.as_deref(), Some("a record"));
    assert_eq!(store.content().ingest("half", &blob).unwrap().offset(), 5);
    let mounts = store.layers().mounts("c1").unwrap();
    assert_eq!(mounts, before);
    assert_eq!(fs::read(mounts.lowers[0].join("marker")).unwrap(), b"hello");
    let changes = store.layers().changes("c1").unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].kind.letter(), changes[0].path.to_str()),
        ('A', Some("/new"))
    );
    store.layers().remove("c1").unwrap();
    store.layers().empty_trash().unwrap();
    assert!(store.layers().mounts("c1").unwrap_err().is_not_found());
}
