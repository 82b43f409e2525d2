//! Images: names, what they point to, and what that means for a platform.

mod journal;
mod names;
mod resolve;

pub use names::{ImageRecord, Images};
pub(crate) use resolve::{Closure, document, resolve};
pub use resolve::{ImageLayer, ResolvedImage};
