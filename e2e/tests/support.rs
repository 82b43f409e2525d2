//! What several tests need.

use anyhow::Context;
use e2e::command::eventually;
use e2e::registry::{Protection, Registry};
use e2e::{Engine, fixtures};
use std::time::Duration;

pub use anyhow::Result;

/// An engine and a registry in one world, the registry holding these fixtures under their names; `None`, with the reason printed, without root.
pub fn engine_with(test: &str, names: &[&str]) -> Result<Option<(Engine, Registry)>> {
    if !ferry_testkit::is_root(test) {
        return Ok(None);
    }
    let engine = Engine::start(&[])?;
    let registry = Registry::start(&engine.world, 5000, Protection::default())?;
    for name in names {
        fixtures::push(
            &engine.world,
            name,
            &format!("{}/{name}:latest", registry.address),
            &[],
        )?;
    }
    Ok(Some((engine, registry)))
}

/// Pulls a fixture and gives its name.
pub fn pulled(engine: &Engine, registry: &Registry, name: &str) -> Result<String> {
    let image = format!("{}/{name}:latest", registry.address);
    engine.ferry(&["pull", &image])?.ok().context("pulling")?;
    Ok(image)
}

/// An engine with busybox, which has the plain name `busybox`.
pub fn engine_with_busybox(test: &str) -> Result<Option<Engine>> {
    if !ferry_testkit::is_root(test) {
        return Ok(None);
    }
    let engine = Engine::start(&[])?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("busybox.tar");
    fixtures::archive("busybox", "busybox:latest", &archive)?;
    engine
        .ferry(&["load", "-q", "-i", &archive.display().to_string()])?
        .ok()?;
    Ok(Some(engine))
}

/// Waits up to thirty seconds.
pub fn wait_for(what: &str, question: impl FnMut() -> bool) -> Result<()> {
    eventually(what, Duration::from_secs(30), question)
}
