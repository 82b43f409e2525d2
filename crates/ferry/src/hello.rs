//! The image `hello`: this very binary as its only file, so that a first container needs neither network nor registry.

use crate::cli::Failure;
use ferry_api::client::{Client, Payload, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};

/// The prefix of the variables that tell the container the host's namespaces.
pub(crate) const HOST_NAMESPACE: &str = "FERRY_HOST_NS_";
/// Namespaces of a process, by their names under `/proc/PID/ns`.
pub(crate) const NAMESPACES: [&str; 8] = ["pid", "net", "ipc", "mnt", "uts", "user", "cgroup", "time"];
const BLOCK: usize = 512;

/// Whether a reference means the built-in image.
pub(crate) fn is_name(name: &str) -> bool {
    matches!(name, "hello" | "hello:latest")
}

/// Tells the container, through its environment, which namespaces are the host's: it cannot see them itself.
pub(crate) fn describe_host(body: &mut Value) {
    let Some(env) = body.get_mut("Env").and_then(Value::as_array_mut) else {
        return;
    };
    for name in NAMESPACES {
        let link = std::fs::read_link(format!("/proc/1/ns/{name}"))
            .or_else(|_| std::fs::read_link(format!("/proc/self/ns/{name}")));
        if let Ok(link) = link {
            env.push(json!(format!(
                "{HOST_NAMESPACE}{}={}",
                name.to_uppercase(),
                link.display()
            )));
        }
    }
}

/// Sends the image to the engine.
pub(crate) fn load(client: &Client) -> Result<(), Failure> {
    let archive = archive()
        .map_err(|e| Failure::text(format!("cannot make the image 'hello' from this program: {e}")))?;
    let payload = Payload::Reader {
        content_type: "application/x-tar",
        reader: Box::new(archive),
    };
    let answer = client
        .send(Request::post("/images/load").query("quiet", "1").payload(payload))?
        .bytes()?;
    for line in String::from_utf8_lossy(&answer).lines() {
        let message: Value = serde_json::from_str(line.trim()).unwrap_or_default();
        if let Some(error) = message.get("error").and_then(Value::as_str) {
            return Err(Failure::text(format!("cannot load the image 'hello': {error}")));
        }
    }
    Ok(())
}

/// The image as an archive that `docker load` reads too: an OCI layout with docker's `manifest.json` beside it.
fn archive() -> io::Result<impl Read + 'static> {
    let mut program = File::open("/proc/self/exe")?;
    let size = program.metadata()?.len();
    let mut hasher = Sha256::new();
    io::copy(
        &mut layer(program.try_clone()?, size),
        &mut HashWriter(&mut hasher),
    )?;
    program.rewind()?;
    let layer_hex = hex(&hasher.finalize());
    let layer_size = padded(size) + 3 * BLOCK as u64;
    let config = config(&layer_hex, &made(&program)).to_string();
    let config_hex = hex(&Sha256::digest(&config));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{config_hex}"), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": format!("sha256:{layer_hex}"), "size": layer_size}],
    })
    .to_string();
    let manifest_hex = hex(&Sha256::digest(&manifest));
    let blob = |hex: &str| format!("blobs/sha256/{hex}");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest_hex}"),
            "size": manifest.len(),
            "annotations": {"io.containerd.image.name": "docker.io/library/hello:latest", "org.opencontainers.image.ref.name": "latest"},
        }],
    });
    let docker =
        json!([{"Config": blob(&config_hex), "RepoTags": ["hello:latest"], "Layers": [blob(&layer_hex)]}]);
    let mut small = Vec::new();
    for (name, text) in [
        (
            "oci-layout".to_owned(),
            json!({"imageLayoutVersion": "1.0.0"}).to_string(),
        ),
        ("index.json".to_owned(), index.to_string()),
        ("manifest.json".to_owned(), docker.to_string()),
        (blob(&config_hex), config),
        (blob(&manifest_hex), manifest),
    ] {
        small.extend(header(&name, text.len() as u64, 0o644));
        small.extend(text.as_bytes());
        small.resize(small.len().next_multiple_of(BLOCK), 0);
    }
    small.extend(header(&blob(&layer_hex), layer_size, 0o644));
    // The layer is a multiple of the block already; two empty blocks end the archive.
    Ok(Cursor::new(small)
        .chain(layer(program, size))
        .chain(io::repeat(0).take(2 * BLOCK as u64)))
}

/// The layer: `/ferry`, and the end of an archive.
fn layer(program: File, size: u64) -> impl Read + 'static {
    let padding = padded(size) - size + 2 * BLOCK as u64;
    Cursor::new(header("ferry", size, 0o755))
        .chain(program.take(size))
        .chain(io::repeat(0).take(padding))
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64)
}

/// This machine's architecture in the words of images.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// When this program was built, as an image's date.
fn made(program: &File) -> String {
    let modified = program.metadata().and_then(|m| m.modified()).ok();
    let since = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    crate::cli::rfc3339_utc(since.map_or(0, |d| d.as_secs() as i64))
}

fn config(layer_hex: &str, created: &str) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["/ferry", "passport"],
            "Labels": {"org.opencontainers.image.title": "hello", "org.opencontainers.image.description": "Prints what a container is isolated from"},
        },
        "created": created,
        "history": [{"created": created, "created_by": "ferry run hello"}],
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_hex}")]},
    })
}

/// A tar header (POSIX ustar) of a regular file owned by root, dated 1970.
fn header(name: &str, size: u64, mode: u32) -> Vec<u8> {
    let mut block = vec![0_u8; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_what_it_names() {
        let mut bytes = Vec::new();
        archive().expect("archive").read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut at = 0;
        let mut names = Vec::new();
        while bytes[at] != 0 {
            let name = String::from_utf8_lossy(&bytes[at..at + 100])
                .trim_end_matches('\0')
                .to_owned();
            let size =
                u64::from_str_radix(&String::from_utf8_lossy(&bytes[at + 124..at + 135]), 8).expect("size");
            let content = &bytes[at + BLOCK..at + BLOCK + size as usize];
            if let Some(digest) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(hex(&Sha256::digest(content)), digest);
            }
            names.push(name);
            at += BLOCK + padded(size) as usize;
        }
        assert_eq!(names.len(), 6);
        assert_eq!(names[..3], ["oci-layout", "index.json", "manifest.json"]);
    }
}
