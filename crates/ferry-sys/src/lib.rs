//! Thin, policy-free system calls: the only unsafe code of the project.
//!
//! What is here either has no safe wrapper in rustix, or is needed between clone and exec, where nothing may allocate.
//! Everything that takes `&CStr` or slices only is legal there; what is not says so.
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod fd;
pub mod fork;
pub mod mem;
pub mod mount;
pub mod net;
pub mod path;
pub mod process;
pub mod seccomp;

pub use rustix::io::Errno;

/// What a raw system call returned, as a result.
pub(crate) fn check(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned < 0 {
        // SAFETY: glibc's errno location is thread-local and valid for the thread's life.
        Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
    } else {
        Ok(returned)
    }
}
