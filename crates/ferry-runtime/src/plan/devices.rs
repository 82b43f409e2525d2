//! `/dev`: the nodes that every container has, the specification's own, links, and the terminal.

use super::namespaces::Layout;
use super::{Device, PlanError, Step, Terminal, beneath, clean, cstring, invalid};
use ferry_oci::runtime::{self, Process, Spec};

const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

const CHARACTER: u32 = 0o020000;
const BLOCK: u32 = 0o060000;
const FIFO: u32 = 0o010000;

pub(super) fn steps(
    spec: &Spec,
    layout: &Layout,
    process: &Process,
    steps: &mut Vec<Step>,
) -> Result<(), PlanError> {
    let bound = spec
        .mounts
        .iter()
        .any(|m| clean(&m.destination) == "/dev" && is_bind(m));
    if !bound {
        let own = spec.linux.as_ref().map_or(&[][..], |l| &l.devices);
        for device in own {
            steps.push(Step::Device(node(device, layout)?));
        }
        for (path, major, minor) in DEFAULT {
            if own.iter().any(|d| clean(&d.path) == path) {
                continue;
            }
            let device = runtime::Device {
                kind: "c".into(),
                path: path.into(),
                major: major.into(),
                minor: minor.into(),
                file_mode: Some(0o666),
                ..runtime::Device::default()
            };
            steps.push(Step::Device(node(&device, layout)?));
        }
        for (path, target) in LINKS {
            steps.push(Step::Link {
                path: cstring("path", path)?,
                target: cstring("target", target)?,
            });
        }
    }
    if process.terminal {
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        steps.push(Step::Terminal(Terminal {
            size,
            console: !bound,
        }));
    }
    Ok(())
}

fn is_bind(mount: &runtime::Mount) -> bool {
    mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

fn node(device: &runtime::Device, layout: &Layout) -> Result<Device, PlanError> {
    let field = format!("linux.devices[{}]", device.path);
    let kind = match device.kind.as_str() {
        "c" | "u" => CHARACTER,
        "b" => BLOCK,
        "p" => FIFO,
        other => return Err(invalid(field, format!("type {other:?} is none of c, u, b, p"))),
    };
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| invalid(field.clone(), "has a device number out of range"))
    };
    if !device.path.starts_with('/') {
        return Err(invalid(field, "the path is not absolute"));
    }
    Ok(Device {
        path: beneath(&field, &device.path)?,
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        number: if kind == FIFO {
            (0, 0)
        } else {
            (number(device.major)?, number(device.minor)?)
        },
        owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
        bind: if layout.in_user_namespace() && kind != FIFO {
            Some(cstring(&field, &device.path)?)
        } else {
            None
        },
    })
}
