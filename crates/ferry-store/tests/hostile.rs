//! Tables of layers that mean harm, and of layers that only look like it.

use crate::tarball::{Head, Tar, head};

/// What it is, the tar, and a word of the error.
pub type Refused = (&'static str, Vec<u8>, &'static str);

/// Tars that must be refused.
pub fn refused(canary: &str) -> Vec<Refused> {
    [
        climbing(canary),
        hard_links(canary),
        odd_parents_and_whiteouts(),
        beyond_limits(),
        malformed(),
    ]
    .concat()
}

/// An entry whose name is in a PAX record.
fn long(name: &[u8]) -> Vec<u8> {
    Tar::new().pax(&[("path", name)]).file("x", b"evil").finish()
}

/// An empty entry that claims a size.
fn claims(kind: u8, size: u64) -> Tar {
    Tar::new().append(
        &Head {
            size: Some(size),
            ..head(kind, "x")
        },
        b"x",
    )
}

/// Names that climb out.
fn climbing(canary: &str) -> Vec<Refused> {
    let up = format!("{}{}", "../".repeat(40), &canary[1..]);
    vec![
        (
            "dot dot",
            Tar::new().file(&format!("{up}/evil"), b"evil").finish(),
            "..",
        ),
        (
            "dot dot after a directory",
            Tar::new().file("a/../../evil", b"evil").finish(),
            "..",
        ),
        (
            "absolute dot dot",
            Tar::new().file("/../../evil", b"evil").finish(),
            "..",
        ),
        ("dot dot by pax", long(format!("{up}/evil").as_bytes()), ".."),
        ("dot dot directory", Tar::new().dir("../evil/").finish(), ".."),
        (
            "dot dot symlink",
            Tar::new().symlink("../evil", "x").finish(),
            "..",
        ),
        (
            "dot dot device",
            Tar::new().device(b'3', "../evil", (1, 3)).finish(),
            "..",
        ),
        (
            "whiteout above",
            Tar::new().file("../.wh.file", b"").finish(),
            "..",
        ),
    ]
}

/// Hard links to elsewhere, and roots that are none.
fn hard_links(canary: &str) -> Vec<Refused> {
    let up = format!("{}{}", "../".repeat(40), &canary[1..]);
    vec![
        (
            "hard link out by dot dot",
            Tar::new().hard_link("a", &format!("{up}/file")).finish(),
            "..",
        ),
        (
            "hard link out by absolute path",
            Tar::new().hard_link("a", &format!("{canary}/file")).finish(),
            "not in this layer",
        ),
        (
            "hard link out through a link",
            Tar::new()
                .symlink("out", canary)
                .hard_link("a", "out/file")
                .finish(),
            "not in this layer",
        ),
        (
            "hard link to nothing",
            Tar::new().hard_link("a", "b").finish(),
            "not in this layer",
        ),
        (
            "hard link to a directory",
            Tar::new().dir("d/").hard_link("a", "d").finish(),
            "directory",
        ),
        (
            "hard link to the root",
            Tar::new().hard_link("a", ".").finish(),
            "root",
        ),
        (
            "hard link to a whiteout",
            Tar::new().file(".wh.w", b"").hard_link("a", "w").finish(),
            "not in this layer",
        ),
        ("root as a link", Tar::new().symlink(".", canary).finish(), "root"),
        ("root as a file", Tar::new().file("./", b"evil").finish(), "root"),
        (
            "root as a device",
            Tar::new().device(b'4', "/", (8, 0)).finish(),
            "root",
        ),
    ]
}

/// Parents that are none, and whiteouts of nothing.
fn odd_parents_and_whiteouts() -> Vec<Refused> {
    vec![
        (
            "a link loop as parent",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", b"e")
                .finish(),
            "link",
        ),
        (
            "a file as parent",
            Tar::new().file("a", b"1").file("a/b", b"2").finish(),
            "no directory",
        ),
        (
            "beneath a whiteout",
            Tar::new().file(".wh.a/b", b"2").finish(),
            "whiteout",
        ),
        (
            "whiteout of nothing",
            Tar::new().file("a/.wh.", b"").finish(),
            "whiteout",
        ),
        (
            "whiteout of dot",
            Tar::new().file("a/.wh..", b"").finish(),
            "whiteout",
        ),
        (
            "whiteout of dot dot",
            Tar::new().file("a/.wh...", b"").finish(),
            "whiteout",
        ),
        (
            "a link without target",
            Tar::new().symlink("a", "").finish(),
            "target",
        ),
    ]
}

/// More than may be.
fn beyond_limits() -> Vec<Refused> {
    vec![
        ("a name too long", long(&[b'n'; 300]), "255"),
        (
            "a path too long",
            long("d/".repeat(100).repeat(21).as_bytes()),
            "deeper",
        ),
        ("too deep", long("d/".repeat(300).as_bytes()), "deeper"),
        (
            "unknown type",
            Tar::new().append(&head(b'V', "volume"), b"").finish(),
            "type",
        ),
        (
            "contiguous file",
            Tar::new().append(&head(b'7', "old"), b"").finish(),
            "type",
        ),
        (
            "user id too large",
            Tar::new().pax(&[("uid", b"4294967295")]).file("a", b"").finish(),
            "id",
        ),
        (
            "negative user id",
            Tar::new().pax(&[("uid", b"-1")]).file("a", b"").finish(),
            "id",
        ),
        (
            "negative size",
            Tar::new().pax(&[("size", b"-5")]).file("a", b"").finish(),
            "size",
        ),
    ]
}

/// What is no tar.
fn malformed() -> Vec<Refused> {
    vec![
        (
            "broken pax",
            Tar::new()
                .append(&head(b'x', "x"), b"999999 path=a\n")
                .file("a", b"")
                .finish(),
            "PAX",
        ),
        (
            "nul in a pax path",
            Tar::new().pax(&[("path", b"a\0b")]).file("a", b"").finish(),
            "PAX",
        ),
        ("pax header too large", claims(b'x', 2 << 20).finish(), "1 MiB"),
        ("long name too large", claims(b'L', 1 << 40).finish(), "1 MiB"),
        ("truncated", claims(b'0', 9999).bytes, "middle"),
        (
            "a broken checksum",
            Tar::new().file("a", b"").bytes.iter().map(|b| b ^ 1).collect(),
            "number",
        ),
        (
            "sparse beyond its size",
            sparse(b"0,10,5,10", b"2", b"20"),
            "overlaps",
        ),
        ("sparse with less data", sparse(b"0,10,20,10", b"2", b"30"), "fit"),
    ]
}

fn sparse(map: &[u8], blocks: &[u8], size: &[u8]) -> Vec<u8> {
    Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.map", map),
            ("GNU.sparse.numblocks", blocks),
            ("GNU.sparse.size", size),
        ])
        .file("s", b"12345")
        .finish()
}

/// Tars that seem to leave, and the name of what they make inside, at the place to which they point.
pub fn harmless(out: &str) -> Vec<Refused> {
    [through_links(out), marks_through_links(out)].concat()
}

fn through_links(out: &str) -> Vec<Refused> {
    let up = format!("{}{}", "../".repeat(12), &out[1..]);
    vec![
        (
            "absolute name",
            Tar::new().file(&format!("{out}/evil"), b"evil").finish(),
            "evil",
        ),
        (
            "absolute link as parent",
            Tar::new().symlink("a", out).file("a/evil", b"evil").finish(),
            "evil",
        ),
        (
            "climbing link as parent",
            Tar::new().symlink("a", &up).file("a/evil", b"evil").finish(),
            "evil",
        ),
        (
            "link to a link as parent",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", out)
                .dir("a/evil/")
                .finish(),
            "evil",
        ),
        (
            "hard link to a link, then through it",
            Tar::new()
                .symlink("l", out)
                .hard_link("h", "l")
                .file("h/evil", b"evil")
                .finish(),
            "evil",
        ),
        (
            "link that replaces a directory",
            Tar::new()
                .dir("a/")
                .file("a/x", b"1")
                .symlink("a", out)
                .file("a/evil", b"evil")
                .finish(),
            "evil",
        ),
    ]
}

fn marks_through_links(out: &str) -> Vec<Refused> {
    let owned = Head {
        mode: 0o777,
        uid: 99,
        ..head(b'5', "a/")
    };
    let inside = &out[1..];
    vec![
        (
            "whiteout through a link",
            Tar::new().symlink("a", out).file("a/.wh.file", b"").finish(),
            "file",
        ),
        (
            "opaque mark through a link",
            Tar::new()
                .symlink("a", out)
                .file("a/.wh..wh..opq", b"")
                .file("a/evil", b"e")
                .finish(),
            "evil",
        ),
        (
            "directory attributes through a link",
            Tar::new()
                .symlink("a", out)
                .append(&owned, b"")
                .file(&format!("{inside}/evil"), b"e")
                .finish(),
            "evil",
        ),
    ]
}
