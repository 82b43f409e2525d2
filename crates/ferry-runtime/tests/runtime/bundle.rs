//! A bundle with busybox, and the command line that runs it.

use ferry_testkit::World;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const BUSYBOX: &str = "/bin/busybox";

/// A bundle in a directory of its own, and a world to run it in.
pub struct Bundle {
    pub directory: tempfile::TempDir,
    pub id: String,
    pub spec: Value,
    world: World,
}

/// What a run said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The example's binary, built with the tests.
fn runtime() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/run");
    assert!(
        example.exists(),
        "{} is missing: `cargo test -p ferry-runtime` builds it, `--test main` alone does not",
        example.display()
    );
    example
}

impl Bundle {
    /// None, and a line that says why, where the test cannot run.
    pub fn new(test: &str) -> Option<Bundle> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !ferry_testkit::is_root(test) {
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            println!("SKIPPED {test}: needs {BUSYBOX} (Debian's busybox-static)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let id = format!(
            "ferry-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        fill(&directory.path().join("rootfs"));
        let spec = spec(&id);
        Some(Bundle {
            directory,
            id,
            spec,
            world: World::new().unwrap(),
        })
    }

    pub fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a value at a JSON pointer of the specification.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = self
            .spec
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("no {parent}"));
        match parent {
            Value::Array(items) => items.push(value),
            other => other[key] = value,
        }
        self
    }

    /// What the shell in the container runs.
    pub fn script(&mut self, script: &str) -> &mut Bundle {
        self.set("/process/args", json!(["/bin/sh", "-c", script]))
    }

    fn write(&self) {
        fs::write(self.path("config.json"), self.spec.to_string()).unwrap();
    }

    /// The command line with `args`, in the bundle's world.
    pub fn runtime(&self, args: &[&str]) -> Said {
        self.world
            .enter(|| {
                let output = Command::new("timeout")
                    .arg("30")
                    .arg(runtime())
                    .arg("--root")
                    .arg(self.path("states"))
                    .args(args)
                    .current_dir(self.directory.path())
                    .stdin(Stdio::null())
                    .output()?;
                Ok(Said::from(output))
            })
            .unwrap()
    }

    /// Runs it in the foreground.
    pub fn run(&self) -> Said {
        self.write();
        self.runtime(&["run", &self.id])
    }

    /// Runs it and insists on success; returns what it wrote.
    pub fn output(&self) -> String {
        let said = self.run();
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
        said.out
    }

    /// Starts it and leaves it. Its streams must not be ours, or nobody could wait for the command line's output to end.
    pub fn start(&self) {
        self.write();
        let said = self
            .world
            .enter(|| {
                let status = Command::new("timeout")
                    .arg("30")
                    .arg(runtime())
                    .arg("--root")
                    .arg(self.path("states"))
                    .args(["run", "--detach", &self.id])
                    .current_dir(self.directory.path())
                    .stdin(Stdio::null())
                    .stdout(fs::File::create(self.path("out"))?)
                    .stderr(fs::File::create(self.path("err"))?)
                    .status()?;
                Ok(status)
            })
            .unwrap();
        assert!(
            said.success(),
            "{}",
            fs::read_to_string(self.path("err")).unwrap()
        );
    }

    pub fn exec(&self, script: &str) -> Said {
        self.runtime(&["exec", &self.id, "/bin/sh", "-c", script])
    }

    /// With what the engine asks for, on an overlay.
    pub fn with_options(&self, options: &str) -> Said {
        self.write();
        self.world
            .enter(|| {
                let mut command = Command::new("timeout");
                command
                    .arg("30")
                    .arg(runtime())
                    .args(["with-options", options])
                    .arg(self.directory.path());
                Ok(Said::from(command.stdin(Stdio::null()).output()?))
            })
            .unwrap()
    }

    /// Runs `work` in the bundle's world.
    pub fn inside_world<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.world.enter(|| Ok(work())).unwrap()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.path("states").join(&self.id).exists() {
            self.runtime(&["delete", "--force", &self.id]);
        }
    }
}

fn fill(rootfs: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    fs::copy(BUSYBOX, rootfs.join("bin/busybox")).unwrap();
    fs::set_permissions(rootfs.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let names = Command::new(BUSYBOX).arg("--list").output().unwrap();
    for name in String::from_utf8(names.stdout)
        .unwrap()
        .lines()
        .filter(|n| *n != "busybox")
    {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
    }
    fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        rootfs.join("etc/group"),
        "root:x:0:\nbob:x:1000:\nwheel:x:10:bob\n",
    )
    .unwrap();
}

/// As Docker's default, in short.
fn spec(id: &str) -> Value {
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_MKNOD"
    ]);
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        },
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {},
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": ["/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/nothing"],
            "readonlyPaths": ["/proc/sys", "/proc/irq", "/proc/nothing"],
        },
    })
}
