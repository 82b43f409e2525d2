//! Tars made by hand, legal or not.

use ferry_oci::Digest;
use ferry_oci::image::Descriptor;
use sha2::Digest as _;

/// A header that `append` writes as it is.
#[derive(Clone)]
pub struct Head {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub device: (u32, u32),
    /// `None`: as long as the data.
    pub size: Option<u64>,
}

pub fn head(kind: u8, name: &str) -> Head {
    Head {
        name: name.into(),
        link: Vec::new(),
        kind,
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_000_000_000,
        device: (0, 0),
        size: None,
    }
}

/// A tar in the making.
#[derive(Clone, Default)]
pub struct Tar {
    pub bytes: Vec<u8>,
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn append(mut self, head: &Head, data: &[u8]) -> Self {
        let mut block = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &head.name[..head.name.len().min(100)]);
        put(100, format!("{:07o}\0", head.mode).as_bytes());
        put(108, format!("{:07o}\0", head.uid).as_bytes());
        put(116, format!("{:07o}\0", head.gid).as_bytes());
        put(
            124,
            format!("{:011o}\0", head.size.unwrap_or(data.len() as u64)).as_bytes(),
        );
        put(136, format!("{:011o}\0", head.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[head.kind]);
        put(157, &head.link[..head.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", head.device.0).as_bytes());
        put(337, format!("{:07o}\0", head.device.1).as_bytes());
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
        self.bytes.extend_from_slice(data);
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.append(&head(b'0', name), data)
    }

    pub fn dir(self, name: &str) -> Self {
        self.append(&head(b'5', name), b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.append(
            &Head {
                link: target.into(),
                ..head(b'2', name)
            },
            b"",
        )
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.append(
            &Head {
                link: target.into(),
                ..head(b'1', name)
            },
            b"",
        )
    }

    pub fn device(self, kind: u8, name: &str, device: (u32, u32)) -> Self {
        self.append(
            &Head {
                device,
                ..head(kind, name)
            },
            b"",
        )
    }

    /// A PAX header for the entry that follows.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.append(&head(b'x', "PaxHeaders/x"), &data)
    }

    /// With the two blocks of the end.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&sha2::Sha256::digest(bytes).into())
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest: digest(bytes),
        size: bytes.len() as u64,
        urls: Vec::new(),
        annotations: std::collections::BTreeMap::default(),
        platform: None,
        artifact_type: None,
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that no compressor likes, always the same for a seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
