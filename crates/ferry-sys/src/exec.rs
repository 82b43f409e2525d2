//! Replacing the process, and ending it.

use crate::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A NULL-terminated array of C strings, as execve(2) wants it; owns the strings.
#[derive(Debug)]
pub struct Strings {
    owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
    late: Vec<u8>,
}

impl Strings {
    /// Builds the array. With `late` there is room for one more string of so many bytes, see [`Strings::set_late`].
    pub fn new(strings: Vec<CString>, late: usize) -> Strings {
        let mut pointers = Vec::with_capacity(strings.len() + 2);
        pointers.extend(strings.iter().map(|s| s.as_ptr()));
        pointers.push(std::ptr::null());
        Strings {
            owned: strings,
            pointers,
            late: Vec::with_capacity(late),
        }
    }

    /// Appends one string, the concatenation of `parts`, without allocating. False (and nothing done) when there is no
    /// room, when it was done before, or when a part contains a NUL byte.
    pub fn set_late(&mut self, parts: &[&[u8]]) -> bool {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        let full = length >= self.late.capacity() || self.pointers.len() == self.pointers.capacity();
        if full || !self.late.is_empty() || parts.iter().any(|p| p.contains(&0)) {
            return false;
        }
        for part in parts {
            self.late.extend_from_slice(part);
        }
        self.late.push(0);
        let last = self.pointers.len() - 1;
        self.pointers[last] = self.late.as_ptr().cast();
        self.pointers.push(std::ptr::null());
        true
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
        libc::syscall(
            libc::SYS_execve,
            path.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
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
