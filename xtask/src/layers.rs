//! The direction of dependencies is a table. A new edge is a reviewed line here and a decision record.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// Each crate and the crates of the tree that its product code may name. Dev-dependencies may add `ferry-testkit`.
const TABLE: &[(&str, &[&str])] = &[
    ("ferry-oci", &[]),
    ("ferry-sys", &[]),
    ("ferry-runtime", &["ferry-oci", "ferry-sys"]),
    ("ferry-store", &["ferry-oci", "ferry-sys"]),
    ("ferry-net", &["ferry-sys"]),
    ("ferry-api", &["ferry-oci"]),
    ("ferry-shim-proto", &["ferry-oci"]),
    (
        "ferry-shim",
        &[
            "ferry-oci",
            "ferry-sys",
            "ferry-runtime",
            "ferry-net",
            "ferry-shim-proto",
        ],
    ),
    ("ferry-registry", &["ferry-oci", "ferry-store"]),
    (
        "ferry-engine",
        &[
            "ferry-oci",
            "ferry-store",
            "ferry-net",
            "ferry-registry",
            "ferry-shim-proto",
        ],
    ),
    (
        "ferry-daemon",
        &["ferry-api", "ferry-engine", "ferry-oci", "ferry-registry"],
    ),
    ("ferry-testkit", &["ferry-sys"]),
    (
        "ferry",
        &[
            "ferry-api",
            "ferry-daemon",
            "ferry-engine",
            "ferry-net",
            "ferry-oci",
            "ferry-registry",
            "ferry-runtime",
            "ferry-shim",
            "ferry-shim-proto",
            "ferry-store",
            "ferry-sys",
        ],
    ),
    ("e2e", &["ferry-testkit"]),
    ("xtask", &[]),
];

/// Crates from outside that must never be reached from a crate, by whatever way, because of what they cost where it runs.
const BANNED: &[(&str, &[&str])] = &[
    (
        "ferry-shim",
        &["tokio", "hyper", "rustls", "aws-lc-sys", "regex", "clap"],
    ),
    (
        "ferry-runtime",
        &["tokio", "hyper", "rustls", "aws-lc-sys", "regex", "clap"],
    ),
    ("ferry", &["openssl-sys", "ring", "rsa", "native-tls"]),
];

/// Fails on an edge that the table does not have.
pub fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    for (name, allowed) in TABLE {
        let manifest = manifest_of(root, name)?;
        for edge in edges(&manifest) {
            if !allowed.contains(&edge.as_str()) {
                faults.push(format!(
                    "{name} -> {edge} is not in the table of xtask/src/layers.rs"
                ));
            }
        }
    }
    for member in std::fs::read_dir(root.join("crates")).context("reading crates/")? {
        let name = member?.file_name().to_string_lossy().into_owned();
        if !TABLE.iter().any(|(known, _)| *known == name) {
            faults.push(format!("crate {name} is not in the table of xtask/src/layers.rs"));
        }
    }
    for (name, banned) in BANNED {
        let reached = tree(root, name)?;
        faults.extend(
            banned
                .iter()
                .filter(|b| reached.contains(**b))
                .map(|b| format!("{name} reaches {b}, which it must not")),
        );
    }
    if faults.is_empty() {
        println!("layers: {} crates, no edge outside the table", TABLE.len());
        return Ok(());
    }
    bail!("layers:\n  {}", faults.join("\n  "));
}

fn manifest_of(root: &Path, name: &str) -> Result<String> {
    let folder = if matches!(name, "e2e" | "xtask") {
        root.join(name)
    } else {
        root.join("crates").join(name)
    };
    let path = folder.join("Cargo.toml");
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Names of the tree's crates under `[dependencies]`.
fn edges(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && line.starts_with("ferry-") {
            found.push(line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned());
        }
    }
    found
}

fn tree(root: &Path, name: &str) -> Result<BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = std::process::Command::new(cargo)
        .current_dir(root)
        .args([
            "tree",
            "--locked",
            "--package",
            name,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .context("running cargo tree")?;
    if !output.status.success() {
        bail!(
            "cargo tree of {name} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect())
}
