//! bpf(2) for one kind of program: the filter that decides which devices a v2 cgroup may open or make.

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction, as the kernel lays it out (linux/bpf.h, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Class, operation and source.
    pub code: u8,
    /// Destination in the low four bits, source in the high four.
    pub registers: u8,
    /// Of a load, or how many instructions a jump skips.
    pub offset: i16,
    /// The constant operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Other programs on the same cgroup stay, and all must agree.
const ALLOW_MULTI: u32 = 1 << 1;

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads from every kernel that has this program type (4.15).
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
    padding: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// A command with its part of `union bpf_attr`; only this file's `repr(C)` structs implement it.
trait Attributes {}
impl Attributes for Load {}
impl Attributes for Attach {}
impl Attributes for ById {}
impl Attributes for Query {}

fn bpf<A: Attributes>(command: libc::c_int, attributes: &mut A) -> Result<libc::c_long, Errno> {
    let size = std::mem::size_of::<A>();
    // SAFETY: `attributes` is a live, fully initialised struct of `size` bytes without padding; the kernel reads and
    // writes no more than that. The addresses in it point at buffers that the callers keep alive over the call, with their
    // true lengths beside them.
    crate::check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) })
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
///
/// # Errors
/// `PERM` without CAP_BPF or CAP_SYS_ADMIN; `INVAL` when the verifier refuses it or the kernel has no such programs.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let count = u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let mut load = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    bpf(PROG_LOAD, &mut load).map(owned)
}

/// Attaches a program to a cgroup, beside others that are there.
///
/// # Errors
/// `PERM` without the privilege or when a program above forbids it; `INVAL` when `cgroup` is not a v2 cgroup.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attachment(PROG_ATTACH, cgroup, program, ALLOW_MULTI)
}

/// Detaches a program from a cgroup.
///
/// # Errors
/// `NOENT` when it is not attached.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attachment(PROG_DETACH, cgroup, program, 0)
}

fn attachment(
    command: libc::c_int,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
) -> Result<(), Errno> {
    let mut attach = Attach {
        target: cgroup.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: ATTACH_CGROUP_DEVICE,
        flags,
    };
    bpf(command, &mut attach).map(|_| ())
}

/// The device programs of a cgroup itself, as ids for [`program_by_id`]; at most 64, the kernel's own bound.
///
/// # Errors
/// `PERM` without CAP_NET_ADMIN or CAP_SYS_ADMIN.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; 64];
    let mut query = Query {
        target: cgroup.as_raw_fd().unsigned_abs(),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().addr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    bpf(PROG_QUERY, &mut query)?;
    Ok(ids[..ids.len().min(query.count as usize)].to_vec())
}

/// A program by its id.
///
/// # Errors
/// `NOENT` when it is gone, `PERM` without CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    bpf(
        PROG_GET_FD_BY_ID,
        &mut ById {
            id,
            next: 0,
            flags: 0,
            padding: 0,
        },
    )
    .map(owned)
}
