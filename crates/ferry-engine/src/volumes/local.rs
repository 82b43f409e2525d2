//! The `local` driver: directories, and directories of the host's by `type=none,o=bind,device=/path`.

use super::Record;
use crate::db::{self, Db};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What was removed and still takes space.
const TRASH: &str = ".trash";

fn failed<'a>(op: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |e| Error::internal(format!("{op} {}", path.display()), e)
}

/// Matches records with directories; empties the trash.
pub(super) fn open(root: &Path, db: &Db) -> Result<BTreeMap<String, Record>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o701)
        .create(root)
        .map_err(failed("making", root))?;
    empty_trash(root)?;
    let mut records = BTreeMap::new();
    for (name, value) in db.load(db::VOLUMES)? {
        match serde_json::from_value::<Record>(value) {
            Ok(record) if root.join(&name).join("_data").is_dir() => drop(records.insert(name, record)),
            Ok(_) => {
                tracing::warn!(volume = name, "its directory is gone, and so is the volume");
                db.delete_lazy(db::VOLUMES, &name)?;
            }
            Err(error) => {
                tracing::error!(volume = name, %error, "the record of a volume cannot be read; its directory is taken in anew")
            }
        }
    }
    for entry in fs::read_dir(root).map_err(failed("reading", root))? {
        let entry = entry.map_err(failed("reading", root))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') || records.contains_key(&name) || !entry.path().join("_data").is_dir() {
            continue;
        }
        let created = entry
            .metadata()
            .and_then(|m| m.modified())
            .unwrap_or_else(|_| SystemTime::now());
        let record = Record {
            name: name.clone(),
            created,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        };
        db.put_lazy(db::VOLUMES, &name, &record)?;
        records.insert(name, record);
    }
    Ok(records)
}

/// A volume's directory, durable.
pub(super) fn make(data: &Path) -> Result<()> {
    let Some(dir) = data.parent() else {
        return Err(Error::invalid("a volume without a directory"));
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o701)
        .create(dir)
        .map_err(failed("making", dir))?;
    match DirBuilder::new().mode(0o755).create(data) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed("making", data)(e)),
        _ => {}
    }
    for path in [Some(dir), dir.parent()].into_iter().flatten() {
        fs::File::open(path)
            .and_then(|f| f.sync_all())
            .map_err(failed("syncing", path))?;
    }
    Ok(())
}

/// Takes a volume's directory away in one step.
pub(super) fn to_trash(root: &Path, name: &str) -> Result<()> {
    let trash = root.join(TRASH);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&trash)
        .map_err(failed("making", &trash))?;
    let (from, to) = (root.join(name), trash.join(crate::ids::random()?));
    match fs::rename(&from, &to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("removing", &from)(e)),
        _ => Ok(()),
    }
}

/// Frees what was removed.
pub(super) fn empty_trash(root: &Path) -> Result<()> {
    let trash = root.join(TRASH);
    let entries = match fs::read_dir(&trash) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("reading", &trash))?,
    };
    for entry in entries.flatten() {
        // Another one may be at it at the same time.
        crate::containers::lifecycle::remove_dir(&entry.path())?;
    }
    Ok(())
}

/// Bytes of the files below, hard links once.
pub(super) fn size(dir: &Path) -> Result<u64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut total = 0;
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        // Files come and go while they are counted.
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                todo.push(entry.path());
            } else if seen.insert((found.dev(), found.ino())) {
                total += found.len();
            }
        }
    }
    Ok(total)
}

/// # Errors
/// [`crate::Kind::Invalid`] with Docker's words.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(
            "create: volume name is too short, names should be at least two alphanumeric characters"
                .to_owned(),
        ));
    }
    let legal = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if legal && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )))
}

/// Nothing, or a bind of a directory of the host's.
///
/// # Errors
/// [`crate::Kind::Invalid`] for an unknown option, [`crate::Kind::Unsupported`] for file systems that the engine does not mount.
pub(super) fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(key) = options
        .keys()
        .find(|k| !["type", "o", "device", "size"].contains(&k.as_str()))
    {
        return Err(Error::invalid(format!("invalid option: {key:?}")));
    }
    if options.contains_key("size") {
        return Err(Error::unsupported(
            "volume option size is not supported: quotas of the file system are needed",
        ));
    }
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    if options.is_empty() {
        return Ok(());
    }
    let (kind, device) = (get("type"), get("device"));
    if device.is_empty() {
        return Err(Error::invalid("missing device in volume options"));
    }
    if kind.is_empty() && !get("o").split(',').any(|o| o == "bind" || o == "rbind") {
        return Err(Error::invalid("missing type in volume options"));
    }
    if bound(options).is_some() {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "volume options type={kind},o={},device={device} are not supported: only a directory by type=none,o=bind,device=/path is",
        get("o")
    )))
}

/// The directory that the options bind.
pub(super) fn bound(options: &BTreeMap<String, String>) -> Option<PathBuf> {
    let kind = options.get("type").map_or("", String::as_str);
    let binds = options
        .get("o")
        .is_some_and(|o| matches!(o.as_str(), "bind" | "rbind"));
    let device = options.get("device")?;
    (binds && ["", "none", "bind"].contains(&kind) && device.starts_with('/')).then(|| device.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn options_have_effect_or_are_refused_by_name() {
        assert!(check_options(&options(&[])).is_ok());
        let bind = options(&[("type", "none"), ("o", "bind"), ("device", "/srv")]);
        assert!(check_options(&bind).is_ok());
        assert_eq!(bound(&bind), Some("/srv".into()));
        for (pairs, text) in [
            (vec![("nonsense", "1")], "invalid option: \"nonsense\""),
            (vec![("type", "nfs")], "missing device in volume options"),
            (vec![("device", "/srv")], "missing type in volume options"),
        ] {
            assert_eq!(check_options(&options(&pairs)).unwrap_err().to_string(), text);
        }
        assert!(
            check_options(&options(&[("type", "nfs"), ("device", ":/x")]))
                .unwrap_err()
                .to_string()
                .contains("type=nfs")
        );
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("data.1").is_ok());
        for bad in ["a", "-x", "a/b", "../x", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_removed_volume_is_gone_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("v/_data")).unwrap();
        fs::write(dir.path().join("v/_data/f"), [0; 100]).unwrap();
        fs::hard_link(dir.path().join("v/_data/f"), dir.path().join("v/_data/g")).unwrap();
        assert_eq!(size(&dir.path().join("v")).unwrap(), 100);
        to_trash(dir.path(), "v").unwrap();
        assert!(!dir.path().join("v").exists());
        empty_trash(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join(TRASH)).unwrap().count(), 0);
    }
}
