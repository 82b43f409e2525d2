//! A registry that nobody here wrote, on loopback in a test's world: Debian's docker-registry, or distribution 3 where it is installed.

use crate::command::eventually;
use anyhow::{Context, Result};
use ferry_testkit::World;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running registry.
pub struct Registry {
    child: Child,
    folder: tempfile::TempDir,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

/// How it is protected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protection {
    /// User `ferry`, password `secret`.
    pub htpasswd: bool,
    /// TLS with a certificate of its own authority, found at [`Registry::authority`].
    pub tls: bool,
}

impl Registry {
    /// Starts one at this port of the world's loopback, storing under a folder of its own.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(world: &World, port: u16, protection: Protection) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ferry-registry-").tempdir()?;
        let address = format!("127.0.0.1:{port}");
        let config = configure(folder.path(), &address, protection)?;
        let program = std::env::var("FERRY_TEST_REGISTRY").unwrap_or_else(|_| "docker-registry".into());
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = world.enter(|| command.spawn().with_context(|| format!("starting {program}")))?;
        let registry = Self {
            child,
            folder,
            address,
        };
        world.enter(|| {
            eventually("the registry answers", Duration::from_secs(20), || {
                std::net::TcpStream::connect(&registry.address).is_ok()
            })
        })?;
        Ok(registry)
    }

    /// The authority's certificate, for a client that wants to verify.
    pub fn authority(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Where its blobs and manifests lie, for tests that damage them.
    pub fn storage(&self) -> std::path::PathBuf {
        self.folder.path().join("storage")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn configure(folder: &Path, address: &str, protection: Protection) -> Result<std::path::PathBuf> {
    let mut text = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
        folder.join("storage").display()
    );
    if protection.tls {
        certificates(folder)?;
        write!(
            text,
            "  tls:\n    certificate: {0}/server.crt\n    key: {0}/server.key\n",
            folder.display()
        )?;
    }
    if protection.htpasswd {
        let hashed = crate::run("htpasswd", &["-Bbn", "ferry", "secret"])?.ok()?;
        std::fs::write(folder.join("htpasswd"), hashed.trim())?;
        write!(
            text,
            "auth:\n  htpasswd:\n    realm: test\n    path: {}/htpasswd\n",
            folder.display()
        )?;
    }
    let path = folder.join("config.yml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// An authority and a certificate of 127.0.0.1 that it signed.
fn certificates(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    let openssl = |arguments: &[&str]| crate::run("openssl", arguments)?.ok().map(drop);
    let key = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
    ];
    openssl(
        &[
            &key[..],
            &[
                "-keyout",
                &at("ca.key"),
                "-out",
                &at("ca.crt"),
                "-addext",
                "basicConstraints=critical,CA:TRUE",
            ],
        ]
        .concat(),
    )?;
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=registry",
        "-keyout",
        &at("server.key"),
        "-out",
        &at("server.csr"),
    ])?;
    std::fs::write(
        folder.join("ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )?;
    openssl(&[
        "x509",
        "-req",
        "-in",
        &at("server.csr"),
        "-CA",
        &at("ca.crt"),
        "-CAkey",
        &at("ca.key"),
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &at("ext"),
        "-out",
        &at("server.crt"),
    ])
}
