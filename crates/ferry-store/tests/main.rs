//! The store from outside: what other crates see of it.

mod smoke;
mod tarball;
