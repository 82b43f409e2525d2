//! The container's pseudo-terminal: made in its own devpts, the master sent out, the slave kept.

use super::child::Scene;
use super::paths::attach;
use super::report::{Done, During, Fault, detail};
use super::wires::Wires;
use crate::plan::Terminal;
use ferry_sys::{Errno, fd, path};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::OpenTreeFlags;
use rustix::pty::OpenptFlags;
use std::os::fd::{AsFd, BorrowedFd};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// Majors of pseudo-terminal slaves (Documentation/admin-guide/devices.txt).
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

pub(crate) fn make(wanted: Terminal, wires: &Wires<'_>, scene: &mut Scene) -> Done {
    let console = wires.console.ok_or(Errno::NOTCONN)?;
    let root = scene.root()?;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master =
        path::open_with(root, c"dev/pts/ptmx", flags, ResolveFlags::NO_SYMLINKS).during(detail::SOURCE)?;
    if rustix::fs::fstatfs(&master)?.f_type as u64 != DEVPTS_SUPER_MAGIC || !is_device(master.as_fd(), 5..=5)
    {
        return Err(Fault {
            detail: detail::NOT_A_DEVICE,
            errno: Errno::NODEV.raw_os_error(),
        });
    }
    rustix::pty::unlockpt(&master).during(detail::CREATE)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer).during(detail::CREATE)?;
    if let Some((rows, columns)) = wanted.size {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).during(detail::ATTRIBUTES)?;
    }
    if wanted.console {
        bind_console(root, slave.as_fd())?;
    }
    fd::send(fd::borrow(console), b"/dev/ptmx", master.as_fd()).during(detail::MOVE)?;
    if wires.sibling.is_none() {
        rustix::process::ioctl_tiocsctty(&slave).during(detail::ATTRIBUTES)?;
    }
    scene.terminal = Some(slave);
    Ok(())
}

/// `/dev/console` is the terminal: by its descriptor, seen to be a slave (CVE-2025-52565).
fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Done {
    if !is_device(slave, SLAVES) {
        return Err(Fault {
            detail: detail::NOT_A_DEVICE,
            errno: Errno::NODEV.raw_os_error(),
        });
    }
    let place =
        path::make_file(root, c"dev/console", Mode::from_raw_mode(0o600)).during(detail::DESTINATION)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(slave, c"", flags).during(detail::SOURCE)?;
    attach(tree.as_fd(), place.as_fd()).during(detail::MOVE)
}

fn is_device(device: BorrowedFd<'_>, majors: std::ops::RangeInclusive<u32>) -> bool {
    rustix::fs::fstat(device).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && majors.contains(&rustix::fs::major(stat.st_rdev))
    })
}
