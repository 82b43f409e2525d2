//! The harness itself: what the other tests stand on.

use anyhow::Result;
use e2e::registry::{Protection, Registry};
use e2e::{fixtures, run};

#[test]
fn a_registry_serves_what_skopeo_pushed() -> Result<()> {
    if !ferry_testkit::is_root("a_registry_serves_what_skopeo_pushed") {
        return Ok(());
    }
    let world = ferry_testkit::World::new()?;
    let registry = Registry::start(
        &world,
        5000,
        Protection {
            htpasswd: true,
            tls: true,
        },
    )?;
    let target = format!("{}/busybox:1", registry.address);
    fixtures::push(&world, "busybox", &target, &["--dest-creds", "ferry:secret"])?;
    let source = format!("docker://{target}");
    let shown = world.enter(|| {
        run(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--creds",
                "ferry:secret",
                &source,
            ],
        )?
        .ok()
    })?;
    assert!(shown.contains("\"Layers\""), "{shown}");
    Ok(())
}

#[test]
#[ignore = "makes every fixture ahead of time; run by hand to warm the folder"]
fn every_fixture_can_be_made() -> Result<()> {
    for name in ["busybox", "debian", "nginx", "redis", "postgres"] {
        fixtures::layout(name)?;
    }
    Ok(())
}
