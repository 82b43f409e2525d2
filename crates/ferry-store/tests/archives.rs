//! Archives in every form that other tools write, and what they make of ours.

use crate::tarball::{Tar, descriptor, digest, gzip};
use ferry_oci::{Platform, Reference, media};
use ferry_store::archive::{load, save};
use ferry_store::{Limits, Mounts, Store, StoreError};
use ferry_testkit::World;
use rustix::mount::{MountFlags, mount};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether every tool is there; prints which is not.
fn have(tools: &[&str]) -> bool {
    let missing = tools.iter().find(|tool| {
        !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|dir| dir.join(tool).is_file())
    });
    if let Some(tool) = missing {
        println!("SKIPPED archives of other tools: {tool} is not installed");
    }
    missing.is_none()
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
}

fn open(dir: &Path, name: &str) -> Store {
    Store::open(&dir.join(name)).unwrap()
}

fn load_file(store: &Store, path: &Path) -> Vec<ferry_store::archive::LoadedImage> {
    load(store, &mut File::open(path).unwrap(), &Limits::default()).unwrap()
}

/// Every path with what it is.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                t if t.is_file() => digest(&fs::read(&path).unwrap()).to_string(),
                t if t.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                _ => String::new(),
            };
            let times = if meta.is_dir() { 0 } else { meta.mtime() };
            let text = format!(
                "{:o} {}:{} {} {times} {content}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.rdev()
            );
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), text);
            if meta.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// Makes an OCI layout with two layers from the machine's own busybox.
fn busybox_layout(dir: &Path) -> PathBuf {
    let layout = dir.join("layout");
    let (image, bundle) = (format!("{}:latest", layout.display()), dir.join("bundle"));
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let root = bundle.join("rootfs");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    fs::create_dir_all(root.join("etc/gone")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    run(
        "umoci",
        &[
            "repack",
            "--image",
            &image,
            "--refresh-bundle",
            bundle.to_str().unwrap(),
        ],
    );
    fs::remove_dir(root.join("etc/gone")).unwrap();
    fs::write(root.join("etc/motd"), "second layer\n").unwrap();
    std::os::unix::fs::chown(root.join("etc/motd"), Some(1000), Some(100_000)).unwrap();
    run("umoci", &["repack", "--image", &image, bundle.to_str().unwrap()]);
    layout
}

#[test]
fn what_skopeo_and_umoci_write_is_read_and_what_we_write_they_read() {
    let root = ferry_testkit::is_root("archives of other tools");
    if !root || !have(&["umoci", "skopeo"]) || !Path::new("/bin/busybox").exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let layout = busybox_layout(dir);
    // Unpacked again, since a layer's times are rounded to seconds.
    let (image, fresh) = (format!("{}:latest", layout.display()), dir.join("fresh"));
    run("umoci", &["unpack", "--image", &image, fresh.to_str().unwrap()]);
    let reference_tree = tree(&fresh.join("rootfs"));
    let source = format!("oci:{}:latest", layout.display());
    let skopeo = |target: String| {
        run(
            "skopeo",
            &["--insecure-policy", "copy", "--quiet", &source, &target],
        )
    };
    skopeo(format!(
        "docker-archive:{}:bb:docker",
        dir.join("docker.tar").display()
    ));
    skopeo(format!("oci-archive:{}:bb:oci", dir.join("oci.tar").display()));
    run(
        "tar",
        &[
            "-C",
            layout.to_str().unwrap(),
            "-cf",
            dir.join("umoci.tar").to_str().unwrap(),
            ".",
        ],
    );
    run("gzip", &["-k", dir.join("docker.tar").to_str().unwrap()]);
    let store = open(dir, "store");
    for (file, name) in [
        ("docker.tar", "bb:docker"),
        ("docker.tar.gz", "bb:docker"),
        ("oci.tar", "bb:oci"),
        ("umoci.tar", "latest:latest"),
    ] {
        let images = load_file(&store, &dir.join(file));
        assert_eq!(images.len(), 1, "{file}");
        let names: Vec<String> = images[0].references.iter().map(Reference::familiar).collect();
        assert_eq!(names, [name], "{file}");
        let image = store
            .images()
            .resolve(&images[0].target.digest, &Platform::host())
            .unwrap();
        store.images().unpack(&image, &Limits::default()).unwrap();
        store
            .images()
            .set(&images[0].references[0], &images[0].target)
            .unwrap();
        let mounts = store.layers().prepare(file, &image.diff_ids()).unwrap();
        assert_eq!(mounts.lowers.len(), 2, "{file}");
        assert_eq!(mounted(&mounts), reference_tree, "{file}");
    }
    saved_archives_are_read(dir, &store);
}

/// Ours, read by skopeo in both of its forms, and by ourselves.
fn saved_archives_are_read(dir: &Path, store: &Store) {
    let targets: Vec<_> = ["bb:docker", "bb:oci"]
        .map(|name| {
            let reference: Reference = name.parse().unwrap();
            let target = store.images().get(&reference).unwrap().target;
            (Some(reference), target)
        })
        .into();
    let saved = dir.join("saved.tar");
    save(
        store,
        &targets,
        &Platform::host(),
        &mut File::create(&saved).unwrap(),
    )
    .unwrap();
    let archive = format!("docker-archive:{}:bb:docker", saved.display());
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            &archive,
            &format!("dir:{}", dir.join("d1").display()),
        ],
    );
    let archive = format!("oci-archive:{}:oci", saved.display());
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            &archive,
            &format!("dir:{}", dir.join("d2").display()),
        ],
    );
    let other = open(dir, "other");
    let again = load_file(&other, &saved);
    let found: Vec<_> = again
        .iter()
        .map(|i| (Some(i.references[0].clone()), i.target.digest.clone()))
        .collect();
    let wanted: Vec<_> = targets
        .iter()
        .map(|(name, target)| (name.clone(), target.digest.clone()))
        .collect();
    assert_eq!(found, wanted);
}

/// What a container would see.
fn mounted(mounts: &Mounts) -> BTreeMap<PathBuf, String> {
    let dir = tempfile::tempdir().unwrap();
    let lowers: Vec<&str> = mounts.lowers.iter().map(|l| l.to_str().unwrap()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", lowers.join(":"))).unwrap();
    World::new()
        .unwrap()
        .enter(|| {
            mount(
                "overlay",
                dir.path(),
                "overlay",
                MountFlags::RDONLY,
                Some(options.as_c_str()),
            )?;
            Ok(tree(dir.path()))
        })
        .unwrap()
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
    serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string()
        .into_bytes()
}

#[test]
fn the_old_docker_layout_with_links_between_layers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "store");
    let layer = Tar::new().file("a", b"1").finish();
    let config = config_of(&[&layer, &layer, &layer]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["old:1","host:5000/old:2"],"Layers":["one/layer.tar","two/layer.tar","three.tar"]},
        {"Config":"c.json","RepoTags":null,"Layers":["one/layer.tar","one/layer.tar","one/layer.tar"]}]"#;
    let archive = Tar::new()
        .dir("one/")
        .file("one/VERSION", b"1.0")
        .file("one/layer.tar", &layer)
        .symlink("two/layer.tar", "../one/layer.tar")
        .hard_link("three.tar", "one/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", manifest)
        .file("repositories", b"{}")
        .finish();
    for packed in [
        archive.clone(),
        gzip(&archive),
        zstd::encode_all(&archive[..], 1).unwrap(),
    ] {
        let images = load(&store, &mut &*packed, &Limits::default()).unwrap();
        assert_eq!(images.len(), 1, "both entries are the same image");
        let names: Vec<String> = images[0].references.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["old:1", "host:5000/old:2"]);
        assert_eq!(images[0].target.media_type, media::DOCKER_MANIFEST);
        let image = store
            .images()
            .resolve(&images[0].target.digest, &Platform::host())
            .unwrap();
        assert_eq!(image.layers.len(), 3);
    }
}

/// What it is, the archive, and a word of the error.
type Refused = (&'static str, Vec<u8>, &'static str);

/// An archive in Docker's older form with one layer.
fn docker(manifest: &[u8]) -> Vec<u8> {
    let layer = Tar::new().file("a", b"1").finish();
    let config = config_of(&[&layer]);
    Tar::new()
        .file("c.json", &config)
        .file("l.tar", &layer)
        .file("manifest.json", manifest)
        .finish()
}

/// An OCI layout without blobs.
fn oci(index: &str) -> Vec<u8> {
    Tar::new()
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", index.as_bytes())
        .finish()
}

fn not_what_they_say() -> Vec<Refused> {
    vec![
        ("nothing", Vec::new(), "neither"),
        ("no tar", b"this is no tar at all".repeat(60), "archive"),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), "xz"),
        (
            "another tar",
            Tar::new().file("etc/passwd", b"x").finish(),
            "neither",
        ),
        ("broken json", docker(b"[{"), "manifest.json"),
        (
            "no config",
            docker(br#"[{"Config":"x.json","Layers":["l.tar"]}]"#),
            "x.json",
        ),
        (
            "no layer",
            docker(br#"[{"Config":"c.json","Layers":["x.tar"]}]"#),
            "x.tar",
        ),
        (
            "a layer too few",
            docker(br#"[{"Config":"c.json","Layers":[]}]"#),
            "0 layers",
        ),
        (
            "an escape",
            docker(br#"[{"Config":"../../c.json","Layers":["l.tar"]}]"#),
            "..",
        ),
        (
            "a bad name",
            docker(br#"[{"Config":"c.json","RepoTags":["UPPER"],"Layers":["l.tar"]}]"#),
            "UPPER",
        ),
        (
            "layer as config",
            docker(br#"[{"Config":"l.tar","Layers":["l.tar"]}]"#),
            "configuration",
        ),
    ]
}

fn not_whole() -> Vec<Refused> {
    let entry = serde_json::to_string(&descriptor(media::OCI_MANIFEST, b"absent")).unwrap();
    let layer = Tar::new().file("a", b"1").finish();
    let config = config_of(&[&layer]);
    vec![
        (
            "a link loop",
            Tar::new()
                .symlink("l.tar", "m")
                .symlink("m", "l.tar")
                .file("c.json", &config)
                .file("manifest.json", br#"[{"Config":"c.json","Layers":["l.tar"]}]"#)
                .finish(),
            "not in it",
        ),
        (
            "a wrong blob",
            Tar::new()
                .file(&format!("blobs/sha256/{}", digest(b"x").hex()), b"y")
                .finish(),
            "verification",
        ),
        ("a device", Tar::new().device(b'4', "sda", (8, 0)).finish(), "sda"),
        ("cut short", docker(b"[]")[..1400].to_vec(), "middle"),
        (
            "another version",
            Tar::new()
                .file("oci-layout", br#"{"imageLayoutVersion":"9"}"#)
                .finish(),
            "\"9\"",
        ),
        (
            "no index",
            Tar::new()
                .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
                .finish(),
            "index.json",
        ),
        (
            "no blob",
            oci(&format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)),
            "not in it",
        ),
        (
            "a manifest as index",
            oci(r#"{"schemaVersion":2,"layers":[]}"#),
            "index.json",
        ),
        (
            "two meanings",
            oci(r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#),
            "both",
        ),
    ]
}

#[test]
fn bad_archives_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "store");
    for (what, archive, word) in [not_what_they_say(), not_whole()].concat() {
        let error = load(&store, &mut &*archive, &Limits::default()).expect_err(what);
        let text = error.to_string();
        assert!(
            text.contains(word) && !text.contains('\n') && text.len() < 400,
            "{what}: {text}"
        );
        assert!(!matches!(error, StoreError::Io { .. }), "{what}: {error:?}");
    }
    let limits = Limits {
        max_bytes: 1000,
        ..Limits::default()
    };
    assert!(matches!(
        load(&store, &mut &*docker(b"[]"), &limits),
        Err(StoreError::TooLarge { .. })
    ));
    assert_eq!(fs::read_dir(dir.path().join("store/staging")).unwrap().count(), 0);
    assert!(store.images().list().unwrap().is_empty());
}
