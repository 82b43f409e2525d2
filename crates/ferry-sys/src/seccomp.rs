//! Loading a filter: seccomp(2).

use crate::{Errno, check};
use std::os::fd::{FromRawFd, OwnedFd};

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const NEW_LISTENER: u32 = 8;

/// One instruction of classic BPF, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// Loads `program` for this thread and its future children. With [`NEW_LISTENER`] in `flags` the listener is returned.
///
/// # Errors
/// EACCES without no_new_privs and CAP_SYS_ADMIN; EINVAL for a program the kernel refuses.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = Program {
        length,
        filter: program.as_ptr(),
    };
    // SAFETY: `program` has the layout of struct sock_fprog and outlives the call, as its instructions do.
    let returned =
        check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag a success is a new descriptor of ours.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(returned as i32) }))
}
