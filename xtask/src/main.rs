//! The project's chores: `cargo xtask <chore>`.

mod layers;
mod tidy;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <chore>

  tidy      file and function sizes, unsafe outside ferry-sys, unfinished work, words and paths that do not belong
  layers    the crates' direction: no edge that the table does not have
";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = repository_root()?;
    match arguments.first().map(String::as_str) {
        Some("tidy") => tidy::check(&root),
        Some("layers") => layers::check(&root),
        Some("help" | "--help" | "-h") | None => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("unknown chore {other:?}\n\n{USAGE}"),
    }
}

fn repository_root() -> Result<std::path::PathBuf> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    match here.parent() {
        Some(root) => Ok(root.to_path_buf()),
        None => bail!("{} has no parent", here.display()),
    }
}
