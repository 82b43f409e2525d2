//! The reader against its own writer, against noise, and against GNU tar.

use super::{Entry, Header, Kind, Reader, TarError, Writer};
use proptest::prelude::*;
use std::process::{Command, Stdio};

type Read = (Vec<(Entry, Vec<(u64, Vec<u8>)>)>, Option<TarError>);

/// Everything in a tar up to its end or its error.
fn read(bytes: &[u8]) -> Read {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    loop {
        let entry = match reader.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (entries, None),
            Err(e) => return (entries, Some(e)),
        };
        let mut data: Vec<(u64, Vec<u8>)> = Vec::new();
        let taken = reader.data(|offset, chunk| {
            match data.last_mut() {
                Some((start, bytes)) if *start + bytes.len() as u64 == offset => {
                    bytes.extend_from_slice(chunk)
                }
                _ => data.push((offset, chunk.to_vec())),
            }
            Ok::<(), TarError>(())
        });
        entries.push((entry, data));
        if let Err(e) = taken {
            return (entries, Some(e));
        }
    }
}

fn write(headers: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for (header, data) in headers {
        tar.header(header).unwrap();
        tar.data(data).unwrap();
        tar.pad(header.size).unwrap();
    }
    tar.finish().unwrap()
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::collection::vec(1u8..=255, 1..20),
        1 => prop::collection::vec(b'a'..=b'z', 90..160),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| {
        let clean = |p: Vec<u8>| {
            p.into_iter()
                .map(|b| if b == b'/' { b'_' } else { b })
                .collect::<Vec<_>>()
        };
        parts.into_iter().map(clean).collect::<Vec<_>>().join(&b'/')
    })
}

prop_compose! {
    fn header()(
        path in name(),
        link in name(),
        kind in prop_oneof![
            Just(Kind::File), Just(Kind::Symlink), Just(Kind::HardLink), Just(Kind::Directory),
            Just(Kind::CharDevice), Just(Kind::BlockDevice), Just(Kind::Fifo)
        ],
        mode in 0u32..0o10000,
        ids in (0u32..u32::MAX, 0u32..u32::MAX),
        mtime in prop_oneof![0i64..2_000_000_000, any::<i32>().prop_map(i64::from), 0i64..1 << 40],
        device in (0u32..4096, 0u32..1 << 20),
        data in prop::collection::vec(any::<u8>(), 0..1500),
        xattrs in prop::collection::btree_map("[a-z]{1,8}", prop::collection::vec(any::<u8>(), 1..40), 0..3),
    ) -> (Header, Vec<u8>) {
        let data = if kind == Kind::File { data } else { Vec::new() };
        let link = if matches!(kind, Kind::Symlink | Kind::HardLink) { link } else { Vec::new() };
        let device = if matches!(kind, Kind::CharDevice | Kind::BlockDevice) { device } else { (0, 0) };
        let xattrs = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
        let header = Header {
            path, link, kind, mode, uid: ids.0, gid: ids.1, size: data.len() as u64, mtime,
            major: device.0, minor: device.1, xattrs,
        };
        (header, data)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(header(), 0..6)) {
        let (found, error) = read(&write(&entries));
        prop_assert!(error.is_none(), "{error:?}");
        prop_assert_eq!(found.len(), entries.len());
        for ((entry, data), (header, bytes)) in found.iter().zip(&entries) {
            prop_assert_eq!(&entry.path, &header.path);
            prop_assert_eq!(&entry.link, &header.link);
            prop_assert_eq!((entry.kind, entry.mode, entry.uid, entry.gid), (header.kind, header.mode, header.uid, header.gid));
            prop_assert_eq!((entry.mtime, entry.size), ((header.mtime, 0), header.size));
            prop_assert_eq!((entry.major, entry.minor), (header.major, header.minor));
            prop_assert_eq!(&entry.xattrs, &header.xattrs);
            let joined: Vec<u8> = data.iter().flat_map(|(_, chunk)| chunk.clone()).collect();
            prop_assert_eq!(&joined, bytes);
        }
    }

    #[test]
    fn noise_never_panics(
        entries in prop::collection::vec(header(), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        fix in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = write(&entries);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if fix {
            // With right checksums, so that more than the first check is reached.
            for block in bytes.chunks_exact_mut(512).filter(|b| b[257..262] == *b"ustar") {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (found, _) = read(&bytes);
        let total: usize = found.iter().flat_map(|(_, data)| data).map(|(_, chunk)| chunk.len()).sum();
        prop_assert!(total <= bytes.len());
    }

    #[test]
    fn pure_noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        read(&bytes);
    }

    #[test]
    fn pax_noise_never_panics(text in prop::collection::vec(prop_oneof![Just(b'0'), Just(b'5'), Just(b' '), Just(b'='), Just(b'\n'), any::<u8>()], 0..60)) {
        // Both outcomes are fine.
        let _ = super::pax::parse(&text);
        let _ = super::pax::time(&text);
    }
}

/// GNU tar on a directory, in a format.
fn gnu_tar(dir: &std::path::Path, format: &str) -> Option<Vec<u8>> {
    let output = Command::new("tar")
        .args(["--sparse", "--sort=name", &format!("--format={format}"), "-C"])
        .arg(dir)
        .args(["-cf", "-", "."])
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ => None,
    }
}

#[test]
fn gnu_tars_formats_mean_the_same() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    std::fs::create_dir(dir.path().join("d".repeat(120))).unwrap();
    std::fs::write(dir.path().join(&long), b"long").unwrap();
    std::fs::write(dir.path().join("plain"), b"plain").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), dir.path().join("soft")).unwrap();
    let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    for n in 0..30u64 {
        sparse.write_all_at(&[7; 4096], n * 256 * 1024).unwrap();
    }
    drop(sparse);
    let mut seen = Vec::new();
    for format in ["gnu", "oldgnu", "pax"] {
        let Some(tar) = gnu_tar(dir.path(), format) else {
            println!("SKIPPED GNU tar's format {format}: no GNU tar");
            return;
        };
        let (entries, error) = read(&tar);
        assert!(error.is_none(), "{format}: {error:?}");
        let told: Vec<_> = entries
            .into_iter()
            .map(|(e, data)| {
                // GNU tar may store holes that it does not find.
                let data: Vec<(u64, u8)> = data
                    .iter()
                    .flat_map(|(at, chunk)| (*at..).zip(chunk.iter().copied()))
                    .filter(|(_, byte)| *byte != 0)
                    .collect();
                (e.path, e.link, e.kind, e.mode, e.size, e.mtime.0, data)
            })
            .collect();
        assert_eq!(told.len(), 6, "{format}");
        let file = told.iter().find(|e| e.0 == b"./sparse").unwrap();
        assert_eq!((file.4, file.6.len()), (9 << 20, 30 * 4096), "{format}");
        assert!(
            told.iter().any(|e| e.0 == format!("./{long}").as_bytes()),
            "{format}"
        );
        seen.push(told);
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
}
