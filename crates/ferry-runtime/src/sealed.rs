//! Running the own binary from a place that no container can write to (R3).
//!
//! A container that gets hold of `/proc/self/exe` of a process of ours could write to the binary once no process runs it. The file is therefore
//! executed from a detached, read-only clone of its own mount: a write through it is EROFS, the clone has no name, and nobody outside
//! our mount namespace can change its attributes. It costs microseconds, where a copy of the binary costs milliseconds.

use ferry_sys::exec::{Strings, execveat_fd};
use ferry_sys::mount::{MountAttr, attr, setattr};
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The binary that this process runs, open (`O_PATH`) through a detached read-only clone of its mount: the one that it runs from
/// already, when there is one, since open_tree(2) clones no mount that lies in no namespace (EINVAL).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in the mount namespace's user namespace.
pub fn open() -> io::Result<OwnedFd> {
    if is_sealed()? {
        return Ok(executable()?);
    }
    // The link is the kernel's own and names the file that runs, whatever its path has become since.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, c"/proc/self/exe", flags)?;
    let read_only = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    setattr(tree.as_fd(), &read_only, false)?;
    Ok(tree)
}

/// Whether this process runs from such a clone already: its file lies on a read-only mount, with no other name to write by.
pub fn is_sealed() -> io::Result<bool> {
    let executable = executable()?;
    let flags = rustix::fs::fstatvfs(&executable)?.f_flag;
    if !flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(false);
    }
    // A detached mount is in no namespace, so its id is not in our mountinfo; a read-only /usr is.
    let mut mask = rustix::fs::StatxFlags::empty();
    mask |= rustix::fs::StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(&executable, c"", AtFlags::EMPTY_PATH, mask)?;
    let id = format!("{} ", stat.stx_mnt_id);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(!mounts.lines().any(|line| line.starts_with(&id)))
}

fn executable() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        c"/proc/self/exe",
        OFlags::PATH | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
}

/// Executes the binary from its sealed place with these arguments (the first is its name) and the present environment.
/// Returns only when that fails; Ok when the process is sealed already.
pub fn reexec_sealed(arguments: Vec<OsString>) -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let tree = open()?;
    let strings = |texts: Vec<Vec<u8>>| -> io::Result<Strings> {
        let all: Result<Vec<CString>, _> = texts.into_iter().map(CString::new).collect();
        Ok(Strings::new(all?, 0))
    };
    let arguments = strings(arguments.into_iter().map(OsStringExt::into_vec).collect())?;
    let environment = strings(
        std::env::vars_os()
            .map(|(name, value)| {
                let mut entry = name.into_vec();
                entry.push(b'=');
                entry.extend(value.into_vec());
                entry
            })
            .collect(),
    )?;
    Err(execveat_fd(tree.as_fd(), &arguments, &environment).into())
}
