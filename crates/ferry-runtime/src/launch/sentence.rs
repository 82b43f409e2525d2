//! Numbers into sentences: what the new process could not do, in words that people and clients know.

use super::error::{LaunchError, LaunchErrorKind};
use crate::apply::report::{AT_EXEC, AT_LAST_CLONE, Fault, detail};
use crate::plan::{Program, Step, User};
use crate::user::{Refusal, Request};
use ferry_sys::Errno;
use std::ffi::CStr;

/// The kernel's words, as C has them, for they are what clients match: `no such file or directory`.
fn words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
    let mut letters = text.chars();
    match letters.next() {
        // Acronyms such as `I/O error` keep their case.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

pub(crate) fn tolerated(step: Option<&Step>, errno: i32) -> String {
    match step {
        Some(Step::OomScore { value, .. }) => {
            format!(
                "oom_score_adj {} was refused and left as it is: {}",
                show(value),
                words(errno)
            )
        }
        Some(step) => format!("{step} was refused and left out: {}", words(errno)),
        None => format!("a step was refused and left out: {}", words(errno)),
    }
}

fn show(text: &CStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}

/// The sentence of a failure.
pub(crate) fn failed(steps: &[Step], program: &Program, at: u32, fault: Fault) -> LaunchError {
    let words = words(fault.errno);
    match at {
        AT_EXEC => return exec_failed(program, fault.errno),
        AT_LAST_CLONE => {
            return LaunchError::other(format!("cannot enter the pid namespace: {words}"));
        }
        _ => {}
    }
    match steps.get(at as usize) {
        Some(Step::FindProgram) => not_found(program, fault),
        Some(Step::Identity) => LaunchError::other(identity(program, fault)),
        Some(Step::WorkDir(path) | Step::WorkDirAsUser(path)) => {
            LaunchError::other(work_dir(&show(path), fault))
        }
        Some(step) => LaunchError::other(step_failed(step, fault)),
        None => LaunchError::other(format!("cannot arrange descriptors: {words}")),
    }
}

fn argument(program: &Program) -> String {
    program
        .arguments
        .first()
        .map_or_else(String::new, |a| show(a).into_owned())
}

fn not_found(program: &Program, fault: Fault) -> LaunchError {
    let name = argument(program);
    if fault.detail == detail::NOT_IN_PATH {
        let message = format!("exec: \"{name}\": executable file not found in $PATH");
        return LaunchError::new(LaunchErrorKind::NotFound, message);
    }
    let errno = Errno::from_raw_os_error(fault.errno);
    let words = words(fault.errno);
    match errno {
        Errno::ACCESS => LaunchError::new(
            LaunchErrorKind::PermissionDenied,
            format!("exec: \"{name}\": permission denied"),
        ),
        Errno::ISDIR => LaunchError::new(
            LaunchErrorKind::PermissionDenied,
            format!("exec: \"{name}\": is a directory"),
        ),
        Errno::NOENT | Errno::NOTDIR => LaunchError::new(
            LaunchErrorKind::NotFound,
            format!("exec: \"{name}\": stat {name}: {words}"),
        ),
        _ => LaunchError::other(format!("exec: \"{name}\": stat {name}: {words}")),
    }
}

fn exec_failed(program: &Program, errno: i32) -> LaunchError {
    let name = argument(program);
    let words = words(errno);
    let message = format!("exec {name}: {words}");
    match Errno::from_raw_os_error(errno) {
        Errno::NOEXEC => LaunchError::new(
            LaunchErrorKind::ExecFormat,
            format!("exec {name}: exec format error"),
        ),
        // The file was there: its interpreter is not.
        Errno::NOENT => LaunchError::new(LaunchErrorKind::NotFound, message),
        Errno::ACCESS | Errno::PERM | Errno::ISDIR => {
            LaunchError::new(LaunchErrorKind::PermissionDenied, message)
        }
        _ => LaunchError::other(message),
    }
}

fn identity(program: &Program, fault: Fault) -> String {
    match (fault.detail, &program.user) {
        (detail::PASSWD, _) => unreadable("/etc/passwd", fault.errno),
        (detail::GROUP, _) => unreadable("/etc/group", fault.errno),
        (code, User::Lookup { user, groups }) => match Refusal::from_code(code, fault.errno) {
            Some(refusal) => refusal.message(&Request::new(user, groups)),
            None => format!("cannot find user {user}: {}", words(fault.errno)),
        },
        (_, User::Ids { uid, .. }) => format!("cannot find user {uid}: {}", words(fault.errno)),
    }
}

fn unreadable(path: &str, errno: i32) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::INVAL => format!("the image's {path} is not a regular file"),
        Errno::FBIG => format!(
            "the image's {path} is longer than {} bytes",
            crate::user::MAX_FILE
        ),
        _ => format!("cannot read the image's {path}: {}", words(errno)),
    }
}

fn work_dir(path: &str, fault: Fault) -> String {
    let words = words(fault.errno);
    match fault.detail {
        detail::MAKE => format!("mkdir {path}: {words}"),
        detail::OUTSIDE => {
            format!("current working directory {path:?} is outside of container mount namespace root")
        }
        _ => format!("chdir to cwd ({path:?}) set in config.json failed: {words}"),
    }
}

fn step_failed(step: &Step, fault: Fault) -> String {
    let words = words(fault.errno);
    match step {
        Step::FileSystem(mount) => mount_failed(&show(&mount.kind), &show(&mount.destination), fault)
            .unwrap_or_else(|| {
                let at = fault.detail.checked_sub(detail::PARAMETER);
                match at.and_then(|at| mount.parameters.get(at as usize)) {
                    Some((key, value)) => format!(
                        "error mounting \"{}\" to rootfs at \"/{}\": option {}{}: {words}",
                        show(&mount.kind),
                        show(&mount.destination),
                        show(key),
                        value
                            .as_ref()
                            .map(|v| format!("={}", show(v)))
                            .unwrap_or_default(),
                    ),
                    None => mounting(&show(&mount.kind), &show(&mount.destination), &words),
                }
            }),
        Step::Bind(bind) => mount_failed(&show(&bind.source), &show(&bind.destination), fault)
            .unwrap_or_else(|| mounting(&show(&bind.source), &show(&bind.destination), &words)),
        Step::Cgroups(mount) => mounting("cgroup", &show(&mount.destination), &words),
        Step::AttachRoot { .. } => {
            format!("cannot mount the root file system{}: {words}", part(fault.detail))
        }
        Step::Limit(limit) => format!(
            "error setting rlimit {} to {}:{}: {words}",
            crate::plan::limit_name(limit.resource),
            limit.values[0],
            limit.values[1]
        ),
        Step::Mask(path) => format!("cannot mask /{}: {words}", show(path)),
        Step::ReadOnly(path) => format!("cannot make /{} read-only: {words}", show(path)),
        Step::Sysctl(path, value) => {
            format!(
                "cannot set the kernel parameter {} to {:?}: {words}",
                show(path),
                show(value)
            )
        }
        Step::Device(device) => {
            format!(
                "cannot make the device /{}{}: {words}",
                show(&device.path),
                part(fault.detail)
            )
        }
        Step::Join(kind) => format!("cannot join the {kind:?} namespace: {words}"),
        Step::Filter => format!("cannot load the seccomp filter: {words}"),
        Step::Credentials(_) => format!("cannot set {}: {words}", credential(fault.detail)),
        other => format!("cannot do \"{other}\"{}: {words}", part(fault.detail)),
    }
}

fn mounting(source: &str, destination: &str, words: &str) -> String {
    format!("error mounting \"{source}\" to rootfs at \"/{destination}\": {words}")
}

fn mount_failed(source: &str, destination: &str, fault: Fault) -> Option<String> {
    let words = words(fault.errno);
    Some(match fault.detail {
        detail::INSIDE_PROC => mounting(
            source,
            destination,
            "cannot be mounted because it is inside /proc",
        ),
        detail::DESTINATION => mounting(
            source,
            destination,
            &format!("create mountpoint for /{destination} mount: {words}"),
        ),
        detail::SOURCE => mounting(source, destination, &format!("open {source}: {words}")),
        detail::COPY_UP => mounting(source, destination, &format!("copy what it hides: {words}")),
        _ => return None,
    })
}

fn credential(part: u32) -> &'static str {
    match part {
        detail::GROUPS => "the supplementary groups",
        detail::IDS => "the user and group ids",
        detail::AMBIENT => "the ambient capabilities",
        detail::BOUNDING => "the bounding capabilities",
        _ => "the capabilities",
    }
}

fn part(part: u32) -> &'static str {
    match part {
        detail::SOURCE => " (source)",
        detail::DESTINATION => " (destination)",
        detail::CREATE => " (making it)",
        detail::MOVE => " (attaching it)",
        detail::ATTRIBUTES => " (its attributes)",
        detail::NOT_A_DEVICE => " (not the device it must be)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Program {
        Program {
            arguments: vec![std::ffi::CString::new(name).unwrap()],
            environment: vec![],
            candidates: vec![],
            user: User::Lookup {
                user: "foo".into(),
                groups: vec![],
            },
            find_home: false,
            terminal: false,
        }
    }

    fn say(step: Step, name: &str, detail: u32, errno: Errno) -> (String, u8) {
        let fault = Fault {
            detail,
            errno: errno.raw_os_error(),
        };
        let error = failed(&[step], &program(name), 0, fault);
        (error.to_string(), error.exit_code())
    }

    #[test]
    fn clients_find_the_words_they_match() {
        let find = |name: &str, detail, errno| say(Step::FindProgram, name, detail, errno);
        assert_eq!(
            find("foo", detail::NOT_IN_PATH, Errno::NOENT),
            ("exec: \"foo\": executable file not found in $PATH".into(), 127)
        );
        assert_eq!(
            find("/x", 0, Errno::NOENT),
            ("exec: \"/x\": stat /x: no such file or directory".into(), 127)
        );
        assert_eq!(
            find("/x", 0, Errno::ACCESS),
            ("exec: \"/x\": permission denied".into(), 126)
        );
        assert_eq!(
            find("/etc", 0, Errno::ISDIR),
            ("exec: \"/etc\": is a directory".into(), 126)
        );
        assert_eq!(
            say(Step::WorkDir(c"/x".into()), "sh", 0, Errno::NOTDIR).0,
            "chdir to cwd (\"/x\") set in config.json failed: not a directory"
        );
        assert_eq!(
            say(Step::Identity, "sh", 1, Errno::NOENT).0,
            "unable to find user foo: no matching entries in passwd file"
        );
    }
}
