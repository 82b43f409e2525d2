//! Layers that mean harm, and layers that only look like it. Whatever they try, a canary beside the store stays as it was.

use crate::hostile::{harmless, refused};
use crate::tarball::{Head, Tar, digest, gzip, head};
use ferry_oci::media::Compression;
use ferry_store::{Limits, Mounts, Store, StoreError};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("canary")).unwrap();
        fs::write(dir.path().join("canary/file"), b"alive").unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    fn apply(&self, tar: &[u8]) -> Result<PathBuf, StoreError> {
        self.apply_with(tar, tar, &Limits::default())
    }

    fn apply_with(&self, tar: &[u8], packed: &[u8], limits: &Limits) -> Result<PathBuf, StoreError> {
        let id = digest(tar);
        self.store
            .layers()
            .apply(&id, Compression::None, &mut &*packed, limits)?;
        let Mounts { lowers, .. } = self.store.layers().prepare("look", &[id])?;
        Ok(lowers.last().unwrap().clone())
    }

    fn check_canary(&self, what: &str) {
        let names: Vec<_> = fs::read_dir(self.canary())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"], "{what}");
        assert_eq!(fs::read(self.canary().join("file")).unwrap(), b"alive", "{what}");
        let meta = fs::metadata(self.canary()).unwrap();
        let file = fs::metadata(self.canary().join("file")).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, file.mode() & 0o7777, file.nlink()),
            (0o755, 0o644, 1),
            "{what}"
        );
        assert_eq!((meta.uid(), file.uid()), (0, 0), "{what}");
    }

    fn check_clean(&self, what: &str) {
        for part in ["staging", "layers"] {
            let left = fs::read_dir(self.dir.path().join("store").join(part))
                .unwrap()
                .count();
            assert_eq!(left, 0, "{what} left something in {part}");
        }
    }
}

#[test]
fn layers_that_mean_harm_are_refused_by_name() {
    if !ferry_testkit::is_root("the corpus of hostile layers") {
        return;
    }
    let fixture = Fixture::new();
    let canary = fixture.canary();
    let corpus = refused(canary.to_str().unwrap());
    assert!(corpus.len() >= 25);
    for (what, tar, word) in corpus {
        for packed in [tar.clone(), gzip(&tar)] {
            let error = fixture
                .apply_with(&tar, &packed, &Limits::default())
                .expect_err(what);
            let kind_fits = matches!(
                error,
                StoreError::InvalidEntry { .. } | StoreError::Invalid { .. } | StoreError::TooLarge { .. }
            );
            let text = error.to_string();
            assert!(
                kind_fits && text.contains(word) && !text.contains('\n'),
                "{what}: {error:?}"
            );
            fixture.check_canary(what);
            fixture.check_clean(what);
        }
    }
}

#[test]
fn what_looks_like_an_escape_stays_inside() {
    if !ferry_testkit::is_root("layers that look hostile") {
        return;
    }
    let fixture = Fixture::new();
    let canary = fixture.canary();
    let out = canary.to_str().unwrap();
    let inside = &out[1..];
    for (what, tar, name) in harmless(out) {
        let fs_root = fixture.apply(&tar).unwrap_or_else(|e| panic!("{what}: {e}"));
        fixture.check_canary(what);
        let kept = fs_root.join(inside).join(name);
        assert!(
            fs::symlink_metadata(&kept).is_ok(),
            "{what}: {} is not inside",
            kept.display()
        );
    }
    // A file over a link replaces the link, and attributes of a link are its own.
    let tar = Tar::new()
        .symlink("l", &format!("{out}/file"))
        .append(
            &Head {
                mode: 0o777,
                uid: 99,
                link: format!("{out}/file").into(),
                ..head(b'2', "m")
            },
            b"",
        )
        .append(
            &Head {
                mode: 0o4777,
                uid: 99,
                ..head(b'0', "l")
            },
            b"mine",
        )
        .finish();
    let root = fixture.apply(&tar).unwrap();
    assert_eq!(fs::read(root.join("l")).unwrap(), b"mine");
    assert_eq!(fs::symlink_metadata(root.join("m")).unwrap().uid(), 99);
    fixture.check_canary("attributes of links");
}

#[test]
fn overlay_marks_from_outside_are_dropped() {
    if !ferry_testkit::is_root("overlay marks in layers") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/../../canary"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.user.kept", b"1"),
        ])
        .dir("d/")
        .finish();
    let dir = fixture.apply(&tar).unwrap().join("d");
    let mut list = [0u8; 4096];
    let n = rustix::fs::listxattr(&dir, &mut list[..]).unwrap();
    let names: Vec<_> = list[..n].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    assert_eq!(names, [b"user.kept"]);
}

#[test]
fn ordinary_oddities_are_understood() {
    if !ferry_testkit::is_root("odd layers") {
        return;
    }
    let fixture = Fixture::new();
    let tar = Tar::new()
        .append(
            &head(b'g', "pax_global_header"),
            b"52 comment=0123456789012345678901234567890123456789\n",
        )
        .append(
            &head(b'L', "././@LongLink"),
            format!("{}\0", "n".repeat(180)).as_bytes(),
        )
        .file("short", b"long name")
        .file(".wh..wh.plnk", b"aufs")
        .device(b'4', "disk", (8, 1))
        .append(&head(b'6', "pipe"), b"")
        .append(
            &Head {
                kind: 0,
                ..head(b'0', "old/")
            },
            b"",
        )
        .append(
            &Head {
                size: Some(4096),
                ..head(b'5', "sized/")
            },
            b"",
        )
        .file("twice", b"first")
        .file("twice", b"second")
        .file("a/../b", b"cleaned")
        .hard_link("b2", "./b")
        .hard_link("b2", "b")
        .finish();
    let root = fixture.apply(&tar).unwrap();
    assert_eq!(fs::read(root.join("n".repeat(180))).unwrap(), b"long name");
    assert!(
        fs::symlink_metadata(root.join("disk"))
            .unwrap()
            .file_type()
            .is_block_device()
    );
    assert!(
        fs::symlink_metadata(root.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(root.join("old").is_dir() && root.join("sized").is_dir() && !root.join(".wh..wh.plnk").exists());
    assert_eq!(fs::read(root.join("twice")).unwrap(), b"second");
    assert_eq!(fs::metadata(root.join("b")).unwrap().nlink(), 2);
}

#[test]
fn sparse_files_have_holes() {
    if !ferry_testkit::is_root("sparse files") {
        return;
    }
    let fixture = Fixture::new();
    let map_1_0 = {
        let mut map = b"2\n0\n3\n1048576\n3\n".to_vec();
        map.resize(512, 0);
        map.extend_from_slice(b"abcxyz");
        map
    };
    let tar = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"one"),
            ("GNU.sparse.realsize", b"2097152"),
        ])
        .file("GNUSparseFile.0/one", &map_1_0)
        .pax(&[
            ("GNU.sparse.size", b"2097152"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"3"),
            ("GNU.sparse.offset", b"1048576"),
            ("GNU.sparse.numbytes", b"3"),
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"0"),
        ])
        .file("nought", b"abcxyz")
        .finish();
    let root = fixture.apply(&tar).unwrap();
    for name in ["one", "nought"] {
        let bytes = fs::read(root.join(name)).unwrap();
        assert_eq!(
            (bytes.len(), &bytes[..4], &bytes[1_048_576..1_048_579]),
            (2 << 20, &b"abc\0"[..], &b"xyz"[..]),
            "{name}"
        );
        assert!(
            fs::metadata(root.join(name)).unwrap().blocks() * 512 < 1 << 20,
            "{name} has no hole"
        );
    }
}

#[test]
fn budgets_hold() {
    if !ferry_testkit::is_root("layer budgets") {
        return;
    }
    let fixture = Fixture::new();
    let zeros = Tar::new().file("zeros", &vec![0; 4 << 20]).finish();
    let bomb = zstd::encode_all(&zeros[..], 3).unwrap();
    let limits = Limits {
        ratio_after: 1 << 20,
        max_ratio: 1100,
        ..Limits::default()
    };
    let error = fixture.apply_with(&zeros, &bomb, &limits).unwrap_err();
    assert!(
        matches!(error, StoreError::TooLarge { .. }) && error.to_string().contains("bomb"),
        "{error}"
    );
    let limits = Limits {
        max_bytes: 1 << 20,
        ..Limits::default()
    };
    assert!(matches!(
        fixture.apply_with(&zeros, &zeros, &limits),
        Err(StoreError::TooLarge { .. })
    ));
    let many = (0..20)
        .fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b""))
        .finish();
    let limits = Limits {
        max_entries: 10,
        ..Limits::default()
    };
    assert!(matches!(
        fixture.apply_with(&many, &many, &limits),
        Err(StoreError::TooLarge { .. })
    ));
    let limits = Limits {
        min_free: u64::MAX,
        ..Limits::default()
    };
    assert!(matches!(
        fixture.apply_with(&many, &many, &limits),
        Err(StoreError::NoSpace { .. })
    ));
    fixture.check_clean("budgets");
}

#[test]
fn every_packing_is_understood_and_a_broken_one_refused() {
    if !ferry_testkit::is_root("packings of layers") {
        return;
    }
    let fixture = Fixture::new();
    let zeros = Tar::new().file("zeros", &vec![0; 4 << 20]).finish();
    let bomb = zstd::encode_all(&zeros[..], 3).unwrap();
    let many = (0..20)
        .fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b""))
        .finish();
    // gzip may come in several members.
    let limits = Limits {
        max_ratio: 1_000_000,
        ..Limits::default()
    };
    fixture.apply_with(&zeros, &bomb, &limits).unwrap();
    let members = [gzip(&many[..512]), gzip(&many[512..])].concat();
    fixture.apply_with(&many, &members, &Limits::default()).unwrap();
    for broken in [
        &gzip(&zeros)[..100],
        &bomb[..40],
        b"\xfd7zXZ\0and so on",
        b"BZh91AY&SY",
    ] {
        let error = fixture
            .apply_with(b"another", broken, &Limits::default())
            .unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    }
}

#[test]
fn a_failing_source_is_told_from_a_broken_layer() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable was cut"))
        }
    }
    let fixture = Fixture::new();
    let tar = gzip(&Tar::new().file("a", &[1; 5000]).finish());
    let mut source = std::io::Read::chain(&tar[..20], Failing);
    let id = digest(b"whatever");
    let error = fixture
        .store
        .layers()
        .apply(&id, Compression::Gzip, &mut source, &Limits::default())
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Io { .. }) && error.to_string().contains("cable"),
        "{error:?}"
    );
    assert!(fixture.store.root().starts_with(Path::new("/")));
}
