//! The OCI's data shapes: digests, references, platforms, media types, image documents and the runtime specification.
//!
//! Pure data: nothing here opens a file, reads the environment or asks the kernel.

pub mod digest;
pub mod image;
pub mod media;
pub mod platform;
pub mod reference;
pub mod runtime;

pub use digest::{Algorithm, Digest};
pub use platform::Platform;
pub use reference::Reference;
