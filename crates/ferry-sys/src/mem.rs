//! Memory that a process shares with its clones.

use crate::Errno;
use std::sync::atomic::AtomicI32;

/// Four words that a clone's writes reach the caller in, unlike ordinary memory.
#[derive(Debug)]
pub struct SharedWords {
    page: std::ptr::NonNull<[AtomicI32; 4]>,
}

impl SharedWords {
    /// Maps one zeroed shared page.
    pub fn new() -> Result<SharedWords, Errno> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let page = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size_of::<[AtomicI32; 4]>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )?
        };
        let page = std::ptr::NonNull::new(page.cast()).ok_or(Errno::NOMEM)?;
        Ok(SharedWords { page })
    }

    /// One of the four.
    ///
    /// # Panics
    /// When `index` is above 3.
    pub fn word(&self, index: usize) -> &AtomicI32 {
        // SAFETY: mapped, aligned and zeroed for as long as `self` lives; all access is atomic.
        let words = unsafe { self.page.as_ref() };
        &words[index]
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no reference outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), size_of::<[AtomicI32; 4]>()) };
        debug_assert!(unmapped.is_ok());
    }
}
