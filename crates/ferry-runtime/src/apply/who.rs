//! The last steps: limits, identity, working directory, program, filter, credentials.

use super::child::{Scene, settle};
use super::paths::write_own;
use super::report::{Done, During, Fault, detail};
use super::wires::Wires;
use crate::capability::Sets;
use crate::plan::{Limit, Step, User};
use crate::user::Failure;
use ferry_sys::{Errno, fd, process, seccomp};
use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, Uid};
use std::ffi::CStr;

pub(crate) fn apply(step: &Step, wires: &mut Wires<'_>, scene: &mut Scene) -> Done {
    match step {
        Step::Limit(limit) => rlimit(*limit),
        Step::OomScore { value, .. } => write_own(scene, c"oom_score_adj", value),
        Step::Personality(domain) => Ok(process::personality(*domain)?),
        Step::Scheduler(attributes) => Ok(process::sched_setattr(attributes)?),
        Step::IoPriority(class, level) => Ok(process::ioprio_set(*class, *level)?),
        Step::MemoryPolicy(mode, nodes) => Ok(process::set_mempolicy(*mode, nodes)?),
        Step::Label(file, value) => label(scene, file, value),
        Step::Identity => identity(wires, scene),
        Step::WorkDir(path) => work_dir(path, scene),
        Step::WorkDirAsUser(path) if scene.retry_cwd => Ok(rustix::process::chdir(path.as_c_str())?),
        Step::Descriptors => {
            own_streams(wires, scene);
            settle(wires, scene)
        }
        Step::FindProgram => find_program(wires, scene),
        Step::Filter => filter(wires),
        Step::Credentials(sets) => credentials(*sets, wires),
        Step::NoNewPrivileges => Ok(process::no_new_privileges()?),
        Step::Umask(mask) => {
            rustix::process::umask(Mode::from_raw_mode(*mask));
            Ok(())
        }
        // Everything else is the caller's.
        _ => Ok(()),
    }
}

fn rlimit(limit: Limit) -> Done {
    match process::rlimit(limit.resource, Some(limit.values)) {
        Err(Errno::PERM) if limit.lenient => {
            let [_, hard] = process::rlimit(limit.resource, None)?;
            let allowed = limit.values.map(|value| value.min(hard));
            process::rlimit(limit.resource, Some(allowed))?;
            Ok(())
        }
        other => Ok(other.map(drop)?),
    }
}

/// `attr/` lies beneath the thread's own directory, and AppArmor's file in a directory of its own from 5.8 on.
fn label(scene: &Scene, file: &CStr, value: &CStr) -> Done {
    let (first, second) = if file == c"apparmor/exec" {
        (c"attr/apparmor/exec", Some(c"attr/exec"))
    } else {
        (c"attr/exec", None)
    };
    match (write_own(scene, first, value), second) {
        (Err(fault), Some(second)) if fault.errno == Errno::NOENT.raw_os_error() => {
            write_own(scene, second, value)
        }
        (other, _) => other,
    }
}

/// Who runs the program, and `$HOME`, from the image's files.
fn identity(wires: &mut Wires<'_>, scene: &Scene) -> Done {
    let root = scene.root()?;
    let found = match (&wires.request, &wires.plan.program.user) {
        (Some(request), _) => wires.files.resolve(root, request, &mut wires.identity),
        (None, User::Ids { uid, .. }) => wires.files.home(root, *uid, &mut wires.identity),
        (None, User::Lookup { .. }) => return Err(Errno::INVAL.into()),
    };
    found.map_err(|failure| match failure {
        Failure::Refused(refusal) => {
            let (detail, errno) = refusal.code();
            Fault { detail, errno }
        }
        Failure::Io("etc/passwd", errno) => Fault {
            detail: detail::PASSWD,
            errno: errno.raw_os_error(),
        },
        Failure::Io(_, errno) => Fault {
            detail: detail::GROUP,
            errno: errno.raw_os_error(),
        },
    })?;
    if wires.plan.program.find_home {
        wires.environment.set_late(&[b"HOME=", &wires.identity.home]);
    }
    Ok(())
}

/// Enters the working directory as user 0, making it where it is missing; a refusal waits for the user's own try.
fn work_dir(path: &CStr, scene: &mut Scene) -> Done {
    let entered = match rustix::process::chdir(path) {
        Err(Errno::NOENT) => {
            let relative = relative(path);
            let mode = Mode::from_raw_mode(0o755);
            ferry_sys::path::make_directory(scene.root()?, relative, mode).during(detail::MAKE)?;
            rustix::process::chdir(path)
        }
        other => other,
    };
    match entered {
        Err(Errno::ACCESS) => {
            scene.retry_cwd = true;
            return Ok(());
        }
        other => other?,
    }
    inside_root()
}

/// getcwd(2) fails, or shows no leading slash, when the directory cannot be reached from `/` (CVE-2024-21626).
fn inside_root() -> Done {
    let mut buffer = [0u8; 4096];
    let outside = Fault {
        detail: detail::OUTSIDE,
        errno: Errno::NOENT.raw_os_error(),
    };
    match ferry_sys::process::getcwd(&mut buffer) {
        Ok(path) if path.first() == Some(&b'/') => Ok(()),
        Ok(_) | Err(_) => Err(outside),
    }
}

fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(0);
    CStr::from_bytes_with_nul(&bytes[start..]).unwrap_or(c".")
}

/// The streams become the user's, or `/dev/stdout` could not be opened by its name. Devices and refusals stay as they are.
fn own_streams(wires: &Wires<'_>, scene: &Scene) {
    let uid = wires.identity.uid;
    if uid == 0 {
        return;
    }
    use std::os::fd::AsRawFd;
    let terminal = scene.terminal.as_ref().map(AsRawFd::as_raw_fd);
    for number in wires.stdio.into_iter().chain([terminal]).flatten() {
        let stream = fd::borrow(number);
        let Ok(stat) = rustix::fs::fstat(stream) else {
            continue;
        };
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if stat.st_uid == uid || (device && Some(number) != terminal) {
            continue;
        }
        let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>);
    }
}

/// As execvp(3) would find it, so that the error comes before the gate.
fn find_program(wires: &Wires<'_>, scene: &mut Scene) -> Done {
    let candidates = &wires.plan.program.candidates;
    let by_path = candidates.len() == 1
        && wires
            .plan
            .program
            .arguments
            .first()
            .is_some_and(|a| a.to_bytes().contains(&b'/'));
    for (index, candidate) in candidates.iter().enumerate() {
        match executable(candidate) {
            Ok(()) => {
                scene.candidate = index;
                return Ok(());
            }
            Err(errno) if by_path => return Err(errno.into()),
            Err(_) => {}
        }
    }
    Err(Fault {
        detail: detail::NOT_IN_PATH,
        errno: Errno::NOENT.raw_os_error(),
    })
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty())
}

fn filter(wires: &Wires<'_>) -> Done {
    let Some((program, flags)) = &wires.filter else {
        return Ok(());
    };
    seccomp::load(program, *flags)?;
    Ok(())
}

/// R12: the bounding set shrinks while we may, ids change keeping what is permitted, the other sets are set last.
fn credentials(sets: Option<Sets>, wires: &Wires<'_>) -> Done {
    if let Some(sets) = sets {
        let mut capability = 0;
        while let Ok(has) = process::has_bounding(capability) {
            if has && sets.bounding >> capability & 1 == 0 {
                process::drop_bounding(capability).during(detail::BOUNDING)?;
            }
            capability += 1;
        }
        process::keep_capabilities(true).during(detail::SETS)?;
    }
    let (uid, gid) = (wires.identity.uid, wires.identity.gid);
    match process::setgroups(&wires.identity.groups) {
        // A user namespace mapped without privileges forbids it; with no groups to set nothing is lost.
        Err(Errno::PERM) if wires.identity.groups.is_empty() => {}
        other => other.during(detail::GROUPS)?,
    }
    process::become_ids(uid, gid).during(detail::IDS)?;
    let Some(sets) = sets else { return Ok(()) };
    process::keep_capabilities(false).during(detail::SETS)?;
    process::capset(sets.effective, sets.permitted, sets.inheritable).during(detail::SETS)?;
    process::clear_ambient().during(detail::AMBIENT)?;
    for capability in 0..64 {
        if sets.ambient >> capability & 1 == 1 {
            process::raise_ambient(capability).during(detail::AMBIENT)?;
        }
    }
    Ok(())
}
