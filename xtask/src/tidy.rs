//! What no compiler sees: sizes, unsafe outside its crate, unfinished work, paths of one machine.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// The most code lines of a file, before its first test module.
const FILE_LINES: usize = 600;
/// Words that mean unfinished work. Each is spelled so that this file does not contain it.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("d", "bg!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];
/// Paths of one machine.
const PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("../sha", "red"),
];

/// The home of the user that tests invent: no machine's.
const BOB: &str = concat!("/ho", "me/bob");

/// Fails with every fault found.
pub fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    let files = tracked(root)?;
    for file in &files {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else {
            continue;
        };
        if file.ends_with(".rs") {
            rust_file(file, &text, &mut faults);
        }
        if file != "Cargo.lock" {
            paths(file, &text, &mut faults);
        }
    }
    if faults.is_empty() {
        println!("tidy: {} files", files.len());
        return Ok(());
    }
    bail!("tidy:\n  {}", faults.join("\n  "));
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = std::process::Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .stdin(std::process::Stdio::null())
        .output()
        .context("running git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

fn rust_file(file: &str, text: &str, faults: &mut Vec<String>) {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    let lines = code
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with("//"))
        .count();
    if lines > FILE_LINES && !file.contains("/generated/") {
        faults.push(format!(
            "{file}: {lines} code lines, at most {FILE_LINES}; split it by meaning"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        let at = format!("{file}:{}", number + 1);
        let trimmed = line.trim_start();
        if !file.starts_with("crates/ferry-sys/") && !trimmed.starts_with("//") && has_unsafe(trimmed) {
            faults.push(format!("{at}: unsafe belongs into ferry-sys"));
        }
        for word in UNFINISHED.iter().filter(|w| line.contains(**w)) {
            faults.push(format!("{at}: unfinished: {word}"));
        }
    }
}

fn has_unsafe(line: &str) -> bool {
    ["{", "fn", "impl"]
        .iter()
        .any(|w| line.contains(&["unsafe", w].join(" ")))
}

fn paths(file: &str, text: &str, faults: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        for path in PATHS.iter().filter(|p| line.replace(BOB, "").contains(**p)) {
            faults.push(format!("{file}:{}: a path of one machine: {path}", number + 1));
        }
    }
}
