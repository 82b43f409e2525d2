//! Containers on this machine's kernel: each test makes a bundle, runs it by the runtime's command line (the `run` example)
//! in a world of its own, and looks from inside.

mod attacks;
mod bundle;
mod lifecycle;
mod namespaces;
mod process;
mod roots;
