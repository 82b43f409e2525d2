//! A full disk: a clear error, nothing half-made, and deleting still works.

use crate::tarball::{Tar, descriptor, digest, noise};
use ferry_oci::media::{self, Compression};
use ferry_store::{Durability, GcRoots, Limits, Store, StoreError};
use ferry_testkit::World;
use rustix::mount::{MountFlags, mount};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Runs `work` on a file system of this many MiB that nobody else sees.
fn on_small_disk(mebibytes: u32, work: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let options = std::ffi::CString::new(format!("size={mebibytes}m")).unwrap();
    World::new()
        .unwrap()
        .enter(|| {
            mount(
                "tmpfs",
                dir.path(),
                "tmpfs",
                MountFlags::empty(),
                Some(options.as_c_str()),
            )?;
            work(dir.path());
            Ok(())
        })
        .unwrap();
}

fn free(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Takes all the space that is left.
fn fill(dir: &Path) {
    let mut file = File::create(dir.join("filler")).unwrap();
    let block = [1u8; 4096];
    while file.write_all(&block).is_ok() {}
}

#[test]
fn a_layer_that_does_not_fit_leaves_nothing() {
    if !ferry_testkit::is_root("a full disk under a layer") {
        return;
    }
    on_small_disk(24, |disk| {
        let store = Store::open(&disk.join("store")).unwrap();
        let before = free(disk);
        let tar = (0..40)
            .fold(Tar::new(), |tar, n| {
                tar.file(&format!("f{n}"), &noise(n, 1 << 20))
            })
            .finish();
        for limits in [
            Limits {
                min_free: 0,
                ..Limits::default()
            },
            Limits::default(),
        ] {
            let error = store
                .layers()
                .apply(&digest(&tar), Compression::None, &mut &*tar, &limits)
                .unwrap_err();
            assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
            assert!(error.to_string().starts_with("no space left for "), "{error}");
            assert!(
                free(disk) + (64 << 10) >= before,
                "{} of {before} bytes are back",
                free(disk)
            );
        }
        let blob = noise(99, 40 << 20);
        let mut ingest = store
            .content()
            .ingest("big", &descriptor(media::OCI_LAYER, &blob))
            .unwrap();
        let error = blob
            .chunks(1 << 20)
            .find_map(|chunk| ingest.write(chunk).err())
            .unwrap();
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
        ingest.discard().unwrap();
        assert!(matches!(
            store.content().put_stream(&mut &*blob, 1 << 40),
            Err(StoreError::NoSpace { .. })
        ));
        assert!(free(disk) + (64 << 10) >= before);
        store.content().put(b"small").unwrap();
    });
}

#[test]
fn a_full_disk_still_lets_things_be_deleted_and_records_come_back() {
    if !ferry_testkit::is_root("a full disk under the records") {
        return;
    }
    on_small_disk(32, |disk| {
        let store = Store::open(&disk.join("store")).unwrap();
        let digest = store.content().put(&noise(1, 4 << 20)).unwrap();
        store
            .meta()
            .put("t", "kept", &"before", Durability::Durable)
            .unwrap();
        fill(disk);
        let big = "x".repeat(6 << 20);
        let error = store
            .meta()
            .put("t", "big", &big, Durability::Durable)
            .unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
        assert_eq!(store.meta().get::<String>("t", "big").unwrap(), None);
        assert_eq!(
            store.meta().get::<String>("t", "kept").unwrap().as_deref(),
            Some("before")
        );
        store.meta().put("t", "lazy", &"waits", Durability::Lazy).unwrap();
        assert!(matches!(store.meta().flush(), Err(StoreError::NoSpace { .. })));
        store.meta().delete("t", "kept", Durability::Durable).unwrap();
        assert_eq!(
            store.meta().scan::<String>("t", "").unwrap(),
            [("lazy".into(), "waits".into())]
        );
        let report = store.gc(&GcRoots::default()).unwrap();
        assert_eq!(
            (report.blobs, report.blob_bytes, report.problems),
            (1, 4 << 20, vec![])
        );
        assert!(!store.content().contains(&digest));
        store
            .meta()
            .put("t", "small", &"after", Durability::Durable)
            .unwrap();
        fs::remove_file(disk.join("filler")).unwrap();
        store.meta().put("t", "big", &big, Durability::Durable).unwrap();
        drop(store);
        let store = Store::open(&disk.join("store")).unwrap();
        assert_eq!(store.warnings(), Vec::<String>::new());
        assert_eq!(
            store.meta().get::<String>("t", "small").unwrap().as_deref(),
            Some("after")
        );
        assert_eq!(
            store.meta().get::<String>("t", "big").unwrap().unwrap().len(),
            6 << 20
        );
    });
}
