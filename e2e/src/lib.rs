//! Black-box tests of the product: the built binary, its own command line and the real docker command, against registries and images
//! that nobody here wrote. This library is the harness; the tests are in `tests/`.

pub mod command;
pub mod engine;
pub mod fixtures;
pub mod registry;

pub use command::{Output, run};
pub use engine::Engine;
pub use registry::Registry;
