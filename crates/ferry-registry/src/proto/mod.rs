//! The protocol's texts, without I/O.

pub mod challenge;
pub mod errors;
pub mod range;
