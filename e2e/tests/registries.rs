//! Registries that others wrote: protected, encrypted, damaged.

use crate::support::Result;
use e2e::registry::{Protection, Registry};
use e2e::{Engine, fixtures};

fn start(test: &str, protection: Protection) -> Result<Option<(Engine, Registry)>> {
    if !ferry_testkit::is_root(test) {
        return Ok(None);
    }
    let engine = Engine::start(&[])?;
    let registry = Registry::start(&engine.world, 5000, protection)?;
    let more: &[&str] = if protection.htpasswd {
        &["--dest-creds", "ferry:secret"]
    } else {
        &[]
    };
    fixtures::push(
        &engine.world,
        "busybox",
        &format!("{}/busybox:1", registry.address),
        more,
    )?;
    Ok(Some((engine, registry)))
}

#[test]
fn pull_tag_push_and_pull_again() -> Result<()> {
    let Some((engine, registry)) = start("pull_tag_push_and_pull_again", Protection::default())? else {
        return Ok(());
    };
    let (one, two) = (
        format!("{}/busybox:1", registry.address),
        format!("{}/team/copy:2", registry.address),
    );
    let first = engine.ferry(&["pull", &one])?.ok()?;
    assert!(first.contains("Status: Downloaded newer image for"), "{first}");
    assert!(
        engine
            .docker(&["pull", &one])?
            .ok()?
            .contains("Status: Image is up to date for")
    );
    engine.ferry(&["tag", &one, &two])?.ok()?;
    let pushed = engine.docker(&["push", &two])?.ok()?;
    assert!(pushed.contains("2: digest: sha256:"), "{pushed}");
    engine.ferry(&["rmi", &one, &two])?.ok()?;
    assert_eq!(engine.ferry(&["images", "-q"])?.ok()?, "");
    engine.ferry(&["pull", "-q", &two])?.ok()?;
    assert_eq!(
        engine.ferry(&["run", "--rm", &two, "echo", "back"])?.ok()?,
        "back\n"
    );
    engine.finish()
}

#[test]
fn a_protected_registry_wants_the_right_password() -> Result<()> {
    let protection = Protection {
        htpasswd: true,
        tls: true,
    };
    let Some((engine, registry)) = start("a_protected_registry_wants_the_right_password", protection)? else {
        return Ok(());
    };
    let image = format!("{}/busybox:1", registry.address);
    assert_ne!(engine.ferry(&["pull", &image])?.code, 0, "an anonymous pull");
    let wrong = engine.ferry_with(
        &["login", "-u", "ferry", "--password-stdin", &registry.address],
        b"wrong",
    )?;
    assert_ne!(wrong.code, 0, "{wrong:?}");
    let right = engine
        .ferry_with(
            &["login", "-u", "ferry", "--password-stdin", &registry.address],
            b"secret",
        )?
        .ok()?;
    assert!(right.contains("Login Succeeded"), "{right}");
    engine.ferry(&["pull", &image])?.ok()?;
    engine.docker(&["pull", &image])?.ok()?;
    engine.ferry(&["logout", &registry.address])?.ok()?;
    engine.ferry(&["rmi", &image])?.ok()?;
    assert_ne!(engine.ferry(&["pull", &image])?.code, 0, "after logout");
    engine.finish()
}

/// Every file of the registry's storage that is a blob's data.
fn blobs(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            blobs(&path, found)?;
        } else if path.ends_with("data") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn a_damaged_blob_is_refused_and_nothing_is_left() -> Result<()> {
    let Some((engine, registry)) = start(
        "a_damaged_blob_is_refused_and_nothing_is_left",
        Protection::default(),
    )?
    else {
        return Ok(());
    };
    let mut data = Vec::new();
    blobs(&registry.storage(), &mut data)?;
    let layer = data
        .iter()
        .max_by_key(|p| std::fs::metadata(p).map_or(0, |m| m.len()))
        .expect("the registry has blobs");
    let mut bytes = std::fs::read(layer)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(layer, &bytes)?;
    let image = format!("{}/busybox:1", registry.address);
    let refused = engine.ferry(&["pull", &image])?;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("digest"), "{refused:?}");
    assert_eq!(engine.ferry(&["images", "-aq"])?.ok()?, "");
    bytes[middle] ^= 1;
    std::fs::write(layer, &bytes)?;
    engine.ferry(&["pull", &image])?.ok()?;
    engine.finish()
}
