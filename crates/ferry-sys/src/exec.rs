//! Replacing the process, and ending it.

use crate::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A NULL-terminated array of C strings, as execve(2) wants it; owns the strings.
#[derive(Debug)]
pub struct Strings {
    owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    /// Builds the array. `spare` extra places allow [`Strings::push_borrowed`] without allocation.
    pub fn new(strings: Vec<CString>, spare: usize) -> Strings {
        let mut pointers = Vec::with_capacity(strings.len() + spare + 1);
        pointers.extend(strings.iter().map(|s| s.as_ptr()));
        pointers.push(std::ptr::null());
        Strings { owned: strings, pointers }
    }

    /// Appends a string that lives until the process is replaced. Never allocates: false when no spare place is left.
    pub fn push_borrowed(&mut self, string: &'static CStr) -> bool {
        if self.pointers.len() == self.pointers.capacity() {
            return false;
        }
        let last = self.pointers.len() - 1;
        self.pointers[last] = string.as_ptr();
        self.pointers.push(std::ptr::null());
        true
    }

    /// Puts another string in place `index`; the old one stays owned.
    pub fn replace_borrowed(&mut self, index: usize, string: &'static CStr) {
        if index + 1 < self.pointers.len() {
            self.pointers[index] = string.as_ptr();
        }
    }

    /// The owned strings.
    pub fn strings(&self) -> &[CString] {
        &self.owned
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

/// execve(2); returns only the error.
pub fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: all three are NUL-terminated and NULL-terminated respectively and outlive the call.
    let returned = unsafe {
        libc::syscall(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr())
    };
    crate::check(returned).err().unwrap_or(Errno::IO)
}

/// execveat(2) of the file that `fd` is; returns only the error.
pub fn execveat_fd(fd: BorrowedFd<'_>, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: as for `execve`; the empty path is a literal.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    crate::check(returned).err().unwrap_or(Errno::IO)
}

/// exit_group(2): no destructor, no atexit handler, no flush.
pub fn exit_now(status: i32) -> ! {
    loop {
        // SAFETY: exit_group does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}
