//! Images made from Debian's own packages, once, and kept as OCI layouts under the target folder.
//!
//! `busybox`: Debian's busybox-static with its applets as links. `debian`: mmdebstrap's minbase; `nginx`, `redis` and `postgres` are one layer
//! more each. They are pushed with skopeo, so that what Ferry pulls is what others made.

use crate::command::{bounded, run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The folder of layouts; `FERRY_TEST_FIXTURES`, or one in the target folder.
fn folder() -> Result<PathBuf> {
    let path = match std::env::var_os("FERRY_TEST_FIXTURES") {
        Some(path) => PathBuf::from(path),
        None => {
            let here = std::env::current_exe()?;
            let profile = here
                .parent()
                .and_then(Path::parent)
                .context("this test lies in no target folder")?;
            profile.join("fixtures")
        }
    };
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// The layout of a fixture (`busybox`, `debian`, `nginx`, `redis`, `postgres`), made when it is not there yet; the image in it is `latest`.
///
/// # Errors
/// When a tool is missing or fails, with what it said.
pub fn layout(name: &str) -> Result<PathBuf> {
    let done = folder()?.join(name);
    if done.exists() {
        return Ok(done);
    }
    let staging = folder()?.join(format!(".{name}-{}", std::process::id()));
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    fs::create_dir(&staging)?;
    let made = match name {
        "busybox" => busybox(&staging),
        "debian" => debian(&staging),
        "nginx" => on_debian(&staging, "nginx-light", &["nginx", "-g", "daemon off;"]),
        "redis" => on_debian(
            &staging,
            "redis-server",
            &["redis-server", "--protected-mode", "no"],
        ),
        "postgres" => on_debian(&staging, "postgresql-15", &["bash"]),
        other => bail!("no fixture is called {other}"),
    };
    made.with_context(|| format!("making the fixture {name}"))?;
    fs::rename(staging.join("layout"), &done)?;
    fs::remove_dir_all(&staging)?;
    Ok(done)
}

/// Copies a fixture to `127.0.0.1:PORT/repository:tag` with skopeo, from inside the world.
///
/// # Errors
/// With what skopeo said.
pub fn push(world: &ferry_testkit::World, name: &str, target: &str, more: &[&str]) -> Result<()> {
    let source = format!("oci:{}:latest", layout(name)?.display());
    let destination = format!("docker://{target}");
    let arguments = [
        &["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"],
        more,
        &[&source, &destination],
    ]
    .concat();
    world.enter(|| run("skopeo", &arguments)?.ok()).map(drop)
}

/// A docker-archive of a fixture, named `reference`.
///
/// # Errors
/// With what skopeo said.
pub fn archive(name: &str, reference: &str, to: &Path) -> Result<()> {
    let source = format!("oci:{}:latest", layout(name)?.display());
    let destination = format!("docker-archive:{}:{reference}", to.display());
    run(
        "skopeo",
        &["copy", "--quiet", "--insecure-policy", &source, &destination],
    )?
    .ok()
    .map(drop)
}

fn busybox(staging: &Path) -> Result<()> {
    let (layout, bundle) = new_layout(staging)?;
    let root = bundle.join("rootfs");
    for dir in [
        "bin", "etc", "tmp", "root", "var", "home", "usr", "dev", "proc", "sys",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
    for applet in run("/bin/busybox", &["--list"])?
        .ok()?
        .lines()
        .filter(|a| *a != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nuser:x:1000:\nwheel:x:10:root,user\n",
    )?;
    fs::set_permissions(
        root.join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )?;
    repack(&layout, &bundle)?;
    configure(&layout, &["sh"])
}

fn debian(staging: &Path) -> Result<()> {
    let (layout, bundle) = new_layout(staging)?;
    let root = bundle.join("rootfs");
    fs::remove_dir_all(&root)?;
    let suite = fs::read_to_string("/etc/os-release")?;
    let suite = suite
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("bookworm")
        .to_owned();
    let target = root.display().to_string();
    slow("mmdebstrap", &["--variant=minbase", "--quiet", &suite, &target])?;
    repack(&layout, &bundle)?;
    configure(&layout, &["bash"])
}

fn on_debian(staging: &Path, package: &str, command: &[&str]) -> Result<()> {
    let layout = staging.join("layout");
    run(
        "cp",
        &[
            "-a",
            &layout_text(&self::layout("debian")?),
            &layout_text(&layout),
        ],
    )?
    .ok()?;
    let bundle = staging.join("bundle");
    unpack(&layout, &bundle)?;
    let root = bundle.join("rootfs").display().to_string();
    let script = format!(
        "export DEBIAN_FRONTEND=noninteractive; printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; \
         apt-get update -q && apt-get install -y -q --no-install-recommends {package} && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d"
    );
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        fs::copy(file, format!("{root}{file}")).with_context(|| format!("copying {file}"))?;
    }
    slow("chroot", &[&root, "sh", "-c", &script])?;
    repack(&layout, &bundle)?;
    configure(&layout, command)
}

fn layout_text(path: &Path) -> String {
    path.display().to_string()
}

fn new_layout(staging: &Path) -> Result<(PathBuf, PathBuf)> {
    let (layout, bundle) = (staging.join("layout"), staging.join("bundle"));
    run("umoci", &["init", "--layout", &layout_text(&layout)])?.ok()?;
    run(
        "umoci",
        &["new", "--image", &format!("{}:latest", layout.display())],
    )?
    .ok()?;
    unpack(&layout, &bundle)?;
    Ok((layout, bundle))
}

fn unpack(layout: &Path, bundle: &Path) -> Result<()> {
    slow(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:latest", layout.display()),
            &layout_text(bundle),
        ],
    )
}

fn repack(layout: &Path, bundle: &Path) -> Result<()> {
    slow(
        "umoci",
        &[
            "repack",
            "--image",
            &format!("{}:latest", layout.display()),
            &layout_text(bundle),
        ],
    )
}

fn configure(layout: &Path, command: &[&str]) -> Result<()> {
    let image = format!("{}:latest", layout.display());
    let mut arguments = vec![
        "config",
        "--image",
        &image,
        "--config.env",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    for word in command {
        arguments.extend(["--config.cmd", word]);
    }
    run("umoci", &arguments)?.ok().map(drop)
}

fn slow(program: &str, arguments: &[&str]) -> Result<()> {
    bounded(
        Command::new(program).args(arguments),
        b"",
        Duration::from_secs(600),
    )
    .with_context(|| format!("{program} {}", arguments.join(" ")))?
    .ok()
    .map(drop)
}
